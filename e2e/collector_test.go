package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"muster/agent/fixture"
	"muster/agent/telemetry/nvml/fakenvml"
	"muster/e2e/harness"
	"muster/shared/gpu"
	"muster/shared/wire"
)

// fakeNVIDIA is an agent with eight GPUs of a fake driver, watched over the socket.
type fakeNVIDIA struct {
	fakenvml.Scenario
	*harness.Agent
	t       *testing.T
	library string

	mu        sync.Mutex
	inventory *gpu.Inventory
	looks     []glimpse // every snapshot with its inventory
}

// glimpse is one snapshot by device ID.
type glimpse struct {
	states map[string]gpu.Reading
	names  map[string]gpu.Device
	at     time.Time
}

func startFakeNVIDIA(t *testing.T, flags ...string) *fakeNVIDIA {
	t.Helper()
	return startFakeNVIDIAFrom(t, "", flags...)
}

func startFakeNVIDIAFrom(t *testing.T, binary string, flags ...string) *fakeNVIDIA {
	t.Helper()
	f := &fakeNVIDIA{Scenario: fakenvml.NewScenario(t), t: t, library: fakenvml.Build(t)}
	var err error
	f.Agent, err = harness.Options{Binary: binary, Data: t.TempDir(), Flags: append([]string{"--nvml", f.library}, flags...), Env: []string{f.Env()}}.Start()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	seen := make(chan struct{})
	go func() {
		defer close(seen)
		_ = f.View(ctx, wire.SubprotocolBinary, f.take) // it ends with the agent, whose end some tests bring about
	}()
	t.Cleanup(func() {
		cancel()
		<-seen
		f.Set() // nothing hangs any more
		if err := f.Stop(); err != nil {
			t.Error(err)
		}
		eventually(t, "no collector is left", func() bool { return len(f.collectors()) == 0 })
		if t.Failed() {
			t.Logf("agent's log:\n%s", f.Stderr())
		}
	})
	return f
}

func (f *fakeNVIDIA) take(event wire.Event, _ int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if event.Inventory != nil {
		f.inventory = event.Inventory
	}
	if event.Snapshot == nil || f.inventory == nil || event.Snapshot.Revision != f.inventory.Revision {
		return
	}
	l := glimpse{map[string]gpu.Reading{}, map[string]gpu.Device{}, event.Snapshot.Time}
	for i, reading := range event.Snapshot.GPUs {
		l.states[f.inventory.Devices[i].ID] = reading
		l.names[f.inventory.Devices[i].ID] = f.inventory.Devices[i]
	}
	f.looks = append(f.looks, l)
}

// newest is the newest look; empty before the first.
func (f *fakeNVIDIA) newest() glimpse {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.looks) == 0 {
		return glimpse{}
	}
	return f.looks[len(f.looks)-1]
}

func (f *fakeNVIDIA) problems() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inventory == nil {
		return nil
	}
	return f.inventory.Problems
}

// since gives the looks after that moment.
func (f *fakeNVIDIA) since(t time.Time) []glimpse {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.looks, func(l glimpse) bool { return l.at.After(t) })
	if i < 0 {
		return nil
	}
	return slices.Clone(f.looks[i:])
}

