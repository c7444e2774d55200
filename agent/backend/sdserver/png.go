package sdserver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// errSize is wrapped when a sound image has another size than was asked for.
var errSize = errors.New("the image has the wrong size")

const pngSignature = "\x89PNG\r\n\x1a\n"

// checkPNG says whether data is one whole PNG of that size, every chunk intact, without decoding its pixels (W3C PNG, 5.3).
func checkPNG(data []byte, width, height int) error {
	rest, ok := bytes.CutPrefix(data, []byte(pngSignature))
	if !ok {
		return errors.New("the image is no PNG")
	}
	for first := true; ; first = false {
		if len(rest) < 12 {
			return errors.New("the image is cut off")
		}
		length := int64(binary.BigEndian.Uint32(rest))
		if length > int64(len(rest)-12) {
			return errors.New("the image is cut off")
		}
		body := rest[4 : 8+length]
		kind, content := string(body[:4]), body[4:]
		if crc32.ChecksumIEEE(body) != binary.BigEndian.Uint32(rest[8+length:]) {
			return fmt.Errorf("the image is damaged in its %q part", kind)
		}
		if first {
			if kind != "IHDR" || length != 13 {
				return errors.New("the image has no header")
			}
			if w, h := binary.BigEndian.Uint32(content), binary.BigEndian.Uint32(content[4:]); int64(w) != int64(width) || int64(h) != int64(height) {
				return fmt.Errorf("%w: %dx%d instead of %dx%d", errSize, w, h, width, height)
			}
		}
		rest = rest[12+length:]
		if kind == "IEND" {
			return nil
		}
	}
}
