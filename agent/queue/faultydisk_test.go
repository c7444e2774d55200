package queue

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// A faultyDisk fails one of the calls that SQLite makes into the file system, or all from one on, for the files of one folder.
type faultyDisk struct {
	kind fault

	mu     sync.Mutex
	armed  bool
	at     int // the call that fails first, from 1
	calls  int // since it was armed
	failed int
}

// fault says what each call answers when it fails; 0 lets that call through.
type fault struct {
	name                                              string
	open, remove, read, write, truncate, sync, shared int32
	short                                             bool // half of a write is made before it fails
	late                                              bool // a sync is made before it fails
	lasts                                             bool // every later call fails too, until the disk is well again
}

var everyFault = []fault{
	{name: "EIO once", open: sqlite3.SQLITE_CANTOPEN, remove: sqlite3.SQLITE_IOERR_DELETE, read: sqlite3.SQLITE_IOERR_READ,
		write: sqlite3.SQLITE_IOERR_WRITE, truncate: sqlite3.SQLITE_IOERR_TRUNCATE, sync: sqlite3.SQLITE_IOERR_FSYNC, shared: sqlite3.SQLITE_IOERR_SHMMAP},
	{name: "EIO for a while", lasts: true, open: sqlite3.SQLITE_CANTOPEN, remove: sqlite3.SQLITE_IOERR_DELETE, read: sqlite3.SQLITE_IOERR_READ,
		write: sqlite3.SQLITE_IOERR_WRITE, truncate: sqlite3.SQLITE_IOERR_TRUNCATE, sync: sqlite3.SQLITE_IOERR_FSYNC, shared: sqlite3.SQLITE_IOERR_SHMMAP},
	{name: "EIO of half a write", short: true, write: sqlite3.SQLITE_IOERR_WRITE},
	{name: "EIO of a sync that was made", late: true, sync: sqlite3.SQLITE_IOERR_FSYNC},
	{name: "ENOSPC for a while", lasts: true, short: true, write: sqlite3.SQLITE_FULL, shared: sqlite3.SQLITE_IOERR_SHMSIZE},
	{name: "EROFS for a while", lasts: true, open: sqlite3.SQLITE_CANTOPEN, remove: sqlite3.SQLITE_IOERR_DELETE,
		write: sqlite3.SQLITE_IOERR_WRITE, truncate: sqlite3.SQLITE_IOERR_TRUNCATE},
}

// arm lets the n-th call from now on fail.
func (d *faultyDisk) arm(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed, d.at, d.calls, d.failed = true, n, 0, 0
}

// mend ends the fault and gives how many calls failed.
func (d *faultyDisk) mend() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed = false
	return d.failed
}

// next gives what this call answers; 0 when it works.
func (d *faultyDisk) next(answer int32) int32 {
	if d == nil || answer == 0 {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.calls++; !d.armed || d.calls < d.at || d.calls > d.at && !d.kind.lasts {
		return 0
	}
	d.failed++
	return answer
}

// newFaultyDisk stands between SQLite and dir until the test ends.
func newFaultyDisk(t *testing.T, dir string, kind fault) *faultyDisk {
	t.Helper()
	shim.register(t)
	d := &faultyDisk{kind: kind}
	shim.mu.Lock()
	defer shim.mu.Unlock()
	shim.folders[dir] = d
	t.Cleanup(func() {
		shim.mu.Lock()
		defer shim.mu.Unlock()
		delete(shim.folders, dir)
	})
	return d
}

// shim is SQLite's default file system in this process; of folders without a faultyDisk it does nothing but pass on. It writes
// C structures from Go as modernc.org/sqlite/vfs does: a C function pointer is a Go func value there.
var shim = vfs{folders: map[string]*faultyDisk{}, files: map[uintptr]*openFile{}, tables: map[uintptr]uintptr{}}

type vfs struct {
	once  sync.Once
	funcs []any                // that C structures point to
	base  sqlite3.Tsqlite3_vfs // as it was

	mu      sync.Mutex
	folders map[string]*faultyDisk
	files   map[uintptr]*openFile // by sqlite3_file
	tables  map[uintptr]uintptr   // sqlite3_io_methods of ours, by the table that they wrap
}

type openFile struct {
	disk    *faultyDisk // nil without faults
	methods *sqlite3.Tsqlite3_io_methods
}

// at gives the C structure at an address.
func at[T any](address uintptr) *T { return *(**T)(unsafe.Pointer(&address)) }

// inC copies a structure into memory of C, where SQLite may do arithmetic on its address.
func inC[T any](tls *libc.TLS, value T) (address uintptr, copied *T) {
	address = libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(value)))
	copied = at[T](address)
	*copied = value
	return address, copied
}

// asFunc gives the Go func in a C function pointer.
func asFunc[F any](pointer *uintptr) F { return *(*F)(unsafe.Pointer(pointer)) }

// set makes a C function pointer of a Go func, and keeps it from the garbage collector, which does not look there.
func set[F any](v *vfs, pointer *uintptr, f F) {
	*(*F)(unsafe.Pointer(pointer)) = f
	v.funcs = append(v.funcs, f)
}

