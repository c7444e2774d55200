package server

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"muster/agent/queue"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/sampler"
	"muster/shared/wire"
)

// offers has sd15 of a generator that tells its samplers on device 0, and sketch of one that does not on both.
func offers(c *Config) {
	c.Offer = func(name string, device *gpu.Ref) Offer {
		switch {
		case name != "sd15":
			return Offer{Grid: 1, Samplers: sampler.Lists{nil}}
		case device != nil && *device == 1:
			return Offer{Grid: 1}
		}
		return Offer{Grid: 64, Samplers: sampler.Lists{{Samplers: sampler.Named("euler_a", "dpm++2m"), Schedules: sampler.Named("karras")}}}
	}
}

// offering offers the same of every model.
func offering(offer Offer) func(*Config) {
	return func(c *Config) {
		c.Offer = func(string, *gpu.Ref) Offer { return offer }
	}
}

func TestSizeIsRoundedAndSaid(t *testing.T) {
	t.Parallel()
	a := newAgent(t, offers)
	a.generate(func(job.Job) string { return "" })
	for body, want := range map[string]struct {
		width, height int
		note          string
	}{
		`{"prompt":"x","model":"sd15","width":500,"height":300}`:   {512, 320, "500x300 becomes 512x320"},
		`{"prompt":"x","model":"sd15","width":512,"height":4096}`:  {512, 4096, ""},
		`{"prompt":"x","model":"sd15","width":4090,"height":64}`:   {4096, 64, "4090x64 becomes 4096x64"},
		`{"prompt":"x","model":"sketch","width":500,"height":300}`: {500, 300, ""},
	} {
		var got struct {
			Jobs  []job.Job
			Notes []string
		}
		r := a.ask("POST", "/api/v1/jobs", body)
		r.into(t, &got)
		if r.status != 202 || got.Jobs[0].Width != want.width || got.Jobs[0].Height != want.height || !strings.Contains(strings.Join(got.Notes, ""), want.note) || (want.note == "") != (len(got.Notes) == 0) {
			t.Errorf("%s: %d %dx%d %q", body, r.status, got.Jobs[0].Width, got.Jobs[0].Height, got.Notes)
		}
	}
	_, info := a.txt2img(`{"prompt":"x","width":500,"height":300,"override_settings":{"sd_model_checkpoint":"sd15"}}`)
	if len(info.Muster.Notes) != 1 || info.Width != 8 || !strings.HasPrefix(info.Muster.Notes[0], "500x300 was asked for, and the images are 8x8") {
		t.Errorf("%dx%d %q", info.Width, info.Height, info.Muster.Notes)
	}
	if j, err := a.queue.Job(t.Context(), info.Muster.Images[0].JobID); err != nil || j.Width != 512 || j.Height != 320 {
		t.Errorf("%dx%d %v", j.Width, j.Height, err)
	}
}

// The same key with the same command is the same set, although what was taken is not what was asked for.
func TestRoundedSizeKeepsItsKey(t *testing.T) {
	t.Parallel()
	a := newAgent(t, offers)
	body := `{"prompt":"x","model":"sd15","width":500,"height":300,"sampler":"Euler a"}`
	first, second := a.ask("POST", "/api/v1/jobs", body, "Idempotency-Key", "k"), a.ask("POST", "/api/v1/jobs", body, "Idempotency-Key", "k")
	if first.status != 202 || second.status != 200 {
		t.Errorf("%d %d: %s", first.status, second.status, second.body)
	}
}

