package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"

	"muster/agent/backend/backendtest"
	"muster/agent/fixture"
	"muster/e2e/harness"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
)

type jobList struct {
	Jobs []job.Job `json:"jobs"`
}

// fill types a prompt, asks for count images and presses the button, once the cards stand.
func fill(t *testing.T, tab *harness.Page, prompt string, count int) {
	t.Helper()
	until(t, tab, `document.querySelector("#connection")?.dataset.state == "connected" && document.querySelector("[data-device]") != null`)
	if err := chromedp.Do(tab.Context, chromedp.SendKeys("#prompt", prompt)); err != nil {
		t.Fatal(err)
	}
	eval[any](t, tab, fmt.Sprintf(`(() => {
		const count = document.querySelector("#count");
		count.value = "%d";
		for (const type of ["input", "change"]) count.dispatchEvent(new Event(type, {bubbles: true}));
	})()`, count))
	if err := chromedp.Do(tab.Context, chromedp.Click("#generate")); err != nil {
		t.Fatal(err)
	}
}

// finished gives the jobs of the agent once all have ended.
func finished(t *testing.T, agent *harness.Agent, count int) []job.Job {
	t.Helper()
	var list jobList
	eventually(t, fmt.Sprintf("%d jobs ended", count), func() bool {
		get(t, agent, "/api/v1/jobs?limit=1000", &list)
		return len(list.Jobs) == count && !slices.ContainsFunc(list.Jobs, func(j job.Job) bool { return !j.State.Terminal() })
	})
	return list.Jobs
}

// spread fails unless every job succeeded, on as many devices as there are jobs.
func spread(t *testing.T, jobs []job.Job) {
	t.Helper()
	devices := map[gpu.Ref]bool{}
	images := map[string]bool{}
	for _, j := range jobs {
		if j.State != job.Succeeded || j.DeviceID == nil || j.Reason == "" {
			t.Fatalf("job %s is %s on %v because %q: %s", j.ID, j.State, j.DeviceID, j.Reason, j.Error)
		}
		devices[*j.DeviceID] = true
		images[j.ImageID] = true
	}
	if len(devices) != len(jobs) || len(images) != len(jobs) {
		t.Errorf("%d jobs made %d different images on devices %v", len(jobs), len(images), devices)
	}
}

func TestPromptBecomesFourImagesOnFourSimulatedDevices(t *testing.T) {
	const prompt = "a violinist with silver hair"
	agent := start(t, "--simulate", "4x V620")
	tab := open(t, agent.Link)
	fill(t, tab, prompt, 4)
	until(t, tab, `document.querySelectorAll("[data-job]").length == 4`)
	until(t, tab, `document.querySelectorAll("[data-image]").length == 4`)
	jobs := finished(t, agent, 4)
	spread(t, jobs)
	for _, j := range jobs {
		if !j.Simulated || j.Backend != "builtin" {
			t.Errorf("job %s says simulated %v, backend %q", j.ID, j.Simulated, j.Backend)
		}
	}
	until(t, tab, `[...document.querySelectorAll("[data-image] img")].every(i => i.complete && i.naturalWidth > 0)`)
	if !eval[bool](t, tab, `document.body.innerText.includes("built-in sketch renderer, no AI model")`) {
		t.Error("the page does not say that the built-in renderer is no AI model")
	}
	if log := agent.Stderr(); strings.Contains(log, "violinist") {
		t.Error("the log holds the prompt")
	} else if strings.Count(log, "started") < 4 {
		t.Errorf("the log does not tell of four started images:\n%s", log)
	}
}

func TestPromptBecomesFourImagesOnCapturedCardsThroughSDServer(t *testing.T) {
	program := backendtest.BuildFakeSDServer(t, backendtest.MI25x8())
	models := t.TempDir()
	backendtest.WriteModel(t, models, "sd15", backendtest.Scenario{LoadMilliseconds: 300, StepMilliseconds: 20})
	agent := start(t, "--sysroot", fixture.Root(t, "amd-mi25x8"), "--sd-server", program, "--models", models)
	tab := open(t, agent.Link)
	fill(t, tab, "a lighthouse keeper", 4)
	until(t, tab, `document.querySelectorAll("[data-image]").length == 4`)
	jobs := finished(t, agent, 4)
	spread(t, jobs)
	for _, j := range jobs {
		if j.Simulated || j.Backend != "sdserver" || j.Model != "sd15" {
			t.Errorf("job %s says simulated %v, backend %q, model %q", j.ID, j.Simulated, j.Backend, j.Model)
		}
	}
	// The fake says which card its mask left it; it refuses to start when that is not exactly one.
	made := map[string]bool{}
	for _, j := range jobs {
		made[j.DeviceKey] = true
	}
	for _, s := range backendtest.Serving(t, program) {
		if s.Refused != "" || len(s.Masks) != 1 || !made[s.Device] {
			t.Errorf("an sd-server ran on %q with masks %v (%s), jobs were made on %v", s.Device, s.Masks, s.Refused, made)
		}
		delete(made, s.Device)
	}
	if len(made) > 0 {
		t.Errorf("jobs claim %v, on which no sd-server ran", made)
	}
}