// collectors are the processes of the scenario that are collectors, the agent's or those it left behind.
func (f *fakeNVIDIA) collectors() (pids []int) {
	environments, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range environments {
		environment, err := os.ReadFile(path)
		line, err2 := os.ReadFile(filepath.Dir(path) + "/cmdline")
		if err == nil && err2 == nil && strings.Contains(string(environment), f.Env()+"\x00") && strings.Contains(string(line), "\x00collector\x00nvml\x00") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

func nvidia(i int) string { return fmt.Sprintf("GPU-00000000-0000-0000-0000-%012d", i) }

// are says whether the newest look has the eight GPUs in these states: ok, but for the one that is named.
func (f *fakeNVIDIA) are(other int, state gpu.State) bool {
	l := f.newest()
	for i := range 8 {
		want := gpu.StateOK
		if i == other {
			want = state
		}
		if l.states[nvidia(i)].State != want {
			return false
		}
	}
	return true
}

// inTime fails the test unless every GPU but that one was ok in every look, with values of its own tick or the one before.
func (f *fakeNVIDIA) inTime(looks []glimpse, except int) {
	f.t.Helper()
	worst := int64(0)
	for _, l := range looks {
		for i := range 8 {
			if r := l.states[nvidia(i)]; i != except {
				if r.State != gpu.StateOK || r.UtilizationPercent == nil {
					f.t.Fatalf("GPU %d is %s", i, r.State)
				}
				worst = max(worst, r.AgeMilliseconds)
			}
		}
	}
	f.t.Logf("%d looks; the oldest value of a healthy GPU was %d ms old", len(looks), worst)
	if worst > 1500 {
		f.t.Errorf("a healthy GPU's values were %d ms old", worst)
	}
}

func threads(pid int) int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	return len(tasks)
}

func TestHungGPUOfEightCostsItselfOnly(t *testing.T) {
	t.Parallel()
	f := startFakeNVIDIA(t)
	eventually(t, "all GPUs are read", func() bool { return f.are(-1, "") })
	before := f.newest().at
	eventually(t, "some ticks have passed", func() bool { return len(f.since(before)) > 3 })
	pid := f.collectors()[0]
	held := threads(pid)
	began := time.Now()
	f.Set("3.hang=1")
	eventually(t, "GPU 3 is stuck", func() bool { return f.are(3, gpu.StateStuck) })
	var flagged glimpse
	for _, l := range slices.Backward(f.since(began)) {
		if l.states[nvidia(3)].State == gpu.StateStuck {
			flagged = l
		}
	}
	stuck := flagged.states[nvidia(3)]
	if stuck.AgeMilliseconds > 3000 || stuck.UtilizationPercent == nil {
		t.Errorf("flagged when its values were %d ms old: %+v", stuck.AgeMilliseconds, stuck)
	}
	eventually(t, "many ticks have passed", func() bool { return len(f.since(flagged.at)) > 10 })
	f.inTime(f.since(began), 3)
	if now := threads(pid); now > held+2 {
		t.Errorf("the collector has %d threads, of %d before", now, held)
	}
	if got := f.collectors(); !slices.Equal(got, []int{pid}) {
		t.Errorf("collectors %v, of %d before", got, pid)
	}
	f.Set()
	eventually(t, "GPU 3 is well again", func() bool { return f.are(-1, "") })
}

// A driver that aborts takes its collector down and nothing else: once costs its vendor a tick at most, again and again whenever
// one GPU is asked costs that GPU, and the AMD cards of the machine never notice.
func TestDriverThatAbortsCostsItsVendorAlone(t *testing.T) {
	t.Parallel()
	f := startFakeNVIDIA(t, "--sysroot", fixture.Root(t, "amd-mix3"))
	eventually(t, "all GPUs are read", func() bool { return f.are(-1, "") })
	began := time.Now()
	f.Set("3.abort=1")
	eventually(t, "the collector has aborted", func() bool { return strings.Contains(f.Stderr(), "SIGABRT: abort") })
	f.Set()
	eventually(t, "some ticks have passed", func() bool { return len(f.since(began)) > 4 && f.are(-1, "") })
	f.undisturbed(began, 3) // the next collector may have met it too, and then GPU 3 is left alone for a while

	began = time.Now()
	f.Set("3.abort=1")
	eventually(t, "GPU 3 is stuck, and some ticks have passed", func() bool { return len(f.since(began)) > 8 && f.are(3, gpu.StateStuck) })
	f.undisturbed(began, 3)
	f.Set()
	eventually(t, "all GPUs are read again", func() bool { return f.are(-1, "") })
}

// undisturbed fails the test unless every AMD card was ok in every look, and every GPU had values that were not very old but for
// the NVIDIA one that is broken (-1: none).
func (f *fakeNVIDIA) undisturbed(since time.Time, broken int) {
	f.t.Helper()
	looks := f.since(since)
	oldest := int64(0)
	for _, l := range looks {
		if len(l.states) != 11 {
			f.t.Fatalf("%d devices", len(l.states))
		}
		for id, r := range l.states {
			if r.UtilizationPercent == nil {
				f.t.Errorf("%s has no values, %s", l.names[id].Name, r.State)
			}
			if l.names[id].Vendor == gpu.AMD && (r.State != gpu.StateOK || r.AgeMilliseconds > 1500) {
				f.t.Errorf("%s is %s, %d ms", l.names[id].Name, r.State, r.AgeMilliseconds)
			}
			if l.names[id].Vendor == gpu.NVIDIA && (broken < 0 || id != nvidia(broken)) {
				oldest = max(oldest, r.AgeMilliseconds)
			}
		}
	}
	f.t.Logf("%d looks; the oldest value was %d ms old", len(looks), oldest)
	if oldest > 3000 {
		f.t.Errorf("the vendor was away for %d ms", oldest)
	}
}

func TestKilledCollectorCostsItsVendorSeconds(t *testing.T) {
	t.Parallel()
	f := startFakeNVIDIA(t, "--sysroot", fixture.Root(t, "amd-mix3"))
	eventually(t, "all GPUs are read", func() bool { return f.are(-1, "") })
	old := f.collectors()
	began := time.Now()
	if err := syscall.Kill(old[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another collector reads", func() bool {
		now := f.collectors()
		return len(now) == 1 && now[0] != old[0] && f.newest().at.After(began.Add(time.Second)) && f.are(-1, "")
	})
	f.undisturbed(began, -1)
}

// However the agent ends, its collector does so by itself.
func TestCollectorEndsWithItsAgent(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*fakeNVIDIA){
		"SIGTERM": func(f *fakeNVIDIA) {
			if err := f.Stop(); err != nil {
				t.Error(err)
			}
		},
		"kill -9": func(f *fakeNVIDIA) { f.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFakeNVIDIA(t)
			eventually(t, "all GPUs are read", func() bool { return f.are(-1, "") })
			end(f)
			eventually(t, "the collector has ended", func() bool { return len(f.collectors()) == 0 })
		})
	}
}

