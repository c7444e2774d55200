package server

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"muster/agent/queue"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
)

const txt2imgPath = "/sdapi/v1/txt2img"

type sdapiResponse struct {
	Images     []string        `json:"images"`
	Parameters sdapiParameters `json:"parameters"`
	Info       string          `json:"info"`
}

// basic is what clients of the sdapi send.
func basic(user, password string) []string {
	return []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}
}

// txt2img asks, and gives the answer with its info unpacked.
func (a *testAgent) txt2img(body string, headers ...string) (sdapiResponse, sdapiInfo) {
	a.t.Helper()
	r := a.ask("POST", txt2imgPath, body, headers...)
	var got sdapiResponse
	var info sdapiInfo
	r.into(a.t, &got)
	if err := json.Unmarshal([]byte(got.Info), &info); r.status != 200 || err != nil {
		a.t.Errorf("%.200s: %d %.300s, %v", body, r.status, r.body, err)
	}
	return got, info
}

// refusedAsSdapi fails unless an answer is an error in stable-diffusion-webui's form.
func (r answer) refusedAsSdapi(t *testing.T, name string, status int, kind, word string) {
	t.Helper()
	var got map[string]any
	r.into(t, &got)
	detail, _ := got["detail"].(string)
	_, hasErrors := got["errors"].(string)
	if r.status != status || got["error"] != kind || got["body"] != "" || !hasErrors || !strings.Contains(detail, word) {
		t.Errorf("%s: %d %.300s\nwant %d, %s, %q", name, r.status, r.body, status, kind, word)
	}
}

func TestTxt2img(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.generate(func(job.Job) string { return "" })
	got, info := a.txt2img(`{"prompt":"a fox","negative_prompt":"blurry","seed":70,"width":512,"height":768,"steps":9,"cfg_scale":4.5,"sampler_name":"Euler a",
		"batch_size":2,"n_iter":2,"override_settings":{"sd_model_checkpoint":"sketch.safetensors [31e35c80fc]"},"device_id":1,"force_task_id":"task(1)"}`, basic("anna", testToken)...)
	if len(got.Images) != 4 || len(info.AllSeeds) != 4 || len(info.AllPrompts) != 4 || len(info.AllNegativePrompts) != 4 || len(info.Infotexts) != 4 {
		t.Fatalf("%d images, %+v", len(got.Images), info)
	}
	for i, image := range got.Images {
		raw, err := base64.StdEncoding.DecodeString(image)
		if err != nil || !bytes.Equal(raw, picture(t, 8, uint8(i))) || info.AllSeeds[i] != 70+int64(i) || info.Muster.Images[i].DeviceID != 1 {
			t.Errorf("image %d: %d bytes, %v, %+v", i, len(raw), err, info)
		}
	}
	const want = "a fox\nNegative prompt: blurry\nSteps: 9, Sampler: Euler a, CFG scale: 4.5, Seed: 71, Size: 8x8, Model: sketch, Version: muster test"
	if info.Infotexts[1] != want || info.Prompt != "a fox" || info.NegativePrompt != "blurry" || info.Seed != 70 || info.Width != 8 || info.Height != 8 || info.SamplerName != "Euler a" || info.CFGScale != 4.5 ||
		info.Steps != 9 || info.BatchSize != 2 || info.ModelName != "sketch" || len(info.JobTimestamp) != 14 || info.Muster.Ignored != nil || info.Muster.Errors != nil {
		t.Errorf("%+v", info)
	}
	p := got.Parameters
	if p.Prompt != "a fox" || p.Seed != 70 || p.Width != 512 || p.Height != 768 || p.Steps != 9 || p.BatchSize != 2 || p.Batches != 2 || !p.SendImages || p.SaveImages || p.OverrideSettings["sd_model_checkpoint"] == nil || *p.ForceTaskID != "task(1)" {
		t.Errorf("%+v", p)
	}
	j, err := a.queue.Job(t.Context(), info.Muster.Images[0].JobID)
	if err != nil || j.Width != 512 || j.Height != 768 || j.Steps != 9 || j.Guidance != 4.5 || j.Sampler != "Euler a" || j.Model != "sketch" || j.PinnedTo == nil || *j.PinnedTo != 1 || j.ClientID != "sdapi anna" {
		t.Errorf("%+v, %v", j, err)
	}
}

