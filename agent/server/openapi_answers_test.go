package server

import (
	"context"
	"encoding/base64"
	"io/fs"
	"strings"
	"testing"
	"time"

	"muster/agent/images"
	"muster/agent/queue"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/wire"
)

// fullAgent is an agent of which every route has something to say.
func fullAgent(t *testing.T) *testAgent {
	t.Helper()
	_, library, _ := withLibrary(t, map[string][]byte{"sd15.safetensors": tinyModel(768), "own.safetensors": tinyModel(2048), "third.safetensors": tinyModel(1024), "broken.gguf": []byte("no model")})
	inventory, snapshot, report := everything()
	a := newAgent(t, func(c *Config) {
		c.Library = library
		c.Report = func() *gpu.Report { return report }
		c.PCIeThroughput = func(context.Context, gpu.Ref) (gpu.PCIeThroughput, error) { return gpu.PCIeThroughput{}, nil }
		c.Query = func(HistoryQuery) (HistorySeries, error) {
			return HistorySeries{Start: time.Unix(1700000000, 0), Step: time.Second, Resolution: "full", Min: wire.Column{1}, Mean: wire.Column{2}, Max: wire.Column{3}}, nil
		}
		c.LoadModel = func(context.Context, string, gpu.Ref) error { return nil }
		c.Workflows = Workflows{
			List: func() []wire.Workflow { return []wire.Workflow{{Name: "mine", Slots: []string{"prompt"}}} },
			Import: func(_ context.Context, name string, _ []byte, _ bool) (wire.Workflow, error) {
				return wire.Workflow{Name: name, Slots: []string{"prompt"}}, nil
			},
			Remove: func(name string) error {
				if name != "mine" {
					return fs.ErrNotExist
				}
				return nil
			},
		}
	})
	a.set(func() {
		a.inventory, a.snapshot = inventory, snapshot
		a.capacity.Generators = []wire.Generator{{ID: "comfyui x", Kind: "comfyui", Attached: true, State: wire.GeneratorUnreachable, Problem: "away", Models: 1, Seen: p(later()), RetryAt: p(later())}}
		a.capacity.Loads = []model.Load{{Model: "sd15", Device: 1, State: model.LoadFailed, Asked: later(), Words: "it died"}}
		a.capacity.Models = append(a.capacity.Models, wire.Model{Name: "dreams", Away: "comfyui x"})
	})
	return a
}

