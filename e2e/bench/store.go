package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"muster/agent/queue"
	"muster/shared/job"
)

// storeFigures times durable submissions beside the same disk's own fdatasync.
func storeFigures(ctx context.Context) ([]figure, error) {
	dir, err := os.MkdirTemp("", "muster-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	const alone, each, clients = 1000, 300, 32
	raw, err := fdatasyncs(filepath.Join(dir, "raw"), alone)
	if err != nil {
		return nil, err
	}
	q, err := queue.Open(ctx, dir, queue.Options{MaxQueued: alone + each*clients})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	single, err := submissions(ctx, q, 1, alone)
	began := time.Now()
	_, err2 := submissions(ctx, q, clients, each)
	rate := float64(each*clients) / time.Since(began).Seconds()
	stop()
	if err := errors.Join(err, err2, <-done); err != nil {
		return nil, err
	}
	slices.Sort(raw)
	slices.Sort(single)
	return []figure{
		{"durable submission, 1 client, p50 / p99", quantiles(single), "≤ fdatasync + 1 ms / 20 ms", "fdatasync " + quantiles(raw)},
		{"durable submissions a second, 32 clients", fmt.Sprintf("%.0f", rate), "≥ 3000", fmt.Sprintf("fdatasyncs a second %.0f", float64(len(raw))/sum(raw).Seconds())},
	}, nil
}

func quantiles(sorted []time.Duration) string {
	at := func(q float64) float64 { return sorted[int(q*float64(len(sorted)-1))].Seconds() * 1000 }
	return fmt.Sprintf("%.2f / %.2f ms", at(0.5), at(0.99))
}

func sum(times []time.Duration) (total time.Duration) {
	for _, t := range times {
		total += t
	}
	return total
}

func fdatasyncs(path string, count int) ([]time.Duration, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	times := make([]time.Duration, count)
	row := make([]byte, 4096) // SQLite's log writes whole pages
	for i := range times {
		began := time.Now()
		if _, err := file.Write(row); err != nil {
			return nil, err
		}
		if err := syscall.Fdatasync(int(file.Fd())); err != nil {
			return nil, err
		}
		times[i] = time.Since(began)
	}
	return times, nil
}

func submissions(ctx context.Context, q *queue.Queue, clients, each int) ([]time.Duration, error) {
	times := make([]time.Duration, clients*each)
	failures := make([]error, clients)
	spec := job.Spec{Prompt: fmt.Sprintf("%1000s", "a fox"), Model: "m"}.WithDefaults()
	var group sync.WaitGroup
	for client := range clients {
		group.Go(func() {
			for i := range each {
				began := time.Now()
				if _, _, err := q.Submit(ctx, "", spec, spec); err != nil {
					failures[client] = err
					return
				}
				times[client*each+i] = time.Since(began)
			}
		})
	}
	group.Wait()
	return times, errors.Join(failures...)
}