func TestSampleImagesOfAPersona(t *testing.T) {
	agent := start(t, "--simulate", "4x V620")
	var answer struct {
		Count  int `json:"count"`
		Images []struct {
			ID      string  `json:"id"`
			Label   string  `json:"label"`
			DataURL string  `json:"data_url"`
			GPUID   gpu.Ref `json:"gpu_id"`
			Seed    int64   `json:"seed"`
			JobID   string  `json:"job_id"`
		} `json:"images"`
	}
	query := "?appearance=tall+man+with+a+grey+beard&resolution=256x256&quality=draft"
	if _, err := agent.Do(t.Context(), "POST", "/api/v1/personas/generate-sample-images"+query, nil, &answer); err != nil {
		t.Fatal(err)
	}
	devices, seeds := map[gpu.Ref]bool{}, map[int64]bool{}
	for i, image := range answer.Images {
		if image.ID != fmt.Sprintf("sample_%d", i+1) || image.Label != fmt.Sprintf("Sample %d", i+1) || image.JobID == "" {
			t.Errorf("image %d: %s, %q", i, image.ID, image.Label)
		}
		devices[image.GPUID], seeds[image.Seed] = true, true
	}
	if answer.Count != 4 || len(devices) != 4 || len(seeds) != 4 {
		t.Errorf("%d images, devices %v, seeds %v", answer.Count, devices, seeds)
	}
	status, err := agent.Do(t.Context(), "POST", "/api/v1/personas/generate-sample-images?appearance=short", nil, nil)
	if status != 400 || !strings.Contains(err.Error(), `"detail"`) {
		t.Errorf("a short appearance: %d, %v", status, err)
	}
}

// A kill -9 in the middle: what was accepted finishes once, with its seed.
func TestKilledAgentFinishesEveryAcceptedJobOnce(t *testing.T) {
	data := t.TempDir()
	flags := []string{"--simulate", "2x MI25, 1x RTX 4090", "--interval", "200ms"}
	agent := startOn(t, data, flags...)
	seeds := map[string]int64{}
	for i := range 3 {
		var set struct {
			Jobs []job.Job `json:"jobs"`
		}
		spec := job.Spec{Prompt: fmt.Sprint("a fox, ", i), Count: 4, Width: 256, Height: 256}
		if _, err := agent.Do(t.Context(), "POST", "/api/v1/jobs", spec, &set); err != nil {
			t.Fatal(err)
		}
		for _, j := range set.Jobs {
			seeds[j.ID] = j.Seed
		}
	}
	eventually(t, "an image is finished and another is being made", func() bool {
		var running, done jobList
		get(t, agent, "/api/v1/jobs?state=running", &running)
		get(t, agent, "/api/v1/jobs?state=succeeded", &done)
		return len(running.Jobs) > 0 && len(done.Jobs) > 0
	})
	var before jobList
	get(t, agent, "/api/v1/jobs?state=succeeded", &before)
	agent.Kill()

	agent = startOn(t, data, flags...)
	jobs := finished(t, agent, len(seeds))
	for _, j := range jobs {
		if j.State != job.Succeeded || j.Seed != seeds[j.ID] || j.Failures != 0 {
			t.Errorf("job %s is %s, seed %d (was %d), %d failures: %s", j.ID, j.State, j.Seed, seeds[j.ID], j.Failures, j.Error)
		}
	}
	for _, old := range before.Jobs {
		i := slices.IndexFunc(jobs, func(j job.Job) bool { return j.ID == old.ID })
		if i < 0 || jobs[i].Attempt != old.Attempt || jobs[i].ImageID != old.ImageID {
			t.Errorf("job %s had succeeded and was made again", old.ID)
		}
	}
}

