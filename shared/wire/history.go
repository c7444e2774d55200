package wire

import (
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// Layout of a binary history: start in ms (zigzag), step in ms, points per column, number of devices; then per device the
// length and bytes of its ID and its columns. A point is the change since the last reported point, zigzag, plus one; 0 is
// "not reported". Resolution is 1 % , 1 °C, 1 W: what a sparkline can show.

func columnsOf(s *Series) []*Column {
	return []*Column{&s.UtilizationPercent, &s.MemoryUsedPercent, &s.TemperatureCelsius, &s.PowerWatts}
}

func appendHistory(b []byte, h *History) []byte {
	points := 0
	if len(h.Devices) > 0 {
		points = len(h.Devices[0].UtilizationPercent)
	}
	b = binary.AppendVarint(b, h.Start.UnixMilli())
	b = binary.AppendUvarint(b, uint64(max(0, h.StepMilliseconds)))
	b = binary.AppendUvarint(b, uint64(points))
	b = binary.AppendUvarint(b, uint64(len(h.Devices)))
	for i := range h.Devices {
		b = binary.AppendUvarint(b, uint64(len(h.Devices[i].ID)))
		b = append(b, h.Devices[i].ID...)
		for _, column := range columnsOf(&h.Devices[i]) {
			b = appendColumn(b, *column, points)
		}
	}
	return b
}

func appendColumn(b []byte, column Column, points int) []byte {
	last := int64(0)
	for i := range points {
		if i >= len(column) || !(math.Abs(column[i]) < 1e6) {
			b = binary.AppendUvarint(b, 0)
			continue
		}
		value := int64(math.Round(column[i]))
		change := value - last
		last = value
		b = binary.AppendUvarint(b, (uint64(change<<1)^uint64(change>>63))+1)
	}
	return b
}

func decodeHistory(b []byte) (*History, error) {
	c := &cursor{b: b}
	h := &History{Start: time.UnixMilli(c.varint()).UTC(), StepMilliseconds: int64(c.uvarint() & math.MaxInt64)}
	points := c.length()
	h.Devices = make([]Series, c.length())
	for i := range h.Devices {
		n := c.length()
		h.Devices[i].ID = string(c.b[:n])
		c.b = c.b[n:]
		for _, column := range columnsOf(&h.Devices[i]) {
			if c.err != nil || points > len(c.b) {
				return nil, errors.Join(c.err, errors.New("history ends early"))
			}
			*column = readColumn(c, points)
		}
	}
	return h, c.end()
}

func readColumn(c *cursor, points int) Column {
	column := make(Column, points)
	last := int64(0)
	for i := range column {
		raw := c.uvarint()
		if raw == 0 {
			column[i] = math.NaN()
			continue
		}
		raw--
		last += int64(raw>>1) ^ -int64(raw&1)
		column[i] = float64(last)
	}
	return column
}
