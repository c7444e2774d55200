package models

import (
	"slices"
	"strings"
	"testing"

	"muster/shared/gpu"
	"muster/shared/model"
)

func cards(gib ...uint64) (devices []gpu.Device) {
	for i, size := range gib {
		d := gpu.Device{Index: gpu.Ref(i)}
		if size > 0 {
			d.MemoryBytes = new(size * gpu.GiB)
		}
		devices = append(devices, d)
	}
	return devices
}

func TestRecommend(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		devices []gpu.Device
		first   string // the best
		words   string // of SDXL
	}{
		{"two large cards", cards(24, 24), "flux1-dev", "fits both GPUs"},
		{"MI25s", cards(16, 16, 16, 16), "z-image-turbo", "fits all 4 GPUs"},
		{"a large and a small one", cards(24, 8), "sd-3.5-medium", "fits Device 0, not Device 1: needs 9.5 GiB, has 8.0 GiB"},
		{"a large and three small ones", cards(12, 4, 4, 4), "dreamshaper-8", "fits Device 0, not devices 1–3: needs 9.5 GiB"},
		{"one small card", cards(8), "sd-3.5-medium", "does not fit Device 0: needs 9.5 GiB, has 8.0 GiB"},
		{"one that does not say", cards(0), "flux1-dev", "not known for Device 0"},
		{"no card", nil, "sd-1.5", "this machine has no GPU that could run it"},
		{"a tiny card", cards(2), "sd-1.5", "does not fit Device 0: needs 9.5 GiB, has 2.0 GiB"},
	} {
		got := Recommend(test.devices, model.Library{Models: []model.Model{{Name: "sd_xl_base_1.0"}}})
		if len(got) != len(catalogue) || got[0].Name != test.first && !(test.first == "sd-1.5" && got[0].Name == "dreamshaper-8") {
			t.Errorf("%s: the first is %s, want %s", test.name, got[0].Name, test.first)
		}
		seenUnusable := false
		for _, r := range got {
			if r.Usable && seenUnusable {
				t.Errorf("%s: %s fits and comes after one that does not", test.name, r.Name)
			}
			seenUnusable = seenUnusable || !r.Usable
			if r.Name == "sdxl-1.0" && r.Words != test.words {
				t.Errorf("%s: %q, want %q", test.name, r.Words, test.words)
			}
			if r.Installed != (r.Name == "sdxl-1.0") {
				t.Errorf("%s: %s installed: %v", test.name, r.Name, r.Installed)
			}
		}
	}
}

// Every line of the catalogue can be asked for, and its name leads to a model's.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, k := range catalogue {
		q, ok := CatalogueRequest(k.name)
		name, ok2 := CatalogueModel(k.name)
		if !ok || !ok2 || seen[k.name] || seen[k.file] || name != stem(k.file) {
			t.Errorf("%s: %+v, %s", k.name, q, name)
		}
		seen[k.name], seen[k.file] = true, true
		p := place{q.Repo, q.File, defaultRevision}
		if err := p.check(); err != nil {
			t.Errorf("%s: %v", k.name, err)
		}
		if strings.Contains(k.file, "scaled") {
			t.Errorf("%s: sd-server can't read %s", k.name, k.file)
		}
		if err := checkFileName(k.file); err != nil {
			t.Errorf("%s: %v", k.name, err)
		}
		for _, part := range k.with {
			if strings.Contains(part.file, "scaled") {
				t.Errorf("%s: sd-server can't read %s", k.name, part.file)
			}
			p := place{part.repo, part.file, defaultRevision}
			if err := p.check(); err != nil || !slices.Contains(k.family.Parts(), part.part) || part.bytes < 1e8 {
				t.Errorf("%s: %+v, %v", k.name, part, err)
			}
		}
		if k.with != nil && len(k.with) != len(k.family.Parts()) {
			t.Errorf("%s: not all of its parts come with it", k.name)
		}
		if k.merit <= 0 || k.merit > 10 || k.bytes < 1e9 || k.licence == "" || k.description == "" || k.family == model.Unknown {
			t.Errorf("%+v", k)
		}
	}
	if _, ok := CatalogueRequest("voodoo"); ok {
		t.Error("found what is not there")
	}
}
