package sdserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"muster/agent/backend"
	"muster/agent/fixture"
	"muster/shared/model"
)

func TestParseBar(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line string
		want bar
		ok   bool
	}{
		{"  |=========================>                        | 1/2 - 20.00it/s", bar{1, 2, 0.05}, true},
		{"  |==================================================| 2/2 - 2.04s/it", bar{2, 2, 2.04}, true},
		{"  |>                                                 | 1/100 - 0.00s/it", bar{1, 100, 0}, true},
		{"  |##################################################| 686/686 - 311.47MB/s", bar{}, false}, // loading
		{"  |##################################################| 686/686 - 20.00it/s", bar{}, false},
		{"  |=====>  | 3/2 - 1.00it/s", bar{}, false},
		{"  |=====>  | 0/2 - 1.00it/s", bar{}, false},
		{"  |=====>  | 1/2 - 0.00it/s", bar{}, false},
		{"  |=====>  | 1/2 - nanit/s", bar{}, false},
		{"  |=====>  | 1/99999999999 - 1.00it/s", bar{}, false},
		{"[INFO ] main.cpp:148  - listening on: http://127.0.0.1:1234", bar{}, false},
		{"", bar{}, false},
	} {
		if got, ok := parseBar(tt.line); got != tt.want || ok != tt.ok {
			t.Errorf("%q: %+v, %v; want %+v, %v", tt.line, got, ok, tt.want, tt.ok)
		}
	}
}

// The captured bytes of a batch of three give its steps, and nothing else.
func TestCapturedOutput(t *testing.T) {
	t.Parallel()
	capture, err := os.ReadFile(fixture.Path(t, "sd-server", "11-progress-bytes.txt"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("\n", "", `\n`, "\n", `\r`, "\r", `\x1b`, "\x1b").Replace(string(capture))
	var bars []string
	var marks []mark
	for _, line := range regexp.MustCompile("\r|\n|\x1b\\[K").Split(text, -1) {
		if b, ok := parseBar(line); ok {
			bars = append(bars, fmt.Sprintf("%d/%d", b.step, b.steps))
		}
		if m := parseMark(line); m != noMark {
			marks = append(marks, m)
		}
	}
	if got := strings.Join(bars, " "); got != "1/2 2/2 1/2 2/2 1/2 2/2" {
		t.Errorf("bars %s", got)
	}
	if len(marks) < 8 || marks[0] != sampling || marks[1] != decoding || marks[len(marks)-1] != finished {
		t.Errorf("marks %v", marks)
	}
}

func FuzzParseBar(f *testing.F) {
	f.Add("  |=========================>                        | 1/2 - 19.63it/s")
	f.Add("  |####| 120/686 - 1.21GB/s")
	f.Add("[INFO ] stable-diffusion.cpp:5679 - generating image: 1/3 - seed 42")
	f.Fuzz(func(t *testing.T, line string) {
		if b, ok := parseBar(line); ok && (b.step < 1 || b.step > b.steps || !(b.seconds >= 0) || strings.Contains(line, "#")) {
			t.Errorf("%q gives %+v", line, b)
		}
		o := newOutput()
		o.begin()
		o.stdout(line)
		o.stderr(line)
		if seen := o.look(); seen.step != 0 {
			t.Errorf("%q outside of sampling counts as step %d", line, seen.step)
		}
		if said := o.complaint(); len(said) > 700 || strings.ContainsAny(said, "\x00\n\r\x1b") {
			t.Errorf("%q is shown as %q", line, said)
		}
	})
}

func TestParseDevices(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want []listedDevice
	}{
		{"CPU\tAMD EPYC 7551P\n", []listedDevice{{"cpu", 0, "AMD EPYC 7551P"}}},
		{"ggml_cuda_init: found 2 ROCm devices:\n  Device 0: AMD Radeon\nROCm0\tAMD Radeon Instinct MI25\r\nROCm1\tAMD Radeon Instinct MI25", []listedDevice{
			{"rocm", 0, "AMD Radeon Instinct MI25"}, {"rocm", 1, "AMD Radeon Instinct MI25"}}},
		{"Vulkan12\tNVIDIA GeForce RTX 4090\n\nMTL0\tApple M3 Max", []listedDevice{{"vulkan", 12, "NVIDIA GeForce RTX 4090"}, {"mtl", 0, "Apple M3 Max"}}},
		{"Vulkan99999999999999999999\tx\n9\ty\nno tab", []listedDevice{}},
		{"", []listedDevice{}},
	} {
		if got := parseDevices(tt.text); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q:\n got %+v\nwant %+v", tt.text, got, tt.want)
		}
	}
}

