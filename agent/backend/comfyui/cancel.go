package comfyui

import (
	"context"
	"errors"
	"fmt"
	"time"

	"muster/agent/backend/exchange"
)

// settle takes a prompt that was given up off the server, and waits until it has left: what runs stops at its next step.
func (s *server) settle(ctx context.Context, p *queued) error {
	select {
	case <-p.sent:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.gone:
		return nil
	}
	var refused *exchange.StatusError
	if errors.As(p.err, &refused) {
		return nil // it was never there
	}
	ctx, cancel := context.WithTimeout(ctx, s.limits.settle)
	defer cancel()
	begun := time.Now()
	var cancelled time.Time // when the server was told last; zero before
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := error(nil)
		if time.Since(cancelled) > tellAgain {
			if err = s.api.cancel(ctx, p.id); err == nil {
				cancelled = time.Now()
			}
		}
		if err == nil {
			var where whereabouts
			if where, err = s.api.queue(ctx, p.id); err == nil && where == absent {
				return nil
			}
		}
		if unreachable(err) && time.Since(begun) > s.limits.gone {
			return nil // with it went its queue
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("a prompt that was given up is still there: %w", context.Cause(ctx))
		case <-s.gone:
			return nil
		case <-time.After(pause):
		}
	}
}

// tellAgain is how long a prompt that was cancelled may stay until the server is told again. Not at once: an old server's interrupt could
// hit what runs next.
const tellAgain = 5 * time.Second

// unload has everything unloaded and waits until the memory is free, for a while: another's prompt that runs delays it.
func (s *server) unload(ctx context.Context) error {
	if err := s.api.free(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.limits.unload)
	defer cancel()
	for {
		if now, err := s.api.stats(ctx); err != nil || now.onCPU() || now.held() < leftOver {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.gone:
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// leftOver is what PyTorch may hold when nothing is loaded, in bytes.
const leftOver = 64 << 20
