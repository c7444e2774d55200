package view

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/shared/gpu"
	"muster/shared/model"
	"muster/shared/pool"
	"muster/shared/wire"
	"muster/webapp/live"
	"muster/webapp/state"
)

func TestInstallations(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name           string
		in             model.Install
		want, unwanted []string // an empty want: it is not shown
	}{
		{
			"downloading", model.Install{Name: "sdxl", From: "hub.example/a/b/sdxl.safetensors", State: model.Downloading, Bytes: 3200 * 1e6, Total: 6940 * 1e6, Speed: 84 * 1e6, Device: ptr(gpu.Ref(1))},
			[]string{"sdxl downloading", "3.2 GB of 6.9 GB · 84 MB a second · 45 s left", "hub.example/a/b/sdxl.safetensors · then loaded on Device 1", "Stop"}, []string{"Try again"},
		},
		{"of unknown size", model.Install{Name: "x", State: model.Downloading, Bytes: 50 * 1e6, Speed: 2e6}, []string{"50 MB · 2 MB a second"}, []string{"left", "MB of"}},
		{"nearly done", model.Install{Name: "x", State: model.Downloading, Bytes: 99, Total: 100, Speed: 1e6}, []string{"nearly done"}, nil},
		{"hardly moving", model.Install{Name: "x", State: model.Downloading, Total: 1 << 60, Speed: 1}, []string{"x downloading"}, []string{"left"}},
		{"tried again", model.Install{Name: "x", State: model.Downloading, Error: "hub.example is busy"}, []string{"hub.example is busy.", "Stop"}, nil},
		{"waiting", model.Install{Name: "x", State: model.Waiting}, []string{"x waiting", "begins when the one before it is done"}, nil},
		{"checked", model.Install{Name: "x", State: model.Verifying, Bytes: 1e9, Total: 1e9}, []string{"x checking", "1.0 GB of 1.0 GB"}, []string{"a second"}},
		{"being loaded", model.Install{Name: "x", State: model.Loading}, []string{"x loading", "Stop"}, nil},
		{"failed", model.Install{Name: "x", State: model.Failed, Error: "its hash is another"}, []string{"x failed", "Its hash is another.", "Try again", "Give up"}, []string{"Stop"}},
		{"stopped", model.Install{Name: "x", State: model.Stopped}, nil, nil},
		{"installed", model.Install{Name: "x", State: model.Installed}, nil, nil},
		{"installed and not loaded", model.Install{Name: "x", State: model.Installed, Error: "it was not loaded: no room"}, []string{"It was not loaded: no room."}, []string{"Stop", "Try again"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.in.ID = "7"
			markup, words := part(t, shelved(&model.Library{Installs: []model.Install{test.in}}), "models")
			row := strings.Contains(markup, `data-install="7"`)
			if row != (test.want != nil) {
				t.Fatalf("shown is %v", row)
			}
			expect(t, words, test.want...)
			_, list, _ := strings.Cut(markup, `id="installs"`)
			list, _, _ = strings.Cut(list, "</ul>")
			refuse(t, plain(list), test.unwanted...)
			if strings.Contains(markup, "<progress") == test.in.State.Ended() {
				t.Error("a bar stands where nothing moves, or none where something does")
			}
		})
	}
}

// How far a download is comes twice a second: it is painted, and nothing renders for it.
func TestInstallationsArePainted(t *testing.T) {
	t.Parallel()
	at := func(bytes, speed int64) *model.Library {
		return &model.Library{FreeBytes: ptr(uint64(100*gigabyte - bytes)), Installs: []model.Install{{ID: "7", Name: "x", State: model.Downloading, Bytes: bytes, Total: 1000 * 1e6, Speed: speed, Device: ptr(gpu.Ref(0))}}}
	}
	p := shelved(at(100*1e6, 10*1e6))
	on := record{}
	p.shelf.loads.on = on
	before := p.version
	p.take(live.News{Link: state.Connected, Since: noon, Events: []wire.Event{{Library: at(500*1e6, 50*1e6)}}})
	if p.version != before {
		t.Errorf("progress renders: %+v, before %+v", p.version, before)
	}
	p.paintInstalls()
	if got := plain(on["i7-words"]); got != "500 MB of 1.0 GB · 50 MB a second · 10 s left" {
		t.Errorf("painted %q", got)
	}
	if on["i7-bar.value"] != "500000000" || on["i7-bar.max"] != "1000000000" {
		t.Errorf("the bar is at %s of %s", on["i7-bar.value"], on["i7-bar.max"])
	}
	failed := at(500*1e6, 0)
	failed.Installs[0].State = model.Failed
	p.take(live.News{Link: state.Connected, Since: noon, Events: []wire.Event{{Library: failed}}})
	if p.version.models == before.models {
		t.Error("a failure does not render")
	}
}

