package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"muster/shared/gpu"
	"muster/shared/wire"
)

// soakFor is how long one device hangs; MUSTER_SOAK sets another time.
const soakFor = 30 * time.Second

func hungFigures(ctx context.Context) ([]figure, error) {
	const devices, hung = 8, 3
	soak := soakFor
	if text := os.Getenv("MUSTER_SOAK"); text != "" {
		var err error
		if soak, err = time.ParseDuration(text); err != nil {
			return nil, fmt.Errorf("MUSTER_SOAK: %w", err)
		}
	}
	r, err := newRig()
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.await(ctx, devices, gpu.StateOK); err != nil {
		return nil, err
	}
	<-after(ctx, 20*time.Second) // the runtimes have their threads then
	before, err := footprintOf(r.processes())
	if err != nil {
		return nil, err
	}
	if err := r.Write(fmt.Sprintf("%d.hang=1", hung)); err != nil {
		return nil, err
	}
	seen, err := r.watchHung(ctx, hung, soak)
	if err != nil {
		return nil, err
	}
	late, err := footprintOf(r.processes())
	missed := "every tick"
	if seen.oldest > 0 {
		missed = fmt.Sprintf("values up to %d ms old", seen.oldest)
	}
	flagged := "never"
	if seen.flagged > 0 {
		flagged = fmt.Sprintf("%.1f s", seen.flagged.Seconds())
	}
	return []figure{
		{"one hung GPU of 8: the others", missed, "gap ≤ 1 tick", fmt.Sprintf("%d snapshots in %s", seen.snapshots, soak)},
		{"one hung GPU of 8: flagged after", flagged, "≤ 3 s", ""},
		{"one hung GPU of 8: threads of agent and collector", fmt.Sprint(seen.early.threads), "≤ +1", fmt.Sprintf("before %v", before.threads)},
		{fmt.Sprintf("one hung GPU of 8: after %s", soak), late.String(), "no growth", "after 15 s " + seen.early.String()},
	}, err
}

// hungSeen is what a viewer saw while one device hung.
type hungSeen struct {
	flagged   time.Duration // until it was shown as stuck; 0 for never
	oldest    int64         // milliseconds: the greatest age of a value of the others
	snapshots int
	early     footprint // after the 15th snapshot
}

func (r *rig) watchHung(ctx context.Context, hung int, during time.Duration) (seen hungSeen, err error) {
	began := time.Now()
	watching, cancel := context.WithTimeout(ctx, during)
	defer cancel()
	err = r.View(watching, wire.SubprotocolBinary, func(event wire.Event, _ int) {
		if event.Snapshot == nil {
			return
		}
		seen.snapshots++
		for i, reading := range event.Snapshot.GPUs {
			switch {
			case i == hung && reading.State == gpu.StateStuck && seen.flagged == 0:
				seen.flagged = time.Since(began)
			case i != hung:
				seen.oldest = max(seen.oldest, reading.AgeMilliseconds)
			}
		}
		if seen.snapshots == 15 {
			seen.early, _ = footprintOf(r.processes())
		}
	})
	if watching.Err() != nil {
		err = nil // the time is over, as it should be
	}
	return seen, err
}

func after(ctx context.Context, d time.Duration) <-chan struct{} {
	limited, cancel := context.WithTimeout(ctx, d)
	context.AfterFunc(limited, cancel)
	return limited.Done()
}
