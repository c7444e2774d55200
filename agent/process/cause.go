package process

import (
	"errors"
	"io/fs"
	"os/exec"
)

// Cause is why a program can't be run, without its path, which os/exec repeats: "no such file or directory".
func Cause(err error) error {
	if lookup := new(exec.Error); errors.As(err, &lookup) {
		err = lookup.Err
	}
	if path := new(fs.PathError); errors.As(err, &path) {
		err = path.Err
	}
	return err
}
