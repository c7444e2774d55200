package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/agent/models"
	"muster/shared/gpu"
	"muster/shared/model"
)

func TestModelsByCommandLine(t *testing.T) {
	t.Parallel()
	r := newRig(t, "one", "two words")
	for _, step := range []struct {
		args []string
		want []string // in what is printed
		none []string
	}{
		{[]string{"models"}, []string{"NAME", "one", "two words", "sd1", "1.5 GiB", "0, not 1", "sketch", r.models, " GB free"}, []string{"disabled"}},
		{[]string{"models", "disable", "one"}, []string{"disabled"}, nil},
		{[]string{"models", "enable", "one"}, []string{"one"}, []string{"disabled"}},
		{[]string{"models", "remove", "two words"}, []string{"one"}, []string{"two words"}},
		{[]string{"models", "recommend"}, []string{"sdxl-1.0", "dreamshaper-8", "does not fit", "CreativeML"}, []string{"installed"}},
		{[]string{"models", "load", "sketch", "--device", "GPU-b"}, []string{"sketch is loaded on Device 1"}, nil},
		// Private addresses are refused by the agent, whoever asks.
		{[]string{"models", "install", "https://10.0.0.1/x.gguf", "--name", "mine", "--detach"}, []string{"the agent installs mine", "muster models stop "}, nil},
	} {
		out, err := r.run(step.args...)
		if err != nil {
			t.Errorf("%v: %v", step.args, err)
		}
		for _, want := range step.want {
			if !strings.Contains(out, want) {
				t.Errorf("%v: %q is not in\n%s", step.args, want, out)
			}
		}
		for _, none := range step.none {
			if strings.Contains(out, none) {
				t.Errorf("%v: %q is in\n%s", step.args, none, out)
			}
		}
	}
	if _, err := r.run("models", "disable", "one"); err != nil {
		t.Fatal(err)
	}
	if out, err := r.run("generate", "x", "--model", "one", "-o", t.TempDir()); err == nil || !strings.Contains(err.Error(), "is disabled: enable it") {
		t.Errorf("a disabled model: %v\n%s", err, out)
	}
	if _, err := r.run("models", "enable", "one"); err != nil {
		t.Fatal(err)
	}
	out, err := r.run("models", "--json")
	var offers model.Offers
	var list model.Installs
	if err != nil || json.Unmarshal([]byte(out), &offers) != nil || json.Unmarshal([]byte(out), &list) != nil || len(offers.Models) != 2 || len(list.Installs) != 1 || list.Installs[0].Name != "mine" {
		t.Errorf("%v %s", err, out)
	}
	if out, err = r.run("models", "install", "https://127.0.0.1:9/x.gguf"); err == nil || !strings.Contains(err.Error(), "public addresses only") {
		t.Errorf("this machine: %v\n%s", err, out)
	}
}

func TestMistakesWithModels(t *testing.T) {
	t.Parallel()
	r := newRig(t, "one")
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"models", "all"}, `unknown command "all"`}, {[]string{"models", "remove"}, "name a model"}, {[]string{"models", "enable"}, "name a model"}, {[]string{"models", "stop"}, "give the ID"},
		{[]string{"models", "remove", "../one"}, "not in the models folder"}, {[]string{"models", "disable", "nothing"}, "not in the models folder"}, {[]string{"models", "stop", "0123"}, "0123: there is no such installation; none is under way"},
		{[]string{"models", "install"}, "give one model"}, {[]string{"models", "install", "a", "b"}, "give one model"}, {[]string{"models", "install", "voodoo"}, "muster models recommend lists"},
		{[]string{"models", "install", "http://files.test/x.gguf"}, "url: http:// is not downloaded from"}, {[]string{"models", "install", "https://files.test/x.ckpt"}, ".safetensors and .gguf alone"}, {[]string{"models", "install", "a/b:../x.gguf"}, "file: is"},
		{[]string{"models", "install", "a/b:x.gguf@..", "--detach"}, "revision"}, {[]string{"models", "install", "https://files.test/x.gguf", "--sha256", "abc"}, "64 hex digits"}, {[]string{"models", "install", "https://files.test/one.gguf"}, "is in the models folder"},
		{[]string{"models", "install", "https://files.test/x.gguf", "--device", "7"}, "--device 7: there is no such device; there are 0 (MI25)"}, {[]string{"models", "install", "https://files.test/x.gguf", "--device", "GPU-x"}, "there is no such device"},
		{[]string{"models", "load", "sketch"}, "device"}, {[]string{"models", "load", "one", "--device", "0"}, "no generator with a model one"}, {[]string{"models", "load", "sketch", "--device", "9"}, "--device 9: there is no such device"},
	} {
		if out, err := r.run(test.args...); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: %v, want %q; %s", test.args, err, test.want, out)
		}
	}
	if got := r.library.Library().Installs; len(got) != 0 {
		t.Errorf("installations: %+v", got)
	}
}

