package amdgpu

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/shared/gpu"
)

func TestProcesses(t *testing.T) { // trap 37
	t.Parallel()
	m, _ := detailed(t)
	const gib = 1 << 30
	for _, pid := range []string{"100", "200", "300", "400"} {
		m.file("proc/"+pid+"/comm", "x\n")
	}
	m.holds("100", "13261", fmt.Sprint(5*gib))
	m.opens("100", "7", "renderD128", fdinfoText("1", fmt.Sprint(4<<20), "0", "5")) // the same memory, seen from elsewhere: the larger counts
	m.holds("200", "13261", fmt.Sprint(1*gib))
	m.opens("200", "7", "renderD128", fdinfoText("2", fmt.Sprint(1<<20), "9", "0"))
	m.opens("200", "8", "renderD128", fdinfoText("2", fmt.Sprint(1<<20), "9", "0")) // the same client
	m.opens("200", "9", "card0", fdinfoText("3", fmt.Sprint(1<<20), "0", "0"))      // another of the process's
	m.opens("300", "3", "card0", "pdev:\t0000:1a:00.0\npasid:\t32780\nvram mem:\t2048 kB\n")
	m.opens("400", "3", "renderD129", fdinfoText("9", "77", "1", "0")) // another card
	m.opens("401", "3", "renderD128", "drm-driver:\ti915\ndrm-client-id:\t8\n")
	m.holds("500", "13261", fmt.Sprint(gib/2)) // not in this container
	m.holds("600", "9999", fmt.Sprint(gib))    // on another card
	m.holds("900", "13261", "0")               // computes elsewhere: KFD has a file for every card
	m.holds("not-a-process", "13261", "1")
	m.holds("700", "13261", "nonsense")
	m.holds("800", "none", "1")
	if err := syscall.Mkfifo(m.path("sys/class/kfd/kfd/proc/800/vram_13261"), 0o644); err != nil { // trap 42
		t.Fatal(err)
	}
	r, _ := m.inventory()
	d := details(t, r, mi25ID)
	want := []gpu.Process{
		{PID: 100, Type: gpu.ProcessCompute, MemoryBytes: ptr[uint64](5 * gib)},
		{PID: 200, Type: gpu.ProcessBoth, MemoryBytes: ptr[uint64](2 * gib)},
		{PID: 500, Type: gpu.ProcessCompute, MemoryBytes: ptr[uint64](gib / 2)},
		{PID: 300, MemoryBytes: ptr[uint64](2 << 20)},
	}
	if diff := cmp.Diff(want, d.Processes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !strings.Contains(d.ProcessesHidden, "not those of this container") || !strings.Contains(d.ProcessesHidden, "--pid=host") {
		t.Errorf("hidden: got %q, want the one that is not in this container", d.ProcessesHidden)
	}
}

func TestNoProcesses(t *testing.T) {
	t.Parallel()
	m, _ := detailed(t)
	r, _ := m.inventory()
	if d := details(t, r, mi25ID); d.Processes == nil || len(d.Processes) != 0 || d.ProcessesHidden != "" {
		t.Errorf("nobody on the card: got %v, %q", d.Processes, d.ProcessesHidden)
	}
	m.remove("proc/1")
	if d := details(t, newReader(t, m), mi25ID); d.Processes != nil {
		t.Errorf("neither /proc nor KFD tells: got %v", d.Processes)
	}
	m.file("proc/77/comm", "x\n") // but no process 1
	if d := details(t, newReader(t, m), mi25ID); d.Processes == nil || !strings.Contains(d.ProcessesHidden, "hidepid") {
		t.Errorf("hidepid: got %v, %q", d.Processes, d.ProcessesHidden)
	}
}

// newReader gives a Reader of the machine as it is now.
func newReader(t testing.TB, m machine) *Reader {
	t.Helper()
	r, _ := m.inventory()
	return r
}

func TestTypeOfProcess(t *testing.T) {
	t.Parallel()
	m, _ := detailed(t)
	m.opens("9", "1", "renderD128", fdinfoText("1", "1", "0", "7"))
	m.opens("8", "1", "renderD128", fdinfoText("2", "2", "7", "0"))
	m.opens("7", "1", "renderD128", fdinfoText("3", "3", "7", "7"))
	m.opens("6", "1", "renderD128", fdinfoText("4", "4", "0", "0")+"drm-engine-dma:\t5 ns\n")
	m.opens("5", "1", "renderD128", fdinfoText("5", "5", "0", "0")+"drm-engine-dec:\t5 ns\n")
	var got []gpu.ProcessType
	for _, p := range details(t, newReader(t, m), mi25ID).Processes {
		got = append(got, p.Type)
	}
	want := []gpu.ProcessType{gpu.ProcessGraphics, "", gpu.ProcessBoth, gpu.ProcessGraphics, gpu.ProcessCompute}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
