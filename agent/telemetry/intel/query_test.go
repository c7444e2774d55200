package intel

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"muster/shared/gpu"
)

// region is a memory region as a driver writes it: last is used bytes for xe, free ones for i915.
type region struct {
	class      uint16
	size, last uint64
}

func regions(driver string, list ...region) []byte {
	b := make([]byte, layouts[driver].header)
	binary.NativeEndian.PutUint32(b, uint32(len(list)))
	for _, r := range list {
		one := make([]byte, regionBytes)
		binary.NativeEndian.PutUint16(one, r.class)
		binary.NativeEndian.PutUint16(one[2:], 7)
		binary.NativeEndian.PutUint64(one[8:], r.size)
		binary.NativeEndian.PutUint64(one[16:], r.last)
		b = append(b, one...)
	}
	return b
}

const mib = 1 << 20

func TestParseRegions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		driver string
		b      []byte
		want   memory
		fails  bool
	}{
		"xe card":                  {"xe", regions("xe", region{0, 900 * mib, 3 * mib}, region{1, 12000 * mib, 500 * mib}), memory{12000 * mib, 500 * mib, 900 * mib, true, 3 * mib, true}, false},
		"xe card of two tiles":     {"xe", regions("xe", region{1, 100, 5}, region{1, 200, 6}), memory{total: 300, used: 11, counted: true}, false},
		"xe without CAP_PERFMON":   {"xe", regions("xe", region{0, 900, 3}, region{1, 12000, 0}), memory{total: 12000, shared: 900, sharedUsed: 3, sharedCounted: true}, false},
		"xe used beyond the size":  {"xe", regions("xe", region{1, 100, 101}), memory{total: 100, used: 101}, false},
		"i915 card":                {"i915", regions("i915", region{0, 900, 900}, region{1, 12000, 11000}), memory{total: 12000, used: 1000, counted: true, shared: 900}, false},
		"i915 without CAP_PERFMON": {"i915", regions("i915", region{1, 12000, 12000}), memory{total: 12000}, false},
		"i915 that does not know":  {"i915", regions("i915", region{1, 12000, 1<<64 - 1}), memory{total: 12000, used: 12001}, false},
		"integrated":               {"xe", regions("xe", region{0, 900, 3}), memory{shared: 900, sharedUsed: 3, sharedCounted: true}, false},
		"other classes":            {"xe", regions("xe", region{2, 900, 3}, region{0xffff, 1, 1}), memory{}, false},
		"none":                     {"xe", regions("xe"), memory{}, false},
		"too large":                {"xe", regions("xe", region{1, 1 << 51, 1}), memory{}, true},
		"more than there is":       {"xe", regions("xe", region{1, 100, 1})[:90], memory{}, true},
		"very many":                {"i915", append([]byte{255, 255, 255, 255}, make([]byte, 200)...), memory{}, true},
		"nothing":                  {"i915", nil, memory{}, true},
		"another driver":           {"nouveau", make([]byte, 100), memory{}, true},
	} {
		got, err := parseRegions(c.driver, c.b)
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(memory{})); diff != "" || (err != nil) != c.fails {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
}

func FuzzParseRegions(f *testing.F) {
	for driver := range layouts {
		f.Add(driver, regions(driver, region{0, 900, 3}, region{1, 12000, 500}))
		f.Add(driver, []byte{1, 0, 0, 0})
	}
	f.Fuzz(func(t *testing.T, driver string, b []byte) {
		m, err := parseRegions(driver, b)
		if err != nil && m != (memory{}) {
			t.Errorf("an error and %+v", m)
		}
		if m.counted && (m.used == 0 || m.used > m.total) || m.sharedCounted && m.sharedUsed > m.shared {
			t.Errorf("got %+v", m)
		}
	})
}

