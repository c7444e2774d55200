package sdserver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/exchange"
	"muster/agent/backend/fleet"
	"muster/agent/process"
	"muster/shared/gpu"
	"muster/shared/sampler"
)

// server is one running sd-server. Whoever has its slot's turn owns it.
type server struct {
	*fleet.Child
	model backend.Model
	out   *output
	api   *api
	lazy  bool // it loads the model with its first job, not before it listens
	// encoders is where its text encoders are; least what was known then, see slot.
	encoders, least residence
	pixels          int // of its newest job's image; 0 before the first

	loadTook time.Duration // from start to ready
	stepped  bool          // it has finished a job: its kernels are compiled
	samplers *sampler.List // as it says itself; nil when it does not
}

// launch starts a child for the model on a free port. It does not wait until it is ready. Its text encoders are no nearer to the device
// than least.
func (f *Fleet) launch(dev gpu.Device, p pin, model backend.Model, least residence) (*server, error) {
	port, err := f.freePort()
	if err != nil {
		return nil, err
	}
	dir := fleet.Folder(f.cfg.Dir, dev)
	empty := filepath.Join(dir, "none")
	if err := os.MkdirAll(empty, 0o700); err != nil {
		return nil, fmt.Errorf("working folder of sd-server: %w", err)
	}
	b := f.program.Load().build
	encoders := b.residence(model, dev, least)
	s := &server{model: model, out: newOutput(), api: newAPI(port, f.limits.answer), lazy: !b.flags["--eager-load"], encoders: encoders, least: least}
	child, err := f.children.Start(process.Command{
		Path: f.cfg.Program, Args: b.arguments(port, model, f.threads(dev, p, encoders), placement(p.backend, encoders), empty),
		Env: append(environment(f.cfg, dir), p.env...), Dir: dir,
		Stdout: s.out.stdout, Stderr: s.out.stderr, Grace: f.limits.grace,
	})
	if err != nil {
		return nil, err
	}
	s.Child = &fleet.Child{Process: child, Port: port, Close: s.api.close}
	f.cfg.Log.Info("sd-server starts", "device", dev.Index.Label(), "backend", p.backend, "mask", strings.Join(p.env, " "),
		"model", model.Name, "text encoders", encoders, "pid", child.PID(), "port", port)
	return s, nil
}

// arguments are those of a child: as many as this build knows. The empty folder keeps it from walking its working folder for
// LoRAs with every job.
func (b build) arguments(port int, model backend.Model, threads int, placed []string, empty string) []string {
	args := append([]string{"--listen-ip", "127.0.0.1", "--listen-port", strconv.Itoa(port)}, modelArguments(model)...)
	if b.flags["--eager-load"] {
		args = append(args, "--eager-load")
	}
	args = append(append(args, "--seed", "-1", "-t", strconv.Itoa(threads)), placed...)
	for _, flag := range []string{"--lora-model-dir", "--hires-upscalers-dir"} {
		if b.flags[flag] {
			args = append(args, flag, empty)
		}
	}
	return args
}

// environment is that of every program run here, but for the mask.
func environment(cfg Config, dir string) []string {
	// GGML's crash handler runs a debugger, which delays the end by seconds.
	return slices.Concat(fleet.Environment(dir), []string{"GGML_NO_BACKTRACE=1"}, cfg.Env)
}

// await blocks until the child is ready for jobs. Its errors are those of fleet.Child.Await.
func (s *server) await(ctx context.Context, l limits) error {
	if s.Ready {
		return nil
	}
	limit := l.load + time.Duration(loads(s.model)/loadBytes)*time.Second
	err := s.Await(ctx, limit, 250*time.Millisecond, s.check)
	if err == nil {
		s.loadTook = s.Process.Age()
	}
	return err
}

// begin readies it for a job's order.
func (s *server) begin(req backend.Request) {
	s.pixels = side(req.Width) * side(req.Height)
	s.out.begin()
}

// check gives nil when it is our child that listens, with our model in place. Its log line "listening on" proves nothing: it is
// printed on a busy port too, just before the child ends with status 0.
func (s *server) check(ctx context.Context) error {
	if err := s.Listens(); err != nil {
		return err
	}
	if err := s.api.loaded(ctx); err != nil {
		return err
	}
	c, err := s.api.capabilities(ctx)
	if err != nil {
		return err
	}
	if filepath.Clean(c.Model.Path) != s.model.Path && !sameFile(c.Model.Path, s.model.Path) {
		return fleet.ErrPort
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