// A collector inside a driver call is left behind, unless a person wants it killed.
func TestCollectorThatHangsAtTheEnd(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		flags []string
		left  int
	}{{"is left behind", nil, 1}, {"is killed", []string{"--kill-collectors"}, 0}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := startFakeNVIDIA(t, tt.flags...)
			eventually(t, "all GPUs are read", func() bool { return f.are(-1, "") })
			f.Set("3.hang=1")
			eventually(t, "GPU 3 is stuck", func() bool { return f.are(3, gpu.StateStuck) })
			began := time.Now()
			if err := f.Stop(); err != nil {
				t.Error(err)
			}
			t.Logf("the agent ended in %s", time.Since(began))
			left := f.collectors()
			if len(left) != tt.left || !strings.Contains(f.Stderr(), "hangs in its driver") {
				t.Errorf("collectors %v:\n%s", left, f.Stderr())
			}
			for _, pid := range left {
				if !strings.Contains(f.Stderr(), fmt.Sprint("pid=", pid)) {
					t.Errorf("nobody is told of process %d:\n%s", pid, f.Stderr())
				}
			}
		})
	}
}

// trap 5
func TestLostGPUOfEight(t *testing.T) {
	t.Parallel()
	f := startFakeNVIDIA(t)
	eventually(t, "all GPUs are read", func() bool { return f.are(-1, "") })
	began := time.Now()
	f.Set("3.lost=1")
	eventually(t, "GPU 3 is lost", func() bool { return f.are(3, gpu.StateLost) })
	f.inTime(f.since(began), 3)
	f.Set()
	eventually(t, "GPU 3 is back", func() bool { return f.are(-1, "") })
}

