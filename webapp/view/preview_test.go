package view

import (
	"strings"
	"testing"
	"time"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
	"muster/webapp/live"
	"muster/webapp/state"
)

// unfinished is the one running image, with so many pictures of it.
func unfinished(attempt, previews int) wire.Event {
	e := making(0)
	e.Job.Attempt, e.Job.Prompt = attempt, "a fox in snow"
	e.Job.Progress = job.Progress{Step: previews, Steps: 30, Preview: previews}
	return e
}

func tell(p *Page, events ...wire.Event) {
	p.take(live.News{Link: state.Connected, Since: noon, Events: events})
}

func TestAnUnfinishedImageHasItsPlaceFromTheStart(t *testing.T) {
	t.Parallel()
	p := shown(wire.Event{Inventory: machine(1)}, unfinished(1, 0))
	markup, _ := part(t, p, "jobs")
	element(t, markup, `class="job-thumb unfinished"`, `aria-hidden`)
	refuse(t, markup, "<img", "/preview")
	before := p.version.jobs
	tell(p, unfinished(1, 1))
	if p.version.jobs == before {
		t.Error("the first picture does not render")
	}
	markup, _ = part(t, p, "jobs")
	id := p.working[0].ID
	element(t, markup, `id="j`+id+`-preview"`, `src="/api/v1/jobs/`+id+`/preview?n=1-1"`, `width="56"`, `height="56"`, `alt="Unfinished image 1 of a fox`)
	ready := finished("A", 0, "1")
	ready.ID = id
	tell(p, wire.Event{Job: ready})
	markup, _ = part(t, p, "jobs")
	refuse(t, markup, "/preview")
	expect(t, markup, thumbURL(ready.ImageID))
	if len(p.previews) > 0 {
		t.Errorf("kept after the end: %v", p.previews)
	}
}

// Each picture is a request: two a second at most, by painting alone, and none while the agent is away.
func TestPicturesComeTwiceASecondAtMost(t *testing.T) {
	t.Parallel()
	p := shown(wire.Event{Inventory: machine(1)}, unfinished(1, 1))
	html(p)
	id := "j" + p.working[0].ID + "-preview.src"
	at := p.previews[p.working[0].ID].at
	on := record{}
	p.steps.on = on
	version := p.version
	painted := func(after time.Duration, want string) {
		t.Helper()
		p.paintPreviews(at.Add(after))
		if _, n, _ := strings.Cut(on[id], "?n="); n != want {
			t.Errorf("after %s stands %q, want %q", after, n, want)
		}
	}
	tell(p, unfinished(1, 2))
	painted(100*time.Millisecond, "1-1")
	tell(p, unfinished(1, 3))
	painted(499*time.Millisecond, "1-1")
	painted(500*time.Millisecond, "1-3")
	tell(p, unfinished(1, 4))
	painted(900*time.Millisecond, "1-3")
	if p.version != version {
		t.Error("a further picture renders the list")
	}
	p.take(live.News{Link: state.Stale, Since: noon})
	painted(time.Hour, "1-3")
	p.take(live.News{Link: state.Offline, Since: noon})
	painted(2*time.Hour, "1-3")
	tell(p, unfinished(2, 1)) // it is made again: the earlier attempt's picture is of another image
	painted(2*time.Hour, "2-1")
}

// A page that starts while the agent is away asks for nothing.
func TestNoPictureIsAskedForFromAfar(t *testing.T) {
	t.Parallel()
	p := NewPage(Agent{})
	p.take(live.News{Link: state.Offline, Since: noon, Events: []wire.Event{{Inventory: machine(1)}, unfinished(1, 5)}})
	markup, _ := part(t, p, "jobs")
	refuse(t, markup, "/preview")
	element(t, markup, `class="job-thumb unfinished"`)
}

func TestTheFormSaysWhatAModelIs(t *testing.T) {
	t.Parallel()
	library := libraryOf(sdxl())
	library.Models = append(library.Models, sdxl(), sdxl(), sdxl())
	for i, name := range []string{"cold", "off", "broken"} {
		library.Models[i+1].Name, library.Models[i+1].Title = name, name
	}
	library.Models[2].Disabled, library.Models[3].Problem = true, "it is cut short"
	p := shelved(library)
	capacity := *p.state.Capacity
	capacity.Models = append(capacity.Models, wire.Model{Name: "cold", Title: "cold", Bytes: 6940 * 1e6}, wire.Model{Name: "homeless", Title: "homeless"})
	capacity.Slots = append([]wire.Slot(nil), capacity.Slots...)
	capacity.Slots[1].Models = []string{"sdxl", "cold"}
	tell(p, wire.Event{Capacity: &capacity})
	markup, words := part(t, p, "order")
	expect(t, words, "SDXL 1.0 · SDXL · 6.9 GB · loaded", "cold · SDXL · 6.9 GB", "pony · no active device has it", "homeless · no active device has it", sketchTitle, "off · disabled", "broken · it has a fault")
	refuse(t, words, "cold · SDXL · 6.9 GB · loaded")
	element(t, markup, `label="Not to be had now"`, `disabled`)
	if first := strings.Index(markup, `value="sdxl"`); first < 0 || first > strings.Index(markup, `value="pony"`) {
		t.Error("the default model is not the first")
	}
	paused := capacity
	paused.Devices = []wire.Steered{{Device: 1, Phase: wire.PhasePaused}}
	tell(p, wire.Event{Capacity: &paused})
	_, words = part(t, p, "order")
	expect(t, words, "cold · SDXL · 6.9 GB · no active device has it")
}

// What was chosen and is gone is given up aloud: nobody shall get images of another model than they think.
func TestAChoiceThatIsGone(t *testing.T) {
	t.Parallel()
	p := shelved(libraryOf(sdxl()))
	p.choose("model", "pony")
	p.choose("device", "1")
	p.choose("prompt", "a fox")
	same := *p.state.Capacity
	tell(p, wire.Event{Capacity: &same})
	if p.chosen["model"] != "pony" || p.chosen["device"] != "1" || p.said != "" || len(p.chosen) != 2 {
		t.Errorf("chosen is %v, said %q", p.chosen, p.said)
	}
	tell(p, wire.Event{Capacity: &wire.Capacity{Models: []wire.Model{{Name: "sdxl"}}, Slots: []wire.Slot{{Device: gpu.Ref(1)}}}})
	_, words := part(t, p, "order")
	expect(t, words, "The model that was chosen is not there any more: choose again.")
	if p.chosen["model"] != "" || p.chosen["device"] != "1" {
		t.Errorf("chosen is %v", p.chosen)
	}
	tell(p, wire.Event{Capacity: &wire.Capacity{}})
	_, words = part(t, p, "order")
	expect(t, words, "The device that was chosen is not there any more: choose again.")
}
