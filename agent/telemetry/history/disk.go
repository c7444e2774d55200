package history

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"
)

const (
	// maxOrders bounds what waits for the disk: about 10 minutes of rows. maxQuestions are of it at most.
	maxOrders    = 64
	maxQuestions = 8
	// stopGrace is how long Run waits at its end for a disk that may never answer.
	stopGrace = 2 * time.Second

	syncEvery  = 5 * time.Minute
	sweepAfter = time.Hour // of a start: until then the devices that are there have been written
	sweepEvery = 24 * time.Hour
	// calmAfter is how long the disk must work before troubles are over: one that comes and goes is told once.
	calmAfter = time.Minute
)

// line is a row on its way to a file.
type line struct {
	id   string
	tier int
	row  row
}

// order is what the disk's goroutine does next: it writes rows, or answers a question.
type order struct {
	rows     []line
	dropped  int // rows that were lost before these
	question *question
}

// Run writes until ctx ends, then what is complete and what is not. It is called once. Nothing that a disk does is an error: it
// costs rows, and is told in the log. A disk that does not answer is left behind after 2 s.
func (s *Store) Run(ctx context.Context) error {
	defer close(s.ended)
	if s.disk == nil {
		<-ctx.Done()
		return nil
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { defer close(done); s.disk.serve(s.orders, stop) }()
	<-ctx.Done()
	s.flush()
	close(stop)
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-done:
	case <-grace.C:
		s.disk.log.Warn("the disk does not answer: the newest history is lost", "folder", s.disk.folder)
	}
	return nil
}

// flush hands over the rows that are not complete.
func (s *Store) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rest []line
	s.close(func(tier, *row) bool { return true }, &rest)
	s.write(rest)
}

// opener opens a file as os.OpenFile does.
type opener func(path string, flags int, mode fs.FileMode) (file, error)

func openFile(path string, flags int, mode fs.FileMode) (file, error) {
	f, err := os.OpenFile(path, flags, mode)
	if err != nil {
		return nil, err // not f: a nil *os.File is no nil file
	}
	return f, nil
}

// disk holds the files. Everything but folder and log belongs to the goroutine of serve.
type disk struct {
	folder string
	log    *slog.Logger
	open   opener

	rings     map[ringKey]*ring
	buffer    []byte // for reading
	said      map[string]bool
	troubleAt time.Time // of the last fault; zero while all is well
}

type ringKey struct {
	id   string
	tier int
}

func newDisk(folder string, log *slog.Logger) *disk {
	return &disk{folder: folder, log: log, open: openFile, rings: map[ringKey]*ring{}, said: map[string]bool{}}
}

// serve carries out orders until stop is closed and none is left.
func (d *disk) serve(orders <-chan order, stop <-chan struct{}) {
	d.buffer = make([]byte, chunkRows*rowSize)
	syncs, sweeps := time.NewTicker(syncEvery), time.NewTimer(sweepAfter)
	defer syncs.Stop()
	defer sweeps.Stop()
	for {
		select {
		case o := <-orders:
			d.carryOut(o)
		case <-syncs.C:
			d.maintain()
		case <-sweeps.C:
			d.sweep()
			sweeps.Reset(sweepEvery)
		case <-stop:
			for {
				select {
				case o := <-orders:
					d.carryOut(o)
				default:
					d.closeAll()
					return
				}
			}
		}
	}
}

func (d *disk) carryOut(o order) {
	if o.question != nil {
		o.question.reply <- d.answer(o.question)
		return
	}
	if o.dropped > 0 {
		d.log.Warn("the disk answers again; history has a gap", "folder", d.folder, "rows", o.dropped)
	}
	failed := false
	for _, l := range o.rows {
		if err := d.write(l); err != nil {
			d.trouble(err)
			failed = true
		}
	}
	if !failed && !d.troubleAt.IsZero() && time.Since(d.troubleAt) > calmAfter {
		d.troubleAt = time.Time{}
		clear(d.said)
		d.log.Info("history is written again", "folder", d.folder)
	}
}

func (d *disk) write(l line) error {
	r, err := d.ring(ringKey{l.id, l.tier}, true)
	if err != nil {
		return err
	}
	r.used = time.Now()
	return r.write(l.row)
}

// ring gives an open ring. Without create a device without file is fs.ErrNotExist.
func (d *disk) ring(key ringKey, create bool) (*ring, error) {
	if r := d.rings[key]; r != nil {
		return r, nil
	}
	path := d.path(key)
	r, repaired, err := openRing(d.open, path, key.id, tiers[key.tier], false)
	if create && errors.Is(err, fs.ErrNotExist) {
		if err := d.makeRoom(key.id); err != nil {
			return nil, err
		}
		r, repaired, err = openRing(d.open, path, key.id, tiers[key.tier], true)
	}
	if err != nil {
		return nil, err
	}
	if repaired != nil {
		d.log.Warn("history begins anew", "file", path, "device", key.id, "error", repaired)
	}
	d.rings[key] = r
	return r, nil
}

// trouble tells of a fault once, whatever the number of files that have it.
func (d *disk) trouble(err error) {
	d.troubleAt = time.Now()
	kind := err.Error()
	var path *fs.PathError
	if errors.As(err, &path) {
		kind = path.Op + path.Err.Error()
	}
	if d.said[kind] {
		return
	}
	d.said[kind] = true
	d.log.Warn("history can't be written: it is kept in memory alone until it can", "folder", d.folder, "error", err)
}

// maintain brings everything to the disk itself, closes what nobody uses, and lets go of files that are no longer in the folder.
func (d *disk) maintain() {
	for key, r := range d.rings {
		err := r.sync()
		if err != nil {
			d.trouble(fmt.Errorf("%s: %w", d.path(key), err))
		}
		if err != nil || time.Since(r.used) > time.Hour || !d.stillThere(key, r) {
			_ = r.file.Close() // what it could tell, sync told
			delete(d.rings, key)
		}
	}
}

func (d *disk) stillThere(key ringKey, r *ring) bool {
	at, err := os.Lstat(d.path(key))
	own, ownErr := r.file.Stat()
	return err == nil && ownErr == nil && os.SameFile(at, own) && own.Size() == r.size()
}

func (d *disk) closeAll() {
	for key, r := range d.rings {
		if err := errors.Join(r.sync(), r.file.Close()); err != nil {
			d.trouble(fmt.Errorf("%s: %w", d.path(key), err))
		}
	}
	clear(d.rings)
}
