package sdserver

import (
	"context"
	"errors"
	"fmt"

	"muster/agent/backend"
	"muster/agent/backend/fleet"
	"muster/shared/gpu"
	"muster/shared/wire"
)

// slot is one device and its child, if there is one.
type slot struct {
	*fleet.Slot[*server]
	fleet *Fleet

	// Whoever has the turn.
	least map[string]residence // of models, by name, whose text encoders found no room: no nearer to the device than this
	// Measured on this device.
	stepSeconds   float64 // of the newest step; 0 before the first
	decodeSeconds float64 // between the last step and the finished image, per pixel; 0 before the first
}

func (f *Fleet) newSlot(dev gpu.Device) *slot {
	return &slot{Slot: fleet.NewSlot[*server](f.children, dev), fleet: f, least: map[string]residence{}}
}

// ensure gives a ready child with the model, starting or replacing it as needed. Its error is what Generate returns.
func (s *slot) ensure(ctx context.Context, p pin, model backend.Model) (*server, error) {
	if err := s.fleet.refuses(model); err != nil {
		return nil, err
	}
	if err := s.retire(model); err != nil {
		return nil, err
	}
	for range fleet.PortTries {
		if s.Child == nil {
			if err := s.Launch(ctx, model.Name, func() (*server, error) { return s.fleet.launch(s.Device, p, model, s.least[model.Name]) }); err != nil {
				return nil, err
			}
		}
		err := s.Child.await(ctx, s.fleet.limits)
		switch {
		case err == nil:
			s.Tell(wire.GeneratorReady, model.Name)
			return s.Child, s.warmUp(ctx)
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, fleet.ErrSlow):
			return nil, s.Failed(s.Stop("sd-server did not finish loading in time: its disk or driver may hang"))
		case errors.Is(err, fleet.ErrPort), s.bindFailed():
			if err := s.Drop("the port was taken"); err != nil {
				return nil, err
			}
		default:
			return nil, s.startFault(p, model)
		}
	}
	return nil, s.Failed(fmt.Errorf("sd-server found its port taken %d times: %w", fleet.PortTries, backend.ErrUnavailable))
}

// retire ends a child that can't be used for the model: dead, no longer alone on its port, or with another model.
func (s *slot) retire(model backend.Model) error {
	if s.Child == nil {
		return nil
	}
	switch alive := s.Child.Alive(); {
	case errors.Is(alive, fleet.ErrEnded):
		s.fleet.cfg.Log.Warn("sd-server ended", "device", s.Device.Index.Label(), "error", s.died())
	case !sameFiles(s.Child.model, model) || s.Child.least != s.least[model.Name]:
		return s.Drop("another model is wanted")
	case s.Child.Ready && alive != nil:
		return s.Drop(alive.Error())
	}
	return nil
}

// warmUp makes builds that load with their first job load now, with the smallest job there is.
func (s *slot) warmUp(ctx context.Context) error {
	if !s.Child.lazy || s.Child.stepped {
		return nil
	}
	req := backend.Request{Prompt: "warm-up", Width: 64, Height: 64, Steps: 1, Guidance: 1}
	s.Child.begin(req)
	sent, err := s.send(s.Child, newOrder(s.Child.model, req, "", ""))
	if err == nil {
		_, err = s.follow(ctx, s.Child, sent, req, nil)
	}
	if ctx.Err() != nil && s.Child != nil {
		_ = s.Stop("loading was given up")
	}
	return err
}
