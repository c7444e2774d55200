package intel

import (
	"context"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/telemetry"
)

// What doctor is told names the device, what it costs and what mends it.
func TestExamine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			id    string
			query error
			used  bool
			set   func(m machine, dir string)
			want  []string // a part of each finding's text and of its mend, "text | mend"
		}{
			"all well":         {id: battlemage, used: true, want: []string{"read through the driver xe (in-tree 6.17.0) | "}},
			"integrated":       {id: integrated, used: true, want: []string{"read through the driver i915 | "}},
			"asleep":           {id: battlemage, set: func(m machine, dir string) { m.file(dir+"/power/runtime_status", "suspended\n") }, want: []string{"asleep | "}},
			"not in the group": {id: battlemage, query: &fs.PathError{Err: syscall.EACCES}, want: []string{"xe | ", "may not open /dev/dri/renderD129 | sudo usermod -aG render,video"}},
			"in a container":   {id: battlemage, query: &fs.PathError{Err: syscall.ENOENT}, want: []string{"xe | ", "/dev/dri/renderD129 is not there | --device /dev/dri"}},
			"not privileged":   {id: battlemage, want: []string{"xe | ", "only to processes with CAP_PERFMON | setcap cap_perfmon"}},
			"old kernel": {id: battlemage, used: true, set: func(m machine, dir string) { m.remove(dir + "/hwmon") },
				want: []string{"xe | ", "no sensors | Linux 6.8 or newer"}},
			"no temperature": {id: alchemist, used: true, set: func(m machine, _ string) {
				m.remove("sys/devices/pci0000:00/0000:00:06.0/0000:08:00.0/0000:09:01.0/0000:0a:00.0/hwmon/hwmon9/temp1_input")
			}, want: []string{"i915 | ", "no temperature | Linux 6.12 or newer"}},
			"engines not told": {id: battlemage, used: true, set: func(m machine, _ string) { m.client("7", "5", "renderD129", "drm-driver:\txe\n") },
				want: []string{"xe | ", "doesn't tell | Linux 6.11 or newer"}},
			"others hidden": {id: battlemage, used: true, set: func(m machine, _ string) { m.link("proc/self/ns/pid", "pid:[1]") },
				want: []string{"xe | ", "other users can't be seen | cap_sys_ptrace"}},
		} {
			m := newMachine(t)
			dir := m.battlemage()
			m.alchemist()
			m.integrated()
			if c.set != nil {
				c.set(m, dir)
			}
			r := New(m.root)
			r.query = func(string, string) (memory, error) {
				return memory{total: 1 << 33, used: 1 << 20, counted: c.used, shared: 1 << 33}, c.query
			}
			m.inventory(r)
			r.Read(t.Context(), c.id)
			time.Sleep(time.Second)
			r.Read(t.Context(), c.id)
			findings := slices.DeleteFunc(r.Examine(t.Context()), func(f telemetry.Finding) bool {
				return !strings.HasSuffix(f.Subject, strings.TrimPrefix(c.id, "pci-"))
			})
			if len(findings) != len(c.want) {
				t.Errorf("%s: got %+v", name, findings)
				continue
			}
			for i, f := range findings {
				text, mend, _ := strings.Cut(c.want[i], " | ")
				if !strings.Contains(f.Text, text) || !strings.Contains(f.Mend, mend) || (f.Level == telemetry.LevelOK) != (f.Mend == "" && f.Costs == "") {
					t.Errorf("%s: got %+v, want %q", name, f, c.want[i])
				}
			}
		}
	})
}

// A context that is done ends what has steps.
func TestDoneContext(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.battlemage()
	r, _ := m.reader()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Inventory(ctx); err == nil {
		t.Error("inventory: no error")
	}
	if findings := r.Examine(ctx); len(findings) > 0 {
		t.Errorf("examine: %v", findings)
	}
	if len(r.known()) != 1 {
		t.Error("a late inventory took the devices away")
	}
	if _, err := New("/does/not/exist").Inventory(context.Background()); err == nil {
		t.Error("no root: no error")
	}
}
