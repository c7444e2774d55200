package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster/agent/backend/backendtest"
	"muster/e2e/disk"
	"muster/e2e/harness"
	"muster/e2e/ordeal"
)

// How many deaths a soak is. MUSTER_KILLS and MUSTER_CUTS set others.
const (
	kills   = 1000
	cuts    = 100
	perLife = 100 // deaths on one data folder
	remade  = 100 // images of a life that are made a second time at its end
)

func counted(variable string, count int) (int, error) {
	text := os.Getenv(variable)
	if text == "" {
		return count, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s is %q: want a whole number from 1", variable, text)
	}
	return n, nil
}

// killFigures kills agents under load: with simulated devices, with generators of their own, and on a slow disk, in turn.
func killFigures(ctx context.Context) ([]figure, error) {
	count, err := counted("MUSTER_KILLS", kills)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "muster-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	servers, program, err := sdServers(ctx, dir)
	if err != nil {
		return nil, err
	}
	slow, close, err := slowDisk(dir)
	if err != nil {
		return nil, err
	}
	var sum suffering
	for life := 0; sum.totals.Deaths < count && err == nil && ctx.Err() == nil; life++ {
		trial := ordeal.NewTrial(harness.Options{Data: filepath.Join(dir, fmt.Sprint("data-", life)), Flags: simulated}, rand.Uint64())
		trial.Steer = []string{"0", "3"}
		deaths := perLife
		switch {
		case life%3 == 1:
			trial.Agent.Flags, trial.Program = servers, program
		case life%3 == 2 && slow != "":
			trial.Agent.Data, trial.Load = filepath.Join(slow, fmt.Sprint("data-", life)), time.Second
			deaths /= 2
		}
		err = sum.live(ctx, trial, min(deaths, count-sum.totals.Deaths))
	}
	return sum.figures("kill -9"), errors.Join(err, ctx.Err(), close())
}

// slowDisk gives a folder in which each write takes long; "" where none can be made.
func slowDisk(dir string) (path string, close func() error, err error) {
	path = filepath.Join(dir, "slow")
	backing := filepath.Join(dir, "backing")
	if err := errors.Join(os.Mkdir(path, 0o700), os.Mkdir(backing, 0o700)); err != nil {
		return "", nil, err
	}
	faulty, err := disk.NewFaulty(backing, path)
	if errors.Is(err, disk.ErrNotHere) {
		fmt.Fprintln(os.Stderr, "NOT RUN on a slow disk:", err)
		return "", func() error { return nil }, nil
	}
	if err != nil {
		return "", nil, err
	}
	faulty.Slow(2 * time.Millisecond)
	return path, faulty.Close, nil
}

var simulated = []string{"--simulate", "2x H100, 2x RTX 4090"}

// cutFigures cuts the power of the disk of agents under load, and for comparison that of a program that syncs less.
func cutFigures(ctx context.Context) ([]figure, error) {
	count, err := counted("MUSTER_CUTS", cuts)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "muster-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	image, err := disk.NewImage(dir, 256)
	if errors.Is(err, disk.ErrNotHere) {
		return []figure{{"power cuts under load", "NOT RUN", "0 lost", err.Error()}}, nil
	}
	if err != nil {
		return nil, err
	}
	var sum suffering
	for life := 0; sum.totals.Deaths < count && err == nil && ctx.Err() == nil; life++ {
		trial := ordeal.NewTrial(harness.Options{Data: filepath.Join(image.Dir, fmt.Sprint("data-", life)), Flags: simulated}, rand.Uint64())
		trial.Disk, trial.Steer = image, []string{"0", "3"}
		err = sum.live(ctx, trial, min(perLife, count-sum.totals.Deaths))
	}
	figures := sum.figures("power cuts")
	if err = errors.Join(err, ctx.Err(), image.Close()); err != nil {
		return figures, err
	}
	careless, err := carelessFigure(filepath.Join(dir, "careless"))
	return append(figures, careless), err
}

