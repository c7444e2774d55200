package telemetry

import (
	"context"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"muster/shared/gpu"
)

func TestCombineDetails(t *testing.T) {
	t.Parallel()
	first, second := time.Unix(10, 0).UTC(), time.Unix(20, 0).UTC()
	a := gpu.Details{
		Time: first, EnergyJoules: ptr(0.0), ECC: &gpu.ECC{Enabled: ptr(true), CorrectedVolatile: ptr(uint64(0))},
		Processes: []gpu.Process{
			{PID: 3, MemoryBytes: ptr(uint64(30)), Type: gpu.ProcessCompute}, {PID: 4, Name: "known"}, {PID: 5, Partition: "p0", MemoryBytes: ptr(uint64(1))},
		},
		Partitions:    []gpu.PartitionReading{{ID: "p0", MemoryTotalBytes: ptr(uint64(100))}},
		Disagreements: []gpu.Disagreement{{Field: "power_watts"}},
		Absent:        map[string]gpu.Absence{"links": gpu.AbsentUnsupported, "energy_joules": gpu.AbsentFailed, "remapped_rows": gpu.AbsentTimedOut},
	}
	b := gpu.Details{
		Time: second, EnergyJoules: ptr(9.0), PCIeReplays: ptr(uint64(2)), ECC: &gpu.ECC{CorrectedVolatile: ptr(uint64(8)), UncorrectedAggregate: ptr(uint64(1))},
		Links: []gpu.Link{{Kind: "XGMI"}},
		Processes: []gpu.Process{
			{PID: 5, Partition: "p1", Name: "other partition", MemoryBytes: ptr(uint64(50))}, {PID: 4, Name: "no", MemoryBytes: ptr(uint64(40)), Partition: "p0"},
			{PID: 3, Name: "python3", MemoryBytes: ptr(uint64(99)), Type: gpu.ProcessGraphics}, {PID: 9, Name: "new"},
		},
		ProcessesHidden: "those of other users", Partitions: []gpu.PartitionReading{{ID: "p0", MemoryTotalBytes: ptr(uint64(7)), UtilizationPercent: ptr(5.0)}, {ID: "p1"}},
		Disagreements: []gpu.Disagreement{{Field: "memory_used_bytes"}},
		Absent:        map[string]gpu.Absence{"remapped_rows": gpu.AbsentNoPermission, "links": gpu.AbsentNoPermission, "fan_rpm": gpu.AbsentUnsupported},
	}
	want := gpu.Details{
		Time: first, EnergyJoules: ptr(0.0), PCIeReplays: ptr(uint64(2)),
		ECC:   &gpu.ECC{Enabled: ptr(true), CorrectedVolatile: ptr(uint64(0)), UncorrectedAggregate: ptr(uint64(1))},
		Links: b.Links,
		Processes: []gpu.Process{
			{PID: 5, Partition: "p1", Name: "other partition", MemoryBytes: ptr(uint64(50))}, {PID: 4, Name: "known", MemoryBytes: ptr(uint64(40)), Partition: "p0"},
			{PID: 3, Name: "python3", MemoryBytes: ptr(uint64(30)), Type: gpu.ProcessCompute}, {PID: 5, Partition: "p0", MemoryBytes: ptr(uint64(1))},
			{PID: 9, Name: "new"},
		},
		ProcessesHidden: "those of other users",
		Partitions:      []gpu.PartitionReading{{ID: "p0", MemoryTotalBytes: ptr(uint64(100)), UtilizationPercent: ptr(5.0)}, {ID: "p1"}},
		Disagreements:   []gpu.Disagreement{{Field: "power_watts"}, {Field: "memory_used_bytes"}},
		// Of two reasons the one that a person could change; those of what one has go with the reading, in stillAbsent.
		Absent: map[string]gpu.Absence{"links": gpu.AbsentNoPermission, "energy_joules": gpu.AbsentFailed, "remapped_rows": gpu.AbsentTimedOut, "fan_rpm": gpu.AbsentUnsupported},
	}
	savedA, savedB := *a.ECC, b.Processes[1]
	got := combineDetails(combineDetails(gpu.Details{}, a), b)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if *a.ECC != savedA || b.Processes[1] != savedB || a.Processes[1].MemoryBytes != nil {
		t.Error("what was given was changed")
	}
	left := stillAbsent(got.Absent, &gpu.Reading{FanRPM: ptr(0.0)}, &got)
	if diff := cmp.Diff(map[string]gpu.Absence{"remapped_rows": gpu.AbsentTimedOut}, left); diff != "" {
		t.Errorf("absent (-want +got):\n%s", diff)
	}
}

