package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"muster/agent/queue"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/pool"
	"muster/shared/wire"
)

type setAnswer struct {
	SetID string    `json:"set_id"`
	Jobs  []job.Job `json:"jobs"`
}

// A model that only a generator has which is away can be asked for, also where nothing else is; whoever waits for the answer is refused.
func TestModelOfAGeneratorThatIsAway(t *testing.T) {
	t.Parallel()
	for _, slots := range [][]wire.Slot{nil, {{Device: 0, Backend: "builtin", Models: []string{"sketch"}}}} {
		a := newAgent(t)
		a.set(func() {
			a.capacity = wire.Capacity{Slots: slots, DefaultModel: "dreams", Models: []wire.Model{{Name: "dreams", Away: "comfyui x"}},
				Generators: []wire.Generator{{ID: "comfyui x", Attached: true, State: wire.GeneratorUnreachable, Models: 1, Problem: "ComfyUI at x is not there"}}}
		})
		if r := a.ask("POST", "/api/v1/jobs", `{"prompt":"x","model":"dreams"}`); r.status != 202 {
			t.Errorf("slots %v: %d %s", slots, r.status, r.body)
		}
		if r := a.ask("POST", "/api/v1/jobs", `{"prompt":"x","model":"other"}`); r.status != 400 || !strings.Contains(r.message(), "allowed are dreams") || strings.Contains(r.message(), "not known") {
			t.Errorf("slots %v: %d %s", slots, r.status, r.body)
		}
		if r := a.ask("POST", "/api/v1/jobs", `{"prompt":"x","model":"dreams","device_id":1}`); r.status != 400 || !strings.Contains(r.message(), "can") {
			t.Errorf("slots %v: pinned: %d %s", slots, r.status, r.body)
		}
		for path, body := range map[string]string{"/v1/images/generations": `{"prompt":"x","model":"dreams"}`, "/sdapi/v1/txt2img": `{"prompt":"x","override_settings":{"sd_model_checkpoint":"dreams"}}`} {
			if r := a.ask("POST", path, body); r.status != 503 || r.header.Get("Retry-After") == "" || !strings.Contains(string(r.body), "ComfyUI at x is not there") {
				t.Errorf("slots %v: %s: %d %s", slots, path, r.status, r.body)
			}
		}
		if r := a.ask("GET", "/api/v1/models", ""); !strings.Contains(string(r.body), "its generator is away: ComfyUI at x is not there") {
			t.Errorf("slots %v: %s", slots, r.body)
		}
	}
}

func TestSubmit(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	body := `{"prompt":"a fox","negative_prompt":"blur","width":256,"height":320,"steps":7,"guidance":3.5,"sampler":"euler","seed":40,"count":3,"device_id":1,"priority":-2}`
	var set setAnswer
	r := a.ask("POST", "/api/v1/jobs", body, "Idempotency-Key", "k1")
	r.into(t, &set)
	if r.status != http.StatusAccepted || set.SetID == "" || len(set.Jobs) != 3 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	for i, j := range set.Jobs {
		if j.State != job.Queued || j.Seed != int64(40+i) || j.Model != "sketch" || j.Width != 256 || j.Height != 320 || j.Steps != 7 || j.Guidance != 3.5 || *j.PinnedTo != 1 || j.Priority != -2 {
			t.Errorf("job %d: %+v", i, j)
		}
	}
	var again setAnswer
	r = a.ask("POST", "/api/v1/jobs", body, "Idempotency-Key", "k1")
	if r.into(t, &again); r.status != http.StatusOK || again.SetID != set.SetID || len(again.Jobs) != 3 {
		t.Errorf("the same key: %d %s", r.status, r.body)
	}
	if r := a.ask("POST", "/api/v1/jobs", `{"prompt":"another"}`, "Idempotency-Key", "k1"); r.status != http.StatusConflict {
		t.Errorf("the same key with another body: %d", r.status)
	}
}

