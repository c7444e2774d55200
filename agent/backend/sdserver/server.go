package sdserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/exchange"
	"muster/agent/process"
	"muster/shared/gpu"
	"muster/shared/sampler"
)

// server is one running sd-server. Whoever has its slot's turn owns it.
type server struct {
	child *process.Child
	port  int
	model backend.Model
	out   *output
	api   *api
	lazy  bool // it loads the model with its first job, not before it listens
	lean  bool // its text encoders were kept off the device because they had found no room there

	ready    bool
	loadTook time.Duration // from start to ready
	stepped  bool          // it has finished a job: its kernels are compiled
	samplers *sampler.List // as it says itself; nil when it does not
}

// errPort says that the port went to somebody else: another one will do.
var errPort = errors.New("the port is taken by another program")

// errSlow says that a child did not become ready in time.
var errSlow = errors.New("sd-server did not finish loading in time")

// launch starts a child for the model on a free port. It does not wait until it is ready. lean leaves the device's memory to what must be
// there.
func (f *Fleet) launch(dev gpu.Device, p pin, model backend.Model, lean bool) (*server, error) {
	port, err := f.freePort()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(f.cfg.Dir, folderName(dev.ID))
	empty := filepath.Join(dir, "none")
	if err := os.MkdirAll(empty, 0o700); err != nil {
		return nil, fmt.Errorf("working folder of sd-server: %w", err)
	}
	b, placed := f.program.Load().build, placement(model, dev, p.backend, lean)
	s := &server{port: port, model: model, out: newOutput(), api: newAPI(port, f.limits.answer), lazy: !b.flags["--eager-load"], lean: lean}
	s.child, err = f.start(process.Command{
		Path: f.cfg.Program, Args: b.arguments(port, model, f.threads(dev), placed, empty),
		Env: append(environment(f.cfg, dir), p.env...), Dir: dir,
		Stdout: s.out.stdout, Stderr: s.out.stderr, Grace: f.limits.grace,
	})
	if err != nil {
		return nil, err
	}
	f.cfg.Log.Info("sd-server starts", "device", dev.Index.Label(), "backend", placed, "mask", strings.Join(p.env, " "),
		"model", model.Name, "pid", s.child.PID(), "port", port)
	return s, nil
}

// arguments are those of a child: as many as this build knows. The empty folder keeps it from walking its working folder for
// LoRAs with every job.
func (b build) arguments(port int, model backend.Model, threads int, device, empty string) []string {
	args := append([]string{"--listen-ip", "127.0.0.1", "--listen-port", strconv.Itoa(port)}, modelArguments(model)...)
	if b.flags["--eager-load"] {
		args = append(args, "--eager-load")
	}
	args = append(args, "--seed", "-1", "-t", strconv.Itoa(threads), "--backend", device)
	for _, flag := range []string{"--lora-model-dir", "--hires-upscalers-dir"} {
		if b.flags[flag] {
			args = append(args, flag, empty)
		}
	}
	return args
}

// environment is that of every program run here, but for the mask.
func environment(cfg Config, dir string) []string {
	return append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + dir, "TMPDIR=" + dir, "LANG=C.UTF-8",
		"GGML_NO_BACKTRACE=1", // its crash handler runs a debugger, which delays the end by seconds
	}, cfg.Env...)
}

var unsafeInName = regexp.MustCompile(`[^A-Za-z0-9._-]`)

func folderName(id string) string { return "device-" + unsafeInName.ReplaceAllString(id, "_") }

func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port on loopback: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// await blocks until the child is ready for jobs. Its error is errPort, errSlow, or errDied when the child ended; when ctx
// ended, the child is left loading for whoever comes next.
func (s *server) await(ctx context.Context, l limits) error {
	deadline := l.load + time.Duration(loads(s.model)/loadBytes)*time.Second
	pause := 20 * time.Millisecond
	for !s.ready {
		err := s.check(ctx)
		switch {
		case err == nil:
			s.ready, s.loadTook = true, s.child.Age()
			return nil
		case errors.Is(err, errPort):
			return err
		case s.child.Age() > deadline:
			return errSlow
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.child.Done():
			return errDied
		case <-time.After(pause):
			pause = min(2*pause, 250*time.Millisecond)
		}
	}
	return nil
}

// errDied says that the child ended.
var errDied = errors.New("sd-server ended")

// check gives nil when it is our child that listens, with our model in place. Its log line "listening on" proves nothing: it is
// printed on a busy port too, just before the child ends with status 0.
func (s *server) check(ctx context.Context) error {
	who, err := process.OwnerOf(s.port, s.child.PID())
	switch {
	case err != nil:
		return fmt.Errorf("can't tell who listens: %w", err)
	case who == process.Nobody:
		return errors.New("does not listen yet")
	case who == process.Foreign:
		return errPort
	}
	if err := s.api.loaded(ctx); err != nil {
		return err
	}
	c, err := s.api.capabilities(ctx)
	if err != nil {
		return err
	}
	if filepath.Clean(c.Model.Path) != s.model.Path && !sameFile(c.Model.Path, s.model.Path) {
		return errPort
	}
	if len(c.Samplers) > 0 {
		s.samplers = &sampler.List{Samplers: sampler.Named(c.Samplers...), Schedules: sampler.Named(c.Schedules...)}
	}
	return nil
}

func sameFile(a, b string) bool {
	one, errOne := os.Stat(a)
	two, errTwo := os.Stat(b)
	return errOne == nil && errTwo == nil && os.SameFile(one, two)
}

// alive says whether a ready child still runs, alone on its port.
func (s *server) alive() error {
	select {
	case <-s.child.Done():
		return errDied
	default:
	}
	if who, err := process.OwnerOf(s.port, s.child.PID()); err != nil || who != process.Ours {
		return errPort
	}
	return nil
}

// sampler translates a name that people use ("Euler a", "DPM++ 2S a Karras") into sd-server's ("euler_a"; "dpm++2s_a" and "karras"); it
// would ignore one that it does not know.
func (s *server) sampler(name string) (own, schedule string, err error) {
	if name == "" || s.samplers == nil {
		return name, "", nil
	}
	own, schedule, ok := s.samplers.Find(name)
	if !ok {
		return "", "", fmt.Errorf("sampler %q is not known to sd-server: choose one of %s, or none", name, exchange.Clean(strings.Join(s.samplers.Titles(), ", ")))
	}
	return own, schedule, nil
}
