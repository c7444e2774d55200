package images

import (
	"errors"
	"io/fs"
	"os"
	"time"
)

// disk is what place asks of the file system, so that a test can let each call fail. Names are below the store's folder.
type disk interface {
	Lstat(name string) (fs.FileInfo, error)
	Chtimes(name string, accessed, modified time.Time) error
	Mkdir(name string, mode fs.FileMode) error
	Create(name string) (file, error) // a new one, for this user alone
	Rename(from, to string) error
	Remove(name string) error
	Sync(folder string) error
}

// file is a new file that is being written.
type file interface {
	Write(content []byte) (int, error)
	Sync() error
	Close() error
}

// rootDisk is the disk itself, below a folder that it can't leave.
type rootDisk struct{ *os.Root }

func (d rootDisk) Create(name string) (file, error) {
	return d.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func (d rootDisk) Sync(folder string) error {
	f, err := d.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
