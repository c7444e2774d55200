package images

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image/png"
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

func file(chunks ...[]byte) []byte { return append([]byte(pngSignature), bytes.Join(chunks, nil)...) }

// bomb is well formed by its chunks, but its pixels can't be unpacked.
func bomb(width, height uint32) []byte {
	return file(makeChunk("IHDR", header(width, height)), makeChunk("IDAT", bytes.Repeat([]byte("noise"), 200)), makeChunk("IEND", nil))
}

func TestCheckPNG(t *testing.T) {
	t.Parallel()
	ihdr, idat, iend := makeChunk("IHDR", header(8, 8)), makeChunk("IDAT", []byte{1}), makeChunk("IEND", nil)
	with := func(at int, value byte) []byte {
		b := header(8, 8)
		b[at] = value
		return file(makeChunk("IHDR", b), idat, iend)
	}
	damaged := file(ihdr, idat, iend)
	damaged[len(pngSignature)+len(ihdr)+8] ^= 1
	whole := picture(t, 60, 40, 9)
	for _, c := range []struct {
		name string
		in   []byte
		want error
		says string
	}{
		{"whole", whole, nil, ""},
		{"smallest", file(ihdr, idat, iend), nil, ""},
		{"with text", file(ihdr, makeChunk("tEXt", []byte("a\x00b")), idat, idat, iend), nil, ""},
		{"most pixels", bomb(8192, 8192), nil, ""},
		{"nothing", nil, ErrInvalid, "begin"},
		{"signature only", []byte(pngSignature), ErrInvalid, "cut off"},
		{"a JPEG", []byte("\xff\xd8\xff\xe0 and so on"), ErrInvalid, "begin"},
		{"an error page", []byte("<html>502</html>"), ErrInvalid, "begin"},
		{"no header", file(idat, iend), ErrInvalid, "IHDR"},
		{"short header", file(makeChunk("IHDR", header(8, 8)[:12]), idat, iend), ErrInvalid, "13"},
		{"two headers", file(ihdr, ihdr, idat, iend), ErrInvalid, "two headers"},
		{"no width", bomb(0, 8), ErrInvalid, "0 x 8"},
		{"no height", bomb(8, 0), ErrInvalid, "8 x 0"},
		{"a row of pixels too many", bomb(8192, 8193), ErrTooLarge, "64 megapixels"},
		{"sides whose product leaves 32 bits", bomb(1<<31, 1<<31), ErrTooLarge, ""},
		{"largest sides", bomb(1<<32-1, 1<<32-1), ErrTooLarge, ""},
		{"depth", with(8, 3), ErrInvalid, "3 bits"},
		{"colour type", with(9, 5), ErrInvalid, "colour type 5"},
		{"compression", with(10, 1), ErrInvalid, "unknown methods"},
		{"filter", with(11, 1), ErrInvalid, "unknown methods"},
		{"interlace", with(12, 2), ErrInvalid, "unknown methods"},
		{"palette missing", with(9, 3), ErrInvalid, "palette"},
		{"no pixels", file(ihdr, iend), ErrInvalid, "no pixels"},
		{"no end", file(ihdr, idat), ErrInvalid, "cut off"},
		{"end with data", file(ihdr, idat, makeChunk("IEND", []byte{1})), ErrInvalid, "end has 1 bytes"},
		{"something after the end", append(file(ihdr, idat, iend), "PK"...), ErrInvalid, "2 bytes follow"},
		{"damaged data", damaged, ErrInvalid, "IDAT is damaged"},
		{"chunk type", file(ihdr, makeChunk("ID T", nil), iend), ErrInvalid, "chunk type"},
		{"length beyond the file", append(file(ihdr), "\xff\xff\xff\xffIDAT1234"...), ErrInvalid, "inside a chunk"},
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
	for n := range whole {
		if err := checkPNG(whole[:n]); !errors.Is(err, ErrInvalid) {
			t.Fatalf("cut at byte %d of %d: %v", n, len(whole), err)
		}
	}
}

// FuzzCheckPNG: what is accepted has the size that the decoder reads, within bounds, and is not accepted when cut.
func FuzzCheckPNG(f *testing.F) {
	f.Add(picture(f, 5, 3, 1))
	f.Add(bomb(8192, 8192))
	f.Add(bomb(1<<31, 2))
	f.Add([]byte(pngSignature))
	f.Add(file(makeChunk("IHDR", header(1, 1)), makeChunk("IDAT", nil), makeChunk("IEND", nil)))
	f.Fuzz(func(t *testing.T, in []byte) {
		err := checkPNG(in)
		if err != nil {
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("an error without a name: %v", err)
			}
			return
		}
		if checkPNG(in[:len(in)-1]) == nil || checkPNG(append(in[:len(in):len(in)], 0)) == nil {
			t.Error("accepted with a byte less or more")
		}
		config, err := png.DecodeConfig(bytes.NewReader(in))
		if err != nil {
			return // the decoder knows more rules, of palettes for one
		}
		if config.Width <= 0 || config.Height <= 0 || config.Width*config.Height > MaxPixels {
			t.Errorf("accepted %d x %d", config.Width, config.Height)
		}
	})
}
