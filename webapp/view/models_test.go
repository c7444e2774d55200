package view

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"muster/shared/gpu"
	"muster/shared/model"
	"muster/shared/wire"
	"muster/webapp/live"
	"muster/webapp/state"
)

const gigabyte = 1_000_000_000

// shelved makes a page of two devices, the second of them small, with a library; the first holds sdxl.
func shelved(library *model.Library) *Page {
	two := machine(2)
	two.Devices[1].MemoryBytes = ptr(uint64(8 << 30))
	capacity := &wire.Capacity{
		DefaultModel: "sdxl",
		Models:       []wire.Model{{Name: "sdxl", Title: "SDXL 1.0", Bytes: 6940 * 1e6}, {Name: "pony", Title: "pony"}, {Name: sketchModel, Title: sketchTitle}},
		Slots: []wire.Slot{
			{Device: 0, Backend: "sdserver", Models: []string{"sdxl"}, Loaded: "sdxl"}, {Device: 1, Backend: "sdserver", Models: []string{"sdxl"}},
			{Device: gpu.CPU, Backend: "comfyui", Models: []string{"pony"}, Problem: "it rests"},
		},
	}
	events := []wire.Event{{Inventory: two}, {Snapshot: snapshot(two, 1)}, {Capacity: capacity}}
	if library != nil {
		events = append(events, wire.Event{Library: library})
	}
	p := NewPage(Agent{
		Command:   func(context.Context, live.ModelCommand) error { return nil },
		Recommend: func(context.Context) ([]model.Recommendation, error) { return nil, nil },
	})
	hello := wire.Event{Hello: &wire.Hello{IntervalMilliseconds: 1000}}
	p.take(live.News{Link: state.Connected, Since: noon, Events: append([]wire.Event{hello}, events...)})
	return p
}

func sdxl() model.Model {
	return model.Model{Name: "sdxl", Title: "SDXL 1.0", Family: model.SDXL, Format: "safetensors", Bytes: 6940 * 1e6, VRAMBytes: 10200547328}
}

func libraryOf(list ...model.Model) *model.Library {
	return &model.Library{Dir: "/srv/models", FreeBytes: ptr(uint64(412 * gigabyte)), Models: list}
}

func TestAModelSaysWhatItIsAndWhere(t *testing.T) {
	t.Parallel()
	with := func(change func(*model.Model)) model.Model {
		m := sdxl()
		change(&m)
		return m
	}
	for _, test := range []struct {
		name           string
		in             model.Model
		want, unwanted []string
		tone           string
	}{
		{"loaded", sdxl(), []string{"SDXL 1.0 SDXL", "loaded on Device 0 · 6.9 GB · needs about 9.5 GiB · sdxl", "Fits Device 0, not Device 1", "Device 0 (loaded)", "Device 1 (does not fit)", "Load", "Disable", "Remove"}, []string{"disabled"}, "well"},
		{"disabled", with(func(m *model.Model) { m.Disabled = true }), []string{"SDXL disabled", "Enable"}, []string{"Disable", "Load"}, "off"},
		{"faulty", with(func(m *model.Model) { m.Problem = "the file is cut short" }), []string{"The file is cut short."}, []string{"Load"}, "trouble"},
		{"partial", with(func(m *model.Model) { m.Partial = true }), []string{"needs more files"}, nil, "well"},
		{"what it lacks", with(func(m *model.Model) {
			m.Partial, m.Missing = true, []string{"the FLUX VAE (ae.safetensors)", "the CLIP-L text encoder (clip_l.safetensors)"}
		}),
			[]string{"needs more files", "For sd-server it lacks the FLUX VAE (ae.safetensors) and the CLIP-L text encoder (clip_l.safetensors): its place is beside the model"}, nil, "well"},
		{"of several files", with(func(m *model.Model) { m.Partial, m.With = true, []string{"t5xxl_fp16", "clip_l", "ae"} }), []string{"Loaded with t5xxl_fp16, clip_l and ae."}, []string{"needs more files"}, "well"},
		{"a part", model.Model{Name: "ae", Part: model.FluxVAE, Bytes: gigabyte}, []string{"part of models", "The FLUX VAE for the models here that need it.", "Remove"}, []string{"no generator has it", "Disable", "Load"}, "well"},
		{"a part that sd-server can't read", model.Model{Name: "t5", Part: model.T5, Scaled: true, Bytes: gigabyte}, []string{"part of models", "A T5-XXL text encoder whose scaled 8-bit weights sd-server"}, nil, "well"},
		{"what sd-server can't read", with(func(m *model.Model) { m.Scaled = true }), []string{"It has scaled 8-bit weights, which ComfyUI can read but sd-server"}, []string{"needs more files"}, "well"},
		{"of no generator", with(func(m *model.Model) { m.Name, m.Title = "lone", "" }), []string{"lone", "no generator has it"}, []string{"Load"}, "well"},
		{"need and family not known", model.Model{Name: "x", Bytes: 2 * gigabyte}, []string{"2.0 GB"}, []string{"Fits", "needs about", "unknown family"}, "well"},
		{"what a file calls itself is text", model.Model{Name: "x", Title: `<img src=x onerror=alert(1)>`}, []string{"&lt;img src=x"}, nil, "well"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			markup, _ := part(t, shelved(libraryOf(test.in)), "models")
			row := rowOf(t, markup, test.in.Name)
			words := plain(strings.Join(strings.Fields(tags.ReplaceAllString(row, " ")), " "))
			expect(t, words, test.want...)
			refuse(t, words, test.unwanted...)
			element(t, row, `data-tone="`+test.tone+`"`)
		})
	}
}

