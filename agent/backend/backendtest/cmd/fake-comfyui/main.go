// Command fake-comfyui behaves like ComfyUI (server.py, execution.py and protocol.py of 2025-10 and of 2026) without weights, Python
// or a GPU: the same arguments, routes, status codes, bodies, socket events and quirks. It stands for the interpreter: it is started
// as "python3 main.py --port …".
//
// It takes no orders from its environment, which muster makes from scratch. They lie in files (see package backendtest):
//
//	PROGRAM.json       backendtest.ComfySettings: the devices that it sees, how old it is, what it lacks
//	MODEL.fake.json    backendtest.Scenario beside a model file: how long loading and steps take, and what goes wrong when
//	PROGRAM.journal    written: one backendtest.Start as JSON per line for each start, with pid, arguments and device masks
//
// Unlike the real one it refuses to run on a GPU of a machine with several when no mask, or more than one, is set by whoever
// started it, unless --cuda-device says which: a wrong pinning can't go unnoticed.
//
// Images are real PNGs, determined by prompts, seed, size, steps, guidance, sampler, scheduler and models, with the graph in a text
// chunk as the real ones have.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"muster/agent/backend/backendtest"
)

const defaultVersion = "0.3.64"

// program is one start.
type program struct {
	path     string
	settings backendtest.ComfySettings
	start    backendtest.Start
}

func main() {
	runtime.LockOSThread()
	signal.Ignore(syscall.SIGPIPE)
	path, err := os.Executable()
	if err != nil {
		fatal(err)
	}
	p := &program{path: path}
	if err := backendtest.Load(backendtest.SettingsPath(path), &p.settings); err != nil {
		fatal(err)
	}
	if p.settings.Version == "" {
		p.settings.Version = defaultVersion
	}
	if p.settings.Ancient {
		p.settings.Older = true
	}
	if len(p.settings.Devices) == 0 {
		p.settings.Devices = []backendtest.Device{{Name: "CUDA0", Description: "NVIDIA GeForce RTX 4090", ID: "GPU-00000000-0000-0000-0000-000000000001"}}
	}
	dir, _ := os.Getwd()
	p.start = backendtest.Start{PID: os.Getpid(), Args: os.Args[1:], Dir: dir, Masks: map[string]string{}}
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		p.start.Env = append(p.start.Env, name)
		if slices.Contains(backendtest.MaskNames, name) {
			p.start.Masks[name] = value
		}
	}
	os.Exit(p.run(os.Args[1:]))
}

// fatal is for mistakes in a test's files: they must not look like behaviour of ComfyUI.
func fatal(err error) {
	fmt.Fprintln(os.Stderr, "fake-comfyui: mistake in the test:", err)
	os.Exit(99)
}

func (p *program) run(args []string) int {
	if len(args) == 0 || filepath.Base(args[0]) != "main.py" {
		fmt.Fprintln(os.Stderr, "fake-comfyui: it is started as python3 main.py")
		return 2
	}
	script := args[0]
	if _, err := os.Stat(script); err != nil {
		fmt.Fprintf(os.Stderr, "%s: can't open file '%s': [Errno 2] No such file or directory\n", p.path, script)
		return 2
	}
	if slices.Contains(args, "--help") {
		p.record()
		switch p.settings.Probe {
		case "hang":
			hang()
		case "fail":
			return p.noModule("yaml")
		}
		fmt.Print(p.help())
		return 0
	}
	o, complaint := p.parse(args[1:])
	if complaint != "" {
		return p.refuse(2, "usage: main.py [-h]", "main.py: error: "+complaint)
	}
	if p.settings.NoTorch {
		p.start.Refused = "No module named 'torch'"
		p.record()
		return p.noModule("torch")
	}
	return p.serve(o, filepath.Dir(script))
}

func (p *program) noModule(name string) int {
	fmt.Fprintf(os.Stderr, "Traceback (most recent call last):\n  File \"main.py\", line 4, in <module>\nModuleNotFoundError: No module named '%s'\n", name)
	return 1
}

