package comfyui

import (
	"testing"
	"time"

	"muster/agent/backend/backendtest"
	"muster/shared/job"
)

// Whoever waits behind somebody else's prompt says so again and again, not more often than it may, and so does what runs without steps
// as long as its server answers.
func TestSignsOfLifeWithoutProgress(t *testing.T) {
	t.Parallel()
	l := impatient()
	l.repeat = 200 * time.Millisecond
	for name, waits := range map[string]bool{"waiting": true, "running without steps": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := attachedSetup{limits: l, models: faulty(backendtest.Fault{Do: backendtest.Hang, Step: 1})}
			if waits {
				s.models = slow(100)
			}
			b := newAttached(t, s)
			if waits {
				b.somebodySubmits(t, 20)
			}
			told, begun := 0, time.Now()
			_, err := b.make(t, request("model"), func(p job.Progress) {
				if p.Step == 0 {
					told++
				}
			})
			if waits == (err != nil) {
				t.Errorf("got %v", err)
			}
			if most := int(time.Since(begun)/l.repeat) + 1; told < 4 || told > most {
				t.Errorf("told %d times of no step; want 4 to %d", told, most)
			}
		})
	}
}
