package ordeal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image/png"

	"muster/e2e/harness"
	"muster/shared/job"
)

// image fetches the image of a job that succeeded and checks that it is whole: its name is the hash of its bytes, every pixel
// can be read, and its size is what was asked for.
func (l *Ledger) image(ctx context.Context, agent *harness.Agent, id string) (status int, err error) {
	l.mu.Lock()
	s := l.jobs[id]
	imageID, spec := s.newest.ImageID, s.spec
	l.mu.Unlock()
	var file []byte
	status, err = agent.Do(ctx, "GET", "/api/v1/images/"+imageID, nil, &file)
	if err != nil {
		if status >= 400 {
			l.breach("job %s succeeded with image %.12s, which can't be had: %v", id, imageID, err)
		}
		return status, err
	}
	if err := whole(file, imageID, spec); err != nil {
		l.breach("image of job %s: %v", id, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.fetched = true
	l.totals.Images++
	return status, nil
}

func whole(file []byte, imageID string, spec job.Spec) error {
	sum := sha256.Sum256(file)
	if hash := hex.EncodeToString(sum[:]); hash != imageID {
		return fmt.Errorf("%d bytes with hash %.12s stand under the name %.12s", len(file), hash, imageID)
	}
	img, err := png.Decode(bytes.NewReader(file))
	if err != nil {
		return err
	}
	if size := img.Bounds().Size(); size.X != spec.Width || size.Y != spec.Height {
		return fmt.Errorf("it measures %v: want %d x %d", size, spec.Width, spec.Height)
	}
	return nil
}
