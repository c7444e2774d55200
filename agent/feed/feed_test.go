package feed

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/wire"
)

func decode(t *testing.T, format wire.Format, frame []byte) wire.Event {
	t.Helper()
	if frame == nil {
		return wire.Event{}
	}
	e, err := wire.Decode(format, frame)
	if err != nil {
		t.Fatalf("frame %q: %v", frame, err)
	}
	return e
}

func snapshot(seq uint64) *gpu.Snapshot {
	return &gpu.Snapshot{Seq: seq, Time: time.Unix(int64(seq), 0).UTC(), GPUs: []gpu.Reading{{State: gpu.StateOK}}}
}

func woken(s *Subscription) bool {
	select {
	case <-s.Wake():
		return true
	default:
		return false
	}
}

func TestFirstTakeGivesNewestOfEverything(t *testing.T) {
	t.Parallel()
	for _, format := range wire.Formats {
		f := New()
		f.Inventory(&gpu.Inventory{Revision: 1})
		f.Inventory(&gpu.Inventory{Revision: 2})
		f.Capacity(&wire.Capacity{Policy: "predicted"})
		f.Library(&model.Library{Dir: "/old"})
		f.Library(&model.Library{Dir: "/models"})
		f.Snapshot(snapshot(1))
		f.Snapshot(snapshot(2))
		f.Jobs([]job.Job{{ID: "before", Seq: 1}})
		s := f.Subscribe(format)
		defer s.Close()
		if !woken(s) {
			t.Error("a new subscriber is not woken")
		}
		b := s.Take()
		if e := decode(t, format, b.Inventory); e.Inventory == nil || e.Inventory.Revision != 2 {
			t.Errorf("inventory: %+v", e)
		}
		if e := decode(t, format, b.Capacity); e.Capacity == nil || e.Capacity.Policy != "predicted" {
			t.Errorf("capacity: %+v", e)
		}
		if e := decode(t, format, b.Library); e.Library == nil || e.Library.Dir != "/models" {
			t.Errorf("library: %+v", e)
		}
		if e := decode(t, format, b.Snapshot); e.Snapshot == nil || e.Snapshot.Seq != 2 {
			t.Errorf("snapshot: %+v", e)
		}
		if len(b.Jobs) != 0 || b.Missed {
			t.Errorf("jobs from before the subscription: %+v", b.Jobs)
		}
		if again := s.Take(); again.Inventory != nil || again.Capacity != nil || again.Library != nil || again.Snapshot != nil || again.Jobs != nil {
			t.Errorf("nothing is new, but got %+v", again)
		}
	}
}

func TestSlowSubscriberGetsTheNewestNotABacklog(t *testing.T) {
	t.Parallel()
	f := New()
	s := f.Subscribe(wire.JSON)
	defer s.Close()
	s.Take()
	woken(s)
	for seq := range uint64(1000) {
		f.Snapshot(snapshot(seq + 1))
		f.Jobs([]job.Job{{ID: fmt.Sprint("job", seq%3), Seq: seq + 1}})
	}
	if !woken(s) || woken(s) {
		t.Error("want exactly one waking for all")
	}
	b := s.Take()
	if e := decode(t, wire.JSON, b.Snapshot); e.Snapshot.Seq != 1000 {
		t.Errorf("snapshot %d, want 1000", e.Snapshot.Seq)
	}
	var got []uint64
	for _, j := range b.Jobs {
		if e := decode(t, wire.JSON, j.Bytes); e.Job.Seq != j.Seq || e.Job.ID != j.ID {
			t.Errorf("frame says %+v, its label %s %d", e.Job, j.ID, j.Seq)
		}
		got = append(got, j.Seq)
	}
	if fmt.Sprint(got) != "[998 999 1000]" {
		t.Errorf("jobs %v: want each once, newest version, in the order of change", got)
	}
	if n := f.Encodings(); n != 4 {
		t.Errorf("%d encodings, want 4: what nobody took is not encoded", n)
	}
}

func TestOldVersionOfAJobIsDropped(t *testing.T) {
	t.Parallel()
	f := New()
	s := f.Subscribe(wire.JSON)
	defer s.Close()
	f.Jobs([]job.Job{{ID: "a", Seq: 5}, {ID: "a", Seq: 4, State: job.Queued}})
	f.Jobs([]job.Job{{ID: "a", Seq: 5, Progress: job.Progress{Step: 3}}})
	b := s.Take()
	if len(b.Jobs) != 1 || decode(t, wire.JSON, b.Jobs[0].Bytes).Job.Progress.Step != 3 {
		t.Errorf("want version 5 with its progress: %+v", b.Jobs)
	}
	if f.Published() != 5 {
		t.Errorf("published %d, want 5", f.Published())
	}
}