func TestBadSubmissions(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for _, test := range []struct {
		body  string
		field string
		want  string
	}{
		{``, "", "empty"}, {`null`, "prompt", "empty"}, {`{}`, "prompt", "empty"}, {`[]`, "", "not an array"}, {`"x"`, "", "not a string"}, {`7`, "", "number"},
		{`{"prompt":"x"`, "", "ends in the middle"}, {`{"prompt":"x"} {}`, "", "something follows"}, {`{"prompt":"x"}]`, "", "something follows"}, {`{'prompt':1}`, "", "byte 2"},
		{`{"prompt":"x","promt":1}`, "promt", "allowed are prompt, negative_prompt"}, {`{"prompt":7}`, "prompt", "must be a string"}, {`{"prompt":["x"]}`, "prompt", "not an array"},
		{`{"prompt":"  "}`, "prompt", "must not be empty"}, {`{"prompt":"` + strings.Repeat("x", job.MaxPrompt+1) + `"}`, "prompt", "8193 bytes"}, {`{"prompt":"\u0000"}`, "prompt", "NUL"},
		{`{"prompt":"x","negative_prompt":"` + strings.Repeat("x", job.MaxPrompt+1) + `"}`, "negative_prompt", "at most 8192"}, {`{"prompt":"x","negative_prompt":{}}`, "negative_prompt", "not an object"},
		{`{"prompt":"x","width":0}`, "width", "is 0; allowed is 64 to 4096"}, {`{"prompt":"x","height":0}`, "height", "64 to 4096"}, {`{"prompt":"x","steps":0}`, "steps", "1 to 200"}, {`{"prompt":"x","count":0}`, "count", "1 to 16"},
		{"{\"prompt\":\"caf\xe9\"}", "", "UTF-8"},
		{`{"prompt":"x","width":63}`, "width", "64 to 4096"}, {`{"prompt":"x","width":4097}`, "width", "64 to 4096"}, {`{"prompt":"x","width":"512"}`, "width", "whole number, not a string"},
		{`{"prompt":"x","width":512.5}`, "width", "whole number"}, {`{"prompt":"x","width":1e99}`, "width", "whole number"}, {`{"prompt":"x","width":99999999999999999999}`, "width", "out of range"},
		{`{"prompt":"x","height":-1}`, "height", "64 to 4096"}, {`{"prompt":"x","height":true}`, "height", "true or false"}, {`{"prompt":"x","width":4096,"height":4097}`, "height", "64"},
		{`{"prompt":"x","steps":201}`, "steps", "1 to 200"}, {`{"prompt":"x","steps":-1}`, "steps", "1 to 200"}, {`{"prompt":"x","count":17}`, "count", "1 to 16"}, {`{"prompt":"x","count":-1}`, "count", "1 to 16"},
		{`{"prompt":"x","guidance":51}`, "guidance", "0 to 50"}, {`{"prompt":"x","guidance":-0.1}`, "guidance", "0 to 50"}, {`{"prompt":"x","guidance":1e999}`, "guidance", "in range"}, {`{"prompt":"x","guidance":"7"}`, "guidance", "number"},
		{`{"prompt":"x","seed":-1}`, "seed", "0 to"}, {`{"prompt":"x","seed":4294967295}`, "seed", "0 to"}, {`{"prompt":"x","seed":1.5}`, "seed", "whole number"},
		{`{"prompt":"x","priority":11}`, "priority", "-10 to 10"}, {`{"prompt":"x","device_id":2}`, "device_id", "allowed are 0, 1"}, {`{"prompt":"x","device_id":-1}`, "device_id", "0 or more"},
		{`{"prompt":"x","device_id":"gpu0"}`, "device_id", `"cpu"`}, {`{"prompt":"x","device_id":1.5}`, "device_id", "integer"}, {`{"prompt":"x","device_id":"cpu"}`, "device_id", "allowed are 0, 1"},
		{`{"prompt":"x","model":"nope"}`, "model", "allowed are sketch, sd15"}, {`{"prompt":"x","model":"sd15","device_id":1}`, "device_id", "it has sketch"}, {`{"prompt":"x","sampler":"` + strings.Repeat("x", 201) + `"}`, "sampler", "200 bytes"},
	} {
		r := a.ask("POST", "/api/v1/jobs", test.body)
		var e struct {
			Error struct{ Code, Message, Field string }
		}
		r.into(t, &e)
		if r.status != http.StatusBadRequest || e.Error.Code == "" || e.Error.Field != test.field || !strings.Contains(e.Error.Message, test.want) {
			t.Errorf("%.60s: %d %+v, want field %q and %q", test.body, r.status, e.Error, test.field, test.want)
		}
	}
	for _, test := range []struct {
		body    string
		headers []string
		status  int
	}{
		{`{"prompt":"x"}`, []string{"Idempotency-Key", strings.Repeat("k", 201)}, 400},
		{`{"prompt":"x","width":null,"count":null}`, []string{"Idempotency-Key", strings.Repeat("k", 200)}, 202},
		{`{"prompt":"x","negative_prompt":"` + strings.Repeat("x", maxBodyBytes) + `"}`, nil, 413},
	} {
		if r := a.ask("POST", "/api/v1/jobs", test.body, test.headers...); r.status != test.status {
			t.Errorf("%.30s %.40v: %d %s", test.body, test.headers, r.status, r.body)
		}
	}
	if n := len(a.queue.Active()); n != 1 {
		t.Errorf("%d jobs were accepted, want the one good one", n)
	}
}

