package amdgpu

import (
	"context"

	"muster/agent/telemetry/fdinfo"
	"muster/shared/gpu"
)

// Firmware of Raven, of BC-250 and of RDNA 4 with an idle compute context is known to report a busy card that does nothing.
const (
	stuckBusy      = 99   // percent from which on a reading is looked at
	idleBusy       = 5    // percent up to which the power counts as that of an idle card
	idleShare      = 0.25 // of the power limit, below which a card can hardly be busy
	suspectAfter   = 3    // readings in a row
	clockTolerance = 1.05
	idleTolerance  = 1.2
)

// observation is what one Reading says of whether the card works. Zero of watts, limit, clock and lowest means not reported.
type observation struct {
	busy          float64 // percent
	watts, limit  float64
	idle          float64 // the least power that the idle card ever took; 0 when it was never seen idle
	clock, lowest float64 // MHz; the lowest at which it works
	clockKnown    bool    // 0 MHz is what a sleeping core says
	moved         bool    // an engine worked for some process since the observation before
}

// looksIdle says whether the card claims to be busy at the power and the clock of an idle one.
func (o observation) looksIdle() bool {
	lowPower := o.watts > 0 && (o.idle > 0 && o.watts <= o.idle*idleTolerance || o.limit > 0 && o.watts < o.limit*idleShare)
	lowClock := o.clockKnown && o.lowest > 0 && o.clock <= o.lowest*clockTolerance
	return o.busy >= stuckBusy && lowPower && lowClock
}

// contradicts says whether the observation, after so many before it that did, contradicts itself: full load at idle power and the
// lowest clock, while no engine works for anybody.
func (o observation) contradicts(before int) bool {
	return o.looksIdle() && !o.moved && before+1 >= suspectAfter
}

// suspicion is what a card's Reads remember of it.
type suspicion struct {
	idle    float64 // see observation
	row     int     // readings in a row that looked idle, with engines that did not move
	clients fdinfo.Clients
	looked  bool // clients is from the reading before
}

// suspect marks the utilisation when it contradicts the rest of the Reading. Processes are only looked at when the rest does.
func (c *card) suspect(ctx context.Context, s *sensors, r *gpu.Reading) {
	m := &c.track.suspicion
	if r.UtilizationPercent == nil {
		return
	}
	o := observation{busy: *r.UtilizationPercent, watts: value(r.PowerWatts), limit: value(r.PowerLimitWatts), idle: m.idle,
		clock: value(r.CoreClockMHz), clockKnown: r.CoreClockMHz != nil, lowest: s.lowestClock}
	if o.busy <= idleBusy && o.watts > 0 && (m.idle == 0 || o.watts < m.idle) {
		m.idle = o.watts
	}
	if !o.looksIdle() {
		*m = suspicion{idle: m.idle}
		return
	}
	clients, err := c.scanner.Clients(ctx, c.allNodes())
	if err != nil {
		return
	}
	o.moved = m.looked && fdinfo.Moved(m.clients, clients)
	m.clients, m.looked = clients, true
	if o.contradicts(m.row) {
		r.Suspect = []string{"utilization_percent"}
	}
	if m.row++; o.moved {
		m.row = 0
	}
}

// allNodes are the card's names in /dev/dri with those of its partitions.
func (c *card) allNodes() []string {
	nodes := append([]string(nil), c.nodes...)
	for _, part := range c.parts {
		if part.id != "" && part.node != "" {
			nodes = append(nodes, part.node)
		}
	}
	return nodes
}

// value gives 0 for nothing.
func value(v *float64) float64 {
	if v == nil {
		return 0
	}
	return *v
}
