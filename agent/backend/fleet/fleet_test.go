package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"muster/agent/backend/calls"
	"muster/agent/process"
	"muster/shared/gpu"
)

// TestMain listens on a port in place of the tests in a child that a test starts.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "listen" {
		l, err := net.Listen("tcp4", "127.0.0.1:"+os.Args[2])
		fmt.Println(err)
		if err == nil {
			_, _ = l.Accept()
		}
		return
	}
	os.Exit(m.Run())
}

var errTest = errors.New("the test gave it up")

// newFleet runs a fleet until the test ends, or end is called.
func newFleet(t *testing.T, change func(*Config)) (f *Fleet, end func() error) {
	t.Helper()
	cfg := Config{Name: "program", Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if change != nil {
		change(&cfg)
	}
	f = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = f.Run(ctx)
	}()
	end = func() error {
		cancel()
		<-done
		return err
	}
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	})
	return f, end
}

// start starts a program that says a line when it is there, and gives the line.
func start(t *testing.T, f *Fleet, path string, args ...string) (child *process.Child, line string) {
	t.Helper()
	said := make(chan string, 1)
	child, err := f.Start(process.Command{Path: path, Args: args, Env: Environment(t.TempDir()), Dir: t.TempDir(), Stdout: func(text string) {
		select {
		case said <- text:
		default:
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case line = <-said:
	case <-child.Done():
		t.Fatalf("it ended: %s", child.Exit())
	}
	return child, line
}

func sleeper(t *testing.T, f *Fleet) *process.Child {
	t.Helper()
	child, _ := start(t, f, "/bin/sh", "-c", "echo here; exec sleep 1000")
	return child
}

// exists says whether a process does; one that is dead but not reaped counts.
func exists(pid int) bool { return !errors.Is(unix.Kill(pid, 0), unix.ESRCH) }

func TestRunEndsEveryChildAndWhatIsLeft(t *testing.T) {
	t.Parallel()
	f, end := newFleet(t, nil)
	children := []*process.Child{sleeper(t, f), sleeper(t, f), sleeper(t, f)}
	ctx, cancel, err := f.Enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	settled := false
	if !f.Settle(func() {
		<-ctx.Done()
		settled = true
	}) {
		t.Fatal("nothing can be settled")
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	if !settled || !errors.Is(context.Cause(ctx), calls.ErrStopping) {
		t.Errorf("what is left was waited for: %v; the call ended with %v", settled, context.Cause(ctx))
	}
	for _, child := range children {
		if exists(child.PID()) {
			t.Errorf("child %d outlived Run", child.PID())
		}
	}
	if _, err := f.Start(process.Command{Path: "/bin/true", Dir: t.TempDir()}); !errors.Is(err, calls.ErrStopping) {
		t.Errorf("a start after Run gives %v", err)
	}
	if f.Settle(func() { t.Error("it runs") }) {
		t.Error("something is settled after Run")
	}
	if err := f.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "program fleet: Run was called twice") {
		t.Errorf("a second Run gives %v", err)
	}
}

func TestRunDoesWhatElseItIsGivenUntilItsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := New(Config{Name: "program"})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		begun, ended := time.Now(), 0
		other := func(ctx context.Context) {
			<-ctx.Done()
			<-time.After(time.Minute)
			ended++
		}
		if err := f.Run(ctx, other, func(context.Context) {}); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); ended != 1 || took != time.Hour+time.Minute {
			t.Errorf("%d have ended, after %v", ended, took)
		}
	})
}

func TestCallsWaitForRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := New(Config{Name: "program"})
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errTest)
		defer cancel()
		if _, _, err := f.Enter(ctx); !errors.Is(err, errTest) {
			t.Errorf("before Run it gives %v; want the cause", err)
		}
		entered := false
		go func() {
			ctx, leave, err := f.Enter(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer leave()
			entered = true
			<-ctx.Done()
		}()
		synctest.Wait()
		if entered {
			t.Error("a call began before Run")
		}
		running, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(running) }()
		synctest.Wait()
		if !entered {
			t.Error("no call begins with Run")
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestOwns(t *testing.T) {
	t.Parallel()
	f, _ := newFleet(t, nil)
	pid := sleeper(t, f).PID()
	for name, tt := range map[string]struct {
		pid  int
		want bool
	}{
		"the child": {pid, true}, "ourselves": {os.Getpid(), false}, "init": {1, false}, "nobody": {0, false}, "all": {-1, false},
		"a group": {-pid, false}, "a number that is not used": {1<<22 + 1, false},
	} {
		if got := f.Owns(tt.pid); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What a child starts is ours too: a script may have started the real program.
func TestOwnsWhatAChildStarted(t *testing.T) {
	t.Parallel()
	f, _ := newFleet(t, nil)
	child, line := start(t, f, "/bin/sh", "-c", "sleep 100 & echo $!; wait")
	var pid int
	if _, err := fmt.Sscan(line, &pid); err != nil {
		t.Fatal(err)
	}
	if !f.Owns(child.PID()) || !f.Owns(pid) {
		t.Errorf("the script is ours: %v, what it started: %v", f.Owns(child.PID()), f.Owns(pid))
	}
	if err := child.Kill(); err != nil {
		t.Fatal(err)
	}
	if f.Owns(child.PID()) {
		t.Error("a child that has gone is ours")
	}
}

func TestFoldersStayWithinTheFleets(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"GPU-0123456789abcdef": "device-GPU-0123456789abcdef", "cpu": "device-cpu", "pci-0000:03:00.0": "device-pci-0000_03_00.0",
		"../../etc": "device-.._.._etc", "": "device-", "a/b c\n": "device-a_b_c_",
	} {
		if got := Folder("/dir", gpu.Device{ID: id}); got != filepath.Join("/dir", want) {
			t.Errorf("%q: got %s", id, got)
		}
	}
}

func TestEachDeviceHasOneSlot(t *testing.T) {
	t.Parallel()
	made := 0
	slots := NewSlots(func(dev gpu.Device) *string {
		made++
		return new(dev.ID)
	})
	a, b := gpu.Device{ID: "a"}, gpu.Device{ID: "b"}
	if _, ok := slots.Known(a); ok {
		t.Error("it is known before it was asked for")
	}
	if first := slots.Of(a); *first != "a" || slots.Of(a) != first || *slots.Of(b) != "b" || made != 2 {
		t.Errorf("%d slots for two devices", made)
	}
	if got, ok := slots.Known(b); !ok || got != slots.Of(b) {
		t.Error("it is another one when it is known")
	}
}
