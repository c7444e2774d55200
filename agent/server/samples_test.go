package server

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"muster/agent/queue"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
)

const samplesPath = "/api/v1/personas/generate-sample-images"

type samplesAnswer struct {
	Images []struct {
		ID      string  `json:"id"`
		Label   string  `json:"label"`
		DataURL string  `json:"data_url"`
		Size    int     `json:"size"`
		GPUID   gpu.Ref `json:"gpu_id"`
		Seed    int64   `json:"seed"`
		JobID   string  `json:"job_id"`
	} `json:"images"`
	Count  int           `json:"count"`
	Errors []sampleError `json:"errors"`
	Detail string        `json:"detail"`
}

func TestSampleImages(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.generate(func(job.Job) string { return "" })
	for name, r := range map[string]answer{
		"query": a.ask("POST", samplesPath+"?appearance=a+tall+man+with+a+beard&personality=calm&unknown=1", ""),
		"body":  a.ask("POST", samplesPath, `{"appearance":"a tall man with a beard","personality":"calm"}`),
		"both":  a.ask("POST", samplesPath+"?appearance=overridden+by+the+body", `{"appearance":"a tall man with a beard","personality":"calm"}`),
	} {
		var got samplesAnswer
		r.into(t, &got)
		if r.status != 200 || got.Count != 4 || len(got.Images) != 4 || got.Errors != nil {
			t.Fatalf("%s: %d %.300s", name, r.status, r.body)
		}
		if !strings.HasPrefix(string(r.body), `{"images":[{"id":"sample_1","label":"Sample 1","data_url":"data:image/png;base64,`) {
			t.Errorf("%s: %.100s", name, r.body)
		}
		for i, image := range got.Images {
			raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(image.DataURL, "data:image/png;base64,"))
			if err != nil || len(raw) != image.Size || string(raw) != string(picture(t, 8, uint8(i))) {
				t.Errorf("%s: image %d: %d bytes of %d, %v", name, i, len(raw), image.Size, err)
			}
			if image.ID != fmt.Sprintf("sample_%d", i+1) || image.Label != fmt.Sprintf("Sample %d", i+1) || image.GPUID != gpu.Ref(i%2) || image.Seed != got.Images[0].Seed+int64(i) {
				t.Errorf("%s: image %d: %+v", name, i, image)
			}
			j, err := a.queue.Job(t.Context(), image.JobID)
			if err != nil || j.Width != 1024 || j.Height != 1024 || j.Steps != 30 || !strings.Contains(j.Prompt, "a tall man with a beard") || !strings.Contains(j.Prompt, "calm") || strings.Contains(j.Prompt, "overridden") {
				t.Errorf("%s: job %+v, %v", name, j, err)
			}
		}
	}
}

func TestSampleImagesOptions(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.generate(func(job.Job) string { return "" })
	r := a.ask("POST", samplesPath, `{"appearance":"a tall man with a beard","resolution":"256x4096","quality":"premium","style":"anime","image_model":"sketch","count":1,"device_id":1}`)
	var got samplesAnswer
	r.into(t, &got)
	if r.status != 200 || len(got.Images) != 1 || got.Images[0].GPUID != 1 {
		t.Fatalf("%d %.300s", r.status, r.body)
	}
	j, _ := a.queue.Job(t.Context(), got.Images[0].JobID)
	if j.Width != 256 || j.Height != 4096 || j.Steps != 80 || j.Model != "sketch" || !strings.Contains(j.Prompt, "anime") || j.PinnedTo == nil || *j.PinnedTo != 1 {
		t.Errorf("%+v", j)
	}
	a.set(func() {
		a.capacity = wire.Capacity{DefaultModel: "sketch", Models: []wire.Model{{Name: "sketch"}}, Slots: []wire.Slot{{Device: gpu.CPU, Models: []string{"sketch"}}}}
	})
	r = a.ask("POST", samplesPath+"?appearance=a+tall+man+with+a+beard&device_id=cpu&count=1", "")
	if !strings.Contains(string(r.body), `"gpu_id":"cpu"`) {
		t.Errorf("the CPU: %.300s", r.body[max(0, len(r.body)-300):])
	}
}

