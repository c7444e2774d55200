package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"unicode/utf8"

	"muster/shared/job"
)

// Settings are rows of meta too, under names that the queue itself never uses.
const (
	settingPrefix = "setting "
	selectSetting = "SELECT value FROM meta WHERE name = ?"
	putSetting    = "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)"
)

// Setting gives what PutSetting kept under a name; "" when nothing was.
func (q *Queue) Setting(ctx context.Context, name string) (string, error) {
	var value string
	err := q.reader.QueryRowContext(ctx, selectSetting, settingPrefix+name).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", q.readError(ctx, err)
	}
	return value, nil
}

// PutSetting keeps a short text that a client chose, such as the model that is offered first, in place of the one before. When it
// returns, it is on the disk.
func (q *Queue) PutSetting(ctx context.Context, name, value string) error {
	if len(value) > job.MaxNameBytes || !utf8.ValidString(value) {
		return fmt.Errorf("setting %s: must be valid UTF-8 of at most %d bytes", name, job.MaxNameBytes)
	}
	return q.change(ctx, func(b *batch) error {
		b.exec(putSetting, settingPrefix+name, value)
		return b.failed
	})
}
