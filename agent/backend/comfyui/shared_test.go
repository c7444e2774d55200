package comfyui

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"muster/agent/backend"
	"muster/shared/job"
)

// Who gives up the device while somebody else uses the server does not unload their models.
func TestGivingUpTheDeviceSparesSomebodyElses(t *testing.T) {
	t.Parallel()
	for name, waits := range map[string]bool{"ours waits": true, "ours runs": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newAttached(t, attachedSetup{models: slow(30)})
			cause := fmt.Errorf("reserved: %w", backend.ErrUnavailable)
			ctx, cancel := context.WithCancelCause(t.Context())
			var other somebody
			if waits {
				other = b.somebodySubmits(t, 40)
			}
			req := request("model")
			req.Steps = 200
			done := make(chan error, 1)
			go func() {
				_, err := b.Generate(ctx, card(), req, func(p job.Progress) {
					if p.Step >= 2 && ctx.Err() == nil {
						other = b.somebodySubmits(t, 40)
						cancel(cause)
					}
				})
				done <- err
			}()
			if waits {
				await(t, "two prompts in the queue", func() bool { return b.queued(t) == 2 })
				cancel(cause)
			}
			if err := <-done; !errors.Is(err, cause) {
				t.Errorf("got %v", err)
			}
			if err := b.attached.Turn.Take(t.Context()); err != nil { // what was left is done
				t.Fatal(err)
			}
			b.attached.Turn.Release()
			await(t, "somebody's end", func() bool { return other.status() != "" })
			if got := other.status(); got != "success" || !holds(b.Generator, card()) {
				t.Errorf("somebody's prompt ended with %s; its model is in memory: %v", got, holds(b.Generator, card()))
			}
		})
	}
}

// Only what the server took from its queue counts as begun: what can't be told does not.
func TestWhatHasBegun(t *testing.T) {
	t.Parallel()
	for queue, want := range map[string]bool{
		`{"queue_running":[[1,"other"]],"queue_pending":[[2,"ours"]]}`: false,
		`{"queue_running":[[2,"ours"]],"queue_pending":[]}`:            true,
		`{"queue_running":[],"queue_pending":[]}`:                      true, // it has ended
		`nonsense`: false,
	} {
		g := serveProbe(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, queue) })
		sent := make(chan struct{})
		close(sent)
		if got := g.server.begun(t.Context(), &queued{id: "ours", sent: sent}); got != want {
			t.Errorf("%s: %v; want %v", queue, got, want)
		}
	}
}
