package amdgpu

import (
	"encoding/binary"
	"math"
)

// Attributes of gpu_metrics 1.9, which describes itself: the ids and units that muster uses (amdgpu_metrics_attr_id and
// amdgpu_metrics_attr_unit of kgd_pp_interface.h; later kernels insert new ids behind 48 only).
const (
	attrHotspot, attrMemory, attrPower           = 0, 1, 3
	attrActivity, attrMemoryActivity, attrEnergy = 4, 5, 7
	attrCycles, attrProchot, attrLastResident    = 9, 10, 14
	attrWidth, attrSpeed                         = 16, 17
	attrXGMIWidth, attrXGMISpeed                 = 18, 19
	attrReplays, attrXGMIStatus                  = 25, 31
	attrCore, attrUclock                         = 33, 37
	attrBusy, attrVideo, attrHBM                 = 40, 42, 48

	unitNone, unitMHz, unitCelsius, unitWatts = 0, 1, 2, 3
	unitGT, unitTenthGT, unitPercent          = 6, 7, 10
)

// attribute is one record: a code of unit, type, id and count (8, 4, 10 and 10 bits), and count values behind it, packed.
type attribute struct {
	unit, kind, id, count int
	values                []byte
}

// widths are the bytes of a value by type: U8, S8, U16, S16, U32, S32, U64, S64.
var widths = [8]int{1, 1, 2, 2, 4, 4, 8, 8}

// nextAttribute takes the first record off b; false when it is cut or of an unknown type.
func nextAttribute(b []byte) (a attribute, rest []byte, ok bool) {
	if len(b) < 8 {
		return attribute{}, nil, false
	}
	code := binary.LittleEndian.Uint64(b)
	a = attribute{unit: int(code >> 24 & 0xff), kind: int(code >> 20 & 0xf), id: int(code >> 10 & 0x3ff), count: int(code & 0x3ff)}
	b = b[8:]
	if a.kind >= len(widths) || a.count == 0 || len(b) < a.count*widths[a.kind] {
		return attribute{}, nil, false
	}
	end := a.count * widths[a.kind]
	a.values = b[:end]
	return a, b[end:], true
}

// value gives the i-th value; nothing when there is none or it is marked as unavailable (all bits set).
func (a attribute) value(i int) optional {
	width := widths[a.kind]
	if i >= a.count {
		return optional{}
	}
	var word [8]byte
	copy(word[:], a.values[i*width:(i+1)*width])
	v := binary.LittleEndian.Uint64(word[:])
	shift := 64 - 8*width
	if v == math.MaxUint64>>shift {
		return optional{}
	}
	if a.kind%2 == 1 {
		signed := int64(v<<shift) >> shift
		return optional{float64(signed), signed >= 0}
	}
	return optional{float64(v), v <= 1<<53}
}

// mean averages the values that are there, as a percentage.
func (a attribute) mean() optional {
	var m mean
	for i := range a.count {
		m.add(a.value(i))
	}
	return m.percent()
}

// decodeAttributes reads the body of gpu_metrics 1.9: a count, then as many records. Records that muster doesn't know are skipped,
// and so are known ones of another unit.
func decodeAttributes(b []byte, m metrics) (metrics, bool) {
	if len(b) < 8 {
		return metrics{}, false
	}
	count := int32(binary.LittleEndian.Uint32(b[4:]))
	if count < 0 {
		return metrics{}, false
	}
	var width, speed optional
	for rest := b[8:]; count > 0; count-- {
		a, more, ok := nextAttribute(rest)
		if !ok {
			return metrics{}, false
		}
		rest = more
		switch {
		case a.id == attrWidth && a.unit == unitNone:
			width = a.value(0)
		case a.id == attrSpeed && a.unit == unitTenthGT:
			speed = a.value(0)
			speed.value /= 10
		case a.id == attrSpeed && a.unit == unitGT:
			speed = a.value(0)
		default:
			m.take(a)
		}
	}
	m.link = linkOf(width, speed)
	return m, true
}

// take puts one attribute into its field.
func (m *metrics) take(a attribute) {
	for _, f := range [...]struct {
		id, unit int
		to       *optional
	}{
		{attrHotspot, unitCelsius, &m.junction}, {attrMemory, unitCelsius, &m.memory}, {attrPower, unitWatts, &m.watts},
		{attrActivity, unitPercent, &m.activity}, {attrMemoryActivity, unitPercent, &m.memoryActivity}, {attrEnergy, unitNone, &m.energy},
		{attrReplays, unitNone, &m.replays}, {attrCore, unitMHz, &m.coreMHz}, {attrUclock, unitMHz, &m.memoryMHz},
		{attrXGMIWidth, unitNone, &m.xgmi.lanes}, {attrXGMISpeed, unitGT, &m.xgmi.gigabits},
	} {
		if a.id == f.id && a.unit == f.unit {
			*f.to = a.value(0)
			return
		}
	}
	switch {
	case a.id == attrVideo && a.unit == unitPercent:
		m.media = a.mean()
	case a.id == attrBusy && a.unit == unitPercent:
		m.partitions[0] = a.mean()
	case a.id == attrHBM && a.unit == unitCelsius && !m.memory.known:
		for i := range a.count {
			if v := a.value(i); v.known && v.value >= m.memory.value {
				m.memory = v
			}
		}
	case a.id == attrXGMIStatus && a.unit == unitNone:
		for i := range min(a.count, maxLinks) {
			m.xgmi.status[i] = statusOf(a.value(i))
		}
	case a.id == attrCycles && a.unit == unitNone:
		m.residency.cycles = a.value(0)
	case a.id >= attrProchot && a.id <= attrLastResident && a.unit == unitNone:
		if v := a.value(0); v.known {
			m.residency.add(residents[a.id-attrProchot], v.value)
		}
	}
}
