package telemetry

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"muster/shared/gpu"
)

func idsOf(inv *gpu.Inventory) string {
	var ids []string
	for _, d := range inv.Devices {
		ids = append(ids, d.ID)
	}
	return strings.Join(ids, " ")
}

func TestFirstSnapshotDoesNotWaitForASlowDriver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		quick, slow := newFake("b"), newFake()
		slow.listBy(func(context.Context) (Found, error) {
			time.Sleep(6 * time.Second)
			return Found{Devices: []gpu.Device{device("a", 0)}}, nil
		})
		s, stop := run(t, Config{Readers: []Reader{slow, quick}})
		defer stop()
		after(1500 * time.Millisecond)
		if s.Snapshot() == nil || idsOf(s.Inventory()) != "b" {
			t.Fatalf("after 1.5 s: %+v", s.Inventory())
		}
		after(6 * time.Second)
		inv, snap := s.Inventory(), s.Snapshot()
		if idsOf(inv) != "a b" || inv.Revision != 2 || snap.Revision != 2 || len(snap.GPUs) != 2 || snap.GPUs[1].Index != 1 {
			t.Errorf("after the slow one: %s, revision %d, snapshot %+v", idsOf(inv), inv.Revision, snap)
		}
		if len(inv.Problems) > 0 {
			t.Errorf("problems %q of a driver that was only slow", inv.Problems)
		}
	})
}

// Who asks once must not be told of no devices because a driver takes seconds to load.
func TestStartWindowWaitsForASlowDriver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := newFake()
		slow.listBy(func(context.Context) (Found, error) {
			time.Sleep(6 * time.Second)
			return Found{Devices: []gpu.Device{device("a", 0)}}, nil
		})
		s, stop := run(t, Config{Readers: []Reader{slow}, StartWindow: 11 * time.Second})
		defer stop()
		after(5 * time.Second)
		if s.Snapshot() != nil {
			t.Fatalf("published %s before the driver answered", idsOf(s.Inventory()))
		}
		after(2 * time.Second)
		if inv := s.Inventory(); inv == nil || idsOf(inv) != "a" {
			t.Errorf("after the driver answered: %+v", inv)
		}
	})
}

// A reader knows where values come from once it has asked for them: that must not take until the next regular inventory.
func TestWhatTheFirstDetailsTaughtIsListedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDetailed("a", "b")
		listed := 0
		d.listBy(func(context.Context) (Found, error) {
			listed++
			found := Found{Devices: []gpu.Device{device("a", 0), device("b", 1)}}
			if d.detailed("a") && d.detailed("b") {
				found.Devices[0].Sources = map[string]string{"power_watts": "learnt"}
			}
			return found, nil
		})
		s, stop := run(t, Config{Readers: []Reader{d}})
		defer stop()
		after(2500 * time.Millisecond)
		if inv := s.Inventory(); inv.Devices[0].Sources["power_watts"] != "learnt" {
			t.Errorf("sources after 2.5 s: %v", inv.Devices[0].Sources)
		}
		after(25 * time.Second)
		if listed != 2 {
			t.Errorf("%d inventories in 27 s, want 2", listed)
		}
	})
}

func TestInventoryThatHangsIsAProblemOfItsReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake("a")
		s, stop := run(t, Config{Readers: []Reader{f}})
		defer stop()
		after(time.Second)
		gate := make(chan struct{})
		f.listBy(func(context.Context) (Found, error) { <-gate; return Found{Devices: []gpu.Device{device("a", 1)}}, nil })
		after(90 * time.Second)
		if n := f.inventories(); n != 2 {
			t.Errorf("%d inventories: want 2, the last in flight", n)
		}
		if inv := s.Inventory(); idsOf(inv) != "a" || len(inv.Problems) != 1 || s.Snapshot().GPUs[0].State != gpu.StateOK {
			t.Errorf("while it hangs: %+v", inv)
		}
		close(gate)
		after(2 * time.Second)
		if inv := s.Inventory(); len(inv.Problems) != 0 {
			t.Errorf("after it returned: problems %q", inv.Problems)
		}
	})
}

