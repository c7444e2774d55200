package sdapi

import (
	"strings"
	"testing"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/agent/backend/backendtest/fakesdapi"
)

// Each image is made with the model that was asked for; SD.Next switches once, and not for each image and back.
func TestModels(t *testing.T) {
	t.Parallel()
	for _, flavour := range webUIs {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, fakesdapi.Config{Flavour: flavour, Models: []string{"model", "sd_xl_base_1.0"}}, quick())
			for _, name := range []string{"sd_xl_base_1.0", "sd_xl_base_1.0", "model", "sd_xl_base_1.0"} {
				req := request()
				req.Model = name
				if _, err := b.make(t, req); err != nil {
					t.Fatal(err)
				}
				jobs := b.fake.Jobs()
				if used := jobs[len(jobs)-1].Model; used != name || b.Server.Status().Loaded != name {
					t.Errorf("made with %s, %s is said to be loaded; want %s", used, b.Server.Status().Loaded, name)
				}
			}
			want := 0
			if flavour == fakesdapi.SDNext {
				want = 3
				if b.fake.Resident() != "sd_xl_base_1.0" {
					t.Errorf("it went back to %s", b.fake.Resident())
				}
			}
			if n := b.fake.Answered("POST /sdapi/v1/options"); n != want {
				t.Errorf("the settings were changed %d times, want %d", n, want)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	for _, flavour := range all {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, fakesdapi.Config{Flavour: flavour, Models: []string{"model", "other"}}, quick())
			wanted := "other"
			if !b.kind().web {
				wanted = "model"
			}
			if err := b.Load(t.Context(), backend.CPU(), wanted); err != nil {
				t.Fatal(err)
			}
			if got := b.fake.Resident(); got != wanted || b.Server.Status().Loaded != wanted {
				t.Errorf("%q is loaded", got)
			}
			if err := b.Load(t.Context(), backend.CPU(), "nope"); meaning(err) != "final" {
				t.Errorf("an unknown model: %v", err)
			}
		})
	}
}

func TestLoadFails(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakesdapi.Config{Flavour: fakesdapi.A1111, Models: []string{"model", "other"}, Faults: []backendtest.Fault{{Do: backendtest.SwitchFails, Text: "CUDA out of memory"}}}, quick())
	if err := b.Load(t.Context(), backend.CPU(), "other"); meaning(err) != "out of memory" {
		t.Errorf("got %v", err)
	}
}

func TestNamesOfModels(t *testing.T) {
	t.Parallel()
	got := models([]listed{
		{Title: "sd_xl_base_1.0.safetensors [31e35c80fc]", Name: "sd_xl_base_1.0", File: "/models/Stable-diffusion/sd_xl_base_1.0.safetensors"},
		{Title: `one\same.safetensors`, Name: "one_same", File: `C:\models\one\same.safetensors`},
		{Title: "two/same.ckpt", Name: "two_same", File: "/models/two/same.ckpt"},
		{Title: "flux", Name: "flux"},
		{Title: "", Name: "no title"},
		{Title: "black-forest-labs/FLUX.1-dev", Name: "black-forest-labs/FLUX.1-dev"},
	})
	var names []string
	for _, m := range got {
		names = append(names, m.Name)
		if strings.ContainsAny(m.Name, `/\`) {
			t.Errorf("%q holds a path separator", m.Name)
		}
	}
	if want := "sd_xl_base_1.0|one: same|two: same|flux|FLUX.1-dev"; strings.Join(names, "|") != want {
		t.Errorf("got %s; want %s", strings.Join(names, "|"), want)
	}
	if got[1].Path != `one\same.safetensors` {
		t.Errorf("it is asked for as %q", got[1].Path)
	}
}
