package telemetry

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"muster/shared/gpu"
)

func at(id, address string) gpu.Device { return gpu.Device{ID: id, PCIAddress: address} }

func TestParseAddress(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in, want string
	}{
		{"0000:1a:00.0", "0000:1a:00.0"},
		{"00000000:1A:00.0", "0000:1a:00.0"},
		{"00010000:FF:1F.7", "10000:ff:1f.7"},
		{"", ""}, {"0000:1a:00", ""}, {"1a:00.0", ""}, {"0000:100:00.0", ""}, {"0000:1a:20.0", ""}, {"0000:1a:00.8", ""}, {"x:1a:00.0", ""}, {"-1:1a:00.0", ""},
	} {
		a, ok := parseAddress(tt.in)
		if got := a.String(); ok != (tt.want != "") || ok && got != tt.want {
			t.Errorf("%q: %s, %v: want %q", tt.in, got, ok, tt.want)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("0000:1a:00.0")
	f.Add("00000000:1A:00.0")
	f.Fuzz(func(t *testing.T, s string) {
		a, ok := parseAddress(s)
		if !ok {
			return
		}
		if again, ok := parseAddress(a.String()); !ok || again != a {
			t.Fatalf("%q became %s became %s", s, a, again)
		}
	})
}

func TestMergeOrder(t *testing.T) {
	t.Parallel()
	inv, origins := merge(gpu.Host{}, []listing{
		{reader: "x", devices: []gpu.Device{at("far", "0001:03:00.0"), at("z", ""), at("late", "0000:c1:00.0"), at("fn", "0000:0a:00.1")}},
		{reader: "y", devices: []gpu.Device{at("c", ""), at("first", "0000:03:00.0"), at("ten", "00000000:0A:00.0"), at("dev", "0000:0a:02.0")}},
	})
	if got, want := idsOf(&inv), "first ten fn dev late far c z"; got != want {
		t.Errorf("%s: want %s", got, want)
	}
	for i, d := range inv.Devices {
		if d.Index != gpu.Ref(i) || len(origins[i]) != 1 || origins[i][0].id != d.ID {
			t.Errorf("%s: device_id %d, read by %v", d.ID, d.Index, origins[i])
		}
	}
}

func TestMergeJoins(t *testing.T) {
	t.Parallel()
	inv, origins := merge(gpu.Host{Name: "box"}, []listing{
		{reader: "first", host: gpu.Host{Name: "no", CUDAVersion: "12.4"}, problems: []string{"p"}, devices: []gpu.Device{{
			ID: "pci-0000:1a:00.0", PCIAddress: "00000000:1A:00.0", Vendor: gpu.AMD, MemoryBytes: ptr(uint64(16)),
			Sources: map[string]string{"memory_bytes": "sysfs vram", "name": "nobody", "power_watts": "hwmon"}, Error: "half read",
			Partitions: []gpu.Device{{ID: "p0"}},
		}}},
		{reader: "second", host: gpu.Host{CUDAVersion: "11"}, problems: []string{"p", "p"}, devices: []gpu.Device{{
			ID: "GPU-7", PCIAddress: "0000:1a:00.0", Name: "MI25", MemoryBytes: ptr(uint64(99)), MultiprocessorCount: ptr(64),
			Sources:    map[string]string{"power_watts": "amdsmi", "fan_rpm": "amdsmi"},
			Partitions: []gpu.Device{{ID: "p0", Name: "no"}, {ID: "p1"}},
		}}},
	})
	want := gpu.Device{
		ID: "pci-0000:1a:00.0", PCIAddress: "0000:1a:00.0", Vendor: gpu.AMD, Name: "MI25", MemoryBytes: ptr(uint64(16)), MultiprocessorCount: ptr(64),
		Sources:    map[string]string{"memory_bytes": "sysfs vram", "name": "second", "multi_processor_count": "second", "power_watts": "hwmon", "fan_rpm": "amdsmi"},
		Partitions: []gpu.Device{{ID: "p0"}, {ID: "p1"}},
	}
	if diff := cmp.Diff([]gpu.Device{want}, inv.Devices); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if wantOrigins := [][]origin{{{0, "pci-0000:1a:00.0"}, {1, "GPU-7"}}}; !reflect.DeepEqual(origins, wantOrigins) {
		t.Errorf("read by %v: want %v", origins, wantOrigins)
	}
	if inv.Host.Name != "box" || inv.Host.CUDAVersion != "12.4" {
		t.Errorf("host %+v", inv.Host)
	}
	if diff := cmp.Diff([]string{"first: p", "second: p"}, inv.Problems); diff != "" {
		t.Errorf("problems: %s", diff)
	}
}

// A number says less than a name, whoever tells it; a device's ID must not change when a slower reader comes.
func TestMergeNames(t *testing.T) {
	t.Parallel()
	number := gpu.Device{ID: "pci-0000:1a:00.0", PCIAddress: "0000:1a:00.0", Name: "AMD GPU 0x6860", Sources: map[string]string{"name": SourceDeviceNumber}}
	market := gpu.Device{ID: "GPU-7", PCIAddress: "0000:1a:00.0", Name: "MI25", Sources: map[string]string{"name": "library"}}
	other := gpu.Device{ID: "pci-0000:1a:00.0", PCIAddress: "0000:1a:00.0", Name: "Vega", Sources: map[string]string{"name": "pci.ids"}}
	for _, tt := range []struct {
		first, second    gpu.Device
		id, name, source string
	}{
		{number, market, number.ID, "MI25", "library"},
		{market, number, market.ID, "MI25", "library"},
		{other, market, other.ID, "Vega", "pci.ids"},
		{number, number, number.ID, number.Name, SourceDeviceNumber},
	} {
		inv, _ := merge(gpu.Host{}, []listing{{reader: "a", devices: []gpu.Device{tt.first}}, {reader: "b", devices: []gpu.Device{tt.second}}})
		if d := inv.Devices[0]; len(inv.Devices) != 1 || d.ID != tt.id || d.Name != tt.name || d.Sources["name"] != tt.source {
			t.Errorf("%s and %s: %s %q from %q", tt.first.Name, tt.second.Name, d.ID, d.Name, d.Sources["name"])
		}
	}
}

func TestMergeKeepsApart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		in   []listing
		want string
	}{
		{"equal buses of two domains", []listing{{devices: []gpu.Device{at("a", "0000:0a:00.0")}}, {devices: []gpu.Device{at("b", "0001:0a:00.0")}}}, "a b"},
		{"one ID, two cards, two readers", []listing{{devices: []gpu.Device{at("a", "0000:01:00.0")}}, {devices: []gpu.Device{at("a", "0000:02:00.0")}}}, "a a@0000:02:00.0"},
		{"one ID, two cards, one reader", []listing{{devices: []gpu.Device{at("a", "0000:01:00.0"), at("a", "0000:02:00.0")}}}, "a a@0000:02:00.0"},
		{"one ID without addresses, one reader", []listing{{devices: []gpu.Device{at("a", ""), at("a", "")}}}, "a a+"},
		{"one ID without addresses, two readers", []listing{{devices: []gpu.Device{at("a", "")}}, {devices: []gpu.Device{at("a", "")}}}, "a"},
		{"two of one reader at one address", []listing{{devices: []gpu.Device{at("a", "0000:01:00.0"), at("b", "0000:01:00.0")}}}, "a b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			inv, _ := merge(gpu.Host{}, tt.in)
			if got := idsOf(&inv); got != tt.want {
				t.Errorf("%s: want %s", got, tt.want)
			}
		})
	}
}

