package amdgpu

import (
	"encoding/binary"
	"math"

	"muster/shared/gpu"
)

// metrics is what muster uses of a gpu_metrics file.
type metrics struct {
	format, content        byte     // the table's version, 1.3 say
	edge, junction, memory optional // °C
	activity               optional // percent in formats 1 and 3; in format 2 percent or hundredths of a percent, by firmware
	memoryActivity         optional // percent
	watts                  optional
	coreMHz, memoryMHz     optional
	fanRPM                 optional
	link                   link // zero when not reported
	throttle               gpu.Throttle
	hasThrottle            bool
}

// optional is a value that was in the table and not marked as unavailable, or nothing.
type optional struct {
	value float64
	known bool
}

// or gives o, or else when o is nothing.
func (o optional) or(other optional) optional {
	if o.known {
		return o
	}
	return other
}

// table says where one version of gpu_metrics keeps what; an offset of 0 means that it doesn't. All values are little-endian
// and 16 bits wide but where the name says otherwise. Sources: kgd_pp_interface.h of the kernel, measured on captures.
type table struct {
	size                                   int // bytes that the version has at least
	edge, junction, memory                 int
	degree                                 float64 // units per °C
	activity, memoryActivity               int
	power, power32                         int
	watt                                   float64 // units per watt
	core, averageCore, uclock, averageUclk int
	fan, width, speed                      int
	throttle64                             int // independent of the chip: 16 bits each of power, current, temperature, other
}

// tableOf gives the layout of a version; false for unknown ones, and for 1.0 and 2.0, which put a time stamp first.
// Versions are not append-only. 1.4 to 1.8 have no throttle status: their field is always 0, or counts residency.
func tableOf(format, content byte) (table, bool) {
	instinct := func(size, width, core, uclock int) table {
		return table{size: size, junction: 4, memory: 6, degree: 1, power: 10, watt: 1, activity: 12, memoryActivity: 14,
			width: width, speed: width + 2, core: core, uclock: uclock}
	}
	card := table{size: 96, edge: 4, junction: 6, memory: 8, degree: 1, activity: 16, memoryActivity: 18, power: 22, watt: 1,
		averageCore: 40, averageUclk: 44, core: 54, uclock: 58, fan: 72, width: 74, speed: 76}
	apu := table{size: 120, edge: 4, degree: 100, activity: 28, power: 40, watt: 1000, averageCore: 64, averageUclk: 68,
		core: 76, uclock: 80}
	switch [2]byte{format, content} {
	case [2]byte{1, 1}:
		return card, true
	case [2]byte{1, 2}:
		card.size = 104
		return card, true
	case [2]byte{1, 3}:
		card.size, card.throttle64 = 120, 112
		return card, true
	case [2]byte{1, 4}:
		return instinct(288, 48, 240, 280), true
	case [2]byte{1, 5}:
		return instinct(360, 112, 312, 352), true
	case [2]byte{1, 6}:
		return instinct(1664, 60, 264, 304), true
	case [2]byte{1, 7}:
		return instinct(2208, 68, 296, 336), true
	case [2]byte{1, 8}:
		return instinct(3872, 68, 296, 336), true
	case [2]byte{2, 1}:
		return apu, true
	case [2]byte{2, 2}, [2]byte{2, 3}, [2]byte{2, 4}:
		apu.size, apu.throttle64 = 128, 120
		return apu, true
	case [2]byte{3, 0}:
		return table{size: 264, edge: 4, degree: 100, activity: 42, power32: 112, watt: 1000, averageCore: 174, averageUclk: 186}, true
	default:
		return table{}, false
	}
}

// decodeMetrics reads a gpu_metrics file; false when it is shorter than it says or its version is not known. What follows
// the table is ignored (captures are padded).
func decodeMetrics(b []byte) (metrics, bool) {
	if len(b) < 4 {
		return metrics{}, false
	}
	size, m := int(binary.LittleEndian.Uint16(b)), metrics{format: b[2], content: b[3]}
	t, known := tableOf(m.format, m.content)
	if !known || size < t.size || len(b) < size {
		return metrics{}, false
	}
	b = b[:size]
	m.edge, m.junction, m.memory = field(b, t.edge, t.degree), field(b, t.junction, t.degree), field(b, t.memory, t.degree)
	m.activity, m.memoryActivity = field(b, t.activity, 1), field(b, t.memoryActivity, 1)
	m.watts = field(b, t.power, t.watt).or(field32(b, t.power32, t.watt))
	m.coreMHz = field(b, t.core, 1).or(field(b, t.averageCore, 1))
	m.memoryMHz = field(b, t.uclock, 1).or(field(b, t.averageUclk, 1))
	m.fanRPM = field(b, t.fan, 1)
	width, speed := field(b, t.width, 1), field(b, t.speed, 10)
	if width.known && speed.known && width.value > 0 && generation(speed.value) > 0 {
		m.link = link{gigatransfers: speed.value, width: int(width.value)}
	}
	m.throttle, m.hasThrottle = throttle(b, t.throttle64)
	return m, true
}

func field(b []byte, offset int, unit float64) optional {
	if offset == 0 {
		return optional{}
	}
	v := binary.LittleEndian.Uint16(b[offset:])
	return optional{float64(v) / unit, v != math.MaxUint16}
}

func field32(b []byte, offset int, unit float64) optional {
	if offset == 0 {
		return optional{}
	}
	v := binary.LittleEndian.Uint32(b[offset:])
	return optional{float64(v) / unit, v != math.MaxUint32}
}

// throttle maps the 64 bits that are the same for all chips (SMU_THROTTLER_* of amdgpu_smu.h).
func throttle(b []byte, offset int) (t gpu.Throttle, known bool) {
	if offset == 0 {
		return 0, false
	}
	bits := binary.LittleEndian.Uint64(b[offset:])
	if bits == math.MaxUint64 {
		return 0, false
	}
	for i, reason := range [4]gpu.Throttle{gpu.ThrottlePower, gpu.ThrottleCurrent, gpu.ThrottleThermal, gpu.ThrottleOther} {
		if bits>>(16*i)&math.MaxUint16 != 0 {
			t |= reason
		}
	}
	return t, true
}

// percent gives the activity where its unit is certain: firmware of format 2 counts in percent or in hundredths, and only
// above 100 one can tell which.
func (m metrics) percent() optional {
	if m.format != 2 {
		return m.activity
	}
	return optional{m.activity.value / 100, m.activity.known && m.activity.value > 100}
}
