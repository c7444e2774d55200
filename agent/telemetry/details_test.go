package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"muster/shared/gpu"
)

// detailed is a fake that has details too.
type detailed struct {
	*fake
	details map[string]func(context.Context) (gpu.Details, error)
	bus     func(context.Context) (gpu.PCIeThroughput, error)
	began   time.Time
	times   map[string][]time.Duration // of Details, since began
	busAsks int
}

func newDetailed(ids ...string) *detailed {
	return &detailed{fake: newFake(ids...), details: map[string]func(context.Context) (gpu.Details, error){}, began: time.Now(), times: map[string][]time.Duration{}}
}

func (d *detailed) tell(id string, details func(context.Context) (gpu.Details, error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.details[id] = details
}

func (d *detailed) tellFaults(id string, faults ...gpu.Fault) {
	d.tell(id, func(context.Context) (gpu.Details, error) { return gpu.Details{Faults: faults}, nil })
}

func (d *detailed) Details(ctx context.Context, id string) (gpu.Details, error) {
	d.enter(id)
	defer d.leave(id)
	d.mu.Lock()
	d.times[id] = append(d.times[id], time.Since(d.began))
	details := d.details[id]
	d.mu.Unlock()
	if details == nil {
		return gpu.Details{EnergyJoules: ptr(1.0), Processes: []gpu.Process{}}, nil
	}
	return details(ctx)
}

func (d *detailed) PCIeThroughput(ctx context.Context, id string) (gpu.PCIeThroughput, error) {
	d.enter(id)
	defer d.leave(id)
	d.mu.Lock()
	d.busAsks++
	bus := d.bus
	d.mu.Unlock()
	if bus == nil {
		return gpu.PCIeThroughput{ReceiveBytesPerSecond: ptr(5.0)}, nil
	}
	return bus(ctx)
}

// detailed says whether Details of the device were asked for.
func (d *detailed) detailed(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.times[id]) > 0
}

func (d *detailed) measureBy(bus func(context.Context) (gpu.PCIeThroughput, error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bus = bus
}

func (d *detailed) measurements() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.busAsks
}

func (d *detailed) enter(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside[id]++
	d.overlap = d.overlap || d.inside[id] > 1
}

func (d *detailed) leave(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside[id]--
}

func (d *detailed) asks(id string) []time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]time.Duration(nil), d.times[id]...)
}

func lettered(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprintf("d%02d", i))
	}
	return ids
}

func TestDetailsAreSpreadOverTheTicks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		devices, viewers int
		period           time.Duration
		most             int // in one tick
	}{{8, 1, detailsPeriod, 2}, {64, 3, detailsPeriod, 13}, {8, 0, idlePeriod, 1}, {64, 0, idlePeriod, 3}} {
		t.Run(fmt.Sprintf("%d devices, %d viewers", tt.devices, tt.viewers), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ids := lettered(tt.devices)
				d := newDetailed(ids...)
				s, stop := run(t, Config{Readers: []Reader{d}, Viewers: func() int { return tt.viewers }})
				after(100 * time.Millisecond)
				for _, id := range ids {
					if got := d.asks(id); len(got) != 1 {
						t.Fatalf("%s was asked at %v: want all at the start", id, got)
					}
				}
				if r := s.Report(); r == nil || len(r.Devices) != tt.devices || r.Devices[tt.devices-1].EnergyJoules == nil {
					t.Fatalf("report %+v", r)
				}
				after(10*tt.period - 200*time.Millisecond)
				stop()
				perTick := map[time.Duration]int{}
				for _, id := range ids {
					at := d.asks(id)
					if len(at) < 9 || len(at) > 11 {
						t.Errorf("%s: %d details in %v", id, len(at), 10*tt.period)
					}
					for i, when := range at[1:] {
						perTick[when.Truncate(time.Second)]++
						if gap := when - at[i]; gap < tt.period/2 || gap > 3*tt.period/2+time.Second {
							t.Errorf("%s: %v between two details", id, gap)
						}
					}
				}
				for tick, n := range perTick {
					if n > tt.most {
						t.Errorf("%d details in the tick at %v: want at most %d", n, tick, tt.most)
					}
				}
				if d.overlap {
					t.Error("two calls for one device at once")
				}
			})
		})
	}
}

func TestSomebodyWhoComesGetsFreshDetails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDetailed(lettered(8)...)
		var mu sync.Mutex
		viewers := 0
		_, stop := run(t, Config{Readers: []Reader{d}, Viewers: func() int { mu.Lock(); defer mu.Unlock(); return viewers }})
		defer stop()
		after(2500 * time.Millisecond)
		mu.Lock()
		viewers = 1
		mu.Unlock()
		after(8 * time.Second)
		for _, id := range lettered(8) {
			if got := d.asks(id); len(got) < 2 {
				t.Errorf("%s: asked at %v, and a person watches since 2.5 s", id, got)
			}
		}
	})
}

