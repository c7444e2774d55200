package telemetry

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// call is a place for calls into a driver or kernel file, made again and again by a goroutine of its own, never two at once. A
// call that does not return keeps that one goroutine, and the thread it holds, and nothing else.
//
// All fields belong to the sampler's loop.
type call struct {
	start    chan errand // capacity 1; closing it ends the goroutine once it is idle
	busy     bool
	since    time.Time     // when the call in flight was made
	deadline time.Duration // of the call in flight
}

// errand is one kind of call. do makes it, bounded by a context with the deadline where it obeys one, and gives a function that
// the loop runs to take the result.
type errand struct {
	deadline time.Duration
	do       func(context.Context) (take func())
}

// newCall starts the goroutine.
func (s *Sampler) newCall(ctx context.Context) *call {
	c := &call{start: make(chan errand, 1)}
	s.goroutines++
	go func() {
		defer func() {
			select {
			case s.exited <- struct{}{}:
			case <-s.abandoned:
			}
		}()
		for {
			var e errand
			var more bool
			select {
			case <-ctx.Done():
				return
			case e, more = <-c.start:
				if !more {
					return
				}
			}
			bounded, cancel := context.WithTimeout(ctx, e.deadline)
			take := e.do(bounded)
			cancel()
			select {
			case s.arrived <- func() { c.busy = false; take() }:
			case <-ctx.Done():
				return
			}
		}
	}()
	return c
}

// begin makes the call unless the last one has not returned; it says whether it did.
func (c *call) begin(now time.Time, e errand) bool {
	if c.busy {
		return false
	}
	c.busy, c.since, c.deadline = true, now, e.deadline
	c.start <- e
	return true
}

// late says whether the call in flight has passed its deadline.
func (c *call) late(now time.Time) bool {
	return c.busy && now.Sub(c.since) >= c.deadline
}

// panicError is a panic inside a reader.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string {
	return fmt.Sprintf("the reader panicked: %v; please report this", e.value)
}

// guard turns a panic of f into an error.
func guard[T any](f func() (T, error)) (value T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{p, debug.Stack()}
		}
	}()
	return f()
}
