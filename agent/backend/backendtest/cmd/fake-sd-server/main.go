// Command fake-sd-server behaves like stable-diffusion.cpp's sd-server (master-827, as captured in shared/fixtures/sd-server)
// without weights and without a GPU: the same arguments, routes, status codes, bodies, output, exit codes and quirks. Tests of
// sdserver start it, and end-to-end tests give it to the real muster with --sd-server.
//
// It takes no orders from its environment, which muster makes from scratch. They lie in files (see package backendtest):
//
//	PROGRAM.json       backendtest.Settings: the devices that the "build" sees, its version, flags that it lacks
//	MODEL.fake.json    backendtest.Scenario beside a model file: how long loading, steps and decoding take, and what goes wrong when
//	PROGRAM.journal    written: one backendtest.Start as JSON per line for each start, with pid, arguments and device masks
//
// A model file must begin as a safetensors or gguf file does; backendtest.WriteModel makes one. The program refuses to start
// (status 1) when --backend names no device that its mask leaves visible, as the real one does. Unlike the real one it also refuses
// to run on a GPU with no mask or with more than one, so that a wrong pinning can't go unnoticed.
//
// Images are real PNGs, determined by prompt, negative prompt, seed, size, steps, guidance, sampler and model.
package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"muster/agent/backend/backendtest"
)

const defaultVersion = "master-827-97d2990+"

// program is one start.
type program struct {
	path     string
	settings backendtest.Settings
	out      io.Writer
	start    backendtest.Start
}

