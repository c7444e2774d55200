package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster/agent/telemetry/nvml/fakenvml"
	"muster/e2e/harness"
	"muster/shared/gpu"
	"muster/shared/wire"
)

// rig is an agent that reads a fake NVIDIA driver through its collector.
type rig struct {
	*harness.Agent
	fakenvml.Script
	dir string
}

func newRig(scenario ...string) (*rig, error) {
	dir, err := os.MkdirTemp("", "muster-bench-")
	if err != nil {
		return nil, err
	}
	r := &rig{dir: dir, Script: fakenvml.Script(filepath.Join(dir, "scenario"))}
	library, err := fakenvml.Link(dir)
	if err == nil {
		err = r.Write(scenario...)
	}
	if err == nil {
		r.Agent, err = harness.Options{Data: filepath.Join(dir, "data"), Flags: []string{"--nvml", library}, Env: []string{r.Env(), "FAKE_NVML_SELDOM=500"}}.Start()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return r, nil
}

func (r *rig) close() {
	_ = r.Write() // nothing hangs any more
	_ = r.Stop()
	_ = os.RemoveAll(r.dir)
}

// await returns once all devices are in that state but those named.
func (r *rig) await(ctx context.Context, devices int, state gpu.State, except ...int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := r.View(ctx, wire.SubprotocolBinary, func(event wire.Event, _ int) {
		if event.Snapshot == nil || len(event.Snapshot.GPUs) != devices {
			return
		}
		for i, reading := range event.Snapshot.GPUs {
			if (reading.State == state) == slices.Contains(except, i) {
				return
			}
		}
		cancel()
	})
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil
	}
	return fmt.Errorf("%d devices that are %s: %w", devices, state, err)
}

// children are the processes that a process started and that still run.
func children(parent int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:])); len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// processes are the agent and its collectors.
func (r *rig) processes() []int { return append([]int{r.Pid}, children(r.Pid)...) }

// footprint is what processes hold together.
type footprint struct {
	resident, proportional int // bytes; shared pages count once in proportional
	files                  int
	threads                []int // of each
}

func footprintOf(pids []int) (sum footprint, err error) {
	for _, pid := range pids {
		rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return sum, err
		}
		for line := range strings.Lines(string(rollup)) {
			fields := strings.Fields(line)
			if len(fields) < 2 {
				continue
			}
			kilobytes, _ := strconv.Atoi(fields[1])
			switch fields[0] {
			case "Rss:":
				sum.resident += kilobytes << 10
			case "Pss:":
				sum.proportional += kilobytes << 10
			}
		}
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		sum.threads, sum.files = append(sum.threads, len(tasks)), sum.files+len(files)
	}
	return sum, nil
}

func (f footprint) String() string {
	return fmt.Sprintf("%.1f MB, %v threads, %d files", float64(f.proportional)/1e6, f.threads, f.files)
}

// sharesOf gives the share of one core that each process used meanwhile.
func sharesOf(ctx context.Context, pids []int, during time.Duration, meanwhile func(context.Context) error) ([]float64, error) {
	before := make([]usage, len(pids))
	for i, pid := range pids {
		var err error
		if before[i], err = usageOf(pid); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, during)
	defer cancel()
	if err := meanwhile(limited); err != nil && limited.Err() == nil {
		return nil, err
	}
	<-limited.Done()
	elapsed := time.Since(began)
	shares := make([]float64, len(pids))
	for i, pid := range pids {
		after, err := usageOf(pid)
		if err != nil {
			return nil, err
		}
		shares[i] = float64(after.cpu-before[i].cpu) / float64(elapsed)
	}
	return shares, ctx.Err()
}

// collectorFigures measures the agent with its collector on a fake driver. The driver's own work is in the figures: it looks at
// its scenario file in every call.
func collectorFigures(ctx context.Context) ([]figure, error) {
	var figures []figure
	for _, n := range []int{8, 64} {
		more, err := readingFigures(ctx, n)
		figures = append(figures, more...)
		if err != nil {
			return figures, err
		}
	}
	more, err := hungFigures(ctx)
	figures = append(figures, more...)
	if err != nil {
		return figures, err
	}
	start, err := startFigure(ctx)
	return append(figures, start), err
}

func readingFigures(ctx context.Context, devices int) ([]figure, error) {
	r, err := newRig(fmt.Sprint("devices=", devices))
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.await(ctx, devices, gpu.StateOK); err != nil {
		return nil, err
	}
	pids := r.processes()
	shares, err := sharesOf(ctx, pids, watchFor, func(ctx context.Context) error {
		return r.View(ctx, wire.SubprotocolBinary, func(wire.Event, int) {})
	})
	if err != nil || len(shares) != 2 {
		return nil, fmt.Errorf("%d processes: %w", len(pids), err)
	}
	held, err := footprintOf(pids)
	goal, memory := "≤ 0.5 %", "≤ 40 MB"
	if devices > 8 {
		goal, memory = "≤ 3 %", ""
	}
	name := fmt.Sprintf("%d fake H100s at 1 Hz, one viewer", devices)
	return []figure{
		{"CPU of agent + collector, " + name, fmt.Sprintf("%.2f %% of a core", 100*(shares[0]+shares[1])), goal, fmt.Sprintf("agent %.2f, collector %.2f %%", 100*shares[0], 100*shares[1])},
		{"memory of agent + collector, " + name, fmt.Sprintf("%.1f MB", float64(held.proportional)/1e6), memory, fmt.Sprintf("with the program's code counted twice %.1f MB", float64(held.resident)/1e6)},
	}, err
}
