package server

import (
	"fmt"
	"strings"
	"testing"

	"muster/agent/queue"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/pool"
	"muster/shared/wire"
)

func TestPool(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.set(func() {
		a.inventory.Devices = append(a.inventory.Devices, gpu.Device{ID: "GPU-2", Index: 2, Name: "Spare"})
		a.capacity.Slots[1].Problem = "sd-server is missing"
	})
	jobs := a.submitJobs(1)
	if _, err := a.queue.Start(t.Context(), jobs[0].ID, 0, queue.Placement{Device: 0, DeviceKey: "GPU-0"}); err != nil {
		t.Fatal(err)
	}
	a.ask("POST", "/api/v1/devices/0/drain", "")
	const device = `{"device_id":%s,"device_key":%q,"control":{"mode":%q},"phase":%q%s,"name":%q,"loaded":[%s],"running":[%s]}`
	one := func(id, key, mode, phase, words, name, loaded, running string) string {
		if words != "" {
			words = `,"words":"` + words + `"`
		}
		return fmt.Sprintf(device, id, key, mode, phase, words, name, loaded, running)
	}
	check := func(what string, r answer, watts string, devices ...string) {
		t.Helper()
		if want := `{"pool":{` + watts + `},"devices":[` + strings.Join(devices, ",") + `]}`; r.status != 200 || strings.TrimSpace(string(r.body)) != want {
			t.Errorf("%s: %d %s, want %s", what, r.status, r.body, want)
		}
	}
	rest := []string{
		one("1", "GPU-1", "active", "active", "sd-server is missing", "Radeon Instinct MI25", "", ""),
		one("2", "GPU-2", "active", "active", "has no generator", "Spare", "", ""),
	}
	first := func(phase, words string) []string {
		return append([]string{one("0", "GPU-0", "draining", phase, words, "Radeon Instinct MI25", `"sd15"`, `"`+jobs[0].ID+`"`)}, rest...)
	}
	check("before the scheduler has looked", a.ask("GET", "/api/v1/pool", ""), "", first("draining", "")...)
	a.set(func() {
		a.capacity.Devices = []wire.Steered{{Device: 0, Key: "GPU-0", Control: pool.Control{Mode: pool.Draining}, Phase: wire.PhaseDrained, Words: "is drained"}}
	})
	check("after it has", a.ask("GET", "/api/v1/pool", ""), "", first("drained", "is drained")...)
	check("with a budget", a.ask("PUT", "/api/v1/pool", `{"max_watts":1500}`), `"max_watts":1500`, first("drained", "is drained")...)
	check("kept", a.ask("GET", "/api/v1/pool", ""), `"max_watts":1500`, first("drained", "is drained")...)
	check("without again", a.ask("PUT", "/api/v1/pool", `{}`), "", first("drained", "is drained")...)
	// What the scheduler says of an older decision is not said of the newer one.
	a.ask("POST", "/api/v1/devices/0/resume", "")
	check("resumed", a.ask("GET", "/api/v1/pool", ""), "",
		append([]string{one("0", "GPU-0", "active", "active", "", "Radeon Instinct MI25", `"sd15"`, `"`+jobs[0].ID+`"`)}, rest...)...)
	a.ask("POST", "/api/v1/devices/cpu/pause", "")
	var got wire.Pool
	a.ask("GET", "/api/v1/pool", "").into(t, &got)
	if n := len(got.Devices); n != 4 || got.Devices[3].Device != gpu.CPU || got.Devices[3].Phase != wire.PhasePaused {
		t.Errorf("with the processor paused: %+v", got)
	}
}

