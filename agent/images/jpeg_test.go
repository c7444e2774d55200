package images

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"testing"
)

func TestJPEG(t *testing.T) {
	t.Parallel()
	s := store(t, t.TempDir())
	id, err := s.Put(t.Context(), picture(t, 700, 300, 0))
	check(t, err)
	fine, err := s.JPEG(t.Context(), id, 95)
	check(t, err)
	coarse, err := s.JPEG(t.Context(), id, 1)
	check(t, err)
	if len(coarse) >= len(fine) {
		t.Errorf("%d bytes at quality 1, %d at 95", len(coarse), len(fine))
	}
	img, err := jpeg.Decode(bytes.NewReader(fine))
	check(t, err)
	left, _, _, _ := img.At(0, 0).RGBA()
	_, _, right, _ := img.At(699, 299).RGBA()
	if img.Bounds().Size() != image.Pt(700, 300) || left>>8 < 240 || right>>8 < 240 {
		t.Errorf("size %v, red %d on the left, blue %d on the right", img.Bounds().Size(), left>>8, right>>8)
	}
}

func TestJPEGShowsTransparencyAsWhite(t *testing.T) {
	t.Parallel()
	half := image.NewNRGBA(image.Rect(0, 0, 64, 64))
	for y := range 64 {
		for x := range 32 {
			half.SetNRGBA(x, y, color.NRGBA{R: 255, A: 255})
		}
	}
	var b bytes.Buffer
	check(t, png.Encode(&b, half))
	s := store(t, t.TempDir())
	id, err := s.Put(t.Context(), b.Bytes())
	check(t, err)
	out, err := s.JPEG(t.Context(), id, 100)
	check(t, err)
	img, err := jpeg.Decode(bytes.NewReader(out))
	check(t, err)
	if r, g, b, _ := img.At(60, 32).RGBA(); min(r, g, b)>>8 < 250 {
		t.Errorf("where nothing is: %v", img.At(60, 32))
	}
	if r, g, _, _ := img.At(4, 32).RGBA(); r>>8 < 240 || g>>8 > 20 {
		t.Errorf("where it is red: %v", img.At(4, 32))
	}
}

func TestJPEGRefuses(t *testing.T) {
	t.Parallel()
	s := store(t, t.TempDir())
	for name, c := range map[string]struct {
		in   []byte
		want error
	}{
		"more pixels than are unpacked here": {bomb(5000, 5000), ErrTooLarge},
		"pixels that are none":               {bomb(64, 64), ErrInvalid},
	} {
		id, err := s.Put(t.Context(), c.in)
		check(t, err)
		if _, err := s.JPEG(t.Context(), id, 90); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.JPEG(t.Context(), "../../etc/passwd", 90); !errors.Is(err, ErrNotFound) {
		t.Errorf("no id: %v", err)
	}
	id, err := s.Put(t.Context(), picture(t, 40, 40, 0))
	check(t, err)
	s.decode <- struct{}{} // another one is being made
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.JPEG(ctx, id, 90); !errors.Is(err, context.Canceled) {
		t.Errorf("while another is made: %v", err)
	}
}
