package history

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

// A row on disk, little-endian: slot u32, total f32, per column minimum, mean and maximum as f32, per column the number of
// measurements as u16, and a CRC-32C over all of it that begins with who the row belongs to. 51,840 rows of 24 h and 30 days
// stay below 5 MB.
const (
	rowSize   = 4 + 4 + columns*3*4 + columns*2 + 4
	countsAt  = 8 + columns*3*4
	sumAt     = rowSize - 4
	mostCount = math.MaxUint16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode writes the row into b, of rowSize bytes. seed says whose row it is.
func (r *row) encode(b []byte, seed uint32) {
	binary.LittleEndian.PutUint32(b, uint32(r.slot))
	binary.LittleEndian.PutUint32(b[4:], math.Float32bits(float32(r.total)))
	for i, s := range r.spans {
		at := b[8+i*12:]
		binary.LittleEndian.PutUint32(at, math.Float32bits(float32(s.min)))
		binary.LittleEndian.PutUint32(at[4:], math.Float32bits(float32(s.mean)))
		binary.LittleEndian.PutUint32(at[8:], math.Float32bits(float32(s.max)))
		binary.LittleEndian.PutUint16(b[countsAt+i*2:], uint16(min(s.count, mostCount)))
	}
	binary.LittleEndian.PutUint32(b[sumAt:], crc32.Update(seed, castagnoli, b[:sumAt]))
}

// decodeRow reads the row of that slot; false when another one stands there, a torn one, somebody else's or none.
func decodeRow(b []byte, slot int64, seed uint32) (row, bool) {
	if !holds(b, slot, seed) {
		return row{}, false
	}
	r := row{slot: slot, total: decodeTotal(b)}
	for i := range r.spans {
		r.spans[i] = decodeSpan(b, i)
	}
	return r, true
}

// holds says whether b is a whole row of that slot.
func holds(b []byte, slot int64, seed uint32) bool {
	return len(b) >= rowSize && int64(binary.LittleEndian.Uint32(b)) == slot &&
		binary.LittleEndian.Uint32(b[sumAt:]) == crc32.Update(seed, castagnoli, b[:sumAt])
}

// decodeTotal reads the memory that the device has; 0 when not reported.
func decodeTotal(b []byte) float64 {
	total := float64(math.Float32frombits(binary.LittleEndian.Uint32(b[4:])))
	if !(total > 0 && total <= most) {
		return 0
	}
	return total
}

// decodeSpan reads one column of a whole row. Values that no writer makes count as not measured.
func decodeSpan(b []byte, column int) span {
	at := b[8+column*12:]
	value := func(i int) float64 { return float64(math.Float32frombits(binary.LittleEndian.Uint32(at[i*4:]))) }
	s := span{min: value(0), mean: value(1), max: value(2), count: int(binary.LittleEndian.Uint16(b[countsAt+column*2:]))}
	if s.count == 0 || !(s.min >= -most && s.min <= s.mean && s.mean <= s.max && s.max <= most) {
		return span{}
	}
	return s
}
