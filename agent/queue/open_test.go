package queue

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestOneAgentPerFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, stop := running(t, dir, Options{})
	_, err := Open(t.Context(), dir, Options{})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "--data") || !strings.Contains(err.Error(), "process ") {
		t.Errorf("second agent: %v", err)
	}
	stop()
	running(t, dir, Options{})
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		make    func(t *testing.T, dir string)
		corrupt bool
		says    string
	}{
		{"text", write(databaseName, "my poems, the only copy, "+strings.Repeat("la ", 50)), true, "move it"},
		{"a few bytes", write(databaseName, "x"), true, "move it"},
		{"another program's database", foreign, false, "another program"},
		{"a newer schema", newer, false, "newer muster"},
		{"damaged pages", damaged, true, "move it"},
		{"a log without its database", write(databaseName+"-wal", "frames"), false, "put the database back"},
		{"a folder in its place", func(t *testing.T, dir string) { check(t, os.Mkdir(filepath.Join(dir, databaseName), 0o700)) }, false, databaseName},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c.make(t, dir)
			before := contents(t, dir)
			q, err := Open(t.Context(), dir, Options{})
			if err == nil {
				q.release()
				t.Fatal("opened")
			}
			if errors.Is(err, ErrCorrupt) != c.corrupt || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), filepath.Join(dir, databaseName)) {
				t.Errorf("error: %v", err)
			}
			for name, text := range before {
				if contents(t, dir)[name] != text {
					t.Errorf("%s was changed", name)
				}
			}
			if _, err := Open(t.Context(), dir, Options{}); errors.Is(err, ErrLocked) {
				t.Error("the lock was kept")
			}
		})
	}
}

func write(name, text string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)) }
}

func foreign(t *testing.T, dir string) {
	db, err := openDatabase(filepath.Join(dir, databaseName), writerPragmas)
	check(t, err)
	_, err = db.Exec("CREATE TABLE poems (line TEXT); INSERT INTO poems VALUES ('only copy')")
	check(t, err)
	check(t, db.Close())
}

func newer(t *testing.T, dir string) {
	_, stop := running(t, dir, Options{})
	stop()
	db, err := openDatabase(filepath.Join(dir, databaseName), writerPragmas)
	check(t, err)
	_, err = db.Exec("UPDATE meta SET value = '99' WHERE name = 'schema_version'")
	check(t, err)
	check(t, db.Close())
}

func damaged(t *testing.T, dir string) {
	_, stop := running(t, dir, Options{})
	stop()
	path := filepath.Join(dir, databaseName)
	text, err := os.ReadFile(path)
	check(t, err)
	for i := 200; i < len(text); i++ {
		text[i] = 0xa5
	}
	check(t, os.WriteFile(path, text, 0o600))
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, name := range []string{databaseName, databaseName + "-wal"} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			texts[name] = string(text)
		}
	}
	return texts
}

func TestFolderWithOddName(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a b?c=%41#d;e")
	q, stop := running(t, dir, Options{})
	submit(t, q, 1)
	stop()
	for _, name := range []string{databaseName, "lock"} {
		info, err := os.Stat(filepath.Join(dir, name))
		check(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v; prompts are private", name, info.Mode())
		}
	}
}

func TestEveryConnectionIsDurable(t *testing.T) {
	t.Parallel()
	q, _ := running(t, t.TempDir(), Options{})
	for range readers {
		conn, err := q.reader.Conn(t.Context()) // held, so that each is another one
		check(t, err)
		defer conn.Close()
		var mode string
		var level, readOnly int
		check(t, conn.QueryRowContext(t.Context(), "PRAGMA journal_mode").Scan(&mode))
		check(t, conn.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&level))
		check(t, conn.QueryRowContext(t.Context(), "PRAGMA query_only").Scan(&readOnly))
		if mode != "wal" || level != 2 || readOnly != 1 {
			t.Errorf("journal_mode %s, synchronous %d, query_only %d", mode, level, readOnly)
		}
	}
	if _, err := openLax(t); err == nil || !strings.Contains(err.Error(), "synchronous") {
		t.Errorf("a connection without synchronous=FULL was let through: %v", err)
	}
}

func openLax(t *testing.T) (any, error) {
	db, err := openDatabase(filepath.Join(t.TempDir(), databaseName), []string{"journal_mode=WAL", "synchronous=NORMAL"})
	check(t, err)
	defer db.Close()
	return nil, db.Ping()
}

func TestCheckAfterUncleanStop(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q, stop := running(t, dir, Options{})
	if q.unclean {
		t.Error("a new folder counts as unclean")
	}
	stop()
	q, err := Open(t.Context(), dir, spacious(Options{}))
	check(t, err)
	if q.unclean {
		t.Error("an orderly stop counts as unclean")
	}
	q.release() // without Run: as after a crash
	log := &lines{}
	q, err = Open(t.Context(), dir, spacious(Options{Log: slog.New(slog.NewTextHandler(log, nil))}))
	check(t, err)
	if !q.unclean {
		t.Error("a crash counts as orderly")
	}
	q.check(t.Context())
	if !strings.Contains(log.String(), "sound") {
		t.Errorf("log: %s", log)
	}
	damage := error(ErrCorrupt)
	q.damage.Store(&damage)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- q.Run(ctx) }()
	if _, _, err := q.Submit(t.Context(), "", spec(1), spec(1)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a damaged database accepted a job: %v", err)
	}
	cancel()
	check(t, <-done)
}

type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
