package intel

import (
	"context"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/shared/gpu"
)

// xeClient is a client's fdinfo as xe_drm_client.c writes it, with the ticks that two kinds of engine worked of all that passed.
func xeClient(id, render, compute, passed int) string {
	return fmt.Sprintf("pos:\t0\nflags:\t0100002\ndrm-driver:\txe\ndrm-client-id:\t%d\ndrm-pdev:\t0000:03:00.0\n"+
		"drm-total-system:\t0\ndrm-resident-system:\t4 KiB\ndrm-total-gtt:\t192 KiB\ndrm-resident-gtt:\t192 KiB\ndrm-total-vram0:\t23992 KiB\n"+
		"drm-shared-vram0:\t16 MiB\ndrm-resident-vram0:\t2048 KiB\ndrm-resident-stolen:\t8 KiB\n"+
		"drm-cycles-rcs:\t%d\ndrm-total-cycles-rcs:\t%d\ndrm-cycles-vcs:\t0\ndrm-total-cycles-vcs:\t%[4]d\ndrm-engine-capacity-vcs:\t2\n"+
		"drm-cycles-ccs:\t%[5]d\ndrm-total-cycles-ccs:\t%[4]d\ndrm-engine-capacity-ccs:\t1\n", id, render, passed, passed, compute)
}

// i915Client is a client's fdinfo as i915_drm_client.c writes it, with the ms that its engines worked.
func i915Client(id, render, video int) string {
	return fmt.Sprintf("drm-driver:\ti915\ndrm-pdev:\t0000:0a:00.0\ndrm-client-id:\t%d\ndrm-resident-system0:\t1 MiB\ndrm-resident-local0:\t3 MiB\n"+
		"drm-engine-render:\t%d000000 ns\ndrm-engine-copy:\t0 ns\ndrm-engine-video:\t%d000000 ns\ndrm-engine-capacity-video:\t2\n", id, render, video)
}

// look describes the card at one of two looks, a second apart.
type look struct {
	clients map[string]string // fdinfo by process
	idle    string            // ms that the engines were off
}