func TestSamplerIsCheckedBefore(t *testing.T) {
	t.Parallel()
	a := newAgent(t, offers)
	for body, want := range map[string]string{
		`{"prompt":"x","model":"sd15","sampler":"Euler a"}`:                                        "",
		`{"prompt":"x","model":"sd15","sampler":"k_euler_ancestral"}`:                              "",
		`{"prompt":"x","model":"sd15","sampler":"DPM++ 2M Karras"}`:                                "",
		`{"prompt":"x","model":"sd15","sampler":"Restart"}`:                                        `"Restart" is not known to the generator of sd15; it has Euler a, DPM++ 2M`,
		`{"prompt":"x","model":"sketch","sampler":"Restart"}`:                                      "",
		`{"prompt":"x","model":"sd15","device_id":0,"sampler":"Euler a"}`:                          "",
		`{"prompt":"x","model":"sd15","device_id":0,"sampler":"` + strings.Repeat("a", 201) + `"}`: "at most 200 bytes",
	} {
		r := a.ask("POST", "/api/v1/jobs", body)
		if want == "" && r.status != 202 || want != "" && (r.status != 400 || !strings.Contains(string(r.body), strings.ReplaceAll(want, `"`, `\"`)) || !strings.Contains(string(r.body), `"field":"sampler"`)) {
			t.Errorf("%s: %d %s", body, r.status, r.body)
		}
	}
}

func TestSamplersAtTheSdapiDoor(t *testing.T) {
	t.Parallel()
	a := newAgent(t, offers)
	a.generate(func(job.Job) string { return "" })
	for fields, want := range map[string]struct{ sampler, schedule, job, ignored string }{
		`"sampler_name":"Euler a"`:                                               {"Euler a", "Automatic", "Euler a", ""},
		`"sampler_name":"DPM++ 2M Karras"`:                                       {"DPM++ 2M", "Karras", "DPM++ 2M Karras", ""},
		`"sampler_name":"DPM++ 2M","scheduler":"karras"`:                         {"DPM++ 2M", "karras", "DPM++ 2M karras", ""},
		`"sampler_name":"DPM++ 2M","scheduler":"Align Your Steps"`:               {"DPM++ 2M", "Automatic", "DPM++ 2M", "scheduler"},
		`"sampler_name":"DPM++ 2M","scheduler":"Automatic","restore_faces":true`: {"DPM++ 2M", "Automatic", "DPM++ 2M", "restore_faces"},
	} {
		got, info := a.txt2img(`{"prompt":"x","override_settings":{"sd_model_checkpoint":"sd15"},` + fields + `}`)
		j, err := a.queue.Job(t.Context(), info.Muster.Images[0].JobID)
		if err != nil || j.Sampler != want.job || got.Parameters.SamplerName != want.sampler || got.Parameters.Scheduler != want.schedule || info.SamplerName != want.sampler ||
			info.Scheduler != want.schedule || strings.Join(info.Muster.Ignored, ",") != want.ignored {
			t.Errorf("%s: %q %q %q %v %v", fields, j.Sampler, info.SamplerName, info.Scheduler, info.Muster.Ignored, err)
		}
		if typed := strings.Contains(info.Infotexts[0], "Schedule type: "+want.schedule); typed != (want.schedule != "Automatic") {
			t.Errorf("%s: %s", fields, info.Infotexts[0])
		}
	}
	r := a.ask("POST", "/sdapi/v1/txt2img", `{"prompt":"x","sampler_name":"Restart","override_settings":{"sd_model_checkpoint":"sd15"}}`)
	if r.status != 404 || !strings.Contains(string(r.body), "Sampler not found") || !strings.Contains(string(r.body), "Euler a, DPM++ 2M") {
		t.Errorf("%d %s", r.status, r.body)
	}
	if jobs := a.queue.Active(); len(jobs) != 0 {
		t.Errorf("%d jobs were made of a request that was refused", len(jobs))
	}
	var samplers []sdapiSamplerEntry
	a.ask("GET", "/sdapi/v1/samplers", "").into(t, &samplers)
	if len(samplers) != 2 || samplers[0].Name != "Euler a" || samplers[0].Aliases[0] != "euler_a" {
		t.Errorf("%+v", samplers)
	}
	var schedules []sdapiSchedulerEntry
	a.ask("GET", "/sdapi/v1/schedulers", "").into(t, &schedules)
	if len(schedules) != 2 || schedules[0].Label != "Automatic" || schedules[1].Label != "Karras" || schedules[1].Name != "karras" {
		t.Errorf("%+v", schedules)
	}
}

