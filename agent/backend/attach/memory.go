package attach

import (
	"context"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"muster/agent/backend"
	"muster/shared/sampler"
)

// Memory is what attached servers had when they were seen last, so that their models are known while they are away after a start of the
// agent. It says what may be waited for, never that something can be used. Make it with Remember; its methods may be called from any
// goroutine, and those of nil remember nothing.
type Memory struct {
	path string
	log  *slog.Logger
	wake chan struct{} // of size 1: there is something to write

	mu      sync.Mutex
	servers map[string]past // by Config.ID
	asked   map[string]bool // those that are in the settings
	here    map[string]bool // those that answered when they were asked last
	stale   bool            // the file says something else
}

// past is what a server was when it was seen last.
type past struct {
	Seen  time.Time `json:"seen"` // when it answered last; UTC
	Title string    `json:"title,omitempty"`
	// Device is the stable ID of the one that it worked on; "" when that was not certain.
	Device string          `json:"device,omitempty"`
	Models []backend.Model `json:"models"`
}

// Timing of the file.
const (
	seenEvery  = 10 * time.Minute // that a server still answers is written so often, for an agent that is killed
	writeAgain = time.Minute      // after a failure
	lastWrite  = time.Second      // for the last one, when the agent ends
)

// Remember gives the memory that a file holds: an empty one where there is no file, or none that can be used, which the log says. Only
// Run writes it.
func Remember(path string, log *slog.Logger) *Memory {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	servers, err := readMemory(path)
	if err != nil {
		log.Warn("what attached generators had is not known", "file", path, "error", err)
	}
	return &Memory{path: path, log: log, wake: make(chan struct{}, 1), servers: servers, asked: map[string]bool{}, here: map[string]bool{}}
}

// recall gives what is remembered of a server that is in the settings.
func (m *Memory) recall(id string) (p past, known bool) {
	if m == nil {
		return past{}, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked[id] = true
	p, known = m.servers[id]
	p.Models = rememberable(p.Models)
	return p, known
}

// note remembers a server that answers now.
func (m *Memory) note(id string, p past) {
	if m == nil {
		return
	}
	p.Models = rememberable(p.Models)
	m.mu.Lock()
	defer m.mu.Unlock()
	old, known := m.servers[id]
	seen := p.Seen
	old.Seen, p.Seen = time.Time{}, time.Time{}
	news := !known || !m.here[id] || !reflect.DeepEqual(old, p)
	p.Seen = seen
	m.servers[id], m.here[id] = p, true
	if news {
		m.changed()
	}
}

// gone notes that a server does not answer now: the time when it did last is worth writing.
func (m *Memory) gone(id string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.here[id] {
		m.here[id] = false
		m.changed()
	}
}

// changed needs mu.
func (m *Memory) changed() {
	m.stale = true
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// forget drops the servers that are not in the settings any more.
func (m *Memory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.servers {
		if !m.asked[id] {
			delete(m.servers, id)
			m.changed()
		}
	}
}

// Run keeps the file as it should be until ctx ends. A disk that fails or hangs costs nobody else anything: the log says so, and it is
// tried again.
func (m *Memory) Run(ctx context.Context) error {
	m.forget()
	failed := false
	for {
		next := seenEvery
		if err := m.write(); err != nil {
			if next = writeAgain; !failed {
				m.log.Warn("what attached generators have could not be kept, so after a start it is not known until they answer", "file", m.path, "error", err)
			}
			failed = true
		} else {
			failed = false
		}
		select {
		case <-ctx.Done():
			return m.finish()
		case <-m.wakes(failed):
		case <-time.After(next):
			m.answering()
		}
	}
}

// wakes is the channel of news; nil, which never has any, while a failed write rests.
func (m *Memory) wakes(failed bool) <-chan struct{} {
	if failed {
		return nil
	}
	return m.wake
}

// answering has the file written where a server answers still: its time is another one.
func (m *Memory) answering() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, here := range m.here {
		m.stale = m.stale || here
	}
}

// finish writes a last time, but does not wait long for a disk.
func (m *Memory) finish() error {
	m.answering()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.write(); err != nil {
			m.log.Warn("what attached generators had could not be kept", "file", m.path, "error", err)
		}
	}()
	select {
	case <-done:
	case <-time.After(lastWrite):
	}
	return nil
}

// write brings the file up to date, where it is not.
func (m *Memory) write() error {
	m.mu.Lock()
	stale, servers := m.stale, maps.Clone(m.servers)
	m.stale = false
	m.mu.Unlock()
	if !stale {
		return nil
	}
	err := writeMemory(m.path, servers)
	if err != nil {
		m.mu.Lock()
		m.stale = true
		m.mu.Unlock()
	}
	return err
}

// Bounds of what is remembered.
const (
	maxPastModels  = 2000    // of a server; those that it names first
	maxPastText    = 1 << 10 // bytes of a model's name, title and path together
	maxMemoryBytes = 16 << 20
)

// rememberable leaves out the models beyond the bounds. Their lists of samplers are copies that nobody asks: those that were asked know
// more than they say, and would never be the same again.
func rememberable(models []backend.Model) []backend.Model {
	kept := slices.DeleteFunc(slices.Clone(models), func(m backend.Model) bool {
		return m.Name == "" || len(m.Name)+len(m.Title)+len(m.Path) > maxPastText
	})
	kept = kept[:min(len(kept), maxPastModels)]
	copies := map[*sampler.List]*sampler.List{nil: nil}
	for i := range kept {
		list := kept[i].Samplers
		if _, known := copies[list]; !known {
			copies[list] = &sampler.List{Samplers: list.Samplers, Schedules: list.Schedules}
		}
		kept[i].Samplers = copies[list]
	}
	return kept
}
