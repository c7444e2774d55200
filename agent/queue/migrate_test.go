package queue

import (
	"database/sql"
	_ "embed"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"muster/shared/gpu"
	"muster/shared/job"
)

// schema1 is what version 1 made, word for word: it is never changed again.
//
//go:embed testdata/schema1.sql
var schema1 string

// version1 makes a database as version 1 left it, with a row in every state.
func version1(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, databaseName)
	check(t, prepareFile(t.Context(), path))
	db, err := openDatabase(path, writerPragmas)
	check(t, err)
	defer db.Close()
	run := func(text string, args ...any) {
		t.Helper()
		_, err := db.ExecContext(t.Context(), text, args...)
		check(t, err)
	}
	run(schema1)
	run("INSERT INTO meta (name, value) VALUES ('schema_version', '1'), ('stopped', 'not')")
	run("INSERT INTO sessions VALUES (?, 'phone', 1, ?)", make([]byte, 32), time.Now().Add(time.Hour).UnixMilli())
	run(`INSERT INTO sets VALUES ('01SET', 'k', '{"prompt":"a lighthouse","model":"sketch","width":512,"height":512,"steps":20,"guidance":7,"count":5,"device_id":1}')`)
	for i, state := range job.States {
		var started, finished sql.NullInt64
		image := ""
		started = sql.NullInt64{Int64: 2000, Valid: state != job.Queued && state != job.Cancelled}
		finished = sql.NullInt64{Int64: 3000, Valid: state.Terminal()}
		if state == job.Succeeded {
			image = "abc"
		}
		attempt := 0
		if started.Valid {
			attempt = 2
		}
		run(`INSERT INTO jobs VALUES (?, '01SET', ?, ?, ?, ?, 1, ?, 'GPU-1', 1, 'builtin', ?, 'idle', ?, 'it died once', 1000, ?, ?)`,
			"01JOB"+string(rune('A'+i)), i, 10+i, string(state), attempt, 1, 40+i, image, started, finished)
		run("INSERT INTO events VALUES (?, ?, ?, ?, 1000, '')", 10+i, "01JOB"+string(rune('A'+i)), string(state), attempt)
	}
}

func TestVersion1IsBroughtUpToDate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	version1(t, dir)
	q, stop := running(t, dir, Options{})
	if !q.unclean {
		t.Error("the crash of version 1 is forgotten")
	}
	for i, state := range job.States {
		j, err := q.Job(t.Context(), "01JOB"+string(rune('A'+i)))
		check(t, err)
		if state == job.Running {
			state = job.Queued // its agent is gone
		}
		if j.State != state || j.Seed != int64(40+i) || j.Ordinal != i || j.Failures != 1 || j.Key != "k" || *j.PinnedTo != 1 || j.PinnedKey != "" ||
			j.Prompt != "a lighthouse" || j.DeviceKey != "GPU-1" || j.Error != "it died once" || j.Created.UnixMilli() != 1000 || (j.Finished != nil) != state.Terminal() {
			t.Errorf("%+v", j)
		}
	}
	if used, err := q.References(t.Context(), "abc"); err != nil || !used {
		t.Errorf("its image: %v, %v", used, err)
	}
	if ok, err := q.Session(t.Context(), [32]byte{}); err != nil || !ok {
		t.Errorf("its session: %v, %v", ok, err)
	}
	if s := q.Steering(); s == nil || len(s.Devices) != 0 || s.Pool.MaxWatts != nil {
		t.Errorf("steering: %+v", s)
	}
	retry := spec(5)
	retry.DeviceID = new(gpu.Ref(1))
	for _, model := range []string{"sketch", ""} { // version 1 did not keep whether a model was asked for
		retry.Model = model
		if jobs, created, err := q.Submit(t.Context(), "k", retry, spec(5)); err != nil || created || len(jobs) != 5 {
			t.Errorf("its key with model %q: %d jobs, created=%v, %v", model, len(jobs), created, err)
		}
	}
	retry.Model = "sdxl"
	if _, _, err := q.Submit(t.Context(), "k", retry, retry); !errors.Is(err, ErrKeyReused) {
		t.Errorf("its key for another model: %v", err)
	}
	compareMirror(t, q)
	stop()
	q, _ = running(t, dir, Options{})
	if n := len(q.Active()); n != 2 {
		t.Errorf("%d active jobs after another start", n)
	}
	check(t, quickCheck(t.Context(), q.reader))
}

// What a new database gets is what an old one becomes.
func TestOldAndNewSchemaAreTheSame(t *testing.T) {
	t.Parallel()
	tables := func(dir string) (list []string) {
		q, _ := running(t, dir, Options{})
		rows, err := q.reader.QueryContext(t.Context(), "SELECT coalesce(sql, name) FROM sqlite_schema UNION SELECT name FROM meta ORDER BY 1")
		check(t, err)
		defer rows.Close()
		for rows.Next() {
			var text string
			check(t, rows.Scan(&text))
			list = append(list, text)
		}
		return list
	}
	old := t.TempDir()
	version1(t, old)
	if diff := differ(tables(t.TempDir()), tables(old)); diff != "" {
		t.Error(diff)
	}
}

// A step that fails leaves an old database as it was.
func TestMigrationIsWholeOrNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	version1(t, dir)
	db, err := openDatabase(filepath.Join(dir, databaseName), writerPragmas)
	check(t, err)
	_, err = db.ExecContext(t.Context(), "CREATE INDEX events_by_job ON events (seq)") // in the way of the last step
	check(t, err)
	if _, err := Open(t.Context(), dir, Options{}); err == nil {
		t.Fatal("opened")
	}
	var version string
	var devices int
	check(t, db.QueryRowContext(t.Context(), "SELECT value, (SELECT count(*) FROM sqlite_schema WHERE name = 'devices') FROM meta WHERE name = 'schema_version'").Scan(&version, &devices))
	if version != "1" || devices != 0 {
		t.Errorf("version %s, %d tables of the next", version, devices)
	}
	_, err = db.ExecContext(t.Context(), "DROP INDEX events_by_job")
	check(t, err)
	check(t, db.Close())
	running(t, dir, Options{})
}