func TestBadSampleImages(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	const good = "appearance=a+tall+man+with+a+beard"
	for _, test := range []struct{ query, body, want string }{
		{"", "", "appearance: is 0 characters long; at least 10"}, {"appearance=short", "", "at least 10"}, {"appearance=++++++short++++++", "", "is 5 characters"}, {"", `{"appearance":"         a          "}`, "is 1 characters"},
		{good + "&resolution=big", "", `resolution: is "big"`}, {good + "&resolution=255x512", "", "256 to 4096"}, {good + "&resolution=512x4097", "", "256 to 4096"}, {good + "&resolution=512", "", "WIDTHxHEIGHT"},
		{good + "&resolution=-512x512", "", "WIDTHxHEIGHT"}, {good + "&resolution=512x512x512", "", "WIDTHxHEIGHT"}, {good + "&resolution=999999x512", "", "WIDTHxHEIGHT"}, {good + "&resolution=0512x512%00", "", "WIDTHxHEIGHT"},
		{good + "&quality=ultra", "", "allowed are draft, standard, high, premium"}, {good + "&style=cubist", "", "allowed are photorealistic, anime, cartoon, artistic, 3d_render, fantasy, cinematic"},
		{good + "&count=0", "", "1 to 16"}, {good + "&count=17", "", "1 to 16"}, {good + "&count=x", "", "1 to 16"}, {good + "&count=", "", ""}, {good, `{"count":0}`, "allowed is 1 to 16"}, {good, `{"count":17}`, "1 to 16"}, {good, `{"count":"4"}`, "whole number"},
		{good + "&device_id=x", "", "device_id"}, {good + "&device_id=7", "", "allowed are 0, 1"}, {good, `{"device_id":-3}`, "device_id"}, {good + "&device_id=cpu", "", "allowed are 0, 1"},
		{good + "&image_model=nope", "", "detail: image_model: \"nope\" is not here"}, {good, `{"image_model":"` + strings.Repeat("m", 201) + `"}`, "detail: image_model: must be"}, {good, "{\"style\":\"\xff\"}", "UTF-8"}, {good, `{"appearence":"x"}`, "appearence: is not a field here"}, {good, `{"style":3}`, "style: must be a string"}, {good, `{"quality":null,"style":[]}`, "not an array"},
		{good, `{`, "ends in the middle"}, {good, `{} x`, "something follows"}, {good, `[]`, "JSON object"}, {good + "&a=%zz", "", "well-formed"},
		{"appearance=" + strings.Repeat("x", maxPersonaText+1), "", "at most 3500"}, {good + "&personality=" + strings.Repeat("x", maxPersonaText+1), "", "at most 3500"}, {"appearance=a+tall+man+%ff+beard", "", "UTF-8"}, {good + "&personality=%00", "", "NUL"},
	} {
		if test.want == "" {
			continue
		}
		r := a.ask("POST", samplesPath+"?"+test.query, test.body)
		if r.status != 400 || !strings.HasPrefix(r.message(), "detail: ") || !strings.Contains(r.message(), test.want) {
			t.Errorf("%.60s %.40s: %d %s, want %q", test.query, test.body, r.status, r.message(), test.want)
		}
	}
	if n := len(a.queue.Active()); n != 0 {
		t.Errorf("%d jobs were accepted", n)
	}
	if r := a.ask("POST", samplesPath, `{"appearance":"`+strings.Repeat("x", maxBodyBytes)+`"}`); r.status != 413 || !strings.HasPrefix(r.message(), "detail: ") {
		t.Errorf("a long body: %d %s", r.status, r.message())
	}
}

func TestLongestPersonaFitsAPrompt(t *testing.T) {
	t.Parallel()
	for _, st := range styles {
		ask := sampleAsk{Appearance: strings.Repeat("x", maxPersonaText), Personality: strings.Repeat("y", maxPersonaText), Style: st.name}
		if _, err := ask.spec(); err != nil {
			t.Errorf("%s: %v", st.name, err)
		}
	}
}

