package comfyui

import (
	"fmt"
	"path"
	"strings"

	"muster/shared/model"
)

// component is a file that a template needs beside the model's own.
type component struct {
	slot   Slot
	part   model.Part
	folder string // of ComfyUI's models folder
	// fits says how well a file's name, in lower case without folder, fits: 0 not at all.
	fits func(name string) int
}

// t5 prefers the scaled 8-bit file: half the memory of fp16, and hardly another image.
var t5 = component{SlotEncoder, model.T5, folderEncoders, func(name string) int {
	switch {
	case !strings.Contains(name, "t5xxl") && !strings.Contains(name, "t5-xxl") && !strings.Contains(name, "t5_xxl"), strings.Contains(name, "umt5"):
		return 0
	case strings.Contains(name, "scaled"):
		return 3
	case strings.Contains(name, "fp8"):
		return 2
	}
	return 1
}}

var clipL = component{SlotEncoder2, model.CLIPL, folderEncoders, func(name string) int {
	return containsAny(name, "clip_l", "clip-l")
}}

var qwen25 = component{SlotEncoder, model.Qwen25, folderEncoders, func(name string) int {
	if !strings.Contains(name, "qwen") || strings.Contains(name, "mmproj") {
		return 0
	}
	return containsAny(name, "2.5_vl", "2.5-vl", "2_5_vl", "25_vl")
}}

var qwen3 = component{SlotEncoder, model.Qwen3, folderEncoders, func(name string) int {
	return containsAny(name, "qwen_3_4b", "qwen3_4b", "qwen3-4b", "qwen-3-4b")
}}

var fluxVAE = component{SlotVAE, model.FluxVAE, folderVAE, func(name string) int {
	if strings.HasPrefix(name, "ae.") {
		return 3
	}
	if strings.Contains(name, "flux2") {
		return 0
	}
	return 2*both(name, "flux", "vae") + both(name, "flux", "ae.")
}}

var qwenVAE = component{SlotVAE, model.QwenVAE, folderVAE, func(name string) int {
	return both(name, "qwen", "vae")
}}

func containsAny(name string, parts ...string) int {
	for _, part := range parts {
		if strings.Contains(name, part) {
			return 1
		}
	}
	return 0
}

func both(name, one, other string) int {
	if strings.Contains(name, one) && strings.Contains(name, other) {
		return 1
	}
	return 0
}

// choose gives the file of a list that fits best, the first of several; the error says what is missing and where it belongs.
func (c component) choose(files []string) (string, error) {
	best, at := 0, ""
	for _, file := range files {
		name := strings.ToLower(path.Base(strings.ReplaceAll(file, `\`, "/")))
		if fit := c.fits(name); fit > best {
			best, at = fit, file
		}
	}
	if best == 0 {
		return "", fmt.Errorf("%s is missing, such as %s: put it into ComfyUI's models/%s folder", c.part.Title(), c.part.Sample(), c.folder)
	}
	return at, nil
}