// What the running server answers is what its description says, well and ill, for every operation that answers at once.
func TestAnswersAreAsDescribed(t *testing.T) {
	t.Parallel()
	a := fullAgent(t)
	d := describedBy(t, a)
	ask := func(method, target, body string, headers ...string) answer {
		t.Helper()
		r := a.ask(method, target, body, headers...)
		d.fits(method, target, r)
		return r
	}
	_, code, _ := strings.Cut(a.server.NewLink(), "#pair=")
	d.fits("POST", "/api/v1/session", a.send("POST", "/api/v1/session", `{"code":"`+code+`"}`, "Origin", "http://"+testAddr))
	askedImages(t, a, ask)
	const appearance = `{"appearance":"tall man with a grey beard","count":2,"resolution":"256x256"}`
	for _, line := range []string{
		"GET /healthz", "GET /readyz", "GET /metrics", "GET /api/v1/openapi.json", "GET /api/v1/session", "DELETE /api/v1/session", "POST /api/v1/session/link", "POST /api/v1/session {}",
		"GET /api/v1/snapshot", "GET /api/v1/inventory", "GET /api/v1/details", "GET /api/v1/history?device=0&metric=power_watts", "GET /api/v1/history", "GET /api/v1/events",
		"GET /api/v1/devices/least-loaded", "GET /api/v1/devices/by-load", "GET /api/v1/devices/0/pcie-throughput", "GET /api/v1/devices/99/pcie-throughput",
		"POST /api/v1/devices/0/pause", `POST /api/v1/devices/1/drain {"for_s":60}`, "POST /api/v1/devices/GPU-1/reserve", "POST /api/v1/devices/0/resume", "POST /api/v1/devices/77/pause",
		"GET /api/v1/devices/1/control", `PUT /api/v1/devices/1/control {"max_celsius":80,"hours":"22:00-08:00"}`, `PATCH /api/v1/devices/1/control {"yield":true,"until":null}`, `PUT /api/v1/devices/1/control {"mode":"odd"}`,
		"GET /api/v1/pool", `PUT /api/v1/pool {"max_watts":900}`, "GET /api/v1/generators",
		"GET /api/v1/workflows", "PUT /api/v1/workflows/mine {}", "DELETE /api/v1/workflows/mine", "DELETE /api/v1/workflows/other",
		"GET /api/v1/models", "GET /api/v1/models/recommendations", "POST /api/v1/models/own/disable", "POST /api/v1/models/own/enable",
		`POST /api/v1/models/sd15/load {"device_id":0}`, `POST /api/v1/models/sd15/load {}`, "POST /api/v1/models/nothing/enable",
		"GET /api/v1/setup/ai-models/status", "GET /api/v1/setup/models/status", "GET /api/v1/setup/ai-models/recommendations",
		`POST /api/v1/setup/ai-models/install {"model_names":["sdxl-1.0"]}`, `POST /api/v1/setup/ai-models/install {}`,
		`POST /api/v1/setup/ai-models/enable {"model_name":"own"}`, `POST /api/v1/setup/ai-models/uninstall {"model_name":"own"}`,
		"GET /api/v1/system/gpu/temperature", "GET /api/v1/system/gpu/status", "GET /api/v1/system/gpu/temperature/max",
		"GET /api/v1/system/gpu/temperature/history", "GET /api/v1/system/gpu/temperature/history?device_id=0", "GET /api/v1/system/gpu/temperature/history?device_id=9",
		"POST /api/v1/personas/generate-sample-images " + appearance, "POST /api/v1/personas/generate-sample-images {}",
		"POST /api/v1/personas/random", `POST /api/v1/personas/random {"generate_images":true,"count":1,"resolution":"256x256"}`,
		"GET /v1/models", "GET /v1/models/sketch", "GET /v1/models/nothing", "POST /v1/images/edits x", "POST /v1/images/variations x", "POST /v1/images/generations {}",
		"GET /sdapi/v1/progress", "POST /sdapi/v1/interrupt", "POST /sdapi/v1/skip {}", "GET /sdapi/v1/options", `POST /sdapi/v1/options {"sd_model_checkpoint":"sketch"}`,
		"GET /sdapi/v1/sd-models", "POST /sdapi/v1/refresh-checkpoints", "GET /sdapi/v1/samplers", "GET /sdapi/v1/schedulers", "GET /sdapi/v1/memory", "GET /sdapi/v1/cmd-flags",
		"GET /sdapi/v1/scripts", "GET /sdapi/v1/script-info", "GET /sdapi/v1/embeddings", "GET /internal/ping", `POST /internal/progress {"id_task":"x"}`, "POST /internal/progress {}",
		"GET " + gradioStatus, `POST /sdapi/v1/txt2img {"steps":-1}`,
	} {
		call, body, _ := strings.Cut(line, " {")
		if body != "" {
			body = "{" + body
		}
		method, target, _ := strings.Cut(call, " ")
		target, other, _ := strings.Cut(target, " ")
		ask(method, target, body+other)
	}
	for _, name := range sdapiNothing {
		ask("GET", "/sdapi/v1/"+name, "")
	}
	for _, name := range sdapiFromImages {
		ask("POST", "/sdapi/v1/"+name, "{}")
	}
	askedInstalls(a, ask)
	askedWithoutDevices(a, ask)
	for path, item := range d.doc.Paths {
		for method, op := range item {
			if name := strings.ToUpper(method) + " " + path; !d.answered[name] && len(op.Responses) > 1 && !answeredElsewhere[name] && !strings.HasPrefix(op.Summary, "Not supported") {
				t.Errorf("no good answer to %s was looked at", name)
			}
		}
	}
}

// answeredElsewhere are the operations whose good answers have no one body.
var answeredElsewhere = map[string]bool{"GET /api/v1/events": true} // a socket