func TestUtilization(t *testing.T) {
	hideOthers := func(m machine, _ string) { m.remove("proc/1"); m.file("proc/6/comm", "self\n") }
	for name, c := range map[string]struct {
		before, after look
		set           func(m machine, dir string)
		busy, media   *float64
		absent        gpu.Absence // of both
	}{
		"idle":        {before: look{idle: "0"}, after: look{idle: "1000"}, busy: ptr(0.0), media: ptr(0.0)},
		"one client":  {before: look{clients: map[string]string{"7": i915Client(1, 100, 0)}}, after: look{clients: map[string]string{"7": i915Client(1, 600, 400)}}, busy: ptr(50.0), media: ptr(20.0)},
		"two clients": {before: look{clients: map[string]string{"7": i915Client(1, 100, 0), "8": i915Client(2, 0, 0)}}, after: look{clients: map[string]string{"7": i915Client(1, 600, 0), "8": i915Client(2, 300, 0)}}, busy: ptr(80.0), media: ptr(0.0)},
		"one client of two processes": {before: look{clients: map[string]string{"7": i915Client(1, 100, 0), "8": i915Client(1, 100, 0)}},
			after: look{clients: map[string]string{"7": i915Client(1, 600, 0), "8": i915Client(1, 600, 0)}}, busy: ptr(50.0), media: ptr(0.0)},
		"a counter that goes back":   {before: look{clients: map[string]string{"7": i915Client(1, 600, 0)}}, after: look{clients: map[string]string{"7": i915Client(1, 100, 0)}}, busy: ptr(0.0), media: ptr(0.0)},
		"more than there is time":    {before: look{clients: map[string]string{"7": i915Client(1, 0, 0)}}, after: look{clients: map[string]string{"7": i915Client(1, 5000, 0)}}, busy: ptr(100.0), media: ptr(0.0)},
		"a kernel that doesn't tell": {before: look{clients: map[string]string{"7": "drm-driver:\ti915\n"}}, after: look{clients: map[string]string{"7": "drm-driver:\ti915\n"}}, absent: gpu.AbsentUnsupported},
		"others hidden, and maybe at work": {set: hideOthers, before: look{idle: "0", clients: map[string]string{"7": i915Client(1, 0, 0)}},
			after: look{idle: "500", clients: map[string]string{"7": i915Client(1, 100, 0)}}, absent: gpu.AbsentNoPermission},
		"others hidden, but the card was off": {set: hideOthers, before: look{idle: "0"}, after: look{idle: "950"}, busy: ptr(0.0), media: ptr(0.0)},
		"others hidden, but own work fills the card": {set: hideOthers, before: look{idle: "0", clients: map[string]string{"7": i915Client(1, 0, 1800)}},
			after: look{idle: "20", clients: map[string]string{"7": i915Client(1, 960, 3600)}}, busy: ptr(96.0), media: ptr(90.0)},
		"others hidden, and a counter that jumps":     {set: hideOthers, before: look{idle: "0"}, after: look{idle: "99999"}, absent: gpu.AbsentNoPermission},
		"others hidden, and a counter that goes back": {set: hideOthers, before: look{idle: "900"}, after: look{idle: "0"}, absent: gpu.AbsentNoPermission},
		"others hidden, and no counter":               {set: hideOthers, absent: gpu.AbsentNoPermission},
		"in a container":                              {set: func(m machine, _ string) { m.link("proc/self/ns/pid", "pid:[4026532000]") }, absent: gpu.AbsentNoPermission},
		"not in a container":                          {set: func(m machine, _ string) { m.link("proc/self/ns/pid", "pid:[4026531836]") }, busy: ptr(0.0), media: ptr(0.0)},
		"parts given to virtual machines":             {set: func(m machine, dir string) { m.file(dir+"/sriov_numvfs", "2\n") }, absent: gpu.AbsentNoPermission},
		"no parts given to virtual machines":          {set: func(m machine, dir string) { m.file(dir+"/sriov_numvfs", "0\n") }, busy: ptr(0.0), media: ptr(0.0)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t)
				dir := m.alchemist()
				if c.set != nil {
					c.set(m, dir)
				}
				for pid := range c.before.clients {
					m.link("proc/"+pid+"/fd/5", "/dev/dri/renderD130")
				}
				show := func(l look) {
					for pid, text := range l.clients {
						m.file("proc/"+pid+"/fdinfo/5", text)
					}
					m.file(dir+"/drm/card2/gt/gt0/rc6_residency_ms", l.idle+"\n")
				}
				show(c.before)
				r, _ := m.reader()
				read(t, r, alchemist)
				time.Sleep(time.Second)
				show(c.after)
				got := read(t, r, alchemist)
				if diff := cmp.Diff([]*float64{c.busy, c.media}, []*float64{got.UtilizationPercent, got.MediaPercent}); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				details, err := r.Details(t.Context(), alchemist)
				if err != nil {
					t.Fatal(err)
				}
				if got := details.Absent["utilization_percent"]; got != c.absent || details.Absent["media_percent"] != c.absent {
					t.Errorf("absent: got %v", details.Absent)
				}
			})
		})
	}
}

// Looks that follow quickly give the last share; a pause that is too long gives none.
func TestLookInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.alchemist()
		m.client("7", "5", "renderD130", i915Client(1, 0, 0))
		r, _ := m.reader()
		read(t, r, alchemist)
		time.Sleep(time.Second)
		m.file("proc/7/fdinfo/5", i915Client(1, 500, 0))
		for range 5 {
			if got := read(t, r, alchemist); got.UtilizationPercent == nil || *got.UtilizationPercent != 50 {
				t.Fatalf("got %+v", got)
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		if got := read(t, r, alchemist); got.UtilizationPercent != nil {
			t.Errorf("after a minute: %v %%", *got.UtilizationPercent)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		time.Sleep(10 * time.Second)
		if got, err := r.Read(ctx, alchemist); err != nil || got.UtilizationPercent != nil || got.CoreClockMHz == nil {
			t.Errorf("no time for processes: %+v, %v", got, err)
		}
		if details, err := r.Details(t.Context(), alchemist); err != nil || details.Absent["utilization_percent"] != gpu.AbsentTimedOut {
			t.Errorf("got %+v, %v", details, err)
		}
		if _, err := r.Details(ctx, alchemist); err == nil {
			time.Sleep(walkEvery)
			if _, err = r.Details(ctx, alchemist); err == nil {
				t.Error("details without time: no error")
			}
		}
	})
}

