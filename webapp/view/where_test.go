package view

import (
	"strings"
	"testing"

	"muster/shared/gpu"
)

func plain(words string) string { return strings.ReplaceAll(words, nbsp, " ") }

func TestDevicesInWords(t *testing.T) {
	t.Parallel()
	span := func(from, to gpu.Ref) (out []gpu.Ref) {
		for i := from; i <= to; i++ {
			out = append(out, i)
		}
		return out
	}
	var odd []gpu.Ref
	for i := gpu.Ref(1); i < 64; i += 2 {
		odd = append(odd, i)
	}
	for _, test := range []struct {
		in   []gpu.Ref
		want string
	}{
		{nil, ""}, {[]gpu.Ref{3}, "Device 3"}, {[]gpu.Ref{gpu.CPU}, "CPU"}, {[]gpu.Ref{1, 0}, "devices 0 and 1"}, {[]gpu.Ref{gpu.CPU, 0}, "Device 0 and CPU"},
		{span(0, 2), "devices 0–2"}, {append(span(0, 5), 7), "devices 0–5 and 7"}, {append(span(4, 6), 0, 1, 9), "devices 0, 1, 4–6 and 9"},
		{append(span(0, 63), gpu.CPU), "devices 0–63 and CPU"}, {[]gpu.Ref{2, 2, 2}, "Device 2"}, {odd, "32 devices"},
	} {
		if got := plain(devicesText(test.in)); got != test.want {
			t.Errorf("%v: %q, want %q", test.in, got, test.want)
		}
	}
	if all := allDevices(odd); !strings.Contains(all, "1, 3, 5") || !strings.Contains(all, "63") {
		t.Errorf("all of many are %q", all)
	}
}

func TestWhereAModelFits(t *testing.T) {
	t.Parallel()
	of := func(gibs ...uint64) []gpu.Device {
		out := machine(len(gibs)).Devices
		for i, g := range gibs {
			if out[i].MemoryBytes = ptr(g << 30); g == 0 {
				out[i].MemoryBytes = nil
			}
		}
		return out
	}
	divided := of(80, 24)
	divided[0].Partitions = []gpu.Device{{MemoryBytes: ptr(uint64(10 << 30))}, {MemoryBytes: ptr(uint64(20 << 30))}, {}}
	for _, test := range []struct {
		name    string
		need    uint64 // GiB
		devices []gpu.Device
		want    string
	}{
		{"the example", 12, of(24, 24, 24, 8), "Fits devices 0–2, not Device 3"},
		{"everywhere", 4, of(24, 24), "Fits every device"},
		{"the only one", 4, of(24), "Fits Device 0"},
		{"nowhere", 40, of(24, 24), "Fits no device of this machine"},
		{"tight", 23, of(24, 80), "Fits Device 1, fits Device 0 only while little else is there"},
		{"tight alone", 23, of(24, 8), "Fits Device 0 only while little else is there, not Device 1"},
		{"not known of one", 12, of(24, 0), "Fits Device 0"},
		{"not known of one, else nowhere", 12, of(8, 0), "Does not fit Device 0"},
		{"need not known", 0, of(24), ""},
		{"no devices", 12, nil, ""},
		{"divided", 15, divided, "Fits every device"},
		{"larger than every part", 22, divided, "Fits Device 1 only while little else is there, not Device 0"},
	} {
		if got := plain(fitWords(test.need<<30, test.devices)); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	sixtyFour := make([]uint64, 64)
	for i := range sixtyFour {
		sixtyFour[i] = 24
		if i%2 == 1 {
			sixtyFour[i] = 8
		}
	}
	if got := plain(fitWords(12<<30, of(sixtyFour...))); got != "Fits 32 devices, not 32 others" {
		t.Errorf("of 64 devices: %q", got)
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		fileSize(0): "0 MB", fileSize(-5): "0 MB", fileSize(320_400_000): "320 MB", fileSize(6_938_040_682): "6.9 GB", fileSize(412_300_000_000): "412 GB", fileSize(1_234_567_000_000): "1,235 GB",
		memorySize(10200547328): "9.5 GiB", sentenceOf(""): "", sentenceOf("it is away"): "It is away.", sentenceOf("hub.example closed it"): "hub.example closed it.", sentenceOf("What?"): "What?", sentenceOf("comfyui at 127.0.0.1:1 is away"): "comfyui at 127.0.0.1:1 is away.", capital(""): "",
	} {
		if plain(got) != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
