package stage

import (
	"math"
	"net/url"
	"strconv"
	"time"

	"muster/shared/gpu"
	"muster/shared/wire"
)

func ptr[T any](v T) *T { return &v }

// Machine is eight devices in states that seldom meet in one machine: everything reported, divided, suspect, two with unified
// memory, asleep, stuck, and one whose driver differs from its library. now is when its faults happened, about.
func Machine(now time.Time) []wire.Event {
	inventory := &gpu.Inventory{
		Revision: 1, Host: gpu.Host{Name: "stage", CPUModel: "EPYC 9554", CPUCount: 64, MemoryBytes: 512 << 30, NVIDIADriver: "550.54.15", CUDAVersion: "12.4"},
		OtherAdapters: []gpu.Adapter{{Name: "ASPEED Graphics Family", PCIAddress: "0000:03:00.0", Driver: "ast"}},
	}
	snapshot := &gpu.Snapshot{Revision: 1, Host: gpu.HostReading{CPUPercent: ptr(21.0), MemoryUsedBytes: ptr(uint64(80 << 30)), MemoryTotalBytes: ptr(uint64(512 << 30))}}
	report := &gpu.Report{Revision: 1}
	for i, make := range []func(time.Time) (gpu.Device, gpu.Reading, gpu.Details){full, divided, suspect, apu, asleep, stuck, unified, mismatch} {
		device, reading, details := make(now)
		device.Index, reading.Index = gpu.Ref(i), gpu.Ref(i)
		device.PCIAddress = "0000:" + strconv.FormatInt(int64(0x1a+0x10*i), 16) + ":00.0"
		inventory.Devices = append(inventory.Devices, device)
		snapshot.GPUs = append(snapshot.GPUs, reading)
		report.Devices = append(report.Devices, details)
	}
	return []wire.Event{{Inventory: inventory}, {Snapshot: snapshot}, {Details: report}}
}

