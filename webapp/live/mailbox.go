package live

import (
	"sync"
	"time"

	"muster/shared/wire"
	"muster/webapp/state"
)

// News is what came since the last look.
type News struct {
	// Link is the state of the connection now; "" before the first attempt ended.
	Link state.Link
	// Since is when the link came to that state; for Stale and Offline when the last frame arrived (zero: never).
	Since  time.Time
	Events []wire.Event
}

// mailbox keeps what came until the view takes it. It holds at most one snapshot, the newest.
type mailbox struct {
	ready chan struct{} // size 1

	mu        sync.Mutex
	state     state.Link
	since     time.Time
	lastFrame time.Time
	events    []wire.Event
	snapshot  int // position of the snapshot in events, plus one; 0 for none
}

func (m *mailbox) event(e wire.Event) {
	m.mu.Lock()
	now := time.Now()
	m.lastFrame = now
	if m.state != state.Connected {
		m.state, m.since = state.Connected, now
	}
	if e.Snapshot != nil {
		if m.snapshot > 0 {
			m.events = append(m.events[:m.snapshot-1], m.events[m.snapshot:]...)
		}
		m.snapshot = len(m.events) + 1
	}
	m.events = append(m.events, e)
	m.mu.Unlock()
	signal(m.ready)
}

func (m *mailbox) link(s state.Link) {
	m.mu.Lock()
	changed := m.state != s
	if changed {
		m.state, m.since = s, time.Now()
		if s == state.Stale || s == state.Offline {
			m.since = m.lastFrame
		}
	}
	m.mu.Unlock()
	if changed {
		signal(m.ready)
	}
}

func (m *mailbox) take() News {
	m.mu.Lock()
	defer m.mu.Unlock()
	news := News{Link: m.state, Since: m.since, Events: m.events}
	m.events, m.snapshot = nil, 0
	return news
}
