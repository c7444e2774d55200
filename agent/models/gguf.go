package models

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"slices"
)

const ggufMagic = "GGUF"

// Bounds of a gguf header beside maxHeaderBytes, which all of it together keeps.
const (
	maxGGUFKeys      = 1 << 16
	maxGGUFName      = 1 << 10
	defaultAlignment = 32
	maxAlignment     = 1 << 16
)

// block is how ggml packs a type: so many elements in so many bytes (ggml's type traits).
type block struct{ elements, bytes uint64 }

var ggmlTypes = map[uint32]block{
	0: {1, 4}, 1: {1, 2}, 2: {32, 18}, 3: {32, 20}, 6: {32, 22}, 7: {32, 24}, 8: {32, 34}, 9: {32, 36},
	10: {256, 84}, 11: {256, 110}, 12: {256, 144}, 13: {256, 176}, 14: {256, 210}, 15: {256, 292},
	16: {256, 66}, 17: {256, 74}, 18: {256, 98}, 19: {256, 50}, 20: {32, 18}, 21: {256, 110}, 22: {256, 82}, 23: {256, 136},
	24: {1, 1}, 25: {1, 2}, 26: {1, 4}, 27: {1, 8}, 28: {1, 8}, 29: {256, 56}, 30: {1, 2},
	34: {256, 54}, 35: {256, 66}, 39: {32, 17},
}

// The types of a value in the key-value part.
const (
	ggufString = 8
	ggufArray  = 9
)

