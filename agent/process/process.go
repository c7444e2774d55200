// Package process runs child programs that must not harm the agent: an environment made from scratch, a process group and a
// working folder of their own, both pipes drained into lines of bounded length, no core files. Backoff and Breaker say when to
// start again.
//
// Children end in one of two ways. A generator never outlives the agent: it is stopped politely, then killed as a group, and
// the kernel kills it when the agent dies. A child that calls drivers must not be killed inside such a call, which can hang the
// device for everybody: it ends by itself at the end of its stdin, and one that hangs is left behind.
//
// It is a leaf: it knows no generator and no driver. Linux only.
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command says what to start.
type Command struct {
	Path string   // of the program
	Args []string // without the program's own name
	// Name is what lists of processes show for the path; "" shows the path.
	Name string
	// Env is the whole environment; nothing is inherited.
	Env []string
	// Dir is the working folder, made with mode 0700 when it is not there.
	Dir string
	// Stdout and Stderr take each line without its end, one call at a time per pipe, from a goroutine of the child's own.
	// They must not block for long: the child stalls on a full pipe. nil: lines are read and thrown away.
	Stdout, Stderr func(line string)
	// MaxLine bounds a line of stdout in bytes; what follows up to the line's end is thrown away. 0 is 4096, which lines of
	// stderr never exceed.
	MaxLine int
	// Grace is how long the child may take to end after SIGTERM; 0 is 5 s.
	Grace time.Duration
	// Stdin gives the child a pipe that Write and Close are for; otherwise its stdin is empty.
	Stdin bool
	// Outlive keeps the kernel from killing the child when this process dies. It must end by itself then: the end of its stdin
	// tells it.
	Outlive bool
}

// Exit is how a child ended.
type Exit struct {
	Code   int            // exit status; -1 when a signal ended it
	Signal syscall.Signal // 0 unless a signal ended it
	// Asked says that Stop, Kill or Close had been called before it ended.
	Asked bool
	Ran   time.Duration
}

// String is for people: "exit status 1 after 20ms", "signal: killed after 3s".
func (e Exit) String() string {
	how := fmt.Sprintf("exit status %d", e.Code)
	if e.Signal != 0 {
		how = "signal: " + e.Signal.String()
	}
	return fmt.Sprintf("%s after %s", how, e.Ran.Round(10*time.Millisecond))
}

// ErrStuck is wrapped when a child does not end although it was killed: it hangs in the kernel, usually in a driver.
var ErrStuck = errors.New("does not end although it was killed: it hangs in a driver; only a restart of the machine may help")

// stuckAfter is how long a killed child may take to disappear.
const stuckAfter = 10 * time.Second

// drainAfter is how long pipes are read on after the child's group is gone: only a process that left the group can hold them.
const drainAfter = time.Second

// Child is a started program.
type Child struct {
	pid   int
	grace time.Duration
	begun time.Time
	stdin *os.File // nil without a pipe
	done  chan struct{}
	exit  Exit // once done is closed

	mu    sync.Mutex
	gone  bool // reaped, or about to be: its number may belong to somebody else soon
	asked bool
}

// Start starts the program. Unless it may outlive this process the child dies with it however that ends, kill -9 included. The
// reason why that needs a thread: PR_SET_PDEATHSIG fires when the thread that forked ends, and Go ends threads of its own accord
// (a goroutine that returns while locked takes its thread along). So one locked goroutine forks, waits and reaps.
func Start(c Command) (*Child, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("working folder of %s: %w", c.Path, err)
	}
	child := &Child{grace: c.Grace, done: make(chan struct{})}
	if child.grace == 0 {
		child.grace = 5 * time.Second
	}
	started := make(chan error)
	go child.run(c, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	return child, nil
}

