package state

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/pool"
	"muster/shared/wire"
)

func ptr[T any](v T) *T { return &v }

var start = time.Date(2026, 3, 4, 5, 6, 8, 0, time.UTC)

// machine is an inventory of n devices.
func machine(revision uint64, n int) *gpu.Inventory {
	inventory := &gpu.Inventory{Revision: revision, Host: gpu.Host{Name: "box"}}
	for i := range n {
		inventory.Devices = append(inventory.Devices, gpu.Device{ID: fmt.Sprintf("GPU-%d", i), Index: gpu.Ref(i), Name: "Card", MemoryBytes: ptr(uint64(16 << 30))})
	}
	return inventory
}

// tick is a snapshot of a machine in which every device shows the same utilization.
func tick(inventory *gpu.Inventory, seq uint64, at time.Time, utilization float64) *gpu.Snapshot {
	s := &gpu.Snapshot{Seq: seq, Time: at, Revision: inventory.Revision}
	for i := range inventory.Devices {
		s.GPUs = append(s.GPUs, gpu.Reading{
			Index: gpu.Ref(i), State: gpu.StateOK, UtilizationPercent: ptr(utilization),
			MemoryUsedBytes: ptr(uint64(4 << 30)), MemoryTotalBytes: ptr(uint64(16 << 30)), PowerWatts: ptr(100.0), PowerLimitWatts: ptr(200.0),
			Temperatures: []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: 40 + float64(i)}},
		})
	}
	return s
}

func apply(s State, events ...wire.Event) State {
	for _, e := range events {
		s = s.Apply(e)
	}
	return s
}

func image(set string, ordinal int, seq uint64, state job.State) *job.Job {
	return &job.Job{ID: fmt.Sprintf("%s-%d", set, ordinal), SetID: set, Ordinal: ordinal, Seq: seq, State: state}
}

func ids(jobs []*job.Job) []string {
	var out []string
	for _, j := range jobs {
		out = append(out, j.ID)
	}
	return out
}

func TestJobsAreOrderedAndVersioned(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		in        []*job.Job
		want      []string
		wantState job.State // of the first
	}{
		{"newest set first, by ordinal", []*job.Job{image("A", 1, 2, job.Queued), image("A", 0, 1, job.Queued), image("B", 0, 3, job.Running)}, []string{"B-0", "A-0", "A-1"}, job.Running},
		{"a later version replaces", []*job.Job{image("A", 0, 1, job.Queued), image("A", 0, 2, job.Running)}, []string{"A-0"}, job.Running},
		{"an earlier version is late", []*job.Job{image("A", 0, 5, job.Succeeded), image("A", 0, 4, job.Running)}, []string{"A-0"}, job.Succeeded},
		{"progress comes with the same number", []*job.Job{image("A", 0, 1, job.Queued), image("A", 0, 1, job.Running)}, []string{"A-0"}, job.Running},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := State{}
			for _, j := range test.in {
				s = s.Apply(wire.Event{Job: j})
			}
			if diff := cmp.Diff(test.want, ids(s.Jobs)); diff != "" {
				t.Error(diff)
			}
			if s.Jobs[0].State != test.wantState {
				t.Errorf("state %s, want %s", s.Jobs[0].State, test.wantState)
			}
		})
	}
}

func TestLateProgressOfAnEarlierAttemptIsDropped(t *testing.T) {
	t.Parallel()
	now := image("A", 0, 7, job.Running)
	now.Attempt = 2
	late := image("A", 0, 7, job.Running)
	late.Attempt, late.Progress.Step = 1, 19
	if s := apply(State{}, wire.Event{Job: now}, wire.Event{Job: late}); s.Jobs[0].Attempt != 2 {
		t.Errorf("attempt %d, want 2", s.Jobs[0].Attempt)
	}
}