// What is shown while a model is installed, and what an interrupted person is told.
func TestInstallIsFollowed(t *testing.T) {
	t.Parallel()
	at := func(state model.InstallState, bytes, speed int64, trouble string) model.Install {
		return model.Install{ID: "i", Name: "sdxl", State: state, Bytes: bytes, Total: 6_900_000_000, Speed: speed, Error: trouble}
	}
	for name, test := range map[string]struct {
		answers []model.Install // the last is asked for for ever; nil State: interrupted
		printed []string
		want    string // of the error
	}{
		"installed": {[]model.Install{at(model.Downloading, 3_450_000_000, 50_000_000, ""), at(model.Verifying, 6_900_000_000, 0, ""), at(model.Installed, 6_900_000_000, 0, "")},
			[]string{"sdxl: downloading, 3.5 GB of 6.9 GB, 50.0 MB/s, 1m9s left", "sdxl: verifying", "sdxl: installed"}, ""},
		"trouble, then failed":  {[]model.Install{at(model.Downloading, 5, 0, "cut; tried again in 1s"), at(model.Failed, 5, 0, "given up")}, []string{"tried again in 1s"}, "sdxl was not installed: given up"},
		"installed, not loaded": {[]model.Install{at(model.Installed, 1, 0, "it is installed, but was not loaded on Device 1: no room")}, nil, "not loaded on Device 1"},
		"stopped":               {[]model.Install{at(model.Downloading, 5, 0, ""), at(model.Stopped, 5, 0, "")}, nil, "sdxl was not installed: somebody stopped it"},
		"interrupted":           {[]model.Install{at(model.Downloading, 5, 0, ""), {}}, nil, "the agent goes on installing sdxl: muster models shows how far it is, muster models stop i ends it"},
		"forgotten":             {[]model.Install{at(model.Downloading, 5, 0, ""), {ID: "other"}}, nil, "knows nothing of the installation i"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, interrupt := context.WithCancel(t.Context())
			asked := 0
			agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = min(asked+1, len(test.answers)-1)
				if now := test.answers[asked]; now.ID == "" {
					interruptAsked(r, interrupt)
				} else {
					raw, _ := json.Marshal(model.Installs{Installs: []model.Install{now}})
					_, _ = w.Write(raw)
				}
			}))
			defer agent.Close()
			var out strings.Builder
			err := followInstall(ctx, &client{base: agent.URL, token: "t"}, test.answers[0], &installView{out: &out}, io.Discard)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if err != nil && test.want != "" && strings.Contains(out.String(), test.want) {
				t.Errorf("the error is printed too:\n%s", out.String())
			}
			for _, line := range test.printed {
				if !strings.Contains(out.String(), line) {
					t.Errorf("%q is not in\n%s", line, out.String())
				}
			}
		})
	}
	if got := installLine(at(model.Downloading, 3_450_000_000, 0, "")); !strings.HasPrefix(got, "[============            ] sdxl: downloading, 3.5 GB of 6.9 GB") {
		t.Error(got)
	}
}

func TestModelNamesAreCompleted(t *testing.T) {
	t.Parallel()
	r := newRig(t, "one", "other")
	for line, want := range map[string]string{
		"models remove o": "one\nother\n", "models load sk": "sketch\n", "models install sdxl-": "sdxl-1.0\tSDXL 1.0",
	} {
		cmd := command()
		var out strings.Builder
		cmd.SetArgs(append([]string{"__complete", "--data", r.data}, strings.Fields(line)...)) // the last word is what is completed
		cmd.SetOut(&out)
		if err := cmd.ExecuteContext(t.Context()); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v\n%s", line, err, out.String())
		}
	}
}