func full(now time.Time) (gpu.Device, gpu.Reading, gpu.Details) {
	device := gpu.Device{
		ID: "GPU-5a1c3f0e-7d2b-4c88-9f7a-0c1d2e3f4a5b", Vendor: gpu.NVIDIA, Name: "NVIDIA H100 80GB HBM3", Arch: "sm_90", ComputeCapability: "9.0", MultiprocessorCount: ptr(132),
		MemoryBytes: ptr(uint64(80 << 30)), DriverVersion: "550.54.15", FirmwareVersion: "96.00.74.00.01", SerialNumber: "1652823054221",
		Limits: &gpu.Limits{
			SlowdownCelsius: ptr(87.0), ShutdownCelsius: ptr(92.0), MemoryCelsius: ptr(95.0), PowerMinWatts: ptr(200.0), PowerMaxWatts: ptr(700.0), PowerDefaultWatts: ptr(700.0),
			CoreClockMHz: ptr(1980.0), MemoryClockMHz: ptr(2619.0), PCIeGeneration: ptr(5), PCIeWidth: ptr(16),
		},
		Sources: map[string]string{
			"name": "nvmlDeviceGetName", "utilization_percent": "nvmlDeviceGetUtilizationRates", "memory_used_bytes": "nvmlDeviceGetMemoryInfo_v2", "power_watts": "nvmlDeviceGetPowerUsage",
			"temperatures": "nvmlDeviceGetTemperature", "core_clock_mhz": "nvmlDeviceGetClockInfo", "ecc": "nvmlDeviceGetTotalEccErrors", "links": "nvmlDeviceGetNvLinkState",
		},
		Absent: map[string]gpu.Absence{"fan_percent": gpu.AbsentUnsupported, "media_percent": gpu.AbsentUnsupported, "pcie_replays": gpu.AbsentNoPermission},
	}
	reading := gpu.Reading{
		State: gpu.StateOK, UtilizationPercent: ptr(97.0), MemoryUtilizationPercent: ptr(61.0), EncoderPercent: ptr(0.0), DecoderPercent: ptr(4.0),
		MemoryTotalBytes: ptr(uint64(80 << 30)), MemoryUsedBytes: ptr(uint64(62 << 30)), MemoryReservedBytes: ptr(uint64(614 << 20)),
		Temperatures: []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: 68}, {Sensor: gpu.SensorMemory, Celsius: 81}}, PowerWatts: ptr(691.0), PowerLimitWatts: ptr(700.0),
		CoreClockMHz: ptr(1755.0), MemoryClockMHz: ptr(2619.0), PCIeGeneration: ptr(5), PCIeWidth: ptr(16), PerformanceState: ptr(0), Throttle: ptr(gpu.ThrottlePower),
	}
	details := gpu.Details{
		Time: now, EnergyJoules: ptr(4.21e9), RemappedRows: &gpu.RemappedRows{Correctable: 1, Uncorrectable: 1, Pending: true},
		ECC: &gpu.ECC{Enabled: ptr(true), CorrectedVolatile: ptr(uint64(3)), UncorrectedVolatile: ptr(uint64(0)), CorrectedAggregate: ptr(uint64(1204)), UncorrectedAggregate: ptr(uint64(1))},
		Faults: []gpu.Fault{
			{Time: now.Add(-30 * time.Hour), Kind: "XID", Code: 31, Text: "GPU memory page fault: a program used an address that is not its own"},
			{Time: now.Add(-4 * time.Minute), Kind: "XID", Code: 94, Text: "Contained memory error: the program that used the page was ended"},
		},
		Processes: []gpu.Process{
			{PID: 48213, Type: gpu.ProcessCompute, Name: "python3", User: "alice", MemoryBytes: ptr(uint64(58 << 30)), Command: "python3 train.py --model sdxl --batch 16 --resume /data/checkpoints/2026-03-04"},
			{PID: 1933, Type: gpu.ProcessGraphics, Name: "Xorg", User: "root", MemoryBytes: ptr(uint64(212 << 20))}, {PID: 90021, Type: gpu.ProcessCompute},
		},
		ProcessesHidden: "Programs of other containers show as numbers only. Start the container with --pid=host to see them.",
	}
	for i := range 18 {
		l := gpu.Link{Index: i, Kind: "NVLink", Active: i != 4, Version: 4}
		if l.Active {
			l.GigabytesPerSecond, l.PeerAddress = ptr(26.6), "0000:3a:00.0"
		}
		details.Links = append(details.Links, l)
	}
	return device, reading, details
}

func divided(now time.Time) (gpu.Device, gpu.Reading, gpu.Details) {
	device, reading, details := full(now)
	device.ID, device.PartitionMode = "GPU-9be2d7aa-0000-4a33-8c55-77aa88bb99cc", "MIG"
	reading.UtilizationPercent, reading.Throttle, details.Faults, details.Links, details.RemappedRows = nil, ptr(gpu.ThrottleIdle), nil, nil, &gpu.RemappedRows{}
	for i, part := range []struct {
		name string
		sms  int
		gib  uint64
		used *uint64
	}{{"MIG 3g.40gb", 60, 40, ptr(uint64(31 << 30))}, {"MIG 2g.20gb", 32, 20, ptr(uint64(2 << 30))}, {"MIG 1g.10gb", 16, 10, nil}} {
		id := "MIG-" + strconv.Itoa(i) + "f2a77e0-5a0c-5b1d-9d5e-2f1c0b7a9e11"
		device.Partitions = append(device.Partitions, gpu.Device{ID: id, Name: part.name, MultiprocessorCount: &part.sms, MemoryBytes: ptr(part.gib << 30)})
		details.Partitions = append(details.Partitions, gpu.PartitionReading{ID: id, MemoryUsedBytes: part.used, MemoryTotalBytes: ptr(part.gib << 30)})
	}
	details.Processes = []gpu.Process{{PID: 5120, Type: gpu.ProcessCompute, Name: "tritonserver", User: "inference", MemoryBytes: ptr(uint64(30 << 30)), Partition: device.Partitions[0].ID}}
	details.ProcessesHidden = ""
	return device, reading, details
}

