package queue

import (
	"context"
	"path/filepath"
	"runtime"
)

// maxBatch bounds the requests of one transaction, and so how long the first of them waits for the others.
const maxBatch = 512

// request is a change that waits for the disk.
type request struct {
	do   func(*batch) error
	gone <-chan struct{} // closed when nobody waits any more
	done chan error      // of size 1
}

// change hands do to the writer and waits until it is durable.
func (q *Queue) change(ctx context.Context, do func(*batch) error) error {
	r := &request{do: do, gone: ctx.Done(), done: make(chan error, 1)}
	select {
	case q.requests <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-q.closed:
		return ErrClosed
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write commits requests until ctx ends.
func (q *Queue) write(ctx context.Context) {
	defer close(q.closed)
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-q.requests:
			q.commit(q.gather(r))
		}
	}
}

// gather takes what else waits.
func (q *Queue) gather(first *request) []*request {
	requests := []*request{first}
	// Those who were just answered may be about to send their next: one turn for them makes the batch fuller and costs nothing.
	runtime.Gosched()
	for len(requests) < maxBatch {
		select {
		case r := <-q.requests:
			requests = append(requests, r)
		default:
			return requests
		}
	}
	return requests
}

// commit makes one transaction of the requests, and answers them when it is on the disk. When that fails, all of them failed.
func (q *Queue) commit(requests []*request) {
	refusals := make([]error, len(requests))
	err := q.writer.transaction(func(b *batch) error {
		b.q = q
		for i, r := range requests {
			select {
			case <-r.gone:
				refusals[i] = context.Canceled // nobody reads it
				continue
			default:
			}
			if refusals[i] = r.do(b); b.failed != nil {
				return b.failed
			}
		}
		return nil
	})
	if err != nil {
		err = explainDatabase(filepath.Join(q.dir, databaseName), err)
		q.options.Log.Error("commit", "requests", len(requests), "error", err)
	}
	for i, r := range requests {
		if err != nil {
			r.done <- err
		} else {
			r.done <- refusals[i]
		}
	}
}