// Programs send a sampler with every request: a generator that can't be told one must not make them fail.
func TestSamplerOfAGeneratorThatHasNone(t *testing.T) {
	t.Parallel()
	a := newAgent(t, offering(Offer{Grid: 1, Samplers: sampler.Lists{{}}}))
	a.generate(func(job.Job) string { return "" })
	_, info := a.txt2img(`{"prompt":"x","sampler_name":"Euler a","scheduler":"Karras"}`)
	if strings.Join(info.Muster.Ignored, ",") != "sampler_name,scheduler" || info.SamplerName != "" {
		t.Errorf("%v %q", info.Muster.Ignored, info.SamplerName)
	}
	if r := a.ask("POST", "/api/v1/jobs", `{"prompt":"x","sampler":"Euler a"}`); r.status != 400 || !strings.Contains(string(r.body), "leave it out") {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// What a command leaves open is what suits the model, by its file or its name; what it says stays.
func TestWhatIsLeftOpenSuitsTheModel(t *testing.T) {
	t.Parallel()
	a, _, _ := withLibrary(t, map[string][]byte{"mine.safetensors": tinyModel(2048)})
	a.set(func() {
		for _, name := range []string{"mine", "flux1-dev-fp8", "z_image_turbo"} {
			a.capacity.Models = append(a.capacity.Models, wire.Model{Name: name})
			a.capacity.Slots[0].Models = append(a.capacity.Slots[0].Models, name)
		}
		a.capacity.DefaultModel = "mine"
	})
	type made struct {
		width, height, steps int
		guidance             float64
	}
	for body, want := range map[string]made{
		`{"prompt":"x"}`:                                                 {1024, 1024, 20, 7},
		`{"prompt":"x","model":"sketch"}`:                                {512, 512, 20, 7},
		`{"prompt":"x","model":"flux1-dev-fp8"}`:                         {1024, 1024, 20, 3.5},
		`{"prompt":"x","model":"flux1-dev-fp8","guidance":7,"steps":20}`: {1024, 1024, 20, 7},
		`{"prompt":"x","model":"z_image_turbo","width":768}`:             {768, 1024, 8, 1},
		`{"prompt":"x","guidance":0}`:                                    {1024, 1024, 20, 0},
	} {
		var got struct{ Jobs []job.Job }
		a.ask("POST", "/api/v1/jobs", body).into(t, &got)
		if j := got.Jobs[0]; (made{j.Width, j.Height, j.Steps, j.Guidance}) != want {
			t.Errorf("%s: %dx%d, %d steps, guidance %g", body, j.Width, j.Height, j.Steps, j.Guidance)
		}
	}
}

// A retry under its key is the same request, although the machine has changed what comes of it.
func TestDoorsKeepTheirKeys(t *testing.T) {
	t.Parallel()
	euler := &sampler.List{Samplers: sampler.Named("euler_a"), Schedules: sampler.Named("karras")}
	var offer atomic.Pointer[Offer]
	a := newAgent(t, func(c *Config) { c.Offer = func(string, *gpu.Ref) Offer { return *offer.Load() } })
	a.generate(func(job.Job) string { return "" })
	for path, body := range map[string]string{
		"/sdapi/v1/txt2img": `{"prompt":"x","sampler_name":"Euler a","scheduler":"Karras"}`, imagesPath: `{"prompt":"x","model":"sketch"}`,
	} {
		for i, now := range []Offer{
			{Grid: 64, Samplers: sampler.Lists{euler}}, {Grid: 8, Samplers: sampler.Lists{nil}}, {Grid: 1, Samplers: sampler.Lists{{}}}, {Grid: 1, Family: model.Flux, Samplers: sampler.Lists{{Samplers: sampler.Named("ddim")}}},
		} {
			offer.Store(&now)
			if r := a.ask("POST", path, body, append(basic("muster", testToken), "Idempotency-Key", "k "+path)...); r.status != 200 {
				t.Errorf("%s, machine %d: %d %.200s", path, i, r.status, r.body)
			}
		}
	}
	if jobs, _, err := a.queue.List(t.Context(), queue.Filter{}); err != nil || len(jobs) != 2 {
		t.Errorf("%d jobs, %v", len(jobs), err)
	}
}

// Clients of Forge send FLUX.1's guidance in a field of its own, and those of A1111 a schedule that is none of a flow's.
func TestFluxAtTheSdapiDoor(t *testing.T) {
	t.Parallel()
	known := &sampler.List{Samplers: sampler.Named("euler", "dpm++2m"), Schedules: sampler.Named("karras", "simple")}
	a := newAgent(t, offering(Offer{Family: model.Flux, Grid: 1, Samplers: sampler.Lists{known}}))
	a.generate(func(job.Job) string { return "" })
	for fields, want := range map[string]struct {
		guidance         float64
		sampler, ignored string
	}{
		`"cfg_scale":1,"distilled_cfg_scale":4`:       {4, "", ""},
		`"cfg_scale":1`:                               {3.5, "", ""},
		`"cfg_scale":5`:                               {5, "", ""},
		`"steps":9`:                                   {3.5, "", ""},
		`"sampler_name":"DPM++ 2M Karras"`:            {3.5, "DPM++ 2M", "scheduler"},
		`"sampler_name":"Euler","scheduler":"Simple"`: {3.5, "Euler Simple", ""},
	} {
		_, info := a.txt2img(`{"prompt":"x",` + fields + `}`)
		j, err := a.queue.Job(t.Context(), info.Muster.Images[0].JobID)
		if err != nil || j.Guidance != want.guidance || j.Sampler != want.sampler || strings.Join(info.Muster.Ignored, ",") != want.ignored || j.Width != 1024 {
			t.Errorf("%s: guidance %g, sampler %q, ignored %q, %d px, %v", fields, j.Guidance, j.Sampler, info.Muster.Ignored, j.Width, err)
		}
	}
}

// The sampler that every program sends by habit must not cost the cards whose generator can't be told any.
func TestHabitsCostNoCards(t *testing.T) {
	t.Parallel()
	a := newAgent(t, offering(Offer{Grid: 1, Samplers: sampler.Lists{{Samplers: sampler.Named("euler_a", "ddim")}, {}}}))
	a.generate(func(job.Job) string { return "" })
	for asked, want := range map[string]string{"Euler a": "", "DDIM": "DDIM"} {
		_, info := a.txt2img(`{"prompt":"x","sampler_name":"` + asked + `"}`)
		if j, err := a.queue.Job(t.Context(), info.Muster.Images[0].JobID); err != nil || j.Sampler != want || (want == "") != slices.Contains(info.Muster.Ignored, "sampler_name") {
			t.Errorf("%s: %q, ignored %q, %v", asked, j.Sampler, info.Muster.Ignored, err)
		}
	}
}

// A model is found by what people call it: in any case, by its file, by its name in the catalogue.
func TestModelsGoByManyNames(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.set(func() {
		a.capacity.Models = append(a.capacity.Models, wire.Model{Name: "sd_xl_base_1.0"})
		a.capacity.Slots[0].Models = append(a.capacity.Slots[0].Models, "sd_xl_base_1.0")
	})
	for asked, want := range map[string]string{"sd_xl_base_1.0": "sd_xl_base_1.0", "SD_XL_Base_1.0": "sd_xl_base_1.0", "sd_xl_base_1.0.safetensors": "sd_xl_base_1.0", "SDXL-1.0": "sd_xl_base_1.0", "sdxl-turbo": "", "nope": ""} {
		var got struct{ Jobs []job.Job }
		r := a.ask("POST", "/api/v1/jobs", `{"prompt":"x","model":"`+asked+`"}`)
		if want == "" {
			if r.status != 400 {
				t.Errorf("%s: %d %s", asked, r.status, r.body)
			}
			continue
		}
		r.into(t, &got)
		if r.status != 202 || got.Jobs[0].Model != want {
			t.Errorf("%s: %d %s", asked, r.status, r.body)
		}
	}
}
