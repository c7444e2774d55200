package intel

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// What stands in the place of a file costs that file's value and no other.
func TestFaultyFiles(t *testing.T) { // traps 25, 38, 42
	t.Parallel()
	files := map[string]func(gpu.Reading) bool{ // by file: whether the reading has its value
		"hwmon/hwmon5/temp2_input":        func(r gpu.Reading) bool { return len(r.Temperatures) == 2 },
		"hwmon/hwmon5/power1_max":         func(r gpu.Reading) bool { return r.PowerLimitWatts != nil },
		"hwmon/hwmon5/fan2_input":         func(r gpu.Reading) bool { return r.FanRPM != nil && *r.FanRPM == 1210 },
		"tile0/gt0/freq0/act_freq":        func(r gpu.Reading) bool { return r.CoreClockMHz != nil },
		"tile0/gt0/freq0/throttle/status": func(r gpu.Reading) bool { return r.Throttle != nil },
	}
	contents := map[string]string{
		"empty": "", "text": "none\n", "NUL": "\x00\x00\x00\x00", "megabyte": strings.Repeat("7", 1<<20), "too large": "99999999999999999\n",
		"negative": "-270001\n", "overflow": "18446744073709551616\n", "fraction": "1.5\n",
	}
	errs := map[string]error{"EPERM": syscall.EPERM, "EACCES": syscall.EACCES, "EBUSY": syscall.EBUSY, "EINVAL": syscall.EINVAL, "EIO": syscall.EIO,
		"ENODEV": syscall.ENODEV, "ENOENT": syscall.ENOENT, "EAGAIN": syscall.EAGAIN}
	check := func(t *testing.T, r *Reader, broken, how string) {
		t.Helper()
		reading := read(t, r, battlemage)
		for file, has := range files {
			if has(reading) == (file == broken) {
				t.Errorf("%s with %s: %s: %+v", broken, how, file, reading)
			}
		}
	}
	for file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			arc := m.battlemage()
			j := &journal{}
			r := New(m.root)
			r.read = j.ReadFile
			m.inventory(r)
			path := m.path(arc + "/" + file)
			for name, err := range errs {
				j.fault = func(p string) error {
					if p == path {
						return err
					}
					return nil
				}
				check(t, r, file, name)
			}
			j.fault = nil
			for name, content := range contents {
				m.file(arc+"/"+file, content)
				check(t, r, file, name)
			}
			m.remove(arc + "/" + file)
			check(t, r, file, "nothing")
			if err := syscall.Mkfifo(path, 0o644); err != nil {
				t.Fatal(err)
			}
			check(t, r, file, "FIFO")
			m.remove(arc + "/" + file)
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
			check(t, r, file, "folder")
		})
	}
}

// NUL padding is no fault.
func TestPadding(t *testing.T) { // trap 25
	t.Parallel()
	m := newMachine(t)
	arc := m.battlemage()
	m.file(arc+"/tile0/gt0/freq0/act_freq", "1234\n"+strings.Repeat("\x00", 4091))
	m.file(arc+"/hwmon/hwmon5/name", "xe\n\x00\x00")
	r, _ := m.reader()
	if got := read(t, r, battlemage); *got.CoreClockMHz != 1234 || len(got.Temperatures) != 2 {
		t.Errorf("got %+v", got)
	}
}

// When nothing can be read, the error says why.
func TestSilence(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault  error
		unplug func(m machine, arc string)
		want   error
	}{
		"gone while read": {fault: syscall.ENODEV, want: telemetry.ErrLost},
		"off the bus":     {fault: syscall.ENXIO, want: telemetry.ErrLost},
		"no permission":   {fault: syscall.EACCES, want: telemetry.ErrNoPermission},
		"refused":         {fault: syscall.EPERM, want: telemetry.ErrNoPermission},
		"wedged":          {fault: syscall.EIO, want: telemetry.ErrUnsupported},
		"pulled out":      {unplug: func(m machine, arc string) { m.remove(arc) }, want: telemetry.ErrLost},
		"driver unbound": {unplug: func(m machine, arc string) {
			for _, name := range []string{"driver", "hwmon", "tile0", "drm"} {
				m.remove(arc + "/" + name)
			}
			m.remove("sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/current_link_speed")
			m.remove("sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/current_link_width")
		}, want: telemetry.ErrNoDriver},
	} {
		m := newMachine(t)
		arc := m.battlemage()
		j := &journal{}
		r := New(m.root)
		r.read = j.ReadFile
		m.inventory(r)
		read(t, r, battlemage)
		if c.unplug != nil {
			c.unplug(m, arc)
		}
		if c.fault != nil {
			j.fault = func(path string) error {
				if filepath.Base(path) == "runtime_status" || strings.Contains(path, "_link_") {
					return nil
				}
				return c.fault
			}
		}
		reading, err := r.Read(context.Background(), battlemage)
		if diff := cmp.Diff(gpu.Reading{}, reading); !errors.Is(err, c.want) || diff != "" {
			t.Errorf("%s: got %v, want %v; reading %s", name, err, c.want, diff)
		}
	}
}