// What takes longer than the interval makes a tick late, not missed, and rare.
func TestSlowDetailsDelayTheirDeviceAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDetailed("a", "b")
		slow := 1300 * time.Millisecond
		d.tell("a", func(context.Context) (gpu.Details, error) { time.Sleep(slow); return gpu.Details{}, nil })
		var oldest [2]int64
		var late time.Duration
		start := time.Now()
		_, stop := run(t, Config{Readers: []Reader{d}, Publish: func(_ *gpu.Inventory, snap *gpu.Snapshot) {
			for i, r := range snap.GPUs {
				oldest[i] = max(oldest[i], r.AgeMilliseconds)
				if r.State != gpu.StateOK {
					t.Errorf("%v: device %d %s", time.Since(start), i, r.State)
				}
			}
			if snap.GPUs[1].AgeMilliseconds == 0 {
				late = max(late, time.Since(start)%time.Second)
			}
		}})
		after(100*time.Second - time.Millisecond)
		stop()
		if reads := d.count("a"); reads < 99 {
			t.Errorf("%d reads in 100 ticks: want none missed", reads)
		}
		if oldest != [2]int64{1000, 0} {
			t.Errorf("values up to %v ms old: want 1000 in the tick that was late, 0 for the other device", oldest)
		}
		if late > slow-time.Second+catchUpWindow {
			t.Errorf("a reading was shown %v after its tick", late)
		}
		if n := len(d.asks("a")); n < 3 || n > 5 {
			t.Errorf("asked %d times in 100 s: want about one in %v", n, rarity*slow)
		}
		if n := len(d.asks("b")); n < 19 || n > 21 {
			t.Errorf("the other device was asked %d times: want 20", n)
		}
		if d.overlap {
			t.Error("two calls for one device at once")
		}
	})
}

// Not parallel: it counts the goroutines of the whole program.
func TestHungDetailsMakeTheDeviceStuck(t *testing.T) { // trap 6
	synctest.Test(t, func(t *testing.T) {
		d := newDetailed("a", "b", "c", "d")
		var longest, last time.Duration
		start := time.Now()
		s, stop := run(t, Config{Readers: []Reader{d}, Publish: func(*gpu.Inventory, *gpu.Snapshot) {
			now := time.Since(start)
			if last != 0 {
				longest = max(longest, now-last)
			}
			last = now
		}})
		after(500 * time.Millisecond)
		gate := make(chan struct{})
		release := sync.OnceFunc(func() { close(gate) })
		defer release()
		d.tell("b", func(context.Context) (gpu.Details, error) { <-gate; return gpu.Details{EnergyJoules: ptr(2.0)}, nil })
		after(2 * detailsPeriod)
		before, reports := goroutines(), s.Report()
		if before < 6 { // an inventory, four devices, and the loop
			t.Fatalf("%d goroutines are counted", before)
		}
		after(100 * time.Second)
		if now := goroutines(); now > before {
			t.Errorf("%d goroutines, %d before 100 ticks with a hung call", now, before)
		}
		hungAt := d.asks("b")[1]
		for i, r := range s.Snapshot().GPUs {
			if (r.State == gpu.StateStuck) != (i == 1) || (r.AgeMilliseconds > 0) != (i == 1) || r.UtilizationPercent == nil {
				t.Errorf("device %d: %s, %d ms", i, r.State, r.AgeMilliseconds)
			}
		}
		if longest > time.Second+collectWindow {
			t.Errorf("longest gap between snapshots %v", longest)
		}
		report := s.Report()
		if report == reports || *report.Devices[1].EnergyJoules != 1 || report.Devices[1].Time != d.began.Add(d.asks("b")[0]).UTC() {
			t.Errorf("%+v: want reports to go on, with the last details of the hung device", report.Devices[1])
		}
		if got := d.asks("b"); len(got) != 2 || d.count("b") > int(hungAt/time.Second)+2 {
			t.Errorf("a hung device was asked: details at %v, %d reads", got, d.count("b"))
		}
		release()
		after(3 * time.Second)
		if got := s.Snapshot().GPUs[1].State; got != gpu.StateOK || *s.Report().Devices[1].EnergyJoules != 2 {
			t.Errorf("after it returned: %s", got)
		}
		stop()
		if d.overlap {
			t.Error("two calls for one device at once")
		}
	})
}

func TestHungDetailsShowWithinThreeSeconds(t *testing.T) {
	t.Parallel()
	for _, interval := range []time.Duration{100 * time.Millisecond, time.Second, 10 * time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			d := newDetailed("a")
			gate := make(chan struct{})
			d.tell("a", func(context.Context) (gpu.Details, error) { <-gate; return gpu.Details{}, nil })
			s, stop := run(t, Config{Readers: []Reader{d}, Interval: interval})
			after(3 * time.Second)
			if got := s.Snapshot().GPUs[0]; got.State != gpu.StateStuck || got.UtilizationPercent == nil {
				t.Errorf("every %v: %+v", interval, got)
			}
			if s.Report() == nil {
				t.Error("no report")
			}
			close(gate)
			stop()
		})
	}
}