func TestCommandsOverTheSocket(t *testing.T) {
	agent := start(t, "--simulate", "1x MI25")
	for _, protocol := range []string{wire.SubprotocolJSON, wire.SubprotocolBinary} {
		t.Run(protocol, func(t *testing.T) {
			socket := dial(t, agent, protocol)
			for i := range 3 { // the first runs, the others wait
				command := fmt.Sprintf(`{"submit":{"id":"%s-%d","spec":{"prompt":"a heron","steps":200}}}`, protocol, i)
				if err := socket.Write(t.Context(), websocket.MessageText, []byte(command)); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 3 {
				key := fmt.Sprintf("%s-%d", protocol, i)
				accepted := await(t, socket, protocol, func(j *job.Job) bool { return j.Key == key })
				command := fmt.Sprintf(`{"cancel":{"id":"c%d","job_id":%q}}`, i, accepted.ID)
				if err := socket.Write(t.Context(), websocket.MessageText, []byte(command)); err != nil {
					t.Fatal(err)
				}
				await(t, socket, protocol, func(j *job.Job) bool { return j.ID == accepted.ID && j.State == job.Cancelled })
			}
		})
	}
}

func dial(t *testing.T, agent *harness.Agent, protocol string) *websocket.Conn {
	t.Helper()
	socket, _, err := websocket.Dial(t.Context(), agent.URL+"/api/v1/events", &websocket.DialOptions{
		Subprotocols: []string{protocol}, HTTPHeader: map[string][]string{"Authorization": {"Bearer " + agent.Token}},
	})
	if err != nil {
		t.Fatal(err)
	}
	socket.SetReadLimit(1 << 20)
	t.Cleanup(func() { socket.CloseNow() })
	return socket
}

// await reads events until a job fits; the test's own deadline bounds it.
func await(t *testing.T, socket *websocket.Conn, protocol string, fits func(*job.Job) bool) *job.Job {
	t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		_, frame, err := socket.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		event, err := wire.Decode(wire.FormatOf(protocol), frame)
		if err != nil {
			t.Fatal(err)
		}
		if event.Error != nil {
			t.Fatalf("refused: %+v", event.Error)
		}
		if event.Job != nil && fits(event.Job) {
			return event.Job
		}
	}
	t.Fatalf("no such job within %s", patience)
	return nil
}

func TestCommandLine(t *testing.T) {
	agent := start(t, "--simulate", "2x MI25")
	dir := t.TempDir()
	out, err := agent.Command(t.Context(), "generate", "a fox in the snow", "-n", "2", "--width", "256", "--height", "256", "-o", dir)
	if err != nil {
		t.Fatalf("muster generate: %v: %s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.png"))
	if err != nil || len(files) != 2 {
		t.Errorf("muster generate saved %v: %s", files, out)
	}
	if out, err := agent.Command(t.Context(), "jobs"); err != nil || strings.Count(out, "succeeded") != 2 {
		t.Errorf("muster jobs: %v: %s", err, out)
	}
	if out, err := agent.Command(t.Context(), "gpus", "--simulate", "2x MI25"); err != nil || !strings.Contains(out, "2 device(s) detected (simulated)") {
		t.Errorf("muster gpus: %v: %s", err, out)
	}
	if out, err := agent.Command(t.Context(), "link"); err != nil || !strings.HasPrefix(out, agent.URL+"/#pair=") {
		t.Errorf("muster link: %v: %s", err, out)
	}
	if out, err := agent.Command(t.Context(), "serve"); err == nil {
		t.Errorf("a second agent on the same data folder started: %s", out)
	}
}

// The command waits for an agent that dies, and for one that is stopped, and saves every image of the one set.
func TestCommandOutlivesTheAgent(t *testing.T) {
	data, dir := t.TempDir(), t.TempDir()
	agent, err := harness.Start(data, "--simulate", "2x MI25")
	if err != nil {
		t.Fatal(err)
	}
	type ending struct {
		out string
		err error
	}
	done := make(chan ending, 1)
	go func(agent *harness.Agent) {
		out, err := agent.Command(t.Context(), "generate", "a fox in the snow", "-n", "6", "--steps", "20", "--width", "256", "--height", "256", "-o", dir)
		done <- ending{out, err}
	}(agent)
	for _, end := range []func(*harness.Agent) error{(*harness.Agent).Kill, (*harness.Agent).Stop} {
		eventually(t, "an image is being made", func() bool {
			var list jobList
			get(t, agent, "/api/v1/jobs?state=running", &list)
			return len(list.Jobs) > 0
		})
		if err := end(agent); err != nil {
			t.Fatal(err)
		}
		agent = startOn(t, data, "--simulate", "2x MI25")
	}
	command := <-done
	files, err := filepath.Glob(filepath.Join(dir, "*.png"))
	if command.err != nil || err != nil || len(files) != 6 {
		t.Errorf("%v, %v: saved %v: %s", command.err, err, files, command.out)
	}
	if jobs := finished(t, agent, 6); jobs[0].SetID != jobs[5].SetID {
		t.Errorf("there are two sets: %s", command.out)
	}
}
