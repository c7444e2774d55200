package comfyui

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

	"muster/agent/backend/exchange"
	"muster/agent/backend/fleet"
	"muster/agent/process"
	"muster/shared/gpu"
)

// child is one running ComfyUI of the fleet's. Whoever has its slot's turn owns it.
type child struct {
	*fleet.Child
	*server
	out    *output
	dir    string // its private folder
	fleet  *Fleet
	has    catalogue
	asked  time.Time // when it said what it has
	loaded string    // model that it made an image with last; "" for none
}

// errWrong says that a child can't be used.
var errWrong = errors.New("ComfyUI does not work on its device")

// launch starts a child on a free port. It does not wait until it answers.
func (f *Fleet) launch(dev gpu.Device, masks []string) (*child, error) {
	port, err := f.freePort()
	if err != nil {
		return nil, err
	}
	dir := fleet.Folder(f.cfg.Dir, dev)
	if err := f.prepare(dir); err != nil {
		return nil, err
	}
	i := f.install.Load()
	label := dev.Index.Label()
	c := &child{fleet: f, dir: dir, out: newOutput()}
	started, err := f.children.Start(process.Command{
		Path: i.python, Args: append([]string{f.main()}, i.arguments(dir, port, f.cfg.Models != "", dev.Index == gpu.CPU)...),
		Env: append(f.environment(dir), masks...), Dir: dir, Stdout: c.out.line, Stderr: c.out.line, Grace: f.limits.grace,
	})
	if err != nil {
		return nil, err
	}
	client := exchange.New(exchange.Config{Name: "ComfyUI", Base: "http://127.0.0.1:" + strconv.Itoa(port), Answer: f.limits.answer, IdleConnections: 2})
	c.Child = &fleet.Child{Process: started, Port: port, Close: client.Close}
	c.server = &server{
		api: api{client}, name: func() string { return "ComfyUI on " + label }, log: f.cfg.Log, limits: f.limits, gone: started.Done(),
		taken: func() { tidy(filepath.Join(dir, "output"), keptImages) },
	}
	f.cfg.Log.Info("ComfyUI starts", "device", label, "mask", strings.Join(masks, " "), "pid", started.PID(), "port", port)
	return c, nil
}

// prepare makes a child's folders, takes away the images of the one before, and writes where models are.
func (f *Fleet) prepare(dir string) error {
	for _, folder := range []string{"output", "input", "user"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o700); err != nil {
			return fmt.Errorf("working folder of ComfyUI: %w", err)
		}
	}
	tidy(filepath.Join(dir, "output"), 0)
	text, err := modelPaths(f.extraFolders())
	if err != nil || text == "" {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, modelPathsFile), []byte(text), 0o600); err != nil {
		return fmt.Errorf("working folder of ComfyUI: %w", err)
	}
	return nil
}

const modelPathsFile = "models.yaml"

// keptImages are the newest images that stay in a child's output folder: what ComfyUI has in its cache it does not save again.
const keptImages = 16

// tidy takes all but the newest images away. The images are in muster's own store; what can't be taken away is tried again later.
func tidy(output string, keep int) {
	root, err := os.OpenRoot(output)
	if err != nil {
		return
	}
	defer root.Close()
	folder, err := root.Open(prefixFolder)
	if err != nil {
		return
	}
	defer folder.Close()
	entries, _ := folder.ReadDir(-1)
	age := func(e os.DirEntry) time.Time {
		if info, err := e.Info(); err == nil {
			return info.ModTime()
		}
		return time.Time{}
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return age(b).Compare(age(a)) })
	for _, e := range entries[min(keep, len(entries)):] {
		if e.Type().IsRegular() {
			_ = root.Remove(filepath.Join(prefixFolder, e.Name()))
		}
	}
}

// arguments are those of a child: as many as this ComfyUI knows. The database is the child's own: a second one that opens ComfyUI's is
// refused.
func (i install) arguments(dir string, port int, models, cpu bool) []string {
	args := []string{"--listen", "127.0.0.1", "--port", strconv.Itoa(port)}
	add := func(flag string, value ...string) {
		if i.flags[flag] {
			args = append(append(args, flag), value...)
		}
	}
	add("--disable-auto-launch")
	add("--preview-method", "auto")
	add("--output-directory", filepath.Join(dir, "output"))
	add("--temp-directory", dir) // it makes, and empties, a folder temp there
	add("--input-directory", filepath.Join(dir, "input"))
	add("--user-directory", filepath.Join(dir, "user"))
	add("--database-url", "sqlite:///"+filepath.Join(dir, "comfyui.db"))
	if models {
		add("--extra-model-paths-config", filepath.Join(dir, modelPathsFile))
	}
	if cpu {
		add("--cpu")
	}
	return args
}

// environment is that of every program run here, but for the mask. Packages that a person installed for their own user are found by
// PYTHONUSERBASE, for HOME is another.
func (f *Fleet) environment(dir string) []string {
	env := append(fleet.Environment(dir), "PYTHONUNBUFFERED=1", "PYTHONIOENCODING=utf-8", "HF_HUB_DISABLE_TELEMETRY=1", "DO_NOT_TRACK=1")
	if home, err := os.UserHomeDir(); err == nil {
		env = append(env, "PYTHONUSERBASE="+filepath.Join(home, ".local"))
	}
	return append(env, f.cfg.Env...)
}

// await blocks until the child answers. Its errors are those of fleet.Child.Await, and errWrong.
func (c *child) await(ctx context.Context, onCPU bool) error {
	check := func(ctx context.Context) error { return c.check(ctx, onCPU) }
	return c.Await(ctx, c.limits.start, 500*time.Millisecond, check, errWrong)
}

// check gives nil when it is our child that listens, and works on the one device that it was shown.
func (c *child) check(ctx context.Context, onCPU bool) error {
	if err := c.Listens(); err != nil {
		return err
	}
	s, err := c.api.stats(ctx)
	if err != nil {
		return err
	}
	switch {
	case s.onCPU() != onCPU: // without a device that it can use ComfyUI may fall back to the processor without a word
		return fmt.Errorf("%w: it computes on the processor: check that its PyTorch is the one for this device", errWrong)
	case len(s.Devices) > 1:
		return fmt.Errorf("%w: it sees %d devices in spite of its mask", errWrong, len(s.Devices))
	}
	return c.ask(ctx)
}

// askEvery is how often a child is asked what it has, at most: it takes some exchanges.
const askEvery = 30 * time.Second

// ask has a child say what it has.
func (c *child) ask(ctx context.Context) error {
	has, err := c.api.catalogue(ctx)
	if err != nil {
		return err
	}
	c.has, c.asked = has, time.Now()
	c.fleet.catalogue.Store(&has)
	c.fleet.restock(func(*stock) {})
	return nil
}

// refresh asks a child again what it has: models come and go while it runs. One that does not answer keeps what it said.
func (c *child) refresh(ctx context.Context) { _ = c.ask(ctx) }
