package queue

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"
)

const (
	// pruneBatch bounds the sets of one transaction, and so how long a submission waits for it.
	pruneBatch = 64
	// keepEvents is how many of the newest events stay, whatever became of their jobs: about 20 MB. Nobody resumes from older
	// ones: Since goes by the jobs themselves.
	keepEvents = 200_000
	// trimBatch bounds the events of one transaction.
	trimBatch = 5_000
)

const (
	// selectEnded gives the last job of each set of which every job has ended, by when it ended.
	selectEnded = `SELECT j.set_id, j.finished FROM jobs j WHERE j.finished IS NOT NULL AND NOT EXISTS (SELECT 1 FROM jobs o
	WHERE o.set_id = j.set_id AND (o.finished IS NULL OR o.finished > j.finished OR o.finished = j.finished AND o.id > j.id))
	ORDER BY j.finished LIMIT ?`
	selectImages = "SELECT DISTINCT image_id FROM jobs WHERE set_id = ? AND image_id <> ''"
	selectActive = "SELECT count(*) FROM jobs WHERE set_id = ? AND (finished IS NULL OR state NOT IN ('succeeded', 'failed', 'cancelled'))"
	countImage   = "SELECT count(*) FROM (SELECT 1 FROM jobs WHERE image_id = ? AND image_id <> '' LIMIT 1)"
	keepLastID   = "UPDATE meta SET value = max(value, coalesce((SELECT max(id) FROM jobs), '')) WHERE name = '" + metaLastID + "'"
	deleteEvents = "DELETE FROM events WHERE job_id IN (SELECT id FROM jobs WHERE set_id = ?)"
	deleteJobs   = "DELETE FROM jobs WHERE set_id = ?"
	deleteSet    = "DELETE FROM sets WHERE id = ?"
	trimEvents   = `DELETE FROM events WHERE seq IN (SELECT e.seq FROM events e JOIN jobs j ON j.id = e.job_id
	WHERE e.seq <= ? AND j.finished IS NOT NULL ORDER BY e.seq LIMIT ?)`
)

// Limits say what Prune takes away. The zero value takes no set.
type Limits struct {
	// Age is how long ago the last job of a set must have ended; 0 takes none for its age.
	Age time.Duration
	// Bytes of images that no job names any more is what Prune makes, oldest sets first, as far as there are any that have ended;
	// 0 takes none for its size.
	Bytes int64
	// Size gives the bytes of an image's files, 0 when it has none; needed only with Bytes. It must not block for long.
	Size func(imageID string) int64
}

// Pruned is what Prune took away.
type Pruned struct {
	Sets, Jobs int
	// Images are those that no job names any more; their files are still there.
	Images []string
	// Events of jobs that stay.
	Events int
}

// Prune takes away whole sets of which every job has ended, oldest end first, with their events. A set of which any job has not
// ended is never touched. The key of a set goes with it: the command sent once more with it makes new images. What was taken away
// has a number among the events: a client that resumes from before it is told to drop what it had, and Options.Pruned says that
// those who watch should ask anew. After an error, or the end of ctx, it gives what it had taken until then.
//
// Rows go first. The files of Images are the caller's to remove, and only while they are older than any job that may be about to
// name them: the same pixels have the same id.
func (q *Queue) Prune(ctx context.Context, l Limits) (Pruned, error) {
	if damage := q.damage.Load(); damage != nil {
		return Pruned{}, *damage
	}
	var total Pruned
	var bytes int64
	for (l.Age > 0 || l.Bytes > 0) && ctx.Err() == nil {
		done, freed, more, err := q.pruneSome(ctx, l, bytes)
		total.Sets += done.Sets
		total.Jobs += done.Jobs
		total.Images = append(total.Images, done.Images...)
		if bytes += freed; err != nil {
			return total, fmt.Errorf("prune: %w", err)
		}
		if !more {
			break
		}
	}
	for ctx.Err() == nil {
		trimmed, err := q.trim(ctx)
		if total.Events += trimmed; err != nil {
			return total, fmt.Errorf("prune events: %w", err)
		}
		if trimmed < trimBatch {
			break
		}
	}
	return total, ctx.Err()
}

// endedSet is a set that may go.
type endedSet struct {
	id     string
	images map[string]int64 // bytes
	old    bool             // it goes for its age
}