func TestProcessesThatCanNotBeTold(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		a, b   gpu.Details
		count  int // -1 = not known
		hidden string
	}{
		{"nobody can tell", gpu.Details{ProcessesHidden: "x"}, gpu.Details{ProcessesHidden: "y"}, -1, "x"},
		{"the second can", gpu.Details{ProcessesHidden: "x"}, gpu.Details{Processes: []gpu.Process{}}, 0, ""},
		{"the first can", gpu.Details{Processes: []gpu.Process{{PID: 1}}}, gpu.Details{ProcessesHidden: "y"}, 1, ""},
		{"both, and the second knows that some are hidden", gpu.Details{Processes: []gpu.Process{{PID: 1}}}, gpu.Details{Processes: []gpu.Process{{PID: 2}}, ProcessesHidden: "y"}, 2, "y"},
	} {
		got := combineDetails(tt.a, tt.b)
		count := len(got.Processes)
		if got.Processes == nil {
			count = -1
		}
		if count != tt.count || got.ProcessesHidden != tt.hidden {
			t.Errorf("%s: %d processes, %q", tt.name, count, got.ProcessesHidden)
		}
	}
}

// A field that is added to gpu.Details must be combined too.
func TestCombineDetailsKnowsEveryField(t *testing.T) {
	t.Parallel()
	var full gpu.Details
	v := reflect.ValueOf(&full).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		case reflect.Map:
			f.Set(reflect.ValueOf(map[string]gpu.Absence{"x": gpu.AbsentFailed}))
		case reflect.String:
			f.SetString("x")
		default:
			f.Set(reflect.ValueOf(time.Unix(1, 0)))
		}
	}
	got := reflect.ValueOf(combineDetails(gpu.Details{}, full))
	for i := range got.NumField() {
		if got.Field(i).IsZero() {
			t.Errorf("%s of the second reader is lost", got.Type().Field(i).Name)
		}
	}
}

func TestSuspectValuesGiveWay(t *testing.T) {
	t.Parallel()
	busy := gpu.Reading{UtilizationPercent: ptr(100.0), PowerWatts: ptr(8.0), MemoryTotalBytes: ptr(uint64(10)), MemoryUsedBytes: ptr(uint64(9)), Suspect: []string{"utilization_percent", "memory_used_bytes"}}
	idle := gpu.Reading{UtilizationPercent: ptr(0.0), PowerWatts: ptr(9.0), FanRPM: ptr(1e9), MemoryTotalBytes: ptr(uint64(11)), MemoryUsedBytes: ptr(uint64(1)), Suspect: []string{"fan_rpm"}}
	for _, tt := range []struct {
		name        string
		a, b        gpu.Reading
		utilization float64
		used        uint64
		suspect     []string
	}{
		{"a later reader knows better", busy, idle, 0, 1, []string{"fan_rpm"}},
		{"a later reader is wrong", idle, busy, 0, 1, []string{"fan_rpm"}},
		{"nobody knows better", busy, gpu.Reading{PowerWatts: ptr(1.0)}, 100, 9, []string{"utilization_percent", "memory_used_bytes"}},
		{"both are wrong", busy, busy, 100, 9, []string{"utilization_percent", "memory_used_bytes"}},
		{"only the later one has it", gpu.Reading{}, busy, 100, 9, []string{"utilization_percent", "memory_used_bytes"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := combine(tt.a, tt.b)
			if *got.UtilizationPercent != tt.utilization || *got.MemoryUsedBytes != tt.used {
				t.Errorf("%v %%, %d bytes", *got.UtilizationPercent, *got.MemoryUsedBytes)
			}
			if diff := cmp.Diff(tt.suspect, got.Suspect); diff != "" {
				t.Errorf("suspect: %s", diff)
			}
		})
	}
	if *busy.UtilizationPercent != 100 || len(busy.Suspect) != 2 {
		t.Error("what was given was changed")
	}
}

