package sdserver

import (
	"path/filepath"
	"slices"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/model"
)

// partFlags are sd-server's options for the files that complete a model (docs/flux.md, sd3.md, chroma.md, qwen_image.md and z_image.md
// of stable-diffusion.cpp).
var partFlags = map[model.Part]string{
	model.T5: "--t5xxl", model.CLIPL: "--clip_l", model.CLIPG: "--clip_g", model.Qwen25: "--llm", model.Qwen3: "--llm",
	model.FluxVAE: "--vae", model.SD3VAE: "--vae", model.QwenVAE: "--vae",
}

// modelArguments name the files of a model. One that lacks all parts of its family is a diffusion model alone, which has an option of
// its own: the names of its tensors have no prefix.
func modelArguments(m backend.Model) []string {
	option := "-m"
	if len(m.Parts) > 0 && len(m.Parts) == len(m.Family.Parts()) {
		option = "--diffusion-model"
	}
	args := []string{option, m.Path}
	for _, part := range m.Parts {
		args = append(args, partFlags[part.Kind], part.Path)
	}
	return args
}

// sameFiles says whether two models are the same files.
func sameFiles(a, b backend.Model) bool {
	return a.Path == b.Path && slices.EqualFunc(a.Parts, b.Parts, func(a, b backend.Part) bool { return a.Kind == b.Kind && a.Path == b.Path })
}

// loads is how many bytes are read to load a model.
func loads(m backend.Model) int64 {
	bytes := m.Bytes
	for _, part := range m.Parts {
		bytes += part.Bytes
	}
	return bytes
}

// absolute makes the paths of a model's files independent of a working folder: children work in folders of their own.
func absolute(m backend.Model) backend.Model {
	m.Parts = slices.Clone(m.Parts)
	for _, path := range append(paths(m.Parts), &m.Path) {
		if whole, err := filepath.Abs(*path); err == nil {
			*path = whole
		}
	}
	return m
}

func paths(parts []backend.Part) (all []*string) {
	for i := range parts {
		all = append(all, &parts[i].Path)
	}
	return all
}

// squeeze has the text encoders of a child's model kept off the device from now on, if they are there: it had no room.
func (s *slot) squeeze(server *server) {
	if encoderBytes(server.model) > 0 {
		s.lean[server.model.Name] = true
	}
}

func encoderBytes(m backend.Model) (bytes uint64) {
	for _, part := range m.Parts {
		if !part.Kind.VAE() {
			bytes += uint64(max(0, part.Bytes))
		}
	}
	return bytes
}

// crowded is the share of a device's memory that text encoders may fill it to.
const crowded = 0.95

// placement is the --backend of a child. Text encoders that would not fit beside the rest work on the processor, and their weights stay
// in the machine's memory: slower by seconds for an image, but the image can be made.
func placement(m backend.Model, dev gpu.Device, device string, lean bool) string {
	encoders := encoderBytes(m)
	switch {
	case encoders == 0 || dev.Index == gpu.CPU:
		return device
	case lean, dev.MemoryBytes != nil && float64(m.VRAMBytes+encoders) > crowded*float64(*dev.MemoryBytes):
		return "te=cpu," + device
	}
	return device
}
