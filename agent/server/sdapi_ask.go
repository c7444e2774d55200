package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
)

// sdapiAsk is a request to POST /sdapi/v1/txt2img.
type sdapiAsk struct {
	prompt, negative, user string
	model                  string // by any of its names; "" for the one that is chosen in the options
	sampler                string
	width, height, steps   int
	guidance               float64
	seed                   int64 // -1 for one that is drawn
	batchSize, batches     int
	device                 *gpu.Ref // nil for any
	sendImages, saveImages bool
	task                   string
	ignored                []string // what was asked for and is not here, though the images are what they should be without
}

const (
	maxTaskID     = 200 // bytes
	maxBatchField = 1 << 20
)

// Names of what is asked for, by those of a command.
var sdapiNames = map[string]string{"guidance": "cfg_scale", "count": "batch_size", "sampler": "sampler_name", "model": "override_settings.sd_model_checkpoint", "client_id": "user"}

// parseSdapi reads the body of a request. Errors are *refusal. Defaults are those of stable-diffusion-webui's page.
func parseSdapi(body []byte) (sdapiAsk, error) {
	f, err := parseFields(body, true)
	if err != nil {
		return sdapiAsk{}, err
	}
	if err := sdapiRefused(f); err != nil {
		return sdapiAsk{}, err
	}
	overrides := f.object("override_settings")
	a := sdapiAsk{
		prompt: f.text("prompt"), negative: f.text("negative_prompt"), user: f.text("user"), model: overrides.text("sd_model_checkpoint"),
		width: f.within("width", job.DefaultSide, job.MinSide, job.MaxSide), height: f.within("height", job.DefaultSide, job.MinSide, job.MaxSide),
		steps: f.within("steps", job.DefaultSteps, 1, job.MaxSteps), guidance: job.DefaultGuidance, seed: -1,
		batchSize: f.within("batch_size", 1, 1, maxBatchField), batches: f.within("n_iter", 1, 1, maxBatchField),
		device: f.device(), sendImages: f.flag("send_images", true), saveImages: f.flag("save_images", false), task: f.text("force_task_id"),
	}
	if n := f.number("cfg_scale"); n != nil {
		a.guidance = *n
	}
	if n := f.whole("seed"); n != nil {
		a.seed = *n
	}
	if a.seed < -1 {
		a.seed = -1
	}
	if n := a.batchSize * a.batches; n > job.MaxCount {
		f.fail("batch_size", "times n_iter is %d images; at most %d are allowed in one request", n, job.MaxCount)
	}
	if len(a.task) > maxTaskID {
		f.fail("force_task_id", "is %d bytes long; at most %d are allowed", len(a.task), maxTaskID)
	}
	a.sampler, a.ignored = sdapiSampler(f)
	a.ignored = append(a.ignored, sdapiIgnored(f, overrides)...)
	if f.err == nil {
		f.err = overrides.err
	}
	return a, f.err
}

// spec makes a command of it; model is the agent's name of the model that is asked for.
func (a sdapiAsk) spec(model string) (job.Spec, error) {
	spec := job.Spec{
		Prompt: a.prompt, NegativePrompt: a.negative, Model: model, Sampler: a.sampler, Width: a.width, Height: a.height, Steps: a.steps,
		Guidance: &a.guidance, Count: a.batchSize * a.batches, DeviceID: a.device,
	}
	if a.seed >= 0 {
		spec.Seed = &a.seed
	}
	return spec, renamed(spec.Validate(), sdapiNames)
}

// sdapiRefused refuses what would make other images than those that are asked for, and nobody would be told.
func sdapiRefused(f *fields) error {
	notHere := func(name, what string) error {
		return &refusal{status: http.StatusUnprocessableEntity, code: "unsupported", field: name, message: what}
	}
	switch script := f.text("script_name"); {
	case f.flag("enable_hr", false):
		return notHere("enable_hr", "hires fix is not here: ask for the size that you want, with enable_hr false")
	case len(f.list("init_images")) > 0:
		return notHere("init_images", "images are only made from text here")
	case script != "" && !strings.EqualFold(script, "none"):
		return notHere("script_name", fmt.Sprintf("Script '%s' not found", cut(script)))
	}
	scripts := f.object("alwayson_scripts")
	for name := range scripts.values {
		if sdapiScript(name, scripts.raw(name)) {
			return notHere("alwayson_scripts", fmt.Sprintf("always on script %s not found", cut(name)))
		}
	}
	if f.err == nil {
		f.err = scripts.err
	}
	return f.err
}

// sdapiHarmless are scripts that say once more what other fields say, in lower case.
var sdapiHarmless = []string{"api payload", "comments", "extra options", "never oom integrated", "sampler", "seed"}

// sdapiScript says whether a script is asked to change the images: it has arguments, and is not switched off by them.
func sdapiScript(name string, value json.RawMessage) bool {
	if slices.Contains(sdapiHarmless, strings.ToLower(name)) {
		return false
	}
	var script struct {
		Args json.RawMessage `json:"args"`
	}
	if json.Unmarshal(value, &script) != nil {
		return false
	}
	var list []json.RawMessage
	if json.Unmarshal(script.Args, &list) != nil { // some take an object by name
		list = nil
		if len(script.Args) > 0 && script.Args[0] == '{' {
			list = []json.RawMessage{script.Args}
		}
	}
	return slices.ContainsFunc(list, func(arg json.RawMessage) bool { return sdapiSwitchedOn(arg) })
}

