package telemetry

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"muster/shared/gpu"
)

func ptr[T any](v T) *T { return &v }

// fake is a driver whose behaviour a test changes while it is read.
type fake struct {
	mu        sync.Mutex
	inventory func(ctx context.Context) (Found, error)
	read      map[string]func(ctx context.Context) (gpu.Reading, error)
	asked     int            // inventories
	reads     map[string]int // by device
	inside    map[string]int // calls in flight now
	overlap   bool           // two at once were seen
}

// newFake lists one device per ID, on buses from 1, which answer at once.
func newFake(ids ...string) *fake {
	f := &fake{read: map[string]func(context.Context) (gpu.Reading, error){}, reads: map[string]int{}, inside: map[string]int{}}
	f.list(ids...)
	return f
}

func device(id string, bus int) gpu.Device {
	return gpu.Device{ID: id, Name: "Card " + id, Vendor: gpu.AMD, PCIAddress: fmt.Sprintf("0000:%02x:00.0", bus), MemoryBytes: ptr(uint64(100))}
}

func answer() (gpu.Reading, error) {
	return gpu.Reading{
		UtilizationPercent: ptr(50.0), MemoryTotalBytes: ptr(uint64(100)), MemoryUsedBytes: ptr(uint64(25)), PowerWatts: ptr(100.0),
		Temperatures: []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: 40}},
	}, nil
}

func (f *fake) list(ids ...string) {
	found := Found{}
	for i, id := range ids {
		found.Devices = append(found.Devices, device(id, i+1))
	}
	f.listBy(func(context.Context) (Found, error) { return found, nil })
}

func (f *fake) listBy(inventory func(context.Context) (Found, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inventory = inventory
}

func (f *fake) answerBy(id string, read func(context.Context) (gpu.Reading, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.read[id] = read
}

func (f *fake) failWith(id string, err error) {
	f.answerBy(id, func(context.Context) (gpu.Reading, error) { return gpu.Reading{}, err })
}

// hang makes every call for that device wait, deaf to its context, until release is called.
func (f *fake) hang(id string) (release func()) {
	gate := make(chan struct{})
	f.answerBy(id, func(context.Context) (gpu.Reading, error) { <-gate; return answer() })
	return sync.OnceFunc(func() { close(gate) })
}

func (f *fake) Name() string { return "fake" }

func (f *fake) Inventory(ctx context.Context) (Found, error) {
	f.mu.Lock()
	f.asked++
	inventory := f.inventory
	f.mu.Unlock()
	return inventory(ctx)
}

func (f *fake) Read(ctx context.Context, id string) (gpu.Reading, error) {
	f.mu.Lock()
	f.reads[id]++
	f.inside[id]++
	f.overlap = f.overlap || f.inside[id] > 1
	read := f.read[id]
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.inside[id]--
		f.mu.Unlock()
	}()
	if read == nil {
		return answer()
	}
	return read(ctx)
}

func (f *fake) count(id string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reads[id]
}

func (f *fake) inventories() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

// run starts a sampler in the bubble; stop ends it and waits.
func run(t *testing.T, c Config) (s *Sampler, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s = NewSampler(c)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// after lets time pass, and everything that is due in it happen.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// goroutines counts those of this package. Tests that use it are not parallel; the runtime's own, which come and go, do not count.
func goroutines() int {
	stacks := make([]byte, 4<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "\ncreated by muster/agent/telemetry.")
}

func TestTicksKeepTheirRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		f := newFake("a")
		// Slow enough to show a drift if the next tick counted from the end of this one.
		f.answerBy("a", func(context.Context) (gpu.Reading, error) { time.Sleep(30 * time.Millisecond); return answer() })
		_, stop := run(t, Config{Readers: []Reader{f}, Publish: func(_ *gpu.Inventory, s *gpu.Snapshot) {
			at = append(at, time.Since(start))
			if s.GPUs[0].AgeMilliseconds != 0 {
				t.Errorf("tick %d: age %d ms of a value of this tick", s.Seq, s.GPUs[0].AgeMilliseconds)
			}
		}})
		after(100*time.Second + 500*time.Millisecond)
		stop()
		if len(at) != 101 {
			t.Fatalf("%d ticks in 100.5 s: want 101", len(at))
		}
		for i, d := range at {
			if want := time.Duration(i)*time.Second + 30*time.Millisecond; d != want {
				t.Fatalf("tick %d at %v: want %v", i, d, want)
			}
		}
	})
}

