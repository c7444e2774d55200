package comfyui

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"muster/agent/backend/exchange"
	"muster/agent/imagefile"
)

// errSize is wrapped when a sound image has another size than was asked for.
var errSize = errors.New("the image has the wrong size")

// errNotOurs says that an image is another prompt's.
var errNotOurs = errors.New("another prompt's image")

// maxPixels is how many pixels an image may have whose size the workflow decides.
const maxPixels = 64 << 20

// take fetches the image of a prompt that has ended.
func (s *server) take(ctx context.Context, r *record, o order) ([]byte, error) {
	if err := r.problem(); err != nil {
		return nil, err
	}
	shown := r.images(o.output)
	if len(shown) == 0 {
		return nil, fmt.Errorf("%s %w: a finished prompt without an image", s.api.Name(), exchange.ErrBroken)
	}
	f := shown[0]
	err := f.safe()
	if err == nil && o.prefix != "" && !strings.HasPrefix(f.Filename, o.prefix+"_") {
		err = errNotOurs
	}
	if err != nil {
		return nil, fmt.Errorf("%s %w: %w", s.api.Name(), exchange.ErrBroken, err)
	}
	png, err := s.api.view(ctx, f, s.limits.view)
	if unreachable(err) && ctx.Err() == nil { // a connection that broke: the image is still there
		png, err = s.api.view(ctx, f, s.limits.view)
	}
	var answered *exchange.StatusError
	if errors.As(err, &answered) && answered.Status == http.StatusNotFound {
		return nil, errNoFile
	}
	if err != nil {
		return nil, err
	}
	if err := checkImage(png, o); err != nil {
		if errors.Is(err, errSize) {
			return nil, err
		}
		return nil, fmt.Errorf("%s %w: %w", s.api.Name(), exchange.ErrBroken, err)
	}
	if s.taken != nil {
		s.taken()
	}
	return png, nil
}

// checkImage says whether the bytes are one whole PNG of the size that was ordered, and of the prompt as far as it tells.
func checkImage(png []byte, o order) error {
	width, height, err := imagefile.PNG(png)
	switch {
	case err != nil:
		return err
	case o.width != 0 && (int64(width) != int64(o.width) || int64(height) != int64(o.height)):
		return fmt.Errorf("%w: %dx%d instead of %dx%d", errSize, width, height, o.width, o.height)
	case uint64(width)*uint64(height) > maxPixels:
		return fmt.Errorf("%w: %dx%d is more than %d megapixels", errSize, width, height, maxPixels>>20)
	}
	if graph, told := textOf(png, "prompt"); told && o.prefix != "" && !bytes.Contains(graph, []byte(prefixFolder+"/"+o.prefix+`"`)) {
		return errNotOurs
	}
	return nil
}

// textOf gives a text of a whole PNG's tEXt chunks before its pixels: ComfyUI writes the prompt's graph there.
func textOf(png []byte, key string) ([]byte, bool) {
	const signature, frame = 8, 12
	for rest := png[signature:]; len(rest) >= frame; {
		length := int(binary.BigEndian.Uint32(rest))
		kind := string(rest[4:8])
		if length > len(rest)-frame || kind == "IDAT" {
			break
		}
		if data := rest[8 : 8+length]; kind == "tEXt" && bytes.HasPrefix(data, append([]byte(key), 0)) {
			return data[len(key)+1:], true
		}
		rest = rest[frame+length:]
	}
	return nil, false
}