// A device that sleeps is left alone, and one whose driver does not serve it is not bothered.
func TestDetailsOfDevicesThatCanNotAnswer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		asks bool
	}{
		{nil, true}, {ErrLost, true}, {ErrNoPermission, true}, {ErrUnsupported, true}, {errors.New("EBUSY"), true},
		{ErrSuspended, false}, {ErrDriverMismatch, false}, {ErrNoDriver, false}, {context.DeadlineExceeded, false},
	} {
		t.Run(fmt.Sprint(tt.err), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := newDetailed("a")
				s, stop := run(t, Config{Readers: []Reader{d}})
				defer stop()
				after(500 * time.Millisecond)
				told := s.Report().Devices[0].Time
				d.answerBy("a", func(context.Context) (gpu.Reading, error) {
					r, _ := answer()
					return r, tt.err
				})
				after(30 * time.Second)
				if got := len(d.asks("a")) > 1; got != tt.asks {
					t.Errorf("asked at %v: want asked again %v", d.asks("a"), tt.asks)
				}
				if now := s.Report().Devices[0]; now.Time.After(told) != tt.asks || now.EnergyJoules == nil {
					t.Errorf("%+v: want the last details, of a time that stands still %v", now, !tt.asks)
				}
			})
		})
	}
}

func TestFailedDetailsKeepTheLast(t *testing.T) {
	t.Parallel()
	for _, fail := range []func(context.Context) (gpu.Details, error){
		func(context.Context) (gpu.Details, error) {
			return gpu.Details{EnergyJoules: ptr(9.0)}, errors.New("EIO")
		},
		func(context.Context) (gpu.Details, error) { return gpu.Details{}, ErrLost },
		func(context.Context) (gpu.Details, error) { panic("nil map") },
	} {
		synctest.Test(t, func(t *testing.T) {
			d := newDetailed("a", "b")
			s, stop := run(t, Config{Readers: []Reader{d}})
			defer stop()
			after(500 * time.Millisecond)
			d.tell("a", fail)
			after(time.Minute)
			if got := s.Report().Devices[0]; got.EnergyJoules == nil || *got.EnergyJoules != 1 {
				t.Errorf("%+v: want the last details", got)
			}
			if got := s.Snapshot().GPUs; got[0].State != gpu.StateOK || len(d.asks("b")) < 12 {
				t.Errorf("%s, the other asked %d times", got[0].State, len(d.asks("b")))
			}
		})
	}
}

// Devices whose details fail in turn are told of once each.
func TestFailedDetailsAreToldOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		d := newDetailed("a", "b")
		_, stop := run(t, Config{Readers: []Reader{d}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		after(500 * time.Millisecond)
		for _, id := range []string{"a", "b"} {
			d.tell(id, func(context.Context) (gpu.Details, error) { return gpu.Details{}, errors.New("EIO of " + id) })
		}
		after(5 * time.Minute)
		stop()
		if n := strings.Count(log.String(), "details of a device"); n != 2 {
			t.Errorf("told %d times:\n%s", n, log.String())
		}
	})
}

// A device that hangs from one moment to the next never fails: the log says what is the matter all the same.
func TestHangIsExplainedInTheLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		f := newFake("a")
		_, stop := run(t, Config{Readers: []Reader{f}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		after(1500 * time.Millisecond)
		release := f.hang("a")
		after(5 * time.Second)
		release()
		stop()
		if !strings.Contains(log.String(), "state=stuck error=\""+errNotReturned.Error()) {
			t.Error(log.String())
		}
	})
}

// Details that hang while their device is unplugged and comes back keep the only call there is.
func TestHungDetailsOfARemovedDevice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDetailed("a", "b")
		s, stop := run(t, Config{Readers: []Reader{d}})
		after(500 * time.Millisecond)
		gate := make(chan struct{})
		d.tell("b", func(context.Context) (gpu.Details, error) { <-gate; return gpu.Details{}, nil })
		after(9 * time.Second)
		d.list("a")
		after(3 * time.Minute)
		if got := idsOf(s.Inventory()); got != "a" || len(s.Report().Devices) != 1 {
			t.Fatalf("%s, %d in the report: want b gone", got, len(s.Report().Devices))
		}
		asks, reads := len(d.asks("b")), d.count("b")
		d.list("a", "b")
		after(40 * time.Second)
		if got := s.Snapshot().GPUs[1].State; got != gpu.StateStuck || len(d.asks("b")) != asks || d.count("b") != reads {
			t.Errorf("%s, asked %d times more, read %d times more", got, len(d.asks("b"))-asks, d.count("b")-reads)
		}
		d.list("a")
		after(3 * time.Minute)
		close(gate) // it returns when nobody knows the device any more
		after(time.Minute)
		if n := d.count("b"); n != reads {
			t.Errorf("a device that is gone was read %d times", n-reads)
		}
		d.tell("b", nil)
		d.list("a", "b")
		after(40 * time.Second)
		if got := s.Snapshot().GPUs[1]; got.State != gpu.StateOK || s.Report().Devices[1].EnergyJoules == nil {
			t.Errorf("%+v, %+v", got, s.Report().Devices[1])
		}
		stop()
		if d.overlap {
			t.Error("two calls for one device at once")
		}
	})
}
