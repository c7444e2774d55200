//go:build cgo

package nvml

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"muster/agent/telemetry"
	"muster/agent/telemetry/kernel"
	"muster/agent/telemetry/nvml/fakenvml"
	"muster/shared/gpu"
)

// go-nvml keeps one library per process, and a mistake in guarding ends the process: so each scenario runs in a child, this
// test binary again, which takes commands on its standard input and answers each by a line of JSON.

func TestMain(m *testing.M) {
	if library, isChild := os.LookupEnv("MUSTER_NVML_CHILD"); isChild {
		serve(library)
		return
	}
	os.Exit(m.Run())
}

type answer struct {
	Found      telemetry.Found
	Reading    gpu.Reading
	Err        string
	State      gpu.State // that the error stands for; "" for none
	Goroutines int
	Inside     int // calls that have not returned: each holds a thread
	Details    gpu.Details
	Throughput gpu.PCIeThroughput
	Findings   []telemetry.Finding
	Yes        bool
	Asked      []int // places
}

func serve(library string) {
	tree, err := kernel.Open(os.Getenv("MUSTER_NVML_ROOT"))
	if err != nil {
		panic(err)
	}
	r := newReader(library, tree)
	r.driver.watching = true // so that nobody but the test acts; "listen" starts it
	started := time.Now()
	r.describeWait = time.Minute // so that a busy machine changes no answer; tests of hangs shorten it
	out := json.NewEncoder(os.Stdout)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		command, id, _ := strings.Cut(lines.Text(), " ")
		var a answer
		var err error
		switch command {
		case "inventory":
			a.Found, err = r.Inventory(context.Background())
		case "carefully": // what to skip, and what is known
			var known []gpu.Device
			var skip []int
			skipped, list, _ := strings.Cut(id, " ")
			if err = errors.Join(json.Unmarshal([]byte(skipped), &skip), json.Unmarshal([]byte(list), &known)); err != nil {
				panic(err)
			}
			a.Found, err = r.InventoryCarefully(context.Background(), known, skip, func(index int) {
				a.Asked = append(a.Asked, index)
				if a.Inside = r.driver.library().inside(); a.Inside > 0 {
					a.Yes = true // a second one was asked while the first was
				}
			})
		case "read":
			a.Reading, err = r.Read(context.Background(), id)
		case "glance": // a Read with a deadline
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			a.Reading, err = r.Read(ctx, id)
			cancel()
		case "details":
			a.Details, err = r.Details(context.Background(), id)
		case "throughput":
			a.Throughput, err = r.PCIeThroughput(context.Background(), id)
		case "examine":
			a.Findings = r.Examine(context.Background())
		case "wedged": // as it will be after so long
			var after time.Duration
			after, err = time.ParseDuration(id)
			a.Yes = r.driver.wedged(r, time.Now().Add(after))
		case "mind": // as it will be so long after the start
			var after time.Duration
			after, err = time.ParseDuration(id)
			r.driver.mind(r, started.Add(after))
			a.Yes = r.driver.library() != nil && r.driver.library().connected()
		case "listen":
			r.driver.watching = false
			r.driver.watch(r)
		case "close":
			r.Close()
		case "patience":
			r.describeWait, err = time.ParseDuration(id)
		case "haste":
			r.patience, err = time.ParseDuration(id)
		case "settle": // until no call is inside the library
			for r.driver.library().inside() > 0 {
				time.Sleep(time.Millisecond)
			}
		case "hang": // a Read that nobody waits for
			go r.Read(context.Background(), id)
			for r.driver.library().inside() == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		if err != nil {
			a.Err, a.State = err.Error(), stateOf(err)
		}
		a.Goroutines = runtime.NumGoroutine()
		if lib := r.driver.library(); lib != nil {
			a.Inside = lib.inside()
		}
		if out.Encode(a) != nil {
			return
		}
	}
}

func (d *driver) library() *library {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lib
}

func (l *library) inside() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.visits)
}

func stateOf(err error) gpu.State {
	for sentinel, state := range map[error]gpu.State{
		telemetry.ErrLost: gpu.StateLost, telemetry.ErrDriverMismatch: gpu.StateDriverMismatch, telemetry.ErrSuspended: gpu.StateSuspended,
		telemetry.ErrNoPermission: gpu.StateNoPermission, telemetry.ErrNoDriver: gpu.StateNoDriver, telemetry.ErrUnsupported: gpu.StateUnsupported,
		context.DeadlineExceeded: gpu.StateStuck,
	} {
		if errors.Is(err, sentinel) {
			return state
		}
	}
	return ""
}

type child struct {
	fakenvml.Scenario
	t      *testing.T
	in     io.Writer
	out    *json.Decoder
	stderr *strings.Builder
	wait   func() error
}

// start runs a Reader in a child, on a fake library without some symbols and a root of its own.
func start(t *testing.T, without ...string) *child {
	t.Helper()
	return startAt(t, fakenvml.Build(t, without...), t.TempDir())
}

func startAt(t *testing.T, library, root string) *child {
	t.Helper()
	c := &child{Scenario: fakenvml.NewScenario(t), t: t, stderr: &strings.Builder{}}
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), "MUSTER_NVML_CHILD="+library, "MUSTER_NVML_ROOT="+root, c.Env())
	command.Stderr = c.stderr
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	c.in, c.out, c.wait = in, json.NewDecoder(out), command.Wait
	t.Cleanup(func() {
		in.Close()
		command.Process.Kill()
		command.Wait()
	})
	return c
}

// ask sends a command; the child must survive it.
func (c *child) ask(command string) answer {
	c.t.Helper()
	fmt.Fprintln(c.in, command)
	var a answer
	if err := c.out.Decode(&a); err != nil {
		c.t.Fatalf("the process died of %q: %v, %v\n%s", command, err, c.wait(), c.stderr)
	}
	return a
}

func (c *child) inventory() telemetry.Found {
	c.t.Helper()
	a := c.ask("inventory")
	if a.Err != "" {
		c.t.Fatalf("inventory: %s", a.Err)
	}
	return a.Found
}

// read gives the reading of a device that must answer.
func (c *child) read(id string) gpu.Reading {
	c.t.Helper()
	a := c.ask("read " + id)
	if a.Err != "" {
		c.t.Fatalf("read %s: %s", id, a.Err)
	}
	return a.Reading
}

// details gives those of a device that must answer.
func (c *child) details(id string) gpu.Details {
	c.t.Helper()
	a := c.ask("details " + id)
	if a.Err != "" {
		c.t.Fatalf("details %s: %s", id, a.Err)
	}
	return a.Details
}

// state gives the state of a device that must not answer.
func (c *child) state(id string) gpu.State {
	c.t.Helper()
	a := c.ask("read " + id)
	if a.Err == "" {
		c.t.Fatalf("read %s: got %+v, want an error", id, a.Reading)
	}
	return a.State
}

func uuid(i int) string { return fmt.Sprintf("GPU-00000000-0000-0000-0000-%012d", i) }

func ptr[T any](v T) *T { return &v }
