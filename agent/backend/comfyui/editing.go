package comfyui

import "strings"

// edits are parts of names of models that change a given image, or make films: no template of a text-to-image family fits them.
var edits = []string{"kontext", "fill", "_edit", "-edit", "inpaint", "canny", "depth", "redux", "controlnet", "layered", "refiner"}

// editing says whether a file of a diffusion model is for something else than making an image of a text.
func editing(file string) bool {
	return containsAny(strings.ToLower(file), edits...) > 0
}