func TestNoBackendForSamples(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	query := samplesPath + "?appearance=a+tall+man+with+a+beard"
	for want, slots := range map[string][]wire.Slot{
		"no backend can generate":        nil,
		"Device 0: sd-server is missing": {{Device: 0, Problem: "sd-server is missing"}},
		"Device 1 is paused":             {{Device: 1, Paused: true, Models: []string{"sketch"}}},
	} {
		a.set(func() { a.capacity.Slots = slots })
		if r := a.ask("POST", query, ""); r.status != 400 || !strings.HasPrefix(r.message(), "detail: no backend can generate") || !strings.Contains(r.message(), want) {
			t.Errorf("%d %s, want %q", r.status, r.body, want)
		}
	}
	if r := a.ask("POST", "/api/v1/personas/random?generate_images=true", ""); r.status != 400 {
		t.Errorf("random: %d", r.status)
	}
}

func TestSampleImagesThatFail(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.generate(func(j job.Job) string {
		if j.Ordinal == 1 || j.Steps == 20 {
			return "out of memory"
		}
		return ""
	})
	var got samplesAnswer
	r := a.ask("POST", samplesPath+"?appearance=a+tall+man+with+a+beard&count=3", "")
	r.into(t, &got)
	if r.status != 200 || got.Count != 2 || got.Images[1].ID != "sample_3" || len(got.Errors) != 1 || got.Errors[0].ID != "sample_2" || got.Errors[0].Error != "out of memory" || got.Errors[0].JobID == "" {
		t.Errorf("some: %d %+v", r.status, got)
	}
	got = samplesAnswer{}
	r = a.ask("POST", samplesPath+"?appearance=a+tall+man+with+a+beard&count=2&quality=draft", "")
	r.into(t, &got)
	if r.status != 500 || !strings.Contains(got.Detail, "out of memory") || len(got.Errors) != 2 {
		t.Errorf("all: %d %s", r.status, r.body)
	}
}

func TestSampleImagesWhenTheQueueIsFull(t *testing.T) {
	t.Parallel()
	a := newAgentWith(t, queue.Options{MaxQueued: 3})
	r := a.ask("POST", samplesPath+"?appearance=a+tall+man+with+a+beard", "")
	if r.status != 503 || r.header.Get("Retry-After") == "" || !strings.HasPrefix(r.message(), "detail: ") {
		t.Errorf("%d %v %s", r.status, r.header, r.body)
	}
}

// waitFor waits until the queue's jobs are as wanted, looking whenever one changes.
func (a *testAgent) waitFor(ok func([]job.Job) bool) {
	a.t.Helper()
	s := a.feed.Subscribe(wire.JSON)
	defer s.Close()
	for {
		jobs, _, err := a.queue.List(a.t.Context(), queue.Filter{})
		if err != nil {
			a.t.Fatal(err)
		}
		if ok(jobs) {
			return
		}
		select {
		case <-s.Wake():
			s.Take()
		case <-a.t.Context().Done():
			a.t.Fatalf("jobs: %+v", jobs)
		}
	}
}

func inState(jobs []job.Job, state job.State) (n int) {
	for _, j := range jobs {
		if j.State == state {
			n++
		}
	}
	return n
}

func TestClientThatGoesAwayCancelsWhatHasNotStarted(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r := httptest.NewRequestWithContext(ctx, "POST", samplesPath+"?appearance=a+tall+man+with+a+beard&count=3", nil)
		r.Host = testAddr
		r.Header.Set("Authorization", "Bearer "+testToken)
		a.server.Handler().ServeHTTP(httptest.NewRecorder(), r)
	}()
	a.waitFor(func(jobs []job.Job) bool { return len(jobs) == 3 })
	first := a.queue.Active()[0]
	if _, err := a.queue.Start(t.Context(), first.ID, 0, queue.Placement{Device: 0, Backend: "builtin"}); err != nil {
		t.Fatal(err)
	}
	leave()
	<-done
	a.waitFor(func(jobs []job.Job) bool {
		return inState(jobs, job.Cancelled) == 2 && inState(jobs, job.Running) == 1
	})
}

