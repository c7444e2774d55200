package server

import (
	"context"
	"time"

	"muster/shared/gpu"
	"muster/shared/wire"
)

// For the instant after the agent's start, questions wait until the devices were looked at, rather than be told that there are
// none.
const (
	firstMoments  = 10 * time.Second // of the server; later nothing is waited for
	firstLook     = 3 * time.Second
	firstLookPoll = 20 * time.Millisecond
)

// awaitInventory gives the inventory; nil when there is still none after firstLook.
func (s *Server) awaitInventory(ctx context.Context) *gpu.Inventory {
	s.await(ctx, func() bool { return s.config.Inventory() != nil && s.config.Snapshot() != nil })
	return s.config.Inventory()
}

// capacity gives what can generate, which the scheduler knows a moment after the first inventory.
func (s *Server) capacity(ctx context.Context) wire.Capacity {
	s.await(ctx, func() bool { return len(s.config.Capacity().Slots) > 0 })
	return s.config.Capacity()
}

func (s *Server) await(ctx context.Context, ready func() bool) {
	if ready() || time.Since(s.began) > firstMoments {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, firstLook)
	defer cancel()
	poll := time.NewTicker(firstLookPoll)
	defer poll.Stop()
	for !ready() {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return
		}
	}
}