func TestMergeNeverReadsTheWrongOfTwoEqualIDs(t *testing.T) {
	t.Parallel()
	inv, origins := merge(gpu.Host{}, []listing{{devices: []gpu.Device{at("a", "0000:01:00.0"), at("a", "0000:02:00.0")}}})
	if len(origins[0]) != 1 || len(origins[1]) != 0 || inv.Devices[1].Error == "" {
		t.Errorf("%v, %q", origins, inv.Devices[1].Error)
	}
}

func TestMergeAdapters(t *testing.T) {
	t.Parallel()
	inv, _ := merge(gpu.Host{}, []listing{
		{devices: []gpu.Device{at("a", "0000:05:00.0")}, adapters: []gpu.Adapter{{PCIAddress: "0000:09:00.0", Name: "BMC"}}},
		{adapters: []gpu.Adapter{{PCIAddress: "00000000:09:00.0", Name: "again"}, {PCIAddress: "0000:05:00.0", Name: "served by the first"}, {PCIAddress: "0000:02:00.0", Name: "old"}}},
	})
	want := []gpu.Adapter{{PCIAddress: "0000:02:00.0", Name: "old"}, {PCIAddress: "0000:09:00.0", Name: "BMC"}}
	if diff := cmp.Diff(want, inv.OtherAdapters); diff != "" {
		t.Error(diff)
	}
}