func TestMissed(t *testing.T) {
	t.Parallel()
	f := New()
	behind, ahead := f.Subscribe(wire.JSON), f.Subscribe(wire.JSON)
	defer behind.Close()
	defer ahead.Close()
	for i := range maxJobs {
		f.Jobs([]job.Job{{ID: fmt.Sprint(i), Seq: uint64(i + 1)}})
	}
	if b := ahead.Take(); b.Missed || len(b.Jobs) != maxJobs {
		t.Fatalf("missed %v, %d jobs: want all %d", b.Missed, len(b.Jobs), maxJobs)
	}
	f.Jobs([]job.Job{{ID: "one more", Seq: maxJobs + 1}})
	if b := behind.Take(); !b.Missed || len(b.Jobs) != 0 {
		t.Errorf("missed %v, %d jobs: want to be told", b.Missed, len(b.Jobs))
	}
	if b := ahead.Take(); b.Missed || len(b.Jobs) != 1 {
		t.Errorf("missed %v, %d jobs: want the one", b.Missed, len(b.Jobs))
	}
	if b := behind.Take(); b.Missed {
		t.Error("told twice")
	}
	if len(f.jobs) != maxJobs || f.order.Len() != maxJobs {
		t.Errorf("remembers %d and %d jobs, want %d", len(f.jobs), f.order.Len(), maxJobs)
	}
}

func TestEncodesOncePerFormat(t *testing.T) {
	t.Parallel()
	f := New()
	var all []*Subscription
	for i := range 300 {
		format := wire.JSON
		if i%3 == 0 {
			format = wire.Binary
		}
		all = append(all, f.Subscribe(format))
	}
	f.Snapshot(snapshot(7))
	frames := make([][]byte, len(all))
	var takers sync.WaitGroup
	for i, s := range all {
		takers.Go(func() { frames[i] = s.Take().Snapshot })
	}
	takers.Wait()
	for i, frame := range frames {
		if &frame[0] != &frames[i%3][0] {
			t.Fatalf("subscriber %d has a frame of its own", i)
		}
	}
	if n := f.Encodings(); n != 2 {
		t.Errorf("%d encodings for 300 subscribers of 2 formats, want 2", n)
	}
	for _, s := range all {
		s.Close()
	}
	f.Snapshot(snapshot(8))
	if n := f.Encodings(); n != 2 {
		t.Errorf("%d encodings although nobody listens", n)
	}
	if len(f.subscribers) != 0 {
		t.Errorf("%d subscribers after all have closed", len(f.subscribers))
	}
}

func TestInventoryOfTheSameRevisionWakesNobody(t *testing.T) {
	t.Parallel()
	f := New()
	s := f.Subscribe(wire.JSON)
	defer s.Close()
	f.Inventory(&gpu.Inventory{Revision: 1})
	woken(s)
	s.Take()
	f.Inventory(&gpu.Inventory{Revision: 1})
	f.Inventory(nil)
	f.Snapshot(nil)
	f.Capacity(nil)
	f.Library(nil)
	f.Jobs(nil)
	if woken(s) {
		t.Error("woken for nothing")
	}
	f.Inventory(&gpu.Inventory{Revision: 2})
	if !woken(s) || s.Take().Inventory == nil {
		t.Error("a new revision must come")
	}
}

// A report of another revision would be read as that of other devices: it waits for its inventory, and an older one never comes.
func TestDetailsBelongToTheInventory(t *testing.T) {
	t.Parallel()
	for _, format := range wire.Formats {
		f := New()
		f.Details(nil)
		s := f.Subscribe(format)
		take := func(inventory, details uint64) {
			t.Helper()
			b := s.Take()
			got := [2]uint64{}
			if e := decode(t, format, b.Inventory); e.Inventory != nil {
				got[0] = e.Inventory.Revision
			}
			if e := decode(t, format, b.Details); e.Details != nil {
				got[1] = e.Details.Revision
			}
			if want := [2]uint64{inventory, details}; got != want {
				t.Errorf("inventory and details of revisions %v: want %v", got, want)
			}
		}
		f.Details(&gpu.Report{Revision: 1})
		take(0, 0)
		f.Inventory(&gpu.Inventory{Revision: 1})
		take(1, 1)
		take(0, 0)
		f.Inventory(&gpu.Inventory{Revision: 2})
		take(2, 0)
		f.Details(&gpu.Report{Revision: 1})
		take(0, 0)
		woken(s)
		f.Details(&gpu.Report{Revision: 2})
		f.Details(&gpu.Report{Revision: 2, Devices: []gpu.Details{{Processes: []gpu.Process{{PID: 7}}}}})
		if !woken(s) {
			t.Error("not woken by details")
		}
		before := f.Encodings()
		b := s.Take()
		if e := decode(t, format, b.Details); len(e.Details.Devices) != 1 || e.Details.Devices[0].Processes[0].PID != 7 {
			t.Errorf("%+v: want the newest", e.Details)
		}
		late := f.Subscribe(format)
		if again := late.Take().Details; &again[0] != &b.Details[0] || f.Encodings() != before+1 {
			t.Errorf("%d encodings: want one of the details for both subscribers", f.Encodings()-before)
		}
		late.Close()
		s.Close()
	}
}

