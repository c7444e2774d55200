package queue

import (
	"testing"
	"time"
)

func TestSessions(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	q, _ := running(t, t.TempDir(), Options{Now: func() time.Time { return now }})
	hash, other := [32]byte{1}, [32]byte{2}
	check(t, q.PutSession(t.Context(), hash, "phone", now.Add(time.Hour)))
	check(t, q.PutSession(t.Context(), hash, "phone", now.Add(2*time.Hour)))
	for name, want := range map[[32]byte]bool{hash: true, other: false} {
		if ok, err := q.Session(t.Context(), name); err != nil || ok != want {
			t.Errorf("session %x: %v, %v", name[0], ok, err)
		}
	}
	check(t, q.PutSession(t.Context(), other, "", now.Add(time.Hour)))
	check(t, q.DeleteSession(t.Context(), other))
	check(t, q.DeleteSession(t.Context(), other))
	if ok, _ := q.Session(t.Context(), other); ok {
		t.Error("a deleted session is still good")
	}
	now = now.Add(2 * time.Hour)
	if ok, _ := q.Session(t.Context(), hash); ok {
		t.Error("an expired session is still good")
	}
}
