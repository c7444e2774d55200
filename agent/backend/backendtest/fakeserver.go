// Package backendtest tests generators: Exercise is the suite that every backend.Backend passes, and BuildFakeSDServer gives a
// program that behaves as a real sd-server was seen to behave. Settings beside that program and a Scenario beside a model tell it what
// to do, a journal tells of its starts: no variables, because it runs in an environment made from scratch. For tests only.
package backendtest

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"muster/shared/gpu"
)

// BuildFakeSDServer builds the fake sd-server (see its package comment) into a folder of the test's own and gives its path. With
// no settings it is a ROCm build on the captured machine amd-mi25x8: see MI25x8.
func BuildFakeSDServer(t testing.TB, settings ...Settings) string {
	t.Helper()
	if len(settings) == 0 {
		settings = []Settings{MI25x8()}
	}
	return programs.program(t, "fake-sd-server", "sd-server", settings[0])
}

// MI25x8 are the devices that a ROCm build lists on the captured machine amd-mi25x8, in HIP's order (KFD node id), each with
// its unique id.
func MI25x8() Settings {
	var s Settings
	for i, id := range []int{4, 5, 6, 7, 0, 1, 2, 3} {
		s.Devices = append(s.Devices, Device{
			Name: fmt.Sprintf("ROCm%d", i), Description: "AMD Radeon Instinct MI25", ID: fmt.Sprintf("GPU-c34f1a2b%08x", id),
		})
	}
	s.Devices = append(s.Devices, Device{Name: "CPU", Description: "AMD EPYC 7551P 32-Core Processor", ID: "cpu"})
	return s
}

// Devices gives the devices that a reader would find for the settings' GPUs, in their order.
func Devices(s Settings, vendor gpu.Vendor) []gpu.Device {
	var devices []gpu.Device
	for _, d := range s.Devices {
		if d.ID == "cpu" {
			continue
		}
		i := len(devices)
		devices = append(devices, gpu.Device{
			ID: d.ID, Index: gpu.Ref(i), VendorIndex: &i, Vendor: vendor, Name: d.Description, PCIAddress: fmt.Sprintf("0000:%02x:00.0", 3+i),
		})
	}
	return devices
}

// TinyModel gives the smallest whole model: a safetensors file with one tensor each of the UNet of Stable Diffusion 1, its text
// encoder and its VAE.
func TinyModel() []byte {
	const header = `{"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight":{"dtype":"I8","shape":[1,768],"data_offsets":[0,768]},` +
		`"cond_stage_model.transformer.text_model.final_layer_norm.bias":{"dtype":"I8","shape":[1],"data_offsets":[768,769]},` +
		`"first_stage_model.decoder.conv_in.bias":{"dtype":"I8","shape":[1],"data_offsets":[769,770]}}`
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(file, header...), make([]byte, 770)...)
}

// WriteModel makes a TinyModel in dir, with a scenario beside it, and gives its path.
func WriteModel(t testing.TB, dir, name string, scenario Scenario) string {
	t.Helper()
	path := filepath.Join(dir, name+".safetensors")
	if err := os.WriteFile(path, TinyModel(), 0o600); err != nil {
		t.Fatal(err)
	}
	writeJSON(t, ScenarioPath(path), scenario)
	return path
}

// Serving gives the starts of the program that were not probes.
func Serving(t testing.TB, program string) []Start {
	t.Helper()
	starts, err := Starts(program)
	if err != nil {
		t.Fatal(err)
	}
	var serving []Start
	for _, s := range starts {
		if s.Model != "" || s.Device != "" || s.Refused != "" {
			serving = append(serving, s)
		}
	}
	return serving
}
