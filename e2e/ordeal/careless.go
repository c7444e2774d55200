package ordeal

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"muster/e2e/disk"
)

// Writer is a program that acknowledges something with each write, and may be careless about it: what a power cut takes from a
// careless one shows what the cut is worth as a test.
type Writer struct {
	Write func(n int) error
	Count func() (int, error) // how many are there, from the first on
	Close func() error
}

// worked is how long a Writer works before a cut.
const worked = 200 * time.Millisecond

// CutUnder lets a Writer work for a moment, cuts the power between two of its acknowledgements, and counts what is left.
func CutUnder(image *disk.Image, w Writer) (acknowledged, kept int, err error) {
	var mu sync.Mutex // held while one is written
	stop, done := make(chan struct{}), make(chan error, 1)
	written := 0
	go func() {
		for {
			mu.Lock()
			select {
			case <-stop:
				mu.Unlock()
				done <- nil
				return
			default:
			}
			err := w.Write(written)
			written++
			mu.Unlock()
			if err != nil {
				done <- err
				return
			}
		}
	}()
	time.Sleep(worked)
	mu.Lock()
	acknowledged = written
	err = image.Cut()
	close(stop)
	mu.Unlock()
	if err := errors.Join(err, <-done, w.Close(), image.Restore()); err != nil {
		return 0, 0, err
	}
	kept, err = w.Count()
	return acknowledged, kept, err
}

// Rows writes rows of a kilobyte as the agent's queue does, but with that value of SQLite's synchronous.
func Rows(dir, synchronous string) (Writer, error) {
	path := filepath.Join(dir, fmt.Sprintf("%s-%d.db", synchronous, time.Now().UnixNano()))
	open := func() (*sql.DB, error) {
		return sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous("+synchronous+")")
	}
	db, err := open()
	if err != nil {
		return Writer{}, err
	}
	if _, err := db.Exec("CREATE TABLE rows (n INTEGER PRIMARY KEY, text TEXT)"); err != nil {
		return Writer{}, errors.Join(err, db.Close())
	}
	return Writer{
		Write: func(n int) error {
			_, err := db.Exec("INSERT INTO rows VALUES (?, ?)", n, fmt.Sprintf("%1024d", n))
			return err
		},
		Count: func() (n int, err error) {
			db, err := open()
			if err != nil {
				return 0, err
			}
			defer db.Close()
			var tables int
			if err := db.QueryRow("SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil || tables == 0 {
				return 0, err
			}
			return n, db.QueryRow("SELECT count(*) FROM rows").Scan(&n)
		},
		Close: db.Close,
	}, nil
}

// Files writes files as images are written, under another name first; synced says whether they and their folder are synced.
func Files(dir string, synced bool) (Writer, error) {
	folder := filepath.Join(dir, fmt.Sprint("files-", time.Now().UnixNano()))
	if err := os.Mkdir(folder, 0o700); err != nil {
		return Writer{}, err
	}
	if synced {
		if err := syncPath(dir); err != nil {
			return Writer{}, err
		}
	}
	content := make([]byte, 20_000)
	name := func(n int) string { return filepath.Join(folder, fmt.Sprint(n)) }
	return Writer{
		Write: func(n int) error {
			tmp := name(n) + ".tmp"
			if err := os.WriteFile(tmp, content, 0o600); err != nil {
				return err
			}
			if !synced {
				return os.Rename(tmp, name(n))
			}
			return errors.Join(syncPath(tmp), os.Rename(tmp, name(n)), syncPath(folder))
		},
		Count: func() (n int, err error) {
			for ; ; n++ {
				if read, err := os.ReadFile(name(n)); err != nil || len(read) != len(content) {
					return n, nil
				}
			}
		},
		Close: func() error { return nil },
	}, nil
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