// The requests are what the kernel's headers say, and the answer is what it wrote.
func TestRegionsOf(t *testing.T) {
	t.Parallel()
	answer := regions("i915", region{1, 12000, 11000})
	i915 := func(_ uintptr, arg unsafe.Pointer) error {
		q := (*struct {
			count, flags uint32
			items        unsafe.Pointer
		})(arg)
		item := (*struct {
			id     uint64
			length int32
			flags  uint32
			data   unsafe.Pointer
		})(q.items)
		switch {
		case q.count != 1 || q.flags != 0 || item.id != 4 || item.flags != 0:
			item.length = -int32(syscall.EINVAL)
		case item.length == 0:
			item.length = int32(len(answer))
		default:
			copy(unsafe.Slice((*byte)(item.data), item.length), answer)
		}
		return nil
	}
	xeAnswer := regions("xe", region{1, 12000, 500})
	xe := func(_ uintptr, arg unsafe.Pointer) error {
		q := (*struct {
			extensions  uint64
			query, size uint32
			data        unsafe.Pointer
			reserved    [2]uint64
		})(arg)
		switch {
		case q.extensions != 0 || q.query != 1 || q.reserved != [2]uint64{}:
			return syscall.EINVAL
		case q.size == 0:
			q.size = uint32(len(xeAnswer))
		default:
			copy(unsafe.Slice((*byte)(q.data), q.size), xeAnswer)
		}
		return nil
	}
	constant := func(err error, length int32) func(uintptr, unsafe.Pointer) error {
		return func(_ uintptr, arg unsafe.Pointer) error {
			(*struct {
				extensions  uint64
				query, size uint32
			})(arg).size = uint32(length)
			return err
		}
	}
	for name, c := range map[string]struct {
		driver string
		ioctl  func(uintptr, unsafe.Pointer) error
		want   []byte
		err    error
	}{
		"i915":      {"i915", i915, answer, nil},
		"xe":        {"xe", xe, xeAnswer, nil},
		"wedged":    {"xe", constant(syscall.ECANCELED, 0), nil, syscall.ECANCELED},
		"no length": {"xe", constant(nil, 0), nil, nil},
		"huge":      {"xe", constant(nil, 1<<30), nil, nil},
		"old i915":  {"i915", func(_ uintptr, arg unsafe.Pointer) error { return syscall.EINVAL }, nil, syscall.EINVAL},
		"i915's item": {"i915", func(_ uintptr, arg unsafe.Pointer) error {
			(*(**struct {
				id     uint64
				length int32
			})(unsafe.Add(arg, 8))).length = -int32(syscall.ENODEV)
			return nil
		}, nil, syscall.ENODEV},
		"other": {"nouveau", nil, nil, nil},
	} {
		var requests []uintptr
		got, err := regionsOf(c.driver, func(request uintptr, arg unsafe.Pointer) error {
			requests = append(requests, request)
			return c.ioctl(request, arg)
		})
		if string(got) != string(c.want) || (err == nil) != (c.want != nil) || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: got %d bytes, %v", name, len(got), err)
		}
		for _, request := range requests {
			if request != map[string]uintptr{"i915": 0xc0106479, "xe": 0xc0286440}[c.driver] {
				t.Errorf("%s: request %#x", name, request)
			}
		}
	}
}

func TestQueryNode(t *testing.T) { // trap 42
	t.Parallel()
	dir := t.TempDir()
	fifo, file, link := filepath.Join(dir, "fifo"), filepath.Join(dir, "file"), filepath.Join(dir, "link")
	for name, err := range map[string]error{
		"fifo": syscall.Mkfifo(fifo, 0o600), "file": os.WriteFile(file, nil, 0o600), "link": os.Symlink(file, link),
	} {
		if err != nil {
			t.Fatal(name, err)
		}
	}
	for path, want := range map[string]error{filepath.Join(dir, "none"): fs.ErrNotExist, link: syscall.ELOOP, fifo: nil, file: nil, "/dev/null": nil} {
		m, err := queryNode(path, "xe")
		if err == nil || m != (memory{}) || want != nil && !errors.Is(err, want) || want == nil && !strings.Contains(err.Error(), "not a render node") {
			t.Errorf("%s: got %+v, %v", path, m, err)
		}
	}
}

