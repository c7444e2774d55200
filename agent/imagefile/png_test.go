package imagefile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/png"
	"slices"
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

// sized is well formed by its chunks, but its pixels can't be unpacked.
func sized(width, height uint32) []byte {
	return file(makeChunk("IHDR", header(width, height)), makeChunk("IDAT", bytes.Repeat([]byte("noise"), 200)), makeChunk("IEND", nil))
}

// picture encodes a real image.
func picture(t testing.TB, width, height int) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := png.Encode(&out, image.NewGray(image.Rect(0, 0, width, height))); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestPNG(t *testing.T) {
	t.Parallel()
	ihdr, idat, iend := makeChunk("IHDR", header(8, 8)), makeChunk("IDAT", []byte{1}), makeChunk("IEND", nil)
	with := func(at int, value byte) []byte {
		b := header(8, 8)
		b[at] = value
		return file(makeChunk("IHDR", b), idat, iend)
	}
	damaged := file(ihdr, idat, iend)
	damaged[len(pngSignature)+len(ihdr)+8] ^= 1
	for _, c := range []struct {
		name          string
		in            []byte
		width, height uint32
		says          string // "" when it is a whole file
	}{
		{"whole", picture(t, 60, 40), 60, 40, ""},
		{"smallest", file(ihdr, idat, iend), 8, 8, ""},
		{"with text", file(ihdr, makeChunk("tEXt", []byte("a\x00b")), idat, idat, iend), 8, 8, ""},
		{"largest sides", sized(1<<32-1, 1<<32-1), 1<<32 - 1, 1<<32 - 1, ""},
		{"nothing", nil, 0, 0, "begin"},
		{"signature only", []byte(pngSignature), 0, 0, "cut off"},
		{"a JPEG", []byte("\xff\xd8\xff\xe0 and so on"), 0, 0, "begin"},
		{"an error page", []byte("<html>502</html>"), 0, 0, "begin"},
		{"no header", file(idat, iend), 0, 0, "IHDR"},
		{"short header", file(makeChunk("IHDR", header(8, 8)[:12]), idat, iend), 0, 0, "13"},
		{"two headers", file(ihdr, ihdr, idat, iend), 0, 0, "two headers"},
		{"no width", sized(0, 8), 0, 0, "0 x 8"},
		{"no height", sized(8, 0), 0, 0, "8 x 0"},
		{"depth", with(8, 3), 0, 0, "3 bits"},
		{"colour type", with(9, 5), 0, 0, "colour type 5"},
		{"compression", with(10, 1), 0, 0, "unknown methods"},
		{"filter", with(11, 1), 0, 0, "unknown methods"},
		{"interlace", with(12, 2), 0, 0, "unknown methods"},
		{"palette missing", with(9, 3), 0, 0, "palette"},
		{"no pixels", file(ihdr, iend), 0, 0, "no pixels"},
		{"no end", file(ihdr, idat), 0, 0, "cut off"},
		{"end with data", file(ihdr, idat, makeChunk("IEND", []byte{1})), 0, 0, "end has 1 bytes"},
		{"something after the end", append(file(ihdr, idat, iend), "PK"...), 0, 0, "2 bytes follow"},
		{"damaged data", damaged, 0, 0, "IDAT is damaged"},
		{"chunk type", file(ihdr, makeChunk("ID T", nil), iend), 0, 0, "chunk type"},
		{"length beyond the file", append(file(ihdr), "\xff\xff\xff\xffIDAT1234"...), 0, 0, "inside a chunk"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			width, height, err := PNG(c.in)
			switch {
			case errors.Is(err, ErrInvalid) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says):
				t.Errorf("got %v: want %q", err, c.says)
			case width != c.width || height != c.height:
				t.Errorf("%d x %d: want %d x %d", width, height, c.width, c.height)
			}
		})
	}
}

func TestEveryByteCounts(t *testing.T) {
	t.Parallel()
	whole := picture(t, 64, 128)
	for n := range whole {
		if _, _, err := PNG(whole[:n]); !errors.Is(err, ErrInvalid) {
			t.Fatalf("cut at byte %d of %d: %v", n, len(whole), err)
		}
		damaged := slices.Clone(whole)
		damaged[n] ^= 0x10
		if _, _, err := PNG(damaged); !errors.Is(err, ErrInvalid) {
			t.Fatalf("a wrong bit in byte %d of %d: %v", n, len(whole), err)
		}
	}
}

// FuzzPNG: what is accepted has the size that the decoder reads, and is not accepted with a byte less or more.
func FuzzPNG(f *testing.F) {
	f.Add(picture(f, 5, 3))
	f.Add(sized(8192, 8192))
	f.Add(sized(1<<31, 2))
	f.Add([]byte(pngSignature))
	f.Add(file(makeChunk("IHDR", header(1, 1)), makeChunk("IDAT", nil), makeChunk("IEND", nil)))
	f.Fuzz(func(t *testing.T, in []byte) {
		width, height, err := PNG(in)
		if err != nil {
			if !errors.Is(err, ErrInvalid) || width != 0 || height != 0 {
				t.Fatalf("%d x %d with an error: %v", width, height, err)
			}
			return
		}
		for _, other := range [][]byte{in[:len(in)-1], append(in[:len(in):len(in)], 0)} {
			if _, _, err := PNG(other); err == nil {
				t.Error("accepted with a byte less or more")
			}
		}
		config, err := png.DecodeConfig(bytes.NewReader(in))
		if err != nil {
			return // the decoder knows more rules, of palettes for one
		}
		if uint32(config.Width) != width || uint32(config.Height) != height {
			t.Errorf("%d x %d: the decoder says %d x %d", width, height, config.Width, config.Height)
		}
	})
}