func TestFailedInventoryKeepsTheLastOneAndIsTriedSooner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake("a")
		s, stop := run(t, Config{Readers: []Reader{f}})
		defer stop()
		after(time.Second)
		f.listBy(func(context.Context) (Found, error) { return Found{}, errors.New("driver is being reloaded") })
		after(32 * time.Second)
		inv := s.Inventory()
		if idsOf(inv) != "a" || inv.Revision != 2 || len(inv.Problems) != 1 || inv.Problems[0] != "fake: driver is being reloaded" {
			t.Errorf("%+v", inv)
		}
		f.list("a")
		after(6 * time.Second)
		if inv := s.Inventory(); len(inv.Problems) != 0 || inv.Revision != 3 {
			t.Errorf("revision %d, problems %q: want it tried again within seconds", inv.Revision, inv.Problems)
		}
	})
}

func TestRevisionRisesOnlyWhenSomethingChanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake("a", "b")
		s, stop := run(t, Config{Readers: []Reader{f}})
		defer stop()
		after(5 * time.Minute)
		if n, revision := f.inventories(), s.Inventory().Revision; n < 9 || n > 11 || revision != 1 {
			t.Errorf("%d inventories in 5 min, revision %d: want 10 and 1", n, revision)
		}
	})
}

func TestDeviceThatIsNoLongerListed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake("a", "b")
		s, stop := run(t, Config{Readers: []Reader{f}})
		defer stop()
		after(10 * time.Second)
		f.list("a")
		after(21500 * time.Millisecond) // the second inventory
		b := s.Snapshot().GPUs[1]
		if idsOf(s.Inventory()) != "a b" || b.State != gpu.StateLost || b.UtilizationPercent == nil || b.AgeMilliseconds == 0 {
			t.Fatalf("after one inventory without it: %s, %+v", idsOf(s.Inventory()), b)
		}
		reads := f.count("b")
		after(10 * time.Second)
		if n := f.count("b"); n != reads {
			t.Errorf("a device that is gone was read %d times", n-reads)
		}
		f.list("a", "b")
		after(30 * time.Second)
		if b := s.Snapshot().GPUs[1]; b.State != gpu.StateOK || s.Inventory().Revision != 1 {
			t.Fatalf("listed again: %s, revision %d", b.State, s.Inventory().Revision)
		}
		f.list("a")
		after(2 * time.Minute)
		if got := idsOf(s.Inventory()); got != "a" || len(s.Snapshot().GPUs) != 1 || s.Inventory().Revision != 2 {
			t.Errorf("two minutes later: %s, revision %d", got, s.Inventory().Revision)
		}
	})
}

// Inventories that follow each other quickly, as after a loss, do not make a device vanish before anybody has seen it as lost.
func TestDeviceIsShownAsLostForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake("a", "b")
		f.failWith("a", ErrLost)
		s, stop := run(t, Config{Readers: []Reader{f}})
		defer stop()
		after(500 * time.Millisecond)
		f.list("a")
		after(25 * time.Second)
		if n := f.inventories(); n < 4 {
			t.Fatalf("%d inventories: the test needs some in quick succession", n)
		}
		if got := idsOf(s.Inventory()); got != "a b" || s.Snapshot().GPUs[1].State != gpu.StateLost {
			t.Errorf("%s: want b shown as lost", got)
		}
		after(90 * time.Second)
		if got := idsOf(s.Inventory()); got != "a" {
			t.Errorf("%s: want b gone", got)
		}
	})
}

func TestSwappedCardTakesTheSlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake("a")
		s, stop := run(t, Config{Readers: []Reader{f}})
		defer stop()
		after(time.Second)
		f.list("z")
		after(31 * time.Second)
		if got := idsOf(s.Inventory()); got != "z" {
			t.Errorf("%s: want only the card that is in the slot now", got)
		}
	})
}

func TestDeviceInTroubleIsLookedForSoon(t *testing.T) {
	t.Parallel()
	for state, fail := range map[gpu.State]func(*fake) (release func()){
		gpu.StateLost:  func(f *fake) func() { f.failWith("b", ErrLost); return func() {} },
		gpu.StateStuck: func(f *fake) func() { return f.hang("b") },
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake("a", "b")
			s, stop := run(t, Config{Readers: []Reader{f}})
			defer stop()
			after(10500 * time.Millisecond)
			defer fail(f)()
			after(5 * time.Second)
			if n := f.inventories(); n < 2 {
				t.Errorf("%s: %d inventories after 5 s: want another one", state, n)
			}
			after(10 * time.Minute)
			if n := f.inventories(); n > 30 {
				t.Errorf("%s: %d inventories in 10 min of trouble that lasts: want it to slow down", state, n)
			}
			if r := s.Snapshot().GPUs[1]; idsOf(s.Inventory()) != "a b" || r.State != state {
				t.Errorf("%s, %s: it is still listed, so it stays as %s", idsOf(s.Inventory()), r.State, state)
			}
		})
	}
}

