package comfyui

import (
	"errors"
	"testing"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/backendtest"
)

// What somebody did to a prompt of ours is not held against the server; what it did itself is.
func TestWhatIsNotTheServersFault(t *testing.T) {
	t.Parallel()
	for fault, spared := range map[backendtest.Action]bool{
		backendtest.Interrupted: true, backendtest.Forget: true, backendtest.Lost: true, backendtest.ServerError: false, backendtest.Garbage: false,
	} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			b := newAttached(t, attachedSetup{models: faulty(backendtest.Fault{Do: fault, Job: 1, Step: map[bool]int{true: 2}[fault != backendtest.Lost && spared]})})
			_, err := b.make(t, request("model"), nil)
			checkFault(t, err, backend.ErrUnavailable, "")
			if errors.Is(err, attach.ErrNotItsFault) != spared || b.Status().Failures != map[bool]int{false: 1}[spared] {
				t.Errorf("got %v and %d failures; want it to be spared: %v", err, b.Status().Failures, spared)
			}
		})
	}
}