func suspect(now time.Time) (gpu.Device, gpu.Reading, gpu.Details) {
	device := gpu.Device{
		ID: "GPU-0215061f0f6c0cb1", Vendor: gpu.AMD, Name: "Radeon Instinct MI25", Arch: "gfx900", ComputeCapability: "9.0", MultiprocessorCount: ptr(64), MemoryBytes: ptr(uint64(17163091968)),
		DriverVersion: "6.8.5", Limits: &gpu.Limits{CoreClockMHz: ptr(1500.0), MemoryClockMHz: ptr(945.0), PCIeGeneration: ptr(3), PCIeWidth: ptr(16)},
		Sources: map[string]string{"utilization_percent": "gpu_busy_percent", "memory_used_bytes": "mem_info_vram_used", "power_watts": "hwmon power1_average", "temperatures": "hwmon temp*_input"},
	}
	reading := gpu.Reading{
		State: gpu.StateOK, UtilizationPercent: ptr(100.0), MemoryTotalBytes: ptr(uint64(17163091968)), MemoryUsedBytes: ptr(uint64(11 << 20)), SharedMemoryTotalBytes: ptr(uint64(256 << 30)), SharedMemoryUsedBytes: ptr(uint64(6 << 20)),
		Temperatures: []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: 31}, {Sensor: gpu.SensorJunction, Celsius: 32}, {Sensor: gpu.SensorMemory, Celsius: 30}},
		PowerWatts:   ptr(12.0), PowerLimitWatts: ptr(220.0), CoreClockMHz: ptr(852.0), MemoryClockMHz: ptr(167.0), FanPercent: ptr(14.0), FanRPM: ptr(640.0), PCIeGeneration: ptr(1), PCIeWidth: ptr(16), Throttle: ptr(gpu.Throttle(0)),
		Suspect: []string{"utilization_percent"},
	}
	details := gpu.Details{
		Time: now, Processes: []gpu.Process{},
		Disagreements: []gpu.Disagreement{{Field: "power_watts", Values: []gpu.Sourced{{Source: "hwmon power1_average", Value: 12}, {Source: "libamd_smi", Value: 19}}}},
	}
	return device, reading, details
}

func apu(now time.Time) (gpu.Device, gpu.Reading, gpu.Details) {
	device := gpu.Device{ID: "pci-0000:4a:00.0", Vendor: gpu.AMD, Name: "Radeon 8060S (Strix Halo)", Arch: "gfx1151", ComputeCapability: "11.5", MultiprocessorCount: ptr(20), MemoryBytes: ptr(uint64(512 << 20)), Unified: true, DriverVersion: "6.14"}
	reading := gpu.Reading{
		State: gpu.StateOK, UtilizationPercent: ptr(43.0), MemoryTotalBytes: ptr(uint64(512 << 20)), MemoryUsedBytes: ptr(uint64(390 << 20)), SharedMemoryTotalBytes: ptr(uint64(96 << 30)), SharedMemoryUsedBytes: ptr(uint64(37 << 30)),
		Temperatures: []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: 59}}, PowerWatts: ptr(54.0), CoreClockMHz: ptr(2100.0), MediaPercent: ptr(12.0), Throttle: ptr(gpu.ThrottleThermal | gpu.ThrottleCurrent),
	}
	return device, reading, gpu.Details{Time: now, Absent: map[string]gpu.Absence{"processes": gpu.AbsentNoPermission}}
}

