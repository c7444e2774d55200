package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"muster/shared/pool"
	"muster/shared/wire"
)

// awaitDrained waits until nothing runs on the devices and no model is loaded. While the agent is away it is waited for, for what was
// decided outlives it; tell is where a person is told that.
func awaitDrained(ctx context.Context, client *client, keys []string, tell io.Writer) error {
	agent := patience{client: client, tell: tell, above: func(write func()) { write() }, sent: true, kept: func() string { return "the devices go on being drained when it is back" }}
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		var now wire.Pool
		if err := agent.patiently(ctx, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, lookTimeout)
			defer cancel()
			return client.do(ctx, "GET", "/api/v1/pool", nil, &now)
		}); err != nil {
			return cmp.Or(errStillDraining(ctx), err)
		}
		left := slices.Clone(keys)
		for _, d := range now.Devices {
			if !slices.Contains(keys, d.Key) {
				continue
			}
			if d.Control.Mode != pool.Draining {
				return fmt.Errorf("device %s is not being drained any more: it is %s", d.Device, d.Phase)
			}
			if d.Phase == wire.PhaseDrained {
				left = slices.DeleteFunc(left, func(key string) bool { return key == d.Key })
			}
		}
		if len(left) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errStillDraining(ctx)
		case <-ticker.C:
		}
	}
}

// errStillDraining is what an interrupted wait leaves; nil when it was not interrupted.
func errStillDraining(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return interrupted(ctx, "the devices go on being drained: take them back with muster devices resume")
}
