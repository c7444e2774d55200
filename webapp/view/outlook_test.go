package view

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
	"muster/webapp/live"
	"muster/webapp/state"
)

func TestTimesToComeAreCoarse(t *testing.T) {
	t.Parallel()
	for in, want := range map[time.Duration]string{
		-time.Hour: "", 0: "", 2 * time.Second: "", 3 * time.Second: "5 s", 38 * time.Second: "40 s", 59 * time.Second: "60 s", 72 * time.Second: "70 s", 118 * time.Second: "2 min",
		150 * time.Second: "3 min", 59*time.Minute + 40*time.Second: "1 h", 63 * time.Minute: "1 h 5 min", 61 * time.Minute: "1 h", 25 * time.Hour: "25 h",
	} {
		if got := strings.ReplaceAll(about(in), nbsp, " "); got != want {
			t.Errorf("%s is %q, want %q", in, got, want)
		}
	}
}

// due is an expectation in so many seconds from noon.
func due(early, at, late int) *job.Expected {
	second := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Second) }
	return &job.Expected{At: second(at), Early: second(early), Late: second(late)}
}

func TestExpectations(t *testing.T) {
	t.Parallel()
	one := machine(1)
	at := func(seconds int) string {
		return noon.Add(time.Duration(seconds) * time.Second).Local().Format("15:04")
	}
	for _, test := range []struct {
		name string
		link state.Link
		in   *job.Expected
		want string
	}{
		{"not known", state.Connected, nil, ""},
		{"with its uncertainty", state.Connected, due(25, 40, 71), "expected " + at(40) + " (in 40 s, between 25 s and 70 s)"},
		{"certain", state.Connected, due(40, 41, 42), "expected " + at(41) + " (in 40 s)"},
		{"perhaps at once", state.Connected, due(0, 10, 20), "expected " + at(10) + " (in 10 s, at most 20 s)"},
		{"any moment", state.Connected, due(-10, 1, 15), "expected " + at(1) + " (any moment, at most 15 s)"},
		{"overdue", state.Connected, due(-30, -20, -10), "expected " + at(-20) + " (any moment)"},
		{"far", state.Connected, due(3600, 7200, 10800), "expected " + at(7200) + " (in 2 h, between 1 h and 3 h)"},
		{"tomorrow", state.Connected, due(90000, 90000, 90000), "expected " + noon.Add(25*time.Hour).Local().Format("2 Jan 15:04") + " (in 25 h)"},
		{"nobody knows how late it is there", state.Offline, due(25, 40, 71), "was expected " + at(40)},
	} {
		p := shown(wire.Event{Inventory: one}, wire.Event{Snapshot: snapshot(one, 1)})
		p.take(live.News{Link: test.link, Since: noon})
		if got := strings.ReplaceAll(p.expectation(test.in), nbsp, " "); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	if got := NewPage(Agent{}).expectation(due(1, 2, 3)); got != "" {
		t.Errorf("before the first snapshot: %q", got)
	}
}

func waiting(set string, ordinal int) *job.Job {
	j := finished(set, ordinal, fmt.Sprint(ordinal))
	j.State, j.ImageID, j.DeviceID, j.Attempt, j.Started, j.Finished, j.Simulated = job.Queued, "", nil, 0, nil, nil, false
	return j
}

func TestTheListSaysWhyAndWhen(t *testing.T) {
	t.Parallel()
	one := machine(2)
	first, second, running := waiting("A", 0), waiting("A", 1), waiting("A", 2)
	first.Reason, first.Expected = "waits for Device 0: sooner there", due(25, 40, 71)
	second.Reason, second.Expected = "waits: 1 image is before it", due(50, 80, 100)
	running.State, running.DeviceID, running.Reason, running.Expected = job.Running, ptr(gpu.Ref(1)), "Device 1: idle", due(5, 10, 15)
	running.Progress = job.Progress{Step: 3, Steps: 9, ETASeconds: ptr(10.0)}
	pinned, moved := waiting("B", 0), waiting("C", 0)
	pinned.PinnedTo, pinned.PinnedKey = ptr(gpu.Ref(0)), "GPU-1" // its number has changed since
	moved.PinnedTo, moved.PinnedKey = ptr(gpu.Ref(5)), "GPU-9"
	events := []wire.Event{{Inventory: one}, {Snapshot: snapshot(one, 1)}}
	for _, j := range []*job.Job{first, second, running, pinned, moved} {
		events = append(events, wire.Event{Job: j})
	}
	markup, words := html(shown(events...))
	words = strings.ReplaceAll(words, nbsp, " ")
	expect(t, words, "waits for Device 0: sooner there expected ", "(in 40 s, between 25 s and 70 s)", "(in 80 s, between 50 s and 100 s)", "step 3 of 9", "(in 10 s, between 5 s and 15 s)",
		"All expected ", "1 on Device 1 · 2 waiting", "Device 1 pinned queued", "a device that is not here now pinned queued")
	refuse(t, words, "(in 0 s", "about 10 s left Device 1: idle") // one time left is enough
	if strings.Count(markup, "badge pin") != 2 {
		t.Error("jobs that nobody pinned are marked")
	}
	second.Expected = nil
	_, words = html(shown(events...))
	refuse(t, words, "All expected")
}

func TestWhereTheImagesOfASetAre(t *testing.T) {
	t.Parallel()
	cpu := gpu.CPU
	at := func(refs ...*gpu.Ref) state.Set {
		var s state.Set
		for i, ref := range refs {
			j := waiting("A", i)
			if j.DeviceID = ref; ref != nil {
				j.State = job.Running
			}
			s.Jobs = append(s.Jobs, j)
		}
		return s
	}
	on := func(n gpu.Ref) *gpu.Ref { return &n }
	for _, test := range []struct {
		in   state.Set
		want string
	}{
		{at(on(3)), ""},
		{at(nil, nil), ""},
		{at(on(3), nil), "1 on Device 3 · 1 waiting"},
		{at(on(3), on(3), on(0), on(7), on(1), nil, nil), "2 on Device 3 · 1 each on devices 0, 1, 7 · 2 waiting"},
		{at(&cpu, on(0)), "1 each on devices CPU, 0"},
	} {
		if got := strings.ReplaceAll(shareWords(test.in), nbsp, " "); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// However often the scheduler changes its mind, and whatever else changes on the page, the words stand for a second.
func TestTheListIsCalm(t *testing.T) {
	t.Parallel()
	one := machine(1)
	said := func(seq uint64, after time.Duration) wire.Event {
		s := snapshot(one, seq)
		s.Time = noon.Add(after)
		return wire.Event{Snapshot: s}
	}
	j := waiting("A", 0)
	j.Reason, j.Expected = "waits for Device 0", due(30, 40, 50)
	p := shown(wire.Event{Inventory: one}, said(1, 0), wire.Event{Job: j})
	on := record{}
	p.paint.on, p.steps.on = on, on
	p.paintAll()
	before := p.version
	seq := uint64(1)
	step := func(after time.Duration, reason string, seconds int) map[string]string {
		seq++
		next := *j
		next.Reason, next.Expected = reason, due(seconds-10, seconds, seconds+10)
		on.forget()
		p.take(live.News{Link: state.Connected, Since: noon, Events: []wire.Event{{Job: &next}, said(seq, after)}})
		p.paintAll()
		words := map[string]string{}
		for _, id := range []string{"jA0-reason", "jA0-when"} {
			if text, painted := on.written()[id]; painted {
				words[id] = strings.ReplaceAll(text, nbsp, " ")
			}
		}
		return words
	}
	for i := range 9 {
		if got := step(time.Duration(i+1)*100*time.Millisecond, fmt.Sprint("waits for ", i), 40+i*10); len(got) > 0 {
			t.Errorf("after %d ms the words change to %v", 100*(i+1), got)
		}
	}
	want := map[string]string{"jA0-reason": "waits for Device 3", "jA0-when": "expected " + noon.Add(90*time.Second).Local().Format("15:04") + " (in 90 s, between 80 s and 100 s)"}
	if diff := cmp.Diff(want, step(time.Second, "waits for Device 3", 90)); diff != "" {
		t.Errorf("after a second (-want +got): %s", diff)
	}
	if p.version != before {
		t.Errorf("reasons render: versions %+v, want %+v", p.version, before)
	}
}

func TestAJobThatStartsIsToldAnewAtOnce(t *testing.T) {
	t.Parallel()
	one := machine(1)
	j := waiting("A", 0)
	j.Reason = "waits for Device 0"
	p := shown(wire.Event{Inventory: one}, wire.Event{Snapshot: snapshot(one, 1)}, wire.Event{Job: j})
	html(p)
	started := *j
	started.State, started.Attempt, started.Reason, started.DeviceID, started.Seq = job.Running, 1, "Device 0: idle", ptr(gpu.Ref(0)), 2
	p.take(live.News{Link: state.Connected, Since: noon, Events: []wire.Event{{Job: &started}}})
	_, words := html(p)
	expect(t, words, "Device 0: idle")
	refuse(t, words, "waits for Device 0")
}

func TestThousandsOfOrdersAreNotAllShown(t *testing.T) {
	t.Parallel()
	var events []wire.Event
	for i := range 1000 {
		j := waiting(fmt.Sprintf("%04d", i), 0)
		if i == 3 {
			j.State, j.DeviceID = job.Running, ptr(gpu.Ref(0))
		}
		events = append(events, wire.Event{Job: j})
	}
	markup, words := html(shown(events...))
	if n := strings.Count(markup, "data-job="); n != activeSets+1 {
		t.Errorf("%d images are listed, want the newest %d and the one that is being made", n, activeSets)
	}
	expect(t, words, "1 running, 999 queued", "And 987 images of earlier orders, which wait.")
	element(t, markup, `data-job="00030"`)
}
