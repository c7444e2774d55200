package queue

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"muster/shared/job"
)

// writer is the one connection that writes. Only Run's goroutine uses it after Open.
type writer struct {
	db       *sql.DB
	mirror   *mirror
	now      func() time.Time
	conn     *sql.Conn
	prepared statements
	suspect  bool // the last transaction failed: memory and disk must be compared
	entropy  io.Reader
	lastID   uint64 // milliseconds of the newest id
	commits  atomic.Uint64
	steered  func() // what people decided is another than before; never nil
}

// nothing cancels the writer's statements: a transaction is made whole or fails.
var uncancelled = context.Background()

func openWriter(ctx context.Context, path string, q *Queue) (*writer, error) {
	db, err := openDatabase(path, writerPragmas)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(-1) // a connection that is given back is closed, whatever state it was in
	w := &writer{db: db, mirror: q.mirror, now: q.options.Now, steered: q.options.Steered, entropy: ulid.Monotonic(rand.Reader, 0)}
	if w.steered == nil {
		w.steered = func() {}
	}
	if w.conn, err = db.Conn(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return w, nil
}

// restart makes or checks the tables, loads the mirror and queues again what was running.
func (w *writer) restart(ctx context.Context) (unclean bool, err error) {
	if _, err := w.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return false, err
	}
	if err := migrate(ctx, w.conn); err != nil {
		return false, err // closing the connection rolls back
	}
	stopped, err := meta(ctx, w.conn, metaStopped)
	if err != nil {
		return false, err
	}
	if _, err := w.conn.ExecContext(ctx, "COMMIT"); err != nil {
		return false, err
	}
	if w.prepared, err = prepare(ctx, w.conn); err != nil {
		return false, err
	}
	if err := w.load(ctx); err != nil {
		return false, err
	}
	return stopped != stoppedInOrder, w.transaction(func(b *batch) error {
		b.exec(updateMeta, stoppedNot, metaStopped)
		b.requeueRunning()
		return b.failed
	})
}

func (w *writer) load(ctx context.Context) error {
	var (
		all  committed
		last string
		s    scanner
	)
	for _, state := range job.States {
		if state.Terminal() {
			continue
		}
		found, err := s.all(w.conn.QueryContext(ctx, selectState, string(state)))
		if err != nil {
			return err
		}
		all.jobs = append(all.jobs, found...)
	}
	if err := w.conn.QueryRowContext(ctx, selectSeq).Scan(&all.seq, &all.floor); err != nil {
		return err
	}
	if err := w.conn.QueryRowContext(ctx, selectLastID).Scan(&last); err != nil {
		return err
	}
	if id, err := ulid.ParseStrict(last); err == nil {
		w.lastID = id.Time() + 1
	}
	var err error
	if all.steering, err = readSteering(ctx, w.conn); err != nil {
		return err
	}
	w.mirror.load(all)
	return nil
}

// newID gives an id greater than all before, whatever the wall clock does.
func (w *writer) newID(now time.Time) (string, error) {
	w.lastID = max(w.lastID, ulid.Timestamp(now))
	id, err := ulid.New(w.lastID, w.entropy)
	if err != nil {
		return "", fmt.Errorf("make an id: %w", err)
	}
	return id.String(), nil
}

// transaction runs do, commits, and only then changes the mirror. On an error neither disk nor mirror have changed.
func (w *writer) transaction(do func(*batch) error) error {
	if w.suspect {
		if err := w.resync(); err != nil {
			return err
		}
	}
	b, err := w.begin()
	if err == nil {
		err = do(b)
	}
	if err == nil {
		_, err = w.prepared["COMMIT"].ExecContext(uncancelled)
	}
	if err != nil {
		// SQLite has rolled back by itself after some errors; resync looks at what is true.
		_, _ = w.prepared["ROLLBACK"].ExecContext(uncancelled)
		w.suspect = true
		return err
	}
	w.commits.Add(1)
	w.apply(committed{b.changed, b.seq, b.floor, b.steering})
	return nil
}

func (w *writer) apply(c committed) {
	if w.mirror.apply(c) {
		w.steered()
	}
}

func (w *writer) begin() (*batch, error) {
	seq, queued := w.mirror.newest()
	b := &batch{w: w, seq: seq, queued: queued, now: w.now().UTC().Truncate(time.Millisecond), staged: map[string]job.Job{}}
	_, err := w.prepared["BEGIN IMMEDIATE"].ExecContext(uncancelled)
	return b, err
}

// resync compares memory with the disk after a failed transaction, on a new connection when the old one does not answer. A
// commit whose fsync failed may have been made after all: then memory follows.
func (w *writer) resync() error {
	missed, err := w.missed()
	if err != nil {
		if err := w.reconnect(); err != nil {
			return err
		}
		if missed, err = w.missed(); err != nil {
			return err
		}
	}
	w.apply(missed)
	w.suspect = false
	return nil
}

// missed gives what is on the disk and not in the mirror.
func (w *writer) missed() (c committed, err error) {
	if w.prepared == nil {
		return c, driver.ErrBadConn
	}
	// A connection that is still inside a transaction would show what was not committed; here BEGIN fails on it.
	if _, err := w.prepared["BEGIN IMMEDIATE"].ExecContext(uncancelled); err != nil {
		return c, err
	}
	seq, _ := w.mirror.newest()
	if err := w.prepared[selectSeq].QueryRowContext(uncancelled).Scan(&c.seq, &c.floor); err != nil {
		return c, err
	}
	if c.seq < seq {
		return c, fmt.Errorf("its newest event is %d, after %d was committed: %w", c.seq, seq, ErrCorrupt)
	}
	var s scanner
	if c.jobs, err = s.all(w.prepared[selectAfter].QueryContext(uncancelled, seq, -1)); err != nil {
		return c, err
	}
	if c.steering, err = readSteering(uncancelled, w.conn); err != nil {
		return c, err
	}
	_, err = w.prepared["ROLLBACK"].ExecContext(uncancelled)
	return c, err
}

func (w *writer) reconnect() error {
	w.disconnect()
	conn, err := w.db.Conn(uncancelled)
	if err != nil {
		return err
	}
	w.conn = conn
	w.prepared, err = prepare(uncancelled, conn)
	return err
}

// markStopped notes that there is nothing to check at the next start.
func (w *writer) markStopped() error {
	return w.transaction(func(b *batch) error {
		b.exec(updateMeta, stoppedInOrder, metaStopped)
		return b.failed
	})
}

func (w *writer) disconnect() {
	if w.conn == nil {
		return
	}
	// database/sql closes a connection that the driver calls bad; finalizing its statements after that would crash SQLite.
	if open := w.conn.Raw(func(any) error { return nil }) == nil; open {
		for _, s := range w.prepared {
			s.Close()
		}
	}
	w.prepared = nil
	w.conn.Close()
	w.conn = nil
}

func (w *writer) close() {
	w.disconnect()
	w.db.Close()
}
