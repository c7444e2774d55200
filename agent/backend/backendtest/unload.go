package backendtest

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"muster/agent/backend"
)

// unloader gives the backend's second half; nil for one that has none, which holds nothing then.
func unloader(t *testing.T, b backend.Backend, s Subject) backend.Unloader {
	t.Helper()
	u, ok := b.(backend.Unloader)
	if !ok && s.Resident != nil {
		t.Fatal("it holds something between images and is no backend.Unloader")
	}
	return u
}

// unload must succeed, and leave nothing on the first device.
func unload(t *testing.T, u backend.Unloader, b backend.Backend, s Subject) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := u.Unload(ctx, s.Devices[0])
	if s.Keeps {
		if err == nil {
			t.Fatal("unloading is no error, though the model stays")
		}
		return
	}
	if err != nil {
		t.Fatalf("unload: %v", err)
	}
	if s.Resident != nil && s.Resident(b, s.Devices[0]) {
		t.Error("something is held after unloading")
	}
}

func testUnload(t *testing.T, b backend.Backend, s Subject) {
	u := unloader(t, b, s)
	if u == nil {
		return
	}
	unload(t, u, b, s) // nothing was loaded yet
	first := generate(t, b, s.Devices[0], s.request(9), nil)
	for _, dev := range s.Devices[1:] {
		generate(t, b, dev, s.request(9), nil)
	}
	if s.Resident != nil && !s.Resident(b, s.Devices[0]) {
		t.Error("nothing is held after an image")
	}
	unload(t, u, b, s)
	unload(t, u, b, s)
	for _, dev := range s.Devices[1:] {
		if s.Resident != nil && !s.Resident(b, dev) {
			t.Errorf("%s was unloaded too", dev.ID)
		}
	}
	if again := generate(t, b, s.Devices[0], s.request(9), nil); !bytes.Equal(first, again) {
		t.Error("after unloading the same request gives another image")
	}
}

func testUnloadGivenUp(t *testing.T, b backend.Backend, s Subject) {
	u := unloader(t, b, s)
	if u == nil {
		return
	}
	giveUp(t, b, s)
	unload(t, u, b, s)
	generate(t, b, s.Devices[0], s.request(4), nil)
}

func testUnloadEnded(t *testing.T, b backend.Backend, s Subject) {
	u := unloader(t, b, s)
	if u == nil {
		return
	}
	generate(t, b, s.Devices[0], s.request(4), nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errGivenUp)
	if err := u.Unload(ctx, s.Devices[0]); err != nil && !errors.Is(err, errGivenUp) && !s.Keeps {
		t.Errorf("with an ended context it returned %v; want nil or the cause", err)
	}
	generate(t, b, s.Devices[0], s.request(5), nil)
}