func main() {
	runtime.LockOSThread()         // a twin dies with the thread that started it
	signal.Ignore(syscall.SIGPIPE) // it lives on when nobody reads its output any more
	path, err := os.Executable()
	if err != nil {
		fatal(err)
	}
	p := &program{path: path, out: os.Stdout}
	if err := backendtest.Load(backendtest.SettingsPath(path), &p.settings); err != nil {
		fatal(err)
	}
	if p.settings.Version == "" {
		p.settings.Version = defaultVersion
	}
	if len(p.settings.Devices) == 0 {
		p.settings.Devices = []backendtest.Device{{Name: "CPU", Description: "Fake CPU", ID: "cpu"}}
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

// fatal is for mistakes in a test's files: they must not look like behaviour of sd-server.
func fatal(err error) {
	fmt.Fprintln(os.Stderr, "fake-sd-server: mistake in the test:", err)
	os.Exit(99)
}

func (p *program) run(args []string) int {
	if len(args) > 0 && args[0] == "--version" {
		return p.probe("stable-diffusion.cpp version " + p.settings.Version + ", commit " + commit(p.settings.Version) + "\n")
	}
	if len(args) == 3 && args[0] == "--fake-twin" {
		return p.runTwin(args[1], args[2])
	}
	if len(args) == 2 && args[0] == "--fake-hold" {
		pid, _ := strconv.Atoi(args[1])
		return runHold(pid)
	}
	o, code, done := p.parse(args)
	if done {
		return code
	}
	return p.serve(o)
}

func commit(version string) string {
	parts := strings.Split(strings.TrimSuffix(version, "+"), "-")
	return parts[len(parts)-1] + "8"
}

// probe answers a question and ends.
func (p *program) probe(answer string) int {
	p.record()
	switch p.settings.Probe {
	case "hang":
		hang()
	case "fail":
		fmt.Fprintln(os.Stderr, p.path+": error while loading shared libraries: libamdhip64.so.5: cannot open shared object file: No such file or directory")
		return 127
	}
	fmt.Fprint(p.out, answer)
	return 0
}

func (p *program) record() {
	if err := backendtest.Record(p.path, p.start); err != nil {
		fatal(err)
	}
}

// refuse ends a start, as the real one does: the reason on stderr, exit status 1.
func (p *program) refuse(reasons ...string) int {
	for _, reason := range reasons {
		fmt.Fprintln(os.Stderr, reason)
	}
	p.start.Refused = reasons[0]
	p.record()
	return 1
}

// line is how sd-server logs: level, place in the source, text.
func line(level, file string, number int, format string, args ...any) string {
	return fmt.Sprintf("[%-5s] %s:%-4d - %s", level, file, number, fmt.Sprintf(format, args...))
}

func (p *program) info(file string, number int, format string, args ...any) {
	fmt.Fprintln(p.out, line("INFO", file, number, format, args...))
}

// serve loads the model and listens until a signal ends it.
func (p *program) serve(o options) int {
	device, reason := p.visible(o.backend)
	p.info("stable-diffusion.cpp", 713, "loading model from '%s'", o.model)
	if code, bad := p.checkModel(o.model); bad {
		return code
	}
	for _, part := range o.parts {
		if _, err := os.Stat(part); err != nil { // it goes on without
			fmt.Fprintln(p.out, line("WARN", "stable-diffusion.cpp", 753, "loading part from '%s' failed", part))
		}
	}
	p.info("stable-diffusion.cpp", 908, "Version: SD 1.x ")
	if reason != "" {
		return p.refuse(line("ERROR", "stable-diffusion.cpp", 630, "%s", reason), line("ERROR", "main.cpp", 92, "new_sd_ctx_t failed"))
	}
	scenario := p.settings.Scenario
	if err := backendtest.Load(backendtest.ScenarioPath(o.model), &scenario); err != nil {
		fatal(err)
	}
	p.start.Model, p.start.Device = o.model, device
	s := &server{program: p, options: o, scenario: scenario, number: p.startNumber(o.model), jobs: map[string]*record{}, wake: make(chan struct{}, 1)}
	p.record()
	if scenario.SlowOutput > 0 {
		p.out = &slow{pause: time.Duration(scenario.SlowOutput) * time.Microsecond}
	}
	if scenario.IgnoreTerm {
		signal.Ignore(syscall.SIGTERM)
	}
	if scenario.IgnoreKill {
		p.hold()
	}
	if code, ended := s.loadFaults(); ended {
		return code
	}
	if o.eager {
		s.load()
	}
	p.info("stable-diffusion.cpp", 1849, "running in eps-prediction mode")
	return s.listen()
}

// startNumber counts the starts with that model, this one included.
func (p *program) startNumber(model string) int {
	starts, err := backendtest.Starts(p.path)
	if err != nil {
		fatal(err)
	}
	n := 1
	for _, s := range starts {
		if s.Model == model {
			n++
		}
	}
	return n
}

// checkModel refuses what the real one refuses, in its words.
func (p *program) checkModel(path string) (code int, bad bool) {
	head := make([]byte, 9)
	f, err := os.Open(path)
	switch {
	case err != nil:
		fmt.Fprintln(p.out, line("WARN", "model_loader.cpp", 254, "file %s not found", path))
	default:
		n, _ := io.ReadFull(f, head)
		f.Close()
		if string(head[:min(n, 4)]) == "GGUF" || n == 9 && head[8] == '{' {
			format := "safetensors"
			if head[0] == 'G' {
				format = "gguf"
			}
			p.info("model_loader.cpp", 242, "load %s using %s format", path, format)
			return 0, false
		}
		fmt.Fprintln(p.out, line("WARN", "model_loader.cpp", 252, "unknown format %s", path))
	}
	return p.refuse(
		line("ERROR", "stable-diffusion.cpp", 715, "init model loader from file failed: '%s'", path),
		line("ERROR", "stable-diffusion.cpp", 905, "get sd version from file failed: '%s'", path),
		line("ERROR", "main.cpp", 92, "new_sd_ctx_t failed"),
	), true
}

// slow writes stdout byte by byte.
type slow struct {
	mu    sync.Mutex
	pause time.Duration
}

func (s *slow) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range b {
		if _, err := os.Stdout.Write(b[i : i+1]); err != nil {
			return i, err
		}
		time.Sleep(s.pause)
	}
	return len(b), nil
}

// die ends the process by a signal, as a program without handlers does. Go's own handlers would print goroutines and exit with
// status 2, so they are taken out first (rt_sigaction with SIG_DFL).
func die(s syscall.Signal) {
	defaultAction := make([]byte, 64)
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&defaultAction[0])), 0, 8, 0, 0)
	_ = unix.Kill(os.Getpid(), s)
	hang()
}

// stem is a file's name without its extension.
func stem(path string) string {
	base := filepath.Base(path)
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// hang does nothing for ever. An empty select would not do: without another goroutine Go ends the program.
func hang() {
	for {
		time.Sleep(time.Hour)
	}
}