// run is the child's own goroutine from fork to reaping.
func (c *Child) run(command Command, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(command.Path, command.Args...)
	if command.Name != "" {
		cmd.Args[0] = command.Name
	}
	cmd.Env = append([]string{}, command.Env...) // not nil: nil would inherit
	cmd.Dir = command.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if !command.Outlive {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	pipes, err := newPipes(command, cmd)
	if err != nil {
		started <- err
		return
	}
	c.begun = time.Now()
	err = cmd.Start()
	if err != nil {
		pipes.discard()
		started <- err
		return
	}
	pipes.closeChilds()
	c.pid, c.stdin = cmd.Process.Pid, pipes.stdin
	forbidCore(c.pid)
	drained := pipes.drain()
	started <- nil

	waitExited(c.pid)
	c.bury()
	c.closeStdin()
	_ = cmd.Wait() // the state below says more than its error
	select {
	case <-drained:
	case <-time.After(drainAfter):
		pipes.closeReaders()
		<-drained
	}
	c.finish(cmd.ProcessState)
}

// bury kills what is left of the group while the dead child, not reaped yet, still keeps the group's number from reuse.
func (c *Child) bury() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = unix.Kill(-c.pid, unix.SIGKILL)
	c.gone = true
}

func (c *Child) finish(state *os.ProcessState) {
	c.mu.Lock()
	c.exit = Exit{Code: state.ExitCode(), Asked: c.asked, Ran: time.Since(c.begun)}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		c.exit.Signal = status.Signal()
	}
	c.mu.Unlock()
	close(c.done)
}

// PID is the child's process number, and that of its group.
func (c *Child) PID() int { return c.pid }

// Done is closed when the child has ended, was reaped, and every line of it was handed over.
func (c *Child) Done() <-chan struct{} { return c.done }

// Exit says how it ended. It is valid once Done is closed.
func (c *Child) Exit() Exit { return c.exit }

// Age is the time since it was started.
func (c *Child) Age() time.Duration { return time.Since(c.begun) }

// Stop ends the child's group: SIGTERM, and SIGKILL after the grace period. It returns when the child is gone; its error wraps
// ErrStuck when it does not go. Any number of goroutines may call it.
func (c *Child) Stop() error {
	c.signal(unix.SIGTERM)
	select {
	case <-c.done:
		return nil
	case <-time.After(c.grace):
		return c.Kill()
	}
}

// Kill ends the child's group at once. It returns as Stop does.
func (c *Child) Kill() error {
	c.signal(unix.SIGKILL)
	select {
	case <-c.done:
		return nil
	case <-time.After(stuckAfter):
		return fmt.Errorf("process %d %w", c.pid, ErrStuck)
	}
}

// Write hands bytes to the child's stdin. It waits while the pipe is full; it fails once the child or its stdin is closed.
func (c *Child) Write(b []byte) (int, error) {
	if c.stdin == nil {
		return 0, os.ErrClosed
	}
	return c.stdin.Write(b)
}

// Close closes the child's stdin, which asks one that reads it to end, and waits that long for it. It says whether the child has
// ended. One that has not is left behind: it is reaped whenever it ends, and nobody waits for it. Any number of goroutines may
// call it.
func (c *Child) Close(wait time.Duration) (ended bool) {
	c.mu.Lock()
	c.asked = true
	c.mu.Unlock()
	c.closeStdin()
	limit := time.NewTimer(wait)
	defer limit.Stop()
	select {
	case <-c.done:
		return true
	case <-limit.C:
	}
	select {
	case <-c.done: // when both are, select chooses at random
		return true
	default:
		return false
	}
}

// closeStdin also ends a Write that waits.
func (c *Child) closeStdin() {
	if c.stdin != nil {
		_ = c.stdin.Close()
	}
}

func (c *Child) signal(s unix.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = true
	if !c.gone {
		_ = unix.Kill(-c.pid, s)
	}
}

// waitExited blocks until the process has ended, and leaves it to be reaped.
func waitExited(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR { //nolint:revive // the wait is the body
	}
}

// forbidCore keeps a crash from writing gigabytes of device memory to disk. A limit of one byte, not none, stops dumps into a
// pipe (systemd-coredump) too: fs/coredump.c treats it so. Where the hard limit is none already it stays.
func forbidCore(pid int) {
	if unix.Prlimit(pid, unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1}, nil) != nil {
		_ = unix.Prlimit(pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil)
	}
}
