package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"muster/shared/gpu"
)

// reports keeps what is published, and checks what holds of every report.
type reports struct {
	t         *testing.T
	began     time.Time
	inventory *gpu.Inventory // newest
	mu        sync.Mutex
	all       []*gpu.Report
	at        []time.Duration
}

// soFar gives what was published, and when.
func (r *reports) soFar() ([]*gpu.Report, []time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all), slices.Clone(r.at)
}

func (r *reports) count() int {
	all, _ := r.soFar()
	return len(all)
}

func (r *reports) publish(inv *gpu.Inventory, _ *gpu.Snapshot) { r.inventory = inv }

func (r *reports) publishReport(report *gpu.Report) {
	if r.inventory == nil || report.Revision != r.inventory.Revision || len(report.Devices) != len(r.inventory.Devices) {
		r.t.Errorf("%v: report of revision %d with %d devices does not belong to the inventory %+v", time.Since(r.began), report.Revision, len(report.Devices), r.inventory)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all, r.at = append(r.all, report), append(r.at, time.Since(r.began))
}

func runReports(t *testing.T, c Config) (*reports, *Sampler, func()) {
	r := &reports{t: t, began: time.Now()}
	c.Publish, c.PublishReport = r.publish, r.publishReport
	s, stop := run(t, c)
	return r, s, stop
}

func TestFirstReportComesSoon(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		details time.Duration // how long device a takes
		read    time.Duration
		least   time.Duration
		most    time.Duration
	}{
		{"all are quick", 0, 0, 0, 10 * time.Millisecond},
		{"one takes a while", 400 * time.Millisecond, 0, 400 * time.Millisecond, 450 * time.Millisecond},
		{"one is slow", 1900 * time.Millisecond, 0, time.Second, 1100 * time.Millisecond},
		{"one is read slowly", 0, 800 * time.Millisecond, 800 * time.Millisecond, 900 * time.Millisecond},
		{"one hangs at its first reading", 0, time.Minute, time.Second, 1500 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := newDetailed("a", "b")
				d.tell("a", func(context.Context) (gpu.Details, error) { time.Sleep(tt.details); return gpu.Details{}, nil })
				d.answerBy("a", func(context.Context) (gpu.Reading, error) { time.Sleep(tt.read); return answer() })
				r, _, stop := runReports(t, Config{Readers: []Reader{d}})
				after(1500 * time.Millisecond)
				if all, at := r.soFar(); len(at) == 0 || at[0] < tt.least || at[0] > tt.most || all[0].Devices[1].EnergyJoules == nil {
					t.Errorf("reports at %v: want the first after %v to %v, with what the quick one told", at, tt.least, tt.most)
				}
				d.answerBy("a", nil)
				after(2 * time.Minute)
				stop()
			})
		})
	}
}

func TestReportsOfDevicesWithoutDetails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, s, stop := runReports(t, Config{Readers: []Reader{newFake("a")}})
		after(5 * time.Minute)
		stop()
		if len(r.all) != 1 || r.at[0] > 100*time.Millisecond || len(s.Report().Devices) != 1 || s.Report().Devices[0].Processes != nil {
			t.Errorf("reports at %v, %+v: want one, which is empty", r.at, s.Report())
		}
	})
}

func TestOneReportPerPeriod(t *testing.T) {
	t.Parallel()
	for viewers, period := range map[int]time.Duration{0: idlePeriod, 1: detailsPeriod} {
		synctest.Test(t, func(t *testing.T) {
			r, _, stop := runReports(t, Config{Readers: []Reader{newDetailed(lettered(8)...)}, Viewers: func() int { return viewers }})
			after(20*period - time.Second/2)
			stop()
			if len(r.all) < 19 || len(r.all) > 25 {
				t.Errorf("%d reports in 20 periods of %v: %v", len(r.all), period, r.at)
			}
		})
	}
}

func TestChangeOfStateIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDetailed("a", "b")
		r, _, stop := runReports(t, Config{Readers: []Reader{d}, Viewers: func() int { return 0 }})
		after(10500 * time.Millisecond)
		before := r.count()
		d.failWith("b", ErrSuspended)
		after(600 * time.Millisecond)
		if _, at := r.soFar(); len(at) != before+1 || at[before] < 11*time.Second {
			t.Errorf("reports at %v: want one with the tick at 11 s", at)
		}
		// A device that flaps must not make a report each tick.
		flips := 0
		d.answerBy("b", func(context.Context) (gpu.Reading, error) {
			if flips++; flips%2 == 0 {
				return gpu.Reading{}, ErrSuspended
			}
			return answer()
		})
		before = r.count()
		after(20 * time.Second)
		stop()
		if n := len(r.all) - before; n > 21 {
			t.Errorf("%d reports in 20 s of a state that flaps", n)
		}
	})
}

func TestReportFollowsANewInventory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDetailed("a", "b")
		r, s, stop := runReports(t, Config{Readers: []Reader{d}})
		after(10 * time.Second)
		d.list("z", "a", "b")
		d.tell("z", func(context.Context) (gpu.Details, error) { return gpu.Details{EnergyJoules: ptr(26.0)}, nil })
		after(24 * time.Second)
		report := s.Report()
		if s.Inventory().Revision < 2 || report.Revision != s.Inventory().Revision || len(report.Devices) != len(s.Inventory().Devices) {
			t.Fatalf("inventory %s of revision %d, report %+v", idsOf(s.Inventory()), s.Inventory().Revision, report)
		}
		if report.Devices[0].EnergyJoules == nil || *report.Devices[0].EnergyJoules != 26 {
			t.Errorf("details of the new device: %+v", report.Devices[0])
		}
		stop()
		if len(r.all) == 0 {
			t.Error("no report")
		}
	})
}

func xid(code uint64, at time.Time) gpu.Fault {
	return gpu.Fault{Time: at, Kind: "XID", Code: code, Text: "fell off the bus"}
}

func codes(faults []gpu.Fault) string {
	var list []string
	for _, f := range faults {
		list = append(list, fmt.Sprint(f.Code))
	}
	return strings.Join(list, " ")
}

func TestFaultsAreReportedOnce(t *testing.T) { // trap 7
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		first, second := newDetailed("GPU-1"), newDetailed("pci-0000:01:00.0")
		r, s, stop := runReports(t, Config{Readers: []Reader{first, second}, Viewers: func() int { return 0 }, Log: slog.New(slog.NewTextHandler(&log, nil))})
		began := time.Now()
		after(time.Second)
		reports := r.count()
		old, lost := xid(13, began.Add(10*time.Second)), xid(79, began.Add(20*time.Second))
		// The device is lost: it says why all the same.
		first.failWith("GPU-1", ErrLost)
		first.tell("GPU-1", func(context.Context) (gpu.Details, error) {
			return gpu.Details{Faults: []gpu.Fault{old, lost}}, ErrLost
		})
		after(31 * time.Second)
		if got := s.Report().Devices[0]; codes(got.Faults) != "13 79" || got.EnergyJoules == nil {
			t.Fatalf("%+v", got)
		}
		if r.count() == reports {
			t.Error("no report of it")
		}
		// The other driver dates one of them otherwise, and knows a third; the first collector was started again and knows nothing.
		second.tellFaults("pci-0000:01:00.0", xid(79, lost.Time.Add(time.Second)), xid(31, lost.Time.Add(5*time.Second)))
		first.tellFaults("GPU-1")
		after(2 * time.Minute)
		if got := codes(s.Report().Devices[0].Faults); got != "13 79 31" {
			t.Errorf("faults %s: want each once, oldest first", got)
		}
		// It reports them again, and one of the same code that is another.
		first.tellFaults("GPU-1", old, lost, xid(79, lost.Time.Add(time.Hour)))
		after(2 * time.Minute)
		if got := codes(s.Report().Devices[0].Faults); got != "13 79 31 79" {
			t.Errorf("faults %s", got)
		}
		stop()
		for code, want := range map[string]int{"code=13": 1, "code=31": 1, "code=79": 2} {
			if n := strings.Count(log.String(), code); n != want || !strings.Contains(log.String(), `text="fell off the bus"`) || !strings.Contains(log.String(), "device=0 id=GPU-1") {
				t.Errorf("%s logged %d times, want %d:\n%s", code, n, want, log.String())
			}
		}
	})
}

func TestFaultsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		d := newDetailed("a")
		began := time.Now()
		var storm []gpu.Fault
		d.tell("a", func(context.Context) (gpu.Details, error) {
			for range 100 {
				storm = append(storm, xid(uint64(len(storm)), began.Add(time.Duration(len(storm))*time.Millisecond)))
			}
			if len(storm) > 500 {
				storm = storm[:500]
			}
			return gpu.Details{Faults: storm}, nil // with those that were told before
		})
		_, s, stop := runReports(t, Config{Readers: []Reader{d}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		after(5 * time.Minute)
		stop()
		got := s.Report().Devices[0].Faults
		if len(got) != gpu.MaxFaults || got[gpu.MaxFaults-1].Code != 499 || got[0].Code != 500-gpu.MaxFaults {
			t.Errorf("%d faults: %s", len(got), codes(got))
		}
		if n := strings.Count(log.String(), "kind=XID"); n != 500 {
			t.Errorf("%d lines in the log for 500 faults", n)
		}
	})
}

func TestNewFaultIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDetailed(lettered(8)...)
		r, _, stop := runReports(t, Config{Readers: []Reader{d}, Viewers: func() int { return 0 }})
		after(40 * time.Second)
		d.tellFaults("d03", xid(79, time.Now()))
		after(31 * time.Second)
		stop()
		at := d.asks("d03")
		asked := at[len(at)-1]
		for i, report := range r.all {
			if len(report.Devices[3].Faults) > 0 {
				if r.at[i]-asked > 10*time.Millisecond {
					t.Errorf("reported %v after it was told", r.at[i]-asked)
				}
				return
			}
		}
		t.Error("never reported")
	})
}

func TestProcessesAreDescribed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDetailed("a", "b", "c")
		own := []gpu.Process{{PID: 7}, {PID: 8, Name: "told"}}
		d.tell("a", func(context.Context) (gpu.Details, error) { return gpu.Details{Processes: own}, nil })
		d.tell("b", func(context.Context) (gpu.Details, error) {
			return gpu.Details{Processes: []gpu.Process{{PID: 7}}}, nil
		})
		var mu sync.Mutex
		hang := make(chan struct{})
		hangs, calls := false, 0
		r, s, stop := runReports(t, Config{Readers: []Reader{d}, DescribeProcesses: func(processes []gpu.Process) {
			mu.Lock()
			waits := hangs
			calls++
			mu.Unlock()
			if waits {
				<-hang
			}
			for i := range processes {
				if processes[i].Name == "" {
					processes[i].Name = fmt.Sprint("p", processes[i].PID)
				}
			}
		}})
		after(100 * time.Millisecond)
		got := s.Report().Devices
		if got[0].Processes[0].Name != "p7" || got[0].Processes[1].Name != "told" || got[1].Processes[0].Name != "p7" || got[2].Processes == nil || len(got[2].Processes) != 0 {
			t.Fatalf("%+v", got)
		}
		if own[0].Name != "" {
			t.Error("what the reader gave was changed")
		}
		mu.Lock()
		hangs = true
		mu.Unlock()
		before := r.count()
		after(2 * time.Minute)
		if n := r.count() - before; n < 23 || n > 31 {
			t.Errorf("%d reports in 2 minutes while the description hangs: want 24", n)
		}
		if p := s.Report().Devices[0].Processes[0]; p.Name != "" || p.PID != 7 {
			t.Errorf("%+v: want it without a name", p)
		}
		if s.Snapshot().GPUs[0].State != gpu.StateOK {
			t.Error("a process that can't be looked at made a device stuck")
		}
		mu.Lock()
		if calls != 2 {
			t.Errorf("%d calls: want 2, the last in flight", calls)
		}
		hangs = false
		mu.Unlock()
		close(hang)
		after(10 * time.Second)
		if p := s.Report().Devices[0].Processes[0]; p.Name != "p7" {
			t.Errorf("%+v: want its name again", p)
		}
		stop()
	})
}

func TestPanicInDescriptionCostsNamesAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDetailed("a")
		d.tell("a", func(context.Context) (gpu.Details, error) {
			return gpu.Details{Processes: []gpu.Process{{PID: 7}}}, nil
		})
		_, s, stop := runReports(t, Config{Readers: []Reader{d}, DescribeProcesses: func([]gpu.Process) { panic("index out of range") }})
		after(30 * time.Second)
		stop()
		if r := s.Report(); r == nil || len(r.Devices[0].Processes) != 1 {
			t.Errorf("%+v", r)
		}
	})
}

// Minutes in which everything goes wrong now and then: what must always hold, does.
func TestTrouble(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			ids := lettered(6)
			first, second := newDetailed(ids...), newDetailed(ids...)
			var mu sync.Mutex // of random
			trouble := func() error {
				mu.Lock()
				dice, wait := random.IntN(200), time.Duration(random.IntN(4000))*time.Millisecond
				mu.Unlock()
				switch {
				case dice < 3:
					time.Sleep(wait)
				case dice < 6:
					return []error{ErrLost, ErrSuspended, errors.New("EBUSY")}[dice-3]
				case dice == 6:
					panic("index out of range")
				}
				return nil
			}
			for _, d := range []*detailed{first, second} {
				for _, id := range ids {
					d.answerBy(id, func(context.Context) (gpu.Reading, error) { r, _ := answer(); return r, trouble() })
					d.tell(id, func(context.Context) (gpu.Details, error) {
						return gpu.Details{Processes: []gpu.Process{{PID: 1}}}, trouble()
					})
				}
				d.measureBy(func(context.Context) (gpu.PCIeThroughput, error) { return gpu.PCIeThroughput{}, trouble() })
			}
			r, s, stop := runReports(t, Config{Readers: []Reader{first, second}, DescribeProcesses: func([]gpu.Process) { _ = trouble() }})
			for minute := range 20 {
				after(time.Minute)
				mu.Lock()
				from, ref := random.IntN(len(ids)), gpu.Ref(random.IntN(len(ids)))
				mu.Unlock()
				first.list(ids[from:]...)
				second.list(ids[from/2:]...)
				if _, err := s.PCIeThroughput(t.Context(), ref); err != nil && minute == 0 && errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				if age := time.Since(s.Snapshot().Time); age > time.Second+2*collectWindow {
					t.Fatalf("minute %d: the snapshot is %v old", minute, age)
				}
			}
			for _, d := range []*detailed{first, second} {
				for _, id := range ids {
					d.answerBy(id, nil)
					d.tell(id, nil)
				}
				d.measureBy(nil)
				d.list(ids...)
			}
			after(2 * time.Minute)
			stop()
			if n := r.count(); n < 170 || n > 1400 {
				t.Errorf("%d reports in 22 minutes", n)
			}
			for i, reading := range s.Snapshot().GPUs {
				if reading.State != gpu.StateOK || s.Report().Devices[i].EnergyJoules == nil {
					t.Errorf("after it all: device %d %s, %+v", i, reading.State, s.Report().Devices[i])
				}
			}
			if first.overlap || second.overlap {
				t.Error("two calls for one device at once")
			}
		})
	}
}
