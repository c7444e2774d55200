package queue

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"

	"muster/shared/job"
)

// Submit accepts a set of spec.Count images; when it returns, they are on the disk. spec is what will be made: valid, with its
// defaults and model filled in, and with both DeviceID and DeviceKey when it is pinned. A nil seed is drawn here, once; image i
// gets seed + i.
//
// key makes it repeatable; asked is the command as it came, with its defaults, before model and device were resolved. The same key
// with an equal asked gives the jobs as they are now and created=false, also when two come at once, and whatever the default model
// or the numbers of the devices are by then; "" is no key. Errors: ErrKeyReused for another command under the key, ErrFull,
// ErrDiskFull, ErrCorrupt.
func (q *Queue) Submit(ctx context.Context, key string, asked, spec job.Spec) (jobs []job.Job, created bool, err error) {
	c, err := newCommand(key, asked, spec)
	if err != nil {
		return nil, false, err
	}
	if q.options.MakeRoom != nil && q.room() != nil {
		q.options.MakeRoom(ctx)
	}
	// The caller may be gone, its context ended, when this runs: it must not share the caller's variables.
	type answer struct {
		jobs    []job.Job
		created bool
	}
	answers := make(chan answer, 1)
	err = q.change(ctx, func(b *batch) error {
		jobs, created, err := b.submit(c)
		answers <- answer{jobs, created}
		return err
	})
	if err != nil {
		return nil, false, err
	}
	a := <-answers
	return a.jobs, a.created, nil
}

// command is what Submit keeps. It shares no pointer with the caller's.
type command struct {
	key         string // "" for none
	asked, spec job.Spec
	askedText   []byte
	specText    []byte
}

func newCommand(key string, asked, spec job.Spec) (c command, err error) {
	if spec.Count < 1 || spec.Guidance == nil || asked.Count != spec.Count {
		return command{}, errors.New("submit: the spec lacks its defaults")
	}
	c.key = key
	if c.askedText, err = json.Marshal(asked); err == nil {
		err = json.Unmarshal(c.askedText, &c.asked)
	}
	if err == nil {
		c.specText, err = json.Marshal(spec)
	}
	if err == nil {
		err = json.Unmarshal(c.specText, &c.spec)
	}
	if err != nil {
		return command{}, fmt.Errorf("submit: %w", err)
	}
	return c, nil
}

func (b *batch) submit(c command) (jobs []job.Job, created bool, err error) {
	spec := c.spec
	var key, asked sql.NullString
	if c.key != "" {
		key, asked = sql.NullString{String: c.key, Valid: true}, sql.NullString{String: string(c.askedText), Valid: true}
		jobs, err := b.submitted(c.key, c.asked)
		if jobs != nil || err != nil {
			return jobs, false, err
		}
	}
	if err := b.accept(spec.Count); err != nil {
		return nil, false, err
	}
	ids := make([]string, 1+spec.Count)
	for i := range ids {
		if ids[i], err = b.w.newID(b.now); err != nil {
			return nil, false, err
		}
	}
	seed := rand.Int64N(job.MaxSeed + 1)
	if spec.Seed != nil {
		seed = *spec.Seed
	}
	b.exec(insertSet, ids[0], key, string(c.specText), asked)
	for i, id := range ids[1:] {
		j := job.Job{ID: id, SetID: ids[0], Ordinal: i, State: job.Queued, Seed: seed + int64(i), Reason: "waits for a device", Created: b.now}
		describe(&j, c.key, spec)
		jobs = append(jobs, b.insert(j))
	}
	return jobs, true, b.failed
}

// submitted gives the jobs that the key stands for; nil when it is new.
func (b *batch) submitted(key string, asked job.Spec) ([]job.Job, error) {
	var id, spec string
	var text sql.NullString
	err := b.w.prepared[selectKey].QueryRowContext(uncancelled, key).Scan(&id, &spec, &text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	var before job.Spec
	switch {
	case err == nil && text.Valid:
		err = json.Unmarshal([]byte(text.String), &before)
	case err == nil: // of version 1, which kept only what was made of the command
		if err = json.Unmarshal([]byte(spec), &before); asked.Model == "" {
			asked.Model = before.Model
		}
	}
	if err != nil {
		b.failed = err
		return nil, err
	}
	if !reflect.DeepEqual(before, asked) {
		return nil, fmt.Errorf("%w: take a new key for a new command", ErrKeyReused)
	}
	jobs := b.jobs(selectSet, id)
	for i := range jobs {
		jobs[i] = b.w.mirror.overlay(jobs[i])
	}
	return jobs, b.failed
}

// accept says why a set of that many images can't be taken.
func (b *batch) accept(count int) error {
	if damage := b.q.damage.Load(); damage != nil {
		return *damage
	}
	if b.queued+count > b.q.options.MaxQueued {
		return fmt.Errorf("%w: %d jobs wait and at most %d may: send it again when some are done", ErrFull, b.queued, b.q.options.MaxQueued)
	}
	return b.q.room()
}
