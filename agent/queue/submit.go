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
	if spec.Count < 1 || spec.Guidance == nil {
		return nil, false, errors.New("submit: the spec lacks its defaults")
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, false, fmt.Errorf("submit: %w", err)
	}
	var own job.Spec // shares no pointer with the caller's
	if err := json.Unmarshal(text, &own); err != nil {
		return nil, false, fmt.Errorf("submit: %w", err)
	}
	// The caller may be gone, its context ended, when this runs: it must not share the caller's variables.
	type answer struct {
		jobs    []job.Job
		created bool
	}
	answers := make(chan answer, 1)
	err = q.change(ctx, func(b *batch) error {
		jobs, created, err := b.submit(key, own, text)
		answers <- answer{jobs, created}
		return err
	})
	if err != nil {
		return nil, false, err
	}
	a := <-answers
	return a.jobs, a.created, nil
}

func (b *batch) submit(key string, spec job.Spec, text []byte) (jobs []job.Job, created bool, err error) {
	if key != "" {
		jobs, err := b.submitted(key, spec)
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
	b.exec(insertSet, ids[0], sql.NullString{String: key, Valid: key != ""}, string(text))
	for i, id := range ids[1:] {
		j := job.Job{ID: id, SetID: ids[0], Ordinal: i, State: job.Queued, Seed: seed + int64(i), Reason: "waits for a device", Created: b.now}
		describe(&j, key, spec)
		jobs = append(jobs, b.insert(j))
	}
	return jobs, true, b.failed
}

// submitted gives the jobs that the key stands for; nil when it is new.
func (b *batch) submitted(key string, spec job.Spec) ([]job.Job, error) {
	var id, text string
	err := b.w.prepared[selectKey].QueryRowContext(uncancelled, key).Scan(&id, &text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	var before job.Spec
	if err == nil {
		err = json.Unmarshal([]byte(text), &before)
	}
	if err != nil {
		b.failed = err
		return nil, err
	}
	if !reflect.DeepEqual(before, spec) {
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