// rowOf gives the markup of a model's row.
func rowOf(t *testing.T, markup, name string) string {
	t.Helper()
	for _, row := range strings.Split(markup, "<li ") {
		if head, _, _ := strings.Cut(row, ">"); strings.Contains(head, `data-model="`+name+`"`) && strings.Contains(head, `class="entry"`) {
			return "<li " + row
		}
	}
	t.Fatalf("no row of %s in:\n%.3000s", name, markup)
	return ""
}

func TestModelsOfGeneratorsAloneHaveNoFile(t *testing.T) {
	t.Parallel()
	markup, words := part(t, shelved(libraryOf(sdxl())), "models")
	row := rowOf(t, markup, "pony")
	expect(t, plain(row), "of ComfyUI on CPU", "CPU (takes no work)", `data-act="load"`)
	refuse(t, row, `data-act="remove"`, `data-act="disable"`)
	expect(t, words, "2 models, 1 loaded · 412 GB free")
	refuse(t, words, sketchTitle)
}

func TestTheShelfBeforeAnythingIsThere(t *testing.T) {
	t.Parallel()
	_, words := part(t, shown(wire.Event{Inventory: machine(1)}), "models")
	expect(t, words, "The agent has not said yet which models it has.")
	p := shown(wire.Event{Inventory: machine(1)}, wire.Event{Library: &model.Library{Dir: "/srv/models", Problem: "the models folder can't be read: permission denied: give muster's user the right to"}})
	_, words = part(t, p, "models")
	expect(t, words, "No models yet.", "/srv/models", "The models folder can't be read: permission denied: give muster's user the right to.")
}

func TestTheSelectOfDevicesKeepsItsPlaces(t *testing.T) {
	t.Parallel()
	p := shelved(libraryOf(sdxl()))
	markup, _ := part(t, p, "models")
	before := strings.Count(rowOf(t, markup, "sdxl"), "<option")
	capacity := *p.state.Capacity
	capacity.Slots = append([]wire.Slot(nil), capacity.Slots...)
	capacity.Slots[0].Loaded = ""
	p.take(live.News{Link: state.Connected, Since: noon, Events: []wire.Event{{Capacity: &capacity}}})
	markup, _ = part(t, p, "models")
	row := rowOf(t, markup, "sdxl")
	if now := strings.Count(row, "<option"); now != before {
		t.Errorf("%d devices to load on, before %d: what was chosen moves", now, before)
	}
	element(t, row, `value="0"`, `selected`)
	for _, slot := range []int{0, 1} {
		capacity.Slots[slot].Loaded = "sdxl"
	}
	p.take(live.News{Link: state.Connected, Since: noon, Events: []wire.Event{{Capacity: &capacity}}})
	markup, _ = part(t, p, "models")
	refuse(t, rowOf(t, markup, "sdxl"), `data-act="load"`)
}

func TestRemovingIsConfirmedInThePage(t *testing.T) {
	t.Parallel()
	p := shelved(libraryOf(sdxl(), model.Model{Name: "other", Bytes: gigabyte}))
	p.setRemoving("sdxl")
	markup, words := part(t, p, "models")
	expect(t, words, "Remove sdxl? Its file of 6.9 GB is deleted. It is loaded on Device 0.", "Remove the file", "Keep it")
	if n := strings.Count(markup, `class="confirm"`); n != 1 {
		t.Errorf("%d questions, want 1", n)
	}
	expect(t, rowOf(t, markup, "other"), `data-act="remove"`)
	p.setRemoving("pony") // a generator's own: there is no file to remove
	markup, _ = part(t, p, "models")
	refuse(t, markup, `class="confirm"`)
}

func TestWhatIsAskedIsShownWhenTheAgentTellsIt(t *testing.T) {
	t.Parallel()
	p := shelved(libraryOf(sdxl()))
	key := modelKey("sdxl")
	asked := &deciding{busy: true, what: string(live.DisableModel)}
	p.setAsking(key, asked)
	pending := func(want bool, when string) {
		t.Helper()
		markup, _ := part(t, p, "models")
		row := rowOf(t, markup, "sdxl")
		if is := strings.Contains(row, "Disable …"); is != want || strings.Contains(row, "data-pending") != want {
			t.Errorf("%s: pending is %v, want %v", when, is, want)
		}
	}
	pending(true, "sent")
	p.answered(key, asked, nil)
	pending(true, "answered, not told")
	p.take(live.News{Link: state.Connected, Since: noon, Events: []wire.Event{{Library: libraryOf(sdxl())}}})
	pending(false, "told")

	p.setAsking(key, asked)
	p.answered(key, asked, errors.New("it is in use"))
	markup, words := part(t, p, "models")
	expect(t, words, "Not done: It is in use.")
	element(t, rowOf(t, markup, "sdxl"), `role="alert"`)
	late := &deciding{busy: true, what: string(live.LoadModel)}
	p.setAsking(key, late)
	_, words = part(t, p, "models")
	expect(t, words, "is being loaded")
	p.answered(key, asked, errors.New("late")) // the answer to an earlier one
	if !p.asking(key).busy {
		t.Error("an answer to something else ended it")
	}
}