func TestWhatIsInstalledIsReadAndChecked(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("0a", 32)
	for _, test := range []struct {
		name                     string
		source, file, as, sha256 string
		want                     live.Source
		field                    string // that is wrong; "" for none
	}{
		{"an address", " https://models.example/x.safetensors?token=1 ", "", "", "", live.Source{URL: "https://models.example/x.safetensors?token=1"}, ""},
		{"a repository", "ada/models", "sub/x.gguf", "mine", "", live.Source{Repo: "ada/models", File: "sub/x.gguf", Name: "mine"}, ""},
		{"with its hash", "https://a.example/x.gguf", "", "", "sha256:" + strings.ToUpper(sum), live.Source{URL: "https://a.example/x.gguf", SHA256: sum}, ""},
		{"nothing", " ", "", "", "", live.Source{}, "url"},
		{"no address", "models.example", "", "", "", live.Source{}, "url"},
		{"too long a path", "a/b/c", "x.gguf", "", "", live.Source{}, "url"},
		{"half a repository", "ada/", "x.gguf", "", "", live.Source{}, "url"},
		{"a repository without file", "ada/models", "", "", "", live.Source{}, "file"},
		{"an address with file", "https://a.example/", "x.gguf", "", "", live.Source{}, "file"},
		{"a short hash", "ada/models", "x.gguf", "", "abc", live.Source{}, "sha256"},
		{"no hash", "ada/models", "x.gguf", "", strings.Repeat("z", 64), live.Source{}, "sha256"},
	} {
		entered := map[string]string{"install-source": test.source, "install-file": test.file, "install-name": test.as, "install-sha256": test.sha256}
		got, err := readSource(func(id string) string { return entered[id] })
		var wrong *pool.FieldError
		if errors.As(err, &wrong) != (test.field != "") || wrong != nil && wrong.Field != test.field {
			t.Errorf("%s: %v, want an error about %q", test.name, err, test.field)
			continue
		}
		if diff := cmp.Diff(test.want, got); test.field == "" && diff != "" {
			t.Errorf("%s (-want +got): %s", test.name, diff)
		}
	}
}

