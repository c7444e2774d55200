package view

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/pool"
	"muster/shared/wire"
	"muster/webapp/live"
	"muster/webapp/state"
)

// steer makes a page of two devices with their details open, of which the first is as the agent says.
func steer(s wire.Steered, more ...wire.Event) *Page {
	two := machine(2)
	capacity := &wire.Capacity{Slots: []wire.Slot{{Device: 0}, {Device: 1}}, Devices: []wire.Steered{s}}
	p := shown(append([]wire.Event{{Inventory: two}, {Snapshot: snapshot(two, 1)}, {Capacity: capacity}}, more...)...)
	p.setOpen("GPU-0", true)
	return p
}

func making(device gpu.Ref) wire.Event {
	j := finished("A", 0, "1")
	j.State, j.ImageID, j.DeviceID, j.Finished = job.Running, "", &device, nil
	return wire.Event{Job: j}
}

func TestPhasesOfADevice(t *testing.T) {
	t.Parallel()
	soon, tomorrow := noon.Add(90*time.Minute), noon.Add(30*time.Hour)
	control := func(m pool.Mode, until *time.Time) pool.Control { return pool.Control{Mode: m, Until: until} }
	for _, test := range []struct {
		name string
		in   wire.Steered
		more []wire.Event
		want string // what the card and the panel say
		mode string // of the card
	}{
		{"paused", wire.Steered{Control: control(pool.Paused, nil), Phase: wire.PhasePaused}, nil, "Paused", "steered"},
		{"paused for a time", wire.Steered{Control: control(pool.Paused, &soon), Phase: wire.PhasePaused}, nil, "Paused until " + soon.Local().Format("15:04"), "steered"},
		{"paused while it works", wire.Steered{Control: control(pool.Paused, nil), Phase: wire.PhasePaused}, []wire.Event{making(0)}, "Paused: 1 image is being finished", "busy"},
		{"draining", wire.Steered{Control: control(pool.Draining, nil), Phase: wire.PhaseDraining}, []wire.Event{making(0)}, "Draining: 1 image left", "busy"},
		{"draining its memory", wire.Steered{Control: control(pool.Draining, nil), Phase: wire.PhaseDraining}, nil, "Draining: its memory is being freed", "steered"},
		{"drained", wire.Steered{Control: control(pool.Draining, nil), Phase: wire.PhaseDrained}, nil, "Drained: nothing runs, no model is loaded", "steered"},
		{"reserved", wire.Steered{Control: control(pool.Reserved, nil), Phase: wire.PhaseReserved, Words: "is reserved for other programs"}, nil, "Reserved for other programs", "steered"},
		{"reserved, and not free yet", wire.Steered{Control: control(pool.Reserved, nil), Phase: wire.PhaseDraining}, nil, "Reserved for other programs, it is being freed", "steered"},
		{"reserved until another day", wire.Steered{Control: control(pool.Reserved, &tomorrow), Phase: wire.PhaseReserved}, nil, "Reserved until " + tomorrow.Local().Format("2 Jan 15:04"), "steered"},
		{"gives way", wire.Steered{Control: pool.Control{Yield: true}, Phase: wire.PhaseYielding, Words: "gives way to blender"}, nil, "Gives way to blender", "steered"},
		{"limited", wire.Steered{Phase: wire.PhaseLimited, Words: "draws 310 W, its limit is 300 W"}, nil, "Limited: draws 310 W, its limit is 300 W", "steered"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			markup, words := html(steer(test.in, test.more...))
			if n := strings.Count(strings.ReplaceAll(strings.ReplaceAll(words, " :", ":"), "  ", " "), test.want); n < 2 {
				t.Errorf("the card and its details say %q %d times: %.3000s", test.want, n, words)
			}
			element(t, markup, `id="card-0"`, `data-state="`+test.mode+`"`)
			element(t, markup, `id="card-1"`, `data-state="ok"`)
			element(t, markup, `id="steering-0"`, `data-phase="`+string(test.in.Phase)+`"`)
			refuse(t, markup, `class="phase" data-phase="active"`)
		})
	}
}

