package history

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// A ring's file begins with a header of headerSize bytes, little-endian: magic, version u32, step in seconds u32, rows u32, size of
// a row u32, SHA-256 of the device's ID, the length u32 of what follows of the ID, that, and a CRC-32C at its end. The row of a slot
// stands at position slot modulo rows.
const (
	headerSize    = 512
	headerSumAt   = headerSize - 4
	headerVersion = 1
	mostIDBytes   = 256 // of the ID, for people; the hash stands for it
)

var magic = [8]byte{'m', 'u', 's', 't', 'e', 'r', 0, 'h'}

// file is what a ring needs of an open file.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	Sync() error
}

// ring is the file of one device and tier.
type ring struct {
	file  file
	tier  tier
	seed  uint32 // of the sums of its rows: a row of another device or tier never passes
	dirty bool   // written since the last sync
	used  time.Time
}

func header(id string, t tier) []byte {
	b := make([]byte, headerSize)
	copy(b, magic[:])
	for i, v := range []int{headerVersion, int(t.step / time.Second), t.rows, rowSize} {
		binary.LittleEndian.PutUint32(b[8+4*i:], uint32(v))
	}
	sum := sha256.Sum256([]byte(id))
	copy(b[24:], sum[:])
	shown := id[:min(len(id), mostIDBytes)]
	binary.LittleEndian.PutUint32(b[56:], uint32(len(shown)))
	copy(b[60:], shown)
	binary.LittleEndian.PutUint32(b[headerSumAt:], crc32.Checksum(b[:headerSumAt], castagnoli))
	return b
}

// errForeign says that a file is no ring of that device and tier in this version's format.
var errForeign = errors.New("the file is damaged, of another version, or of another device")

// openRing opens the ring of a device. Without create a missing file is fs.ErrNotExist. repaired says that the file was not what
// it should be, and was made anew, empty.
func openRing(open opener, path, id string, t tier, create bool) (_ *ring, repaired error, err error) {
	flags := os.O_RDWR | syscall.O_NOFOLLOW
	if create {
		flags |= os.O_CREATE
	}
	f, err := open(path, flags, 0o600)
	if err != nil {
		return nil, nil, err
	}
	want := header(id, t)
	r := &ring{file: f, tier: t, seed: crc32.Checksum(want[:60], castagnoli), used: time.Now()}
	fresh, err := r.check(want)
	if err == nil && fresh {
		err = r.make(want)
	} else if errors.Is(err, errForeign) {
		repaired, err = err, r.make(want)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return r, repaired, nil
}

func (r *ring) size() int64 { return headerSize + int64(r.tier.rows)*rowSize }

// check compares the file with what it should be. fresh says that it is empty.
func (r *ring) check(want []byte) (fresh bool, err error) {
	info, err := r.file.Stat()
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, errors.New("not a regular file: remove it")
	}
	if info.Size() == 0 {
		return true, nil
	}
	got := make([]byte, headerSize)
	if _, err := r.file.ReadAt(got, 0); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	if !bytes.Equal(got, want) || info.Size() != r.size() {
		return false, errForeign
	}
	return false, nil
}

// make writes an empty ring. The header comes last: a file without it is made anew.
func (r *ring) make(header []byte) error {
	if err := r.file.Truncate(0); err != nil {
		return err
	}
	if err := r.file.Truncate(r.size()); err != nil { // it takes no room before it is written
		return err
	}
	r.dirty = true
	if _, err := r.file.WriteAt(header, 0); err != nil {
		return errors.Join(err, r.file.Truncate(0)) // what was never begun should not look like damage
	}
	return nil
}

func (r *ring) at(slot int64) int64 {
	rows := int64(r.tier.rows)
	return headerSize + (slot%rows+rows)%rows*rowSize
}

// write puts a row into its place. Where a row of the same slot stands (the agent was started again within it, or the clock set
// back), both count.
func (r *ring) write(new row) error {
	var b [rowSize]byte
	if n, err := r.file.ReadAt(b[:], r.at(new.slot)); err != nil && !errors.Is(err, io.EOF) {
		return err
	} else if old, ok := decodeRow(b[:n], new.slot, r.seed); ok {
		old.merge(new)
		new = old
	}
	new.encode(b[:], r.seed)
	if _, err := r.file.WriteAt(b[:], r.at(new.slot)); err != nil {
		return err
	}
	r.dirty = true
	return nil
}

// chunkRows is how many rows are read at once: 64 KB.
const chunkRows = 680

// read gives the bytes of each whole row from slot first to before end to f. buffer has room for chunkRows.
func (r *ring) read(first, end int64, buffer []byte, f func(slot int64, b []byte)) error {
	rows := int64(r.tier.rows)
	first = max(first, end-rows)
	for first < end {
		untilWrap := rows - (first%rows+rows)%rows
		n := min(end-first, untilWrap, chunkRows)
		got, err := r.file.ReadAt(buffer[:n*rowSize], r.at(first))
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for i := range int64(got / rowSize) {
			if b := buffer[i*rowSize : (i+1)*rowSize]; holds(b, first+i, r.seed) {
				f(first+i, b)
			}
		}
		first += n
	}
	return nil
}

// sync brings what was written to the disk itself.
func (r *ring) sync() error {
	if !r.dirty {
		return nil
	}
	if err := r.file.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	r.dirty = false
	return nil
}