// The order in which a reader lists its devices is of no consequence.
func TestMergeIsStable(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	var devices []gpu.Device
	for bus := range 40 {
		devices = append(devices, device("GPU-"+string(rune('a'+bus)), bus))
	}
	want, _ := merge(gpu.Host{}, []listing{{reader: "x", devices: devices}, {reader: "y", devices: devices[:20]}})
	for range 20 {
		random.Shuffle(len(devices), func(i, j int) { devices[i], devices[j] = devices[j], devices[i] })
		got, _ := merge(gpu.Host{}, []listing{{reader: "x", devices: devices}, {reader: "y", devices: devices[:20]}})
		if !reflect.DeepEqual(want, got) {
			t.Fatal(cmp.Diff(want, got))
		}
	}
	if len(want.Devices) != 40 {
		t.Errorf("%d devices: want 40", len(want.Devices))
	}
}

func TestMergeChangesNothingItWasGiven(t *testing.T) {
	t.Parallel()
	given := gpu.Device{ID: "a", PCIAddress: "00000000:01:00.0", Name: "x", Sources: map[string]string{"arch": "kfd"}}
	in := []listing{{reader: "x", devices: []gpu.Device{given}}, {reader: "y", devices: []gpu.Device{{ID: "b", PCIAddress: "0000:01:00.0", Arch: "gfx900"}}}}
	merge(gpu.Host{}, in)
	if got := in[0].devices[0]; got.PCIAddress != "00000000:01:00.0" || !reflect.DeepEqual(got.Sources, map[string]string{"arch": "kfd"}) {
		t.Errorf("changed to %+v", got)
	}
}

func TestCombine(t *testing.T) {
	t.Parallel()
	ok := gpu.Reading{State: gpu.StateOK, UtilizationPercent: ptr(0.0), MemoryTotalBytes: ptr(uint64(10)), MemoryUsedBytes: ptr(uint64(1))}
	other := gpu.Reading{State: gpu.StateNoPermission, AgeMilliseconds: 500, UtilizationPercent: ptr(7.0), FanRPM: ptr(900.0), MemoryTotalBytes: ptr(uint64(11)), MemoryReservedBytes: ptr(uint64(2))}
	got := combine(ok, other)
	if got.State != gpu.StateOK || got.AgeMilliseconds != 0 || *got.UtilizationPercent != 0 || *got.FanRPM != 900 {
		t.Errorf("%+v: want zero kept as a value, holes filled", got)
	}
	if *got.MemoryTotalBytes != 10 || got.MemoryReservedBytes != nil {
		t.Errorf("memory of two drivers was mixed: %+v", got)
	}
	if got := combine(other, ok); *got.MemoryTotalBytes != 10 || *got.MemoryUsedBytes != 1 {
		t.Errorf("the reader without memory in use won: %+v", got)
	}
	old := gpu.Reading{State: gpu.StateUnsupported, AgeMilliseconds: 60_000, UtilizationPercent: ptr(7.0), FanRPM: ptr(900.0)}
	hung := old
	hung.State = gpu.StateStuck
	for _, got := range []gpu.Reading{combine(ok, old), combine(old, ok), combine(ok, hung)} {
		if got.FanRPM != nil || *got.UtilizationPercent != 0 || got.AgeMilliseconds != 0 {
			t.Errorf("%+v: want nothing of a reader that failed a minute ago shown as of now", got)
		}
	}
	for _, tt := range []struct{ a, b, want gpu.State }{
		{gpu.StateOK, gpu.StateStuck, gpu.StateOK},
		{gpu.StateOK, gpu.StateLost, gpu.StateOK},
		{gpu.StateNoPermission, gpu.StateStuck, gpu.StateStuck},
		{gpu.StateLost, gpu.StateOK, gpu.StateLost},
		{gpu.StateNoDriver, gpu.StateSuspended, gpu.StateSuspended},
		{gpu.StateUnsupported, gpu.StateOK, gpu.StateOK},
	} {
		if got := combine(gpu.Reading{State: tt.a}, gpu.Reading{State: tt.b}).State; got != tt.want {
			t.Errorf("%s and %s: %s: want %s", tt.a, tt.b, got, tt.want)
		}
	}
}

// A field that is added to gpu.Reading must be combined too.
func TestCombineKnowsEveryField(t *testing.T) {
	t.Parallel()
	var full gpu.Reading
	v := reflect.ValueOf(&full).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		}
	}
	got := reflect.ValueOf(combine(gpu.Reading{}, full))
	for i := range got.NumField() {
		if f := got.Field(i); (f.Kind() == reflect.Pointer || f.Kind() == reflect.Slice) && f.IsNil() {
			t.Errorf("%s of the second reader is lost", got.Type().Field(i).Name)
		}
	}
}
