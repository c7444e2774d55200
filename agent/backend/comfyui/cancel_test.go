package comfyui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/shared/job"
)

// somebody is another client of the same server.
type somebody struct {
	t    *testing.T
	base string
	id   string
}

// submits queues a prompt of many slow steps of somebody else's.
func (b *attachedBench) somebodySubmits(t *testing.T, steps int) somebody {
	t.Helper()
	e, c, err := b.find("model")
	if err != nil {
		t.Fatal(err)
	}
	req := request("model")
	req.Prompt, req.Seed, req.Steps = "somebody's", 99, steps
	o, err := newOrder(e, c, req, 0)
	if err != nil {
		t.Fatal(err)
	}
	id, err := b.server.api.submit(t.Context(), submission{o.graph, "somebody", newUUID()})
	if err != nil {
		t.Fatal(err)
	}
	return somebody{t, b.fake.Base(), id}
}

// status is that of the prompt in history, "" before it has ended.
func (s somebody) status() string {
	s.t.Helper()
	response, err := http.Get(s.base + "/history/" + s.id)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	var all map[string]record
	if err := json.NewDecoder(response.Body).Decode(&all); err != nil {
		s.t.Fatal(err)
	}
	if r, ok := all[s.id]; ok {
		return r.Status.Status
	}
	return ""
}

// A prompt that waits behind somebody else's is no failure, however long that takes.
func TestWaitingBehindSomebody(t *testing.T) {
	t.Parallel()
	l := quick()
	l.stall, l.firstStep = 300*time.Millisecond, 300*time.Millisecond
	b := newAttached(t, attachedSetup{limits: l, models: slow(50)})
	other := b.somebodySubmits(t, 30)
	var first time.Time
	begun := time.Now()
	if _, err := b.make(t, request("model"), func(p job.Progress) {
		if p.Step > 0 && first.IsZero() {
			first = time.Now()
		}
	}); err != nil {
		t.Fatal(err)
	}
	if other.status() != "success" || first.Sub(begun) < time.Second {
		t.Errorf("ours began after %v, somebody's is %q; want it to wait for that", first.Sub(begun), other.status())
	}
}

// Whatever of ours is cancelled, somebody else's prompt is finished.
func TestCancelSparesSomebodyElses(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]backendtest.ComfySettings{"2026": {}, "2025": {Older: true}, "early 2025": {Ancient: true}} {
		t.Run(name+": ours waits", func(t *testing.T) {
			t.Parallel()
			b := newAttached(t, attachedSetup{settings: settings, models: slow(30)})
			other := b.somebodySubmits(t, 30)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := b.Generate(ctx, card(), request("model"), func(job.Progress) {})
				done <- err
			}()
			await(t, "two prompts in the queue", func() bool { return b.queued(t) == 2 })
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			await(t, "ours to leave the queue", func() bool { return b.queued(t) < 2 })
			await(t, "somebody's end", func() bool { return other.status() != "" })
			if got := other.status(); got != "success" {
				t.Errorf("somebody's prompt ended with %s", got)
			}
		})
		t.Run(name+": ours runs", func(t *testing.T) {
			t.Parallel()
			b := newAttached(t, attachedSetup{settings: settings, models: slow(30)})
			ctx, cancel := context.WithCancel(t.Context())
			req := request("model")
			req.Steps = 150
			var other somebody
			if _, err := b.Generate(ctx, card(), req, func(p job.Progress) {
				if p.Step >= 2 && ctx.Err() == nil {
					other = b.somebodySubmits(t, 5)
					cancel()
				}
			}); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			begun := time.Now()
			await(t, "somebody's end", func() bool { return other.status() != "" })
			if got, took := other.status(), time.Since(begun); got != "success" || took > 3*time.Second {
				t.Errorf("somebody's prompt ended with %s after %v: ours was not stopped", got, took)
			}
		})
	}
}

// queued counts the prompts that wait or run.
func (b *attachedBench) queued(t *testing.T) int {
	t.Helper()
	var info struct {
		Exec struct {
			Remaining int `json:"queue_remaining"`
		} `json:"exec_info"`
	}
	if err := b.server.api.get(t.Context(), "/prompt", 1<<20, &info); err != nil {
		t.Fatal(err)
	}
	return info.Exec.Remaining
}

func TestCancelOfAHungServerReturnsAtOnce(t *testing.T) {
	t.Parallel()
	l := quick()
	l.settle = 500 * time.Millisecond
	b := newAttached(t, attachedSetup{limits: l, models: faulty(backendtest.Fault{Do: backendtest.Hang, Step: 3})})
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("given up")
	var at time.Time
	_, err := b.Generate(ctx, card(), request("model"), func(p job.Progress) {
		if p.Step >= 2 && ctx.Err() == nil {
			at = time.Now()
			cancel(cause)
		}
	})
	if took := time.Since(at); !errors.Is(err, cause) || took > 2*time.Second {
		t.Errorf("got %v after %v", err, took)
	}
}

// A server that is started again has lost its queue and history; it is used again as soon as it answers.
func TestRestartOfTheServer(t *testing.T) {
	t.Parallel()
	l := quick()
	l.gone = time.Second
	b := newAttached(t, attachedSetup{limits: l, models: slow(50)})
	req := request("model")
	req.Steps = 200
	working, done := make(chan struct{}), make(chan error, 1)
	go func() {
		var once sync.Once
		_, err := b.make(t, req, func(p job.Progress) {
			if p.Step > 0 {
				once.Do(func() { close(working) })
			}
		})
		done <- err
	}()
	<-working
	b.fake.Stop()
	b.fake.Start(t)
	checkFault(t, <-done, backend.ErrUnavailable, "the prompt is gone")
	await(t, "the server's return", func() bool { return b.Problem() == nil })
	b.steps(t, request("model"))
}

func TestServerThatEndsAndStaysAway(t *testing.T) {
	t.Parallel()
	b := newAttached(t, attachedSetup{limits: impatient(), models: slow(50)})
	var once sync.Once
	req := request("model")
	req.Steps = 200
	_, err := b.make(t, req, func(p job.Progress) {
		if p.Step > 0 {
			once.Do(b.fake.Stop)
		}
	})
	checkFault(t, err, backend.ErrUnavailable, "can't be reached")
	await(t, "its absence to be noticed", func() bool { return b.Problem() != nil })
	if _, err := b.make(t, request("model"), nil); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if err := b.Unload(t.Context(), card()); err != nil {
		t.Errorf("unloading one that is away: %v", err)
	}
}

// Who gives up the device itself wants its memory back; who only cancels an image does not.
func TestGivingUpTheDeviceFreesItsMemory(t *testing.T) {
	t.Parallel()
	for name, cause := range map[string]error{"cancelled": errors.New("cancelled"), "reserved": fmt.Errorf("reserved: %w", backend.ErrUnavailable)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newAttached(t, attachedSetup{models: slow(20)})
			ctx, cancel := context.WithCancelCause(t.Context())
			req := request("model")
			req.Steps = 200
			if _, err := b.Generate(ctx, card(), req, func(p job.Progress) {
				if p.Step >= 2 && ctx.Err() == nil {
					cancel(cause)
				}
			}); !errors.Is(err, cause) {
				t.Fatalf("got %v", err)
			}
			if err := b.attached.Turn.Take(t.Context()); err != nil { // what was left is done
				t.Fatal(err)
			}
			b.attached.Turn.Release()
			if held := holds(b.Generator, card()); held != (name == "cancelled") || b.queued(t) != 0 {
				t.Errorf("memory is held: %v, prompts in the queue: %d", held, b.queued(t))
			}
		})
	}
}