// A call that hangs while its device vanishes and comes back is still the only one.
func TestHungCallOfARemovedDeviceIsNotDoubled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake("a", "b")
		s, stop := run(t, Config{Readers: []Reader{f}})
		after(10500 * time.Millisecond)
		release := f.hang("b")
		after(time.Second)
		f.list("a")
		after(3 * time.Minute)
		if got := idsOf(s.Inventory()); got != "a" {
			t.Fatalf("%s: want b gone", got)
		}
		f.list("a", "b")
		after(time.Minute)
		if got := s.Snapshot().GPUs[1].State; got != gpu.StateStuck || f.overlap {
			t.Errorf("state %s, overlap %v: want stuck, by the old call", got, f.overlap)
		}
		release()
		after(2 * time.Second)
		if got := s.Snapshot().GPUs[1].State; got != gpu.StateOK {
			t.Errorf("state %s after the call returned", got)
		}
		stop()
	})
}

func TestRunLeavesHungCallsBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake("a", "b")
		release := f.hang("b")
		_, stop := run(t, Config{Readers: []Reader{f}})
		after(5 * time.Second)
		start := time.Now()
		stop()
		if took := time.Since(start); took > stopGrace {
			t.Errorf("stopped after %v: want at most %v", took, stopGrace)
		}
		release() // the bubble fails when a goroutine stays
	})
}

func TestNoReaders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		published := make(chan struct{}, 100)
		s, stop := run(t, Config{Publish: func(*gpu.Inventory, *gpu.Snapshot) { published <- struct{}{} }})
		if idle := NewSampler(Config{}); idle.Inventory() != nil || idle.Snapshot() != nil || idle.Report() != nil {
			t.Error("something is known before the first tick")
		}
		after(2500 * time.Millisecond)
		stop()
		if len(published) != 3 || s.Snapshot().GPUs == nil || s.Inventory().Devices == nil {
			t.Errorf("%d snapshots, last %+v", len(published), s.Snapshot())
		}
	})
}

type fakeHost struct {
	static func() (gpu.Host, error)
	read   func() (gpu.HostReading, error)
}

func (h fakeHost) Static(context.Context) (gpu.Host, error)      { return h.static() }
func (h fakeHost) Read(context.Context) (gpu.HostReading, error) { return h.read() }

func TestHost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		calls := 0
		h := fakeHost{
			static: func() (gpu.Host, error) { return gpu.Host{Name: "box", CPUCount: 8}, nil },
			read: func() (gpu.HostReading, error) {
				if calls++; calls > 2 {
					<-gate
				}
				return gpu.HostReading{CPUPercent: ptr(12.5)}, nil
			},
		}
		f := newFake("a")
		f.listBy(func(context.Context) (Found, error) {
			return Found{Devices: []gpu.Device{device("a", 1)}, Host: gpu.Host{Name: "other", NVIDIADriver: "590.48"}}, nil
		})
		s, stop := run(t, Config{Readers: []Reader{f}, Host: h})
		after(500 * time.Millisecond)
		if got := s.Inventory().Host; got.Name != "box" || got.NVIDIADriver != "590.48" {
			t.Errorf("host %+v", got)
		}
		if got := s.Snapshot().Host.CPUPercent; got == nil || *got != 12.5 {
			t.Errorf("CPU %v", got)
		}
		after(5 * time.Second)
		if snap := s.Snapshot(); snap.Host.CPUPercent != nil || snap.GPUs[0].State != gpu.StateOK {
			t.Errorf("while /proc hangs: %+v", snap)
		}
		close(gate)
		after(2 * time.Second)
		if s.Snapshot().Host.CPUPercent == nil {
			t.Error("no load after /proc answered again")
		}
		stop()
	})
}
