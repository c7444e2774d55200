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
	media                  optional // percent, the mean of all video engines; not in format 2, for the reason above
	watts                  optional
	energy                 optional // units of 2⁻¹⁶ J where the version or the chip is known to count so
	coreMHz, memoryMHz     optional
	fanRPM                 optional
	link                   link // zero when not reported
	throttle               gpu.Throttle
	hasThrottle            bool
	residency              residency
	replays                optional // on the PCIe bus, since the driver was loaded
	xgmi                   xgmi
	partitions             [maxPartitions]optional // percent in which each worked
}

// Sizes of the arrays that the tables of Instinct cards hold (kgd_pp_interface.h).
const (
	maxPartitions = 8
	maxLinks      = 8
	maxXCC        = 8 // compute dies per partition
	maxVCN        = 4 // video engines
)

// xgmi is the state of the direct links to other cards.
type xgmi struct {
	lanes, gigabits optional // of each link; gigabits per second and lane
	status          [maxLinks]linkStatus
}

// linkStatus says whether a link is up. The zero value is for one that isn't there or not reported.
type linkStatus byte

const (
	linkAbsent linkStatus = iota
	linkDown
	linkUp
)

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
	activity, memoryActivity, media        int
	videoEngines                           int // maxVCN values
	power, power32                         int
	watt                                   float64 // units per watt
	energy64                               int
	core, averageCore, uclock, averageUclk int
	fan, width, speed                      int
	throttle64                             int // independent of the chip: 16 bits each of power, current, temperature, other
	throttle32                             int // each chip has bits of its own: only whether there are any can be told
	cycles32, residency32                  int
	residents                              []gpu.Throttle // what each of the counters at residency32 counts
	replays64                              int
	xgmiWidth, xgmiStatus                  int // the speed follows the width
	partitions                             int // maxPartitions records
	partitionSize, partitionVideo          int // bytes of one, and where in it its video engines are
}

// tableOf gives the layout of a version; false for unknown ones, and for 1.0 and 2.0, which put a time stamp first.
// Versions are not append-only. 1.4 and 1.5 have no throttle status: their field is always 0.
func tableOf(format, content byte) (table, bool) {
	card := table{size: 96, edge: 4, junction: 6, memory: 8, degree: 1, activity: 16, memoryActivity: 18, media: 20, power: 22, watt: 1,
		energy64: 24, throttle32: 68, averageCore: 40, averageUclk: 44, core: 54, uclock: 58, fan: 72, width: 74, speed: 76}
	apu := table{size: 120, edge: 4, degree: 100, activity: 28, power: 40, watt: 1000, averageCore: 64, averageUclk: 68,
		core: 76, uclock: 80, throttle32: 108}
	switch [2]byte{format, content} {
	case [2]byte{1, 1}:
		return card, true
	case [2]byte{1, 2}:
		card.size = 104
		return card, true
	case [2]byte{1, 3}:
		card.size, card.throttle64 = 120, 112
		return card, true
	case [2]byte{1, 4}, [2]byte{1, 5}, [2]byte{1, 6}, [2]byte{1, 7}, [2]byte{1, 8}:
		return instinct(content), true
	case [2]byte{2, 1}:
		return apu, true
	case [2]byte{2, 2}, [2]byte{2, 3}, [2]byte{2, 4}:
		apu.size, apu.throttle64 = 128, 120
		return apu, true
	case [2]byte{3, 0}:
		return table{size: 264, edge: 4, degree: 100, activity: 42, media: 44, power32: 112, watt: 1000, averageCore: 174, averageUclk: 186,
			residency32: 228, residents: []gpu.Throttle{gpu.ThrottleHardware, gpu.ThrottlePower, gpu.ThrottlePower, gpu.ThrottlePower,
				gpu.ThrottleThermal, gpu.ThrottleThermal, gpu.ThrottleThermal}}, true
	default:
		return table{}, false
	}
}

// residents are the counters of throttling that the Instinct tables since 1.6 hold, in their order: PROCHOT, package power,
// socket, voltage regulators, memory.
var residents = []gpu.Throttle{gpu.ThrottleHardware, gpu.ThrottlePower, gpu.ThrottleThermal, gpu.ThrottleThermal, gpu.ThrottleThermal}

// instinct gives the layout of 1.4 to 1.8.
func instinct(content byte) table {
	t := table{junction: 4, memory: 6, degree: 1, power: 10, watt: 1, activity: 12, memoryActivity: 14}
	switch content {
	case 4:
		t.size, t.width, t.core, t.uclock = 288, 48, 240, 280
		t.videoEngines, t.energy64, t.xgmiWidth, t.replays64 = 16, 24, 52, 88
	case 5:
		t.size, t.width, t.core, t.uclock = 360, 112, 312, 352
		t.videoEngines, t.energy64, t.xgmiWidth, t.replays64 = 16, 88, 116, 152
	case 6:
		t.size, t.width, t.core, t.uclock = 1664, 60, 264, 304
		t.energy64, t.xgmiWidth, t.replays64, t.cycles32 = 16, 64, 104, 32
		t.partitions, t.partitionSize, t.partitionVideo = 312, 168, 96
	case 7:
		t.size, t.partitionSize, t.partitionVideo = 2208, 232, 96
	case 8:
		t.size, t.partitionSize, t.partitionVideo = 3872, 440, 112
	}
	if content >= 7 {
		t.width, t.core, t.uclock, t.partitions = 68, 296, 336, 344
		t.energy64, t.xgmiWidth, t.replays64, t.cycles32, t.xgmiStatus = 24, 72, 112, 40, 264
	}
	if t.cycles32 > 0 {
		t.residency32, t.residents = t.cycles32+4, residents
	}
	t.speed = t.width + 2
	return t
}

