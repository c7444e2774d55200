package stage

import (
	"time"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/pool"
	"muster/shared/wire"
)

// Shelf is the pool with a full library: twelve models, some of them disabled, faulty or of a generator only; one that is being
// downloaded, one that waits and one that failed; generators of every kind, three of which take no work. The last device is small.
func Shelf(now time.Time) []wire.Event {
	events := Pool(now)
	for i := range events {
		if inventory := events[i].Inventory; inventory != nil {
			inventory.Devices[7].MemoryBytes, inventory.Devices[7].Name = ptr(uint64(8<<30)), "NVIDIA GeForce RTX 4060"
		}
		if capacity := events[i].Capacity; capacity != nil {
			capacity.Pool, capacity.Devices = pool.Settings{}, nil
			offered(capacity, now)
			capacity.Generators = generators(now)
		}
		if j := events[i].Job; j != nil {
			j.Model = "sd_xl_turbo_1.0"
			if j.State == job.Running {
				j.Progress.Preview = 1
			}
		}
	}
	return append(events, wire.Event{Library: shelf()})
}

// offered lets the first six devices have sd-server's models, the seventh ComfyUI's, and the last one's generator be away.
func offered(c *wire.Capacity, now time.Time) {
	c.DefaultModel, c.Models = "sd_xl_turbo_1.0", nil
	var names []string
	for _, m := range shelf().Models {
		if !m.Disabled && m.Problem == "" && len(m.Missing) == 0 && m.Part == model.NoPart {
			c.Models = append(c.Models, wire.Model{Name: m.Name, Title: m.Title, Bytes: m.Bytes})
			names = append(names, m.Name)
		}
	}
	c.Loads = []model.Load{
		{Model: "z_image_turbo-Q8_0", Device: 3, State: model.LoadFailed, Asked: now.Add(-4 * time.Minute), Words: "sd-server on Device 3 ended three times while it loaded: the device is out of memory; close what else runs there, or choose another device"},
		{Model: "sd_xl_base_1.0", Device: 1, State: model.LoadWaits, Asked: now.Add(-20 * time.Second), Words: "an image is being made there"},
		{Model: "v1-5-pruned-emaonly", Device: 5, State: model.LoadRuns, Asked: now.Add(-5 * time.Second)},
	}
	c.Models = append(c.Models, wire.Model{Name: "juggernautXL_v9", Title: "juggernautXL_v9"}, wire.Model{Name: "dreamshaper_8", Title: "dreamshaper_8"})
	for i := range c.Slots {
		slot := &c.Slots[i]
		slot.Models, slot.Loaded = names, "sd_xl_turbo_1.0"
		switch i {
		case 2:
			slot.Loaded = "flux1-schnell-Q8_0"
		case 5:
			slot.Loaded = ""
		case 6:
			slot.Backend, slot.Models, slot.Loaded = "comfyui", []string{"juggernautXL_v9", "sd_xl_base_1.0"}, "juggernautXL_v9"
		case 7:
			slot.Backend, slot.Models, slot.Loaded, slot.Problem = "sdapi", []string{"dreamshaper_8"}, "", "A1111 on 127.0.0.1:7860 does not answer any more: connection refused; it is used again as soon as it does"
		}
	}
}

func shelf() *model.Library {
	gb := func(v float64) int64 { return int64(v * 1e9) }
	of := func(name, title string, f model.Family, format string, size float64) model.Model {
		return model.Model{Name: name, Title: title, Family: f, Format: format, Bytes: gb(size), VRAMBytes: model.EstimateVRAM(f, uint64(gb(size)))}
	}
	list := []model.Model{
		of("chroma-unlocked-v37-Q8_0", "Chroma v37, Q8_0", model.Chroma, "gguf", 9.5),
		of("flux1-dev", "FLUX.1 dev", model.Flux, "safetensors", 23.8),
		of("flux1-schnell-Q8_0", "FLUX.1 schnell, Q8_0", model.Flux, "gguf", 12.7),
		of("my-mix_v3-final-REALLY_final-2026-pruned-fp16", "my-mix_v3-final-REALLY_final-2026-pruned-fp16", model.Unknown, "safetensors", 2.1),
		of("qwen-image-Q4_K_M", "Qwen-Image, Q4_K_M", model.QwenImage, "gguf", 13.1),
		of("sd_xl_base_1.0", "SDXL 1.0", model.SDXL, "safetensors", 6.94),
		of("sd_xl_turbo_1.0", "SDXL Turbo", model.SDXL, "safetensors", 6.94),
		of("v1-5-pruned-emaonly", "Stable Diffusion 1.5", model.SD1, "safetensors", 4.27),
		of("z_image_turbo-Q8_0", "Z-Image Turbo, Q8_0", model.ZImage, "gguf", 6.7),
		of("broken-download", "broken-download", model.Unknown, "safetensors", 1.2),
	}
	list[1].Partial, list[1].With, list[1].Missing = true, []string{"clip_l", "ae"}, []string{"a T5-XXL text encoder (t5xxl_fp16.safetensors)"}
	list[0].Partial, list[0].With = true, []string{"t5xxl_fp8_e4m3fn", "ae"}
	list = append(list, model.Model{Name: "ae", Title: "ae", Format: "safetensors", Bytes: 335_304_388, Part: model.FluxVAE})
	list[4].Disabled = true
	list[9].Problem = "the file is cut short: its header promises 6.9 GB; install it again"
	list[9].VRAMBytes = 0
	return &model.Library{
		Dir: "/srv/models", FreeBytes: ptr(uint64(412_300_000_000)), Models: list,
		Installs: []model.Install{
			{ID: "a1", Name: "sd3.5_medium", From: "huggingface.co/stabilityai/stable-diffusion-3.5-medium/sd3.5_medium.safetensors", State: model.Downloading, Bytes: gb(3.2), Total: gb(5.11), Speed: 84_000_000, Device: ptr(gpu.Ref(5))},
			{ID: "a2", Name: "flux1-dev-Q8_0", From: "huggingface.co/city96/FLUX.1-dev-gguf/flux1-dev-Q8_0.gguf", State: model.Waiting},
			{ID: "a3", Name: "ponyDiffusionV6XL", From: "models.example.org/files/ponyDiffusionV6XL.safetensors", State: model.Failed, Bytes: gb(1.8), Total: gb(6.94), Error: "models.example.org closed the connection 8 times without sending more: try again later; what is here is kept for a day"},
		},
	}
}

