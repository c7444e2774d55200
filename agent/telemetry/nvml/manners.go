//go:build cgo

package nvml

import "time"

// manners decide when the connection to NVML is given up, because an open one keeps cards awake that could sleep: those of
// laptops and hybrid machines. It is a state machine of its own, without clock or driver.
//
//	open ── every card may sleep and has been idle for idleBeforeAway ──▶ leaving
//	leaving ── every card sleeps ──▶ away
//	leaving ── that took longer than timeToSleep: they don't sleep by themselves ──▶ open, and no further try for untilNextTry
//	away ── a card has woken, because some program uses it ──▶ open
//
// The zero value is open.
type manners struct {
	phase     phase
	since     time.Time // when leaving began
	idle      time.Time // since when every card has been idle; zero when one is not
	notBefore time.Time // of the next try
}

type phase int

const (
	open    phase = iota // NVML is connected, or to be connected by the next Inventory
	leaving              // NVML is closed, and the cards are expected to fall asleep
	away                 // NVML is closed, and every card sleeps
)

const (
	idleBeforeAway = 30 * time.Second
	timeToSleep    = 15 * time.Second
	untilNextTry   = 10 * time.Minute
)

// power is what is known of one card without waking it.
type power struct {
	maySleep bool // power/control is auto: on a server it is on
	sleeps   bool
	idle     bool // its last reading said that it had nothing to do; of no meaning while NVML is closed
}

// deed is what follows from a step.
type deed int

const (
	nothing    deed = iota
	disconnect      // close NVML
	reconnect       // connect again
)

// step moves on. used says whether a process is on any card; it is asked only when everything else speaks for leaving, because
// it asks the driver.
func (m *manners) step(now time.Time, cards []power, used func() bool) deed {
	switch m.phase {
	case leaving:
		switch {
		case all(cards, func(c power) bool { return c.sleeps }):
			m.phase = away
		case now.Sub(m.since) >= timeToSleep:
			m.open()
			m.notBefore = now.Add(untilNextTry)
			return reconnect
		}
		return nothing
	case away:
		if all(cards, func(c power) bool { return c.sleeps }) {
			return nothing
		}
		m.open()
		return reconnect
	default:
		return m.stay(now, cards, used)
	}
}

// stay is a step while open.
func (m *manners) stay(now time.Time, cards []power, used func() bool) deed {
	if !all(cards, func(c power) bool { return c.maySleep && (c.idle || c.sleeps) }) {
		m.idle = time.Time{}
		return nothing
	}
	if m.idle.IsZero() {
		m.idle = now
	}
	if now.Sub(m.idle) < idleBeforeAway || now.Before(m.notBefore) {
		return nothing
	}
	if used() {
		m.idle = now
		return nothing
	}
	m.phase, m.since = leaving, now
	return disconnect
}

func (m *manners) open() { m.phase, m.idle = open, time.Time{} }

// all is false of no cards.
func all(cards []power, f func(power) bool) bool {
	for _, c := range cards {
		if !f(c) {
			return false
		}
	}
	return len(cards) > 0
}