// sdapiSwitchedOn says whether an argument of a script asks for something.
func sdapiSwitchedOn(arg json.RawMessage) bool {
	switch string(arg) {
	case "false", "null", `""`, "{}", `"None"`, "0":
		return false
	}
	var unit struct {
		Enabled *bool   `json:"enabled"` // ControlNet
		Enable  *bool   `json:"enable"`  // AnimateDiff
		Model   *string `json:"ad_model"`
	}
	if arg[0] != '{' || json.Unmarshal(arg, &unit) != nil {
		return true
	}
	off := unit.Enabled != nil && !*unit.Enabled || unit.Enable != nil && !*unit.Enable || unit.Model != nil && *unit.Model == "None"
	return !off
}

// sdapiScheduleEndings are ends of older samplers' names, which name a schedule of noise.
var sdapiScheduleEndings = []string{" Karras", " Exponential", " SGM Uniform", " Polyexponential"}

// sdapiSampler gives the sampler's name; a schedule beside it is left to the generator.
func sdapiSampler(f *fields) (name string, ignored []string) {
	name = strings.TrimSpace(f.text("sampler_name"))
	if value := f.raw("sampler_index"); name == "" && value != nil && value[0] == '"' { // it was a number once
		name = strings.TrimSpace(f.text("sampler_index"))
	}
	switch strings.ToLower(name) {
	case "automatic", "default", "none":
		name = ""
	}
	for _, schedule := range sdapiScheduleEndings {
		if short, ok := strings.CutSuffix(name, schedule); ok && short != "" {
			return short, []string{"scheduler"}
		}
	}
	if schedule := f.text("scheduler"); schedule != "" && !strings.EqualFold(schedule, "automatic") {
		return name, []string{"scheduler"}
	}
	return name, nil
}

// sdapiIgnored lists what is asked for and is not here.
func sdapiIgnored(f, overrides *fields) (names []string) {
	ask := func(name string, asked bool) {
		if asked {
			names = append(names, name)
		}
	}
	some := func(n *float64) bool { return n != nil && *n > 0 }
	chosen := func(name string) bool {
		return name != "" && !strings.EqualFold(name, "none") && !strings.EqualFold(name, "automatic")
	}
	ask("restore_faces", f.flag("restore_faces", false))
	ask("tiling", f.flag("tiling", false))
	ask("subseed_strength", some(f.number("subseed_strength")))
	ask("styles", len(f.list("styles")) > 0)
	ask("refiner_checkpoint", chosen(f.text("refiner_checkpoint")))
	ask("distilled_cfg_scale", some(f.number("distilled_cfg_scale")))
	ask("clip_skip", f.number("clip_skip") != nil && *f.number("clip_skip") > 1)
	ask("override_settings.CLIP_stop_at_last_layers", overrides.number("CLIP_stop_at_last_layers") != nil && *overrides.number("CLIP_stop_at_last_layers") > 1)
	ask("override_settings.sd_vae", chosen(overrides.text("sd_vae")))
	return names
}

// sdapiModel gives the model of a name: that, with or without the ending of a file, or a title with the short hash behind it.
func sdapiModel(name string, capacity wire.Capacity) (string, bool) {
	known := func(name string) (string, bool) {
		for _, same := range []func(a, b string) bool{func(a, b string) bool { return a == b }, strings.EqualFold} {
			for _, m := range capacity.Models {
				if same(m.Name, name) || same(sdapiTitle(m), name) {
					return m.Name, true
				}
			}
		}
		return "", false
	}
	if found, ok := known(name); ok {
		return found, true
	}
	if at := strings.LastIndex(name, " ["); at > 0 && strings.HasSuffix(name, "]") {
		name = name[:at]
	}
	for _, ending := range []string{".safetensors", ".ckpt", ".gguf"} {
		name = strings.TrimSuffix(name, ending)
	}
	if found, ok := known(name); ok {
		return found, true
	}
	// A file in a folder: the agent writes the folder before the name only where that is needed.
	folder, file, ok := strings.Cut(strings.ReplaceAll(name, `\`, "/"), "/")
	if !ok {
		return "", false
	}
	if found, ok := known(folder + ": " + file); ok {
		return found, true
	}
	return known(file[strings.LastIndex(file, "/")+1:])
}

func noSdapiModel(field, name string, capacity wire.Capacity) error {
	titles := make([]string, len(capacity.Models))
	for i, m := range capacity.Models {
		titles[i] = sdapiTitle(m)
	}
	return &refusal{status: http.StatusNotFound, code: "model_not_found", field: field,
		message: fmt.Sprintf("Model not found: %q; there are %s", cut(name), strings.Join(titles, ", "))}
}

// sdapiTitle is how a model is listed and chosen: its name, and where that is no file's what it is.
func sdapiTitle(m wire.Model) string {
	if m.Title == "" || m.Title == m.Name {
		return m.Name
	}
	return m.Name + " (" + m.Title + ")"
}
