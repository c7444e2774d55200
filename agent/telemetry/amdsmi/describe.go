package amdsmi

import (
	"context"
	"time"

	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// description is what one processor of the library is.
type description struct {
	session *session
	handle  handle
	status  status // success when it could be described at all
	address kernel.Address
	asic    asic
	device  gpu.Device // without ID, Sources and what follows from the number of its partitions
	uuid    uint64     // the unique id; 0 when there is none
	fanMax  uint64
}

// Types of processors that are GPUs: AMDSMI_PROCESSOR_TYPE_AMD_GPU and …_APU.
const (
	typeGPU = 1
	typeAPU = 6
)

// maxHandles bounds lists of sockets and processors.
const maxHandles = 4096

// handles lists the GPUs in the library's order.
func (s *session) handles() ([]handle, status) {
	sockets, result := list(s.getSockets)
	if result != success {
		return nil, result
	}
	var gpus []handle
	for _, socket := range sockets {
		processors, result := list(func(n *uint32, p *handle) status { return s.getProcessors(socket, n, p) })
		if result.disconnected() {
			return nil, result
		}
		for _, h := range processors {
			var kind uint32
			if s.getType(h, &kind) == success && kind != typeGPU && kind != typeAPU {
				continue
			}
			gpus = append(gpus, h)
		}
	}
	return gpus, success
}

// list asks how many there are and then for all.
func list(call func(n *uint32, p *handle) status) ([]handle, status) {
	var n uint32
	if result := call(&n, nil); result != success || n == 0 {
		return nil, result
	}
	if n > maxHandles {
		return nil, unexpectedData
	}
	handles := make([]handle, n)
	if result := call(&n, &handles[0]); result != success {
		return nil, result
	}
	return handles[:min(int(n), len(handles))], success
}

// describeAll asks every device, each from its own goroutine, and waits for those that answer. One that has not answered the last
// time is not asked again before it has: so a device that hangs for ever costs one thread.
func (r *Reader) describeAll(ctx context.Context, s *session, handles []handle) map[handle]description {
	results := map[handle]description{}
	for _, h := range handles {
		if r.pending[h] {
			continue
		}
		r.pending[h] = true
		go func() { r.late <- r.describe(s, h) }()
	}
	timeout := time.NewTimer(r.describeWait)
	defer timeout.Stop()
	for len(r.pending) > 0 {
		select {
		case got := <-r.late:
			delete(r.pending, got.handle)
			if got.session == s {
				results[got.handle] = got
			}
		case <-timeout.C:
			return results
		case <-ctx.Done():
			return results
		}
	}
	return results
}

// describe asks one device for what doesn't change.
func (r *Reader) describe(s *session, h handle) description {
	got := description{session: s, handle: h, status: busy, device: gpu.Device{Vendor: gpu.AMD}}
	if !r.connection.enter(s) {
		return got
	}
	defer r.connection.leave()
	var bdf uint64
	if got.status = s.getAddress(h, &bdf); got.status != success {
		return got
	}
	if bdf>>48 != 0 {
		got.status = notTrusted
		return got
	}
	got.address = parseBDF(bdf)
	d := &got.device
	if a, result := s.asic(h); result == success {
		got.asic, got.uuid, d.Name = a, a.serial, a.name
		d.Arch, d.ComputeCapability = a.target.arch(), a.target.capability()
	}
	if e, result := s.enumeration(h); result == success {
		d.VendorIndex = e.hip
		if got.uuid == 0 {
			got.uuid = e.uuid
		}
	}
	if text, result := s.driver(h); result == success {
		d.DriverVersion = text
	}
	if m, result := s.memory(h); result == success {
		d.MemoryBytes = m.total
	}
	if s.getFanSpeedMax(h, 0, &got.fanMax) != success || got.fanMax > maxRPM {
		got.fanMax = 0
	}
	d.Limits = s.limits(h)
	return got
}

// parseBDF reads amdsmi_bdf_t, whose domain has at most 32 bits here.
func parseBDF(v uint64) kernel.Address {
	return kernel.Address{Domain: uint32(v >> 16), Bus: uint8(v >> 8), Device: uint8(v >> 3 & 31), Function: uint8(v & 7)}
}

// limits gives the ends of the device's scales; nil when none is told.
func (s *session) limits(h handle) *gpu.Limits {
	var limits gpu.Limits
	if c, result := s.powerCap(h); result == success {
		limits.PowerMinWatts, limits.PowerMaxWatts, limits.PowerDefaultWatts = c.lowest, c.highest, c.standard
	}
	if c, result := s.clock(h, clockGraphics); result == success {
		limits.CoreClockMHz = c.highest
	}
	if c, result := s.clock(h, clockMemory); result == success {
		limits.MemoryClockMHz = c.highest
	}
	for _, sensor := range sensors {
		if celsius, _ := s.celsius(h, sensor.number, temperatureCritical); celsius != nil && *celsius > 0 {
			if sensor.name == gpu.SensorMemory {
				limits.MemoryCelsius = celsius
			} else if limits.SlowdownCelsius == nil {
				limits.SlowdownCelsius = celsius
				limits.ShutdownCelsius, _ = s.celsius(h, sensor.number, temperatureEmergency)
			}
		}
	}
	if limits == (gpu.Limits{}) {
		return nil
	}
	return &limits
}