// What the driver says of memory is in inventory and readings; what it does not say is absent for the right reason.
func TestMemory(t *testing.T) {
	t.Parallel()
	none := map[string]gpu.Absence(nil)
	for name, c := range map[string]struct {
		id          string
		answer      memory
		err         error
		set         func(m machine, dir string)
		total, used *uint64
		shared      [2]*uint64 // total, used
		absent      map[string]gpu.Absence
		source      string
	}{
		"card":                 {id: battlemage, answer: memory{total: 12 << 30, used: 1 << 30, counted: true, shared: 1 << 33, sharedUsed: 5, sharedCounted: true}, total: ptr[uint64](12 << 30), used: ptr[uint64](1 << 30), absent: none, source: "DRM memory regions"},
		"card, not privileged": {id: battlemage, answer: memory{total: 12 << 30}, total: ptr[uint64](12 << 30), absent: map[string]gpu.Absence{"memory_used_bytes": gpu.AbsentNoPermission}, source: "DRM memory regions"},
		"not in the group": {id: battlemage, err: &fs.PathError{Err: syscall.EACCES},
			absent: map[string]gpu.Absence{"memory_bytes": gpu.AbsentNoPermission, "memory_total_bytes": gpu.AbsentNoPermission, "memory_used_bytes": gpu.AbsentNoPermission}},
		"not in the container": {id: battlemage, err: &fs.PathError{Err: syscall.ENOENT},
			absent: map[string]gpu.Absence{"memory_bytes": gpu.AbsentNoPermission, "memory_total_bytes": gpu.AbsentNoPermission, "memory_used_bytes": gpu.AbsentNoPermission}},
		"driver refuses": {id: battlemage, err: syscall.EINVAL, absent: none},
		"Intel's build of i915": {id: alchemist, err: syscall.EINVAL, set: func(m machine, _ string) {
			m.file("sys/devices/pci0000:00/0000:00:06.0/0000:08:00.0/0000:09:01.0/0000:0a:00.0/drm/card2/lmem_total_bytes", "17179869184\n")
		}, total: ptr[uint64](1 << 34), absent: none, source: "lmem_total_bytes"},
		"Intel's build of xe": {id: battlemage, err: &fs.PathError{Err: syscall.EACCES}, set: func(m machine, dir string) {
			m.file(dir+"/tile0/physical_vram_size_bytes", "8589934592\n")
			m.file(dir+"/tile1/physical_vram_size_bytes", "8589934592\n")
		}, total: ptr[uint64](1 << 34), absent: map[string]gpu.Absence{"memory_used_bytes": gpu.AbsentNoPermission}, source: "physical_vram_size_bytes"},
		"integrated":                   {id: integrated, answer: memory{shared: 1 << 33, sharedUsed: 1 << 20, sharedCounted: true}, shared: [2]*uint64{ptr[uint64](1 << 33), ptr[uint64](1 << 20)}, absent: none},
		"integrated, not counted":      {id: integrated, answer: memory{shared: 1 << 33}, shared: [2]*uint64{ptr[uint64](1 << 33), nil}, absent: none},
		"integrated, not in the group": {id: integrated, err: &fs.PathError{Err: syscall.EACCES}, absent: map[string]gpu.Absence{"shared_memory_total_bytes": gpu.AbsentNoPermission, "shared_memory_used_bytes": gpu.AbsentNoPermission}},
	} {
		m := newMachine(t)
		dir := m.battlemage()
		m.alchemist()
		m.integrated()
		if c.set != nil {
			c.set(m, dir)
		}
		r := New(m.root)
		r.query = func(path, driver string) (memory, error) {
			if want := map[string]string{"/dev/dri/renderD129": "xe", "/dev/dri/renderD130": "i915", "/dev/dri/renderD128": "i915"}[path]; driver != want {
				t.Errorf("%s: asks %s for %s", name, path, driver)
			}
			return c.answer, c.err
		}
		d := device(t, m.inventory(r), c.id)
		got := read(t, r, c.id)
		if diff := cmp.Diff([]*uint64{c.total, c.total, c.used, c.shared[0], c.shared[1]},
			[]*uint64{d.MemoryBytes, got.MemoryTotalBytes, got.MemoryUsedBytes, got.SharedMemoryTotalBytes, got.SharedMemoryUsedBytes}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(c.absent, d.Absent); diff != "" || d.Sources["memory_bytes"] != c.source {
			t.Errorf("%s: from %q, absent (-want +got):\n%s", name, d.Sources["memory_bytes"], diff)
		}
		if d.Unified != (c.id == integrated) {
			t.Errorf("%s: unified %v", name, d.Unified)
		}
	}
}