func TestTxt2imgDefaults(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.generate(func(job.Job) string { return "" })
	for body, want := range map[string]struct {
		width, steps, count int
		sampler, model      string
		ignored             string
	}{
		`{"prompt":"x"}`: {512, 20, 1, "", "sketch", ""},
		`{"prompt":"x","seed":null,"width":null,"override_settings":null,"alwayson_scripts":null,"sampler_name":null}`: {512, 20, 1, "", "sketch", ""},
		`{"prompt":"x","width":"256","steps":"11","batch_size":2.0,"seed":"-1","enable_hr":"false"}`:                   {256, 11, 2, "", "sketch", ""},
		`{"prompt":"x","sampler_index":"Euler"}`:                                                                           {512, 20, 1, "Euler", "sketch", ""},
		`{"prompt":"x","sampler_index":3,"n_iter":3}`:                                                                      {512, 20, 3, "", "sketch", ""},
		`{"prompt":"x","sampler_name":"DPM++ 2M Karras"}`:                                                                  {512, 20, 1, "DPM++ 2M", "sketch", "scheduler"},
		`{"prompt":"x","sampler_name":"Some New One","scheduler":"Automatic"}`:                                             {512, 20, 1, "Some New One", "sketch", ""},
		`{"prompt":"x","sampler_name":"Automatic","scheduler":"karras"}`:                                                   {512, 20, 1, "", "sketch", "scheduler"},
		`{"prompt":"x","override_settings":{"sd_model_checkpoint":"SD15"},"seed":-1}`:                                      {512, 20, 1, "", "sd15", ""},
		`{"prompt":"x","override_settings":{"sd_model_checkpoint":"models/sd15.ckpt","other":[1]},"unknown":{"a":1}}`:      {512, 20, 1, "", "sd15", ""},
		`{"prompt":"x","override_settings":{"sd_model_checkpoint":"sketch (built-in sketch renderer, no AI model)"}}`:      {512, 20, 1, "", "sketch", ""},
		`{"prompt":"x","restore_faces":true,"tiling":true,"styles":["a"],"subseed_strength":0.3,"refiner_checkpoint":"r"}`: {512, 20, 1, "", "sketch", "restore_faces,tiling,subseed_strength,styles,refiner_checkpoint"},
		`{"prompt":"x","clip_skip":2,"distilled_cfg_scale":3.5,"override_settings":{"CLIP_stop_at_last_layers":2,"sd_vae":"v.pt"}}`: {512, 20, 1, "", "sketch",
			"clip_skip,override_settings.CLIP_stop_at_last_layers,override_settings.sd_vae,distilled_cfg_scale"},
		`{"prompt":"x","alwayson_scripts":{"ControlNet":{"args":[]},"ADetailer":{},"AnimateDiff":{"args":[{"enable":false}]},"controlnet":{"args":[{"enabled":false,"image":"x"}]},"Sampler":{"args":[20,"Euler"]}}}`: {512, 20, 1, "", "sketch", ""},
		`{"prompt":"x","script_name":"None","init_images":[],"enable_hr":false}`: {512, 20, 1, "", "sketch", ""},
	} {
		got, info := a.txt2img(body)
		if len(got.Images) != want.count || strings.Join(info.Muster.Ignored, ",") != want.ignored {
			t.Errorf("%s: %d images, ignored %v", body, len(got.Images), info.Muster.Ignored)
			continue
		}
		j, err := a.queue.Job(t.Context(), info.Muster.Images[0].JobID)
		if err != nil || j.Width != want.width || j.Steps != want.steps || j.Sampler != want.sampler || j.Model != want.model || j.ClientID != "sdapi" {
			t.Errorf("%s: %+v, %v", body, j, err)
		}
	}
}

