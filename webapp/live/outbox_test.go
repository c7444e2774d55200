package live

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/shared/job"
	"muster/shared/wire"
)

// memory is a Store for tests; a full one refuses every Set.
type memory struct {
	mu      sync.Mutex
	entries map[string]string
	full    bool
}

func (m *memory) Set(key, value string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full {
		return errors.New("full")
	}
	if m.entries == nil {
		m.entries = map[string]string{}
	}
	m.entries[key] = value
	return nil
}

func (m *memory) Delete(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.entries, key)
}

func (m *memory) All(prefix string) map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := maps.Clone(m.entries)
	maps.DeleteFunc(out, func(key, _ string) bool { return !strings.HasPrefix(key, prefix) })
	return out
}

func submit(id string) wire.Command {
	return wire.Command{Submit: &wire.Submit{ID: id, Spec: job.Spec{Prompt: "a heron", Count: 2}}}
}

func cancel(id, jobID string) wire.Command {
	return wire.Command{Cancel: &wire.Cancel{ID: id, JobID: jobID}}
}

func pendingIDs(o *Outbox) []string {
	out := []string{}
	for _, c := range o.Pending() {
		out = append(out, commandID(c))
	}
	return out
}

func TestOutboxSettles(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		event wire.Event
		want  []string
	}{
		{"a submitted job answers its command", wire.Event{Job: &job.Job{ID: "J", Key: "s1", State: job.Queued}}, []string{"s2", "c1"}},
		{"a job of somebody else answers nothing", wire.Event{Job: &job.Job{ID: "J", Key: "other", State: job.Queued}}, []string{"s1", "s2", "c1"}},
		{"a cancel waits for the end of its job", wire.Event{Job: &job.Job{ID: "J9", State: job.Running}}, []string{"s1", "s2", "c1"}},
		{"the end of the job answers its cancel", wire.Event{Job: &job.Job{ID: "J9", State: job.Succeeded}}, []string{"s1", "s2"}},
		{"a refusal answers", wire.Event{Error: &wire.Error{ID: "s2", Code: "queue_full"}}, []string{"s1", "c1"}},
		{"an error without a command answers nothing", wire.Event{Error: &wire.Error{Code: "malformed"}}, []string{"s1", "s2", "c1"}},
		{"a job without a key answers nothing", wire.Event{Job: &job.Job{ID: "J", State: job.Queued}}, []string{"s1", "s2", "c1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			store := &memory{}
			o := OpenOutbox(store)
			for _, c := range []wire.Command{submit("s1"), submit("s2"), cancel("c1", "J9")} {
				if err := o.Add(c); err != nil {
					t.Fatal(err)
				}
			}
			o.Settle(test.event)
			if diff := cmp.Diff(test.want, pendingIDs(o)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.want, pendingIDs(OpenOutbox(store))); diff != "" {
				t.Errorf("after a restart: %s", diff)
			}
		})
	}
}

func TestOutboxSurvivesRestartInOrder(t *testing.T) {
	t.Parallel()
	store := &memory{}
	want := []string{}
	o := OpenOutbox(store)
	for i := range 12 {
		id := fmt.Sprintf("id-%d", (i*7)%12)
		want = append(want, id)
		if err := o.Add(submit(id)); err != nil {
			t.Fatal(err)
		}
	}
	again := OpenOutbox(store)
	if diff := cmp.Diff(want, pendingIDs(again)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(submit("id-0"), again.Pending()[0]); diff != "" {
		t.Errorf("the command changed: %s", diff)
	}
}

func TestOutboxBounds(t *testing.T) {
	t.Parallel()
	o := OpenOutbox(&memory{full: true})
	for i := range MaxOutbox {
		if err := o.Add(submit(fmt.Sprint(i))); err != nil {
			t.Fatalf("command %d with a full store: %v", i, err)
		}
	}
	if err := o.Add(submit("one more")); !errors.Is(err, ErrOutboxFull) {
		t.Errorf("one more: %v, want ErrOutboxFull", err)
	}
	if err := o.Add(submit("0")); err != nil {
		t.Errorf("the same id again: %v, want nil", err)
	}
	if n := len(o.Pending()); n != MaxOutbox {
		t.Errorf("%d pending, want %d", n, MaxOutbox)
	}
	if err := o.Add(wire.Command{}); err == nil {
		t.Error("a command without an id was taken")
	}
}

func TestOutboxDropsWhatItCannotRead(t *testing.T) {
	t.Parallel()
	store := &memory{entries: map[string]string{
		outboxPrefix + "a": "{", outboxPrefix + "b": `{"command":{"submit":{"id":"another"}}}`, "other": "{",
	}}
	if o := OpenOutbox(store); len(o.Pending()) != 0 {
		t.Errorf("pending %v", pendingIDs(o))
	}
	if diff := cmp.Diff(map[string]string{"other": "{"}, store.entries); diff != "" {
		t.Error(diff)
	}
}
