package images

import (
	"fmt"

	"muster/agent/imagefile"
)

// MaxPixels is how many pixels an image may have.
const MaxPixels = 64 << 20

// checkPNG says whether the bytes are a whole PNG file within bounds.
func checkPNG(png []byte) error {
	if len(png) > MaxBytes {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrTooLarge, len(png), MaxBytes)
	}
	width, height, err := imagefile.PNG(png)
	if err != nil {
		return err
	}
	if uint64(width)*uint64(height) > MaxPixels { // 32 bits each: no overflow
		return fmt.Errorf("%w: %d x %d pixels, at most %d megapixels are allowed", ErrTooLarge, width, height, MaxPixels>>20)
	}
	return nil
}