func TestHelloDropsJobsOnlyWhenAllFollow(t *testing.T) {
	t.Parallel()
	known := apply(State{}, wire.Event{Job: image("A", 0, 9, job.Succeeded)})
	if s := known.Apply(wire.Event{Hello: &wire.Hello{Complete: false}}); len(s.Jobs) != 1 || s.LastSeq != 9 {
		t.Errorf("resumed: %d jobs up to %d, want 1 up to 9", len(s.Jobs), s.LastSeq)
	}
	if s := known.Apply(wire.Event{Hello: &wire.Hello{Complete: true}}); len(s.Jobs) != 0 || s.LastSeq != 0 {
		t.Errorf("complete: %d jobs up to %d, want none", len(s.Jobs), s.LastSeq)
	}
}

func TestSnapshotsThatDoNotFit(t *testing.T) {
	t.Parallel()
	two := machine(3, 2)
	base := apply(State{}, wire.Event{Hello: &wire.Hello{}}, wire.Event{Inventory: two}, wire.Event{Snapshot: tick(two, 5, start, 10)})
	for _, test := range []struct {
		name string
		in   []wire.Event
		want float64 // utilization shown of device 0
	}{
		{"newer", []wire.Event{{Snapshot: tick(two, 6, start, 20)}}, 20},
		{"late", []wire.Event{{Snapshot: tick(two, 4, start, 20)}}, 10},
		{"of another inventory", []wire.Event{{Snapshot: tick(machine(4, 2), 6, start, 20)}}, 10},
		{"of other devices", []wire.Event{{Snapshot: tick(machine(3, 3), 6, start, 20)}}, 10},
		{"the same devices, something else in the inventory", []wire.Event{{Inventory: machine(4, 2)}}, 10},
		{"and the first of that inventory", []wire.Event{{Inventory: machine(4, 2)}, {Snapshot: tick(machine(4, 2), 6, start, 20)}}, 20},
		{"after the agent started anew", []wire.Event{{Hello: &wire.Hello{Instance: "b"}}, {Snapshot: tick(two, 1, start, 20)}}, 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r, ok := apply(base, test.in...).Reading(0)
			if !ok || *r.UtilizationPercent != test.want {
				t.Errorf("reading %+v (%v), want %g", r.UtilizationPercent, ok, test.want)
			}
		})
	}
	if _, ok := apply(base, wire.Event{Inventory: machine(4, 1)}).Reading(0); ok {
		t.Error("a reading survived the change of its devices")
	}
	saved, err := apply(base, wire.Event{Inventory: machine(4, 2)}).Save(start)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := Restore(saved); err != nil || back.Snapshot == nil {
		t.Errorf("saved between an inventory and its snapshot, no reading comes back: %v", err)
	}
}

func TestMaxJobsForgetsOnlyWhatHasEnded(t *testing.T) {
	t.Parallel()
	s := State{}.Apply(wire.Event{Job: image("0000", 0, 1, job.Running)})
	for i := range MaxJobs + 10 {
		s = s.Apply(wire.Event{Job: image(fmt.Sprintf("%04d", i+1), 0, uint64(i+2), job.Succeeded)})
	}
	if len(s.Jobs) != MaxJobs {
		t.Errorf("%d jobs, want %d", len(s.Jobs), MaxJobs)
	}
	if s.Job("0000-0") == nil {
		t.Error("the running job was forgotten")
	}
}

func TestSavedStateComesBack(t *testing.T) {
	t.Parallel()
	two := machine(3, 2)
	s := apply(State{}, wire.Event{Hello: &wire.Hello{}}, wire.Event{Inventory: two}, wire.Event{Snapshot: tick(two, 5, start, 10)},
		wire.Event{Capacity: &wire.Capacity{DefaultModel: "sketch"}}, wire.Event{Library: &model.Library{Dir: "/old"}},
		wire.Event{Library: &model.Library{Dir: "/models"}}, wire.Event{Job: image("A", 0, 9, job.Succeeded)})
	b, err := s.Save(start)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Restore(b)
	if err != nil {
		t.Fatal(err)
	}
	if back.Link != Connecting || !back.Since.Equal(start) || back.LastSeq != 0 || back.Live() {
		t.Errorf("link %s since %s up to %d, live %v", back.Link, back.Since, back.LastSeq, back.Live())
	}
	if diff := cmp.Diff(s.Snapshot, back.Snapshot, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	if s.Library == nil || s.Library.Dir != "/models" || back.Library == nil || back.Library.Dir != "/models" {
		t.Errorf("library %+v, kept and restored %+v", s.Library, back.Library)
	}
	if diff := cmp.Diff(s.Jobs, back.Jobs); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"", "{", `{"version":99}`} {
		if _, err := Restore([]byte(bad)); err == nil {
			t.Errorf("Restore(%q) succeeded", bad)
		}
	}
}