type (
	openFunc   = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, out uintptr) int32
	deleteFunc = func(tls *libc.TLS, vfs, name uintptr, sync int32) int32
	closeFunc  = func(tls *libc.TLS, file uintptr) int32
	rwFunc     = func(tls *libc.TLS, file, buffer uintptr, n int32, offset int64) int32
	sizeFunc   = func(tls *libc.TLS, file uintptr, size int64) int32
	syncFunc   = func(tls *libc.TLS, file uintptr, flags int32) int32
	mapFunc    = func(tls *libc.TLS, file uintptr, page, size, extend int32, out uintptr) int32
)

func (v *vfs) register(t *testing.T) {
	t.Helper()
	v.once.Do(func() {
		tls := libc.NewTLS()
		v.base = *at[sqlite3.Tsqlite3_vfs](sqlite3.Xsqlite3_vfs_find(tls, 0))
		name, err := libc.CString("faulty")
		check(t, err)
		address, own := inC(tls, v.base)
		own.FzName, own.FpNext = name, 0
		set[openFunc](v, &own.FxOpen, v.open)
		set[deleteFunc](v, &own.FxDelete, v.delete)
		if code := sqlite3.Xsqlite3_vfs_register(tls, address, 1); code != sqlite3.SQLITE_OK {
			t.Fatalf("register the file system: %d", code)
		}
	})
}

func (v *vfs) disk(path string) *faultyDisk {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.folders[filepath.Dir(path)]
}

func (v *vfs) file(file uintptr) *openFile {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.files[file]
}

func (v *vfs) open(tls *libc.TLS, self, name, file uintptr, flags int32, out uintptr) int32 {
	var disk *faultyDisk
	if name != 0 {
		disk = v.disk(strings.Clone(libc.GoString(name)))
	}
	if disk != nil {
		if code := disk.next(disk.kind.open); code != 0 {
			at[sqlite3.Tsqlite3_file](file).FpMethods = 0 // nothing to close
			return code
		}
	}
	code := asFunc[openFunc](&v.base.FxOpen)(tls, self, name, file, flags, out)
	f := at[sqlite3.Tsqlite3_file](file)
	if code != sqlite3.SQLITE_OK || f.FpMethods == 0 {
		return code
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.files[file] = &openFile{disk, at[sqlite3.Tsqlite3_io_methods](f.FpMethods)}
	f.FpMethods = v.wrap(tls, f.FpMethods)
	return code
}

// wrap is called with mu held.
func (v *vfs) wrap(tls *libc.TLS, methods uintptr) uintptr {
	if known, ok := v.tables[methods]; ok {
		return known
	}
	address, table := inC(tls, *at[sqlite3.Tsqlite3_io_methods](methods))
	set(v, &table.FxClose, func(tls *libc.TLS, file uintptr) int32 {
		f := v.file(file)
		v.mu.Lock()
		delete(v.files, file)
		v.mu.Unlock()
		return asFunc[closeFunc](&f.methods.FxClose)(tls, file)
	})
	set(v, &table.FxRead, func(tls *libc.TLS, file, buffer uintptr, n int32, offset int64) int32 {
		f := v.file(file)
		if code := f.fails(func(k fault) int32 { return k.read }); code != 0 {
			return code
		}
		return asFunc[rwFunc](&f.methods.FxRead)(tls, file, buffer, n, offset)
	})
	set(v, &table.FxWrite, func(tls *libc.TLS, file, buffer uintptr, n int32, offset int64) int32 {
		f := v.file(file)
		write := asFunc[rwFunc](&f.methods.FxWrite)
		if code := f.fails(func(k fault) int32 { return k.write }); code != 0 {
			if f.disk.kind.short {
				write(tls, file, buffer, n/2, offset)
			}
			return code
		}
		return write(tls, file, buffer, n, offset)
	})
	set(v, &table.FxTruncate, func(tls *libc.TLS, file uintptr, size int64) int32 {
		f := v.file(file)
		if code := f.fails(func(k fault) int32 { return k.truncate }); code != 0 {
			return code
		}
		return asFunc[sizeFunc](&f.methods.FxTruncate)(tls, file, size)
	})
	set(v, &table.FxSync, func(tls *libc.TLS, file uintptr, flags int32) int32 {
		f := v.file(file)
		sync := asFunc[syncFunc](&f.methods.FxSync)
		if code := f.fails(func(k fault) int32 { return k.sync }); code != 0 {
			if f.disk.kind.late {
				sync(tls, file, flags)
			}
			return code
		}
		return sync(tls, file, flags)
	})
	set(v, &table.FxShmMap, func(tls *libc.TLS, file uintptr, page, size, extend int32, out uintptr) int32 {
		f := v.file(file)
		if code := f.fails(func(k fault) int32 { return k.shared }); code != 0 {
			*at[uintptr](out) = 0
			return code
		}
		return asFunc[mapFunc](&f.methods.FxShmMap)(tls, file, page, size, extend, out)
	})
	v.tables[methods] = address
	return address
}

func (f *openFile) fails(answer func(fault) int32) int32 {
	if f.disk == nil {
		return 0
	}
	return f.disk.next(answer(f.disk.kind))
}

func (v *vfs) delete(tls *libc.TLS, self, name uintptr, sync int32) int32 {
	if disk := v.disk(strings.Clone(libc.GoString(name))); disk != nil {
		if code := disk.next(disk.kind.remove); code != 0 {
			return code
		}
	}
	return asFunc[deleteFunc](&v.base.FxDelete)(tls, self, name, sync)
}
