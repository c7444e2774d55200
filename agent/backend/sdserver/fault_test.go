package sdserver

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/agent/backend/fleet"
	"muster/shared/job"
)

// impatient are limits for a child that hangs. They are as short as a loaded machine allows, for work that takes milliseconds.
func impatient() limits {
	l := quick()
	l.answer, l.stall, l.firstStep = time.Second, 3*time.Second, 3*time.Second
	return l
}

// What goes wrong once: the error that it gives, and whether the next image comes from the same child.
func TestFaults(t *testing.T) {
	t.Parallel()
	const final = "final"
	for _, tt := range []struct {
		fault  backendtest.Fault
		want   any // a sentinel, or final
		text   string
		starts int // with the next image; 0: not checked
		limits limits
	}{
		{fault: backendtest.Fault{Do: backendtest.Crash, Step: 1}, want: backend.ErrUnavailable, text: "signal: segmentation fault", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.Crash, Step: 2}, want: backend.ErrUnavailable, starts: 2},
		{fault: backendtest.Fault{Do: backendtest.Crash, Step: 3}, want: backend.ErrUnavailable, starts: 2},
		{fault: backendtest.Fault{Do: backendtest.Crash, Step: 4}, want: backend.ErrUnavailable, starts: 2},
		{fault: backendtest.Fault{Do: backendtest.Crash, Step: 5}, want: backend.ErrUnavailable, starts: 2},
		{fault: backendtest.Fault{Do: backendtest.Crash, Step: 6}, want: backend.ErrUnavailable, starts: 2},
		{fault: backendtest.Fault{Do: backendtest.Abort, Step: 2, Text: "ggml-cuda.cu:88: CUDA error: out of memory"}, want: backend.ErrOutOfMemory, text: "CUDA error", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.Abort, Text: "conditioner.hpp:467: GGML_ASSERT(!chunk_hidden_states.empty()) failed"}, want: backend.ErrUnavailable, text: "GGML_ASSERT", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.OutOfMemory, Step: 1}, want: backend.ErrOutOfMemory, text: "smaller size", starts: 1},
		{fault: backendtest.Fault{Do: backendtest.Fail, Step: 3, Text: "the tokenizer choked"}, want: final, text: "the tokenizer choked", starts: 1},
		{fault: backendtest.Fault{Do: backendtest.Hang, Step: 1}, want: backend.ErrUnavailable, text: "hangs", starts: 2, limits: impatient()},
		{fault: backendtest.Fault{Do: backendtest.Hang, Step: 3}, want: backend.ErrUnavailable, text: "at step 2", starts: 2, limits: impatient()},
		{fault: backendtest.Fault{Do: backendtest.Hang, Step: 6}, want: backend.ErrUnavailable, text: "at step 5", starts: 2, limits: impatient()},
		{fault: backendtest.Fault{Do: backendtest.Garbage}, want: backend.ErrUnavailable, text: "nonsense", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.HalfJSON}, want: backend.ErrUnavailable, starts: 2, limits: impatient()},
		{fault: backendtest.Fault{Do: backendtest.WrongID}, want: backend.ErrUnavailable, text: "another job", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.Lost}, want: backend.ErrUnavailable, text: "job not found", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.Huge}, want: backend.ErrUnavailable, text: "more than 64 MiB", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.Drip}, want: backend.ErrUnavailable, starts: 2, limits: impatient()},
		{fault: backendtest.Fault{Do: backendtest.HeldAnswer}, want: backend.ErrUnavailable, starts: 2, limits: impatient()},
		{fault: backendtest.Fault{Do: backendtest.CutPNG}, want: backend.ErrUnavailable, text: "cut off", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.DamagedPNG}, want: backend.ErrUnavailable, text: "damaged", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.NoImage}, want: backend.ErrUnavailable, starts: 2},
		{fault: backendtest.Fault{Do: backendtest.OddStatus}, want: backend.ErrUnavailable, text: "levitating", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.AnswerFails}, want: backend.ErrUnavailable, text: "bad_alloc", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.WrongSize}, want: final, text: "128x64 instead of 64x64", starts: 1},
		{fault: backendtest.Fault{Do: backendtest.BusyQueue}, want: backend.ErrUnavailable, text: "busy"},
		{fault: backendtest.Fault{Do: backendtest.Refuse}, want: final, text: "invalid generation parameters"},
		{fault: backendtest.Fault{Do: backendtest.ServerError, Text: "std::bad_alloc"}, want: backend.ErrUnavailable, text: "bad_alloc", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.NoID}, want: backend.ErrUnavailable, text: "without a usable id", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.LoadCrashes}, want: backend.ErrUnavailable, text: "segmentation fault", starts: 2},
		{fault: backendtest.Fault{Do: backendtest.LoadOutOfMemory}, want: backend.ErrOutOfMemory, text: "cudaMalloc", starts: 2},
	} {
		t.Run(fmt.Sprintf("%s before step %d", tt.fault.Do, tt.fault.Step), func(t *testing.T) {
			t.Parallel()
			tt.fault.Start = 1
			loading := strings.HasPrefix(string(tt.fault.Do), "load-")
			if !loading {
				tt.fault.Job = 1
			}
			b := newBench(t, setup{limits: tt.limits, models: map[string]backendtest.Scenario{"model": {Faults: []backendtest.Fault{tt.fault}}}})
			err := b.make(t, "model")
			if err == nil {
				t.Fatal("no error")
			}
			sentinel, retried := tt.want.(error)
			switch {
			case retried && !errors.Is(err, sentinel):
				t.Errorf("got %v; want it to wrap %v", err, sentinel)
			case !retried && (errors.Is(err, backend.ErrUnavailable) || errors.Is(err, backend.ErrOutOfMemory)):
				t.Errorf("got %v; want a final error", err)
			case !strings.Contains(err.Error(), tt.text):
				t.Errorf("got %q; want it to tell of %q", err, tt.text)
			case strings.Contains(err.Error(), secret):
				t.Errorf("the error holds the prompt: %v", err)
			}
			if tt.starts == 0 {
				return
			}
			if err := b.make(t, "model"); err != nil {
				t.Errorf("the next image failed too: %v", err)
			}
			if n := b.starts(t); n != tt.starts {
				t.Errorf("%d children were started; want %d", n, tt.starts)
			}
		})
	}
}

func TestLoadThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	l := quick()
	l.load = time.Second
	b := newBench(t, setup{limits: l, models: map[string]backendtest.Scenario{"model": {Faults: []backendtest.Fault{{Start: 1, Do: backendtest.LoadHangs}}}}})
	b.limits.load = time.Second
	if err := b.make(t, "model"); !errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), "loading") {
		t.Errorf("got %v", err)
	}
}

func TestBadModelIsNotStartedAgainUntilItsFileChanges(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(path string) error{
		"missing": os.Remove,
		"empty":   func(path string) error { return os.Truncate(path, 0) },
		"garbage": func(path string) error { return os.WriteFile(path, []byte("weights, but none"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, setup{models: map[string]backendtest.Scenario{"bad": {}, "good": {}}})
			if err := spoil(filepath.Join(b.dir, "bad.safetensors")); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				err := b.make(t, "bad")
				if err == nil || errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), `"bad"`) || !strings.Contains(err.Error(), "file failed") && !strings.Contains(err.Error(), "from file") {
					t.Fatalf("got %v; want a final error that names the model and the cause", err)
				}
			}
			if n := b.starts(t); n != 1 {
				t.Errorf("%d starts of a model that can't be loaded; want 1", n)
			}
			if err := b.Serves(b.devices[0]); err != nil {
				t.Errorf("one bad model closes the device: %v", err)
			}
			if err := b.make(t, "good"); err != nil {
				t.Error(err)
			}
			backendtest.WriteModel(t, b.dir, "bad", backendtest.Scenario{})
			if err := b.make(t, "bad"); err != nil {
				t.Errorf("after the file was replaced: %v", err)
			}
		})
	}
}

