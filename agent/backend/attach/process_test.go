package attach

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/wire"
)

// listening gives the address of a port that this process listens on.
func listening(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// working is a report in which a process holds memory of the devices at these positions.
func working(inventory gpu.Inventory, pid int, at ...int) *gpu.Report {
	r := &gpu.Report{Revision: inventory.Revision, Devices: make([]gpu.Details, len(inventory.Devices))}
	for _, i := range at {
		r.Devices[i].Processes = []gpu.Process{{PID: 1, Name: "another"}, {PID: pid, Name: "python3"}}
	}
	return r
}

// The process that listens at a server's address is found in the drivers' lists of processes, whatever the server says of itself.
func TestTheProcessListTellsTheDevice(t *testing.T) {
	t.Parallel()
	address := listening(t)
	inventory := mixed()
	for _, tt := range []struct {
		name   string
		device string // what a person said
		cannot bool   // numbers of processes mean nothing here
		report *gpu.Report
		want   string // label of the device; "" for none
		state  wire.GeneratorState
		words  string
	}{
		{"one of two equal cards", "", false, working(inventory, os.Getpid(), 1), "1", wire.GeneratorReady, ""},
		{"a process that it was started by another one", "", false, working(inventory, os.Getppid(), 1), "", wire.GeneratorUnplaced, "does not say"},
		{"two at once", "", false, working(inventory, os.Getpid(), 0, 1), "", wire.GeneratorUnplaced, "Device 0 and Device 1"},
		{"another than was said", "0", false, working(inventory, os.Getpid(), 1), "", wire.GeneratorUnplaced, "its process uses Device 1"},
		{"the one that was said", "1", false, working(inventory, os.Getpid(), 1), "1", wire.GeneratorReady, ""},
		{"numbers that mean nothing", "", true, working(inventory, os.Getpid(), 1), "", wire.GeneratorUnplaced, "does not say"},
		{"a report of other devices", "", false, &gpu.Report{Revision: 9, Devices: make([]gpu.Details, 4)}, "", wire.GeneratorUnplaced, "does not say"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := &Machine{CanTell: !tt.cannot}
			m.See(&inventory, tt.report)
			f := &fake{facts: Facts{Title: "ComfyUI", Models: []backend.Model{{Name: "sdxl"}}}}
			s := New(Config{Kind: "comfyui", Base: "http://" + address, Device: tt.device}, m, f.probe, nil)
			s.look(t.Context())
			got := s.Status()
			label := ""
			if got.Device != nil {
				label = got.Device.String()
			}
			if label != tt.want || got.State != tt.state || !strings.Contains(got.Problem, tt.words) {
				t.Errorf("device %q, %s, %q; want %q, %s, %q", label, got.State, got.Problem, tt.want, tt.state, tt.words)
			}
			if !s.Owns(os.Getpid()) || s.Owns(1) || s.Owns(os.Getppid()) {
				t.Error("it owns the wrong processes")
			}
		})
	}
}

// A server that moves to another card, as after a restart by hand, is followed when nothing else was said.
func TestAServerIsFollowedToAnotherDevice(t *testing.T) {
	t.Parallel()
	inventory := mixed()
	m := &Machine{CanTell: true}
	f := &fake{facts: Facts{Models: []backend.Model{{Name: "sdxl"}}}}
	s := New(Config{Kind: "comfyui", Base: "http://" + listening(t)}, m, f.probe, nil)
	for _, at := range []int{0, 1} {
		m.See(&inventory, working(inventory, os.Getpid(), at))
		s.look(t.Context())
		if dev, ok := s.Device(); !ok || dev.Index != gpu.Ref(at) {
			t.Errorf("%s: %v %t", fmt.Sprint(at), dev.ID, ok)
		}
	}
}