func FuzzParseDevices(f *testing.F) {
	f.Add("ROCm0\tAMD Radeon Instinct MI25\nCPU\tx\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, d := range parseDevices(text) {
			if d.kind == "" || d.kind != strings.ToLower(d.kind) || d.ordinal < 0 || strings.ContainsAny(d.description, "\n\t\r") && strings.TrimSpace(d.description) != d.description {
				t.Errorf("%q gives %+v", text, d)
			}
		}
		parseFlags(text)
		parseSamplers(text)
		parseVersion(text)
	})
}

func TestCapturedHelp(t *testing.T) {
	t.Parallel()
	help, err := os.ReadFile(fixture.Path(t, "sd-server", "help.txt"))
	if err != nil {
		t.Fatal(err)
	}
	flags := parseFlags(string(help))
	for _, flag := range []string{"--listen-ip", "--listen-port", "--model", "--backend", "--eager-load", "--list-devices", "--lora-model-dir", "--hires-upscalers-dir", "--seed", "--threads"} {
		if !flags[flag] {
			t.Errorf("%s was not found in the help", flag)
		}
	}
	if flags["--health"] || len(flags) < 100 {
		t.Errorf("%d flags", len(flags))
	}
	if version, number := parseVersion(string(help)); version != "master-827-97d2990+" || number != 827 {
		t.Errorf("version %q, %d", version, number)
	}
	if list := parseSamplers(string(help)); list == nil || len(list.Samplers) != 21 || list.Samplers[20].Own != "lms" || len(list.Schedules) != 16 || list.Schedules[15].Own != "beta" {
		t.Errorf("samplers %+v", list)
	}
	if list := parseSamplers("  --scheduler  one of [karras]\n"); list != nil {
		t.Errorf("samplers %+v of a help without any", list)
	}
	if version, number := parseVersion("no version at all"); version != "" || number != 0 {
		t.Errorf("version %q, %d", version, number)
	}
}

// FLUX.1 has a guidance of its own, and wants none of the other.
func TestGuidanceOfFlux(t *testing.T) {
	t.Parallel()
	for family, want := range map[model.Family]string{
		model.Flux: `"guidance":{"txt_cfg":1,"distilled_guidance":0}`, model.SDXL: `"guidance":{"txt_cfg":0}`, model.Unknown: `"guidance":{"txt_cfg":0}`,
	} {
		text, err := json.Marshal(newOrder(backend.Model{Family: family}, backend.Request{}, "", ""))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %s, %v", family, text, err)
		}
	}
}

func TestCheckPNG(t *testing.T) {
	t.Parallel()
	var whole bytes.Buffer
	if err := png.Encode(&whole, image.NewGray(image.Rect(0, 0, 64, 128))); err != nil {
		t.Fatal(err)
	}
	file := whole.Bytes()
	if err := checkPNG(file, 64, 128); err != nil {
		t.Error(err)
	}
	if err := checkPNG(file, 128, 64); !errors.Is(err, errSize) {
		t.Errorf("another size gives %v", err)
	}
	if err := checkPNG(file[:len(file)-1], 64, 128); err == nil || errors.Is(err, errSize) {
		t.Errorf("a file that is cut off gives %v", err)
	}
}
