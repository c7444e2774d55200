package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"muster/shared/model"
)

// examine checks the hash and the header of a whole part. What is wrong is removed: no further byte would mend it.
func (l *Library) examine(ctx context.Context, root *os.Root, r *record) error {
	l.enterState(r, model.Verifying)
	part, err := root.Open(partName(r.ID))
	if err != nil {
		return onDisk(err)
	}
	defer part.Close()
	sum, err := hash(ctx, part)
	if err != nil {
		return err
	}
	l.mu.Lock()
	want := r.SHA
	r.SHA = sum
	l.mu.Unlock()
	if want != "" && want != sum {
		return l.spoiled(r, fmt.Sprintf("the file has the SHA-256 %s, and not %s: it was damaged on its way, or is another one; it was removed", sum, want))
	}
	info, err := part.Stat()
	if err != nil {
		return onDisk(err)
	}
	found, err := inspect(part, info.Size(), formatOf(r.FileName))
	if err != nil {
		return onDisk(err)
	}
	if found.problem != "" {
		return l.spoiled(r, "the file "+found.problem+"; it was removed")
	}
	return nil
}

// spoiled removes a part that is of no use.
func (l *Library) spoiled(r *record, words string) error {
	l.mu.Lock()
	r.Kept, r.ETag, r.SHA, r.Total = 0, "", r.Wanted, 0
	l.mu.Unlock()
	return errors.Join(&permanentError{words}, onDisk(l.dropPart(r.ID)))
}

// hash gives the SHA-256 of a file in hex.
func hash(ctx context.Context, file io.Reader) (string, error) {
	sum, buffer := sha256.New(), make([]byte, 1<<20)
	for {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		n, err := file.Read(buffer)
		sum.Write(buffer[:n])
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(sum.Sum(nil)), nil
		}
		if err != nil {
			return "", onDisk(err)
		}
	}
}

// settle gives the part its name. What is about to happen is remembered first: after a crash in between the file is known to be ours.
func (l *Library) settle(root *os.Root, r *record) error {
	l.mu.Lock()
	stopped := r.State.Ended()
	r.Placing = !stopped
	l.mu.Unlock()
	if stopped {
		return errStopped
	}
	if err := l.save(); err != nil {
		return onDisk(err)
	}
	err := giveName(root, partName(r.ID), r.FileName)
	if errors.Is(err, os.ErrExist) {
		return l.spoiled(r, fmt.Sprintf("a file named %s came into the models folder meanwhile, and is not replaced", r.FileName))
	}
	if err != nil {
		return onDisk(err)
	}
	return l.installed(root, r)
}

// adopt looks whether a file got its name before a crash. done says that nothing is left to do but to load it.
func (l *Library) adopt(ctx context.Context, root *os.Root, r *record) (done bool, err error) {
	if part, err := root.Lstat(partName(r.ID)); err == nil {
		if named, err := root.Lstat(r.FileName); err != nil || !os.SameFile(part, named) {
			return false, nil // it did not
		}
		if err := l.dropPart(r.ID); err != nil { // it has both names: see linkName
			return false, onDisk(err)
		}
	}
	file, err := root.Open(r.FileName)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, onDisk(err)
	}
	defer file.Close()
	l.enterState(r, model.Verifying)
	sum, err := hash(ctx, file)
	if err != nil {
		return false, err
	}
	if sum != r.SHA {
		return false, &permanentError{fmt.Sprintf("a file named %s came into the models folder meanwhile, and is not replaced", r.FileName)}
	}
	if err := l.installed(root, r); err != nil {
		return false, err
	}
	return true, l.load(ctx, r)
}

// installed records a file that has its name, and lets it be seen.
func (l *Library) installed(root *os.Root, r *record) error {
	info, err := root.Lstat(r.FileName)
	if err != nil {
		return onDisk(err)
	}
	l.mu.Lock()
	l.memory.Installed[r.FileName] = origin{SHA256: r.SHA, From: r.from(l.web), Bytes: info.Size(), Modified: info.ModTime()}
	delete(l.memory.Disabled, r.FileName)
	r.Placing, r.State, r.Total, r.Kept, r.ETag = false, model.Loading, info.Size(), 0, "" // from here on a restart only loads it
	l.mu.Unlock()
	l.log.Info("a model is installed", "name", stem(r.FileName), "bytes", info.Size())
	if err := l.save(); err != nil {
		return onDisk(err)
	}
	l.scan(context.Background())
	return nil
}