func TestTxt2imgSendsNoImages(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.generate(func(job.Job) string { return "" })
	got, info := a.txt2img(`{"prompt":"x","send_images":false,"save_images":true}`)
	if got.Images == nil || len(got.Images) != 0 || len(info.AllSeeds) != 1 || !got.Parameters.SaveImages {
		t.Errorf("%+v, %+v", got, info)
	}
}

func TestBadTxt2img(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	long := strings.Repeat("x", job.MaxPrompt+1)
	for _, test := range []struct {
		body   string
		status int
		word   string
	}{
		{"", 422, "prompt: must not be empty"}, {`{}`, 422, "prompt"}, {`{"prompt":""}`, 422, "prompt"}, {`{"prompt":"` + long + `"}`, 422, "8193 bytes"}, {`{"prompt":"x","negative_prompt":"` + long + `"}`, 422, "8193 bytes"},
		{`{"prompt":["x"]}`, 422, "must be a string"}, {`{"prompt":"x","width":0}`, 422, "width: is 0; allowed is 64 to 4096"}, {`{"prompt":"x","width":-1}`, 422, "64 to 4096"}, {`{"prompt":"x","height":7}`, 422, "64 to 4096"},
		{`{"prompt":"x","width":4097}`, 422, "64 to 4096"}, {`{"prompt":"x","width":1e9}`, 422, "64 to 4096"}, {`{"prompt":"x","width":1e99}`, 422, "out of range"}, {`{"prompt":"x","width":"abc"}`, 422, "width: must be a whole number"}, {`{"prompt":"x","width":512.5}`, 422, "whole number"},
		{`{"prompt":"x","width":{}}`, 422, "not an object"}, {`{"prompt":"x","batch_size":0}`, 422, "batch_size: is 0"}, {`{"prompt":"x","batch_size":1000000}`, 422, "1000000 images; at most 16"}, {`{"prompt":"x","batch_size":9223372036854775807}`, 422, "batch_size"},
		{`{"prompt":"x","batch_size":8,"n_iter":3}`, 422, "times n_iter is 24 images; at most 16"}, {`{"prompt":"x","n_iter":1048576,"batch_size":1048576}`, 422, "at most 16"}, {`{"prompt":"x","steps":0}`, 422, "steps"}, {`{"prompt":"x","steps":201}`, 422, "1 to 200"},
		{`{"prompt":"x","cfg_scale":-1}`, 422, "cfg_scale"}, {`{"prompt":"x","cfg_scale":"NaN"}`, 422, "cfg_scale: must be a number"}, {`{"prompt":"x","seed":99999999999}`, 422, "seed"}, {`{"prompt":"x","seed":"x"}`, 422, "seed"}, {`{"prompt":"x","send_images":"maybe"}`, 422, "true or false"},
		{`{"prompt":"x","sampler_name":"` + strings.Repeat("s", 201) + `"}`, 422, "sampler_name"}, {`{"prompt":"x","force_task_id":"` + strings.Repeat("s", 201) + `"}`, 422, "force_task_id"}, {`{"prompt":"x","override_settings":[]}`, 422, "override_settings: must be an object"},
		{`{"prompt":"x","override_settings":{"sd_model_checkpoint":7}}`, 422, "override_settings.sd_model_checkpoint: must be a string"}, {`{"prompt":"x","override_settings":{"sd_model_checkpoint":"nope"}}`, 404, `Model not found: "nope"; there are sketch (built-in sketch renderer, no AI model), sd15`},
		{`{"prompt":"x","enable_hr":true,"hr_scale":2}`, 422, "hires fix is not here"}, {`{"prompt":"x","init_images":["` + strings.Repeat("A", 1000) + `"]}`, 422, "only made from text"}, {`{"prompt":"x","script_name":"X/Y/Z plot"}`, 422, "Script 'X/Y/Z plot' not found"},
		{`{"prompt":"x","alwayson_scripts":{"controlnet":{"args":[{"image":"AAAA","module":"canny"}]}}}`, 422, "always on script controlnet not found"}, {`{"prompt":"x","alwayson_scripts":{"ADetailer":{"args":[true,{"ad_model":"face_yolov8n.pt"}]}}}`, 422, "ADetailer not found"},
		{`{"prompt":"x","alwayson_scripts":{"Tiled Diffusion":{"args":{"enabled":true}}}}`, 422, "Tiled Diffusion not found"}, {`{"prompt":"x","alwayson_scripts":[]}`, 422, "must be an object"},
		{`{"prompt":"x","device_id":7}`, 422, "allowed are 0, 1"}, {`{"prompt":"x","device_id":1,"override_settings":{"sd_model_checkpoint":"sd15"}}`, 422, "no generator for the model"},
		{`prompt=x&steps=20`, 422, "not JSON"}, {`{"prompt":"x"`, 422, "ends in the middle"}, {`{"prompt":"x"}[]`, 422, "something follows"}, {`[1]`, 422, "not an array"}, {"{\"prompt\":\"\xff\"}", 422, "UTF-8"},
	} {
		a.ask("POST", txt2imgPath, test.body).refusedAsSdapi(t, fmt.Sprintf("%.90s", test.body), test.status, "HTTPException", test.word)
	}
	if n := len(a.queue.Active()); n != 0 {
		t.Errorf("%d jobs were accepted", n)
	}
	if p, _ := a.server.sdapiProgressOf(t.Context(), a.server.sdapi.views("")); p.Progress != 0 || p.State.JobCount != 0 {
		t.Errorf("in flight: %+v", p)
	}
}

