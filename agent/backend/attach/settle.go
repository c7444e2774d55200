package attach

import (
	"errors"
	"slices"

	"muster/shared/gpu"
)

// renew finds the device again when something else is known of the machine since. It needs mu.
func (s *Server) renew() {
	now := s.machine.latest()
	switch {
	case now == s.judged:
	case s.reached:
		s.settle()
	case now.inventory != nil:
		// Nobody else may have the device that a person gave it, whenever it comes.
		s.judged = now
		if wanted, err := s.config.wants(); err == nil && wanted != nil {
			if dev, err := said(*now.inventory, *wanted); err == nil {
				s.device, s.placed = dev, true
			}
		}
	}
}

var errDevicesUnknown = errors.New("the devices of this machine are not known yet")

// settle finds the device again. It needs mu.
func (s *Server) settle() {
	s.judged = s.machine.latest()
	inventory := s.judged.inventory
	if inventory == nil {
		s.unsure = errDevicesUnknown
		return
	}
	wanted, err := s.config.wants()
	if err != nil {
		s.unsure = err
		return
	}
	holders, _ := s.machine.holders(s.pid)
	dev, err := place(*inventory, evidence{wanted: wanted, holders: holders, facts: s.facts})
	if err != nil && s.placed && wanted == nil && len(holders) == 0 && !s.facts.CPU {
		// The same process was seen on its device before, and nothing says otherwise: an idle server may hold no memory.
		at := slices.IndexFunc(candidates(*inventory, s.facts), func(d gpu.Device) bool { return d.ID == s.device.ID })
		if at >= 0 {
			dev, err = candidates(*inventory, s.facts)[at], nil
		}
	}
	s.unsure = err
	if err == nil {
		s.device, s.placed = dev, true
	}
}

// label is its device, for the log.
func (s *Server) label() string {
	if !s.placed {
		return "not known"
	}
	return s.device.Index.Label()
}

// Device is the device that it works on; false while that was never known.
func (s *Server) Device() (gpu.Device, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renew()
	return s.device, s.placed
}
