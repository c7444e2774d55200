package server

import (
	"context"
	"net/http"
	"time"
)

// What the bodies of submissions may hold together, from their first byte until their jobs are durable. A body counts as what it
// says it is long, as leastHeldBytes when it is shorter, and as maxBodyBytes when it does not say.
const (
	maxHeldBytes   = 8 << 20
	leastHeldBytes = 4 << 10
)

var errBusy = &refusal{status: http.StatusServiceUnavailable, code: "busy", message: "too many submissions arrive at once: send it again", retry: 2 * time.Second}

// hold waits until a body may be read. However many come at once, only so many are in memory; who waits too long gets errBusy.
func (s *Server) hold(w http.ResponseWriter, r *http.Request) (release func(), err error) {
	bytes := int64(maxBodyBytes)
	if r.ContentLength >= 0 {
		bytes = min(max(r.ContentLength, leastHeldBytes), maxBodyBytes)
	}
	ctx, cancel := context.WithTimeout(r.Context(), commandTimeout)
	defer cancel()
	if s.bodies.Acquire(ctx, bytes) != nil {
		return nil, errBusy
	}
	limitBody(w, r) // the time until here was ours
	return func() { s.bodies.Release(bytes) }, nil
}

// readHeld reads a whole body as one of a submission whose jobs are waited for: what it holds while they are made is not counted.
func (s *Server) readHeld(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	release, err := s.hold(w, r)
	if err != nil {
		return nil, err
	}
	defer release()
	return readBody(w, r)
}
