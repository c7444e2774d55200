package child

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

var (
	_ telemetry.DetailReader = (*Reader)(nil)
	_ telemetry.PCIeReader   = (*Reader)(nil)
	_ telemetry.Examiner     = (*Reader)(nil)
)

func TestReaderPassesEverythingOn(t *testing.T) {
	t.Parallel()
	m := start(t, nil, "read device-0", "print", "inventory", "print")
	if found := m.list(); len(found.Devices) != 3 || found.Devices[2].ID != "device-2" || len(found.Problems) != 0 {
		t.Fatalf("inventory: %+v", found)
	}
	for range 3 {
		for device := range 3 {
			if _, err := m.read(device); err != nil {
				t.Errorf("device %d: %v", device, err)
			}
		}
	}
	if d, err := m.Details(t.Context(), "device-0"); err != nil || *d.EnergyJoules != 7 {
		t.Errorf("details: %+v, %v", d, err)
	}
	if _, err := m.Details(t.Context(), "device-1"); !errors.Is(err, telemetry.ErrNoPermission) {
		t.Errorf("details that may not be read: %v", err)
	}
	if p, err := m.PCIeThroughput(t.Context(), "device-0"); err != nil || *p.ReceiveBytesPerSecond != 1 || p.TransmitBytesPerSecond != nil {
		t.Errorf("throughput: %+v, %v", p, err)
	}
	if findings := m.Examine(t.Context()); len(findings) != 1 || findings[0].Subject != "library" {
		t.Errorf("findings: %+v", findings)
	}
	if _, err := m.Read(t.Context(), strings.Repeat("x", maxRequest)); err == nil {
		t.Error("a name of 4 KiB was asked for")
	}
	if _, err := m.read(0); err != nil {
		t.Errorf("after it: %v", err)
	}
	if m.Name() != "obedient" || len(m.processes()) != 1 {
		t.Errorf("%s has collectors %v", m.Name(), m.processes())
	}
}

// trap 6
func TestHungCallCostsItsDeviceAndOneThread(t *testing.T) {
	t.Parallel()
	m := start(t, nil)
	m.list()
	pid := 0
	for range 20 { // the runtime has its threads then
		for device := range 3 {
			pid = m.pid(device)
		}
	}
	before := threads(pid)
	returned := m.hang(0)
	for range 100 {
		if _, err := m.read(0); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a call beside one that hangs: %v", err)
		}
		for device := 1; device < 3; device++ {
			if got, err := m.read(device); err != nil || got != pid {
				t.Fatalf("device %d is read by %d: %v", device, got, err)
			}
		}
	}
	// One hangs. The runtime may start another in its place, which it would have started sooner or later.
	if now := threads(pid); now > before+2 {
		t.Errorf("%d threads, of %d before", now, before)
	}
	select {
	case err := <-returned:
		t.Fatalf("the call returned before its device answered: %v", err)
	default:
	}
	m.release()
	if err := <-returned; err != nil {
		t.Errorf("the late answer: %v", err)
	}
	if got := m.pid(0); got != pid {
		t.Errorf("it is read by %d, not %d", got, pid)
	}
}

func TestKilledCollectorIsBackAndDevicesStay(t *testing.T) {
	t.Parallel()
	m := start(t, nil)
	want := m.list()
	for range 2 {
		old := m.pid(0)
		killed := time.Now()
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "another one reads", func() bool {
			pid, err := m.read(0)
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("meanwhile: %v", err)
			}
			return err == nil && pid != old
		})
		t.Logf("back after %s", time.Since(killed))
		if found := m.list(); len(found.Devices) != len(want.Devices) {
			t.Errorf("devices: %+v", found)
		}
	}
}

// What ends a collector costs the calls beside it nothing, as long as the next one answers in time.
func TestCallIsAskedOfTheNextCollector(t *testing.T) {
	t.Parallel()
	m := start(t, nil)
	m.list()
	old := m.pid(1)
	m.give("read device-1", "hang")
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	defer cancel()
	var reading gpu.Reading
	returned := make(chan error, 1)
	go func() {
		var err error
		reading, err = m.Read(ctx, "device-1")
		returned <- err
	}()
	eventually(t, "the call is inside", func() bool { return m.isInside("read device-1") })
	m.give("read device-1", "")
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-returned; err != nil || int(*reading.PowerWatts) == old {
		t.Errorf("%+v, %v: want the answer of another collector than %d", reading, err, old)
	}
}

// Devices are read again by the next collector when the last one froze as a whole.
func TestFrozenCollectorIsReplaced(t *testing.T) {
	t.Parallel()
	m := start(t, nil)
	m.list()
	old := m.pid(0)
	if err := syscall.Kill(old, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(old, syscall.SIGCONT) }()
	returned := make(chan error, 1)
	go func() {
		_, err := m.read(0)
		returned <- err
	}()
	m.mu.Lock()
	m.conn.listing.Store(-int64(2 * listingPatience)) // as if the inventory had been asked for so long ago
	m.mu.Unlock()
	m.nudge()
	if err := <-returned; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call of a frozen collector: %v", err)
	}
	if got := m.pid(0); got == old {
		t.Error("the frozen one answered")
	}
}