func TestSubscribersAreCounted(t *testing.T) {
	t.Parallel()
	f := New()
	a, b := f.Subscribe(wire.JSON), f.Subscribe(wire.Binary)
	if n := f.Subscribers(); n != 2 {
		t.Errorf("%d, want 2", n)
	}
	a.Close()
	b.Close()
	if n := f.Subscribers(); n != 0 {
		t.Errorf("%d, want 0", n)
	}
}

func TestCloseLeavesTheOthers(t *testing.T) {
	t.Parallel()
	f := New()
	a, b, c := f.Subscribe(wire.JSON), f.Subscribe(wire.JSON), f.Subscribe(wire.JSON)
	a.Close()
	for _, s := range []*Subscription{b, c} {
		woken(s)
		f.Snapshot(snapshot(1))
		if !woken(s) {
			t.Error("a subscriber that stayed is not woken")
		}
	}
	c.Close()
	b.Close()
}

// Publishers, takers and those who come and go at once: for the race detector, and for the promise that the last is the newest.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	const last = 500
	f := New()
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			s := f.Subscribe(wire.Binary)
			defer s.Close()
			for newest := uint64(0); newest < last; {
				<-s.Wake()
				if frame := s.Take().Snapshot; frame != nil {
					seq := decode(t, wire.Binary, frame).Snapshot.Seq
					if seq <= newest {
						t.Errorf("snapshot %d after %d", seq, newest)
					}
					newest = seq
				}
				f.Subscribe(wire.JSON).Close()
			}
		})
	}
	work.Go(func() {
		for i := range uint64(last) {
			f.Snapshot(snapshot(i + 1))
			f.Jobs([]job.Job{{ID: fmt.Sprint(i % 9), Seq: i + 1}})
		}
	})
	work.Wait()
}

func BenchmarkPublish(b *testing.B) {
	for _, count := range []int{1, 200, 5000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			f := New()
			var taking sync.WaitGroup
			done := make(chan struct{})
			for range count {
				s := f.Subscribe(wire.Binary)
				taking.Go(func() {
					defer s.Close()
					for {
						select {
						case <-s.Wake():
							s.Take()
						case <-done:
							return
						}
					}
				})
			}
			shot := *snapshot(0)
			shot.GPUs = make([]gpu.Reading, 8)
			before := f.Encodings()
			b.ReportAllocs()
			for b.Loop() {
				next := shot
				f.Snapshot(&next)
			}
			b.ReportMetric(float64(f.Encodings()-before)/float64(b.N), "encodings/op")
			close(done)
			taking.Wait()
		})
	}
}

func TestForgetMakesThoseWhoListenAskAnew(t *testing.T) {
	t.Parallel()
	f := New()
	s := f.Subscribe(wire.JSON)
	defer s.Close()
	s.Take()
	f.Jobs([]job.Job{{ID: "a", Seq: 1}})
	for woken(s) {
	}
	f.Forget()
	if b := s.Take(); !woken(s) || !b.Missed || len(b.Jobs) != 0 {
		t.Errorf("after Forget: %+v", b)
	}
	later := f.Subscribe(wire.JSON)
	defer later.Close()
	f.Jobs([]job.Job{{ID: "b", Seq: 2}})
	for name, s := range map[string]*Subscription{"one that was told": s, "a new one": later} {
		if b := s.Take(); b.Missed || len(b.Jobs) != 1 || b.Jobs[0].ID != "b" {
			t.Errorf("%s: %+v", name, b)
		}
	}
	if f.Published() != 2 {
		t.Errorf("published up to %d", f.Published())
	}
}