func TestDetails(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.battlemage()
	m.integrated()
	m.client("20", "5", "renderD129", xeClient(1, 5, 0, 100))
	m.client("20", "6", "renderD129", xeClient(2, 0, 5, 100))
	m.link("proc/20/fd/7", "/dev/dri/card1")
	m.file("proc/20/fdinfo/7", xeClient(2, 0, 5, 100)) // the same client once more
	m.client("30", "5", "renderD129", xeClient(3, 0, 9, 100))
	m.client("40", "5", "renderD129", "drm-driver:\txe\ndrm-client-id:\t4\n")
	m.client("50", "5", "renderD128", "drm-driver:\ti915\ndrm-client-id:\t9\ndrm-resident-system0:\t5 KiB\ndrm-resident-stolen-system0:\t1 KiB\n")
	r, _ := m.reader()
	got, err := r.Details(context.Background(), battlemage)
	if err != nil {
		t.Fatal(err)
	}
	want := []gpu.Process{{PID: 20, MemoryBytes: ptr[uint64](4 << 20)}, {PID: 30, MemoryBytes: ptr[uint64](2 << 20), Type: gpu.ProcessCompute}, {PID: 40}}
	if diff := cmp.Diff(want, got.Processes); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
	if got.EnergyJoules == nil || *got.EnergyJoules != 1000 || got.ProcessesHidden != "" || got.Time.IsZero() || len(got.Absent) != 0 {
		t.Errorf("got %+v", got)
	}
	got, err = r.Details(context.Background(), integrated)
	if diff := cmp.Diff([]gpu.Process{{PID: 50, MemoryBytes: ptr[uint64](5 << 10)}}, got.Processes); diff != "" || err != nil || got.EnergyJoules != nil {
		t.Errorf("integrated: %v, %+v (-want +got):\n%s", err, got, diff)
	}
	for _, id := range []string{"", "pci-0000:99:00.0"} {
		if _, err := r.Details(context.Background(), id); err == nil {
			t.Errorf("%q: no error", id)
		}
	}
}

func TestHiddenProcesses(t *testing.T) {
	t.Parallel()
	for want, set := range map[string]func(m machine, dir string){
		"start it with --pid=host":              func(m machine, _ string) { m.link("proc/self/ns/pid", "pid:[4026532000]") },
		"sudo mount -o remount,hidepid=0 /proc": func(m machine, _ string) { m.remove("proc/1"); m.file("proc/6/comm", "self\n") },
		"and their processes are theirs alone":  func(m machine, dir string) { m.file(dir+"/sriov_numvfs", "1\n") },
		"give muster the capability CAP_SYS_PTRACE": func(m machine, _ string) {
			if err := os.MkdirAll(m.path("proc/1/fd"), 0); err != nil {
				m.t.Fatal(err)
			}
		},
	} {
		m := newMachine(t)
		set(m, m.battlemage())
		if want == "give muster the capability CAP_SYS_PTRACE" && os.Geteuid() == 0 {
			continue // nothing is hidden from root
		}
		r, _ := m.reader()
		got, err := r.Details(context.Background(), battlemage)
		if err != nil || len(got.ProcessesHidden) < len(want) || got.ProcessesHidden[len(got.ProcessesHidden)-len(want):] != want {
			t.Errorf("got %q, %v, want %q", got.ProcessesHidden, err, want)
		}
	}
}
