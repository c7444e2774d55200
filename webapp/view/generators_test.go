package view

import (
	"strings"
	"testing"
	"time"

	"muster/shared/gpu"
	"muster/shared/wire"
	"muster/webapp/live"
	"muster/webapp/state"
)

// generating makes a page of eight devices with these generators.
func generating(list ...wire.Generator) *Page {
	eight := machine(8)
	return shown(wire.Event{Inventory: eight}, wire.Event{Snapshot: snapshot(eight, 1)},
		wire.Event{Capacity: &wire.Capacity{Slots: []wire.Slot{{Device: 0}}, Models: []wire.Model{{Name: "sdxl", Title: "SDXL 1.0"}}, Generators: list}})
}

// part gives the text of one section.
func part(t *testing.T, p *Page, id string) (markup, words string) {
	t.Helper()
	whole, _ := html(p)
	_, from, found := strings.Cut(whole, ` id="`+id+`"`)
	if !found {
		t.Fatalf("no section %s", id)
	}
	markup, _, _ = strings.Cut(from, "</section>")
	return markup, strings.Join(strings.Fields(strings.NewReplacer("&#39;", "'", nbsp, " ").Replace(tags.ReplaceAllString("<x"+markup, " "))), " ")
}

func TestStatesOfAGenerator(t *testing.T) {
	t.Parallel()
	retry := time.Now().Add(90 * time.Second)
	for _, test := range []struct {
		name string
		in   wire.Generator
		want []string
		tone string
	}{
		{
			"its own, ready", wire.Generator{ID: "sdserver 0", Kind: "sdserver", Title: "sd-server master-827", Address: "127.0.0.1:43100", Device: ptr(gpu.Ref(0)), State: wire.GeneratorReady, Models: 4, Loaded: "sdxl"},
			[]string{"sd-server master-827 running", "sd-server · Device 0 · 127.0.0.1:43100 · started by muster · 4 models · holds SDXL 1.0", "1 in order"}, "well",
		},
		{"its own, idle", wire.Generator{ID: "a", Kind: "sdserver", Device: ptr(gpu.Ref(0)), State: wire.GeneratorIdle, Models: 1}, []string{"a starts when needed", "1 model"}, "well"},
		{"attached, idle", wire.Generator{ID: "a", Kind: "comfyui", Attached: true, Device: ptr(gpu.Ref(1)), State: wire.GeneratorIdle}, []string{"a idle", "ComfyUI · Device 1 · attached: somebody else runs it · no model"}, "well"},
		{"before it has said what it is", wire.Generator{ID: "comfyui 127.0.0.1:1", Kind: "comfyui", Title: "comfyui", Attached: true, State: wire.GeneratorStarting}, []string{"ComfyUI starting"}, "well"},
		{"starting", wire.Generator{ID: "a", Kind: "sdapi", State: wire.GeneratorStarting}, []string{"a starting", "A1111 API · device not known"}, "well"},
		{
			"resting", wire.Generator{ID: "a", Kind: "sdserver", Device: ptr(gpu.Ref(3)), State: wire.GeneratorResting, Problem: "it ended three times: close what else runs there", Failures: 3, RetryAt: &retry},
			[]string{"a resting", "It ended three times: close what else runs there.", "3 failures in a row · next try at " + retry.Local().Format("15:04:05"), "1 takes no work, 0 in order"}, "trouble",
		},
		{
			"away", wire.Generator{ID: "comfyui 127.0.0.1:1", Kind: "comfyui", Attached: true, Address: "127.0.0.1:1", State: wire.GeneratorUnreachable, Problem: "127.0.0.1:1 is not there: start it"},
			[]string{"comfyui 127.0.0.1:1 does not answer", "127.0.0.1:1 is not there: start it."}, "trouble",
		},
		{
			"away, and known from before", wire.Generator{ID: "a", Kind: "comfyui", Attached: true, State: wire.GeneratorUnreachable, Problem: "it is not there", Models: 3, Seen: &retry},
			[]string{"ComfyUI · device not known · attached: somebody else runs it · had 3 models", "Answered last at " + retry.Local().Format("15:04:05")}, "trouble",
		},
		{
			"away, and never known", wire.Generator{ID: "a", Kind: "comfyui", Attached: true, State: wire.GeneratorUnreachable, Problem: "it is not there"},
			[]string{"somebody else runs it · models not known"}, "trouble",
		},
		{"on no known device", wire.Generator{ID: "a", Kind: "openai", Attached: true, State: wire.GeneratorUnplaced, Problem: "write #0 behind its address"}, []string{"a device not known", "OpenAI images API", "Write #0 behind its address."}, "trouble"},
		{"of no use", wire.Generator{ID: "a", Kind: "comfyui", Attached: true, Device: ptr(gpu.Ref(1)), State: wire.GeneratorUnusable, Problem: "leave one of the two out"}, []string{"a can't be used", "Leave one of the two out."}, "trouble"},
		{"ready with a problem", wire.Generator{ID: "a", Kind: "comfyui", Device: ptr(gpu.Ref(1)), State: wire.GeneratorReady, Problem: "it has no model"}, []string{"It has no model."}, "trouble"},
		{"of a kind and state to come", wire.Generator{ID: "a", Kind: "neural-lace", State: "dreaming", Device: ptr(gpu.CPU)}, []string{"a dreaming", "neural-lace · CPU"}, "trouble"},
		{"what a server calls itself is text", wire.Generator{ID: "a", Kind: "comfyui", Title: "<b>bold</b>", State: wire.GeneratorReady}, []string{"&lt;b&gt;bold&lt;/b&gt;"}, "well"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			markup, words := part(t, generating(test.in), "generators")
			expect(t, words, test.want...)
			element(t, "<x"+markup, `data-generator="`+test.in.ID+`"`, `data-tone="`+test.tone+`"`, `data-state="`+string(test.in.State)+`"`)
			refuse(t, words, "No generator is connected")
			refuse(t, markup, "<b>")
		})
	}
}