// carelessFigure tells what the same cuts take from a program that does not sync each of its commits.
func carelessFigure(dir string) (f figure, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return f, err
	}
	image, err := disk.NewImage(dir, 128)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, image.Close()) }()
	lost, acknowledged := 0, 0
	for range 5 {
		w, err := ordeal.Rows(image.Dir, "NORMAL")
		if err != nil {
			return f, err
		}
		told, kept, err := ordeal.CutUnder(image, w)
		if err != nil {
			return f, err
		}
		lost, acknowledged = lost+max(0, told-kept), acknowledged+told
	}
	return figure{"  rows that such cuts take from SQLite with synchronous=NORMAL", fmt.Sprintf("%d of %d", lost, acknowledged), "some, or the cuts are none", ""}, nil
}

// suffering adds up what several trials came to.
type suffering struct {
	totals   ordeal.Totals
	broken   []string
	restarts []time.Duration
}

func (s *suffering) live(ctx context.Context, trial *ordeal.Trial, deaths int) error {
	for range deaths {
		if err := trial.Death(ctx); err != nil {
			return err
		}
	}
	err := trial.Finish(ctx, remade)
	s.totals = s.totals.Add(trial.Ledger.Totals())
	s.broken = append(s.broken, trial.Ledger.Broken()...)
	s.restarts = append(s.restarts, trial.Restarts...)
	fmt.Fprintf(os.Stderr, "%d deaths, %d promises broken\n", s.totals.Deaths, len(s.broken))
	return errors.Join(err, os.RemoveAll(trial.Agent.Data))
}

// figures are the table's lines; every broken promise goes to stderr.
func (s *suffering) figures(manner string) []figure {
	if len(s.broken) > 0 {
		fmt.Fprintln(os.Stderr, strings.Join(s.broken, "\n"))
	}
	if len(s.restarts) == 0 {
		return nil
	}
	slices.Sort(s.restarts)
	t := s.totals
	return []figure{
		{fmt.Sprintf("%d %s under load: lost or doubled", t.Deaths, manner), fmt.Sprint(len(s.broken)), "0",
			fmt.Sprintf("%d images of %d sets acknowledged, %d cancels, %d decisions about devices", t.Jobs, t.Sets, t.Cancels, t.Decisions)},
		{"  what they met", fmt.Sprintf("%d images cut off, %d answers", t.Midway, t.Doubtful), "", fmt.Sprintf("%d commands sent again with their key", t.Repeats)},
		{"  images finished and whole", fmt.Sprint(t.Succeeded), "all", fmt.Sprintf("%d fetched, %d made a second time with equal bytes", t.Images, t.Remade)},
		{"  restart until it serves, p50 / worst", fmt.Sprintf("%s / %s", milliseconds(median(s.restarts)), milliseconds(s.restarts[len(s.restarts)-1])), "", ""},
	}
}

// sdServers gives the flags of an agent on eight captured cards with a fake sd-server for each.
func sdServers(ctx context.Context, dir string) (flags []string, program string, err error) {
	root, err := harness.Root()
	if err != nil {
		return nil, "", err
	}
	program = filepath.Join(dir, "sd-server")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "muster/agent/backend/backendtest/cmd/fake-sd-server")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, "", fmt.Errorf("build the fake sd-server: %w: %s", err, out)
	}
	sysroot, models := filepath.Join(dir, "sysroot"), filepath.Join(dir, "models")
	if err := errors.Join(os.Mkdir(sysroot, 0o700), os.Mkdir(models, 0o700)); err != nil {
		return nil, "", err
	}
	capture := filepath.Join(root, "..", "shared", "fixtures", "amd-sysroot", "amd-mi25x8-root.tar.gz")
	if out, err := exec.CommandContext(ctx, "tar", "-xzf", capture, "-C", sysroot).CombinedOutput(); err != nil {
		return nil, "", fmt.Errorf("unpack %s: %w: %s", capture, err, out)
	}
	model := filepath.Join(models, "sd15.safetensors")
	settings, err := json.Marshal(backendtest.MI25x8())
	scenario, err2 := json.Marshal(backendtest.Scenario{StepMilliseconds: 5})
	if err := errors.Join(err, err2,
		os.WriteFile(backendtest.SettingsPath(program), settings, 0o600),
		os.WriteFile(backendtest.ScenarioPath(model), scenario, 0o600),
		os.WriteFile(model, backendtest.TinyModel(), 0o600)); err != nil {
		return nil, "", err
	}
	return []string{"--sysroot", sysroot, "--sd-server", program, "--models", models}, program, nil
}