// A pin onto a device that takes no work is taken: the image waits.
func TestPins(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.set(func() {
		a.capacity.Slots = append(a.capacity.Slots, wire.Slot{Device: gpu.CPU, Models: []string{"sketch"}})
		a.inventory.Devices = append(a.inventory.Devices, gpu.Device{ID: "GPU-2", Index: 2})
	})
	a.ask("POST", "/api/v1/devices/1/reserve", "")
	for _, test := range []struct {
		pin   string
		ref   gpu.Ref
		key   string
		field string // that is refused
		want  string
	}{
		{`"device_id":0`, 0, "GPU-0", "", ""}, {`"device_key":"GPU-0"`, 0, "GPU-0", "", ""}, {`"device_id":1,"device_key":"GPU-1"`, 1, "GPU-1", "", ""},
		{`"device_id":"cpu"`, gpu.CPU, "cpu", "", ""}, {`"device_key":"cpu"`, gpu.CPU, "cpu", "", ""}, {`"device_id":null,"device_key":"GPU-1"`, 1, "GPU-1", "", ""},
		{`"device_id":0,"device_key":"GPU-1"`, 0, "", "device_key", "GPU-1 is not the device with device_id 0"}, {`"device_id":"cpu","device_key":"GPU-1"`, 0, "", "device_key", "device_id cpu"}, {`"device_id":0,"device_key":"cpu"`, 0, "", "device_key", "cpu is not the device"},
		{`"device_id":2`, 0, "", "device_id", "2 can't generate; allowed are 0, 1, cpu"}, {`"device_key":"GPU-2"`, 0, "", "device_key", "allowed are GPU-0 (Device 0), GPU-1 (Device 1), cpu"}, {`"device_key":"GPU-9"`, 0, "", "device_key", `"GPU-9" can't generate`}, {`"device_key":"gpu-0"`, 0, "", "device_key", "can't generate"},
		{`"device_id":0,"device_key":"GPU-9"`, 0, "", "device_key", "can't generate"}, {`"device_key":"` + strings.Repeat("x", 201) + `"`, 0, "", "device_key", "200 bytes"}, {`"device_key":7`, 0, "", "device_key", "must be a string"},
		{`"device_key":"GPU-1","model":"sd15"`, 0, "", "device_key", "no generator for the model"}, {`"device_id":1,"model":"sd15"`, 0, "", "device_id", "no generator for the model"},
	} {
		r := a.ask("POST", "/api/v1/jobs", `{"prompt":"x",`+test.pin+`}`)
		if test.field != "" {
			if r.status != 400 || !strings.Contains(r.message(), test.field+": ") || !strings.Contains(r.message(), test.want) {
				t.Errorf("%.60s: %d %s, want %q", test.pin, r.status, r.body, test.want)
			}
			continue
		}
		var set setAnswer
		r.into(t, &set)
		if r.status != 202 || *set.Jobs[0].PinnedTo != test.ref || set.Jobs[0].PinnedKey != test.key || set.Jobs[0].State != job.Queued {
			t.Errorf("%s: %d %s", test.pin, r.status, r.body)
		}
	}
}

// The numbers of devices change; what a command meant does not.
func TestAKeyStandsForItsCommandWhateverTheMachineIsByNow(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	body := `{"prompt":"x","device_id":0}`
	var first, again setAnswer
	a.ask("POST", "/api/v1/jobs", body, "Idempotency-Key", "k").into(t, &first)
	a.set(func() {
		devices := a.inventory.Devices
		a.inventory = &gpu.Inventory{Revision: 2, Devices: []gpu.Device{devices[1], devices[0]}}
		a.capacity.DefaultModel = "sd15"
		a.capacity.Slots = []wire.Slot{{Device: 0, Models: []string{"sketch", "sd15"}}, {Device: 1, Models: []string{"sketch", "sd15"}}}
	})
	r := a.ask("POST", "/api/v1/jobs", body, "Idempotency-Key", "k")
	if r.into(t, &again); r.status != 200 || len(again.Jobs) != 1 || again.Jobs[0].ID != first.Jobs[0].ID || again.Jobs[0].PinnedKey != "GPU-0" || again.Jobs[0].Model != "sketch" {
		t.Errorf("%d %s, want %+v", r.status, r.body, first)
	}
	a.set(func() { a.inventory.Devices = a.inventory.Devices[:1]; a.capacity.Slots = nil })
	r = a.ask("POST", "/api/v1/jobs", body, "Idempotency-Key", "k")
	if r.into(t, &again); r.status != 200 || again.Jobs[0].ID != first.Jobs[0].ID {
		t.Errorf("without a generator: %d %s", r.status, r.body)
	}
	if r := a.ask("POST", "/api/v1/jobs", `{"prompt":"y"}`, "Idempotency-Key", "k2"); r.status != 503 {
		t.Errorf("a new one: %d %s", r.status, r.body)
	}
}
