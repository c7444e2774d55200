package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"muster/e2e/harness"
	"muster/shared/gpu"
)

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
