// Package images keeps finished images on disk under the hash of their bytes: DIR/ab/abcdef….png, the thumbnail beside it.
//
// An image is whole and durable before it has its name: it is written beside the folders, synced, renamed, and the folder is
// synced. Everything goes through os.Root, and names are only ever hashes, so no request reaches a file outside. Pixels are
// decoded for thumbnails only, one image at a time: a PNG of a megabyte can unpack to a gigabyte.
package images

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"muster/agent/imagefile"
)

// What callers branch on.
var (
	ErrNotFound = errors.New("no such image")
	ErrTooLarge = errors.New("the image is too large")
	ErrInvalid  = imagefile.ErrInvalid
	ErrDiskFull = errors.New("the disk is full")
)

// MaxBytes is the size of the largest file that Put takes.
const MaxBytes = 64 << 20

const (
	imageSuffix = ".png"
	thumbSuffix = ".thumb.jpg"
	tmpPrefix   = "tmp-"
	// tmpAge is how old a leftover is before Open removes it; no Put takes that long.
	tmpAge = time.Hour
)

// Store keeps finished images. Its methods may be called from any goroutine.
type Store struct {
	dir    string
	root   *os.Root
	disk   disk          // root, for place
	decode chan struct{} // of size 1: held while pixels are in memory

	durable [256]atomic.Bool // folders, by their name in hex, that this process knows to be on the disk

	// placing is held shared while a name comes to be or is touched, and alone while Sweep takes one away.
	placing sync.RWMutex
}

// Open opens the images in dir, makes the folder when there is none, and removes what a crash left half written there.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the image folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the image folder: %w", err)
	}
	s := &Store{dir: dir, root: root, disk: rootDisk{root}, decode: make(chan struct{}, 1)}
	if err := s.sweepTmp(time.Now().Add(-tmpAge)); err != nil {
		root.Close()
		return nil, err
	}
	return s, nil
}

// Put keeps a PNG file and gives its id, the SHA-256 of its bytes in hex; when it returns, the image is on the disk. The same
// bytes have the same id and are kept once. Pixels are not decoded. Errors: ErrInvalid when it is not a whole PNG file, ErrTooLarge
// above MaxBytes or MaxPixels, ErrDiskFull, the context's; after an error nothing is left behind, or only what Sweep takes.
func (s *Store) Put(ctx context.Context, png []byte) (id string, err error) {
	if err := checkPNG(png); err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	sum := sha256.Sum256(png)
	id = hex.EncodeToString(sum[:])
	if err := s.place(path(id, imageSuffix), png); err != nil {
		return "", fmt.Errorf("keep image: %w", explainDisk(err))
	}
	return id, nil
}

// Open gives the PNG file for reading; the caller closes it. ErrNotFound for an id that is unknown or is none.
func (s *Store) Open(id string) (*os.File, error) {
	if !isID(id) {
		return nil, fmt.Errorf("image %q: %w", shorten(id), ErrNotFound)
	}
	name := path(id, imageSuffix)
	// A pipe or device of that name would block the opening.
	info, err := s.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("image %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	f, err := s.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("image %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	return f, nil
}

// place makes a durable file of that content, unless it is there.
func (s *Store) place(name string, content []byte) error {
	s.placing.RLock()
	defer s.placing.RUnlock()
	folder := name[:2]
	if err := s.makeFolder(folder); err != nil {
		return err
	}
	if info, err := s.disk.Lstat(name); err == nil && info.Mode().IsRegular() && info.Size() == int64(len(content)) {
		// The other Put may not have synced the folder yet; and a file that is wanted again is young to Sweep.
		now := time.Now()
		if err := s.disk.Chtimes(name, now, now); err != nil {
			return err
		}
		return s.disk.Sync(folder)
	}
	tmp := tmpPrefix + rand.Text()
	if err := s.writeSynced(tmp, content); err != nil {
		s.disk.Remove(tmp)
		return err
	}
	if err := s.disk.Rename(tmp, name); err != nil {
		s.disk.Remove(tmp)
		return err
	}
	return s.disk.Sync(folder)
}

// makeFolder makes one of the 256 folders durably. One that is there may have been made just before a crash, or before a sync that
// failed: this process trusts only what it has synced itself.
func (s *Store) makeFolder(folder string) error {
	number, err := strconv.ParseUint(folder, 16, 8)
	if err != nil {
		return err
	}
	if s.durable[number].Load() {
		return nil
	}
	if err := s.disk.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := s.disk.Sync("."); err != nil {
		return err
	}
	s.durable[number].Store(true)
	return nil
}

func (s *Store) writeSynced(name string, content []byte) error {
	f, err := s.disk.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func path(id, suffix string) string { return id[:2] + "/" + id + suffix }

func isID(id string) bool {
	return len(id) == hex.EncodedLen(sha256.Size) && strings.Trim(id, "0123456789abcdef") == ""
}

func shorten(id string) string { return id[:min(len(id), 80)] }

func explainDisk(err error) error {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) {
			return fmt.Errorf("%w: delete something and try again: %w", ErrDiskFull, err)
		}
	}
	return err
}
