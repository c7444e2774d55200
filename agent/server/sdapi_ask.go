package server

import (
	"strings"

	"muster/shared/gpu"
	"muster/shared/job"
)

// sdapiAsk is a request to POST /sdapi/v1/txt2img.
type sdapiAsk struct {
	prompt, negative, user string
	model                  string   // by any of its names; "" for the one that is chosen in the options
	sampler, schedule      string   // by names of any program; "" for the generator's own
	width, height, steps   int      // 0 for what suits the model
	guidance, distilled    *float64 // nil for the same; distilled is Forge's, of models that have one of their own
	seed                   int64    // -1 for one that is drawn
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
var sdapiNames = map[string]string{
	"guidance": "cfg_scale", "count": "batch_size", "sampler": "sampler_name", "model": "override_settings.sd_model_checkpoint", "client_id": "user",
}

// parseSdapi reads the body of a request. Errors are *refusal.
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
		width: f.within("width", 0, job.MinSide, job.MaxSide), height: f.within("height", 0, job.MinSide, job.MaxSide),
		steps: f.within("steps", 0, 1, job.MaxSteps), guidance: f.number("cfg_scale"), distilled: f.number("distilled_cfg_scale"), seed: -1,
		batchSize: f.within("batch_size", 1, 1, maxBatchField), batches: f.within("n_iter", 1, 1, maxBatchField),
		device: f.device(), sendImages: f.flag("send_images", true), saveImages: f.flag("save_images", false), task: f.text("force_task_id"),
	}
	if a.distilled != nil && (*a.distilled <= 0 || *a.distilled > job.MaxGuidance) {
		a.distilled = nil
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
	a.sampler, a.schedule = sdapiSampler(f)
	a.ignored = sdapiIgnored(f, overrides)
	if f.err == nil {
		f.err = overrides.err
	}
	return a, f.err
}

// spec makes a command of it; model is the agent's name of the model that is asked for.
func (a sdapiAsk) spec(model string) (job.Spec, error) {
	spec := job.Spec{
		Prompt: a.prompt, NegativePrompt: a.negative, Model: model, Sampler: a.wanted(), Width: a.width, Height: a.height, Steps: a.steps,
		Guidance: a.guidance, Count: a.batchSize * a.batches, DeviceID: a.device,
	}
	if a.seed >= 0 {
		spec.Seed = &a.seed
	}
	return spec, renamed(spec.WithDefaults().Validate(), sdapiNames)
}

// sdapiScheduleEndings are ends of older samplers' names, which name a schedule of noise.
var sdapiScheduleEndings = []string{" Karras", " Exponential", " SGM Uniform", " Polyexponential"}

// sdapiSampler gives the sampler's name, and the schedule of noise that was asked for beside or behind it; both "" for none.
func sdapiSampler(f *fields) (name, schedule string) {
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
			return short, strings.TrimSpace(schedule)
		}
	}
	if schedule = strings.TrimSpace(f.text("scheduler")); strings.EqualFold(schedule, "automatic") {
		schedule = ""
	}
	return name, schedule
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
	ask("clip_skip", f.number("clip_skip") != nil && *f.number("clip_skip") > 1)
	ask("override_settings.CLIP_stop_at_last_layers", overrides.number("CLIP_stop_at_last_layers") != nil && *overrides.number("CLIP_stop_at_last_layers") > 1)
	ask("override_settings.sd_vae", chosen(overrides.text("sd_vae")))
	return names
}
