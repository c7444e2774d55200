package builtin

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"hash/crc32"
)

// encode writes an 8-bit RGB PNG (W3C PNG, third edition) whose rows it asks for one after the other, with a tEXt chunk that says
// what made it. It stops at once when ctx ends.
func encode(ctx context.Context, width, height int, row func(y int, rgb []byte)) ([]byte, error) {
	var out bytes.Buffer
	out.WriteString("\x89PNG\r\n\x1a\n")
	header := binary.BigEndian.AppendUint32(nil, uint32(width))
	header = binary.BigEndian.AppendUint32(header, uint32(height))
	chunk(&out, "IHDR", append(header, 8, 2, 0, 0, 0))
	chunk(&out, "tEXt", []byte("Software\x00"+Title))

	packed := zlib.NewWriter(&pieces{out: &out})
	before, line := make([]byte, 3*width), make([]byte, 3*width)
	filtered := [][]byte{make([]byte, 1+3*width), make([]byte, 1+3*width), make([]byte, 1+3*width)}
	for y := range height {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		row(y, line)
		if _, err := packed.Write(filter(line, before, filtered)); err != nil {
			return nil, err
		}
		before, line = line, before
	}
	if err := packed.Close(); err != nil {
		return nil, err
	}
	chunk(&out, "IEND", nil)
	return out.Bytes(), nil
}

// filter gives the row under the filter of Sub, Up and Paeth whose sum of absolute differences is least.
func filter(line, before []byte, filtered [][]byte) []byte {
	filtered[0][0], filtered[1][0], filtered[2][0] = 1, 2, 4
	var sums [3]int
	for i, v := range line {
		var left, corner byte
		if i >= 3 {
			left, corner = line[i-3], before[i-3]
		}
		for k, predicted := range [3]byte{left, before[i], paeth(left, before[i], corner)} {
			d := v - predicted
			filtered[k][i+1] = d
			sums[k] += abs(int(int8(d)))
		}
	}
	best := 0
	for k := range sums {
		if sums[k] < sums[best] {
			best = k
		}
	}
	return filtered[best]
}

func paeth(a, b, c byte) byte {
	pa, pb, pc := abs(int(b)-int(c)), abs(int(a)-int(c)), abs(int(a)+int(b)-2*int(c))
	switch {
	case pa <= pb && pa <= pc:
		return a
	case pb <= pc:
		return b
	}
	return c
}

func abs(v int) int {
	if v < 0 {
		return -v
	}
	return v
}

// pieces writes what the compressor gives as IDAT chunks.
type pieces struct{ out *bytes.Buffer }

func (p *pieces) Write(b []byte) (int, error) {
	chunk(p.out, "IDAT", b)
	return len(b), nil
}

func chunk(out *bytes.Buffer, kind string, data []byte) {
	var word [4]byte
	binary.BigEndian.PutUint32(word[:], uint32(len(data)))
	out.Write(word[:])
	out.WriteString(kind)
	out.Write(data)
	sum := crc32.NewIEEE()
	sum.Write([]byte(kind))
	sum.Write(data)
	binary.BigEndian.PutUint32(word[:], sum.Sum32())
	out.Write(word[:])
}
