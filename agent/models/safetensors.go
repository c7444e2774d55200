package models

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math/bits"
	"slices"
)

// elementBytes are the types of safetensors that fill whole bytes. Others are taken as their offsets say.
var elementBytes = map[string]uint64{
	"F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
	"I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
}

// readSafetensors reads the header: 8 bytes of length, little-endian, then a JSON object of tensors by name, then the data, without
// holes and to the last byte. https://github.com/huggingface/safetensors (format, and what its own reader refuses).
func readSafetensors(file io.ReaderAt, size int64, seen *traits) error {
	var head [8]byte
	if size < int64(len(head)) {
		return flawf("is cut short: only %d bytes are there, %s", size, again)
	}
	if err := readFull(file, head[:]); err != nil {
		return err
	}
	length := binary.LittleEndian.Uint64(head[:])
	if length > maxHeaderBytes {
		return flawf("is no safetensors file: its header would have %d bytes", length)
	}
	if room := uint64(size) - 8; length > room {
		return errCutHeader
	}
	data := uint64(size) - 8 - length
	spans, err := readTensors(io.NewSectionReader(file, 8, int64(length)), seen)
	if err != nil {
		return err
	}
	return checkSpans(spans, data)
}

var errCutHeader = flawf("is cut short inside its header: %s", again)

func readFull(file io.ReaderAt, into []byte) error {
	n, err := file.ReadAt(into, 0)
	if n == len(into) {
		return nil
	}
	return err
}

// entry is a tensor as the header has it.
type entry struct {
	Type    string     `json:"dtype"`
	Shape   dimensions `json:"shape"`
	Offsets dimensions `json:"data_offsets"`
}

// dimensions are never more than maxDimensions.
type dimensions []uint64

var errDimensions = errors.New("too many dimensions")

func (d *dimensions) UnmarshalJSON(text []byte) error {
	if bytes.Count(text, []byte(",")) >= maxDimensions {
		return errDimensions
	}
	return json.Unmarshal(text, (*[]uint64)(d))
}

// Bounds of what is one value of a header: a JSON decoder has it in memory as a whole.
const (
	maxEntryBytes    = 1 << 20 // a tensor's name, or what is said of it
	maxMetadataBytes = 4 << 20 // trainers write all their settings there
)

var errLongEntry = flawf("has a header that is damaged or made to mislead: no entry of it is so long")

// ration is a reader for a JSON decoder, which reads no more ahead than the next value may have. It is not to be used together with
// another reader of the same file.
type ration struct {
	from io.Reader
	left int64 // bytes
	read int64
}

// allow lets the decoder read so many bytes beyond where it is.
func (r *ration) allow(decoder *json.Decoder, most int64) {
	r.left = decoder.InputOffset() + most - r.read
}

func (r *ration) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, errLongEntry
	}
	n, err := r.from.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	r.read += int64(n)
	return n, err
}

// readTensors reads one entry after the other and keeps no more of them than their places. A name that comes twice would mean one
// tensor to one reader and another to the next.
func readTensors(header io.Reader, seen *traits) ([]span, error) {
	from := &ration{from: bufio.NewReader(header)}
	decoder := json.NewDecoder(from)
	from.allow(decoder, maxEntryBytes)
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, headerFlaw(err)
	}
	var spans []span
	seed, names := maphash.MakeSeed(), map[uint64]bool{}
	for {
		from.allow(decoder, maxEntryBytes)
		if !decoder.More() {
			break
		}
		key, err := decoder.Token()
		name, ok := key.(string)
		if err != nil || !ok {
			return nil, headerFlaw(err)
		}
		hash := maphash.String(seed, name)
		if names[hash] {
			return nil, flawf("names the tensor %.60q twice: it is damaged or made to mislead", name)
		}
		names[hash] = true
		if len(names) > maxTensors {
			return nil, flawf("has more than %d tensors: that is no image model", maxTensors)
		}
		if name == "__metadata__" {
			from.allow(decoder, maxMetadataBytes)
			var dropped json.RawMessage
			if err := decoder.Decode(&dropped); err != nil {
				return nil, headerFlaw(err)
			}
			continue
		}
		from.allow(decoder, maxEntryBytes)
		var e entry
		if err := decoder.Decode(&e); errors.Is(err, errDimensions) {
			return nil, damagedAt(name)
		} else if err != nil {
			return nil, headerFlaw(err)
		}
		at, err := e.span(name)
		if err != nil {
			return nil, err
		}
		spans = append(spans, at)
		seen.see(tensor{name: name, dtype: e.Type, shape: e.Shape, bytes: at.to - at.from})
	}
	if _, err := decoder.Token(); err != nil {
		return nil, headerFlaw(err)
	}
	if token, err := decoder.Token(); errors.Is(err, errLongEntry) {
		return nil, errLongEntry
	} else if !errors.Is(err, io.EOF) {
		return nil, flawf("has something after its header (%.20v): it is damaged, %s", token, again)
	}
	return spans, nil
}

// headerFlaw says that the header is no JSON, unless it was the disk that failed.
func headerFlaw(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	var wrong flaw
	switch {
	case errors.As(err, &wrong):
		return wrong
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &syntax), errors.As(err, &kind):
		return flawf("is no safetensors file, or its header is damaged: %s", again)
	}
	return fmt.Errorf("read its header: %w", err)
}

func damagedAt(name string) error { return flawf("is damaged at its tensor %.60q: %s", name, again) }

// span checks an entry by itself.
func (e entry) span(name string) (span, error) {
	if len(e.Offsets) != 2 || e.Offsets[0] > e.Offsets[1] {
		return span{}, damagedAt(name)
	}
	at := span{e.Offsets[0], e.Offsets[1]}
	width, known := elementBytes[e.Type]
	if !known {
		return at, nil
	}
	bytes, ok := product(width, e.Shape)
	if !ok || bytes != at.to-at.from {
		return span{}, flawf("is damaged: its tensor %.60q has another size than its shape says, %s", name, again)
	}
	return at, nil
}

// product multiplies; false when that does not fit.
func product(first uint64, rest []uint64) (uint64, bool) {
	for _, factor := range rest {
		high, low := bits.Mul64(first, factor)
		if high != 0 {
			return 0, false
		}
		first = low
	}
	return first, true
}

// checkSpans wants the tensors to fill the data, each byte once.
func checkSpans(spans []span, data uint64) error {
	slices.SortFunc(spans, func(a, b span) int {
		if a.from != b.from {
			return cmp.Compare(a.from, b.from)
		}
		return cmp.Compare(a.to, b.to)
	})
	end := uint64(0)
	for _, at := range spans {
		if at.from != end {
			return flawf("is damaged: its tensors overlap or leave holes, %s", again)
		}
		end = at.to
	}
	switch {
	case end > data:
		return cutShort(end - data)
	case end < data:
		return flawf("is damaged: %s follow its last tensor, %s", sizeWords(data-end), again)
	}
	return nil
}
