package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"muster/agent"
	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// look is what the readers told at one tick.
type look struct {
	inventory *gpu.Inventory
	snapshot  *gpu.Snapshot
	report    *gpu.Report // nil before the first
}

// details gives those of a device of the inventory; empty while nothing is known.
func (l look) details(device int) gpu.Details {
	if l.report == nil || l.report.Revision != l.inventory.Revision || device >= len(l.report.Devices) {
		return gpu.Details{}
	}
	return l.report.Devices[device]
}

// wholeLook is how long a command that prints once waits for drivers: longer than the sampler gives one inventory.
const wholeLook = 11 * time.Second

// watch runs the readers of this machine alone, without queue and server, and hands every look to show until it says enough or
// ctx ends. No collector is left running.
func watch(ctx context.Context, config *agent.Config, hardware agent.Hardware, log *slog.Logger, show func(look) (enough bool, err error)) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var failed error
	enough := false
	var sampler *telemetry.Sampler
	sampler = telemetry.NewSampler(telemetry.Config{
		Readers: hardware.Readers, Host: hardware.Host, Interval: config.Interval, StartWindow: wholeLook, DescribeProcesses: hardware.DescribeProcesses, Log: log,
		Publish: func(inventory *gpu.Inventory, snapshot *gpu.Snapshot) {
			if enough {
				return
			}
			if enough, failed = show(look{inventory, snapshot, sampler.Report()}); enough || failed != nil {
				enough = true
				stop()
			}
		},
	})
	group, ctx := errgroup.WithContext(ctx)
	if hardware.Collect != nil {
		group.Go(func() error { return hardware.Collect(ctx) })
	}
	group.Go(func() error {
		defer stop()
		return sampler.Run(ctx)
	})
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return errors.Join(failed, err)
	}
	return failed
}