// A call that ends its collector is found out and left alone; the other devices are read.
func TestCrashingCallIsFoundOut(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"exit", "abort", "symbol"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			m := start(t, nil, "details device-2", order)
			m.list()
			var err error
			eventually(t, "the call is blamed", func() bool {
				for device := range 2 {
					_, _ = m.read(device)
				}
				_, err = m.Details(t.Context(), "device-2")
				return err != nil && strings.Contains(err.Error(), "ended the process that makes it")
			})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("it is no hang: %v", err)
			}
			old := m.pid(0)
			for device := range 3 { // device 2 is read too: its details are what crashes
				if pid := m.pid(device); pid != old {
					t.Errorf("device %d ended the collector", device)
				}
			}
			if found := m.list(); len(found.Problems) != 1 || !strings.Contains(found.Problems[0], "the details of device device-2") {
				t.Errorf("problems: %q", found.Problems)
			}
			m.give("details device-2", "")
			eventually(t, "it is tried again", func() bool {
				_, err := m.Details(t.Context(), "device-2")
				return err == nil
			})
			eventually(t, "the problem is gone", func() bool { return len(m.list().Problems) == 0 })
		})
	}
}

// A device whose very description ends collectors is found out too, before the first list and after: the others are listed and
// read, and it stands there as it was known.
func TestDeviceThatCanNotBeDescribed(t *testing.T) {
	t.Parallel()
	for name, known := range map[string]bool{"from the start": false, "later": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := start(t, nil)
			broken := "unknown-1"
			if known {
				m.list()
				broken = "device-1"
			}
			m.give("describe device-1", "abort")
			m.give("read device-1", "abort")
			var found telemetry.Found
			eventually(t, "the device is passed over", func() bool {
				_, _ = m.read(1)
				found, _ = m.Inventory(t.Context())
				return len(found.Devices) == 3 && found.Devices[1].Error != ""
			})
			if d := found.Devices[1]; d.ID != broken || known && d.FirmwareVersion != "1" {
				t.Errorf("it is listed as %+v", d)
			}
			if len(found.Problems) == 0 || !strings.Contains(found.Problems[0], "number 1") {
				t.Errorf("problems: %q", found.Problems)
			}
			for _, device := range []int{0, 2} {
				if _, err := m.read(device); err != nil {
					t.Errorf("device %d: %v", device, err)
				}
			}
			m.give("describe device-1", "")
			m.give("read device-1", "")
			eventually(t, "it is described again", func() bool {
				found, _ := m.Inventory(t.Context())
				return len(found.Devices) == 3 && found.Devices[1].Error == "" && found.Devices[1].ID == "device-1"
			})
			eventually(t, "and read", func() bool {
				_, err := m.read(1)
				return err == nil
			})
		})
	}
}

func TestCollectorThatCanNotStart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, want string }{
		{"symbol", "the driver's library lacks the function fooDeviceGetBar"},
		{"upgraded", "muster was upgraded from test to v99 while it ran: restart it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := start(t, nil, "start", tt.name)
			var err error
			eventually(t, "the reason is told", func() bool {
				_, err = m.Inventory(t.Context())
				return err != nil
			})
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v; want %q", err, tt.want)
			}
			if findings := m.Examine(bounded(t)); len(findings) != 1 || findings[0].Level != telemetry.LevelFault || !strings.Contains(findings[0].Text, tt.want) {
				t.Errorf("findings: %+v", findings)
			}
		})
	}
	missing := start(t, func(c *Config) { c.Path = "/nowhere/muster" })
	if _, err := missing.Inventory(t.Context()); err == nil || !strings.Contains(err.Error(), "can't be started") || !strings.Contains(err.Error(), "is /proc mounted?") {
		t.Errorf("got %v", err)
	}
}

