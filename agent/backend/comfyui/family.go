package comfyui

import (
	"strings"

	"muster/shared/model"
)

// families tell a family by a part of a file's path in lower case, "/" between folders. The first that fits counts: "flux" would fit
// Chroma's files too.
var families = []struct {
	part   string
	family model.Family
}{
	{"chroma", model.Chroma}, {"qwen_image", model.QwenImage}, {"qwen-image", model.QwenImage}, {"qwenimage", model.QwenImage},
	{"z_image", model.ZImage}, {"z-image", model.ZImage}, {"zimage", model.ZImage},
	{"flux2", ""}, {"flux.2", ""}, {"flux-2", ""}, {"flux", model.Flux},
	{"sd3", model.SD3}, {"stable-diffusion-3", model.SD3}, {"sd_3", model.SD3},
	{"sd_xl", model.SDXL}, {"sdxl", model.SDXL}, {"-xl", model.SDXL}, {"_xl", model.SDXL}, {"xl_", model.SDXL}, {"xl-", model.SDXL}, {"xl/", model.SDXL},
	{"pony", model.SDXL}, {"illustrious", model.SDXL}, {"noobai", model.SDXL}, {"animagine", model.SDXL},
	{"v2-1", model.SD2}, {"v2-0", model.SD2}, {"sd2", model.SD2}, {"sd_2", model.SD2}, {"768-v", model.SD2},
	{"v1-5", model.SD1}, {"v1-4", model.SD1}, {"sd15", model.SD1}, {"sd1.5", model.SD1}, {"sd_1", model.SD1}, {"sd-v1", model.SD1},
}

// edits are parts of names of models that change a given image, or make films: no template of a text-to-image family fits them.
var edits = []string{"kontext", "fill", "_edit", "-edit", "inpaint", "canny", "depth", "redux", "controlnet", "layered", "refiner"}

// familyOf tells a model's family by its file and folders; Unknown when it does not know.
func familyOf(file string) model.Family {
	file = strings.ToLower(strings.ReplaceAll(file, `\`, "/"))
	for _, f := range families {
		if strings.Contains(file, f.part) {
			return f.family
		}
	}
	return model.Unknown
}

// editing says whether a file of a diffusion model is for something else than making an image of a text.
func editing(file string) bool {
	return containsAny(strings.ToLower(file), edits...) > 0
}