func generators(now time.Time) []wire.Generator {
	var list []wire.Generator
	for i := range 6 {
		g := wire.Generator{ID: "sdserver " + gpu.Ref(i).String(), Kind: "sdserver", Title: "sd-server master-827", Address: "127.0.0.1:4310" + gpu.Ref(i).String(), Device: ptr(gpu.Ref(i)), State: wire.GeneratorReady, Models: 8, Loaded: "sd_xl_turbo_1.0"}
		switch i {
		case 2:
			g.Loaded = "flux1-schnell-Q8_0"
		case 3:
			g.State, g.Problem, g.Failures, g.RetryAt = wire.GeneratorResting, "sd-server on Device 3 ended three times while it loaded: the device is out of memory; close what else runs there", 3, ptr(now.Add(90*time.Second))
		case 5:
			g.State, g.Address, g.Loaded = wire.GeneratorIdle, "", ""
		}
		list = append(list, g)
	}
	return append(list,
		wire.Generator{ID: "comfyui 127.0.0.1:8188", Kind: "comfyui", Title: "ComfyUI 0.3.62", Address: "127.0.0.1:8188", Attached: true, Device: ptr(gpu.Ref(6)), State: wire.GeneratorReady, Models: 2, Loaded: "juggernautXL_v9"},
		wire.Generator{ID: "sdapi 127.0.0.1:7860", Kind: "sdapi", Title: "A1111 v1.10.1", Address: "127.0.0.1:7860", Attached: true, Device: ptr(gpu.Ref(7)), State: wire.GeneratorUnreachable, Models: 1, Failures: 2, Seen: ptr(now.Add(-7 * time.Minute)), Problem: "A1111 on 127.0.0.1:7860 does not answer any more: connection refused; it is used again as soon as it does"},
		wire.Generator{ID: "openai 10.0.0.7:8080", Kind: "openai", Title: "LocalAI", Address: "10.0.0.7:8080", Attached: true, State: wire.GeneratorUnplaced, Models: 3, Problem: "it is not known which device LocalAI uses: write #0 behind its address, with the number of the device"},
		wire.Generator{ID: "builtin", Kind: "builtin", Title: "built-in sketch renderer, no AI model", Device: ptr(gpu.CPU), State: wire.GeneratorReady, Models: 1})
}

// Recommended is what the made-up agent recommends.
func Recommended() model.Recommendations {
	of := func(name, title, words string, f model.Family, repo, file string, size int64, modelName string) model.Recommendation {
		return model.Recommendation{Name: name, Title: title, Description: words, Family: f, Licence: "OpenRAIL++-M", Repo: repo, File: file, Bytes: size, NeedBytes: model.EstimateVRAM(f, uint64(size)), ModelName: modelName, Usable: true, Words: "fits"}
	}
	list := []model.Recommendation{
		of("sdxl-1.0", "SDXL 1.0", "The usual choice: 1024 × 1024, many fine-tunes.", model.SDXL, "stabilityai/stable-diffusion-xl-base-1.0", "sd_xl_base_1.0.safetensors", 6_940_000_000, "sd_xl_base_1.0"),
		of("sd3.5-medium", "Stable Diffusion 3.5 Medium", "Follows long prompts; wants a licence to be accepted.", model.SD3, "stabilityai/stable-diffusion-3.5-medium", "sd3.5_medium.safetensors", 5_110_000_000, "sd3.5_medium"),
		of("flux-schnell-q8", "FLUX.1 schnell, Q4", "Four steps an image.", model.Flux, "city96/FLUX.1-schnell-gguf", "flux1-schnell-Q4_0.gguf", 6_770_000_000, "flux1-schnell-Q4_0"),
		of("qwen", "Qwen-Image", "Text in images. Large.", model.QwenImage, "city96/Qwen-Image-gguf", "qwen-image-Q8_0.gguf", 21_800_000_000, "qwen-image-Q8_0"),
	}
	list[3].Usable, list[3].Words = false, "does not fit"
	return model.Recommendations{Recommendations: list}
}
