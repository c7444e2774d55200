package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
)

// schemaVersion rises when the tables change; restart brings older ones up to it.
const schemaVersion = 1

// schema: a set is a command as it was sent, a job one image of it. events is only appended to; its seq numbers every change.
// Times are Unix milliseconds. jobs has no rowid, so that a job is one page away from its id.
const schema = `
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
`

// Values of meta's "stopped".
const (
	stoppedInOrder = "in order"
	stoppedNot     = "not"
)

// migrate makes the tables in a new database and checks their version in an old one. It runs inside the caller's transaction.
func migrate(ctx context.Context, conn *sql.Conn) error {
	var tables int
	if err := conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return err
	}
	if tables == 0 {
		if _, err := conn.ExecContext(ctx, schema); err != nil {
			return fmt.Errorf("make tables: %w", err)
		}
		_, err := conn.ExecContext(ctx, "INSERT INTO meta (name, value) VALUES ('schema_version', ?), ('stopped', ?)", strconv.Itoa(schemaVersion), stoppedInOrder)
		return err
	}
	text, err := meta(ctx, conn, "schema_version")
	if err != nil {
		return err
	}
	version, err := strconv.Atoi(text)
	switch {
	case err != nil || version < 1:
		return fmt.Errorf("schema_version is %q: %w", text, ErrCorrupt)
	case version > schemaVersion:
		return fmt.Errorf("it was written by a newer muster (schema %d, this one knows %d): install that version again, or choose another folder with --data", version, schemaVersion)
	}
	return nil
}

func meta(ctx context.Context, conn *sql.Conn, name string) (string, error) {
	var value string
	err := conn.QueryRowContext(ctx, "SELECT value FROM meta WHERE name = ?", name).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("meta has no %s: %w", name, ErrCorrupt)
	}
	return value, err
}
