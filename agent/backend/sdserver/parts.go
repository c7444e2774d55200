package sdserver

import (
	"path/filepath"
	"slices"
	"strings"

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
	bytes := max(0, m.Bytes)
	for _, part := range m.Parts {
		bytes += max(0, part.Bytes)
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

// partNames are the names of a model's parts, for people.
func partNames(m backend.Model) (names []string) {
	for _, part := range m.Parts {
		base := filepath.Base(part.Path)
		names = append(names, strings.TrimSuffix(base, filepath.Ext(base)))
	}
	return names
}

// residence is where the text encoders of a child's model are.
type residence int

const (
	onDevice  residence = iota // beside the rest
	inMemory                   // in the machine's memory, and each on the device for as long as it works
	offDevice                  // in the machine's memory, and the processor does their work
)

func (r residence) String() string {
	return []string{"on the device", "in memory", "on the processor"}[r]
}

// squeeze has the text encoders of a child's model kept further off the device from now on, if there are any: it had no room. A large
// image that found none says nothing of the others.
func (s *slot) squeeze(server *server) {
	if encoders, _ := encoderBytes(server.model); encoders > 0 && server.pixels <= roomyPixels {
		s.least[server.model.Name] = min(server.encoders+1, offDevice)
	}
}

// roomyPixels is the largest image that a device must have room for, with the text encoders on it: about a megapixel, which is what
// model.EstimateVRAM counts with.
const roomyPixels = 1152 * 1024

// encoderBytes gives the bytes of all text encoders, and of the largest.
func encoderBytes(m backend.Model) (all, largest uint64) {
	for _, part := range m.Parts {
		if !part.Kind.VAE() {
			bytes := uint64(max(0, part.Bytes))
			all, largest = all+bytes, max(largest, bytes)
		}
	}
	return all, largest
}

// crowded is the share of a device's memory that text encoders may fill it to.
const crowded = 0.95

// residence says where the text encoders of a model are to be: as near to the device as there is room for them by what is known, and
// no nearer than least.
//
// Encoders whose weights are in memory come to the device one after the other, before the first step, and go again (docs/backend.md of
// stable-diffusion.cpp, and stage_tensors_to_compute_backend in src/model_manager.cpp): the rest of the model stays there meanwhile,
// so the largest must fit beside its weights, but not beside the buffers of the steps.
func (b build) residence(m backend.Model, dev gpu.Device, least residence) residence {
	encoders, largest := encoderBytes(m)
	if encoders == 0 || dev.Index == gpu.CPU {
		return onDevice
	}
	room := func(bytes uint64) bool {
		return dev.MemoryBytes == nil || float64(bytes) <= crowded*float64(*dev.MemoryBytes)
	}
	if least == onDevice && !room(m.VRAMBytes+encoders) {
		least = inMemory
	}
	if weights := uint64(loads(m)) - encoders; least == inMemory && (!b.flags["--params-backend"] || !room(weights+largest)) {
		least = offDevice
	}
	return least
}

// placement are the options for a child's device and for where its text encoders are.
func placement(device string, encoders residence) []string {
	switch encoders {
	case inMemory:
		return []string{"--backend", device, "--params-backend", "te=cpu"}
	case offDevice:
		return []string{"--backend", "te=cpu," + device}
	}
	return []string{"--backend", device}
}
