package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// Sweep removes images that keep does not want and that nobody put within olderThan, with their thumbnails, and leftovers of that
// age; removed counts images. An image whose job has not ended yet looks unwanted: olderThan must be longer than that takes.
// After an error or the end of the context it gives what it had removed until then.
func (s *Store) Sweep(ctx context.Context, keep func(id string) bool, olderThan time.Duration) (removed int, err error) {
	before := time.Now().Add(-olderThan)
	if err := s.sweepTmp(before); err != nil {
		return 0, err
	}
	folders, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return 0, fmt.Errorf("sweep images: %w", err)
	}
	for _, folder := range folders {
		if !folder.IsDir() || len(folder.Name()) != 2 {
			continue
		}
		files, err := fs.ReadDir(s.root.FS(), folder.Name())
		if err != nil {
			return removed, fmt.Errorf("sweep images: %w", err)
		}
		for _, file := range files {
			if err := ctx.Err(); err != nil {
				return removed, err
			}
			id, isThumb := strings.CutSuffix(file.Name(), thumbSuffix)
			id, isImage := strings.CutSuffix(id, imageSuffix)
			switch {
			case !isID(id) || id[:2] != folder.Name():
				continue
			case isThumb:
				err = s.removeOrphan(id)
			case isImage && !keep(id):
				var gone bool
				if gone, err = s.remove(id, before); gone {
					removed++
				}
			}
			if err != nil {
				return removed, fmt.Errorf("sweep images: %w", err)
			}
		}
	}
	return removed, nil
}

// removeOrphan removes a thumbnail that was made while its image went.
func (s *Store) removeOrphan(id string) error {
	s.placing.Lock()
	defer s.placing.Unlock()
	if _, err := s.root.Lstat(path(id, imageSuffix)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := s.root.Remove(path(id, thumbSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// remove takes an image away unless somebody put it since.
func (s *Store) remove(id string, before time.Time) (bool, error) {
	s.placing.Lock()
	defer s.placing.Unlock()
	info, err := s.root.Lstat(path(id, imageSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || info.ModTime().After(before) {
		return false, err
	}
	if err := s.root.Remove(path(id, thumbSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	err = s.root.Remove(path(id, imageSuffix))
	return err == nil, err
}

// sweepTmp removes half-written files that a crash left.
func (s *Store) sweepTmp(before time.Time) error {
	entries, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return fmt.Errorf("read the image folder %s: %w", s.dir, err)
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), tmpPrefix) || !entry.Type().IsRegular() {
			continue
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.ModTime().After(before) {
			continue
		}
		if err == nil {
			err = s.root.Remove(entry.Name())
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what a crash left in %s: %w", s.dir, err)
		}
	}
	return nil
}
