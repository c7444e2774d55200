package images

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
	"testing"
)

// header makes the data of an IHDR chunk: 8-bit RGBA.
func header(width, height uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, width)
	return append(binary.BigEndian.AppendUint32(b, height), 8, 6, 0, 0, 0)
}

func makeChunk(kind string, data []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	b = append(append(b, kind...), data...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
}

// bomb is well formed by its chunks, but its pixels can't be unpacked.
func bomb(width, height uint32) []byte {
	return bytes.Join([][]byte{
		[]byte("\x89PNG\r\n\x1a\n"), makeChunk("IHDR", header(width, height)), makeChunk("IDAT", bytes.Repeat([]byte("noise"), 200)), makeChunk("IEND", nil),
	}, nil)
}

func TestCheckPNG(t *testing.T) {
	t.Parallel()
	whole := picture(t, 60, 40, 9)
	for _, c := range []struct {
		name string
		in   []byte
		want error
		says string
	}{
		{"whole", whole, nil, ""},
		{"most pixels", bomb(8192, 8192), nil, ""},
		{"nothing", nil, ErrInvalid, "begin"},
		{"cut off", whole[:len(whole)-1], ErrInvalid, "cut off"},
		{"a row of pixels too many", bomb(8192, 8193), ErrTooLarge, "64 megapixels"},
		{"sides whose product leaves 32 bits", bomb(1<<31, 1<<31), ErrTooLarge, ""},
		{"largest sides", bomb(1<<32-1, 1<<32-1), ErrTooLarge, ""},
		{"too many bytes", make([]byte, MaxBytes+1), ErrTooLarge, "bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := checkPNG(c.in)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v does not say %q", err, c.says)
			}
		})
	}
}
