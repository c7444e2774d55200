package live

import (
	"testing"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
	"muster/webapp/state"
)

func TestMailboxKeepsOnlyTheNewestSnapshot(t *testing.T) {
	t.Parallel()
	m := mailbox{ready: make(chan struct{}, 1)}
	snapshot := func(seq uint64) wire.Event { return wire.Event{Snapshot: &gpu.Snapshot{Seq: seq}} }
	done := func(id string) wire.Event { return wire.Event{Job: &job.Job{ID: id}} }
	for _, e := range []wire.Event{done("a"), snapshot(1), done("b"), snapshot(2), snapshot(3), done("c")} {
		m.event(e)
	}
	var order string
	for _, e := range m.take().Events {
		if e.Job != nil {
			order += e.Job.ID
		} else {
			order += string(rune('0' + e.Snapshot.Seq))
		}
	}
	if order != "ab3c" {
		t.Errorf("order %q, want ab3c", order)
	}
	m.event(snapshot(4))
	if got := m.take().Events; len(got) != 1 || got[0].Snapshot.Seq != 4 {
		t.Errorf("after a look: %d events", len(got))
	}
}

func TestMailboxKeepsSinceOfTheLastFrame(t *testing.T) {
	t.Parallel()
	m := mailbox{ready: make(chan struct{}, 1)}
	m.link(state.Offline)
	if news := m.take(); news.Link != state.Offline || !news.Since.IsZero() {
		t.Errorf("never connected: %s since %s", news.Link, news.Since)
	}
	m.event(wire.Event{Snapshot: &gpu.Snapshot{}})
	m.event(wire.Event{Snapshot: &gpu.Snapshot{}})
	last := m.lastFrame
	m.link(state.Stale)
	if news := m.take(); news.Link != state.Stale || !news.Since.Equal(last) {
		t.Errorf("stale since %s, want %s", news.Since, last)
	}
	m.link(state.Offline)
	if news := m.take(); !news.Since.Equal(last) {
		t.Errorf("offline since %s, want %s", news.Since, last)
	}
}
