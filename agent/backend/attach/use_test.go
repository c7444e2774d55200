package attach

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/backend"
	"muster/shared/gpu"
)

// inUse gives a server that answers, and the end of its Run.
func inUse(t *testing.T, f *fake) (s *Server, end context.CancelFunc) {
	t.Helper()
	s = New(comfy("0"), seeing(mixed()), f.probe, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return s, cancel
}

func sdxl() *fake {
	return &fake{facts: Facts{Title: "ComfyUI 1.2", Models: []backend.Model{{Name: "sdxl", Path: "sdxl.safetensors"}}}}
}

func (s *Server) free() bool {
	synctest.Wait()
	return len(s.Turn) == 0
}

func TestUsable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := sdxl()
		s, _ := inUse(t, f)
		if err := s.Usable(mixed().Devices[0]); err != nil {
			t.Error(err)
		}
		err := s.Usable(mixed().Devices[1])
		if !errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), "ComfyUI 1.2 at 127.0.0.1:1 does not work on Device 1") {
			t.Errorf("another device: %v", err)
		}
		f.says(Facts{}, errors.New("connection refused"))
		after(probeEvery)
		err = s.Usable(mixed().Devices[0])
		if !errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("while it is away: %v", err)
		}
		if m, err := s.Model("sdxl"); err != nil || m.Path != "sdxl.safetensors" {
			t.Errorf("got %+v, %v", m, err)
		}
		if _, err := s.Model("flux"); err == nil || errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), `has no model "flux"`) {
			t.Errorf("a model that it does not have: %v", err)
		}
	})
}

// Whatever becomes of a call, the turn is given back once, and the books are closed.
func TestUseGivesTheTurnBack(t *testing.T) {
	t.Parallel()
	errCall := errors.New("it could not make the image")
	for name, tt := range map[string]struct {
		work  func() (func(), error)
		want  error
		panic bool
	}{
		"an image": {work: func() (func(), error) { return nil, nil }},
		"an error": {work: func() (func(), error) { return nil, errCall }, want: errCall},
		"a panic":  {work: func() (func(), error) { panic("the caller") }, panic: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := sdxl()
				s, _ := inUse(t, f)
				_ = s.Turn.Take(t.Context())
				func() {
					defer func() {
						if (recover() != nil) != tt.panic {
							t.Error("the panic did not come through, or there was none")
						}
					}()
					if err := s.Use(tt.work); !errors.Is(err, tt.want) {
						t.Errorf("got %v; want %v", err, tt.want)
					}
				}()
				if !s.free() || s.working != 0 || s.rising != 0 {
					t.Errorf("the turn is free: %v; %d calls under way, %d failures", s.free(), s.working, s.rising)
				}
			})
		})
	}
}

// What is left of a call keeps the turn and the probes away, and counts for nothing.
func TestUseHandsTheTurnOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := sdxl()
		s, end := inUse(t, f)
		_ = s.Turn.Take(t.Context())
		done := make(chan struct{})
		err := s.Use(func() (func(), error) { return func() { <-done }, context.Canceled })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		asked := f.count()
		after(10 * time.Minute)
		if s.free() || f.count() != asked {
			t.Errorf("the turn is free: %v; asked %d times meanwhile", s.free(), f.count()-asked)
		}
		end()
		if synctest.Wait(); !s.Life.Over() {
			t.Error("its life goes on after Run")
		}
		select {
		case <-s.Life.Idle():
			t.Error("what is left is not waited for")
		default:
		}
		close(done)
		<-s.Life.Idle()
		if !s.free() || s.working != 0 || s.rising != 0 {
			t.Errorf("the turn is free: %v; %d calls under way, %d failures", s.free(), s.working, s.rising)
		}
	})
}

// The life ends with Run's context, also while the server does not answer a probe.
func TestLifeEndsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		s := New(comfy("0"), seeing(gpu.Inventory{}), func(context.Context) (Facts, error) { <-hold; return Facts{}, nil }, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		cancel()
		if synctest.Wait(); !s.Life.Over() {
			t.Error("it waits for the probe")
		}
		close(hold)
		<-done
	})
}
