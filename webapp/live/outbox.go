package live

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"

	"muster/shared/job"
	"muster/shared/wire"
)

// Store keeps small texts over restarts of the app; in a browser it is localStorage. Keys are the caller's.
type Store interface {
	Set(key, value string) error
	Delete(key string)
	// All gives every entry whose key has the prefix.
	All(prefix string) map[string]string
}

// MaxOutbox bounds how many commands wait for the connection.
const MaxOutbox = 100

// ErrOutboxFull says that too many commands wait already.
var ErrOutboxFull = errors.New("100 commands wait for the connection already: connect first")

// Outbox holds commands until the agent has answered them. Each is stored under its own key, so that two pages of one browser
// don't lose each other's. It may be used from several goroutines.
type Outbox struct {
	store Store

	mu      sync.Mutex
	pending []entry
}

type entry struct {
	Order   int          `json:"order"`
	Command wire.Command `json:"command"`
}

const outboxPrefix = "muster.outbox."

// OpenOutbox reads what the store kept; entries that can't be read are dropped. A nil store keeps nothing.
func OpenOutbox(store Store) *Outbox {
	o := &Outbox{store: store}
	if store == nil {
		return o
	}
	for key, value := range store.All(outboxPrefix) {
		var e entry
		if err := json.Unmarshal([]byte(value), &e); err != nil || commandID(e.Command) != strings.TrimPrefix(key, outboxPrefix) {
			store.Delete(key)
			continue
		}
		o.insert(e)
	}
	return o
}

// insert keeps the entries in the order in which they were made.
func (o *Outbox) insert(e entry) {
	at := 0
	for at < len(o.pending) && (o.pending[at].Order < e.Order || o.pending[at].Order == e.Order && commandID(o.pending[at].Command) < commandID(e.Command)) {
		at++
	}
	o.pending = slices.Insert(o.pending, at, e)
}

// Add takes a command; one whose id is there already is left as it is.
func (o *Outbox) Add(c wire.Command) error {
	id := commandID(c)
	if id == "" {
		return errors.New("command without an id")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.index(id) >= 0 {
		return nil
	}
	if len(o.pending) >= MaxOutbox {
		return ErrOutboxFull
	}
	e := entry{Command: c}
	if n := len(o.pending); n > 0 {
		e.Order = o.pending[n-1].Order + 1
	}
	o.pending = append(o.pending, e)
	if o.store == nil {
		return nil
	}
	value, err := json.Marshal(e)
	if err != nil {
		return err
	}
	// A full or forbidden store costs only what would survive a reload.
	_ = o.store.Set(outboxPrefix+id, string(value))
	return nil
}

// Pending gives the commands without an answer, oldest first.
func (o *Outbox) Pending() []wire.Command {
	o.mu.Lock()
	defer o.mu.Unlock()
	commands := make([]wire.Command, len(o.pending))
	for i, e := range o.pending {
		commands[i] = e.Command
	}
	return commands
}

// Settle drops what an event answers: the job of a submitted command, the end of a cancelled job, or a refusal.
func (o *Outbox) Settle(e wire.Event) {
	switch {
	case e.Error != nil && e.Error.ID != "":
		o.Drop(e.Error.ID)
	case e.Job != nil:
		o.settleJob(e.Job)
	}
}

func (o *Outbox) settleJob(j *job.Job) {
	for _, c := range o.Pending() {
		if c.Submit != nil && c.Submit.ID == j.Key || c.Cancel != nil && c.Cancel.JobID == j.ID && j.State.Terminal() {
			o.Drop(commandID(c))
		}
	}
}

// Drop forgets a command; unknown ids are fine.
func (o *Outbox) Drop(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at := o.index(id)
	if at < 0 {
		return
	}
	o.pending = slices.Delete(o.pending, at, at+1)
	if o.store != nil {
		o.store.Delete(outboxPrefix + id)
	}
}

func (o *Outbox) index(id string) int {
	return slices.IndexFunc(o.pending, func(e entry) bool { return commandID(e.Command) == id })
}

func commandID(c wire.Command) string {
	switch {
	case c.Submit != nil:
		return c.Submit.ID
	case c.Cancel != nil:
		return c.Cancel.ID
	default:
		return ""
	}
}