func TestSetsAndOutcome(t *testing.T) {
	t.Parallel()
	s := State{}
	for _, j := range []*job.Job{image("A", 0, 1, job.Succeeded), image("A", 1, 2, job.Failed), image("B", 0, 3, job.Queued)} {
		s = s.Apply(wire.Event{Job: j})
	}
	sets := s.Sets()
	if len(sets) != 2 || sets[0].ID != "B" || !sets[0].Active() || sets[1].Active() || sets[1].Count(job.Failed) != 1 {
		t.Errorf("sets %+v", sets)
	}
}

func TestTotalsLeaveOutWhatIsNotKnown(t *testing.T) {
	t.Parallel()
	three := machine(1, 3)
	snapshot := tick(three, 1, start, 50)
	snapshot.GPUs[1].State = gpu.StateLost
	snapshot.GPUs[2].PowerWatts, snapshot.GPUs[2].UtilizationPercent = nil, nil
	got := apply(State{}, wire.Event{Inventory: three}, wire.Event{Snapshot: snapshot}).Totals()
	want := Totals{
		MemoryUsedBytes: ptr(uint64(8 << 30)), MemoryTotalBytes: ptr(uint64(32 << 30)), PowerWatts: ptr(100.0), PowerLimitWatts: ptr(200.0),
		UtilizationPercent: ptr(50.0), Utilized: 1, HottestCelsius: ptr(42.0), Hottest: 2, Unreadable: 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if none := (State{}).Totals(); none.PowerWatts != nil || none.MemoryUsedBytes != nil {
		t.Errorf("totals of nothing: %+v", none)
	}
}

func TestSuspectValuesCountNowhere(t *testing.T) {
	t.Parallel()
	two := machine(1, 2)
	snapshot := tick(two, 1, start, 50)
	snapshot.GPUs[1].UtilizationPercent = ptr(100.0)
	snapshot.GPUs[1].Suspect = []string{"utilization_percent", "memory_used_bytes", "power_watts", "temperatures"}
	s := apply(State{}, wire.Event{Inventory: two}, wire.Event{Snapshot: snapshot}, wire.Event{Snapshot: tick(two, 2, start.Add(TrendStep), 50)})
	for m, column := range s.Trends.Devices[1] {
		if last := column[len(column)-1]; last == last {
			t.Errorf("metric %d: the trend shows %g", m, last)
		}
	}
	got := apply(State{}, wire.Event{Inventory: two}, wire.Event{Snapshot: snapshot}).Totals()
	want := Totals{
		MemoryUsedBytes: ptr(uint64(4 << 30)), MemoryTotalBytes: ptr(uint64(16 << 30)), PowerWatts: ptr(100.0), PowerLimitWatts: ptr(200.0),
		UtilizationPercent: ptr(50.0), Utilized: 1, HottestCelsius: ptr(40.0), Hottest: 0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// report says of every device how much energy it has used.
func report(inventory *gpu.Inventory, joules float64) *gpu.Report {
	r := &gpu.Report{Revision: inventory.Revision}
	for range inventory.Devices {
		r.Devices = append(r.Devices, gpu.Details{Time: start, EnergyJoules: &joules, Processes: []gpu.Process{{PID: 7, Name: "train", Command: "train --key secret"}}})
	}
	return r
}

func TestReportsThatDoNotFit(t *testing.T) {
	t.Parallel()
	two := machine(3, 2)
	base := apply(State{}, wire.Event{Inventory: two}, wire.Event{Details: report(two, 1)})
	others := machine(3, 2)
	others.Devices[1].ID = "GPU-9"
	for _, test := range []struct {
		name string
		in   wire.Event
		want *float64 // energy shown of device 1
	}{
		{"newer", wire.Event{Details: report(two, 2)}, ptr(2.0)},
		{"of another inventory", wire.Event{Details: report(machine(4, 2), 2)}, ptr(1.0)},
		{"of other devices", wire.Event{Details: report(machine(3, 3), 2)}, ptr(1.0)},
		{"same inventory again", wire.Event{Inventory: machine(3, 2)}, ptr(1.0)},
		{"the same devices, something else in the inventory", wire.Event{Inventory: machine(4, 2)}, ptr(1.0)},
		{"another agent's devices under the same revision", wire.Event{Inventory: others}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, base.Apply(test.in).Details(1).EnergyJoules); diff != "" {
				t.Error(diff)
			}
		})
	}
	if s := (State{}).Apply(wire.Event{Details: report(two, 1)}); s.Report != nil {
		t.Error("a report without inventory was kept")
	}
	for _, ref := range []gpu.Ref{gpu.CPU, 2} {
		if d := base.Details(ref); d.EnergyJoules != nil {
			t.Errorf("details of %s: %+v", ref, d)
		}
	}
}

func TestSavedReportHasNoCommandLines(t *testing.T) {
	t.Parallel()
	two := machine(3, 2)
	s := apply(State{}, wire.Event{Inventory: two}, wire.Event{Details: report(two, 1)})
	b, err := s.Save(start)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "secret") {
		t.Errorf("the browser's store holds a command line: %s", b)
	}
	back, err := Restore(b)
	if err != nil {
		t.Fatal(err)
	}
	if p := back.Details(1).Processes; len(p) != 1 || p[0].Name != "train" {
		t.Errorf("processes came back as %+v", p)
	}
	if s.Details(0).Processes[0].Command == "" {
		t.Error("Save changed the state")
	}
}

