package gpu

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestRefJSON(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		ref  Ref
		text string
	}{{0, "0"}, {1, "1"}, {63, "63"}, {CPU, `"cpu"`}} {
		out, err := json.Marshal(tt.ref)
		if err != nil || string(out) != tt.text {
			t.Errorf("%d became %s, %v: want %s", tt.ref, out, err, tt.text)
		}
		var back Ref
		if err := json.Unmarshal([]byte(tt.text), &back); err != nil || back != tt.ref {
			t.Errorf("%s became %d, %v", tt.text, back, err)
		}
	}
	for _, text := range []string{"-1", "1.5", `"0"`, `"CPU"`, `"gpu"`, "true", "[]", "{}", "1e99", `""`} {
		r := Ref(7)
		if err := json.Unmarshal([]byte(text), &r); err == nil || !strings.Contains(err.Error(), "device_id") {
			t.Errorf("%s: taken as %d, error %v: want one that says what is allowed", text, r, err)
		}
	}
}

func TestRefInStructs(t *testing.T) {
	t.Parallel()
	type spec struct {
		Device *Ref `json:"device_id,omitempty"`
	}
	for _, tt := range []struct {
		in   string
		want *Ref
	}{{`{}`, nil}, {`{"device_id":null}`, nil}, {`{"device_id":0}`, ptr(Ref(0))}, {`{"device_id":"cpu"}`, ptr(CPU)}} {
		var got spec
		if err := json.Unmarshal([]byte(tt.in), &got); err != nil || !reflect.DeepEqual(got.Device, tt.want) {
			t.Errorf("%s: %v, %v", tt.in, got.Device, err)
		}
	}
}

func TestRefWords(t *testing.T) {
	t.Parallel()
	if CPU.String() != "cpu" || Ref(2).String() != "2" || CPU.Label() != "CPU" || Ref(0).Label() != "Device 0" {
		t.Errorf("%s %s %s %s", CPU, Ref(2), CPU.Label(), Ref(0).Label())
	}
}

func FuzzRefJSON(f *testing.F) {
	for _, seed := range []string{"0", `"cpu"`, "-1", "1.5", "null"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Ref
		if r.UnmarshalJSON(b) != nil {
			return
		}
		out, err := r.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var back Ref
		if err := back.UnmarshalJSON(out); err != nil || back != r || r < CPU {
			t.Fatalf("%q became %d became %s became %d, %v", b, r, out, back, err)
		}
	})
}

func TestThrottleJSON(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   Throttle
		text string
	}{
		{0, `[]`},
		{ThrottlePower, `["power"]`},
		{ThrottleIdle | ThrottleThermal, `["thermal","idle"]`},
		{ThrottlePower | ThrottleThermal | ThrottleHardware | ThrottleCurrent | ThrottleSync | ThrottleUser | ThrottleIdle | ThrottleOther,
			`["power","thermal","hardware","current","sync","user","idle","other"]`},
	} {
		out, err := json.Marshal(tt.in)
		if err != nil || string(out) != tt.text {
			t.Errorf("%b became %s, %v: want %s", tt.in, out, err, tt.text)
		}
		var back Throttle
		if err := json.Unmarshal([]byte(tt.text), &back); err != nil || back != tt.in {
			t.Errorf("%s became %b, %v: want %b", tt.text, back, err, tt.in)
		}
	}
	back := ThrottlePower
	if err := json.Unmarshal([]byte(`["gremlins","idle"]`), &back); err != nil || back != ThrottleOther|ThrottleIdle {
		t.Errorf("an unknown reason became %b, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`"power"`), &back); err == nil {
		t.Error("a word instead of a list was taken")
	}
}

func TestTemperatureThatStandsForTheDevice(t *testing.T) {
	t.Parallel()
	edge, junction, memory := Temperature{SensorEdge, 50}, Temperature{SensorJunction, 60}, Temperature{SensorMemory, 70}
	for _, tt := range []struct {
		in   []Temperature
		want *float64
	}{
		{nil, nil},
		{[]Temperature{memory, junction, edge}, ptr(50.0)},
		{[]Temperature{memory, junction}, ptr(60.0)}, // MI300 has no edge sensor
		{[]Temperature{memory}, ptr(70.0)},
		{[]Temperature{{"vrm", 90}}, nil},
		{[]Temperature{{SensorEdge, 0}}, ptr(0.0)},
	} {
		if got := (Reading{Temperatures: tt.in}).TemperatureCelsius(); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%v: %v: want %v", tt.in, got, tt.want)
		}
	}
}

func TestMemoryFree(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		total, used, reserved, want *uint64
	}{
		{nil, nil, nil, nil},
		{ptr(uint64(10)), nil, nil, nil},
		{nil, ptr(uint64(1)), nil, nil},
		{ptr(uint64(10)), ptr(uint64(4)), nil, ptr(uint64(6))},
		{ptr(uint64(10)), ptr(uint64(4)), ptr(uint64(1)), ptr(uint64(5))},
		{ptr(uint64(10)), ptr(uint64(10)), ptr(uint64(1)), ptr(uint64(0))},
	} {
		got := Reading{MemoryTotalBytes: tt.total, MemoryUsedBytes: tt.used, MemoryReservedBytes: tt.reserved}.MemoryFreeBytes()
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

// nil is "not reported" and stays out; zero is a value and stays in.
func TestAbsentIsNotZeroInJSON(t *testing.T) {
	t.Parallel()
	out, err := json.Marshal(Reading{State: StateOK, UtilizationPercent: ptr(0.0)})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"device_id":0,"state":"ok","age_ms":0,"utilization_percent":0}`; string(out) != want {
		t.Errorf("%s: want %s", out, want)
	}
}

func TestInventory(t *testing.T) {
	t.Parallel()
	inv := Inventory{Devices: []Device{{ID: "a", MemoryBytes: ptr(uint64(17163091968))}, {ID: "b", Error: "unreadable"}, {ID: "c", MemoryBytes: ptr(uint64(17163091968)), Simulated: true}}}
	if got := RoundGiB(inv.TotalMemoryBytes()); got != 31.97 {
		t.Errorf("total %v GiB: want 31.97, summed in bytes, then rounded", got)
	}
	if !inv.Simulated() || (Inventory{Devices: inv.Devices[:2]}).Simulated() || (Inventory{}).Simulated() {
		t.Error("simulated")
	}
	for _, ref := range []Ref{CPU, -2, 3} {
		if d, ok := inv.Device(ref); ok {
			t.Errorf("device %d is %s", ref, d.ID)
		}
	}
	if d, ok := inv.Device(1); !ok || d.ID != "b" {
		t.Errorf("device 1 is %s", d.ID)
	}
}
