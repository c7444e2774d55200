package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// shell starts a script and collects its lines.
type shell struct {
	*Child
	mu       sync.Mutex
	out, err []string
	said     chan string // stdout
}

func start(t *testing.T, script string, change func(*Command)) *shell {
	t.Helper()
	s := &shell{said: make(chan string, 100)}
	c := Command{Path: "/bin/sh", Args: []string{"-c", script}, Dir: filepath.Join(t.TempDir(), "private"),
		Stdout: func(line string) {
			s.mu.Lock()
			s.out = append(s.out, line)
			s.mu.Unlock()
			select {
			case s.said <- line:
			default:
			}
		},
		Stderr: func(line string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.err = append(s.err, line)
		},
	}
	if change != nil {
		change(&c)
	}
	var err error
	if s.Child, err = Start(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Kill(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *shell) ended(t *testing.T) Exit {
	t.Helper()
	select {
	case <-s.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("the child did not end")
	}
	return s.Exit()
}

func TestChildHasOnlyWhatItIsGiven(t *testing.T) {
	t.Setenv("MUSTER_SECRET", "leaked") // t.Parallel is not possible
	s := start(t, "env; pwd; ulimit -c; echo end >&2; ls /proc/self/fd | tr '\\n' ' '", func(c *Command) { c.Env = []string{"ONE=1"} })
	if exit := s.ended(t); exit.Code != 0 || exit.Signal != 0 || exit.Asked {
		t.Errorf("%+v", exit)
	}
	all := strings.Join(s.out, "\n")
	if strings.Contains(all, "leaked") || !strings.Contains(all, "ONE=1") || !strings.Contains(all, "/private") {
		t.Errorf("environment and folder:\n%s", all)
	}
	if !slices.Equal(s.err, []string{"end"}) {
		t.Errorf("stderr: %q", s.err)
	}
}

func TestNoCoreFiles(t *testing.T) {
	t.Parallel()
	var limit unix.Rlimit
	c := start(t, "echo up; sleep 1000", nil)
	<-c.said
	if err := unix.Prlimit(c.PID(), unix.RLIMIT_CORE, nil, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur > 1 || limit.Max > 1 {
		t.Errorf("core files up to %d bytes", limit.Cur)
	}
}

func TestExitTellsHowItEnded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		script string
		code   int
		signal syscall.Signal
		text   string
	}{
		{"exit 0", 0, 0, "exit status 0"},
		{"exit 7", 7, 0, "exit status 7"},
		{"kill -SEGV $$", -1, syscall.SIGSEGV, "signal: segmentation fault"},
	} {
		exit := start(t, tt.script, nil).ended(t)
		if exit.Code != tt.code || exit.Signal != tt.signal || exit.Asked || !strings.HasPrefix(exit.String(), tt.text) {
			t.Errorf("%s: %+v, %s", tt.script, exit, exit)
		}
	}
}

func TestStartOfNothingFails(t *testing.T) {
	t.Parallel()
	if _, err := Start(Command{Path: "/nowhere/program", Dir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "/nowhere/program") {
		t.Errorf("got %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(Command{Path: "/bin/true", Dir: file}); err == nil {
		t.Error("a file served as working folder")
	}
}

func TestStopEndsTheWholeGroup(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		script string
		signal syscall.Signal
	}{
		"politely":  {`sleep 1000 & echo $!; wait`, syscall.SIGTERM},
		"with kill": {`trap "" TERM; sleep 1000 & echo $!; while :; do wait; done`, syscall.SIGKILL},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, tt.script, func(c *Command) { c.Grace = 200 * time.Millisecond })
			grandchild, err := strconv.Atoi(<-s.said)
			if err != nil {
				t.Fatal(err)
			}
			end := watch(t, grandchild)
			if tt.signal == syscall.SIGTERM {
				s.grace = time.Minute
			}
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			if exit := s.Exit(); exit.Signal != tt.signal || !exit.Asked {
				t.Errorf("%+v; want %v", exit, tt.signal)
			}
			end(t)
			if err := s.Stop(); err != nil {
				t.Errorf("a second Stop: %v", err)
			}
		})
	}
}

// watch gives a function that waits until a process that is not ours to reap has ended.
func watch(t *testing.T, pid int) func(*testing.T) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func(t *testing.T) {
		t.Helper()
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 30_000)
			if err == unix.EINTR {
				continue
			}
			if err != nil || n == 0 {
				t.Fatalf("process %d lives on: %v", pid, err)
			}
			return
		}
	}
}

func TestWhatTheChildLeavesBehindDies(t *testing.T) {
	t.Parallel()
	s := start(t, `sleep 1000 & echo $!; read line`, nil) // stdin is empty: the shell ends by itself
	s.ended(t)
	pid, err := strconv.Atoi(<-s.said)
	if err != nil {
		t.Fatal(err)
	}
	if fd, err := unix.PidfdOpen(pid, 0); err == nil { // it may be dead but not reaped by init
		defer unix.Close(fd)
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 30_000); n == 0 {
			t.Errorf("the grandchild lives on: %v", err)
		}
	}
}

// A process that left the group and holds the pipes must not hold the end of its parent.
func TestPipesHeldFromOutsideTheGroup(t *testing.T) {
	t.Parallel()
	setsid, err := exec.LookPath("setsid")
	if err != nil {
		t.Fatal("util-linux has setsid on every Debian machine: ", err)
	}
	s := start(t, setsid+` sh -c 'echo $$; : > up; exec sleep 1000' & while [ ! -e up ]; do :; done`, nil)
	pid, err := strconv.Atoi(<-s.said)
	if err != nil {
		t.Fatal(err)
	}
	s.ended(t)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Errorf("the process outside the group: %v", err)
	}
}

