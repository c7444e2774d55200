package sdserver

import (
	"errors"
	"fmt"

	"muster/agent/imagefile"
)

// errSize is wrapped when a sound image has another size than was asked for.
var errSize = errors.New("the image has the wrong size")

// checkPNG says whether data is one whole PNG of that size.
func checkPNG(data []byte, width, height int) error {
	w, h, err := imagefile.PNG(data)
	if err != nil {
		return err
	}
	if int64(w) != int64(width) || int64(h) != int64(height) {
		return fmt.Errorf("%w: %dx%d instead of %dx%d", errSize, w, h, width, height)
	}
	return nil
}
