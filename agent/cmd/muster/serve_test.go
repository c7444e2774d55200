package main

import (
	"context"
	"io"
	"testing"
	"time"
)

// Who stops the agent while it starts is told nothing of cancelled contexts.
func TestStoppedWhileStarting(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		serve := command()
		serve.SetArgs([]string{"serve", "--listen", "127.0.0.1:0", "--data", t.TempDir(), "--simulate", "1x V620"})
		serve.SetOut(io.Discard)
		if err := serve.ExecuteContext(ctx); err != nil {
			t.Errorf("stopped after %s: %v", after, err)
		}
		cancel()
	}
}
