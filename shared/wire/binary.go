package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"muster/shared/gpu"
)

// Layout of a binary snapshot: unsigned and zigzag varints throughout.
//
//	seq, milliseconds since 1970 (zigzag), inventory revision, host, number of devices, devices
//	host:   mask of 3 optional values, then those present
//	device: code of State, age in ms, mask of optionalFields, then those present
//
// Resolution is 0.1 for percent, °C and W, 1 for MHz, rpm and the percent of video engines; bytes are exact. A device takes about
// 50 bytes, at most 64.

// optionalField is one value that may be absent: its bit in the mask is its position in the table.
type optionalField[T any] struct {
	get func(*T) (value uint64, ok bool)
	set func(*T, uint64)
}

// suspects are the fields that Reading.Suspect may name, by their bit. It only grows at its end.
var suspects = []string{"utilization_percent", "memory_utilization_percent", "memory_used_bytes", "temperatures", "power_watts",
	"core_clock_mhz", "memory_clock_mhz", "fan_percent", "fan_rpm", "encoder_percent", "decoder_percent", "media_percent"}

func scaled[T any](at func(*T) **float64, scale float64) optionalField[T] {
	return optionalField[T]{
		get: func(t *T) (uint64, bool) {
			v := *at(t)
			if v == nil || !(*v >= 0 && *v < math.MaxUint32) {
				return 0, false
			}
			return uint64(math.Round(*v * scale)), true
		},
		set: func(t *T, raw uint64) {
			v := float64(raw) / scale
			*at(t) = &v
		},
	}
}

// amount writes bytes in KiB where they are whole KiB, as drivers nearly always report: one or two bytes shorter, still exact.
func amount[T any](at func(*T) **uint64) optionalField[T] {
	return optionalField[T]{
		get: func(t *T) (uint64, bool) {
			v := *at(t)
			switch {
			case v == nil || *v > math.MaxUint64>>1:
				return 0, false
			case *v%1024 == 0:
				return *v / 1024 << 1, true
			default:
				return *v<<1 | 1, true
			}
		},
		set: func(t *T, raw uint64) {
			v := raw >> 1
			if raw&1 == 0 {
				v *= 1024
			}
			*at(t) = &v
		},
	}
}

func count[T any](at func(*T) **int) optionalField[T] {
	return optionalField[T]{
		get: func(t *T) (uint64, bool) {
			v := *at(t)
			if v == nil || *v < 0 {
				return 0, false
			}
			return uint64(*v), true
		},
		set: func(t *T, raw uint64) {
			v := int(raw & math.MaxInt32)
			*at(t) = &v
		},
	}
}

var hostFields = []optionalField[gpu.HostReading]{
	scaled(func(h *gpu.HostReading) **float64 { return &h.CPUPercent }, 10),
	amount(func(h *gpu.HostReading) **uint64 { return &h.MemoryUsedBytes }),
	amount(func(h *gpu.HostReading) **uint64 { return &h.MemoryTotalBytes }),
}

// readingFields only grows at its end; anything else raises Version.
var readingFields = []optionalField[gpu.Reading]{
	scaled(func(r *gpu.Reading) **float64 { return &r.UtilizationPercent }, 10),
	scaled(func(r *gpu.Reading) **float64 { return &r.MemoryUtilizationPercent }, 10),
	amount(func(r *gpu.Reading) **uint64 { return &r.MemoryTotalBytes }),
	amount(func(r *gpu.Reading) **uint64 { return &r.MemoryUsedBytes }),
	amount(func(r *gpu.Reading) **uint64 { return &r.MemoryReservedBytes }),
	amount(func(r *gpu.Reading) **uint64 { return &r.SharedMemoryTotalBytes }),
	amount(func(r *gpu.Reading) **uint64 { return &r.SharedMemoryUsedBytes }),
	temperature(0), temperature(1), temperature(2),
	scaled(func(r *gpu.Reading) **float64 { return &r.PowerWatts }, 10),
	scaled(func(r *gpu.Reading) **float64 { return &r.PowerLimitWatts }, 10),
	scaled(func(r *gpu.Reading) **float64 { return &r.CoreClockMHz }, 1),
	scaled(func(r *gpu.Reading) **float64 { return &r.MemoryClockMHz }, 1),
	scaled(func(r *gpu.Reading) **float64 { return &r.FanPercent }, 10),
	scaled(func(r *gpu.Reading) **float64 { return &r.FanRPM }, 1),
	count(func(r *gpu.Reading) **int { return &r.PCIeGeneration }),
	count(func(r *gpu.Reading) **int { return &r.PCIeWidth }),
	{
		get: func(r *gpu.Reading) (uint64, bool) {
			if r.Throttle == nil {
				return 0, false
			}
			return uint64(*r.Throttle), true
		},
		set: func(r *gpu.Reading, raw uint64) {
			throttle := gpu.Throttle(raw)
			r.Throttle = &throttle
		},
	},
	count(func(r *gpu.Reading) **int { return &r.PerformanceState }),
	scaled(func(r *gpu.Reading) **float64 { return &r.EncoderPercent }, 1),
	scaled(func(r *gpu.Reading) **float64 { return &r.DecoderPercent }, 1),
	scaled(func(r *gpu.Reading) **float64 { return &r.MediaPercent }, 1),
	{
		get: func(r *gpu.Reading) (mask uint64, ok bool) {
			for _, name := range r.Suspect {
				if bit := slices.Index(suspects, name); bit >= 0 {
					mask |= 1 << bit
				}
			}
			return mask, mask != 0
		},
		set: func(r *gpu.Reading, mask uint64) {
			for bit, name := range suspects {
				if mask&(1<<bit) != 0 {
					r.Suspect = append(r.Suspect, name)
				}
			}
		},
	},
}

