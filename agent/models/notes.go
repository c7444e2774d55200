package models

import (
	"muster/shared/model"
)

// enterState is for states that only say what is done; they need not be durable.
func (l *Library) enterState(r *record, state model.InstallState) {
	l.mu.Lock()
	if !r.State.Ended() {
		r.State = state
	}
	r.speed, r.trouble = 0, ""
	l.mu.Unlock()
	l.publish()
}

func (l *Library) trouble(r *record, words string) {
	l.mu.Lock()
	r.trouble, r.speed = words, 0
	l.mu.Unlock()
	l.publish()
}

func (l *Library) progress(r *record, here, speed int64) {
	l.mu.Lock()
	if here > r.here {
		r.trouble = ""
	}
	r.here, r.speed = here, speed
	l.mu.Unlock()
	l.publish()
}

func (l *Library) etag(r *record) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return r.ETag
}

// known records what an answer told of the file.
func (l *Library) known(r *record, total int64, etag string) {
	l.mu.Lock()
	r.Total = total
	r.ETag = etag
	l.mu.Unlock()
}

// kept records how much of a part is on the disk for certain.
func (l *Library) kept(r *record, here int64) error {
	l.mu.Lock()
	r.Kept, r.here = here, here
	l.mu.Unlock()
	return l.save()
}

// keptAtMost lowers what kept recorded, before a part is cut; lower says that it was more.
func (l *Library) keptAtMost(r *record, here int64) (lower bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lower = r.Kept > here
	r.Kept = min(r.Kept, here)
	return lower
}

// remember is save where nobody waits for it.
func (l *Library) remember() {
	if err := l.save(); err != nil {
		l.log.Warn("what is known of models can't be kept", "error", err)
	}
}
