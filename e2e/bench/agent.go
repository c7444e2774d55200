package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"muster/e2e/harness"
	"muster/shared/wire"
)

// watchFor is how long an agent is watched; CPU time is counted in hundredths of a second, so that 0.1 % can be told.
const watchFor = 30 * time.Second

// usage is what the kernel says of a process.
type usage struct {
	cpu      time.Duration
	resident int // bytes
}

// ticksPerSecond is USER_HZ, which is 100 on every Linux architecture that Go runs on.
const ticksPerSecond = 100

func usageOf(pid int) (usage, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	if len(fields) < 22 {
		return usage{}, errors.New("/proc/PID/stat is too short")
	}
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	pages, err3 := strconv.Atoi(fields[21])
	return usage{time.Duration(user+system) * time.Second / ticksPerSecond, pages * os.Getpagesize()}, errors.Join(err1, err2, err3)
}

// agentFigures watches an agent with 8 simulated cards at 1 Hz: alone, then with one viewer.
func agentFigures(ctx context.Context) ([]figure, error) {
	data, err := os.MkdirTemp("", "muster-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(data)
	began := time.Now()
	agent, err := harness.Start(data, "--simulate", "8x H100")
	if err != nil {
		return nil, err
	}
	startup := time.Since(began)
	defer agent.Stop()
	hello, err := processStart()
	if err != nil {
		return nil, err
	}

	idle, err := share(ctx, agent.Pid, nil)
	if err != nil {
		return nil, err
	}
	var frames, bytes int
	watched, err := share(ctx, agent.Pid, func(ctx context.Context) error {
		return agent.View(ctx, wire.SubprotocolBinary, snapshots(func(size int) { frames, bytes = frames+1, bytes+size }))
	})
	if err != nil {
		return nil, err
	}
	var textFrames, textBytes int
	if _, err := shareFor(ctx, agent.Pid, 3*time.Second, func(ctx context.Context) error {
		return agent.View(ctx, wire.SubprotocolJSON, snapshots(func(size int) { textFrames, textBytes = textFrames+1, textBytes+size }))
	}); err != nil {
		return nil, err
	}
	if frames == 0 || textFrames == 0 {
		return nil, errors.New("no snapshot came")
	}
	now, err := usageOf(agent.Pid)
	if err != nil {
		return nil, err
	}
	return []figure{
		{"agent CPU, 8 GPUs at 1 Hz, one viewer", fmt.Sprintf("%.2f %% of a core", watched*100), "≤ 0.5 %", fmt.Sprintf("without viewer %.2f %%", idle*100)},
		{"agent memory, resident", fmt.Sprintf("%.1f MB", float64(now.resident)/1e6), "≤ 40 MB", ""},
		{"start to printed link", fmt.Sprintf("%d ms", startup.Milliseconds()), "", fmt.Sprintf("muster version %d ms", hello.Milliseconds())},
		{"bytes per frame, 8 simulated GPUs", fmt.Sprint(bytes / frames), "≤ 512", fmt.Sprintf("as JSON %d", textBytes/textFrames)},
	}, nil
}

func processStart() (time.Duration, error) {
	began := time.Now()
	_, err := (&harness.Agent{Data: os.TempDir()}).Command(context.Background(), "version")
	return time.Since(began), err
}

func share(ctx context.Context, pid int, meanwhile func(context.Context) error) (float64, error) {
	return shareFor(ctx, pid, watchFor, meanwhile)
}

// shareFor gives the share of one core that a process used during a time in which meanwhile ran (nil: nothing).
func shareFor(ctx context.Context, pid int, during time.Duration, meanwhile func(context.Context) error) (float64, error) {
	before, err := usageOf(pid)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, during)
	defer cancel()
	if meanwhile != nil {
		if err := meanwhile(limited); err != nil && limited.Err() == nil {
			return 0, err
		}
	}
	<-limited.Done()
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	after, err := usageOf(pid)
	return float64(after.cpu-before.cpu) / float64(time.Since(began)), err
}

// snapshots hands the size of every snapshot's frame to see.
func snapshots(see func(size int)) func(wire.Event, int) {
	return func(event wire.Event, size int) {
		if event.Snapshot != nil {
			see(size)
		}
	}
}