// temperature is the sensor gpu.Sensors[i], in zigzag tenths of a degree.
func temperature(i int) optionalField[gpu.Reading] {
	return optionalField[gpu.Reading]{
		get: func(r *gpu.Reading) (uint64, bool) {
			for _, t := range r.Temperatures {
				if t.Sensor == gpu.Sensors[i] && math.Abs(t.Celsius) < 1e4 {
					tenths := int64(math.Round(t.Celsius * 10))
					return uint64(tenths<<1) ^ uint64(tenths>>63), true
				}
			}
			return 0, false
		},
		set: func(r *gpu.Reading, raw uint64) {
			tenths := int64(raw>>1) ^ -int64(raw&1)
			r.Temperatures = append(r.Temperatures, gpu.Temperature{Sensor: gpu.Sensors[i], Celsius: float64(tenths) / 10})
		},
	}
}

func appendOptional[T any](b []byte, fields []optionalField[T], t *T) []byte {
	var mask uint64
	var values [32]uint64
	n := 0
	for i := range fields {
		if v, ok := fields[i].get(t); ok {
			mask |= 1 << i
			values[n] = v
			n++
		}
	}
	b = binary.AppendUvarint(b, mask)
	for _, v := range values[:n] {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func appendSnapshot(b []byte, s *gpu.Snapshot) []byte {
	b = binary.AppendUvarint(b, s.Seq)
	b = binary.AppendVarint(b, s.Time.UnixMilli())
	b = binary.AppendUvarint(b, s.Revision)
	b = appendOptional(b, hostFields, &s.Host)
	b = binary.AppendUvarint(b, uint64(len(s.GPUs)))
	for i := range s.GPUs {
		b = binary.AppendUvarint(b, stateCode(s.GPUs[i].State))
		b = binary.AppendUvarint(b, uint64(max(0, s.GPUs[i].AgeMilliseconds)))
		b = appendOptional(b, readingFields, &s.GPUs[i])
	}
	return b
}

func stateCode(s gpu.State) uint64 {
	for i, known := range gpu.States {
		if s == known {
			return uint64(i)
		}
	}
	return uint64(len(gpu.States) - 1)
}

// cursor reads varints and remembers the first error, so that decoding is a straight line.
type cursor struct {
	b   []byte
	err error
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	return advance(c, v, n)
}

func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.b)
	return advance(c, v, n)
}

func advance[N int64 | uint64](c *cursor, v N, n int) N {
	if n <= 0 {
		if c.err == nil {
			c.err = io.ErrUnexpectedEOF
		}
		c.b = nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

// length reads a count of things that take at least one byte each.
func (c *cursor) length() int {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		if c.err == nil {
			c.err = fmt.Errorf("%d elements in %d bytes", n, len(c.b))
		}
		return 0
	}
	return int(n)
}

func (c *cursor) end() error {
	if c.err == nil && len(c.b) > 0 {
		return fmt.Errorf("%d bytes left over", len(c.b))
	}
	return c.err
}

func readOptional[T any](c *cursor, fields []optionalField[T], t *T) {
	mask := c.uvarint()
	if c.err == nil && mask>>len(fields) != 0 {
		c.err = errors.New("fields that this side does not know; reload the page")
	}
	for i := range fields {
		if c.err == nil && mask&(1<<i) != 0 {
			if v := c.uvarint(); c.err == nil {
				fields[i].set(t, v)
			}
		}
	}
}

func decodeSnapshot(b []byte) (*gpu.Snapshot, error) {
	c := &cursor{b: b}
	s := &gpu.Snapshot{Seq: c.uvarint(), Time: time.UnixMilli(c.varint()).UTC(), Revision: c.uvarint()}
	readOptional(c, hostFields, &s.Host)
	s.GPUs = make([]gpu.Reading, c.length())
	for i := range s.GPUs {
		r := &s.GPUs[i]
		r.Index = gpu.Ref(i)
		code := c.uvarint()
		if code >= uint64(len(gpu.States)) {
			code = uint64(len(gpu.States) - 1)
		}
		r.State = gpu.States[code]
		r.AgeMilliseconds = int64(c.uvarint() & math.MaxInt64)
		readOptional(c, readingFields, r)
	}
	return s, c.end()
}