// Not parallel: it counts the goroutines of the whole program.
func TestHungDeviceCostsItselfAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
		f := newFake(ids...)
		var last, longest time.Duration
		start, stuckAfter := time.Now(), time.Duration(0)
		var hungAt atomic.Int64
		s, stop := run(t, Config{Readers: []Reader{f}, Publish: func(_ *gpu.Inventory, s *gpu.Snapshot) {
			now := time.Since(start)
			if last != 0 {
				longest = max(longest, now-last)
			}
			last = now
			if s.GPUs[3].State == gpu.StateStuck && stuckAfter == 0 {
				stuckAfter = now - time.Duration(hungAt.Load())
			}
		}})
		after(3500 * time.Millisecond)
		release := f.hang("d")
		defer release()
		hungAt.Store(int64(time.Since(start)))
		after(time.Second) // now the call hangs
		before := goroutines()
		after(100 * time.Second)
		if now := goroutines(); now > before {
			t.Errorf("%d goroutines, %d before 100 ticks with a hung call", now, before)
		}
		synctest.Wait()
		if stuckAfter == 0 || stuckAfter > 3*time.Second {
			t.Errorf("stuck after %v: want within 3 s", stuckAfter)
		}
		if longest > time.Second+collectWindow {
			t.Errorf("longest gap between snapshots %v: want at most a tick", longest)
		}
		snap := s.Snapshot()
		for i, r := range snap.GPUs {
			if i != 3 && (r.State != gpu.StateOK || r.AgeMilliseconds != 0) {
				t.Errorf("device %d: %s, %d ms old", i, r.State, r.AgeMilliseconds)
			}
		}
		d := snap.GPUs[3]
		if d.State != gpu.StateStuck || d.AgeMilliseconds < 100_000 || d.UtilizationPercent == nil || d.Load() != 1 {
			t.Errorf("hung device: %+v", d)
		}
		if n := f.count("d"); n != 5 {
			t.Errorf("%d calls for the hung device: want 5, the last in flight", n)
		}
		release()
		f.answerBy("d", nil)
		after(2 * time.Second)
		if d := s.Snapshot().GPUs[3]; d.State != gpu.StateOK || d.AgeMilliseconds != 0 {
			t.Errorf("after the call returned: %s, %d ms old", d.State, d.AgeMilliseconds)
		}
		stop()
		if f.overlap {
			t.Error("two calls for one device at once")
		}
	})
}

func TestStuckShowsWithinThreeSecondsAtAnyInterval(t *testing.T) {
	t.Parallel()
	for _, interval := range []time.Duration{100 * time.Millisecond, time.Second, 1600 * time.Millisecond, 2 * time.Second, 10 * time.Second, time.Minute} {
		t.Run(interval.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake("a")
				s, stop := run(t, Config{Readers: []Reader{f}, Interval: interval})
				after(interval / 2)
				release := f.hang("a")
				after(interval / 2) // the call that hangs is made now
				after(3 * time.Second)
				if got := s.Snapshot().GPUs[0]; got.State != gpu.StateStuck || got.UtilizationPercent == nil {
					t.Errorf("3 s after: %+v", got)
				}
				release()
				stop()
			})
		})
	}
}

func TestDeviceThatNeverAnsweredTakesNoWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake("a", "b")
		release := f.hang("a")
		s, stop := run(t, Config{Readers: []Reader{f}})
		after(600 * time.Millisecond)
		snap := s.Snapshot()
		if got := snap.GPUs[0]; got.State != gpu.StateStuck || got.Load() != 1 || got.UtilizationPercent != nil || snap.GPUs[1].State != gpu.StateOK {
			t.Errorf("%+v", snap)
		}
		release()
		stop()
	})
}

func TestSlowButAnsweringDeviceDelaysNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake("a", "b")
		f.answerBy("b", func(context.Context) (gpu.Reading, error) { time.Sleep(400 * time.Millisecond); return answer() })
		start, late := time.Now(), time.Duration(0)
		s, stop := run(t, Config{Readers: []Reader{f}, Publish: func(_ *gpu.Inventory, snap *gpu.Snapshot) {
			if snap.Seq > 1 {
				late = max(late, time.Since(start)%time.Second)
			}
			if snap.GPUs[1].State != gpu.StateOK {
				t.Errorf("snapshot %d: %s", snap.Seq, snap.GPUs[1].State)
			}
		}})
		after(10500 * time.Millisecond)
		stop()
		if late > collectWindow {
			t.Errorf("a tick was published %v late", late)
		}
		if age := s.Snapshot().GPUs[1].AgeMilliseconds; age != 650 {
			t.Errorf("age %d ms: want 650, measured 400 ms into the tick before, shown 50 ms into this", age)
		}
	})
}

