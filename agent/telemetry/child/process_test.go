package child

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// The collectors of these tests are this test binary again: a reader that obeys files in a folder.

const testFolder = "MUSTER_TEST_COLLECTOR"

func TestMain(m *testing.M) {
	folder := os.Getenv(testFolder)
	if folder == "" {
		os.Exit(m.Run())
	}
	in, out, err := TakeStdio()
	if err != nil {
		panic(err)
	}
	reader := obedient{folder, out}
	switch reader.order("start") {
	case "upgraded":
		fmt.Fprintln(out, `{"hello":{"protocol":99,"build":"v99"}}`)
		_, _ = in.Read(make([]byte, 1))
		return
	case "symbol":
		reader.obey("start")
	}
	if err := Serve(context.Background(), "test", reader, in, out); err != nil {
		panic(err)
	}
}

// obedient reads as many devices as its order "devices" says. Before a call of a kind for a device it obeys "kind device".
type obedient struct {
	folder string
	out    *os.File // of the protocol
}

func (o obedient) order(name string) string {
	order, _ := os.ReadFile(filepath.Join(o.folder, name))
	return string(order)
}

func (o obedient) obey(name string) {
	switch o.order(name) {
	case "exit":
		os.Exit(3)
	case "abort":
		_ = syscall.Kill(os.Getpid(), syscall.SIGABRT)
		select {}
	case "symbol": // as glibc's linker does
		fmt.Fprintln(os.Stderr, "muster: symbol lookup error: /lib/libfoo.so.1: undefined symbol: fooDeviceGetBar")
		os.Exit(127)
	case "print":
		fmt.Println("the library says hello on stdout")
		fmt.Fprintln(os.Stderr, "and on stderr")
		if n, _ := os.Stdin.Read(make([]byte, 1)); n != 0 {
			os.Exit(4)
		}
	case "garbage":
		fmt.Fprint(o.out, "\x00\xffgarbage\n{\"n\":\n"+strings.Repeat("x", 2*maxAnswer)+"\n{\"n\":123456,\"reading\":{}}\n")
	case "hang": // in the kernel, with a thread, as a driver does
		_ = os.WriteFile(filepath.Join(o.folder, name+" is inside"), nil, 0o600)
		fifo, err := syscall.Open(filepath.Join(o.folder, "release"), syscall.O_RDONLY, 0)
		if err == nil {
			_ = syscall.Close(fifo)
		}
	}
}

func (obedient) Name() string { return "obedient" }

func (o obedient) Inventory(context.Context) (found telemetry.Found, err error) {
	o.obey("inventory")
	n, _ := strconv.Atoi(o.order("devices"))
	for i := range n {
		found.Devices = append(found.Devices, o.describe(i))
	}
	return found, nil
}

func (o obedient) describe(i int) gpu.Device {
	o.obey(fmt.Sprint("describe device-", i))
	return gpu.Device{ID: fmt.Sprint("device-", i), Vendor: gpu.NVIDIA, VendorIndex: &i, Name: "GPU", FirmwareVersion: "1"}
}

// InventoryCarefully lists what it skips as it was known.
func (o obedient) InventoryCarefully(_ context.Context, known []gpu.Device, skip []int, begin func(int)) (found telemetry.Found, err error) {
	o.obey("inventory")
	n, _ := strconv.Atoi(o.order("devices"))
	for i := range n {
		if !slices.Contains(skip, i) {
			begin(i)
			found.Devices = append(found.Devices, o.describe(i))
			continue
		}
		d := gpu.Device{ID: fmt.Sprint("unknown-", i)}
		for _, k := range known {
			if k.VendorIndex != nil && *k.VendorIndex == i {
				d = k
			}
		}
		d.Error = "passed over"
		found.Devices = append(found.Devices, d)
	}
	return found, nil
}

// Read gives the number of the process as the power.
func (o obedient) Read(_ context.Context, id string) (gpu.Reading, error) {
	o.obey("read " + id)
	return gpu.Reading{State: gpu.StateOK, PowerWatts: ptr(float64(os.Getpid())), FanRPM: ptr(float64(threads(os.Getpid())))}, nil
}

func (o obedient) Details(_ context.Context, id string) (gpu.Details, error) {
	o.obey("details " + id)
	if id == "device-1" {
		return gpu.Details{}, fmt.Errorf("device-1: %w", telemetry.ErrNoPermission)
	}
	return gpu.Details{EnergyJoules: ptr(7.0)}, nil
}

