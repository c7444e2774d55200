package comfyui

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/fleet"
	"muster/shared/gpu"
	"muster/shared/wire"
)

// slot is one device and its child, if there is one.
type slot struct {
	*fleet.Slot[*child]
	fleet *Fleet
}

func (f *Fleet) newSlot(dev gpu.Device) *slot {
	return &slot{fleet.NewSlot[*child](f.children, dev), f}
}

// ensure gives a child that answers, starting or replacing it as needed. Its error is what Generate returns.
func (s *slot) ensure(ctx context.Context, masks []string) (*child, error) {
	if err := s.retire(); err != nil {
		return nil, err
	}
	for range fleet.PortTries {
		if s.Child == nil {
			if err := s.Launch(ctx, "", func() (*child, error) { return s.fleet.launch(s.Device, masks) }); err != nil {
				return nil, err
			}
		}
		before := s.Child.Ready
		err := s.Child.await(ctx, s.Device.Index == gpu.CPU)
		switch {
		case err == nil:
			if before && time.Since(s.Child.asked) > askEvery {
				s.Child.refresh(ctx)
			}
			s.Tell(wire.GeneratorReady, s.Child.loaded)
			return s.Child, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, fleet.ErrSlow):
			return nil, s.Failed(s.Stop("ComfyUI did not answer in time: its disk or driver may hang"))
		case errors.Is(err, errWrong):
			return nil, s.Broken(s.Stop(fmt.Sprintf("%s: %v", s.Device.Index.Label(), err)))
		case errors.Is(err, fleet.ErrPort), s.Child.out.portTaken():
			if err := s.Drop("the port was taken"); err != nil {
				return nil, err
			}
		default:
			return nil, s.startFault(masks)
		}
	}
	return nil, s.Failed(fmt.Errorf("ComfyUI found its port taken %d times: %w", fleet.PortTries, backend.ErrUnavailable))
}

// retire ends a child that can't be used: dead, or no longer alone on its port.
func (s *slot) retire() error {
	if s.Child == nil {
		return nil
	}
	switch alive := s.Child.Alive(); {
	case errors.Is(alive, fleet.ErrEnded) && s.Child.Ready:
		s.fleet.cfg.Log.Warn("ComfyUI ended", "device", s.Device.Index.Label(), "error", s.died())
	case s.Child.Ready && alive != nil:
		return s.Drop(alive.Error())
	}
	return nil
}

// startFault explains a child that ended before it answered.
func (s *slot) startFault(masks []string) error {
	exit, said := s.Child.Process.Exit(), s.Child.out.complaint()
	if exit.Signal != 0 || exit.Asked || s.Child.out.outOfMemory() != "" {
		return s.died()
	}
	_ = s.Stop("ended")
	label := s.Device.Index.Label()
	switch {
	case strings.Contains(said, "ModuleNotFoundError"), strings.Contains(said, "ImportError"):
		return s.Broken(fmt.Errorf("ComfyUI can't be run with %s: %s: name the interpreter of ComfyUI's own environment, or install its requirements there: %w",
			s.fleet.install.Load().python, said, backend.ErrUnavailable))
	case strings.Contains(said, "unrecognized arguments"), strings.Contains(said, ": error: argument"):
		return s.Broken(fmt.Errorf("this ComfyUI does not know what muster asks of it (%s): update it: %w", said, backend.ErrUnavailable))
	case tells(said, []string{"no cuda gpus", "no hip gpus", "not compiled with cuda", "found no nvidia driver", "torch not compiled"}):
		return s.Broken(fmt.Errorf("ComfyUI does not see %s behind %s: %s: check the driver, and that its PyTorch is the one for this device: %w",
			label, strings.Join(masks, " "), said, backend.ErrUnavailable))
	}
	return s.Failed(fmt.Errorf("ComfyUI on %s ended before it answered: %s (%s): %w", label, orNothing(said), exit, backend.ErrUnavailable))
}

// died explains a child that ended by itself, counts it and forgets it.
func (s *slot) died() error {
	child := s.Child
	exit, memory, said := child.Process.Exit(), child.out.outOfMemory(), child.out.complaint()
	err := s.Stop("ended")
	label := s.Device.Index.Label()
	switch {
	case exit.Asked:
		return err
	case memory != "":
		return s.Failed(fmt.Errorf("ComfyUI on %s: %s (%s): %w", label, memory, exit, backend.ErrOutOfMemory))
	}
	return s.Failed(fmt.Errorf("ComfyUI on %s ended: %s (%s): %w", label, orNothing(said), exit, backend.ErrUnavailable))
}

// succeeded forgets the failures before.
func (s *slot) succeeded(model string) {
	s.Child.loaded = model
	s.Tell(wire.GeneratorReady, model)
	s.Succeeded()
}
