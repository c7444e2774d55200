package backendtest

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"muster/agent/backend"
)

// testLoad checks what backend.Loader promises, of a backend that is one.
func testLoad(t *testing.T, b backend.Backend, s Subject) {
	l, ok := b.(backend.Loader)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for range 2 { // what is there is not loaded twice
		if err := l.Load(ctx, s.Devices[0], s.Model); err != nil {
			t.Fatalf("load: %v", err)
		}
	}
	if s.Resident != nil && !s.Resident(b, s.Devices[0]) {
		t.Error("nothing is held after loading")
	}
	first := generate(t, b, s.Devices[0], s.request(11), nil)
	if again := generate(t, b, s.Devices[0], s.request(11), nil); !bytes.Equal(first, again) {
		t.Error("the first image after loading differs from the second")
	}
	if err := l.Load(ctx, s.Devices[0], "no such model"); err == nil || errors.Is(err, backend.ErrUnavailable) || errors.Is(err, backend.ErrOutOfMemory) {
		t.Errorf("loading an unknown model gives %v; want an error that is final", err)
	}
	ended, end := context.WithCancelCause(t.Context())
	end(errGivenUp)
	if err := l.Load(ended, s.Devices[0], s.Model); err != nil && !errors.Is(err, errGivenUp) {
		t.Errorf("with an ended context it returned %v; want nil or the cause", err)
	}
	generate(t, b, s.Devices[0], s.request(12), nil)
}