func TestTroubledGeneratorsComeFirst(t *testing.T) {
	t.Parallel()
	var list []wire.Generator
	for i := range 64 {
		list = append(list, wire.Generator{ID: "sdserver " + gpu.Ref(i).String(), Kind: "sdserver", Title: "sd-server", Device: ptr(gpu.Ref(63 - i)), State: wire.GeneratorReady})
	}
	list[3].State, list[3].Problem = wire.GeneratorResting, "it rests"
	list = append(list, wire.Generator{ID: "late", Kind: "openai", State: wire.GeneratorUnplaced, Problem: "say where"})
	markup, words := part(t, generating(list...), "generators")
	expect(t, words, "2 take no work, 63 in order", "63 × sd-server on devices 0–59 and 61–63")
	rests, late, folded := strings.Index(markup, `data-state="resting"`), strings.Index(markup, `data-state="unplaced"`), strings.Index(markup, `<details`)
	if rests < 0 || rests > late || late > folded {
		t.Errorf("resting at %d, unplaced at %d, the others at %d", rests, late, folded)
	}
	if n := strings.Count(markup, "data-generator="); n != 65 {
		t.Errorf("%d generators, want all 65", n)
	}
	markup, _ = part(t, generating(list[:6]...), "generators")
	refuse(t, markup, "<details")
}

// A generator whose device is not known is told of on no card: it has a notice.
func TestGeneratorsWithoutADeviceAreNoticed(t *testing.T) {
	t.Parallel()
	away := wire.Generator{ID: "comfyui 127.0.0.1:1", Kind: "comfyui", Title: "ComfyUI", State: wire.GeneratorUnreachable, Problem: "it is not there: start it"}
	placed := away
	placed.Device, placed.ID, placed.Title = ptr(gpu.Ref(0)), "b", "Forge"
	markup, words := html(generating(away, placed))
	element(t, markup, `data-kind="generator"`)
	expect(t, words, "ComfyUI It is not there: start it.")
	refuse(t, words, "Forge It is not there")
	markup, _ = html(generating(away, away, away))
	if n := strings.Count(markup, `data-kind="generator"`); n != noticedGenerators {
		t.Errorf("%d notices, want %d", n, noticedGenerators)
	}
	markup, _ = html(generating(placed))
	refuse(t, markup, `data-kind="generator"`)
}

func TestNoGeneratorSaysHowToConnectOne(t *testing.T) {
	t.Parallel()
	for _, list := range [][]wire.Generator{nil, {{ID: "builtin", Kind: "builtin", Title: sketchTitle, Device: ptr(gpu.CPU), State: wire.GeneratorReady, Models: 1}}} {
		_, words := part(t, generating(list...), "generators")
		expect(t, words, "No generator is connected.", "--sd-server PATH", "--comfyui http://127.0.0.1:8188", "--sdapi ", "--openai ", "--comfyui-dir DIR")
	}
	_, words := part(t, shown(wire.Event{Inventory: machine(1)}), "generators")
	expect(t, words, "The agent has not said yet which generators it has.")
	refuse(t, words, "No generator is connected")
}

// The list follows the agent's word.
func TestGeneratorsFollowTheCapacity(t *testing.T) {
	t.Parallel()
	p := generating(wire.Generator{ID: "a", Kind: "comfyui", State: wire.GeneratorUnreachable, Problem: "away"})
	before := p.version.generators
	p.take(live.News{Link: state.Connected, Since: noon, Events: []wire.Event{{Capacity: &wire.Capacity{Generators: []wire.Generator{{ID: "a", Kind: "comfyui", State: wire.GeneratorReady}}}}}})
	if p.version.generators == before {
		t.Error("the section does not render again")
	}
	_, words := part(t, p, "generators")
	expect(t, words, "a running", "1 in order")
}
