package telemetry

import (
	"context"
	"time"

	"muster/shared/gpu"
)

// hostWorker reads the machine itself. All fields belong to the sampler's loop.
type hostWorker struct {
	static, read     *call
	describe, sample errand
	facts            gpu.Host
	due              time.Time // of the next static call
	reading          gpu.HostReading
}

func (s *Sampler) newHostWorker(ctx context.Context, reader HostReader) *hostWorker {
	h := &hostWorker{static: s.newCall(ctx), read: s.newCall(ctx)}
	h.describe = errand{inventoryDeadline, func(ctx context.Context) func() {
		facts, err := guard(func() (gpu.Host, error) { return reader.Static(ctx) })
		return func() {
			h.due = time.Now().Add(inventoryPeriod)
			if err != nil {
				s.logFailure("machine", "host", "", err)
				return
			}
			h.facts, s.relist = facts, true
		}
	}}
	h.sample = errand{s.deadline, func(ctx context.Context) func() {
		reading, err := guard(func() (gpu.HostReading, error) { return reader.Read(ctx) })
		return func() {
			h.reading = reading
			if err != nil {
				h.reading = gpu.HostReading{}
				s.logFailure("load of the machine", "host", "", err)
			}
		}
	}}
	return h
}

// view is the last reading; nothing while a call hangs, because a HostReading has no age that could say so.
func (h *hostWorker) view(now time.Time) gpu.HostReading {
	if h.read.late(now) {
		return gpu.HostReading{}
	}
	return h.reading
}
