package images

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/jpeg"

	"golang.org/x/image/draw"
)

// JPEG gives the image in its full size as a JPEG file of that quality, 1 to 100. It is made anew each time. One is made at a time;
// the others wait until their context ends. Errors are those of Thumb.
func (s *Store) JPEG(ctx context.Context, id string, quality int) ([]byte, error) {
	f, err := s.Open(id)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	done, err := s.alone(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	full, err := decode(f)
	if err != nil {
		return nil, fmt.Errorf("JPEG of %s: %w", id, err)
	}
	if opaque, ok := full.(interface{ Opaque() bool }); !ok || !opaque.Opaque() {
		flat := onWhite(image.Rectangle{Max: full.Bounds().Size()})
		draw.Draw(flat, flat.Rect, full, full.Bounds().Min, draw.Over)
		full = flat
	}
	var out bytes.Buffer
	if err := jpeg.Encode(&out, full, &jpeg.Options{Quality: quality}); err != nil {
		return nil, fmt.Errorf("JPEG of %s: %w", id, err)
	}
	return out.Bytes(), nil
}

// alone waits until nobody else has pixels in memory.
func (s *Store) alone(ctx context.Context) (done func(), err error) {
	select {
	case s.decode <- struct{}{}:
		return func() { <-s.decode }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
