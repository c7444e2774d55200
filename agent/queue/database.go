package queue

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	databaseName = "muster.db"
	// applicationID marks the file as muster's ("mstr"), https://sqlite.org/fileformat2.html#application_id
	applicationID       = 0x6d737472
	applicationIDOffset = 68
	headerBytes         = 100
	headerMagic         = "SQLite format 3\x00"
	readers             = 4
)

// pragmas hold for every connection: durability, and what keeps it small.
var (
	writerPragmas = []string{"busy_timeout=5000", "journal_mode=WAL", "synchronous=FULL", "cache_size=-4096", "wal_autocheckpoint=1000"}
	readerPragmas = []string{"busy_timeout=5000", "journal_mode=WAL", "synchronous=FULL", "cache_size=-1024", "query_only=1"}
)

// connector opens connections with their pragmas set and read back.
type connector struct {
	driver.Connector
	pragmas []string
}

func openDatabase(path string, pragmas []string) (*sql.DB, error) {
	base, err := plainConnector(path)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector{base, pragmas}), nil
}

func plainConnector(path string) (driver.Connector, error) {
	return sqlite.NewConnector("file:" + (&url.URL{Path: path}).EscapedPath())
}

// Connect opens one connection. It fails when the database does not keep what durability rests on.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.setUp(ctx, conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func (c connector) setUp(ctx context.Context, conn driver.Conn) error {
	for _, pragma := range c.pragmas {
		if _, err := conn.(driver.ExecerContext).ExecContext(ctx, "PRAGMA "+pragma, nil); err != nil {
			return fmt.Errorf("set %s: %w", pragma, err)
		}
	}
	for name, want := range map[string]string{"journal_mode": "wal", "synchronous": "2"} {
		got, err := pragma(ctx, conn, name)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%s is %q, want %q: this disk can't keep jobs safely; choose a local one with --data", name, got, want)
		}
	}
	return nil
}

func pragma(ctx context.Context, conn driver.Conn, name string) (string, error) {
	rows, err := conn.(driver.QueryerContext).QueryContext(ctx, "PRAGMA "+name, nil)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	defer rows.Close()
	value := make([]driver.Value, 1)
	if err := rows.Next(value); err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return fmt.Sprint(value[0]), nil
}

// openReaders gives connections that can't write.
func openReaders(ctx context.Context, path string) (*sql.DB, error) {
	db, err := openDatabase(path, readerPragmas)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(readers)
	db.SetMaxIdleConns(readers)
	if err := db.PingContext(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// prepareFile looks at the file before SQLite does, because SQLite would write into a database of another program. A new one gets
// its mark in rollback mode, so that the mark is in the file itself before there can be a write-ahead log.
func prepareFile(ctx context.Context, path string) error {
	empty, err := inspect(path)
	if err != nil || !empty {
		return err
	}
	if log, err := os.Stat(path + "-wal"); err == nil && log.Size() > 0 {
		return fmt.Errorf("%s is missing, but its log %s-wal is there and may hold jobs: put the database back, or move the log away", path, path)
	}
	// SQLite would make it readable for everyone, and prompts are private.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	f.Close()
	plain, err := plainConnector(path)
	if err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	db := sql.OpenDB(plain)
	defer db.Close()
	if _, err := db.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id=%d", applicationID)); err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	return nil
}

// inspect tells whether there is no database yet. It is called before this process has the file open through SQLite: closing any
// descriptor of it later would drop SQLite's POSIX locks.
func inspect(path string) (empty bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("open the database: %w", err)
	}
	defer f.Close()
	header := make([]byte, headerBytes)
	n, err := io.ReadFull(f, header)
	switch {
	case errors.Is(err, io.EOF):
		return true, nil
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
		return false, fmt.Errorf("read %s: %w", path, err)
	case n < headerBytes || string(header[:len(headerMagic)]) != headerMagic:
		return false, explainDatabase(path, fmt.Errorf("%w: it does not begin as a database does", ErrCorrupt))
	case binary.BigEndian.Uint32(header[applicationIDOffset:]) != applicationID:
		return false, fmt.Errorf("%s is a database of another program; it was left alone: choose another folder with --data", path)
	}
	return false, nil
}

// explainDatabase says what a person can do about an error of the database.
func explainDatabase(path string, err error) error {
	var failed *sqlite.Error
	code := 0
	if errors.As(err, &failed) {
		code = failed.Code() & 0xff
	}
	if code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	switch {
	case errors.Is(err, ErrCorrupt):
		return fmt.Errorf("%s: %w: nothing was deleted; restore it from a backup, or move it (with -wal and -shm) to another folder and start again with an empty queue; the images stay", path, err)
	case code == sqlite3.SQLITE_FULL, code == sqlite3.SQLITE_IOERR && noRoom(path):
		return fmt.Errorf("write %s: %w: delete something there: %w", path, ErrDiskFull, err)
	case code == sqlite3.SQLITE_IOERR, code == sqlite3.SQLITE_READONLY, code == sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("database %s: %w: is it mounted read-only, or does it fail? see dmesg, or choose another with --data: %w", path, ErrDisk, err)
	default:
		return fmt.Errorf("database %s: %w", path, err)
	}
}

// noRoom says whether the disk is full to the brim: SQLite calls that an I/O error where it is its log's index or a sync that fails.
func noRoom(path string) bool {
	const brim = 1 << 20
	free, _, err := diskFree(filepath.Dir(path))
	return err == nil && free < brim
}

func quickCheck(ctx context.Context, db *sql.DB) error {
	var result string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&result); err != nil {
		return err
	}
	if result == "ok" {
		return nil
	}
	if unreadable(result) {
		return fmt.Errorf("%w: %s", ErrDisk, result)
	}
	return fmt.Errorf("%w: %s", ErrCorrupt, result)
}

// errorCode is where the check says why it could not look at a page: "unable to get the page. error code=266".
var errorCode = regexp.MustCompile(`error code[= ](\d+)`)

// unreadable says whether the check came upon a page that the disk did not give. That is no damage: it may be well the next time.
func unreadable(result string) bool {
	found := errorCode.FindStringSubmatch(result)
	if found == nil {
		return false
	}
	code, err := strconv.Atoi(found[1])
	return err == nil && code&0xff != sqlite3.SQLITE_CORRUPT && code&0xff != sqlite3.SQLITE_NOTADB
}