func asleep(now time.Time) (gpu.Device, gpu.Reading, gpu.Details) {
	device := gpu.Device{ID: "GPU-77c01ab2ef4d9a10", Vendor: gpu.AMD, Name: "Radeon PRO V620", Arch: "gfx1030", ComputeCapability: "10.3", MultiprocessorCount: ptr(36), MemoryBytes: ptr(uint64(30 << 30)), DriverVersion: "6.8.5"}
	return device, gpu.Reading{State: gpu.StateSuspended, MemoryTotalBytes: device.MemoryBytes}, gpu.Details{Time: now.Add(-2 * time.Hour)}
}

func stuck(now time.Time) (gpu.Device, gpu.Reading, gpu.Details) {
	device, reading, details := full(now.Add(-90 * time.Second))
	device.ID, device.Name, device.MemoryBytes = "GPU-1f6b2c3d-4e5f-6071-8293-a4b5c6d7e8f9", "NVIDIA GeForce RTX 4090", ptr(uint64(24<<30))
	reading.State, reading.AgeMilliseconds, reading.MemoryTotalBytes, reading.MemoryUsedBytes = gpu.StateStuck, 90_000, device.MemoryBytes, ptr(uint64(9<<30))
	details.Faults, details.Links = []gpu.Fault{{Time: now.Add(-95 * time.Second), Kind: "XID", Code: 119, Text: "The GPU's own processor does not answer: reset the GPU, or reboot"}}, nil
	return device, reading, details
}

func unified(now time.Time) (gpu.Device, gpu.Reading, gpu.Details) {
	device := gpu.Device{ID: "GPU-00b10000-aaaa-bbbb-cccc-ddddeeeeffff", Vendor: gpu.NVIDIA, Name: "NVIDIA GB10", Arch: "sm_121", ComputeCapability: "12.1", MultiprocessorCount: ptr(48), MemoryBytes: ptr(uint64(119 << 30)), Unified: true}
	reading := gpu.Reading{State: gpu.StateOK, UtilizationPercent: ptr(8.0), MemoryTotalBytes: device.MemoryBytes, MemoryUsedBytes: ptr(uint64(44 << 30)), Temperatures: []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: 47}}, PowerWatts: ptr(14.0), Throttle: ptr(gpu.ThrottleIdle)}
	return device, reading, gpu.Details{Time: now, Processes: []gpu.Process{}}
}

func mismatch(time.Time) (gpu.Device, gpu.Reading, gpu.Details) {
	return gpu.Device{ID: "pci-0000:8a:00.0", Vendor: gpu.NVIDIA, Name: "NVIDIA T4"}, gpu.Reading{State: gpu.StateDriverMismatch}, gpu.Details{}
}

// Waves is a past that goes up and down, with a gap of a tenth of the time at its middle.
func Waves(q url.Values) (status int, body any) {
	from, _ := strconv.ParseInt(q.Get("from"), 10, 64)
	to, _ := strconv.ParseInt(q.Get("to"), 10, 64)
	points, _ := strconv.ParseInt(q.Get("points"), 10, 64)
	step := max(1, (to-from)/max(1, points))
	top := map[gpu.Metric]float64{gpu.MetricTemperature: 84, gpu.MetricPower: 690, gpu.MetricCoreClock: 1980, gpu.MetricMemoryClock: 2619}[gpu.Metric(q.Get("metric"))]
	if top == 0 {
		top = 98
	}
	times := []time.Time{}
	var least, mean, most wire.Column
	for at := from; at < to; at += step {
		share := float64(at-from) / float64(max(1, to-from))
		middle := top * (0.55 + 0.3*math.Sin(14*share) + 0.06*math.Sin(171*share))
		spread := top * (0.03 + 0.05*math.Abs(math.Sin(37*share)))
		if share > 0.45 && share < 0.55 {
			middle = math.NaN()
		}
		times = append(times, time.Unix(at, 0).UTC())
		least, mean, most = append(least, middle-spread), append(mean, middle), append(most, middle+spread)
	}
	return 200, map[string]any{"metric": q.Get("metric"), "step_s": step, "times": times, "min": least, "mean": mean, "max": most}
}
