package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
)

// schemas make the tables: each brings those of the version before it up to its own, the first makes them. A new database gets
// all of them, an old one those that it lacks. What a released version wrote is never changed here; add another.
//
// A set is a command, asked as it was sent and spec as it is made; a job is one image of it. events is only appended to; its seq
// numbers every change. Times are Unix milliseconds. jobs has no rowid, so that a job is one page away from its id.
var schemas = []string{`
CREATE TABLE meta (
	name  TEXT PRIMARY KEY,
	value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE sets (
	id   TEXT PRIMARY KEY,
	key  TEXT UNIQUE,
	spec TEXT NOT NULL
) STRICT;
CREATE TABLE jobs (
	id         TEXT PRIMARY KEY,
	set_id     TEXT NOT NULL,
	ordinal    INTEGER NOT NULL,
	seq        INTEGER NOT NULL,
	state      TEXT NOT NULL,
	attempt    INTEGER NOT NULL,
	failures   INTEGER NOT NULL,
	device     INTEGER,
	device_key TEXT NOT NULL,
	simulated  INTEGER NOT NULL,
	backend    TEXT NOT NULL,
	seed       INTEGER NOT NULL,
	reason     TEXT NOT NULL,
	image_id   TEXT NOT NULL,
	error      TEXT NOT NULL,
	created    INTEGER NOT NULL,
	started    INTEGER,
	finished   INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX jobs_by_state ON jobs (state, id);
CREATE INDEX jobs_by_set   ON jobs (set_id, id);
CREATE UNIQUE INDEX jobs_by_seq ON jobs (seq);
CREATE INDEX jobs_by_image ON jobs (image_id) WHERE image_id <> '';
CREATE TABLE events (
	seq     INTEGER PRIMARY KEY,
	job_id  TEXT NOT NULL,
	state   TEXT NOT NULL,
	attempt INTEGER NOT NULL,
	at      INTEGER NOT NULL,
	detail  TEXT NOT NULL
) STRICT;
CREATE TABLE sessions (
	hash    BLOB PRIMARY KEY,
	label   TEXT NOT NULL,
	created INTEGER NOT NULL,
	expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
`, `
ALTER TABLE sets ADD COLUMN asked TEXT; -- NULL without a key, and in rows of version 1
CREATE TABLE devices (
	id      TEXT PRIMARY KEY,
	control TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX jobs_by_finished ON jobs (finished) WHERE finished IS NOT NULL;
CREATE INDEX events_by_job ON events (job_id);
INSERT INTO meta (name, value) VALUES ('pool', '{}'), ('pruned', '0'), ('last_id', '');
`}

// Rows of meta.
const (
	metaVersion = "schema_version"
	metaStopped = "stopped" // stoppedInOrder or stoppedNot
	metaPool    = "pool"    // pool.Settings
	metaPruned  = "pruned"  // number of the last event that took sets away; event numbers go on after it, whatever else is left
	metaLastID  = "last_id" // the highest id of a job when sets were last taken away
)

// Values of metaStopped.
const (
	stoppedInOrder = "in order"
	stoppedNot     = "not"
)

// migrate makes the tables in a new database and brings those of an older version up to date. It runs inside the caller's
// transaction.
func migrate(ctx context.Context, conn *sql.Conn) error {
	version, err := versionOf(ctx, conn)
	if err != nil {
		return err
	}
	if version > len(schemas) {
		return fmt.Errorf("it was written by a newer muster (schema %d, this one knows %d): install that version again, or choose another folder with --data", version, len(schemas))
	}
	if version == len(schemas) {
		return nil
	}
	for _, text := range schemas[version:] {
		if _, err := conn.ExecContext(ctx, text); err != nil {
			return fmt.Errorf("make tables: %w", err)
		}
	}
	if version == 0 {
		_, err = conn.ExecContext(ctx, "INSERT INTO meta (name, value) VALUES (?, ?)", metaStopped, stoppedInOrder)
	}
	if err == nil {
		_, err = conn.ExecContext(ctx, "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", metaVersion, strconv.Itoa(len(schemas)))
	}
	return err
}

// versionOf gives 0 for a database without tables.
func versionOf(ctx context.Context, conn *sql.Conn) (int, error) {
	var tables int
	if err := conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil || tables == 0 {
		return 0, err
	}
	text, err := meta(ctx, conn, metaVersion)
	if err != nil {
		return 0, err
	}
	version, err := strconv.Atoi(text)
	if err != nil || version < 1 {
		return 0, fmt.Errorf("%s is %q: %w", metaVersion, text, ErrCorrupt)
	}
	return version, nil
}

func meta(ctx context.Context, conn *sql.Conn, name string) (string, error) {
	var value string
	err := conn.QueryRowContext(ctx, "SELECT value FROM meta WHERE name = ?", name).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("meta has no %s: %w", name, ErrCorrupt)
	}
	return value, err
}