// Generators see the models of the library as they come and go; before there is one, those of the folder.
func TestShelf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	shelf := &shelf{dir: dir}
	if got := shelf.complete(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "tiny.safetensors"), backendtest.TinyModel(), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := shelf.complete(); len(got) != 1 || got[0].Name != "tiny" || got[0].Path != filepath.Join(dir, "tiny.safetensors") || got[0].VRAMBytes < 1<<30 {
		t.Errorf("%+v", got)
	}
	now := []models.Model{{Model: model.Model{Name: "a"}, Path: "/a"}, {Model: model.Model{Name: "b", Partial: true}, Path: "/b"}, {Model: model.Model{Name: "c", Scaled: true}, Path: "/c"}}
	shelf.open(func() []models.Model { return now }, func(name string) bool { return name == "b" })
	if got := shelf.enabled([]backend.Model{{Name: "a"}, {Name: "b"}}); len(got) != 1 || got[0].Name != "a" {
		t.Errorf("a disabled model is offered: %+v", got)
	}
	if got := shelf.complete(); len(got) != 1 || got[0].Name != "a" {
		t.Errorf("%+v: want those that need no further file, and that sd-server can read", got)
	}
	now = nil
	if got := shelf.complete(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

func loaded(_ context.Context, name string, device gpu.Ref) error {
	if name != "sketch" {
		return fmt.Errorf("no model %s on %s", name, device.Label())
	}
	return nil
}

// An installation that has ended is told of while somebody may still ask what became of it, and no longer.
func TestEndedInstallationsAreForgotten(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	ended := func(ago time.Duration) *time.Time { return new(now.Add(-ago)) }
	here := []model.Offer{{Model: model.Model{Name: "here"}, InLibrary: true}, {Model: model.Model{Name: "elsewhere"}}}
	for name, test := range map[string]struct {
		in   model.Install
		want bool
	}{
		"under way":                 {model.Install{State: model.Downloading}, true},
		"under way, to be replaced": {model.Install{Name: "here", State: model.Waiting}, true},
		"failed":                    {model.Install{State: model.Failed, Error: "cut", Ended: ended(59 * time.Minute)}, true},
		"failed, a generator's":     {model.Install{Name: "elsewhere", State: model.Failed, Error: "cut", Ended: ended(time.Minute)}, true},
		"failed long ago":           {model.Install{State: model.Failed, Error: "cut", Ended: ended(time.Hour)}, false},
		"failed, when is not known": {model.Install{State: model.Failed, Error: "cut"}, false},
		"failed, and here since":    {model.Install{Name: "here", State: model.Failed, Error: "cut", Ended: ended(time.Minute)}, false},
		"installed":                 {model.Install{Name: "here", State: model.Installed, Ended: ended(time.Minute)}, false},
		"installed, not loaded":     {model.Install{Name: "here", State: model.Installed, Error: "no room", Ended: ended(time.Minute)}, true},
		"stopped":                   {model.Install{State: model.Stopped, Ended: ended(time.Minute)}, false},
	} {
		if got := worthTelling(test.in, here, now); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestStopNamesTheInstallation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if _, err := r.run("models", "install", "https://10.0.0.1/x.gguf", "--name", "mine", "--detach"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.run("models", "stop", "other"); err == nil || !strings.Contains(err.Error(), "other: there is no such installation") {
		t.Error(err)
	}
	var list model.Installs
	out, err := r.run("models", "--json")
	if err != nil || json.Unmarshal([]byte(out), &list) != nil || len(list.Installs) != 1 {
		t.Fatalf("%v %s", err, out)
	}
	if out, err := r.run("models", "stop", list.Installs[0].ID); err != nil || !strings.HasPrefix(out, "mine is ") {
		t.Errorf("%v %s", err, out)
	}
}

func TestSizesOfFiles(t *testing.T) {
	t.Parallel()
	for bytes, want := range map[int64]string{-1: absent, 0: absent, 700: "0.01 MB", 250_000: "0.25 MB", 1_000_000: "1 MB", 335_304_388: "335 MB", 6_938_078_334: "6.9 GB", 99_900_000_000: "99.9 GB", 412_000_000_000: "412 GB"} {
		if got := fileSize(bytes); got != want {
			t.Errorf("%d: %q, want %q", bytes, got, want)
		}
	}
}

func TestFitsInShort(t *testing.T) {
	t.Parallel()
	of := func(fits string) (list []model.DeviceFit) { // y, n or ? for each device
		for i, c := range fits {
			fit := model.DeviceFit{Device: gpu.Ref(i)}
			if c != '?' {
				fit.Fits = new(c == 'y')
			}
			list = append(list, fit)
		}
		return list
	}
	for fits, want := range map[string]string{"": "—", "?": "—", "y": "0", "n": "none", "yyyyyyyy": "all 8", "nnn": "none", "yyyn": "0–2, not 3", "yn": "0, not 1", "?ynn": "1, not 2 and 3", "y?": "0", "?n": "not 1"} {
		if got := fitsShort(of(fits)); got != want {
			t.Errorf("%s: %q, want %q", fits, got, want)
		}
	}
}

func TestNotesOfModels(t *testing.T) {
	t.Parallel()
	for want, m := range map[string]model.Model{
		"":                      {},
		"disabled":              {Disabled: true, Partial: true},
		"the file is cut short": {Problem: "the file is cut short", Disabled: true},
		"lacks the CLIP-L text encoder (clip_l.safetensors) and the FLUX VAE (ae.safetensors) for sd-server": {Partial: true, With: []string{"t5"}, Missing: []string{"the CLIP-L text encoder (clip_l.safetensors)", "the FLUX VAE (ae.safetensors)"}},
		"has scaled 8-bit weights, which ComfyUI can read but sd-server can't":                               {Scaled: true},
		"with t5 and ae":                          {Partial: true, With: []string{"t5", "ae"}},
		"the FLUX VAE, a part of models":          {Part: model.FluxVAE},
		"needs text encoders and a VAE beside it": {Partial: true},
	} {
		if got := noteWords(model.Offer{Model: m, InLibrary: true}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