func TestStartHintsNameTheLimit(t *testing.T) {
	t.Parallel()
	for err, want := range map[syscall.Errno]string{syscall.EMFILE: "ulimit -n", syscall.EAGAIN: "ulimit -u", syscall.EACCES: ""} {
		if got := startHint(fmt.Errorf("start: %w", &fs.PathError{Op: "fork/exec", Err: err})); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%v: %q", err, got)
		}
	}
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// A reader that can only go on in another process gets one; the call that hangs stays where it is, though nobody waits for it any
// more, and at most one such process is left behind.
func TestWedgedCollectorIsReplacedAndLeftBehind(t *testing.T) {
	t.Parallel()
	m := start(t, nil)
	m.list()
	old := m.pid(0)
	first := m.hang(0)
	m.give("wedged", fmt.Sprint(old))
	eventually(t, "another collector reads", func() bool {
		m.list()
		pid, err := m.read(1)
		return err == nil && pid != old
	})
	if err := <-first; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call of a collector that was replaced: %v", err)
	}
	second := m.pid(1)
	other := m.hang(0)
	m.give("wedged", fmt.Sprint(second))
	for range 3 {
		m.list()
		if pid, err := m.read(1); err != nil || pid != second {
			t.Errorf("with one left behind it is read by %d, not %d: %v", pid, second, err)
		}
	}
	if got := m.processes(); len(got) != 2 {
		t.Errorf("collectors: %v", got)
	}
	m.release()
	if err := <-other; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the late answer: %v", err)
	}
	eventually(t, "the first one has ended, and the second is replaced", func() bool {
		m.list()
		pid, err := m.read(0)
		return err == nil && pid != second && len(m.processes()) == 1
	})
}

func TestCollectorRunsOnlyWhileThereIsSomethingToRead(t *testing.T) {
	t.Parallel()
	var worth atomic.Bool
	m := start(t, func(c *Config) { c.Worth = worth.Load })
	for range 2 {
		if found, err := m.Inventory(t.Context()); err != nil || len(found.Devices) != 0 {
			t.Fatalf("%+v, %v", found, err)
		}
		if findings := m.Examine(t.Context()); len(findings) != 1 || findings[0].Level != telemetry.LevelOK {
			t.Errorf("findings: %+v", findings)
		}
		if _, err := m.Read(bounded(t), "device-0"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		if got := m.processes(); len(got) != 0 {
			t.Fatalf("collectors: %v", got)
		}
		worth.Store(true)
		if found := m.list(); len(found.Devices) != 3 {
			t.Fatalf("%+v", found)
		}
		worth.Store(false)
		if found := m.list(); len(found.Devices) != 0 {
			t.Fatalf("%+v", found)
		}
		eventually(t, "the collector has ended", func() bool { return len(m.processes()) == 0 })
	}
}

func TestGarbageIsSurvived(t *testing.T) {
	t.Parallel()
	m := start(t, nil, "read device-1", "garbage")
	m.list()
	old := m.pid(0)
	for range 3 {
		if pid := m.pid(1); pid != old {
			t.Errorf("read by %d, not %d", pid, old)
		}
	}
}

// Run's end leaves nothing behind but what hangs, and that only unless it is to be killed.
func TestEnd(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		hang, kill bool
		left       int
	}{{"idle", false, false, 0}, {"hung", true, false, 1}, {"hung and killed", true, true, 0}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := start(t, func(c *Config) { c.Kill = tt.kill })
			m.list()
			m.pid(0)
			if tt.hang {
				m.hang(0)
			}
			m.stop()
			if got := m.processes(); len(got) != tt.left {
				t.Errorf("collectors: %v", got)
			}
		})
	}
}

// The last list stands for 30 s, then the sampler must know that nothing comes.
func TestLastInventoryStandsForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Name: "obedient", Title: "FOO"})
		r.list = listing{found: telemetry.Found{Devices: []gpu.Device{{ID: "a"}}, Problems: []string{"one"}}, at: time.Now(), ever: true, taken: true}
		r.down, r.trouble, r.again = time.Now(), "the process ended", time.Now().Add(time.Hour)
		for range 2 {
			began := time.Now()
			found, err := r.Inventory(t.Context())
			if err != nil || len(found.Devices) != 1 || len(found.Problems) != 2 || found.Problems[1] != "the process ended" {
				t.Fatalf("%+v, %v", found, err)
			}
			if took := time.Since(began); took > troubleWait {
				t.Errorf("it waited %s for a collector that is down", took)
			}
		}
		time.Sleep(listingPatience)
		if found, err := r.Inventory(t.Context()); err == nil || err.Error() != "the process ended" {
			t.Errorf("after 30 s: %+v, %v", found, err)
		}
		deadline, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := r.Read(deadline, "a"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 0 {
			t.Errorf("a read while the next start is far: %v after %s", err, time.Since(began))
		}
	})
}

// The first end costs nothing, a loop ever more, and once it rests people are told.
func TestPausesBetweenStartsGrow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSupervisor(New(Config{Name: "obedient"}))
		for i, want := range []time.Duration{0, 250, 500, 1000, 2000, 4000, 8000, 30_000, 60_000, 60_000, 60_000} {
			got := s.failure("it ended", 0)
			if got != want*time.Millisecond {
				t.Errorf("failure %d: a pause of %s; want %s", i+1, got, want*time.Millisecond)
			}
			if told := strings.Contains(s.trouble, "tried again after"); told != (got >= 30*time.Second) {
				t.Errorf("failure %d: %q", i+1, s.trouble)
			}
			time.Sleep(got)
		}
		if got := s.failure("it ended", calm); got != 0 {
			t.Errorf("after it ran for a minute: a pause of %s", got)
		}
	})
}