func FuzzReadSource(f *testing.F) {
	f.Add("https://a.example/x.gguf", "", "", "")
	f.Add("ada/models", "x.gguf", "name", strings.Repeat("0a", 32))
	f.Fuzz(func(t *testing.T, source, file, name, sum string) {
		entered := map[string]string{"install-source": source, "install-file": file, "install-name": name, "install-sha256": sum}
		got, err := readSource(func(id string) string { return entered[id] })
		var wrong *pool.FieldError
		switch {
		case errors.As(err, &wrong):
			if installFields[wrong.Field].id == "" {
				t.Errorf("%v is about no input", err)
			}
		case err != nil, (got.URL == "") == (got.Repo == ""), (got.Repo == "") != (got.File == ""), got.SHA256 != "" && len(got.SHA256) != 64:
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestARefusalOfAnInstallationStandsAtItsField(t *testing.T) {
	t.Parallel()
	for field, want := range map[string][2]string{
		"url": {"install-source", "The address is not https."}, "repo": {"install-source", `The repository is "x".`}, "file": {"install-file", "The file is not there."},
		"name": {"install-name", "The name is taken."}, "sha256": {"install-sha256", "SHA-256 is short."}, "device_id": {"install-device", "The device is away."},
	} {
		p := shelved(libraryOf())
		_, message, _ := strings.Cut(strings.TrimSuffix(want[1], "."), " is ")
		d := &deciding{busy: true, what: string(live.InstallModel)}
		p.setAsking(addKey, d)
		p.answered(addKey, d, &pool.FieldError{Field: field, Message: "is " + message})
		markup, _ := part(t, p, "models")
		element(t, markup, `id="`+want[0]+`"`, `aria-invalid`)
		_, said, _ := strings.Cut(markup, `id="`+want[0]+`-wrong"`)
		if said, _, _ = strings.Cut(said, "</p>"); !strings.Contains(strings.ReplaceAll(said, "&#34;", `"`), want[1]) {
			t.Errorf("%s: at its field stands %q, want %q", field, said, want[1])
		}
	}
	p := shelved(libraryOf())
	d := &deciding{busy: true, what: string(live.InstallModel)}
	p.setAsking(addKey, d)
	p.answered(addKey, d, &pool.FieldError{Field: "tomorrow", Message: "is unknown"})
	_, words := part(t, p, "models")
	expect(t, words, "Not done: tomorrow: is unknown.")
}

func TestRecommendations(t *testing.T) {
	t.Parallel()
	p := shelved(&model.Library{Models: []model.Model{sdxl()}, Installs: []model.Install{{ID: "1", Name: "coming", State: model.Waiting}, {ID: "2", Name: "gone", State: model.Failed}}})
	p.shelf.adding = true
	words := func() string {
		t.Helper()
		_, w := part(t, p, "models")
		return w
	}
	expect(t, words(), "Recommended for this machine", "Asking the agent…")
	p.shelf.offers.take(nil, errors.New("the devices have not been measured yet"))
	expect(t, words(), "They could not be loaded: The devices have not been measured yet.")
	p.shelf.offers.take(nil, live.ErrOffline)
	expect(t, words(), "The agent knows them, which can't be reached.")
	of := func(name string) model.Recommendation {
		return model.Recommendation{Name: name, Title: "The " + name, Family: model.SDXL, Licence: "open", Repo: "ada/" + name, File: "x.gguf", Bytes: 7 * gigabyte, NeedBytes: 10 << 30, ModelName: name, Usable: true}
	}
	p.shelf.offers.take([]model.Recommendation{of("sdxl"), of("coming"), of("gone")}, nil)
	expect(t, words(), "The sdxl SDXL 7.0 GB · needs about 10.0 GiB · open · ada/sdxl Fits Device 0, not Device 1 installed", "The coming SDXL", "being installed", "The gone SDXL")
	markup, _ := part(t, p, "models")
	if n := strings.Count(markup, `aria-label="Install The `); n != 1 {
		t.Errorf("%d can be installed, want 1", n)
	}
	d := &deciding{busy: true, what: string(live.InstallModel)}
	p.setAsking(offerKey("ada/gone", "x.gguf"), d)
	expect(t, words(), "Install …")
	p.answered(offerKey("ada/gone", "x.gguf"), d, &pool.FieldError{Field: "repo", Message: "is gone"})
	expect(t, words(), "Not done: The repository is gone.")
	p.shelf.offers.take(nil, nil)
	expect(t, words(), "None of those that muster knows.")
	lacking := sdxl()
	lacking.Missing = []string{"the FLUX VAE (ae.safetensors)"}
	p = shelved(&model.Library{Models: []model.Model{lacking}})
	p.shelf.adding = true
	p.shelf.offers.take([]model.Recommendation{of("sdxl")}, nil)
	expect(t, words(), "Install what is missing")
}

func TestWhenRecommendationsAreAskedFor(t *testing.T) {
	t.Parallel()
	failed := errors.New("away")
	for _, test := range []struct {
		name  string
		in    offers
		after time.Duration // since it was asked
		want  bool
	}{
		{"never", offers{}, 0, true}, {"on its way", offers{asking: true}, time.Hour, false}, {"just answered", offers{known: true}, time.Second, false}, {"old", offers{known: true}, offersLast, true},
		{"just failed", offers{wrong: failed}, time.Second, false}, {"failed a while ago", offers{known: true, wrong: failed}, offersAgain, true},
	} {
		test.in.asked = noon
		if got := test.in.due(noon.Add(test.after)); got != test.want {
			t.Errorf("%s: due is %v", test.name, got)
		}
	}
}