// FuzzApply feeds whatever decodes as events, and checks what every view relies on.
func FuzzApply(f *testing.F) {
	two := machine(3, 2)
	var seeds []wire.Event
	seeds = append(seeds, wire.Event{Hello: &wire.Hello{IntervalMilliseconds: 1000}}, wire.Event{Inventory: two}, wire.Event{Snapshot: tick(two, 1, start, 10)},
		wire.Event{Job: image("A", 0, 1, job.Running)}, wire.Event{History: &wire.History{Start: start, StepMilliseconds: 1000, Devices: []wire.Series{{ID: "GPU-0", UtilizationPercent: wire.Column{1, math.NaN()},
			MemoryUsedPercent: wire.Column{1, 2}, TemperatureCelsius: wire.Column{1, 2}, PowerWatts: wire.Column{1, 2}}}}})
	for _, e := range append(seeds, wire.Event{Details: report(two, 1)}) {
		b, err := wire.JSON.Encode(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		event, err := wire.Decode(wire.JSON, frame)
		if err != nil {
			return
		}
		before := apply(State{}, seeds...)
		jobs := slices.Clone(before.Jobs)
		after := before.Apply(event)
		if !slices.Equal(jobs, before.Jobs) {
			t.Error("Apply changed the state that it was given")
		}
		check(t, after.Apply(event).Apply(wire.Event{Snapshot: tick(two, 2, start.Add(time.Minute), 20)}))
	})
}

func check(t *testing.T, s State) {
	t.Helper()
	if !slices.IsSortedFunc(s.Jobs, newestFirst) {
		t.Errorf("jobs out of order: %v", ids(s.Jobs))
	}
	if s.Inventory != nil && s.Snapshot != nil && len(s.Snapshot.GPUs) != len(s.Inventory.Devices) {
		t.Errorf("%d readings of %d devices", len(s.Snapshot.GPUs), len(s.Inventory.Devices))
	}
	if s.Inventory != nil && s.Report != nil && len(s.Report.Devices) != len(s.Inventory.Devices) {
		t.Errorf("details of %d devices, there are %d", len(s.Report.Devices), len(s.Inventory.Devices))
	}
	for _, trend := range s.Trends.Devices {
		for _, column := range trend {
			if len(column) > TrendPoints || len(column) != s.Trends.length() {
				t.Errorf("column of %d points, others have %d", len(column), s.Trends.length())
			}
		}
	}
	s.Totals()
	s.Sets()
}