func TestStates(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		err    error
		want   gpu.State
		values bool // the last ones stay
	}{
		{"suspended", ErrSuspended, gpu.StateSuspended, false},
		{"lost", ErrLost, gpu.StateLost, true},
		{"mismatch", ErrDriverMismatch, gpu.StateDriverMismatch, true},
		{"no driver", ErrNoDriver, gpu.StateNoDriver, true},
		{"no permission", ErrNoPermission, gpu.StateNoPermission, true},
		{"unsupported", ErrUnsupported, gpu.StateUnsupported, true},
		{"gave up in time", context.DeadlineExceeded, gpu.StateStuck, true},
		{"unexplained", errors.New("EBUSY"), gpu.StateUnsupported, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake("a")
				s, stop := run(t, Config{Readers: []Reader{f}})
				defer stop()
				after(1500 * time.Millisecond)
				f.failWith("a", fmt.Errorf("read a: %w", tt.err))
				after(3 * time.Second)
				got := s.Snapshot().GPUs[0]
				if got.State != tt.want || (got.UtilizationPercent != nil) != tt.values || tt.values != (got.AgeMilliseconds > 0) {
					t.Errorf("%+v: want %s, last values %v", got, tt.want, tt.values)
				}
				f.answerBy("a", nil)
				after(time.Second)
				if got := s.Snapshot().GPUs[0]; got.State != gpu.StateOK || got.AgeMilliseconds != 0 {
					t.Errorf("recovered: %+v", got)
				}
			})
		})
	}
}

func TestOneFailureKeepsTheState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake("a")
		s, stop := run(t, Config{Readers: []Reader{f}})
		defer stop()
		after(1500 * time.Millisecond)
		f.failWith("a", errors.New("EBUSY"))
		after(time.Second)
		if got := s.Snapshot().GPUs[0]; got.State != gpu.StateOK || got.AgeMilliseconds != 1000 {
			t.Errorf("%s, %d ms: want ok, 1000 ms old", got.State, got.AgeMilliseconds)
		}
	})
}

func TestSuspendedKeepsWhatIsKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake("a")
		f.answerBy("a", func(context.Context) (gpu.Reading, error) {
			return gpu.Reading{MemoryTotalBytes: ptr(uint64(100))}, ErrSuspended
		})
		s, stop := run(t, Config{Readers: []Reader{f}})
		defer stop()
		after(time.Second)
		if got := s.Snapshot().GPUs[0]; got.State != gpu.StateSuspended || got.MemoryTotalBytes == nil || got.AgeMilliseconds != 0 {
			t.Errorf("%+v", got)
		}
	})
}

func TestPanicCostsTheCallAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake("a", "b")
		f.answerBy("a", func(context.Context) (gpu.Reading, error) { panic("index out of range") })
		s, stop := run(t, Config{Readers: []Reader{f}})
		defer stop()
		after(time.Second)
		if got := s.Snapshot(); got.GPUs[0].State != gpu.StateUnsupported || got.GPUs[1].State != gpu.StateOK {
			t.Errorf("%s and %s", got.GPUs[0].State, got.GPUs[1].State)
		}
		f.listBy(func(context.Context) (Found, error) { panic("nil map") })
		after(inventoryPeriod + 2*time.Second)
		inv := s.Inventory()
		if len(inv.Devices) != 2 || len(inv.Problems) != 1 {
			t.Errorf("after a panic in Inventory: %d devices, problems %q", len(inv.Devices), inv.Problems)
		}
	})
}

func TestTwoReadersOfOneDevice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := newFake("GPU-1"), newFake("pci-0000:01:00.0")
		second.answerBy("pci-0000:01:00.0", func(context.Context) (gpu.Reading, error) {
			return gpu.Reading{UtilizationPercent: ptr(99.0), FanRPM: ptr(900.0)}, nil
		})
		s, stop := run(t, Config{Readers: []Reader{first, second}})
		after(4500 * time.Millisecond)
		if got := s.Snapshot().GPUs; len(got) != 1 || *got[0].UtilizationPercent != 50 || *got[0].FanRPM != 900 || got[0].State != gpu.StateOK {
			t.Fatalf("%+v", got)
		}
		release := first.hang("GPU-1")
		after(5 * time.Second)
		if got := s.Snapshot().GPUs[0]; got.State != gpu.StateStuck || got.AgeMilliseconds == 0 {
			t.Errorf("%s, %d ms: the hang of one of two counts", got.State, got.AgeMilliseconds)
		}
		release()
		stop()
	})
}