func TestTxt2imgThatFails(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.generate(func(j job.Job) string {
		if j.Ordinal == 0 || j.Steps == 9 {
			return "out of memory"
		}
		return ""
	})
	got, info := a.txt2img(`{"prompt":"x","batch_size":3,"seed":5}`)
	if len(got.Images) != 2 || len(info.AllSeeds) != 2 || info.AllSeeds[0] != 6 || info.Seed != 6 || len(info.Muster.Errors) != 1 || info.Muster.Errors[0].Index != 0 || info.Muster.Errors[0].Message != "out of memory" {
		t.Errorf("some: %d images, %+v", len(got.Images), info)
	}
	a.ask("POST", txt2imgPath, `{"prompt":"x","steps":9}`).refusedAsSdapi(t, "all", 500, "RuntimeError", "no image could be made: out of memory")
}

func TestSdapiErrorsFromEverywhere(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for _, test := range []struct {
		name, method, path string
		headers            []string
		status             int
		word, challenge    string
	}{
		{"no password", "POST", txt2imgPath, []string{"Authorization", ""}, 401, "token", "Basic realm="},
		{"wrong password", "GET", "/sdapi/v1/options", basic("user", "x"), 401, "the token is wrong", "Basic realm="},
		{"an empty one, as SillyTavern sends", "GET", "/sdapi/v1/options", []string{"Authorization", "Basic "}, 401, "the token is wrong", "Basic realm="},
		{"other site", "POST", txt2imgPath, append(basic("user", testToken), "Origin", "http://evil.example"), 403, "Origin", ""},
		{"cached by a browser", "GET", "/sdapi/v1/options", append(basic("user", testToken), "Sec-Fetch-Site", "cross-site"), 403, "other sites", ""},
		{"wrong host", "GET", "/internal/ping", []string{"Host", "evil.example:8000"}, 403, "--allow-host", ""},
		{"method", "GET", txt2imgPath, nil, 405, "allowed are POST", ""},
		{"preflight", "OPTIONS", txt2imgPath, nil, 405, "allowed are POST", ""},
		{"img2img", "POST", "/sdapi/v1/img2img", nil, 400, "only made from text", ""},
		{"unknown", "POST", "/sdapi/v1/train/embedding", nil, 404, "Not Found", ""},
	} {
		r := a.ask(test.method, test.path, "", test.headers...)
		r.refusedAsSdapi(t, test.name, test.status, "HTTPException", test.word)
		if challenge := r.header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, test.challenge) || (challenge == "") != (test.challenge == "") {
			t.Errorf("%s: WWW-Authenticate %q", test.name, challenge)
		}
		for name := range r.header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: %s", test.name, name)
			}
		}
	}
}

