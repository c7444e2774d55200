package ordeal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"muster/shared/job"
)

// book is what a database file says, read from a copy as a death left it: the agent's own recovery is not helped.
type book struct {
	last   uint64              // newest event
	events int                 // up to it
	jobs   map[string]*history // by id
	sets   map[string]string   // set by prompt
	midway int                 // jobs that were running
}

// history is a job's row and what its events add up to.
type history struct {
	set     string
	state   job.State
	attempt int
	seq     uint64
	image   string
	reached job.State // by the events
	starts  int
	stamp   uint64 // of the newest event
}

func newBook() *book { return &book{jobs: map[string]*history{}, sets: map[string]string{}} }

// read takes in what came after what was read before. Nothing but what is on the disk is asked.
func (b *book) read(ctx context.Context, data string, breach func(string, ...any)) (err error) {
	dir, err := os.MkdirTemp("", "muster-book-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	const name = "muster.db"
	for _, suffix := range []string{"", "-wal"} {
		content, err := os.ReadFile(filepath.Join(data, name+suffix))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name+suffix), content, 0o600)
		}
		if err != nil {
			return err
		}
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	var tables int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE name = 'events'").Scan(&tables); err != nil || tables == 0 {
		return err // it died before there was anything
	}
	return errors.Join(b.readEvents(ctx, db, breach), b.readJobs(ctx, db, breach), b.readSets(ctx, db, breach))
}

// readEvents follows each job through its states: queued, running, queued again or ended, and no further.
func (b *book) readEvents(ctx context.Context, db *sql.DB, breach func(string, ...any)) error {
	var before int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM events WHERE seq <= ?", b.last).Scan(&before); err != nil {
		return err
	}
	if before != b.events {
		breach("of %d events up to number %d, %d are left", b.events, b.last, before)
	}
	return each(ctx, db, func(row *sql.Rows) error {
		var id string
		var e struct {
			seq     uint64
			state   job.State
			attempt int
		}
		if err := row.Scan(&e.seq, &id, &e.state, &e.attempt); err != nil {
			return err
		}
		b.last, b.events = e.seq, b.events+1
		h := b.jobs[id]
		if h == nil {
			h = &history{}
			b.jobs[id] = h
			if e.state != job.Queued || e.attempt != 0 {
				breach("job %s begins as %s at attempt %d", id, e.state, e.attempt)
			}
		} else {
			starts := h.starts
			if e.state == job.Running {
				starts++
			}
			if err := h.reached.Check(e.state); err != nil || e.attempt != starts {
				breach("event %d of job %s: %s at attempt %d after %s at attempt %d", e.seq, id, e.state, e.attempt, h.reached, h.starts)
			}
		}
		h.reached, h.starts, h.stamp = e.state, e.attempt, e.seq
		return nil
	}, "SELECT seq, job_id, state, attempt FROM events WHERE seq > ? ORDER BY seq", b.last)
}

// readJobs compares every row with the job's events.
func (b *book) readJobs(ctx context.Context, db *sql.DB, breach func(string, ...any)) error {
	err := each(ctx, db, func(row *sql.Rows) error {
		var id string
		var h history
		if err := row.Scan(&id, &h.set, &h.state, &h.attempt, &h.seq, &h.image); err != nil {
			return err
		}
		old := b.jobs[id]
		if old == nil {
			breach("job %s has no event", id)
			return nil
		}
		old.set, old.state, old.attempt, old.seq, old.image = h.set, h.state, h.attempt, h.seq, h.image
		return nil
	}, "SELECT id, set_id, state, attempt, seq, image_id FROM jobs")
	b.midway = 0
	for id, h := range b.jobs {
		switch {
		case h.state != h.reached || h.attempt != h.starts || h.seq != h.stamp:
			breach("job %s is %s at attempt %d (event %d), its events say %s at attempt %d (event %d)", id, h.state, h.attempt, h.seq, h.reached, h.starts, h.stamp)
		case h.state == job.Succeeded && h.image == "":
			breach("job %s succeeded without an image", id)
		case h.state == job.Running:
			b.midway++
		}
	}
	return err
}

// readSets finds commands that made two sets, and sets that are not whole.
func (b *book) readSets(ctx context.Context, db *sql.DB, breach func(string, ...any)) error {
	sizes := map[string]int{}
	for _, h := range b.jobs {
		sizes[h.set]++
	}
	return each(ctx, db, func(row *sql.Rows) error {
		var id, text string
		var spec job.Spec
		if err := row.Scan(&id, &text); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(text), &spec); err != nil {
			return fmt.Errorf("set %s: %w", id, err)
		}
		if spec.ClientID == remaker {
			return nil
		}
		if other := b.sets[spec.Prompt]; other != "" && other != id {
			breach("one command, %q, made the sets %s and %s", spec.Prompt, other, id)
		}
		b.sets[spec.Prompt] = id
		if sizes[id] != spec.Count {
			breach("set %s has %d jobs of %d", id, sizes[id], spec.Count)
		}
		return nil
	}, "SELECT id, spec FROM sets")
}

func each(ctx context.Context, db *sql.DB, take func(*sql.Rows) error, query string, args ...any) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := take(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// compare finds what was acknowledged and is not in the book, and what was refused and is.
func (b *book) compare(l *Ledger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, s := range l.jobs {
		h, shown := b.jobs[id], s.newest
		switch {
		case h == nil:
			l.note("job %s was acknowledged (%s, event %d) and is not there", id, shown.State, shown.Seq)
		case h.seq < shown.Seq, h.seq == shown.Seq && h.state != shown.State, shown.State.Terminal() && (h.state != shown.State || h.image != shown.ImageID):
			l.note("job %s was shown %s (event %d, image %.12s) and is %s (event %d, image %.12s)", id, shown.State, shown.Seq, shown.ImageID, h.state, h.seq, h.image)
		}
	}
	for prompt := range b.sets {
		switch c := l.sent[prompt]; {
		case c == nil:
			l.note("a set of a command that nobody sent: %q", prompt)
		case c.jobs == nil && !c.doubtful:
			l.note("a set of a command that was refused or not yet answered: %q", prompt)
		}
	}
}
