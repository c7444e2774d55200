// Package answer reads what generators answer with over HTTP: images in base64, in forms that are not always PNG, and words that
// tell of memory. It is a leaf of the backends: they import it, it knows none of them.
package answer

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"strings"

	"muster/agent/imagefile"
)

// Picture is a file in base64 within JSON. It is unpacked once, into memory of its own.
type Picture []byte

// UnmarshalJSON takes a text, with or without "data:…;base64," before it. null and "" are no picture.
func (p *Picture) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*p = nil
		return nil
	}
	if len(text) < 2 || text[0] != '"' {
		return errors.New("an image that is no text")
	}
	encoded := text[1 : len(text)-1]
	if bytes.IndexByte(encoded, '\\') >= 0 { // no program escapes base64, but JSON allows it
		var plain string
		if err := json.Unmarshal(text, &plain); err != nil {
			return err
		}
		encoded = []byte(plain)
	}
	if bytes.HasPrefix(encoded, []byte("data:")) {
		_, encoded, _ = bytes.Cut(encoded, []byte(","))
	}
	file := make([]byte, base64.StdEncoding.DecodedLen(len(encoded)))
	n, err := base64.StdEncoding.Decode(file, encoded)
	*p = file[:n]
	return err
}

// ErrSize is wrapped when a sound image has another size than was asked for.
var ErrSize = errors.New("the image has the wrong size")

// ErrForm is wrapped when an image comes in a form that can't be read here.
var ErrForm = errors.New("the image is neither PNG nor JPEG")

// PNG gives an image as a whole PNG of that size in pixels: a PNG as it is, without unpacking it, and a JPEG packed anew once its
// size is known to be right. Errors wrap ErrSize or ErrForm, or say how the file is damaged.
func PNG(file []byte, width, height int) ([]byte, error) {
	switch {
	case bytes.HasPrefix(file, []byte("\xff\xd8\xff")):
		return fromJPEG(file, width, height)
	case bytes.HasPrefix(file, []byte("RIFF")), bytes.HasPrefix(file, []byte("\x00\x00\x00\x0cJXL ")), bytes.HasPrefix(file, []byte("\xff\x0a")):
		return nil, ErrForm
	}
	w, h, err := imagefile.PNG(file)
	if err != nil {
		return nil, err
	}
	return file, sized(int64(w), int64(h), width, height)
}

func sized(w, h int64, width, height int) error {
	if w != int64(width) || h != int64(height) {
		return fmt.Errorf("%w: %dx%d instead of %dx%d", ErrSize, w, h, width, height)
	}
	return nil
}

func fromJPEG(file []byte, width, height int) ([]byte, error) {
	config, _, err := image.DecodeConfig(bytes.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("not a whole JPEG image: %w", err)
	}
	if err := sized(int64(config.Width), int64(config.Height), width, height); err != nil {
		return nil, err
	}
	img, err := jpeg.Decode(bytes.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("not a whole JPEG image: %w", err)
	}
	out := bytes.NewBuffer(make([]byte, 0, 4*len(file)))
	if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(out, img); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// memoryWords are how PyTorch, drivers and ggml say that there is no room.
var memoryWords = []string{
	"out of memory", "outofmemory", "outofdevicememory", "failed to allocate", "not enough memory", "cudamalloc failed", "hipmalloc failed",
	"bad_alloc", "unable to allocate", "can't allocate memory", "cannot allocate memory", "resource_exhausted",
}

// TellsOfMemory says whether a program's words mean that there was no room on its device.
func TellsOfMemory(text string) bool {
	text = strings.ToLower(text)
	for _, words := range memoryWords {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}
