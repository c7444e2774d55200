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
