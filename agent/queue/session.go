package queue

import (
	"context"
	"time"
)

const (
	insertSession = "INSERT OR REPLACE INTO sessions (hash, label, created, expires) VALUES (?, ?, ?, ?)"
	deleteSession = "DELETE FROM sessions WHERE hash = ?"
	deleteExpired = "DELETE FROM sessions WHERE expires <= ?"
	selectSession = "SELECT count(*) FROM sessions WHERE hash = ? AND expires > ?"
)

// PutSession keeps the hash of a session's token until it expires. label says for people whose it is. A session with that hash
// is replaced; expired ones are dropped on the way.
func (q *Queue) PutSession(ctx context.Context, hash [32]byte, label string, expires time.Time) error {
	return q.change(ctx, func(b *batch) error {
		b.exec(deleteExpired, b.now.UnixMilli())
		b.exec(insertSession, hash[:], label, b.now.UnixMilli(), expires.UnixMilli())
		return b.failed
	})
}

// Session tells whether a session with that hash exists and has not expired.
func (q *Queue) Session(ctx context.Context, hash [32]byte) (ok bool, err error) {
	var n int
	if err := q.reader.QueryRowContext(ctx, selectSession, hash[:], q.options.Now().UnixMilli()).Scan(&n); err != nil {
		return false, q.readError(ctx, err)
	}
	return n > 0, nil
}

// DeleteSession ends a session; one that does not exist is no error.
func (q *Queue) DeleteSession(ctx context.Context, hash [32]byte) error {
	return q.change(ctx, func(b *batch) error {
		b.exec(deleteSession, hash[:])
		return b.failed
	})
}