func BenchmarkApplySnapshot(b *testing.B) {
	for _, n := range []int{8, 64} {
		b.Run(fmt.Sprintf("%d devices", n), func(b *testing.B) {
			inventory := machine(1, n)
			s := apply(State{}, wire.Event{Hello: &wire.Hello{IntervalMilliseconds: 100}}, wire.Event{Inventory: inventory})
			snapshot := tick(inventory, 0, start, 10)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				snapshot.Seq, snapshot.Time = uint64(i+1), start.Add(time.Duration(i)*100*time.Millisecond)
				s = s.Apply(wire.Event{Snapshot: snapshot})
			}
		})
	}
}

func BenchmarkApplyJob(b *testing.B) {
	s := State{}
	for i := range MaxJobs {
		s = s.Apply(wire.Event{Job: image(fmt.Sprintf("%04d", i), 0, uint64(i+1), job.Succeeded)})
	}
	progress := image("0500", 0, 501, job.Running)
	b.ReportAllocs()
	for b.Loop() {
		s.Apply(wire.Event{Job: progress})
	}
}

func TestWhatPeopleDecided(t *testing.T) {
	t.Parallel()
	s := apply(State{}, wire.Event{Inventory: machine(1, 3)})
	free := wire.Steered{Device: 1, Control: pool.Control{Mode: pool.Active}, Phase: wire.PhaseActive}
	if got := s.Steered(1); got != free {
		t.Errorf("before the agent said anything: %+v", got)
	}
	paused := wire.Steered{Device: 2, Key: "GPU-2", Control: pool.Control{Mode: pool.Paused}, Phase: wire.PhasePaused}
	hot := wire.Steered{Device: 0, Key: "GPU-0", Phase: wire.PhaseLimited, Words: "is too hot"}
	s = s.Apply(wire.Event{Capacity: &wire.Capacity{Pool: pool.Settings{MaxWatts: ptr(900.0)}, Devices: []wire.Steered{paused, hot}}})
	if got := s.Steered(2); got != paused {
		t.Errorf("a paused device is %+v", got)
	}
	if got := s.Steered(0); got.Phase != wire.PhaseLimited || got.Control.Mode != pool.Active {
		t.Errorf("a hot device is %+v", got)
	}
	if got := s.Steered(1); got != free {
		t.Errorf("a device without decision is %+v", got)
	}
	if b := s.Budget(); b.MaxWatts == nil || *b.MaxWatts != 900 {
		t.Errorf("budget %+v", b)
	}
	kept, err := s.Save(start)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := Restore(kept); err != nil || back.Steered(2) != paused {
		t.Errorf("kept and restored, a paused device is %+v: %v", back.Steered(2), err)
	}
}

func TestOutlookOfASet(t *testing.T) {
	t.Parallel()
	at := func(seconds int) *job.Expected {
		when := start.Add(time.Duration(seconds) * time.Second)
		return &job.Expected{At: when, Early: when, Late: when}
	}
	on := func(ordinal int, state job.State, device *gpu.Ref, e *job.Expected) *job.Job {
		j := image("A", ordinal, 1, state)
		j.DeviceID, j.Expected = device, e
		return j
	}
	two, processor := gpu.Ref(2), gpu.CPU
	set := Set{ID: "A", Jobs: []*job.Job{
		on(0, job.Succeeded, &two, nil), on(1, job.Running, &two, at(5)), on(2, job.Running, &processor, at(9)), on(3, job.Queued, nil, at(40)), on(4, job.Failed, &two, nil), on(5, job.Queued, &two, at(20)),
	}}
	if diff := cmp.Diff([]Share{{gpu.CPU, 1}, {2, 2}}, set.Shares()); diff != "" {
		t.Errorf("shares (-want +got): %s", diff)
	}
	if diff := cmp.Diff(at(40), set.Expected()); diff != "" {
		t.Errorf("expected (-want +got): %s", diff)
	}
	set.Jobs[3].Expected = nil
	if e := set.Expected(); e != nil {
		t.Errorf("a set is expected at %s although one image is not", e.At)
	}
}