// A part that is replaced is reason to try a refused model again, and the error names all files that may be at fault.
func TestRefusedModelIsTriedAgainWithAnotherPart(t *testing.T) {
	t.Parallel()
	b := flux(t, backendtest.Scenario{Faults: []backendtest.Fault{{Start: 1, Do: backendtest.LoadFails, Text: "tensor 'shared.weight' not in model file"}}})
	for range 2 {
		err := b.make(t, "model")
		if err == nil || !strings.Contains(err.Error(), `"model" with t5xxl_fp16, clip_l, ae: tensor 'shared.weight'`) {
			t.Fatalf("got %v", err)
		}
	}
	if n := b.starts(t); n != 1 {
		t.Errorf("%d starts while all files are as they were", n)
	}
	if err := os.WriteFile(b.cfg.Models()[0].Parts[0].Path, []byte("another part"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.make(t, "model"); err != nil {
		t.Errorf("after the text encoder was replaced: %v", err)
	}
}

func TestDeviceThatTheBuildDoesNotSeeIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{})
	stranger := b.devices[0]
	stranger.ID = "GPU-00000000deadbeef"
	for range 3 {
		_, err := b.Backend().Generate(t.Context(), stranger, b.request("model"), func(job.Progress) {})
		if !errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), "was not found") {
			t.Fatalf("got %v", err)
		}
	}
	if n := b.starts(t); n != 1 {
		t.Errorf("%d starts; want 1", n)
	}
	if err := b.Serves(stranger); err == nil || !strings.Contains(err.Error(), "GPU-00000000deadbeef") {
		t.Errorf("Serves gives %v", err)
	}
	if err := b.Serves(b.devices[1]); err != nil {
		t.Errorf("another device is closed too: %v", err)
	}
}

func TestCrashLoopOpensTheBreaker(t *testing.T) {
	t.Parallel()
	l := quick()
	l.breaker.Failures, l.breaker.Rest = 3, time.Hour
	b := newBench(t, setup{limits: l, models: map[string]backendtest.Scenario{"model": {Faults: []backendtest.Fault{{Do: backendtest.Crash, Step: 2}}}}})
	for range 5 {
		if err := b.make(t, "model"); !errors.Is(err, backend.ErrUnavailable) {
			t.Fatalf("got %v", err)
		}
	}
	if n := b.starts(t); n != 3 {
		t.Errorf("%d starts; want 3, then a rest", n)
	}
	if err := b.Serves(b.devices[0]); err == nil || !strings.Contains(err.Error(), "segmentation fault") {
		t.Errorf("Serves gives %v; want the reason of the rest", err)
	}
}

// A port that is taken: by a program that listens, or by one that only holds it, which nothing shows but the child's exit with
// status 0 after it said "listening on".
func TestTakenPort(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]func(t *testing.T) int{
		"listening": func(t *testing.T) int {
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			return l.Addr().(*net.TCPAddr).Port
		},
		"bound": func(t *testing.T) int {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Close(fd) })
			if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
				t.Fatal(err)
			}
			address, err := unix.Getsockname(fd)
			if err != nil {
				t.Fatal(err)
			}
			return address.(*unix.SockaddrInet4).Port
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, setup{})
			taken, asked := take(t), 0
			b.freePort = func() (int, error) {
				if asked++; asked == 1 {
					return taken, nil
				}
				return fleet.FreePort()
			}
			if err := b.make(t, "model"); err != nil {
				t.Fatal(err)
			}
			if n := b.starts(t); n != 2 {
				t.Errorf("%d starts; want 2", n)
			}
		})
	}
}

// Two sd-servers can share one port, and answer in turns: the prompt must reach ours only.
func TestTwinOnThePort(t *testing.T) {
	t.Parallel()
	b := newBench(t, setup{models: map[string]backendtest.Scenario{"model": {Faults: []backendtest.Fault{{Start: 1, Do: backendtest.TakesTwinPort}}}}})
	if err := b.make(t, "model"); err != nil {
		t.Fatal(err)
	}
	if n := b.starts(t); n != 2 {
		t.Errorf("%d starts; want a second one on a port of its own", n)
	}
	s := b.slots.Of(b.devices[0])
	shared := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	}}
	l, err := shared.Listen(t.Context(), "tcp4", fmt.Sprintf("127.0.0.1:%d", s.Child.Port))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := b.make(t, "model"); err != nil {
		t.Fatal(err)
	}
	if n := b.starts(t); n != 3 {
		t.Errorf("%d starts; want a third one after a twin came between two jobs", n)
	}
}

func TestChildThatIgnoresSIGTERMIsKilled(t *testing.T) {
	t.Parallel()
	l := quick()
	l.grace = 50 * time.Millisecond
	b := newBench(t, setup{limits: l, models: map[string]backendtest.Scenario{"one": {IgnoreTerm: true}, "two": {}}})
	for _, model := range []string{"one", "two"} {
		if err := b.make(t, model); err != nil {
			t.Fatal(err)
		}
	}
	starts := backendtest.Serving(t, b.program)
	if len(starts) != 2 || running(starts[0].PID) {
		t.Errorf("the child of the first model lives on beside the second's: %+v", starts)
	}
}
