// Package imagefile says whether bytes are a whole image file, and how large the image is, without unpacking a pixel: a PNG of a
// megabyte can unpack to a gigabyte. It is a leaf.
package imagefile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// ErrInvalid is wrapped by every error of PNG.
var ErrInvalid = errors.New("not a whole PNG image")

const pngSignature = "\x89PNG\r\n\x1a\n"

// depths are the bit depths that each colour type allows (PNG 3rd edition, table 11.1).
var depths = map[byte][]byte{0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}

const paletteColour = 3

// PNG walks the chunks of a PNG file (PNG 3rd edition, 5.3) from the signature to IEND, and checks their sums. It gives the size
// in pixels, 1 or more each.
func PNG(file []byte) (width, height uint32, err error) {
	rest, ok := bytes.CutPrefix(file, []byte(pngSignature))
	if !ok {
		return 0, 0, fmt.Errorf("%w: it does not begin as one", ErrInvalid)
	}
	kind, header, rest, err := chunk(rest)
	if err != nil {
		return 0, 0, err
	}
	if kind != "IHDR" {
		return 0, 0, fmt.Errorf("%w: it begins with chunk %q, not IHDR", ErrInvalid, kind)
	}
	if width, height, err = size(header); err != nil {
		return 0, 0, err
	}
	if err := checkBody(rest, header[9] == paletteColour); err != nil {
		return 0, 0, err
	}
	return width, height, nil
}

// size reads the header chunk.
func size(header []byte) (width, height uint32, err error) {
	if len(header) != 13 {
		return 0, 0, fmt.Errorf("%w: its header has %d bytes, not 13", ErrInvalid, len(header))
	}
	width, height = binary.BigEndian.Uint32(header), binary.BigEndian.Uint32(header[4:])
	switch {
	case width == 0 || height == 0:
		err = fmt.Errorf("%w: it measures %d x %d", ErrInvalid, width, height)
	case !bytes.Contains(depths[header[9]], header[8:9]):
		err = fmt.Errorf("%w: colour type %d with %d bits does not exist", ErrInvalid, header[9], header[8])
	case header[10] != 0 || header[11] != 0 || header[12] > 1:
		err = fmt.Errorf("%w: its header names unknown methods", ErrInvalid)
	}
	return width, height, err
}

// checkBody walks what follows the header.
func checkBody(rest []byte, needsPalette bool) error {
	pixels := 0
	for {
		kind, data, next, err := chunk(rest)
		if err != nil {
			return err
		}
		rest = next
		switch kind {
		case "IHDR":
			return fmt.Errorf("%w: it has two headers", ErrInvalid)
		case "PLTE":
			needsPalette = false
		case "IDAT":
			if needsPalette {
				return fmt.Errorf("%w: its palette is missing", ErrInvalid)
			}
			pixels += len(data)
		case "IEND":
			return checkEnd(data, rest, pixels)
		}
	}
}

func checkEnd(end, rest []byte, pixels int) error {
	switch {
	case pixels == 0:
		return fmt.Errorf("%w: it has no pixels", ErrInvalid)
	case len(end) != 0:
		return fmt.Errorf("%w: its end has %d bytes of data", ErrInvalid, len(end))
	case len(rest) != 0:
		return fmt.Errorf("%w: %d bytes follow its end", ErrInvalid, len(rest))
	}
	return nil
}

// chunk takes one chunk off b: length, type, data, CRC-32 of type and data.
func chunk(b []byte) (kind string, data, rest []byte, err error) {
	if len(b) < 12 {
		return "", nil, nil, fmt.Errorf("%w: it is cut off", ErrInvalid)
	}
	length := uint64(binary.BigEndian.Uint32(b))
	if length > uint64(len(b)-12) {
		return "", nil, nil, fmt.Errorf("%w: it is cut off inside a chunk of %d bytes", ErrInvalid, length)
	}
	body, sum, rest := b[4:8+length], b[8+length:12+length], b[12+length:]
	for _, c := range body[:4] {
		if c|0x20 < 'a' || c|0x20 > 'z' {
			return "", nil, nil, fmt.Errorf("%w: chunk type %q does not exist", ErrInvalid, body[:4])
		}
	}
	if crc32.ChecksumIEEE(body) != binary.BigEndian.Uint32(sum) {
		return "", nil, nil, fmt.Errorf("%w: chunk %s is damaged", ErrInvalid, body[:4])
	}
	return string(body[:4]), body[4:], rest, nil
}
