package stage

import (
	"strconv"
	"time"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/pool"
	"muster/shared/wire"
)

// Pool is eight equal devices that people steer in every way, with orders that wait for them: some images are made, one is
// pinned, one is not predicted yet. now is when their expectations begin.
func Pool(now time.Time) []wire.Event {
	const model = "sdxl-turbo"
	inventory := &gpu.Inventory{Revision: 1, Host: gpu.Host{Name: "stage", CPUModel: "EPYC 9554", CPUCount: 64, MemoryBytes: 512 << 30, NVIDIADriver: "550.54.15", CUDAVersion: "12.4"}}
	snapshot := &gpu.Snapshot{Revision: 1, Host: gpu.HostReading{CPUPercent: ptr(21.0), MemoryUsedBytes: ptr(uint64(80 << 30)), MemoryTotalBytes: ptr(uint64(512 << 30))}}
	report := &gpu.Report{Revision: 1}
	capacity := &wire.Capacity{
		DefaultModel: model, Models: []wire.Model{{Name: model, Title: "SDXL Turbo"}}, Policy: "predicted", Pool: pool.Settings{MaxWatts: ptr(1800.0)}, Devices: decided(now),
	}
	for i := range 8 {
		id := "GPU-5a1c3f0e-0000-4c88-9f7a-00000000000" + strconv.Itoa(i)
		inventory.Devices = append(inventory.Devices, gpu.Device{
			ID: id, Index: gpu.Ref(i), Vendor: gpu.NVIDIA, Name: "NVIDIA GeForce RTX 4090", Arch: "sm_89", ComputeCapability: "8.9", MultiprocessorCount: ptr(128), MemoryBytes: ptr(uint64(24 << 30)),
			PCIAddress: "0000:" + strconv.FormatInt(int64(0x1a+0x10*i), 16) + ":00.0",
		})
		snapshot.GPUs = append(snapshot.GPUs, gpu.Reading{
			Index: gpu.Ref(i), State: gpu.StateOK, UtilizationPercent: ptr(float64(97 - 11*i)), MemoryTotalBytes: ptr(uint64(24 << 30)), MemoryUsedBytes: ptr(uint64(20-2*i) << 30),
			Temperatures: []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: float64(71 - 3*i)}}, PowerWatts: ptr(float64(380 - 45*i)), PowerLimitWatts: ptr(450.0),
		})
		report.Devices = append(report.Devices, gpu.Details{Time: now, Processes: []gpu.Process{}})
		capacity.Slots = append(capacity.Slots, wire.Slot{Device: gpu.Ref(i), Backend: "sdserver", Models: []string{model}, Loaded: model})
	}
	for i := range capacity.Devices {
		capacity.Devices[i].Key = inventory.Devices[capacity.Devices[i].Device].ID
	}
	events := []wire.Event{{Inventory: inventory}, {Snapshot: snapshot}, {Details: report}, {Capacity: capacity}}
	for _, j := range ordered(now, model, inventory.Devices[2].ID) {
		events = append(events, wire.Event{Job: &j})
	}
	return events
}

// decided is what people decided about devices 2 to 7; the first two are free.
func decided(now time.Time) []wire.Steered {
	return []wire.Steered{
		{Device: 2, Control: pool.Control{Mode: pool.Paused}, Phase: wire.PhasePaused, Words: "is paused"},
		{Device: 3, Control: pool.Control{Mode: pool.Draining}, Phase: wire.PhaseDraining, Words: "is being drained"},
		{Device: 4, Control: pool.Control{Mode: pool.Reserved, Until: ptr(now.Add(4 * time.Hour))}, Phase: wire.PhaseReserved, Words: "is reserved for other programs"},
		{Device: 5, Control: pool.Control{Yield: true}, Phase: wire.PhaseYielding, Words: "gives way to blender"},
		{Device: 6, Control: pool.Control{MaxWatts: ptr(100.0), MaxCelsius: ptr(80.0)}, Phase: wire.PhaseLimited, Words: "draws 110 W, its limit is 100 W"},
		{Device: 7, Control: pool.Control{Mode: pool.Draining}, Phase: wire.PhaseDrained},
	}
}

// ordered is three orders: one nearly ready, a long one behind it, and one pinned to the paused device.
func ordered(now time.Time, model, paused string) []job.Job {
	var jobs []job.Job
	add := func(set string, count int, prompt string, make func(i int, j *job.Job)) {
		for i := range count {
			j := job.Job{
				ID: set + strconv.Itoa(i), SetID: set, Ordinal: i, Seq: uint64(len(jobs) + 1), State: job.Queued, Prompt: prompt, Model: model, Backend: "sdserver",
				Seed: int64(4000 + i), Width: 1024, Height: 1024, Steps: 30, Guidance: 7, Created: now,
			}
			make(i, &j)
			jobs = append(jobs, j)
		}
	}
	expected := func(seconds int) *job.Expected {
		in := func(share float64) time.Time {
			return now.Add(time.Duration(float64(seconds) * share * float64(time.Second)))
		}
		return &job.Expected{At: in(1), Early: in(0.7), Late: in(1.6)}
	}
	add("01A", 3, "an old sea captain with a grey beard, storm light", func(i int, j *job.Job) {
		j.State, j.Attempt, j.DeviceID, j.Started, j.Expected = job.Running, 1, ptr([]gpu.Ref{0, 1, 3}[i]), ptr(now.Add(-9*time.Second)), expected(14+9*i)
		j.Progress, j.Reason = job.Progress{Step: 21 - 6*i, Steps: 30, ETASeconds: ptr(float64(14 + 9*i))}, j.DeviceID.Label()+": it is idle and holds the model"
	})
	add("01B", 6, "a young astronomer with round glasses, under the dome of an observatory at night", func(i int, j *job.Job) {
		j.Reason, j.Expected = "waits for "+gpu.Ref(i%2).Label()+": sooner there than anywhere else", expected(70+45*i)
		if i == 5 {
			j.Reason, j.Expected = "waits: 5 images are before it", nil
		}
	})
	add("01C", 1, "a gardener with a straw hat", func(_ int, j *job.Job) {
		j.PinnedTo, j.PinnedKey, j.Reason = ptr(gpu.Ref(2)), paused, "waits for Device 2, which is paused"
	})
	return jobs
}
