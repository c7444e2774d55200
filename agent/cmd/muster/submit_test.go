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
	for device, want := range map[string]string{"7": "7 can't generate; allowed are 0, 1", "-1": `"-1" can't generate; allowed are GPU-a, GPU-b`, "gpu0": `"gpu0" can't generate`, "cpu": `"cpu" can't generate`} {
		if _, err := r.run("generate", "fox", "--device", device, "-o", t.TempDir()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--device %s: %v, want %q", device, err, want)
		}
	}
	if active := r.queue.Active(); len(active) != 0 {
		t.Errorf("%d images are wanted", len(active))
	}
}

func TestPinByAnyName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"1": `"device_id":1`, "cpu": `"device_key":"cpu"`, "GPU-b": `"device_key":"GPU-b"`} {
		var spec job.Spec
		pinTo(name, &spec)
		if raw, err := json.Marshal(spec); err != nil || !strings.Contains(string(raw), want) {
			t.Errorf("%s: %s %v", name, raw, err)
		}
	}
}

// interruptAsked interrupts who asks, and returns when it is gone: that shows only once its body was read.
func interruptAsked(r *http.Request, interrupt func()) {
	_, _ = io.Copy(io.Discard, r.Body)
	interrupt()
	<-r.Context().Done()
}
