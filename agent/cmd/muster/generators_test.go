package main

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"testing"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/backendtest"
	"muster/agent/backend/builtin"
	"muster/agent/backend/sdserver"
	"muster/agent/models"
	"muster/shared/gpu"
	"muster/shared/wire"
)

// someones is an attached generator that is where and how the test says.
type someones struct {
	backend.Backend
	device  *gpu.Device
	problem error
	was     string
	state   wire.GeneratorState
}

func (s someones) Name() string              { return "comfyui" }
func (s someones) Run(context.Context) error { return nil }
func (s someones) Problem() error            { return s.problem }
func (s someones) Models() []backend.Model   { return []backend.Model{{Name: "sdxl"}} }
func (s someones) Owns(int) bool             { return false }
func (s someones) Was() string               { return s.was }
func (s someones) Device() (gpu.Device, bool) {
	if s.device == nil {
		return gpu.Device{}, false
	}
	return *s.device, true
}
func (s someones) Status() wire.Generator {
	g := wire.Generator{ID: "comfyui", Kind: "comfyui", State: cmp.Or(s.state, wire.GeneratorReady)}
	if s.device != nil {
		g.ID += " " + s.device.ID
	}
	return g
}

// Models are waited for where a generator is away and has no device, unless somebody has disabled them.
func TestModelsThatAreAwaited(t *testing.T) {
	t.Parallel()
	device := gpu.Device{ID: "GPU-1"}
	for _, tt := range []struct {
		name   string
		in     someones
		barred bool
		want   int
	}{
		{"away, on no known device", someones{state: wire.GeneratorUnreachable}, false, 1},
		{"not asked yet", someones{state: wire.GeneratorStarting}, false, 1},
		{"disabled", someones{state: wire.GeneratorUnreachable}, true, 0},
		{"away, with a slot", someones{state: wire.GeneratorUnreachable, device: &device}, false, 0},
		{"here, on no known device", someones{state: wire.GeneratorUnplaced}, false, 0},
		{"of no use", someones{state: wire.GeneratorUnusable}, false, 0},
	} {
		g := &generators{machine: &attach.Machine{}, shelf: &shelf{}, attached: []attached{&tt.in}}
		g.shelf.open(func() []models.Model { return nil }, func(string) bool { return tt.barred })
		if got := g.awaited(); len(got) != tt.want || tt.want == 1 && (got[0].Generator != "comfyui" || got[0].Models[0].Name != "sdxl") {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

func TestEveryDeviceHasOneGenerator(t *testing.T) {
	t.Parallel()
	settings := backendtest.MI25x8()
	devices := backendtest.Devices(settings, gpu.AMD)
	first, second := devices[0], devices[1]
	unserved, cpu := gpu.Device{ID: "GPU-1", Index: 2, Vendor: gpu.NVIDIA}, backend.CPU()
	program := backendtest.BuildFakeSDServer(t, settings)
	sdServers, err := sdserver.New(sdserver.Config{Program: program, Dir: t.TempDir(), Models: func() []backend.Model { return []backend.Model{{Name: "sdxl", Path: "sdxl.gguf"}} }})
	if err != nil {
		t.Fatal(err)
	}
	empty, err := sdserver.New(sdserver.Config{Program: program, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		fleet    fleet
		attached []attached
		devices  []gpu.Device
		want     string // of each slot: device, backend, "!" with a problem, "-" when it is no more than a fall-back
		list     string // the same of the generators: device and kind, "!" with a problem
	}{
		{"no generator for GPUs", nil, nil, []gpu.Device{first}, "cpu:builtin", "cpu:builtin"},
		{"no GPU", sdServers, nil, nil, "cpu:builtin", "cpu:builtin"},
		{"none that it can serve", sdServers, nil, []gpu.Device{unserved}, "2:sdserver! cpu:builtin", "2:sdserver! cpu:builtin"},
		{"no model yet", empty, nil, []gpu.Device{first}, "0:sdserver! cpu:builtin", "0:sdserver! cpu:builtin"},
		{"one that it serves", sdServers, nil, []gpu.Device{first}, "0:sdserver cpu:builtin-", "0:sdserver cpu:builtin"},
		{"an attached one comes first", sdServers, []attached{&someones{device: &second}}, []gpu.Device{first, second},
			"0:sdserver 1:comfyui cpu:builtin-", "?:comfyui 0:sdserver cpu:builtin"},
		{"an attached one that is away keeps its device", nil, []attached{&someones{device: &first, problem: errors.New("gone")}}, []gpu.Device{first},
			"0:comfyui! cpu:builtin-", "?:comfyui cpu:builtin"},
		{"an attached one whose device has left", nil, []attached{&someones{device: &second}}, []gpu.Device{first}, "cpu:builtin-", "?:comfyui cpu:builtin"},
		{"two on one device", nil, []attached{&someones{device: &first}, &someones{device: &first}}, []gpu.Device{first},
			"0:comfyui cpu:builtin-", "?:comfyui ?:comfyui! cpu:builtin"},
		{"one that worked there and is away", nil, []attached{&someones{was: first.ID, problem: errors.New("gone")}}, []gpu.Device{first, second},
			"0:comfyui! cpu:builtin-", "?:comfyui cpu:builtin"},
		{"one that is back this very moment", nil, []attached{&someones{was: first.ID}}, []gpu.Device{first}, "cpu:builtin-", "?:comfyui cpu:builtin"},
		{"one that is away takes no device from another", nil, []attached{&someones{was: first.ID, problem: errors.New("gone")}, &someones{device: &first}}, []gpu.Device{first},
			"0:comfyui cpu:builtin-", "?:comfyui ?:comfyui cpu:builtin"},
		{"nor from one that is started", sdServers, []attached{&someones{was: first.ID, problem: errors.New("gone")}}, []gpu.Device{first},
			"0:sdserver cpu:builtin-", "?:comfyui 0:sdserver cpu:builtin"},
		{"two that worked on one device", nil, []attached{&someones{was: first.ID, problem: errors.New("gone")}, &someones{was: first.ID, problem: errors.New("gone")}},
			[]gpu.Device{first}, "0:comfyui! cpu:builtin-", "?:comfyui ?:comfyui cpu:builtin"},
		{"one on the processor", nil, []attached{&someones{device: &cpu}}, []gpu.Device{first}, "cpu:comfyui cpu:builtin-", "?:comfyui"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := &generators{machine: &attach.Machine{CanTell: true}, shelf: &shelf{}, attached: tt.attached, fleet: tt.fleet, sketch: builtin.New(builtin.Config{})}
			inventory := gpu.Inventory{Devices: tt.devices}
			g.machine.See(&inventory, nil)
			var got, list []string
			for _, slot := range g.slots(inventory) {
				text := slot.Device.Index.String() + ":" + slot.Backend.Name()
				if slot.Problem != "" {
					text += "!"
				}
				if slot.Fallback {
					text += "-"
				}
				if slot.Device.Simulated || (slot.Owns != nil) != (slot.Backend.Name() != "builtin") {
					t.Errorf("%s: simulated %v, owns processes %v", text, slot.Device.Simulated, slot.Owns != nil)
				}
				got = append(got, text)
			}
			for _, one := range g.list() {
				text := "?:" + one.Kind
				if one.Device != nil {
					text = one.Device.String() + ":" + one.Kind
				}
				if one.Problem != "" {
					text += "!"
				}
				list = append(list, text)
			}
			if slots := strings.Join(got, " "); slots != tt.want {
				t.Errorf("slots %s: want %s", slots, tt.want)
			}
			if told := strings.Join(list, " "); told != tt.list {
				t.Errorf("generators %s: want %s", told, tt.list)
			}
		})
	}
	blind := &generators{machine: &attach.Machine{}, shelf: &shelf{}, fleet: sdServers, sketch: builtin.New(builtin.Config{})}
	if got := blind.slots(gpu.Inventory{Devices: []gpu.Device{first}}); got[0].Owns != nil {
		t.Error("processes of another PID namespace are told by their numbers")
	}
}
