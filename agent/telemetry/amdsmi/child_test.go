package amdsmi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/agent/telemetry"
	"muster/agent/telemetry/amdsmi/fakeamdsmi"
	"muster/shared/gpu"
)

// A library is loaded once per process, and a mistake in calling it ends the process: so each scenario runs in a child, this test
// binary again, which takes commands on its standard input and answers each by a line of JSON. It answers on a pipe of its own,
// because the library prints to standard output.

func TestMain(m *testing.M) {
	if library, isChild := os.LookupEnv("MUSTER_AMDSMI_CHILD"); isChild {
		serve(library)
		return
	}
	os.Exit(m.Run())
}

type answer struct {
	Found    telemetry.Found
	Reading  gpu.Reading
	Details  gpu.Details
	Findings []telemetry.Finding
	Wedged   bool
	Err      string
	State    gpu.State // that the error stands for; "" for none
}

func serve(library string) {
	r := New(Config{Library: library, Root: os.Getenv("MUSTER_AMDSMI_ROOT")})
	r.describeWait = time.Minute // so that a busy machine changes no answer; tests of hangs shorten it
	out := json.NewEncoder(os.NewFile(3, "answers"))
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		command, id, _ := strings.Cut(lines.Text(), " ")
		a := r.obey(command, id)
		if out.Encode(a) != nil {
			return
		}
	}
	r.Close()
}

func (r *Reader) obey(command, id string) (a answer) {
	var err error
	ctx := context.Background()
	switch command {
	case "inventory":
		a.Found, err = r.Inventory(ctx)
	case "read":
		a.Reading, err = r.Read(ctx, id)
	case "details":
		a.Details, err = r.Details(ctx, id)
	case "examine":
		a.Findings = r.Examine(ctx)
	case "patience":
		r.describeWait, err = time.ParseDuration(id)
	case "look": // at the cards again, though a second has not passed
		r.gate.mu.Lock()
		r.gate.checked = time.Time{}
		r.gate.mu.Unlock()
	case "hang": // a Read that nobody waits for
		go r.Read(ctx, id)
		for r.connection.callers() == 0 {
			time.Sleep(time.Millisecond)
		}
	case "settle": // until no call is inside the library
		for r.connection.callers() > 0 {
			time.Sleep(time.Millisecond)
		}
	case "age": // makes what is ending look as if it had begun to long ago
		r.connection.mu.Lock()
		r.connection.since = r.connection.since.Add(-wedgedAfter - time.Second)
		r.connection.mu.Unlock()
	case "interrupt": // an Inventory by letting go of the library while a device is being described
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.Found, err = r.Inventory(ctx)
		}()
		for r.connection.callers() == 0 {
			time.Sleep(time.Millisecond)
		}
		r.connection.end()
		<-done
	case "storm":
		r.storm(strings.Fields(id))
	}
	a.Wedged = r.Wedged()
	if err != nil {
		a.Err, a.State = err.Error(), stateOf(err)
	}
	return a
}

// storm asks everything at once, while the library is shut down and connected again.
func (r *Reader) storm(ids []string) {
	var all sync.WaitGroup
	for _, id := range ids {
		all.Go(func() {
			for range 20 {
				r.Read(context.Background(), id)
				r.Details(context.Background(), id)
			}
		})
	}
	all.Go(func() {
		for range 10 {
			r.Inventory(context.Background())
			r.Examine(context.Background())
			r.connection.end()
		}
	})
	all.Wait()
}

func (c *connection) callers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inside
}

func stateOf(err error) gpu.State {
	for sentinel, state := range map[error]gpu.State{
		telemetry.ErrLost: gpu.StateLost, telemetry.ErrSuspended: gpu.StateSuspended, telemetry.ErrNoPermission: gpu.StateNoPermission,
		telemetry.ErrNoDriver: gpu.StateNoDriver, telemetry.ErrUnsupported: gpu.StateUnsupported, context.DeadlineExceeded: gpu.StateStuck,
	} {
		if errors.Is(err, sentinel) {
			return state
		}
	}
	return ""
}

type child struct {
	fakeamdsmi.Scenario
	machine
	t      *testing.T
	in     io.WriteCloser
	out    *json.Decoder
	stderr *strings.Builder
	wait   func() error
	mess   bool // it may die or hang: how it ends is not looked at
}

// start runs a Reader in a child, on a fake library without some symbols and on a machine with four cards that never sleep.
func start(t *testing.T, without ...string) *child {
	t.Helper()
	return startAt(t, fakeamdsmi.Build(t, without...), fourCards(t))
}

func startAt(t *testing.T, library string, m machine) *child {
	t.Helper()
	c := &child{Scenario: fakeamdsmi.NewScenario(t), machine: m, t: t, stderr: &strings.Builder{}}
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), "MUSTER_AMDSMI_CHILD="+library, "MUSTER_AMDSMI_ROOT="+m.root, c.Env(), "AMDSMI_LIB=", "LD_LIBRARY_PATH=", "ROCM_PATH=",
		"GORACE=atexit_sleep_ms=0") // the race detector would sleep a second at the end of each child
	command.Stderr = c.stderr
	answers, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	command.ExtraFiles = []*os.File{theirs}
	if c.in, err = command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	c.out, c.wait = json.NewDecoder(answers), command.Wait
	t.Cleanup(func() {
		c.in.Close()
		if c.mess || t.Failed() {
			command.Process.Kill()
			command.Wait()
		} else if err := command.Wait(); err != nil {
			t.Errorf("the process ended with %v\n%s", err, c.stderr)
		}
		answers.Close()
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

// four gives the devices of an inventory that must list four of them.
func (c *child) four() []gpu.Device {
	c.t.Helper()
	found := c.inventory()
	if len(found.Devices) != 4 {
		c.t.Fatalf("got %d devices, problems %q", len(found.Devices), found.Problems)
	}
	return found.Devices
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

// leftOut lists the functions whose structs are not trusted.
func (c *child) leftOut() (functions []string) {
	c.t.Helper()
	for _, f := range c.ask("examine").Findings {
		if strings.HasPrefix(f.Text, "left out") {
			functions = append(functions, f.Subject)
		}
	}
	return functions
}

// machine is a root folder with AMD cards in it.
type machine struct {
	t    testing.TB
	root string
}

// fourCards are at the addresses of the fake's devices.
func fourCards(t testing.TB) machine {
	m := machine{t, t.TempDir()}
	for _, bus := range []string{"03", "13", "23", "33"} {
		m.card("0000:" + bus + ":00.0")
	}
	return m
}

// card adds one that amdgpu serves and that has no runtime power management.
func (m machine) card(address string) {
	m.put("sys/bus/pci/devices/"+address+"/uevent", "DRIVER=amdgpu\nPCI_CLASS=38000\nPCI_ID=1002:6860\nPCI_SLOT_NAME="+address+"\n")
}

// power sets what the kernel says of a card's sleep.
func (m machine) power(address, status, control string) {
	m.put("sys/bus/pci/devices/"+address+"/power/runtime_status", status+"\n")
	m.put("sys/bus/pci/devices/"+address+"/power/control", control+"\n")
}

func (m machine) put(path, text string) {
	m.t.Helper()
	path = filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func id(i int) string { return fmt.Sprintf("GPU-%016x", 0xd1ee+i) }

func ptr[T any](v T) *T { return &v }