func TestStoppingAgentKeepsAcceptedJobs(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	answered := make(chan answer)
	go func() { answered <- a.ask("POST", samplesPath+"?appearance=a+tall+man+with+a+beard", "") }()
	a.waitFor(func(jobs []job.Job) bool { return len(jobs) == 4 })
	a.server.stop()
	if r := <-answered; r.status != http.StatusServiceUnavailable || !strings.Contains(r.message(), "stopping") {
		t.Errorf("%d %s", r.status, r.body)
	}
	a.waitFor(func(jobs []job.Job) bool { return inState(jobs, job.Queued) == 4 })
}

func TestRandomPersona(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.generate(func(job.Job) string { return "" })
	var one, again, other persona
	r := a.ask("POST", "/api/v1/personas/random?seed=7", "")
	r.into(t, &one)
	a.ask("POST", "/api/v1/personas/random?seed=7", "").into(t, &again)
	a.ask("POST", "/api/v1/personas/random?seed=8", "").into(t, &other)
	if one != again || one == other || one.Seed != 7 || strings.Contains(string(r.body), "images") {
		t.Errorf("%+v, %+v, %+v", one, again, other)
	}
	var with struct {
		persona
		samplesAnswer
	}
	r = a.ask("POST", "/api/v1/personas/random?seed=7&generate_images=true&count=2&resolution=256x256", "")
	r.into(t, &with)
	if r.status != 200 || with.persona != one || with.Count != 2 || with.Images[0].Seed != 7 || with.Images[1].Seed != 8 {
		t.Errorf("%d %.300s", r.status, r.body)
	}
	a.ask("POST", "/api/v1/personas/random?seed=8", `{"seed":7,"generate_images":true,"count":2,"resolution":"256x256"}`).into(t, &with)
	if with.persona != one || with.Count != 2 {
		t.Errorf("by a body: %+v", with.persona)
	}
	for body, want := range map[string]string{`{"seed":-1}`: "seed: is -1", `{"seed":"7"}`: "whole number", `{"sead":7}`: "allowed are seed, generate_images, count", `{"generate_images":"yes"}`: "true or false", `{"count":0}`: "1 to 16", `x`: "not JSON"} {
		if r := a.ask("POST", "/api/v1/personas/random", body); r.status != 400 || !strings.Contains(r.message(), want) {
			t.Errorf("%s: %d %s", body, r.status, r.body)
		}
	}
	for query, want := range map[string]string{"seed=-1": "seed", "seed=x": "seed", "seed=99999999999": "seed", "generate_images=maybe": "true and false", "count=99": "count", "style=x": "style", "a=%zz": "well-formed"} {
		if r := a.ask("POST", "/api/v1/personas/random?"+query, ""); r.status != 400 || !strings.Contains(r.message(), want) {
			t.Errorf("%s: %d %s", query, r.status, r.body)
		}
	}
}

// Whatever the seed, the person is a grown-up whose description makes a valid command; and they differ.
func TestPersonasAreValidAndVaried(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for seed := range int64(2000) {
		made := newPersona(seed)
		if made.Name == "" || made.Age < minAge || made.Age > maxAge || made.Personality == "" {
			t.Fatalf("%+v", made)
		}
		for _, odd := range []string{"  ", "%!", "silver a ", "a elderly", " ,"} {
			if strings.Contains(made.Appearance+made.Personality, odd) {
				t.Fatalf("%q in %+v", odd, made)
			}
		}
		if _, err := (sampleAsk{Appearance: made.Appearance, Personality: made.Personality, Style: made.Style}).spec(); err != nil {
			t.Fatalf("%+v: %v", made, err)
		}
		seen[made.Appearance] = true
	}
	if len(seen) < 1990 {
		t.Errorf("%d different people of 2000", len(seen))
	}
}