func TestAFreeDeviceSaysNothingOfSteering(t *testing.T) {
	t.Parallel()
	markup, words := html(steer(wire.Steered{Device: 0, Control: pool.Control{Yield: true}, Phase: wire.PhaseActive}))
	expect(t, words, "Takes work.")
	refuse(t, markup, `class="phase"`)
	element(t, markup, `role="switch"`, `aria-checked`)
	element(t, markup, `data-act="resume"`, `disabled`)
	element(t, markup, `data-act="reserve"`, `data-seconds="14400"`, `aria-pressed="false"`)
}

func TestSteeringIsNotKeptForLater(t *testing.T) {
	t.Parallel()
	p := steer(wire.Steered{Device: 0, Control: pool.Control{Mode: pool.Paused}, Phase: wire.PhasePaused})
	called := false
	p.agent.Decide = func(context.Context, live.Decision) error { called = true; return nil }
	p.take(live.News{Link: state.Offline, Since: noon})
	markup, words := html(p)
	expect(t, words, "Paused. Offline: this can be changed when the agent is back.")
	for _, id := range []string{`data-act="resume"`, `data-act="pause"`, `data-act="drain"`, `role="switch"`, `id="max-celsius-0"`, `id="hours-0"`, `id="budget"`} {
		element(t, markup, id, `disabled`)
	}
	p.decide("pause0", live.Decision{Device: "GPU-0", Act: live.Pause})
	if called || p.deciding("GPU-0").busy {
		t.Error("a decision was taken while the agent is away")
	}
}

// The agent's own word changes what is shown, never the click.
func TestADecisionIsShownWhenTheAgentTellsIt(t *testing.T) {
	t.Parallel()
	p := steer(wire.Steered{Device: 0, Control: pool.Control{}, Phase: wire.PhaseActive})
	pause := &deciding{busy: true, what: "pause0"}
	p.setDeciding("GPU-0", pause)
	pending := func(want bool, when string) {
		t.Helper()
		markup, words := html(p)
		if is := strings.Contains(words, "Pause …"); is != want || strings.Contains(markup, ` data-pending`) != want {
			t.Errorf("%s: pending is %v, want %v", when, is, want)
		}
	}
	pending(true, "sent")
	expectNow := func(want string) {
		t.Helper()
		_, words := html(p)
		expect(t, words, want)
	}
	expectNow("Takes work. …")
	p.decided("GPU-0", pause, nil)
	pending(true, "answered, not told")
	expectNow("Takes work. …")
	told := wire.Event{Capacity: &wire.Capacity{Slots: []wire.Slot{{Device: 0}}, Devices: []wire.Steered{{Device: 0, Control: pool.Control{Mode: pool.Paused}, Phase: wire.PhasePaused}}}}
	p.take(live.News{Link: state.Connected, Since: noon, Events: []wire.Event{told}})
	pending(false, "told")
	expectNow("Paused.")

	early := &deciding{busy: true, what: "pause0"} // the event overtakes the answer
	p.setDeciding("GPU-0", early)
	p.take(live.News{Link: state.Connected, Since: noon, Events: []wire.Event{told}})
	pending(true, "told, not answered")
	p.decided("GPU-0", early, nil)
	pending(false, "answered")
}

func TestRefusalsOfADecision(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, what string
		err        error
		want       string
	}{
		{"of the whole", "pause0", errors.New("the disk is full"), "Not accepted: the disk is full."},
		{"of a field", "limits", &pool.FieldError{Field: "max_celsius", Message: "is 20; allowed is 30 to 120"}, "Temperature is 20; allowed is 30 to 120."},
		{"of a field without an input", "pause0", &pool.FieldError{Field: "until", Message: "is in the past"}, "Not accepted: until: is in the past."},
		{"of the hours", "limits", &pool.FieldError{Field: "hours", Message: `"at night" is no time of day: want 22:00-08:00`}, "is no time of day: want 22:00-08:00."},
	} {
		p := steer(wire.Steered{Device: 0, Phase: wire.PhaseActive})
		d := &deciding{busy: true, what: test.what}
		p.setDeciding("GPU-0", d)
		p.decided("GPU-0", d, test.err)
		_, words := html(p)
		expect(t, words, test.want)
		if p.deciding("GPU-0").busy {
			t.Errorf("%s: still on its way", test.name)
		}
	}
	p := steer(wire.Steered{Device: 0, Phase: wire.PhaseActive})
	d := &deciding{busy: true, what: "budget"}
	p.setDeciding(budgetKey, d)
	p.decided(budgetKey, d, &pool.FieldError{Field: "max_watts", Message: "is 0; allowed is 1 to 100000"})
	_, words := html(p)
	expect(t, words, "Power is 0; allowed is 1 to 100000.")
}

