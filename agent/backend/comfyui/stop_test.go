package comfyui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/agent/backend/calls"
	"muster/shared/job"
)

// panics makes an image whose caller panics at a step.
func panics(t *testing.T, b backend.Backend, make func(report func(job.Progress))) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Error("the panic did not come through")
		}
	}()
	make(func(p job.Progress) {
		if p.Step >= 1 {
			panic("the caller of " + b.Name())
		}
	})
}

// A call that panics loses neither the device nor the server's probes, and leaves no prompt behind.
func TestPanicInACallOfAnAttachedServer(t *testing.T) {
	t.Parallel()
	b := newAttached(t, attachedSetup{models: slow(200)})
	req := request("model")
	req.Steps = 200
	panics(t, b.Generator, func(report func(job.Progress)) { _, _ = b.Generate(t.Context(), card(), req, report) })
	await(t, "the prompt to leave", func() bool { return b.queued(t) == 0 })
	b.steps(t, request("model"))
	b.fake.Stop()
	b.Server().Look()
	await(t, "its absence to be noticed", func() bool { return b.Problem() != nil })
}

func TestPanicInACallOfTheFleet(t *testing.T) {
	t.Parallel()
	b := newFleetBench(t, fleetSetup{models: slow(200)})
	req := request("model")
	req.Steps = 200
	panics(t, b.Backend(), func(report func(job.Progress)) { _, _ = b.Backend().Generate(t.Context(), b.devices[0], req, report) })
	begun := time.Now()
	if err := b.make(t, request("model"), nil); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 20*time.Second || b.starts(t) != 1 {
		t.Errorf("the next image took %v, with %d starts: the first was not cancelled", took, b.starts(t))
	}
}

// The agent's stop takes what is ours off the server, and nothing else.
func TestStopLeavesNothingOnTheServer(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]backendtest.ComfySettings{"2026": {}, "2025": {Older: true}, "early 2025": {Ancient: true}} {
		for _, waits := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, waits %v", name, waits), func(t *testing.T) {
				t.Parallel()
				b := newAttached(t, attachedSetup{settings: settings, models: slow(200)})
				var other somebody
				if waits {
					other = b.somebodySubmits(t, 15)
				}
				req := request("model")
				req.Steps = 200
				working, done := make(chan struct{}), make(chan error, 1)
				go func() {
					var once sync.Once
					_, err := b.Generate(context.Background(), card(), req, func(p job.Progress) {
						if p.Step > 0 {
							once.Do(func() { close(working) })
						}
					})
					done <- err
				}()
				if waits {
					await(t, "two prompts in the queue", func() bool { return b.queued(t) == 2 })
				} else {
					<-working
					other = b.somebodySubmits(t, 5)
				}
				begun := time.Now()
				if err := b.stop(); err != nil {
					t.Error(err)
				}
				if took := time.Since(begun); took > 3*time.Second {
					t.Errorf("Run ended after %v", took)
				}
				if waits && other.status() == "" && b.queued(t) != 1 {
					t.Error("ours is still in the queue")
				}
				if err := <-done; !errors.Is(err, calls.ErrStopping) {
					t.Errorf("the call ended with %v", err)
				}
				await(t, "an empty queue", func() bool { return b.queued(t) == 0 })
				if got := other.status(); got != "success" {
					t.Errorf("somebody's prompt ended with %s", got)
				}
				if _, err := b.make(t, request("model"), nil); !errors.Is(err, backend.ErrUnavailable) {
					t.Errorf("a call after Run gives %v", err)
				}
			})
		}
	}
}

// A server that hangs while a prompt is sent, or altogether, does not keep the agent.
func TestStopIsQuickWhateverHangs(t *testing.T) {
	t.Parallel()
	for name, hangs := range map[string]func(*http.Request) bool{
		"sending": func(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Path == "/prompt" },
		"all of it": func(r *http.Request) bool {
			return r.URL.Path != "/ws" && !strings.HasPrefix(r.URL.Path, "/prompt")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var armed atomic.Bool
			reached, dropped, release := make(chan struct{}, 100), make(chan struct{}, 100), make(chan struct{})
			defer close(release)
			b := newAttached(t, attachedSetup{models: slow(200), front: func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if armed.Load() && hangs(r) {
					select {
					case reached <- struct{}{}:
					default:
					}
					_, _ = io.Copy(io.Discard, r.Body) // or the end of the connection is not noticed
					select {
					case <-release:
					case <-r.Context().Done():
						dropped <- struct{}{}
					}
					return
				}
				next.ServeHTTP(w, r)
			}})
			armed.Store(true)
			req := request("model")
			req.Steps = 200
			done := make(chan error, 1)
			go func() {
				_, err := b.Generate(context.Background(), card(), req, func(job.Progress) {})
				done <- err
			}()
			<-reached
			begun := time.Now()
			if err := b.stop(); err != nil {
				t.Error(err)
			}
			if took := time.Since(begun); took > 3*time.Second {
				t.Errorf("Run ended after %v", took)
			}
			if err := <-done; !errors.Is(err, calls.ErrStopping) {
				t.Errorf("the call ended with %v", err)
			}
			select {
			case <-dropped:
			case <-time.After(5 * time.Second):
				t.Error("the exchange that hangs goes on after Run")
			}
		})
	}
}

// A caller that does not return from what it is told does not keep the agent either.
func TestStopWithACallThatIsStuck(t *testing.T) {
	t.Parallel()
	b := newAttached(t, attachedSetup{models: slow(50)})
	stuck, release, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_, _ = b.Generate(context.Background(), card(), request("model"), func(p job.Progress) {
			if p.Step == 1 {
				close(stuck)
				<-release
			}
		})
	}()
	<-stuck
	begun := time.Now()
	if err := b.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("Run ended after %v", took)
	}
	close(release)
	<-done
}
