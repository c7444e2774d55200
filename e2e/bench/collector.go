package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
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
	began, flagged := time.Now(), time.Duration(0)
	oldest, snapshots := int64(0), 0
	var early footprint
	watching, cancel := context.WithTimeout(ctx, soak)
	defer cancel()
	err = r.View(watching, wire.SubprotocolBinary, func(event wire.Event, _ int) {
		if event.Snapshot == nil {
			return
		}
		snapshots++
		for i, reading := range event.Snapshot.GPUs {
			switch {
			case i == hung && reading.State == gpu.StateStuck && flagged == 0:
				flagged = time.Since(began)
			case i != hung:
				oldest = max(oldest, reading.AgeMilliseconds)
			}
		}
		if snapshots == 15 {
			early, _ = footprintOf(r.processes())
		}
	})
	if err != nil && watching.Err() == nil {
		return nil, err
	}
	late, err := footprintOf(r.processes())
	missed := "every tick"
	if oldest > 0 {
		missed = fmt.Sprintf("values up to %d ms old", oldest)
	}
	return []figure{
		{"one hung GPU of 8: the others", missed, "gap ≤ 1 tick", fmt.Sprintf("%d snapshots in %s", snapshots, soak)},
		{"one hung GPU of 8: flagged after", fmt.Sprintf("%.1f s", flagged.Seconds()), "≤ 3 s", ""},
		{"one hung GPU of 8: threads of agent and collector", fmt.Sprint(early.threads), "≤ +1", fmt.Sprintf("before %v", before.threads)},
		{fmt.Sprintf("one hung GPU of 8: after %s", soak), late.String(), "no growth", "after 15 s " + early.String()},
	}, err
}

func after(ctx context.Context, d time.Duration) <-chan struct{} {
	limited, cancel := context.WithTimeout(ctx, d)
	context.AfterFunc(limited, cancel)
	return limited.Done()
}

// startFigure times the start on this machine up to the first snapshot that can be asked for, beside a program that does nothing.
func startFigure(ctx context.Context) (figure, error) {
	data, err := os.MkdirTemp("", "muster-bench-")
	if err != nil {
		return figure{}, err
	}
	defer os.RemoveAll(data)
	empty, err := emptyProgram(ctx, data)
	if err != nil {
		return figure{}, err
	}
	const rounds = 10
	var first, answer, nothing []time.Duration
	devices := 0
	for range rounds {
		began := time.Now()
		agent, err := harness.Start(data)
		if err != nil {
			return figure{}, err
		}
		answered, shown, n, err := firstAnswers(ctx, agent, began)
		if err = errors.Join(err, agent.Stop()); err != nil {
			return figure{}, err
		}
		devices, answer, first = n, append(answer, answered), append(first, shown)
		began = time.Now()
		if err := exec.CommandContext(ctx, empty).Run(); err != nil {
			return figure{}, err
		}
		nothing = append(nothing, time.Since(began))
	}
	return figure{fmt.Sprintf("start to first snapshot, %d devices here", devices), milliseconds(median(first)), "≤ 50 ms without a driver",
		fmt.Sprintf("to first answer %s, an empty Go program %s", milliseconds(median(answer)), milliseconds(median(nothing)))}, nil
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.0f ms", d.Seconds()*1000) }

// emptyProgram builds one.
func emptyProgram(ctx context.Context, dir string) (path string, err error) {
	source := filepath.Join(dir, "empty.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		return "", err
	}
	path = filepath.Join(dir, "empty")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", path, source).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build an empty program: %w: %s", err, out)
	}
	return path, nil
}

// firstAnswers asks until the agent is there and has a snapshot, and gives the times since began.
func firstAnswers(ctx context.Context, agent *harness.Agent, began time.Time) (answered, shown time.Duration, devices int, err error) {
	if _, err := agent.Do(ctx, "GET", "/healthz", nil, nil); err != nil {
		return 0, 0, 0, err
	}
	answered = time.Since(began)
	var snapshot gpu.Snapshot
	for status := 0; status != http.StatusOK; status, err = agent.Do(ctx, "GET", "/api/v1/snapshot", nil, &snapshot) {
		if status != 0 && status != http.StatusServiceUnavailable || ctx.Err() != nil || time.Since(began) > harness.StartTimeout {
			return 0, 0, 0, fmt.Errorf("no snapshot: status %d: %w", status, err)
		}
	}
	return answered, time.Since(began), len(snapshot.GPUs), nil
}