func TestPinnedDeviceWithoutTheDefaultModelGetsItsOwn(t *testing.T) {
	t.Parallel()
	capacity := wire.Capacity{DefaultModel: "big", Models: []wire.Model{{Name: "big"}, {Name: "small"}}, Slots: []wire.Slot{{Device: 0, Models: []string{"big"}}, {Device: gpu.CPU, Models: []string{"small"}}}}
	for device, want := range map[gpu.Ref]string{0: "big", gpu.CPU: "small"} {
		if spec, err := fit(job.Spec{DeviceID: &device}, capacity, twoMI25()); err != nil || spec.Model != want {
			t.Errorf("%s: %q %v, want %q", device, spec.Model, err, want)
		}
	}
}

func TestNoBackend(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.set(func() { a.capacity = wire.Capacity{} })
	if r := a.ask("POST", "/api/v1/jobs", `{"prompt":"x"}`); r.status != 503 || !strings.Contains(r.message(), "no_backend") {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestFullQueueAndDisk(t *testing.T) {
	t.Parallel()
	full := newAgentWith(t, queue.Options{MaxQueued: 2})
	if r := full.ask("POST", "/api/v1/jobs", `{"prompt":"x","count":3}`); r.status != 503 || r.header.Get("Retry-After") == "" || !strings.Contains(r.message(), "queue_full") {
		t.Errorf("queue: %d %v %s", r.status, r.header, r.body)
	}
	disk := newAgentWith(t, queue.Options{Free: func(string) (uint64, uint64, error) { return 1, 1 << 40, nil }})
	if r := disk.ask("POST", "/api/v1/jobs", `{"prompt":"x"}`); r.status != 507 {
		t.Errorf("disk: %d %s", r.status, r.body)
	}
}

func TestListAndGet(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	var set setAnswer
	a.ask("POST", "/api/v1/jobs", `{"prompt":"x","count":5}`).into(t, &set)
	var page struct {
		Jobs []job.Job
		Next string
	}
	var seen []string
	for after := ""; ; after = page.Next {
		a.ask("GET", "/api/v1/jobs?limit=2&state=queued&set_id="+set.SetID+"&after="+after, "").into(t, &page)
		for _, j := range page.Jobs {
			seen = append(seen, j.ID)
		}
		if page.Next == "" {
			break
		}
	}
	if len(seen) != 5 || seen[0] != set.Jobs[0].ID {
		t.Errorf("pages give %v", seen)
	}
	a.ask("GET", "/api/v1/jobs?order=newest&limit=1", "").into(t, &page)
	if len(page.Jobs) != 1 || page.Jobs[0].ID != set.Jobs[4].ID {
		t.Errorf("newest: %+v", page)
	}
	if r := a.ask("GET", "/api/v1/jobs?state=failed", ""); strings.TrimSpace(string(r.body)) != `{"jobs":[],"next":""}` {
		t.Errorf("none: %s", r.body)
	}
	var one job.Job
	if a.ask("GET", "/api/v1/jobs/"+seen[1], "").into(t, &one); one.ID != seen[1] {
		t.Errorf("one: %+v", one)
	}
	if r := a.ask("GET", "/api/v1/jobs/nope", ""); r.status != 404 || !strings.Contains(r.message(), "no such job") {
		t.Errorf("%d %s", r.status, r.body)
	}
	for target, want := range map[string]string{
		"?limit=0": "1 to 1000", "?limit=1001": "1 to 1000", "?limit=x": "whole number", "?limit=99999999999999999999": "1 to 1000", "?state=done": "allowed are queued", "?order=up": "oldest and newest",
		"?stat=queued": "allowed are state", "?limit=1&limit=2": "given 2 times", "?after=" + strings.Repeat("x", 300): "no id", "?after=zzz": "no id", "?set_id=zzz": "set_id", "?a=%zz": "well-formed", "?a;b": "well-formed",
	} {
		if r := a.ask("GET", "/api/v1/jobs"+target, ""); r.status != 400 || !strings.Contains(r.message(), want) {
			t.Errorf("%.30s: %d %s, want %q", target, r.status, r.body, want)
		}
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	var set setAnswer
	a.ask("POST", "/api/v1/jobs", `{"prompt":"x","count":2}`).into(t, &set)
	for range 2 { // asking twice is no error
		var j job.Job
		if r := a.ask("DELETE", "/api/v1/jobs/"+set.Jobs[0].ID, ""); r.status != 200 {
			t.Errorf("%d %s", r.status, r.body)
		} else if r.into(t, &j); j.State != job.Cancelled {
			t.Errorf("%+v", j)
		}
	}
	a.finish(t.Context(), set.Jobs[1], "")
	if r := a.ask("DELETE", "/api/v1/jobs/"+set.Jobs[1].ID, ""); r.status != http.StatusConflict || !strings.Contains(r.message(), "ended") {
		t.Errorf("a finished one: %d %s", r.status, r.body)
	}
	if r := a.ask("DELETE", "/api/v1/jobs/nope", ""); r.status != 404 {
		t.Errorf("none: %d", r.status)
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	raw := picture(t, 64, 9)
	id, err := a.images.Put(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ target, media, starts string }{
		{"/api/v1/images/" + id, "image/png", "\x89PNG"},
		{"/api/v1/images/" + id + "?size=thumb", "image/jpeg", "\xff\xd8\xff"},
	} {
		r := a.ask("GET", test.target, "")
		h := r.header
		if r.status != 200 || h.Get("Content-Type") != test.media || !strings.HasPrefix(string(r.body), test.starts) || h.Get("X-Content-Type-Options") != "nosniff" ||
			!strings.Contains(h.Get("Cache-Control"), "immutable") || !strings.Contains(h.Get("Content-Security-Policy"), "sandbox") || strings.Contains(h.Get("Content-Security-Policy"), "script-src") {
			t.Errorf("%s: %d %v", test.target, r.status, h)
		}
		if r := a.ask("GET", test.target, "", "If-None-Match", h.Get("ETag")); r.status != http.StatusNotModified {
			t.Errorf("%s again: %d", test.target, r.status)
		}
	}
	if r := a.ask("GET", "/api/v1/images/"+id, ""); string(r.body) != string(raw) {
		t.Error("not the bytes that were put")
	}
	for target, status := range map[string]int{
		"/api/v1/images/" + strings.Repeat("0", 64): 404, "/api/v1/images/nope": 404, "/api/v1/images/..%2f..%2fetc%2fpasswd": 404, "/api/v1/images/nope?size=thumb": 404,
		"/api/v1/images/" + id + "?size=big": 400, "/api/v1/images/" + id + "?sise=thumb": 400,
	} {
		if r := a.ask("GET", target, ""); r.status != status {
			t.Errorf("%s: %d %s, want %d", target, r.status, r.body, status)
		}
	}
}

func TestErrorsHaveOneMapping(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err    error
		status int
		code   string
	}{
		{fmt.Errorf("x: %w", queue.ErrNotFound), 404, "not_found"},
		{fmt.Errorf("x: %w", queue.ErrKeyReused), 409, "key_reused"},
		{fmt.Errorf("x: %w", queue.ErrFull), 503, "queue_full"},
		{fmt.Errorf("x: %w", queue.ErrDiskFull), 507, "disk_full"},
		{fmt.Errorf("/secret/path: %w", queue.ErrDisk), 503, "disk"},
		{queue.ErrClosed, 503, "stopping"},
		{fmt.Errorf("/secret/path: %w", queue.ErrCorrupt), 500, "store"},
		{job.Succeeded.Check(job.Cancelled), 409, "ended"},
		{context.DeadlineExceeded, 503, "timeout"},
		{&job.FieldError{Field: "steps", Message: "m"}, 400, "invalid"},
		{&http.MaxBytesError{Limit: 5}, 413, "too_large"},
		{errors.New("open /secret/path: no"), 500, "internal"},
	} {
		r := refusalOf(test.err)
		if r.status != test.status || r.code != test.code || strings.Contains(r.message, "secret") {
			t.Errorf("%v: %+v", test.err, r)
		}
	}
}

// Prompts stay out of the log, whatever happens to the request.
func TestPromptsAreNotLogged(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	const secret = "a-very-private-prompt"
	a := newAgent(t, func(c *Config) {
		c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.Steering = func() *pool.Steering { panic(secret) }
	})
	a.generate(func(job.Job) string { return "failed" })
	a.ask("POST", "/api/v1/jobs", `{"prompt":"`+secret+`"}`)
	a.ask("POST", "/api/v1/jobs", `{"prompt":"`+secret+`"`)
	a.ask("POST", "/api/v1/personas/generate-sample-images?appearance="+secret, "")
	a.ask("POST", "/api/v1/personas/generate-sample-images?count=x&appearance="+secret, "")
	a.ask("POST", "/api/v1/devices/1/pause", "")
	if strings.Contains(log.String(), secret) {
		t.Errorf("log: %s", log.String())
	}
	if !strings.Contains(log.String(), "path=/api/v1/jobs") {
		t.Errorf("requests are logged at debug: %s", log.String())
	}
}
