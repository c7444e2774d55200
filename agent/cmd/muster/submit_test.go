package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"muster/shared/gpu"
	"muster/shared/job"
)

// Ctrl-C cancels, whether it comes before the command has arrived, when it was accepted but the answer is still on its way, or
// later.
func TestInterruptLeavesNoSetBehind(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"before it arrives", "before the answer", "at the first look"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			target, err := url.Parse("http://" + strings.TrimSpace(read(t, r.data+"/address")))
			if err != nil {
				t.Fatal(err)
			}
			through := httputil.NewSingleHostReverseProxy(target)
			posts := 0
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				q.Host = target.Host
				if q.Method == http.MethodPost {
					posts++
				}
				switch {
				case q.Method == http.MethodPost && posts == 1 && when == "before it arrives":
					interruptAsked(q, interrupt)
				case q.Method == http.MethodPost && posts == 1 && when == "before the answer":
					through.ServeHTTP(httptest.NewRecorder(), q)
					interruptAsked(q, interrupt)
				case q.Method == http.MethodGet && when == "at the first look":
					interruptAsked(q, interrupt)
				default:
					through.ServeHTTP(w, q)
				}
			}))
			defer proxy.Close()
			cmd := &cobra.Command{}
			cmd.SetContext(ctx)
			cmd.SetOut(io.Discard)
			err = generate(cmd, &client{base: proxy.URL, token: rigToken}, job.Spec{Prompt: "a fox", Count: 2}.WithDefaults(), t.TempDir(), false)
			if err == nil || err.Error() != "interrupted: 2 cancelled, 0 finished" || exitCode(err) != 130 {
				t.Errorf("%v with exit code %d, want what became of the images, and 130", err, exitCode(err))
			}
			if active := r.queue.Active(); len(active) != 0 {
				t.Errorf("%d images are still wanted: %+v", len(active), active)
			}
		})
	}
}

// What the agent refuses was not accepted: there is nothing to ask for.
func TestRefusedSubmission(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for device, want := range map[string]string{
		"7": "--device 7: there is no such device; there are 0 (MI25), 1 (V620), cpu", "-1": "--device -1: there is no such device; there are 0 (MI25)", "gpu0": "there are 0 (MI25), 1 (V620), cpu",
		"cpu": `"cpu" can't generate; allowed are GPU-a (Device 0), GPU-b (Device 1)`,
	} {
		if _, err := r.run("generate", "fox", "--device", device, "-o", t.TempDir()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--device %s: %v, want %q", device, err, want)
		}
	}
	if active := r.queue.Active(); len(active) != 0 {
		t.Errorf("%d images are wanted", len(active))
	}
}

// What a person leaves open is left to the agent, which knows the model.
func TestWhatIsLeftOpenIsNotSent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for args, want := range map[string][]string{
		"":                                   {`"prompt":"a fox","count":1`},
		"--steps 7 --guidance 0 --width 640": {`"width":640`, `"steps":7`, `"guidance":0`},
		"--sampler euler":                    {`"sampler":"euler"`},
	} {
		var body []byte
		agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			body, _ = io.ReadAll(q.Body)
			w.WriteHeader(http.StatusTeapot)
		}))
		_, err := r.run(append(append([]string{"generate", "a fox"}, strings.Fields(args)...), "-o", t.TempDir(), "--listen", strings.TrimPrefix(agent.URL, "http://"))...)
		agent.Close()
		if err == nil || !strings.Contains(err.Error(), "is no agent") {
			t.Error(err)
		}
		for _, part := range want {
			if !strings.Contains(string(body), part) {
				t.Errorf("%s: %s is not in %s", args, part, body)
			}
		}
		if strings.Contains(string(body), "height") {
			t.Errorf("%s: %s", args, body)
		}
	}
}

func TestPinByAnyName(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	config := configOf(r)
	client, err := newClient(&cobra.Command{}, &config)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"1": `"device_id":1`, "cpu": `"device_key":"cpu"`, "GPU-b": `"device_key":"GPU-b"`} {
		var spec job.Spec
		if err := pinTo(t.Context(), client, name, &spec); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if raw, err := json.Marshal(spec); err != nil || !strings.Contains(string(raw), want) {
			t.Errorf("%s: %s %v", name, raw, err)
		}
	}
}

func TestDeviceChoices(t *testing.T) {
	t.Parallel()
	equal := func(name string, refs ...gpu.Ref) (list []choice) {
		for _, ref := range refs {
			list = append(list, choice{ref, name})
		}
		return list
	}
	for want, devices := range map[string][]choice{
		"":                             nil,
		"0–7 (MI25)":                   equal("MI25", 0, 1, 2, 3, 4, 5, 6, 7),
		"0, 1 (MI25)":                  equal("MI25", 0, 1),
		"0–2 (MI25), 3 (V620)":         append(equal("MI25", 0, 1, 2), equal("V620", 3)...),
		"0 (MI25), 1 (V620), 2 (MI25)": append(append(equal("MI25", 0), equal("V620", 1)...), equal("MI25", 2)...),
		"0 (MI25), 2 (MI25), cpu":      append(equal("MI25", 0, 2), choice{ref: gpu.CPU}),
	} {
		if got := choices(devices); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := choices(equal("MI25", 0), "all"); got != "0 (MI25), all" {
		t.Error(got)
	}
}

// interruptAsked interrupts who asks, and returns when it is gone: that shows only once its body was read.
func interruptAsked(r *http.Request, interrupt func()) {
	_, _ = io.Copy(io.Discard, r.Body)
	interrupt()
	<-r.Context().Done()
}

// Who names no model is told which one was taken, and everybody what was changed.
func TestWhatWasTakenIsTold(t *testing.T) {
	t.Parallel()
	for model, want := range map[string]string{"": "model sdxl, 512x320, 20 steps\n500x300 becomes 512x320\n", "sdxl": "500x300 becomes 512x320\n"} {
		var told strings.Builder
		e := &errand{spec: job.Spec{Model: model}, jobs: []job.Job{{Model: "sdxl", Width: 512, Height: 320, Steps: 20}}, notes: []string{"500x300 becomes 512x320"}, patience: patience{tell: &told}}
		e.tellTaken()
		if told.String() != want {
			t.Errorf("%q: %q", model, told.String())
		}
	}
}
