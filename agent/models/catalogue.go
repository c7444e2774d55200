package models

import (
	"muster/shared/gpu"
	"muster/shared/model"
)

// known is a line of the catalogue. Sizes are about: what counts is what the hub says when it is installed, and so does the SHA-256,
// which is never written here.
type known struct {
	name, title, description string
	family                   model.Family
	licence                  string
	repo, file               string
	bytes                    int64
	merit                    float64  // how good its images are beside the others', as people judge them; 0 to 10
	with                     []source // the further files that it needs; nil for a whole model
}

// source is a part on the hub.
type source struct {
	part       model.Part
	repo, file string
	bytes      int64
	name       string // that it gets in the folder; "" is its own
}

// flux1 are the parts of FLUX.1. The whole files in one have weights of 8 bits that sd-server widens to 16, too much for most cards.
var flux1 = []source{
	{model.T5, "city96/t5-v1_1-xxl-encoder-gguf", "t5-v1_1-xxl-encoder-Q8_0.gguf", 5_060_000_000, ""},
	{model.CLIPL, "comfyanonymous/flux_text_encoders", "clip_l.safetensors", 246_144_152, ""},
	{model.FluxVAE, "Comfy-Org/z_image_turbo", "split_files/vae/ae.safetensors", 335_304_388, ""},
}

// sd35 are the parts of Stable Diffusion 3.5, whose whole files in one have weights that sd-server can't read (scaled.go).
var sd35 = []source{
	{model.CLIPL, "Comfy-Org/stable-diffusion-3.5-fp8", "text_encoders/clip_l.safetensors", 246_144_152, ""},
	{model.CLIPG, "Comfy-Org/stable-diffusion-3.5-fp8", "text_encoders/clip_g.safetensors", 1_389_382_176, ""},
	{model.T5, "city96/t5-v1_1-xxl-encoder-gguf", "t5-v1_1-xxl-encoder-Q8_0.gguf", 5_060_000_000, ""},
	{model.SD3VAE, "Shio-Koube/SD-3.5-vae", "diffusion_pytorch_model.safetensors", 167_666_902, "sd3_vae"},
}

