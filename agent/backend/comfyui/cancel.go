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
				cancelled, p.told = time.Now(), true
			}
		}
		if err == nil {
			var where whereabouts
			if where, _, err = s.api.queue(ctx, p.id); err == nil && where == absent {
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

// leave settles a prompt that was given up. When the server's life ends before it has left, it is cancelled, unless it was already, and
// that is all.
func (s *server) leave(p *queued) error {
	ctx, end := s.life.Context()
	defer end()
	err := s.settle(ctx, p)
	if err == nil || !s.life.Over() {
		return err
	}
	ctx, cancel := s.life.Linger(stopCancel)
	defer cancel()
	select {
	case <-p.sent:
	case <-ctx.Done():
		return fmt.Errorf("a prompt that was being sent may stay there: %w", context.Cause(ctx))
	}
	var refused *exchange.StatusError
	if p.told || errors.As(p.err, &refused) {
		return nil
	}
	if err := s.api.cancel(ctx, p.id); err != nil {
		return fmt.Errorf("a prompt may stay there: %w", err)
	}
	return nil
}

// begun says whether a prompt that was given up got its turn on the server; false when that can't be told.
func (s *server) begun(ctx context.Context, p *queued) bool {
	select {
	case <-p.sent:
	case <-ctx.Done():
		return false
	}
	var refused *exchange.StatusError
	if errors.As(p.err, &refused) {
		return false
	}
	where, _, err := s.api.queue(ctx, p.id)
	return err == nil && where != waiting
}

// spare says that nobody but us has a prompt on the server; false when that can't be told. p is what is left of ours, nil for nothing.
func (s *server) spare(ctx context.Context, p *queued) bool {
	id := ""
	if p != nil {
		id = p.id
	}
	_, others, err := s.api.queue(ctx, id)
	return err == nil && !others
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
