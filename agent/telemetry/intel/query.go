package intel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// memory is what a driver says of the memory that a device uses, in bytes.
type memory struct {
	total, used   uint64 // its own; total is 0 for an integrated GPU
	shared        uint64 // main memory that it can address; 0 when not told
	counted       bool   // used is told: only to processes with CAP_PERFMON
	sharedUsed    uint64
	sharedCounted bool
}

// layout is how a driver writes its list of memory regions: num_regions, then after header bytes the regions, of 88 bytes each.
// Of a region the first 16 bits are its class, 0 for main memory and 1 for the device's own; bytes 8 to 15 are its size.
type layout struct {
	request uintptr // of ioctl(2)
	header  int
	// used gives the bytes in use of a region's size and of bytes 16 to 23; false when they are not told.
	used func(size, last uint64) (uint64, bool)
}

const regionBytes = 88

// layouts are from the kernel's headers i915_drm.h (drm_i915_query_memory_regions) and xe_drm.h (drm_xe_query_mem_regions). To
// a process without CAP_PERFMON i915 says that all is free, and xe that nothing is used; neither is ever so.
var layouts = map[string]layout{
	"i915": {0xc0106479, 16, func(size, free uint64) (uint64, bool) { return size - free, free < size }},
	"xe":   {0xc0286440, 8, func(size, used uint64) (uint64, bool) { return used, used > 0 && used <= size }},
}

// parseRegions reads a driver's list of memory regions.
func parseRegions(driver string, b []byte) (memory, error) {
	l, ok := layouts[driver]
	if !ok || len(b) < l.header {
		return memory{}, fmt.Errorf("memory regions of driver %q: %d bytes", driver, len(b))
	}
	count := binary.NativeEndian.Uint32(b)
	b = b[l.header:]
	if uint64(count)*regionBytes > uint64(len(b)) {
		return memory{}, fmt.Errorf("memory regions: %d in %d bytes", count, len(b))
	}
	m := memory{counted: true, sharedCounted: true}
	for region := range count {
		b := b[region*regionBytes:]
		class, size := binary.NativeEndian.Uint16(b), binary.NativeEndian.Uint64(b[8:])
		used, told := l.used(size, binary.NativeEndian.Uint64(b[16:]))
		switch {
		case size > maxMemory:
			return memory{}, fmt.Errorf("memory regions: one of %d bytes", size)
		case class == 0:
			m.shared, m.sharedUsed, m.sharedCounted = m.shared+size, m.sharedUsed+used, m.sharedCounted && told
		case class == 1:
			m.total, m.used, m.counted = m.total+size, m.used+used, m.counted && told
		}
	}
	m.counted, m.sharedCounted = m.counted && m.total > 0, m.sharedCounted && m.shared > 0
	return m, nil
}

// driMajor is the major number of every DRM device (the kernel's Documentation/admin-guide/devices.txt).
const driMajor = 226

// queryNode asks the driver behind a render node for its memory regions. It waits for no firmware, but opening a node of a
// sleeping device would wake it. The error wraps fs.ErrPermission where this user is not in the node's group, and fs.ErrNotExist
// where a container wasn't given the node.
func queryNode(path, driver string) (memory, error) {
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return memory{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer syscall.Close(fd)
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return memory{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFCHR || stat.Rdev>>8&0xfff != driMajor {
		return memory{}, fmt.Errorf("open %s: not a render node", path)
	}
	answer, err := regionsOf(driver, func(request uintptr, arg unsafe.Pointer) error { return ioctl(fd, request, arg) })
	if err != nil {
		return memory{}, fmt.Errorf("memory regions of %s: %w", path, err)
	}
	return parseRegions(driver, answer)
}

// regionsOf makes the driver's request twice: for the length of the answer, and for the answer.
func regionsOf(driver string, ioctl func(request uintptr, arg unsafe.Pointer) error) ([]byte, error) {
	ask := map[string]func(uintptr, func(uintptr, unsafe.Pointer) error, []byte) (int, error){"i915": askI915, "xe": askXe}[driver]
	if ask == nil {
		return nil, fmt.Errorf("unknown driver %q", driver)
	}
	length, err := ask(layouts[driver].request, ioctl, nil)
	if err != nil {
		return nil, err
	}
	if length <= 0 || length > 1<<16 {
		return nil, fmt.Errorf("an answer of %d bytes", length)
	}
	answer := make([]byte, length)
	_, err = ask(layouts[driver].request, ioctl, answer)
	return answer, err
}

// askI915 fills answer, or gives its length when there is none: struct drm_i915_query with one drm_i915_query_item.
func askI915(request uintptr, ioctl func(uintptr, unsafe.Pointer) error, answer []byte) (int, error) {
	const regions = 4 // DRM_I915_QUERY_MEMORY_REGIONS
	type item struct {
		id     uint64
		length int32 // in the answer a negative errno
		flags  uint32
		data   uint64
	}
	type query struct {
		count, flags uint32
		items        uint64
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	i := &item{id: regions, length: int32(len(answer)), data: address(&pin, answer)}
	pin.Pin(i)
	q := &query{count: 1, items: uint64(uintptr(unsafe.Pointer(i)))}
	pin.Pin(q)
	if err := ioctl(request, unsafe.Pointer(q)); err != nil {
		return 0, err
	}
	if i.length < 0 {
		return 0, syscall.Errno(-i.length)
	}
	return int(i.length), nil
}

// askXe fills answer, or gives its length when there is none: struct drm_xe_device_query.
func askXe(request uintptr, ioctl func(uintptr, unsafe.Pointer) error, answer []byte) (int, error) {
	const regions = 1 // DRM_XE_DEVICE_QUERY_MEM_REGIONS
	type query struct {
		extensions  uint64
		query, size uint32
		data        uint64
		reserved    [2]uint64
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	q := &query{query: regions, size: uint32(len(answer)), data: address(&pin, answer)}
	pin.Pin(q)
	err := ioctl(request, unsafe.Pointer(q))
	return int(q.size), err
}

// address gives where the bytes are, and keeps them there until pin is let go; 0 for none.
func address(pin *runtime.Pinner, b []byte) uint64 {
	if len(b) == 0 {
		return 0
	}
	pin.Pin(&b[0])
	return uint64(uintptr(unsafe.Pointer(&b[0])))
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
		switch {
		case errno == 0:
			return nil
		case !errors.Is(errno, syscall.EINTR):
			return errno
		}
	}
}
