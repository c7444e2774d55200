package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"

	"muster/shared/job"
)

// jobIDForm is that of a ULID: what is used as a file's name is nothing else.
var jobIDForm = regexp.MustCompile(`^[0-9A-Z]{26}$`)

// imageName is what a job's image is called on this side; no other job has it, and nothing of the prompt is in it.
func imageName(j job.Job) string { return j.ID + ".png" }

// keepImage writes a job's image as DIR/<job id>.png and checks it by its hash, which is its id. One that is there already, whole,
// is left alone; one that is cut off leaves nothing.
func keepImage(ctx context.Context, client *client, j job.Job, dir string) error {
	if !jobIDForm.MatchString(j.ID) {
		return fmt.Errorf("%.60q is not the id of a job", j.ID)
	}
	path := filepath.Join(dir, imageName(j))
	if whole, err := isImage(path, j.ImageID); whole || err != nil {
		return err
	}
	body, err := client.stream(ctx, "/api/v1/images/"+url.PathEscape(j.ImageID))
	if err != nil {
		return err
	}
	defer body.Close()
	return writeWhole(path, func(to io.Writer) error {
		sum := sha256.New()
		if _, err := io.Copy(io.MultiWriter(to, sum), body); err != nil {
			return fmt.Errorf("image of job %s: %w", j.ID, err)
		}
		if got := hex.EncodeToString(sum.Sum(nil)); got != j.ImageID {
			return fmt.Errorf("image of job %s did not arrive whole: its hash is %s, not %s", j.ID, got, j.ImageID)
		}
		return nil
	})
}

// isImage says whether a file is there and is the image of that id.
func isImage(path, id string) (bool, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return false, err
	}
	return hex.EncodeToString(sum.Sum(nil)) == id, nil
}

// writeWhole makes a file that has its name only once all of it is on the disk. It is this user's alone: what is written may be
// private.
func writeWhole(path string, write func(io.Writer) error) error {
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, ".muster-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // it is not there any more when all went well
	if err = write(file); err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
