package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// Swept is what Sweep did and found.
type Swept struct {
	Removed int   // images
	Kept    int64 // bytes of the images that are wanted, with their thumbnails
}

// Sweep removes images that keep does not want and that nobody put within olderThan, with their thumbnails, and leftovers of that
// age. An image whose job has not ended yet looks unwanted: olderThan must be longer than that takes. After an error or the end
// of the context it gives what it had done until then.
func (s *Store) Sweep(ctx context.Context, keep func(id string) bool, olderThan time.Duration) (swept Swept, err error) {
	before := time.Now().Add(-olderThan)
	if err := s.sweepTmp(before); err != nil {
		return swept, err
	}
	folders, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return swept, fmt.Errorf("sweep images: %w", err)
	}
	for _, folder := range folders {
		if !folder.IsDir() || len(folder.Name()) != 2 {
			continue
		}
		files, err := fs.ReadDir(s.root.FS(), folder.Name())
		if err != nil {
			return swept, fmt.Errorf("sweep images: %w", err)
		}
		for _, file := range files {
			if err := ctx.Err(); err != nil {
				return swept, err
			}
			if err := s.sweepFile(folder.Name(), file.Name(), keep, before, &swept); err != nil {
				return swept, fmt.Errorf("sweep images: %w", err)
			}
		}
	}
	return swept, nil
}

func (s *Store) sweepFile(folder, name string, keep func(id string) bool, before time.Time, swept *Swept) error {
	id, isThumb := strings.CutSuffix(name, thumbSuffix)
	id, isImage := strings.CutSuffix(id, imageSuffix)
	switch {
	case !isID(id) || id[:2] != folder:
		return nil
	case isThumb:
		return s.removeOrphan(id)
	case !isImage:
		return nil
	case keep(id):
		swept.Kept += s.Size(id)
		return nil
	}
	gone, err := s.remove(id, before)
	if gone {
		swept.Removed++
	}
	return err
}

// Size gives the bytes of an image and its thumbnail; 0 when there is none.
func (s *Store) Size(id string) (bytes int64) {
	if !isID(id) {
		return 0
	}
	for _, suffix := range []string{imageSuffix, thumbSuffix} {
		if info, err := s.root.Lstat(path(id, suffix)); err == nil {
			bytes += info.Size()
		}
	}
	return bytes
}

// Remove takes an image that no job names any more away, with its thumbnail, unless it was put within olderThan: a job may be
// about to name it again, for the same pixels have the same id. One that is not there is no error.
func (s *Store) Remove(id string, olderThan time.Duration) (gone bool, err error) {
	if !isID(id) {
		return false, nil
	}
	gone, err = s.remove(id, time.Now().Add(-olderThan))
	if err != nil {
		return false, fmt.Errorf("remove image: %w", err)
	}
	return gone, nil
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