func TestModelsAreNotChangedFromAfar(t *testing.T) {
	t.Parallel()
	for link, why := range map[state.Link]string{
		state.Offline: "Offline: models can be changed when the agent is back.", state.Unpaired: "This browser is not paired: models can be changed when it is.",
		state.Connecting: "Connecting: models can be changed when the agent answers.",
	} {
		p := shelved(&model.Library{Models: []model.Model{sdxl()}, Installs: []model.Install{{ID: "1", Name: "x", State: model.Downloading, Bytes: gigabyte, Total: 2 * gigabyte, Speed: 1e6}}})
		called := false
		p.agent.Command = func(context.Context, live.ModelCommand) error { called = true; return nil }
		p.take(live.News{Link: link, Since: noon})
		markup, words := part(t, p, "models")
		expect(t, words, why, "1.0 GB of 2.0 GB")
		refuse(t, words, "a second", " left")
		for _, tag := range tags.FindAllString(markup, -1) {
			if control := strings.HasPrefix(tag, "<button") || strings.HasPrefix(tag, "<input") || strings.HasPrefix(tag, "<select"); control && !strings.Contains(tag, "disabled") {
				t.Errorf("%s: %s can be used", link, tag)
			}
		}
		p.command(modelKey("sdxl"), live.ModelCommand{Act: live.DisableModel, Model: "sdxl"}, nil)
		if called || p.asking(modelKey("sdxl")).busy {
			t.Errorf("%s: a command was taken", link)
		}
	}
}

func TestIDsOfRowsHaveNoBlanks(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, name := range []string{"a b", "a_20b", "a:b", "ä", "a-b", `a"b`, "a.b", "ab"} {
		id := rowID("load", name)
		if strings.ContainsAny(id, " \"'<>&") || seen[id] != "" {
			t.Errorf("%q gives %q, as %q does", name, id, seen[id])
		}
		seen[id] = fmt.Sprintf("%q", name)
	}
}

// What was asked for is shown until it is there, and what failed is kept: which device, why, and what to do.
func TestLoadsOfAModel(t *testing.T) {
	t.Parallel()
	on := func(state model.LoadState, device gpu.Ref, words string) model.Load {
		return model.Load{Model: "sdxl", Device: device, State: state, Asked: noon, Words: words}
	}
	asked := "at " + hourOr(noon, noon)
	for name, test := range map[string]struct {
		loads []model.Load
		want  []string
		none  []string
		tone  string
	}{
		"none":      {nil, nil, []string{"loaded on Device 1", "not loaded"}, "well"},
		"under way": {[]model.Load{on(model.LoadRuns, 1, ""), on(model.LoadRuns, 2, "")}, []string{"is being loaded on devices 1 and 2"}, []string{"not loaded"}, "well"},
		"waits":     {[]model.Load{on(model.LoadWaits, 1, "waits for the image that is being made there")}, []string{"is to be loaded on Device 1: waits for the image that is being made there"}, nil, "well"},
		"failed":    {[]model.Load{on(model.LoadFailed, 1, "it died; load it again")}, []string{"Was not loaded on Device 1 " + asked + ": it died; load it again."}, nil, "trouble"},
		"failed often": {[]model.Load{on(model.LoadFailed, 0, "first"), on(model.LoadFailed, 1, "second"), on(model.LoadFailed, 2, "third")},
			[]string{"Was not loaded on Device 2 " + asked + ": third. Was not loaded on Device 1 " + asked + ": second. and on 1 more"}, []string{"first"}, "trouble"},
		"of another model": {[]model.Load{{Model: "other", State: model.LoadFailed, Words: "it died"}}, nil, []string{"it died"}, "well"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := shelved(libraryOf(sdxl()))
			capacity := *p.state.Capacity
			capacity.Loads = test.loads
			p.take(live.News{Link: state.Connected, Since: noon, Events: []wire.Event{{Capacity: &capacity}}})
			markup, words := part(t, p, "models")
			expect(t, words, test.want...)
			refuse(t, words, test.none...)
			element(t, rowOf(t, markup, "sdxl"), `data-tone="`+test.tone+`"`)
			p.answered(modelKey("sdxl"), p.asking(modelKey("sdxl")), nil)
			refused := &deciding{busy: true, what: string(live.LoadModel)}
			p.setAsking(modelKey("sdxl"), refused)
			p.answered(modelKey("sdxl"), refused, errors.New("it was refused"))
			if _, words := part(t, p, "models"); strings.Contains(words, "Was not loaded") || !strings.Contains(words, "It was refused") {
				t.Errorf("beside the answer to this page: %s", words)
			}
		})
	}
}