func TestEverythingIsDrained(t *testing.T) {
	t.Parallel()
	s := start(t, `i=0; while [ $i -lt 20000 ]; do echo "line $i, long enough to fill a pipe"; echo "and $i" >&2; i=$((i+1)); done`, nil)
	if exit := s.ended(t); exit.Code != 0 {
		t.Errorf("%+v", exit)
	}
	if len(s.out) != 20000 || len(s.err) != 20000 || s.err[19999] != "and 19999" {
		t.Errorf("%d and %d lines", len(s.out), len(s.err))
	}
	quiet := start(t, `head -c 1000000 /dev/zero; echo done >&2`, func(c *Command) { c.Stdout = nil })
	quiet.ended(t)
}

func TestLines(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		in   []string
		want []string
	}{
		{"ends", []string{"a\nb\rc\r\nd"}, []string{"a", "b", "c", "d"}},
		{"in pieces", []string{"a", "b\n", "", "c\nd"}, []string{"ab", "c", "d"}},
		{"empty", []string{"\n\r\n\r"}, nil},
		{"a bar is complete before the next begins", []string{"\r  |=> | 1/2\x1b[K"}, []string{"  |=> | 1/2"}},
		{"the sequence in pieces", []string{"\r  |=> | 1/2\x1b", "[", "K\r  |==| 2/2\x1b[K\n"}, []string{"  |=> | 1/2", "  |==| 2/2"}},
		{"other Ks", []string{"K OK [K\x1bK\n"}, []string{"K OK [K\x1bK"}},
		{"too long", []string{strings.Repeat("x", 20) + "\nshort\n"}, []string{strings.Repeat("x", 16), "short"}},
		{"too long in pieces", []string{"1234567890", "1234567890", "1234567890\nnext"}, []string{"1234567890123456", "next"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			w := &lineWriter{max: 16, emit: func(line string) { got = append(got, line) }}
			for _, piece := range tt.in {
				if n, err := w.Write([]byte(piece)); n != len(piece) || err != nil {
					t.Fatalf("wrote %d: %v", n, err)
				}
			}
			w.flush()
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q; want %q", got, tt.want)
			}
		})
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nb\r\x1b[K"), 1)
	f.Add([]byte("\r  |==>| 1/2 - 19.63it/s\x1b[K\r  |===| 2/2\x1b[K\n"), 3)
	f.Fuzz(func(t *testing.T, data []byte, piece int) {
		piece = max(1, piece%64)
		var whole, pieces []string
		one := &lineWriter{max: 32, emit: func(l string) { whole = append(whole, l) }}
		two := &lineWriter{max: 32, emit: func(l string) { pieces = append(pieces, l) }}
		_, _ = one.Write(data)
		one.flush()
		for part := range slices.Chunk(data, piece) {
			_, _ = two.Write(part)
			if cap(two.line) > 64 {
				t.Fatalf("a line takes %d bytes", cap(two.line))
			}
		}
		two.flush()
		if !slices.Equal(whole, pieces) {
			t.Errorf("whole %q, in pieces %q", whole, pieces)
		}
		for _, l := range whole {
			if l == "" || len(l) > 32 || strings.ContainsAny(l, "\r\n") {
				t.Errorf("line %q", l)
			}
		}
	})
}

// standIn makes the test binary start a child of that kind and wait, as an agent does.
const standIn = "MUSTER_TEST_STAND_IN"

func TestMain(m *testing.M) {
	kind := os.Getenv(standIn)
	if kind == "" {
		os.Exit(m.Run())
	}
	command := Command{Path: "/bin/sleep", Args: []string{"1000"}, Dir: "."}
	if kind == "collector" {
		command = Command{Path: "/bin/sh", Args: []string{"-c", "read line; echo by itself > end"}, Dir: ".", Stdin: true, Outlive: true}
	}
	child, err := Start(command)
	if err != nil {
		panic(err)
	}
	burnThreads()
	fmt.Println(child.PID())
	select {
	case <-child.Done():
		fmt.Println("the child ended with the stand-in alive:", child.Exit())
	case <-time.After(time.Minute):
	}
}

// burnThreads ends many OS threads, as locked goroutines that return do: none may be the one that the child hangs on.
func burnThreads() {
	var burning sync.WaitGroup
	for range 50 {
		burning.Go(func() { runtime.LockOSThread() })
	}
	burning.Wait()
}

func TestKillOfTheAgentLeavesNoChild(t *testing.T) {
	t.Parallel()
	agent, pid := startStandIn(t, "generator")
	end := watch(t, pid)
	if unix.Kill(pid, 0) != nil {
		t.Fatal("the child died although its agent lives")
	}
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	end(t)
}

// The thread that forked stays for as long as the child, however many others end meanwhile.
func TestChildOutlivesOtherThreads(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	var burning sync.WaitGroup
	for range 4 {
		burning.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					burnThreads()
				}
			}
		})
	}
	var children []*shell
	for range 30 {
		s := start(t, "echo up; exec sleep 1000", nil)
		select {
		case <-s.said:
		case <-s.Done():
		}
		children = append(children, s)
	}
	close(stop)
	burning.Wait()
	for _, s := range children {
		select {
		case <-s.Done():
			t.Errorf("a child died with a thread of its agent: %s", s.Exit())
		default:
		}
	}
}