func TestSdapiModelsAndOptions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := newAgentIn(t, dir, queue.Options{})
	a.generate(func(job.Job) string { return "" })
	checkpoint := func() (title string) {
		t.Helper()
		var options map[string]any
		r := a.ask("GET", "/sdapi/v1/options", "")
		r.into(t, &options)
		title, ok := options["sd_model_checkpoint"].(string)
		if r.status != 200 || !ok {
			t.Errorf("%d %s", r.status, r.body)
		}
		return title
	}
	modelOf := func(body string) string {
		t.Helper()
		_, info := a.txt2img(body)
		return info.ModelName
	}
	var models []sdapiModelEntry
	r := a.ask("GET", "/sdapi/v1/sd-models", "")
	r.into(t, &models)
	const sketch = "sketch (built-in sketch renderer, no AI model)"
	if r.status != 200 || len(models) != 2 || models[0].Title != sketch || models[1].Title != "sd15" || models[1].Name != "sd15" || models[1].Hash != nil || models[1].Filename != "sd15" {
		t.Errorf("%d %s", r.status, r.body)
	}
	if title := checkpoint(); title != sketch || modelOf(`{"prompt":"x"}`) != "sketch" {
		t.Errorf("at first: %q", title)
	}
	// As Open WebUI does: everything back, with another model.
	options := a.ask("GET", "/sdapi/v1/options", "").body
	r = a.ask("POST", "/sdapi/v1/options", strings.Replace(string(options), sketch, "sd15.safetensors [31e35c80fc]", 1))
	if r.status != 200 || strings.TrimSpace(string(r.body)) != "null" || checkpoint() != "sd15" || modelOf(`{"prompt":"x"}`) != "sd15" || modelOf(`{"prompt":"x","override_settings":{"sd_model_checkpoint":"`+sketch+`"}}`) != "sketch" {
		t.Errorf("chosen: %d %s, now %s", r.status, r.body, checkpoint())
	}
	if r := a.ask("POST", "/sdapi/v1/options", `{"CLIP_stop_at_last_layers":2,"sd_vae":"x","new":{}}`); r.status != 200 || checkpoint() != "sd15" {
		t.Errorf("others: %d %s", r.status, r.body)
	}
	a.ask("POST", "/sdapi/v1/options", `{"sd_model_checkpoint":"nope"}`).refusedAsSdapi(t, "unknown model", 404, "HTTPException", "Model not found")
	a.ask("POST", "/sdapi/v1/options", `{"sd_model_checkpoint":5}`).refusedAsSdapi(t, "a number", 422, "HTTPException", "must be a string")
	a.ask("POST", "/sdapi/v1/options", `sd_model_checkpoint=sd15`).refusedAsSdapi(t, "a form", 422, "HTTPException", "not JSON")
	// The other door has its own default, and what is not there any more gives way until it is.
	var other openAIResponse
	a.ask("POST", imagesPath, `{"prompt":"x"}`).into(t, &other)
	if j, err := a.queue.Job(t.Context(), other.Data[0].JobID); err != nil || j.Model != "sketch" {
		t.Errorf("at the other door: %+v, %v", j, err)
	}
	whole := a.nowCapacity()
	a.set(func() { a.capacity.Models = whole.Models[:1] })
	if title := checkpoint(); title != sketch {
		t.Errorf("without it: %q", title)
	}
	a.set(func() { a.capacity = wire.Capacity{} })
	if title := checkpoint(); title != "" {
		t.Errorf("when nothing generates: %q", title)
	}
	a.ask("POST", txt2imgPath, `{"prompt":"x"}`).refusedAsSdapi(t, "when nothing generates", 503, "RuntimeError", "no backend")
	a.set(func() { a.capacity = whole })
	if title := checkpoint(); title != "sd15" {
		t.Errorf("again: %q", title)
	}
}