// askedImages has images made at every door, and looks at all that tells of them.
func askedImages(t *testing.T, a *testAgent, ask func(method, target, body string, headers ...string) answer) {
	t.Helper()
	waits := a.submitJobs(1)[0]
	started, err := a.queue.Start(t.Context(), waits.ID, waits.Attempt, queue.Placement{Device: 0, DeviceKey: "x", Backend: "builtin"})
	if err != nil {
		t.Fatal(err)
	}
	a.server.config.Previews.Put(started.ID, images.Preview{Data: picture(t, 8, 1), Type: "image/png"})
	ask("GET", "/api/v1/jobs/"+started.ID+"/preview", "")
	a.generate(func(j job.Job) string {
		if j.Prompt == "fails" {
			return "it failed"
		}
		return ""
	})
	first := ask("POST", "/api/v1/jobs", `{"prompt":"x","model":"sketch","count":2,"device_id":0}`, "Idempotency-Key", "k")
	ask("POST", "/api/v1/jobs", `{"prompt":"x","model":"sketch","count":2,"device_id":0}`, "Idempotency-Key", "k")
	ask("POST", "/api/v1/jobs", `{"prompt":"x","size":3}`)
	var set accepted
	first.into(t, &set)
	made := ask("POST", "/v1/images/generations", `{"prompt":"x","n":2,"response_format":"b64_json","model":"sketch"}`)
	var pictures struct {
		Data []struct {
			B64 string `json:"b64_json"`
			Job string `json:"job_id"`
		}
	}
	made.into(t, &pictures)
	if raw, err := base64.StdEncoding.DecodeString(pictures.Data[0].B64); err != nil || len(raw) == 0 {
		t.Fatal("no picture")
	}
	var one job.Job
	ask("GET", "/api/v1/jobs/"+pictures.Data[0].Job, "").into(t, &one)
	ask("GET", "/api/v1/images/"+one.ImageID, "")
	ask("GET", "/api/v1/images/"+one.ImageID+"?size=thumb", "")
	var linked struct{ Data []struct{ URL string } }
	ask("POST", "/v1/images/generations", `{"prompt":"x","response_format":"url","model":"sketch"}`).into(t, &linked)
	_, link, _ := strings.Cut(linked.Data[0].URL, testAddr)
	ask("GET", link, "")
	ask("POST", "/v1/images/generations", `{"prompt":"fails","model":"sketch"}`)
	ask("POST", "/v1/images/generations", `{"prompt":"x","model":"sketch","stream":true}`)
	ask("POST", "/sdapi/v1/txt2img", `{"prompt":"x","batch_size":2,"steps":4,"override_settings":{"sd_model_checkpoint":"sketch"},"force_task_id":"t"}`)
	for _, target := range []string{"/api/v1/jobs", "/api/v1/jobs?limit=1&order=newest", "/api/v1/jobs?set_id=" + set.SetID, "/api/v1/jobs/export", "/api/v1/jobs/nothing", "/api/v1/sets/" + set.SetID, "/api/v1/sets/nothing", "/api/v1/jobs?state=odd"} {
		ask("GET", target, "")
	}
	ask("DELETE", "/api/v1/sets/"+set.SetID, "")
	ask("DELETE", "/api/v1/jobs/"+started.ID, "")
	ask("DELETE", "/api/v1/jobs/"+one.ID, "")
}

// askedInstalls installs, ends and removes models.
func askedInstalls(a *testAgent, ask func(method, target, body string, headers ...string) answer) {
	var install model.Install
	ask("POST", "/api/v1/models/install", `{"url":"https://files.test/x.gguf","name":"new","device_id":1}`).into(a.t, &install)
	ask("POST", "/api/v1/models/install", `{"url":"ftp://files.test/x.gguf"}`)
	ask("GET", "/api/v1/models/installs", "")
	ask("DELETE", "/api/v1/models/installs/"+install.ID, "")
	ask("POST", "/api/v1/models/installs/"+install.ID+"/again", "")
	ask("POST", "/api/v1/models/installs/nothing/again", "")
	ask("DELETE", "/api/v1/models/third", "")
	ask("DELETE", "/api/v1/models/third", "")
}

// askedWithoutDevices looks at what is told of a machine without GPUs, and of one of which nothing is known.
func askedWithoutDevices(a *testAgent, ask func(method, target, body string, headers ...string) answer) {
	for _, inventory := range []*gpu.Inventory{{Devices: []gpu.Device{}}, {Devices: []gpu.Device{{ID: "x", Error: "it can't be read"}}}, nil} {
		a.set(func() {
			a.inventory, a.snapshot = inventory, &gpu.Snapshot{GPUs: []gpu.Reading{}}
			if inventory == nil {
				a.snapshot, a.capacity = nil, wire.Capacity{}
			}
		})
		for _, target := range []string{"/api/v1/setup/ai-models/status", "/api/v1/system/gpu/temperature", "/api/v1/system/gpu/status", "/api/v1/system/gpu/temperature/history",
			"/api/v1/system/gpu/temperature/max", "/api/v1/snapshot", "/api/v1/inventory", "/api/v1/devices/least-loaded", "/api/v1/devices/by-load", "/api/v1/models", "/api/v1/generators", "/api/v1/pool", "/sdapi/v1/memory", "/v1/models"} {
			ask("GET", target, "")
		}
		ask("POST", "/api/v1/jobs", `{"prompt":"x"}`)
	}
}
