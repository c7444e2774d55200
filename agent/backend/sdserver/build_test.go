package sdserver

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/shared/gpu"
	"muster/shared/job"
)

func TestOlderBuilds(t *testing.T) {
	t.Parallel()
	devices := backendtest.MI25x8().Devices
	for _, tt := range []struct {
		name    string
		without []string
		backend string
		problem string
	}{
		{"before eager loading", []string{"--eager-load"}, "", ""},
		{"before the list of devices", []string{"--list-devices", "--auto-fit"}, "", "--sd-backend"},
		{"before the list of devices, configured", []string{"--list-devices", "--auto-fit"}, "rocm0", ""},
		{"before upscalers", []string{"--hires-upscalers-dir"}, "", ""},
		{"before --backend", []string{"--backend", "--list-devices"}, "", "747"},
		{"another program", []string{"--listen-port"}, "", "not an sd-server"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			settings := backendtest.Settings{Devices: devices, Without: tt.without}
			b := newBench(t, setup{settings: settings, backend: tt.backend, models: map[string]backendtest.Scenario{"model": {LoadMilliseconds: 20}}})
			err := b.Serves(b.devices[0])
			if tt.problem != "" {
				if err == nil || !strings.Contains(err.Error(), tt.problem) {
					t.Errorf("Serves gives %v; want %q", err, tt.problem)
				}
				if err := b.make(t, "model"); !errors.Is(err, backend.ErrUnavailable) {
					t.Errorf("Generate gives %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := b.make(t, "model"); err != nil {
					t.Fatal(err)
				}
			}
			starts := backendtest.Serving(t, b.program)
			for _, flag := range tt.without {
				if len(starts) != 1 || slices.Contains(starts[0].Args, flag) {
					t.Errorf("%d starts, with %q", len(starts), starts[0].Args)
				}
			}
		})
	}
}

func TestProgramThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	l := quick()
	l.probe = 500 * time.Millisecond
	for mode, text := range map[string]string{"hang": "did not answer in time", "fail": "libamdhip64.so.5"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			settings := backendtest.MI25x8()
			settings.Probe = mode
			program := backendtest.BuildFakeSDServer(t, settings)
			limits := l
			if mode == "fail" {
				limits = quick()
			}
			f, err := newFleet(Config{Program: program, Dir: t.TempDir()}, limits)
			if err != nil {
				t.Fatal(err)
			}
			dev := backendtest.Devices(settings, gpu.AMD)[0]
			if err := f.Serves(dev); err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("Serves gives %v; want %q", err, text)
			}
			settings.Probe = ""
			write(t, backendtest.SettingsPath(program), settings)
			f.limits = quick()
			f.ask(t.Context())
			if err := f.Serves(dev); err != nil {
				t.Errorf("after it answered: %v", err)
			}
		})
	}
}

func write(t *testing.T, path string, value any) {
	t.Helper()
	text, err := json.Marshal(value)
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestNewRefusesAWrongConfiguration(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{Program: "/nowhere/sd-server", Dir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "/nowhere/sd-server") {
		t.Errorf("a missing program: %v", err)
	}
	file := filepath.Join(t.TempDir(), "plain")
	write(t, file, "no program")
	if _, err := New(Config{Program: file, Dir: t.TempDir()}); err == nil {
		t.Error("a file that can't be run is accepted")
	}
	program := backendtest.BuildFakeSDServer(t)
	if _, err := New(Config{Program: program, Dir: t.TempDir(), Env: []string{"HIP_VISIBLE_DEVICES=0"}}); err == nil || !strings.Contains(err.Error(), "HIP_VISIBLE_DEVICES") {
		t.Errorf("a mask of one's own: %v", err)
	}
}

func TestModelsHaveAnEstimate(t *testing.T) {
	t.Parallel()
	f, err := New(Config{Program: backendtest.BuildFakeSDServer(t), Dir: t.TempDir(), Models: only(backend.Model{Name: "a", Bytes: 4 << 30}, backend.Model{Name: "b", VRAMBytes: 7})})
	if err != nil {
		t.Fatal(err)
	}
	if m := f.Models(); m[0].VRAMBytes != 6<<30 || m[1].VRAMBytes != 7 {
		t.Errorf("%+v", m)
	}
}

// standIn makes the test binary run a fleet as the agent does, until it is killed.
const standIn = "MUSTER_TEST_STAND_IN"

func TestMain(m *testing.M) {
	program := os.Getenv(standIn)
	if program == "" {
		os.Exit(m.Run())
	}
	f, err := newFleet(Config{Program: program, Dir: program + ".d", Models: only(backend.Model{Name: "model", Path: filepath.Join(filepath.Dir(program), "model.safetensors")})}, quick())
	if err != nil {
		panic(err)
	}
	go func() { _ = f.Run(context.Background()) }()
	for _, dev := range backendtest.Devices(backendtest.MI25x8(), gpu.AMD)[:3] {
		go func() {
			_, err := f.Backend().Generate(context.Background(), dev, backend.Request{Model: "model", Width: 64, Height: 64, Steps: 100, Prompt: "x"}, func(p job.Progress) {
				if p.Step == 1 {
					fmt.Println("working")
				}
			})
			fmt.Println("ended:", err)
		}()
	}
	time.Sleep(time.Minute) // it is killed long before
}

func TestKillOfTheAgentLeavesNoChild(t *testing.T) {
	t.Parallel()
	program := backendtest.BuildFakeSDServer(t)
	backendtest.WriteModel(t, filepath.Dir(program), "model", backendtest.Scenario{StepMilliseconds: 300})
	agent := exec.Command(os.Args[0])
	agent.Env = append(os.Environ(), standIn+"="+program)
	out, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	defer agent.Process.Kill()
	lines := bufio.NewScanner(out)
	for range 3 {
		if !lines.Scan() || lines.Text() != "working" {
			t.Fatalf("the stand-in says %q", lines.Text())
		}
	}
	starts := backendtest.Serving(t, program)
	if len(starts) != 3 {
		t.Fatalf("%d children", len(starts))
	}
	var ends []unix.PollFd
	for _, start := range starts {
		fd, err := unix.PidfdOpen(start.PID, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		ends = append(ends, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	for i := range ends {
		for {
			n, err := unix.Poll(ends[i:i+1], 30_000)
			if err == unix.EINTR {
				continue
			}
			if err != nil || n == 0 {
				t.Errorf("child %d outlived its agent: %v", starts[i].PID, err)
			}
			break
		}
	}
}