func TestDriverReloadedWhileRunning(t *testing.T) {
	t.Parallel()
	f := startFakeNVIDIA(t)
	eventually(t, "all GPUs are read", func() bool { return f.are(-1, "") })
	f.Set("gone=1", "nvmlInit_v2=9", "init=9")
	eventually(t, "no GPU is ok", func() bool {
		l := f.newest()
		for i := range 8 {
			if l.states[nvidia(i)].State.Usable() {
				return false
			}
		}
		return len(l.states) == 8
	})
	f.Set("init=18")
	eventually(t, "a person is told to reboot", func() bool { return strings.Contains(strings.Join(f.problems(), "\n"), "reboot") })
	f.Set("driver=999.1")
	eventually(t, "the new driver serves them", func() bool {
		return f.are(-1, "") && f.newest().names[nvidia(0)].DriverVersion == "999.1"
	})
}

func TestGPUsComeAndGoWhileRunning(t *testing.T) {
	t.Parallel()
	f := startFakeNVIDIA(t)
	eventually(t, "all GPUs are read", func() bool { return f.are(-1, "") })
	f.Set("devices=9")
	eventually(t, "the ninth is read", func() bool {
		return f.are(-1, "") && f.newest().states[nvidia(8)].State == gpu.StateOK
	})
	f.Set()
	eventually(t, "the ninth is lost", func() bool { return f.are(-1, "") && f.newest().states[nvidia(8)].State == gpu.StateLost })
}

// The program that an agent was started from may be replaced by another one, or be gone: its collectors are started again all
// the same.
func TestUpgradeOnDiskDoesNotTouchTheCollector(t *testing.T) {
	t.Parallel()
	original, err := os.ReadFile(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "muster")
	if err := os.WriteFile(path, original, 0o755); err != nil {
		t.Fatal(err)
	}
	f := startFakeNVIDIAFrom(t, path)
	eventually(t, "all GPUs are read", func() bool { return f.are(-1, "") })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	old := f.collectors()
	began := time.Now()
	if err := syscall.Kill(old[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another collector reads", func() bool {
		now := f.collectors()
		return len(now) == 1 && now[0] != old[0] && f.newest().at.After(began.Add(time.Second)) && f.are(-1, "")
	})
}

// Commands that look once leave no collector behind.
func TestCommandsLeaveNoCollector(t *testing.T) {
	t.Parallel()
	f := &fakeNVIDIA{Scenario: fakenvml.NewScenario(t), t: t, library: fakenvml.Build(t)}
	for _, command := range []string{"gpus", "doctor"} {
		cmd := exec.Command(binary(t), command, "--nvml", f.library, "--data", t.TempDir())
		cmd.Env = append(os.Environ(), f.Env())
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), "H100") {
			t.Errorf("muster %s: %v\n%s", command, err, out)
		}
		if left := f.collectors(); len(left) != 0 {
			t.Errorf("muster %s left collectors %v", command, left)
		}
	}
}

// A machine without any sign of NVIDIA or AMD pays for no collector.
func TestNoCollectorWithoutAVendor(t *testing.T) {
	t.Parallel()
	agent := startOn(t, t.TempDir())
	var inventory gpu.Inventory
	eventually(t, "the devices are listed", func() bool {
		_, err := agent.Do(t.Context(), "GET", "/api/v1/inventory", nil, &inventory)
		return err == nil
	})
	if started := children(agent.Pid); len(started) > 0 && len(inventory.Devices) == 0 {
		t.Errorf("processes %v on a machine without a GPU", started)
	}
}

// children are the processes that a process started and that still run.
func children(parent int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:])); len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}