func TestSdapiChoiceSurvivesTheAgent(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	if r := a.ask("POST", "/sdapi/v1/options", `{"sd_model_checkpoint":"sd15"}`); r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	config := a.server.config
	again, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	if model, err := again.sdapiChoose(t.Context(), ""); err != nil || model != "sd15" {
		t.Errorf("%q, %v", model, err)
	}
}

// Everything that the programs ask for while they connect is answered, in the kind of JSON that they take apart.
func TestSdapiProbes(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for path, want := range map[string]string{
		"upscalers": `[]`, "latent-upscale-modes": `[]`, "sd-vae": `[]`, "sd-modules": `[]`, "loras": `[]`, "hypernetworks": `[]`, "prompt-styles": `[]`, "face-restorers": `[]`, "realesrgan-models": `[]`,
		"extensions": `[]`, "script-info": `[]`, "scripts": `{"img2img":[],"txt2img":[]}`, "embeddings": `{"loaded":{},"skipped":{}}`, "cmd-flags": `{"api":true,"nowebui":true}`,
		"schedulers": `[{"name":"automatic","label":"Automatic","aliases":null,"default_rho":-1,"need_inner_model":false}]`,
		"memory":     fmt.Sprintf(`{"cuda":{"system":{"free":%d,"used":%d,"total":%d}},"ram":{"error":"unavailable"}}`, int64(23*gpu.GiB), int64(9*gpu.GiB), int64(32*gpu.GiB)),
	} {
		if r := a.ask("GET", "/sdapi/v1/"+path, ""); r.status != 200 || strings.TrimSpace(string(r.body)) != want {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	var samplers []sdapiSamplerEntry
	a.ask("GET", "/sdapi/v1/samplers", "").into(t, &samplers)
	if len(samplers) < 5 || samplers[0].Name != "Euler a" || samplers[0].Aliases == nil {
		t.Errorf("%+v", samplers)
	}
	a.set(func() {
		a.snapshot.Host.MemoryUsedBytes, a.snapshot.Host.MemoryTotalBytes = p(uint64(3)), p(uint64(10))
	})
	if r := a.ask("GET", "/sdapi/v1/memory", ""); !strings.Contains(string(r.body), `"ram":{"free":7,"used":3,"total":10}`) {
		t.Errorf("%s", r.body)
	}
	for _, ask := range [][2]string{{"GET", "/internal/ping"}, {"GET", "/queue/status"}, {"POST", "/sdapi/v1/refresh-checkpoints"}, {"POST", "/sdapi/v1/interrupt"}, {"POST", "/sdapi/v1/skip"}} {
		if r := a.ask(ask[0], ask[1], ""); r.status != 200 || !json.Valid(r.body) {
			t.Errorf("%s: %d %s", ask, r.status, r.body)
		}
	}
}

// A program that has no field for a key has it in its address.
func TestKeyInThePath(t *testing.T) {
	t.Parallel()
	a := newAgent(t, func(c *Config) { c.Token = "a token/with +odd ones" })
	a.generate(func(job.Job) string { return "" })
	const key = "/key/a%20token%2Fwith%20+odd%20ones"
	for _, ask := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", key + "/sdapi/v1/options", "", 200}, {"GET", key + "/queue/status", "", 200}, {"POST", key + txt2imgPath, `{"prompt":"x"}`, 200}, {"GET", key + "/v1/models", "", 200}, {"GET", key + "/v1/models/sd15", "", 200},
		{"POST", key + imagesPath, `{"prompt":"x"}`, 200}, {"GET", key + "/v1/models/nope", "", 404},
		{"GET", "/key/wrong/sdapi/v1/options", "", 401}, {"GET", "/key//sdapi/v1/options", "", 401}, {"GET", "/key/sdapi/v1/options", "", 401}, {"GET", key + "/api/v1/snapshot", "", 404}, {"POST", key + "/api/v1/jobs", `{"prompt":"x"}`, 401},
		{"GET", key + "/", "", 404}, {"GET", key, "", 404}, {"GET", key + key + "/v1/models", "", 404},
	} {
		if r := a.send(ask.method, ask.path, ask.body); r.status != ask.status {
			t.Errorf("%s %s: %d %.200s, want %d", ask.method, ask.path, r.status, r.body, ask.status)
		}
	}
	// An empty one beside it does no harm; an Origin still does.
	if r := a.send("GET", key+"/sdapi/v1/options", "", "Authorization", "Basic "); r.status != 200 {
		t.Errorf("beside an empty one: %d", r.status)
	}
	if r := a.send("GET", key+"/sdapi/v1/options", "", "Origin", "http://evil.example"); r.status != 403 {
		t.Errorf("from another site: %d", r.status)
	}
}

// No writing of such an address shows the key in a log or a redirect.
func TestKeyInThePathIsShownNowhere(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	a := newAgent(t, func(c *Config) {
		c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	for path, status := range map[string]int{
		"//key/TOKEN/sdapi/v1/options": 404, "/./key/TOKEN/sdapi/v1/options": 404, "/key%2FTOKEN/sdapi/v1/options": 404, "/KEY/TOKEN/sdapi/v1/options": 404, "/x/../key/TOKEN/..": 404,
		"/key/TOKEN/./sdapi/v1/options": 404, "/key/TOKEN//sdapi/v1/options": 200, "/key/TOKEN/sdapi/v1/options/": 404,
	} {
		r := a.send("GET", strings.Replace(path, "TOKEN", testToken, 1), "")
		if r.status != status || strings.Contains(fmt.Sprint(r.header), testToken) || strings.Contains(string(r.body), testToken) {
			t.Errorf("%s: %d %v %.300s, want %d", path, r.status, r.header, r.body, status)
		}
	}
	if text := log.String(); !strings.Contains(text, "path=/key/") || strings.Contains(text, testToken) {
		t.Errorf("the log: %s", text)
	}
}

// The address that the handler goes on with, and that logs show, holds the key nowhere.
func TestKeyInThePathIsTakenOut(t *testing.T) {
	t.Parallel()
	for asked, want := range map[string]string{
		"/key/secret/sdapi/v1/progress?skip_current_image=true": "/sdapi/v1/progress?skip_current_image=true", "/key/secret/api/v1/jobs": "/key/", "/key/secret": "/key/", "/key/secret/": "/key/",
		"/key/secret%2Fpart/v1/models/a%20b": "/v1/models/a%20b", "/sdapi/v1/options": "/sdapi/v1/options",
		"/key/secret//sdapi/v1/options": "/sdapi/v1/options", "/key/secret///sdapi//v1/options": "/sdapi/v1/options", "/v1/models/key": "/v1/models/key", "/monkey/x": "/monkey/x",
		"//key/secret/sdapi/v1/options": "/key/", "/./key/secret/sdapi/v1/options": "/key/", "/x/../key/secret/v1/models": "/key/", "/x/../key/secret/../../y": "/key/", "/../key/secret/": "/key/",
		"/key%2Fsecret/sdapi/v1/options": "/key/", "/%6bey/secret/v1/models": "/key/", "/key%252Fsecret/v1/models": "/key/", "/KEY/secret/v1/models": "/key/", "/Key": "/key/", "/key": "/key/",
		"/key/secret/../key/secret/v1/models": "/key/", "//key%2fsecret": "/key/",
	} {
		var seen *http.Request
		keyInPath(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r })).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", asked, nil))
		if seen.URL.String() != want || seen.RequestURI != want || strings.HasPrefix(seen.Header.Get("Authorization"), "Bearer secret") != (want != "/key/" && strings.Contains(asked, "secret")) {
			t.Errorf("%s: %s, %s, %v", asked, seen.URL, seen.RequestURI, seen.Header)
		}
	}
}