func TestLimitsAreReadAndChecked(t *testing.T) {
	t.Parallel()
	change := func(celsius, watts *float64, hours string) live.Change {
		return live.Change{"max_celsius": celsius, "max_watts": watts, "hours": hours}
	}
	for _, test := range []struct {
		name                  string
		celsius, watts, hours string
		want                  live.Change
		field                 string // that is wrong; "" for none
	}{
		{"nothing", "", " ", "", change(nil, nil, ""), ""},
		{"all", "80", "250.5", " 22:00-08:00 ", change(ptr(80.0), ptr(250.5), "22:00-08:00"), ""},
		{"with a comma", "80,5", "", "", change(ptr(80.5), nil, ""), ""},
		{"too cold", "20", "", "", nil, "max_celsius"},
		{"no number", "warm", "", "", nil, "max_celsius"},
		{"not a number", "NaN", "", "", nil, "max_celsius"},
		{"no power", "", "0", "", nil, "max_watts"},
		{"endless power", "", "Inf", "", nil, "max_watts"},
		{"hours", "", "", "at night", nil, "hours"},
	} {
		entered := map[string]string{"max-celsius-0": test.celsius, "max-watts-0": test.watts, "hours-0": test.hours}
		got, err := readLimits(0, func(id string) string { return entered[id] })
		var wrong *pool.FieldError
		if errors.As(err, &wrong) != (test.field != "") || wrong != nil && wrong.Field != test.field {
			t.Errorf("%s: %v, want an error about %q", test.name, err, test.field)
			continue
		}
		if diff := cmp.Diff(test.want, got); test.field == "" && diff != "" {
			t.Errorf("%s (-want +got): %s", test.name, diff)
		}
	}
	// The processor has no temperature or power of its own: what was decided of them stays.
	got, err := readLimits(gpu.CPU, func(string) string { return "" })
	if diff := cmp.Diff(live.Change{"hours": ""}, got); diff != "" || err != nil {
		t.Errorf("the processor's limits (-want +got): %s%v", diff, err)
	}
}

func TestTheProcessorIsSteeredToo(t *testing.T) {
	t.Parallel()
	p := shown(wire.Event{Inventory: machine(1)}, wire.Event{Capacity: &wire.Capacity{
		Slots: []wire.Slot{{Device: gpu.CPU}}, Devices: []wire.Steered{{Device: gpu.CPU, Key: "cpu", Control: pool.Control{Mode: pool.Paused}, Phase: wire.PhasePaused}},
	}})
	p.setOpen(processorKey, true)
	markup, words := html(p)
	expect(t, words, "CPU in detail", "Paused.", "CPU (paused)")
	element(t, markup, `id="steering-cpu"`, `data-phase="paused"`)
	element(t, markup, `data-key="cpu"`, `data-act="resume"`)
	refuse(t, markup, `id="max-watts-cpu"`)
}

func TestBudgetOfPower(t *testing.T) {
	t.Parallel()
	two := machine(2)
	p := shown(wire.Event{Inventory: two}, wire.Event{Snapshot: snapshot(two, 1)}, wire.Event{Capacity: &wire.Capacity{Pool: pool.Settings{MaxWatts: ptr(1200.0)}}})
	_, words := html(p)
	expect(t, words, "Power budget: 1,200 W")
	if got := p.totals().powerContext; got != "of 1,200 W budget" {
		t.Errorf("under the power stands %q", got)
	}
	p.take(live.News{Link: state.Connected, Since: noon, Events: []wire.Event{{Capacity: &wire.Capacity{}}}})
	_, words = html(p)
	expect(t, words, "Power budget: none")
	if got := p.totals().powerContext; got != "of 440 W limit" {
		t.Errorf("under the power stands %q", got)
	}
}