// decodeMetrics reads a gpu_metrics file; false when it is shorter than it says or its version is not known. What follows
// the table is ignored (captures are padded).
func decodeMetrics(b []byte) (metrics, bool) {
	if len(b) < 4 {
		return metrics{}, false
	}
	size, m := int(binary.LittleEndian.Uint16(b)), metrics{format: b[2], content: b[3]}
	if len(b) < size {
		return metrics{}, false
	}
	if m.format == 1 && m.content == 9 {
		return decodeAttributes(b[:size], m)
	}
	t, known := tableOf(m.format, m.content)
	if !known || size < t.size {
		return metrics{}, false
	}
	b = b[:size]
	m.edge, m.junction, m.memory = field(b, t.edge, t.degree), field(b, t.junction, t.degree), field(b, t.memory, t.degree)
	m.activity, m.memoryActivity = field(b, t.activity, 1), field(b, t.memoryActivity, 1)
	m.watts = field(b, t.power, t.watt).or(field32(b, t.power32, t.watt))
	m.coreMHz = field(b, t.core, 1).or(field(b, t.averageCore, 1))
	m.memoryMHz = field(b, t.uclock, 1).or(field(b, t.averageUclk, 1))
	m.fanRPM = field(b, t.fan, 1)
	m.energy, m.replays = field64(b, t.energy64), field64(b, t.replays64)
	m.link = linkOf(field(b, t.width, 1), field(b, t.speed, 10))
	m.throttle, m.hasThrottle = throttle(b, t)
	m.residency = countersAt(b, t)
	decodeVideo(b, t, &m)
	decodeXGMI(b, t, &m)
	return m, true
}

// linkOf gives the link to the slot; zero when it is not reported or can't be.
func linkOf(width, speed optional) link {
	if !width.known || !speed.known || width.value <= 0 || width.value > 32 || generation(speed.value) == 0 {
		return link{}
	}
	return link{gigatransfers: speed.value, width: int(width.value)}
}

// decodeVideo averages the video engines, and the compute dies of each partition.
func decodeVideo(b []byte, t table, m *metrics) {
	var video mean
	m.media = field(b, t.media, 1)
	if t.videoEngines > 0 {
		for i := range maxVCN {
			video.add(field(b, t.videoEngines+2*i, 1))
		}
	}
	for p := 0; t.partitions > 0 && p < maxPartitions; p++ {
		at := t.partitions + p*t.partitionSize
		var busy mean
		for i := range maxXCC {
			busy.add(field32(b, at+4*i, 1))
		}
		m.partitions[p] = busy.percent()
		for i := range maxVCN {
			video.add(field(b, at+t.partitionVideo+2*i, 1))
		}
	}
	m.media = m.media.or(video.percent())
}

func decodeXGMI(b []byte, t table, m *metrics) {
	if t.xgmiWidth == 0 {
		return
	}
	m.xgmi.lanes, m.xgmi.gigabits = field(b, t.xgmiWidth, 1), field(b, t.xgmiWidth+2, 1)
	for i := 0; t.xgmiStatus > 0 && i < maxLinks; i++ {
		m.xgmi.status[i] = statusOf(field(b, t.xgmiStatus+2*i, 1))
	}
}

// statusOf reads amdgpu_xgmi_link_status: 0 down, 1 up, 2 not there.
func statusOf(v optional) linkStatus {
	switch {
	case v.known && v.value == 0:
		return linkDown
	case v.known && v.value == 1:
		return linkUp
	default:
		return linkAbsent
	}
}

// mean averages the values that are known.
type mean struct{ sum, count float64 }

func (a *mean) add(v optional) {
	if v.known {
		a.sum += v.value
		a.count++
	}
}

// percent gives the mean; nothing when there was no value, or one beyond 100 %.
func (a mean) percent() optional {
	if a.count == 0 || a.sum > 100*a.count {
		return optional{}
	}
	return optional{a.sum / a.count, true}
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

// field64 reads a counter; beyond 2⁵³ it is a fault of the firmware.
func field64(b []byte, offset int) optional {
	if offset == 0 {
		return optional{}
	}
	v := binary.LittleEndian.Uint64(b[offset:])
	return optional{float64(v), v <= 1<<53}
}

// percent gives the activity where its unit is certain: firmware of format 2 counts in percent or in hundredths, and only
// above 100 one can tell which.
func (m metrics) percent() optional {
	if m.format != 2 {
		return m.activity
	}
	return optional{m.activity.value / 100, m.activity.known && m.activity.value > 100}
}

// joules gives the energy since the driver was loaded where its unit is certain: the tables since 1.4, and those of Arcturus and
// Aldebaran (gfx908, gfx90a), count in 2⁻¹⁶ J. Of other cards with tables 1.1 to 1.3 the unit is nowhere written (a captured
// RX 6900 XT fits millijoules), and the counter wraps at 32 bits.
func (m metrics) joules(g graphics) optional {
	certain := m.format == 1 && (m.content >= 4 || g == graphics{9, 0, 8} || g == graphics{9, 0, 10})
	return optional{m.energy.value / (1 << 16), m.energy.known && m.energy.value > 0 && certain}
}