// pruneSome takes the next sets in one transaction. freed is what was freed before this call; more says that there may be others.
func (q *Queue) pruneSome(ctx context.Context, l Limits, freed int64) (done Pruned, bytes int64, more bool, err error) {
	sets, err := q.ended(ctx, l)
	if err != nil || len(sets) == 0 {
		return Pruned{}, 0, false, err
	}
	type answer struct {
		Pruned
		bytes int64
	}
	answers := make(chan answer, 1)
	err = q.change(ctx, func(b *batch) error {
		var a answer
		for _, set := range sets {
			if !set.old && freed+a.bytes >= l.Bytes {
				break
			}
			a.bytes += b.prune(set, &a.Pruned)
		}
		answers <- a
		return b.failed
	})
	if err != nil {
		return Pruned{}, 0, false, err
	}
	a := <-answers
	return a.Pruned, a.bytes, a.Sets == pruneBatch, nil
}

// ended gives the sets that ended first.
func (q *Queue) ended(ctx context.Context, l Limits) ([]endedSet, error) {
	cutoff := int64(math.MinInt64)
	if l.Age > 0 {
		cutoff = q.options.Now().Add(-l.Age).UnixMilli()
	}
	rows, err := q.reader.QueryContext(ctx, selectEnded, pruneBatch)
	if err != nil {
		return nil, q.readError(ctx, err)
	}
	defer rows.Close()
	var sets []endedSet
	for rows.Next() {
		var set endedSet
		var finished int64
		if err := rows.Scan(&set.id, &finished); err != nil {
			return nil, q.readError(ctx, err)
		}
		set.old = finished <= cutoff
		if !set.old && l.Bytes <= 0 {
			break
		}
		sets = append(sets, set)
	}
	if err := rows.Err(); err != nil {
		return nil, q.readError(ctx, err)
	}
	rows.Close()
	for i := range sets {
		if err := q.weigh(ctx, &sets[i], l); err != nil {
			return nil, q.readError(ctx, err)
		}
	}
	return sets, nil
}

// weigh looks up the images of a set before the transaction, which shall not wait for the file system.
func (q *Queue) weigh(ctx context.Context, set *endedSet, l Limits) error {
	rows, err := q.reader.QueryContext(ctx, selectImages, set.id)
	if err != nil {
		return err
	}
	defer rows.Close()
	set.images = map[string]int64{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		set.images[id] = 0
		if l.Bytes > 0 {
			set.images[id] = l.Size(id)
		}
	}
	return rows.Err()
}

// prune takes a set away, unless it is gone or has a job that has not ended after all, and gives the bytes of images that no job
// names any more.
func (b *batch) prune(set endedSet, done *Pruned) (bytes int64) {
	if b.count(selectActive, set.id) > 0 || b.failed != nil {
		return 0
	}
	if b.floor == 0 { // the first of this transaction
		b.seq++
		b.floor = b.seq
		b.exec(keepLastID)
		b.exec(updateMeta, strconv.FormatUint(b.floor, 10), metaPruned)
	}
	b.exec(deleteEvents, set.id)
	jobs := b.exec(deleteJobs, set.id)
	b.exec(deleteSet, set.id)
	if b.failed != nil {
		return 0
	}
	n, err := jobs.RowsAffected()
	if b.failed = err; err != nil {
		return 0
	}
	done.Sets++
	done.Jobs += int(n)
	for id, size := range set.images {
		if b.count(countImage, id) == 0 && b.failed == nil {
			done.Images = append(done.Images, id)
			bytes += size
		}
	}
	return bytes
}

// trim takes away the oldest events of jobs that have ended, beyond keepEvents.
func (q *Queue) trim(ctx context.Context) (int, error) {
	newest, _ := q.mirror.newest()
	if newest <= keepEvents {
		return 0, nil
	}
	trimmed := make(chan int, 1)
	err := q.change(ctx, func(b *batch) error {
		result := b.exec(trimEvents, newest-keepEvents, trimBatch)
		if b.failed != nil {
			return b.failed
		}
		n, err := result.RowsAffected()
		b.failed = err
		trimmed <- int(n)
		return err
	})
	if err != nil {
		return 0, err
	}
	return <-trimmed, nil
}