func (p *program) record() {
	if err := backendtest.Record(p.path, p.start); err != nil {
		fatal(err)
	}
}

// refuse ends a start: the reason on stderr, in its last line.
func (p *program) refuse(code int, reasons ...string) int {
	for _, reason := range reasons {
		fmt.Fprintln(os.Stderr, reason)
	}
	p.start.Refused = reasons[len(reasons)-1]
	p.record()
	return code
}

func logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// serve finds the device and listens until a signal ends the process.
func (p *program) serve(o options, dir string) int {
	shown, complaint := p.torch(o)
	if complaint != "" {
		return p.refuse(1, "Traceback (most recent call last):", complaint)
	}
	p.start.Device = shown[0].ID
	number := 1
	starts, err := backendtest.Starts(p.path)
	if err != nil {
		fatal(err)
	}
	for _, s := range starts {
		if s.Device == p.start.Device {
			number++
		}
	}
	p.record()
	if p.settings.Scenario.IgnoreTerm {
		signal.Ignore(syscall.SIGTERM)
	}
	logf("Total VRAM 24564 MB, total RAM 64211 MB")
	logf("Device: %s : native", shown[0].Description)
	s := newServer(p, o, dir, shown, number)
	if code, ended := s.loadFaults(); ended {
		return code
	}
	time.Sleep(time.Duration(p.settings.StartMilliseconds) * time.Millisecond)
	logf("ComfyUI version: %s", p.settings.Version)
	return s.listen()
}

// loadFaults does what goes wrong before the program listens.
func (s *server) loadFaults() (code int, ended bool) {
	f, ok := s.planned(s.settings.Scenario, 0, -1, backendtest.LoadHangs, backendtest.LoadCrashes, backendtest.LoadFails, backendtest.LoadOutOfMemory)
	if !ok {
		return 0, false
	}
	switch f.Do {
	case backendtest.LoadHangs:
		hang()
	case backendtest.LoadCrashes:
		die(syscall.SIGSEGV)
	case backendtest.LoadOutOfMemory:
		logf("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 23.54 GiB of which 6.00 MiB is free.")
	default:
		logf("Traceback (most recent call last):\nRuntimeError: %s", f.Text)
	}
	return 1, true
}

// torch gives the devices that the masks leave, the one that is used first; else the reason for which the program ends.
func (p *program) torch(o options) (shown []backendtest.Device, complaint string) {
	if o.cpu {
		return []backendtest.Device{{Name: "CPU", Description: "cpu", ID: "cpu"}}, ""
	}
	masks := p.start.Masks
	if o.cudaDevice != "" && o.cudaDevice != "all" {
		masks = map[string]string{"CUDA_VISIBLE_DEVICES": o.cudaDevice, "HIP_VISIBLE_DEVICES": o.cudaDevice}
		if rocr, ok := p.start.Masks["ROCR_VISIBLE_DEVICES"]; ok {
			masks["ROCR_VISIBLE_DEVICES"] = rocr
		}
	}
	for _, d := range backendtest.Shown(p.settings.Devices, masks) {
		if kind := d.Kind(); kind == "cuda" || kind == "rocm" {
			shown = append(shown, d)
		}
	}
	switch {
	case len(shown) == 0:
		return nil, "RuntimeError: No CUDA GPUs are available"
	case o.cudaDevice == "" && len(p.settings.Devices) > 1 && len(p.start.Masks) != 1:
		return nil, fmt.Sprintf("fake-comfyui: %d device masks are set; exactly one must be", len(p.start.Masks))
	}
	return shown, ""
}

// die ends the process by a signal, as a program without handlers does. Go's own handlers would print goroutines and exit with
// status 2, so they are taken out first (rt_sigaction with SIG_DFL).
func die(s syscall.Signal) {
	defaultAction := make([]byte, 64)
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&defaultAction[0])), 0, 8, 0, 0)
	_ = unix.Kill(os.Getpid(), s)
	hang()
}

// hang does nothing for ever. An empty select would not do: without another goroutine Go ends the program.
func hang() {
	for {
		time.Sleep(time.Hour)
	}
}