func (o obedient) PCIeThroughput(context.Context, string) (gpu.PCIeThroughput, error) {
	return gpu.PCIeThroughput{ReceiveBytesPerSecond: ptr(1.0)}, nil
}

func (o obedient) Examine(context.Context) []telemetry.Finding {
	return []telemetry.Finding{{Level: telemetry.LevelNote, Subject: "library"}}
}

// Wedged says whether the order "wedged" names this process.
func (o obedient) Wedged() bool { return o.order("wedged") == strconv.Itoa(os.Getpid()) }

func threads(pid int) int {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return len(entries)
}

// machine is a Reader whose collectors obey a folder.
type machine struct {
	*Reader
	t      *testing.T
	folder string
	stop   func()
}

// start runs a reader with three devices. Orders are pairs of name and order.
func start(t *testing.T, change func(*Config), orders ...string) *machine {
	t.Helper()
	m := &machine{t: t, folder: t.TempDir()}
	m.give("devices", "3")
	for i := 0; i < len(orders); i += 2 {
		m.give(orders[i], orders[i+1])
	}
	if err := unix.Mkfifo(filepath.Join(m.folder, "release"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := Config{Name: "obedient", Title: "FOO", Path: os.Args[0], Env: append(os.Environ(), testFolder+"="+m.folder), Build: "test"}
	if change != nil {
		change(&config)
	}
	m.Reader = New(config)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	m.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		done <- nil
	}
	t.Cleanup(func() {
		m.release()
		m.stop()
		eventually(t, "no collector is left", func() bool { return len(m.processes()) == 0 })
	})
	return m
}

// give writes an order; "" withdraws it.
func (m *machine) give(name, order string) {
	m.t.Helper()
	path := filepath.Join(m.folder, name)
	if order == "" {
		_ = os.Remove(path)
		return
	}
	if err := os.WriteFile(path+".new", []byte(order), 0o600); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		m.t.Fatal(err)
	}
}

// hang makes a call for the device that does not return before release, and waits until it is inside.
func (m *machine) hang(device int) (returned <-chan error) {
	m.t.Helper()
	name := fmt.Sprint("read device-", device)
	m.give(name, "hang")
	result := make(chan error, 1)
	go func() {
		_, err := m.read(device)
		result <- err
	}()
	eventually(m.t, "the call is inside", func() bool { return m.isInside(name) })
	m.give(name, "")
	return result
}

// isInside says, once, whether a call that obeys that order hangs.
func (m *machine) isInside(name string) bool {
	return os.Remove(filepath.Join(m.folder, name+" is inside")) == nil
}

// release lets every call return that hangs, and hangs nobody from now on.
func (m *machine) release() {
	fifo, err := os.OpenFile(filepath.Join(m.folder, "release"), os.O_RDWR, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { fifo.Close() })
}

// processes are the machine's collectors, found by their environment.
func (m *machine) processes() (pids []int) {
	environments, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range environments {
		if raw, err := os.ReadFile(path); err == nil && strings.Contains(string(raw), testFolder+"="+m.folder+"\x00") {
			pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// list gives the inventory, which must come.
func (m *machine) list() telemetry.Found {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patient)
	defer cancel()
	found, err := m.Inventory(ctx)
	if err != nil {
		m.t.Fatal(err)
	}
	return found
}

// read gives the process that read the device; an error ends no test.
func (m *machine) read(device int) (pid int, err error) {
	ctx, cancel := context.WithTimeout(m.t.Context(), 1500*time.Millisecond)
	defer cancel()
	reading, err := m.Read(ctx, fmt.Sprint("device-", device))
	if err != nil {
		return 0, err
	}
	return int(*reading.PowerWatts), nil
}

// pid gives the process that reads the device, once one does.
func (m *machine) pid(device int) (pid int) {
	m.t.Helper()
	eventually(m.t, fmt.Sprintf("device %d is read", device), func() (ok bool) {
		var err error
		pid, err = m.read(device)
		return err == nil
	})
	return pid
}

// patient bounds what takes milliseconds on an idle machine.
const patient = 30 * time.Second

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.NewTimer(patient)
	defer limit.Stop()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !ok() {
		select {
		case <-limit.C:
			t.Fatalf("not so after %s: %s", patient, what)
		case <-again.C:
		}
	}
}