func TestMergeStaticFields(t *testing.T) {
	t.Parallel()
	inv, _ := merge(gpu.Host{}, []listing{
		{reader: "first", devices: []gpu.Device{{
			ID: "a", PCIAddress: "0000:01:00.0", Limits: &gpu.Limits{SlowdownCelsius: ptr(90.0)}, SerialNumber: "S1",
			Sources: map[string]string{"power_watts": "hwmon", "fan_rpm": "hwmon"},
			Absent: map[string]gpu.Absence{
				"fan_rpm": gpu.AbsentUnsupported, "arch": gpu.AbsentNoPermission, "encoder_percent": gpu.AbsentUnsupported, "serial_number": gpu.AbsentFailed,
				"media_percent": gpu.AbsentUnsupported,
			},
		}}},
		{reader: "second", devices: []gpu.Device{{
			ID: "a", PCIAddress: "0000:01:00.0", Limits: &gpu.Limits{SlowdownCelsius: ptr(1.0), PowerMaxWatts: ptr(300.0)}, SerialNumber: "S2", FirmwareVersion: "113", PartitionMode: "CPX",
			Arch: "gfx900", Sources: map[string]string{"encoder_percent": "amdsmi", "fan_rpm": "amdsmi"},
			Absent: map[string]gpu.Absence{"power_watts": gpu.AbsentNoPermission, "media_percent": gpu.AbsentNoPermission},
		}}},
	})
	want := gpu.Device{
		ID: "a", PCIAddress: "0000:01:00.0", Limits: &gpu.Limits{SlowdownCelsius: ptr(90.0), PowerMaxWatts: ptr(300.0)}, SerialNumber: "S1", FirmwareVersion: "113",
		PartitionMode: "CPX", Arch: "gfx900",
		Sources: map[string]string{
			"power_watts": "hwmon", "fan_rpm": "amdsmi", "encoder_percent": "amdsmi", "arch": "second", "serial_number": "first", "firmware_version": "second",
			"partition_mode": "second", "limits": "first",
		},
		Absent: map[string]gpu.Absence{"media_percent": gpu.AbsentNoPermission},
	}
	if diff := cmp.Diff([]gpu.Device{want}, inv.Devices); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Every field of gpu.Device that a reader may leave out is filled by the next.
func TestMergeKnowsEveryField(t *testing.T) {
	t.Parallel()
	full := gpu.Device{
		ID: "GPU-1", VendorIndex: ptr(1), Vendor: gpu.AMD, Name: "n", PCIAddress: "0000:01:00.0", Arch: "a", ComputeCapability: "9.0", MultiprocessorCount: ptr(1),
		MemoryBytes: ptr(uint64(1)), Unified: true, DriverVersion: "d", FirmwareVersion: "f", SerialNumber: "s", PartitionMode: "p", Limits: &gpu.Limits{},
		Simulated: true, Sources: map[string]string{"x": "y"}, Absent: map[string]gpu.Absence{"z": gpu.AbsentFailed}, Partitions: []gpu.Device{{ID: "p"}},
	}
	inv, _ := merge(gpu.Host{}, []listing{{devices: []gpu.Device{{ID: "pci-0000:01:00.0", PCIAddress: "0000:01:00.0"}}}, {devices: []gpu.Device{full}}})
	got := reflect.ValueOf(inv.Devices[0])
	for i := range got.NumField() {
		if name := got.Type().Field(i).Name; got.Field(i).IsZero() && name != "Index" && name != "Error" {
			t.Errorf("%s of the second reader is lost", name)
		}
	}
	if len(inv.Devices) != 1 {
		t.Errorf("%d devices", len(inv.Devices))
	}
}

// Only what no reader has, by static facts, readings or details, is absent in the report.
func TestAbsentInReports(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := newDetailed("a"), newDetailed("a")
		first.tell("a", func(context.Context) (gpu.Details, error) {
			return gpu.Details{Absent: map[string]gpu.Absence{
				"ecc": gpu.AbsentNoPermission, "links": gpu.AbsentUnsupported, "fan_rpm": gpu.AbsentFailed, "power_watts": gpu.AbsentFailed, "energy_joules": gpu.AbsentFailed,
			}}, nil
		})
		second.tell("a", func(context.Context) (gpu.Details, error) {
			return gpu.Details{Links: []gpu.Link{{}}, Absent: map[string]gpu.Absence{"energy_joules": gpu.AbsentUnsupported}}, nil
		})
		s, stop := run(t, Config{Readers: []Reader{first, second}})
		after(time.Second)
		stop()
		want := map[string]gpu.Absence{"ecc": gpu.AbsentNoPermission, "fan_rpm": gpu.AbsentFailed, "energy_joules": gpu.AbsentFailed}
		if diff := cmp.Diff(want, s.Report().Devices[0].Absent); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