// catalogue is well-known models that every generator reads. Most are published as one whole file.
var catalogue = []known{
	{"flux1-dev", "FLUX.1 dev (Q8)", "detailed and true to the prompt, writes words, 20 to 30 steps; for sd-server, with two text encoders and a VAE", model.Flux, "FLUX.1 [dev] Non-Commercial",
		"city96/FLUX.1-dev-gguf", "flux1-dev-Q8_0.gguf", 12_700_000_000, 9.5, flux1},
	{"flux1-schnell", "FLUX.1 schnell (Q8)", "true to the prompt in 4 steps; for sd-server, with two text encoders and a VAE", model.Flux, "Apache 2.0",
		"city96/FLUX.1-schnell-gguf", "flux1-schnell-Q8_0.gguf", 12_700_000_000, 9, flux1},
	{"z-image-turbo", "Z-Image Turbo (Q8)", "photographs and words in 8 steps, on cards from 12 GiB; for sd-server, with a text encoder and a VAE", model.ZImage, "Apache 2.0",
		"leejet/Z-Image-Turbo-GGUF", "z_image_turbo-Q8_0.gguf", 6_577_440_704, 9.2, []source{
			{model.Qwen3, "unsloth/Qwen3-4B-Instruct-2507-GGUF", "Qwen3-4B-Instruct-2507-Q4_K_M.gguf", 2_497_281_120, ""},
			{model.FluxVAE, "Comfy-Org/z_image_turbo", "split_files/vae/ae.safetensors", 335_304_388, ""},
		}},
	{"sd-3.5-large", "Stable Diffusion 3.5 Large (Q8)", "varied styles, writes words, 28 to 40 steps; for sd-server, with three text encoders and a VAE", model.SD3, "Stability AI Community",
		"city96/stable-diffusion-3.5-large-gguf", "sd3.5_large-Q8_0.gguf", 8_779_212_512, 8.5, sd35},
	{"sd-3.5-medium", "Stable Diffusion 3.5 Medium (Q8)", "varied styles on cards from 8 GiB, 28 to 40 steps; for sd-server, with three text encoders and a VAE", model.SD3, "Stability AI Community",
		"city96/stable-diffusion-3.5-medium-gguf", "sd3.5_medium-Q8_0.gguf", 2_855_825_856, 8, sd35},
	{"juggernaut-xl-9", "Juggernaut XL 9", "photographs of people and places; 30 steps", model.SDXL, "CreativeML OpenRAIL-M",
		"RunDiffusion/Juggernaut-XL-v9", "Juggernaut-XL_v9_RunDiffusionPhoto_v2.safetensors", 7_110_000_000, 7.5, nil},
	{"animagine-xl-4.0", "Animagine XL 4.0", "anime, drawn by tags; 28 steps", model.SDXL, "CreativeML OpenRAIL++-M",
		"cagliostrolab/animagine-xl-4.0", "animagine-xl-4.0-opt.safetensors", 6_938_350_040, 7.2, nil},
	{"sdxl-1.0", "SDXL 1.0", "the base of most models that people share; 30 steps", model.SDXL, "CreativeML OpenRAIL++-M",
		"stabilityai/stable-diffusion-xl-base-1.0", "sd_xl_base_1.0.safetensors", 6_938_078_334, 7, nil},
	{"sdxl-lightning", "SDXL Lightning (4 steps)", "SDXL in 4 steps, guidance 1", model.SDXL, "CreativeML OpenRAIL++-M",
		"ByteDance/SDXL-Lightning", "sdxl_lightning_4step.safetensors", 6_938_040_682, 6.8, nil},
	{"sdxl-turbo", "SDXL Turbo", "512x512 in 1 to 4 steps, guidance 1", model.SDXL, "Stability AI Community",
		"stabilityai/sdxl-turbo", "sd_xl_turbo_1.0_fp16.safetensors", 6_938_081_905, 6, nil},
	{"dreamshaper-8", "DreamShaper 8", "portraits and fantasy on small cards; 25 steps at 512x768", model.SD1, "CreativeML OpenRAIL-M",
		"Lykon/DreamShaper", "DreamShaper_8_pruned.safetensors", 2_132_625_894, 5, nil},
	{"sd-1.5", "Stable Diffusion 1.5", "the smallest; fast on every card; 25 steps at 512x512", model.SD1, "CreativeML OpenRAIL-M",
		"Comfy-Org/stable-diffusion-v1-5-archive", "v1-5-pruned-emaonly-fp16.safetensors", 2_132_696_762, 4, nil},
	{"sd-turbo", "SD Turbo", "512x512 in 1 to 4 steps, guidance 1", model.SD2, "Stability AI Community",
		"stabilityai/sd-turbo", "sd_turbo.safetensors", 5_214_561_848, 3.5, nil},
}

// CatalogueRequest gives what Install needs for a name of the catalogue; false when it is not there.
func CatalogueRequest(name string) (Request, bool) {
	for _, k := range catalogue {
		if k.name == name {
			return Request{Repo: k.repo, File: k.file}, true
		}
	}
	return Request{}, false
}

// CatalogueModel gives the name that a model of the catalogue has once it is installed; false when it is not there.
func CatalogueModel(name string) (string, bool) {
	for _, k := range catalogue {
		if k.name == name {
			return k.modelName(), true
		}
	}
	return "", false
}

func (k known) modelName() string { return stem(k.file) }

// need is the device memory for an image of one megapixel: text encoders of their own can stay in the machine's memory.
func (k known) need() uint64 {
	weights := k.bytes
	for _, s := range k.with {
		if s.part.VAE() {
			weights += s.bytes
		}
	}
	return model.EstimateVRAM(k.family, uint64(weights))
}

// worth is how good its images are, less for a model of several files: not every generator can load it.
func (k known) worth() float64 {
	if k.with != nil {
		return 0.85 * k.merit
	}
	return k.merit
}

// size is the bytes of all files.
func (k known) size() int64 {
	bytes := k.bytes
	for _, s := range k.with {
		bytes += s.bytes
	}
	return bytes
}

// judged is a line of the catalogue for these devices.
func (k known) judged(devices []gpu.Device, installed bool) model.Recommendation {
	r := model.Recommendation{
		Name: k.name, Title: k.title, Description: k.description, Family: k.family, Licence: k.licence, Repo: k.repo, File: k.file,
		Bytes: k.size(), NeedBytes: k.need(), ModelName: k.modelName(), Installed: installed, Fits: model.FitsOf(k.need(), devices),
	}
	r.Usable, r.Words = share(r.Fits) > 0, model.FitWords(r.Fits)
	if len(devices) == 0 {
		r.Words = "this machine has no GPU that could run it"
	}
	return r
}
