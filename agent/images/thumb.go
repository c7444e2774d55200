package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"io/fs"
	"os"

	"golang.org/x/image/draw"
)

// Bounds of thumbnails.
const (
	ThumbSide      = 320      // pixels of the longer side
	MaxThumbPixels = 16 << 20 // of the image
	thumbQuality   = 82
)

// Thumb gives a JPEG of at most ThumbSide pixels on the longer side; smaller images keep their size. It is made once and kept. One
// is made at a time; the others wait until their context ends. Errors: ErrNotFound, ErrInvalid when the pixels can't be decoded,
// ErrTooLarge above MaxThumbPixels: show the original instead.
func (s *Store) Thumb(ctx context.Context, id string) ([]byte, error) {
	f, err := s.Open(id) // before the kept one: an image that is gone has no thumbnail
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if kept, err := s.kept(id); kept != nil || err != nil {
		return kept, err
	}
	done, err := s.alone(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if kept, err := s.kept(id); kept != nil || err != nil {
		return kept, err // another one made it while we waited
	}
	thumb, err := shrink(f)
	if err != nil {
		return nil, fmt.Errorf("thumbnail of %s: %w", id, err)
	}
	// It can be made again, so a full disk is no reason to show nothing.
	_ = s.place(path(id, thumbSuffix), thumb)
	return thumb, nil
}

// kept gives the thumbnail on disk; nil when there is none.
func (s *Store) kept(id string) ([]byte, error) {
	thumb, err := s.root.ReadFile(path(id, thumbSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read thumbnail: %w", err)
	}
	return thumb, nil
}

func shrink(f *os.File) ([]byte, error) {
	full, err := decode(f)
	if err != nil {
		return nil, err
	}
	size := full.Bounds().Size()
	small := onWhite(fit(size.X, size.Y))
	draw.BiLinear.Scale(small, small.Rect, full, full.Bounds(), draw.Over, nil)
	var out bytes.Buffer
	if err := jpeg.Encode(&out, small, &jpeg.Options{Quality: thumbQuality}); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// decode unpacks an image of at most MaxThumbPixels, held by who has s.decode.
func decode(f *os.File) (image.Image, error) {
	config, err := png.DecodeConfig(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if config.Width*config.Height > MaxThumbPixels {
		return nil, fmt.Errorf("%w: %d x %d pixels", ErrTooLarge, config.Width, config.Height)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	full, err := png.Decode(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return full, nil
}

// onWhite is an empty picture for JPEG, which has no transparency: what is transparent shows white.
func onWhite(r image.Rectangle) *image.RGBA {
	p := image.NewRGBA(r)
	draw.Draw(p, p.Rect, image.NewUniform(color.White), image.Point{}, draw.Src)
	return p
}

// fit is the largest size of the same shape within ThumbSide, at least one pixel each way, and never more than the image has.
func fit(width, height int) image.Rectangle {
	longer := max(width, height)
	if longer <= ThumbSide {
		return image.Rect(0, 0, width, height)
	}
	side := func(n int) int { return max(1, (n*ThumbSide+longer/2)/longer) }
	return image.Rect(0, 0, side(width), side(height))
}
