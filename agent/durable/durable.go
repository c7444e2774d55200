// Package durable replaces small files so that a crash at any point leaves a whole one. It is a leaf that imports the standard library
// alone.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// Replace puts a file of that content in the place of another, or of none, for this user alone. After a crash at any point the old content
// is there, or the new. When it fails, the old one is there and nothing is left of the new one.
func Replace(path string, content []byte) error {
	tmp := path + ".tmp"
	file, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err // what stands there in the way is not ours
	}
	if err := fill(file, content); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// fill writes the content to the disk, and closes the file.
func fill(file *os.File, content []byte) error {
	_, err := file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}