// ggufWidth gives the bytes of a value of a fixed size.
var ggufWidth = map[uint32]uint64{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

// readGGUF reads the header: magic, version, the counts, keys and values, then where each tensor lies. The data follows, aligned.
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
func readGGUF(file io.ReaderAt, size int64, seen *traits) error {
	r := &ggufReader{in: bufio.NewReader(io.NewSectionReader(file, 0, min(size, maxHeaderBytes))), alignment: defaultAlignment}
	spans, err := r.read(seen)
	switch {
	case err == nil:
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return err
	case size > maxHeaderBytes:
		return flawf("has a header of more than %d MiB: that is no image model", maxHeaderBytes>>20)
	default:
		return errCutHeader
	}
	return checkAlignedSpans(spans, r.at, uint64(size), r.alignment)
}

// checkAlignedSpans wants every tensor to lie in the data, apart from the others.
func checkAlignedSpans(spans []span, header, size, alignment uint64) error {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	end := uint64(0)
	for _, at := range spans {
		if at.from < end || at.from%alignment != 0 {
			return flawf("is damaged: its tensors overlap, %s", again)
		}
		end = max(end, at.to)
	}
	if start := (header + alignment - 1) / alignment * alignment; len(spans) > 0 && (end > math.MaxInt64 || start+end > size) {
		return cutShort(start + end - size)
	}
	return nil
}

// ggufReader counts what it reads.
type ggufReader struct {
	in        *bufio.Reader
	at        uint64
	alignment uint64
}

func (r *ggufReader) read(seen *traits) ([]span, error) {
	magic, err := r.bytes(4)
	if err != nil {
		return nil, err
	}
	if string(magic) != ggufMagic {
		return nil, flawf("is no gguf file: it does not begin as one")
	}
	version, err := r.u32()
	if err != nil {
		return nil, err
	}
	if version != 2 && version != 3 {
		return nil, flawf("is a gguf file of version %d, which is not known here: get one of version 3", version)
	}
	tensors, err := r.u64()
	if err != nil {
		return nil, err
	}
	keys, err := r.u64()
	if err != nil {
		return nil, err
	}
	if tensors > maxTensors || keys > maxGGUFKeys {
		return nil, flawf("is damaged: it would have %d tensors and %d keys, %s", tensors, keys, again)
	}
	for range keys {
		if err := r.keyValue(seen); err != nil {
			return nil, err
		}
	}
	return r.tensors(tensors, seen)
}

func (r *ggufReader) keyValue(seen *traits) error {
	key, err := r.text(maxGGUFName)
	if err != nil {
		return err
	}
	kind, err := r.u32()
	if err != nil {
		return err
	}
	switch {
	case key == "general.architecture" && kind == ggufString:
		seen.architecture, err = r.text(maxGGUFName)
		return err
	case key == "general.alignment" && kind == 4:
		alignment, err := r.u32()
		if err == nil && (alignment == 0 || alignment > maxAlignment || alignment%8 != 0) {
			return flawf("is damaged: its tensors would be aligned to %d bytes, %s", alignment, again)
		}
		r.alignment = uint64(alignment)
		return err
	}
	return r.skip(kind, 0)
}

// skip passes over a value. Arrays may hold arrays, though none is known to.
func (r *ggufReader) skip(kind uint32, depth int) error {
	if width, ok := ggufWidth[kind]; ok {
		return r.discard(width)
	}
	switch {
	case kind == ggufString:
		length, err := r.u64()
		if err != nil {
			return err
		}
		return r.discard(length)
	case kind == ggufArray && depth < 4:
		return r.skipArray(depth)
	}
	return flawf("is damaged: it has a value of the unknown type %d, %s", kind, again)
}

func (r *ggufReader) skipArray(depth int) error {
	kind, err := r.u32()
	if err != nil {
		return err
	}
	count, err := r.u64()
	if err != nil {
		return err
	}
	if width, ok := ggufWidth[kind]; ok {
		bytes, fits := product(width, []uint64{count})
		if !fits {
			return io.ErrUnexpectedEOF
		}
		return r.discard(bytes)
	}
	for range count { // each takes at least 8 bytes of a header that is bounded
		if err := r.skip(kind, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (r *ggufReader) tensors(count uint64, seen *traits) ([]span, error) {
	spans := make([]span, 0, min(count, 1<<12))
	seed, names := maphash.MakeSeed(), map[uint64]bool{}
	for range count {
		one, at, err := r.tensor()
		if err != nil {
			return nil, err
		}
		hash := maphash.String(seed, one.name)
		if names[hash] {
			return nil, flawf("names the tensor %.60q twice: it is damaged or made to mislead", one.name)
		}
		names[hash] = true
		seen.see(one)
		spans = append(spans, at)
	}
	return spans, nil
}

func (r *ggufReader) tensor() (one tensor, at span, err error) {
	if one.name, err = r.text(maxGGUFName); err != nil {
		return one, at, err
	}
	dimensions, err := r.u32()
	if err != nil {
		return one, at, err
	}
	damaged := flawf("is damaged at its tensor %.60q: %s", one.name, again)
	if dimensions > maxDimensions {
		return one, at, damaged
	}
	for range dimensions {
		n, err := r.u64()
		if err != nil {
			return one, at, err
		}
		one.shape = append(one.shape, n)
	}
	slices.Reverse(one.shape) // the innermost comes first in the file
	kind, err := r.u32()
	if err != nil {
		return one, at, err
	}
	if at.from, err = r.u64(); err != nil {
		return one, at, err
	}
	elements, ok := product(1, one.shape)
	packed := ggmlTypes[kind] // an unknown type counts as nothing
	if packed.elements > 0 {
		var fits bool
		one.bytes, fits = product((elements+packed.elements-1)/packed.elements, []uint64{packed.bytes})
		ok = ok && fits && elements <= math.MaxInt64
	}
	at.to = at.from + one.bytes
	if !ok || at.to < at.from {
		return one, at, damaged
	}
	return one, at, nil
}

func (r *ggufReader) bytes(n int) ([]byte, error) {
	b := make([]byte, n)
	got, err := io.ReadFull(r.in, b)
	r.at += uint64(got)
	return b, err
}

func (r *ggufReader) u32() (uint32, error) {
	b, err := r.bytes(4)
	return binary.LittleEndian.Uint32(b), err
}

func (r *ggufReader) u64() (uint64, error) {
	b, err := r.bytes(8)
	return binary.LittleEndian.Uint64(b), err
}

func (r *ggufReader) text(most uint64) (string, error) {
	length, err := r.u64()
	if err != nil {
		return "", err
	}
	if length > most {
		return "", flawf("is damaged: it has a name of %d bytes, %s", length, again)
	}
	b, err := r.bytes(int(length))
	return string(b), err
}

func (r *ggufReader) discard(n uint64) error {
	if n > maxHeaderBytes {
		return io.ErrUnexpectedEOF
	}
	got, err := r.in.Discard(int(n))
	r.at += uint64(got)
	if err != nil {
		return fmt.Errorf("skip %d bytes: %w", n, err)
	}
	return nil
}
