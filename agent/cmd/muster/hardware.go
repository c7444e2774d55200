package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"muster/agent"
	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/builtin"
	"muster/agent/backend/comfyui"
	"muster/agent/backend/openai"
	"muster/agent/backend/sdapi"
	"muster/agent/backend/sdserver"
	"muster/agent/scheduler"
	"muster/agent/telemetry"
	"muster/agent/telemetry/adapters"
	"muster/agent/telemetry/amdgpu"
	"muster/agent/telemetry/amdsmi"
	"muster/agent/telemetry/child"
	"muster/agent/telemetry/host"
	"muster/agent/telemetry/intel"
	"muster/agent/telemetry/nvml"
	"muster/agent/telemetry/sim"
	"muster/shared/gpu"
	"muster/shared/wire"
)

// newHardware lists the readers and generators of this machine. A new one is added here and nowhere else.
func newHardware(config *agent.Config, log *slog.Logger) (agent.Hardware, error) {
	machine := host.New(host.Config{SysRoot: config.SysRoot, Python: config.Python, ProcessCommands: config.ProcessCommands})
	if config.Simulate != "" {
		simulated, err := sim.Parse(config.Simulate)
		if err != nil {
			return agent.Hardware{}, fmt.Errorf("--simulate: %w", err)
		}
		if config.SDServer != "" || config.ComfyUIDir != "" || len(config.ComfyUI)+len(config.SDAPI)+len(config.OpenAI) > 0 {
			log.Warn("--simulate: the generators that were given are not used, for simulated devices have the sketch renderer alone")
		}
		sketch := builtin.New(builtin.Config{Pace: simulated.Pace, Busy: simulated.Busy})
		return agent.Hardware{
			Readers: []telemetry.Reader{simulated}, Host: machine, DescribeProcesses: machine.DescribeProcesses,
			Slots:      func(inventory gpu.Inventory) []scheduler.Slot { return simulatedSlots(inventory, sketch, simulated) },
			Generators: func() []wire.Generator { return []wire.Generator{sketcher(sketch, nil)} },
		}, nil
	}
	if err := checkRoot(config.SysRoot); err != nil {
		return agent.Hardware{}, err
	}
	readers := []telemetry.Reader{amdgpu.New(config.SysRoot), intel.New(config.SysRoot)}
	collectors := collectors(config, log)
	for _, collector := range collectors {
		readers = append(readers, collector)
	}
	readers = append(readers, adapters.New(config.SysRoot))
	shelf := &shelf{dir: config.ModelsDir()}
	made, err := newGenerators(config, shelf, !machine.ForeignNumbers(), log)
	if err != nil {
		return agent.Hardware{}, err
	}
	hardware := agent.Hardware{Readers: readers, Host: machine, DescribeProcesses: machine.DescribeProcesses, Collect: func(ctx context.Context) error {
		var running errgroup.Group
		for _, collector := range collectors {
			running.Go(func() error { return collector.Run(ctx) })
		}
		return running.Wait()
	}}
	hardware.Run, hardware.See, hardware.Slots, hardware.Generators, hardware.Awaited = made.Run, made.machine.See, made.slots, made.list, made.awaited
	hardware.Remember = made.machine.Memory.Run
	hardware.Workflows = made.imports()
	hardware.Models = shelf.open
	return hardware, nil
}

// newGenerators lists the generators that the configuration names, which find model files on the shelf. canTell says that drivers
// number processes as this program does.
func newGenerators(config *agent.Config, shelf *shelf, canTell bool, log *slog.Logger) (*generators, error) {
	memory := attach.Remember(filepath.Join(config.Data, "generators.json"), log)
	made := &generators{machine: &attach.Machine{CanTell: canTell, Memory: memory}, shelf: shelf, sketch: builtin.New(builtin.Config{})}
	if err := made.attach(config, log); err != nil {
		return nil, err
	}
	sdServers, err := newFleet(config, shelf, log)
	if err != nil {
		return nil, err
	}
	if sdServers != nil { // not a nil *Fleet in an interface
		made.fleet = sdServers
	}
	if config.ComfyUIDir != "" {
		made.fleet, err = comfyui.NewFleet(comfyui.Config{
			Options: made.comfyOptions(log), Folder: config.ComfyUIDir, Python: config.ComfyUIPython, Dir: filepath.Join(config.Data, "comfyui"),
			Models: config.ModelsDir(), Env: passedOn(os.LookupEnv),
		})
		if err != nil {
			return nil, fmt.Errorf("--comfyui-dir: %w", err)
		}
	}
	return made, nil
}

// attach adds the generators that somebody else runs, in the order in which they claim devices.
func (g *generators) attach(config *agent.Config, log *slog.Logger) error {
	if len(config.ComfyUI) > 0 || config.ComfyUIDir != "" {
		g.workflows = comfyui.OpenWorkflows(filepath.Join(config.Data, "workflows"), log)
	}
	for _, kind := range []struct {
		name      string
		addresses []string
		make      func(attach.Config) attached
	}{
		{"comfyui", config.ComfyUI, func(c attach.Config) attached { return comfyui.New(c, g.machine, g.comfyOptions(log)) }},
		{"sdapi", config.SDAPI, func(c attach.Config) attached { return sdapi.New(c, g.machine, log) }},
		{"openai", config.OpenAI, func(c attach.Config) attached { return openai.New(c, g.machine, log) }},
	} {
		for _, address := range kind.addresses {
			c, err := attach.Parse(kind.name, address)
			if err != nil {
				return fmt.Errorf("--%s: %w", kind.name, err)
			}
			g.attached = append(g.attached, kind.make(c))
		}
	}
	return nil
}

func (g *generators) comfyOptions(log *slog.Logger) comfyui.Options {
	return comfyui.Options{Workflows: g.workflows, Log: log}
}

// off is the value of a library's flag that leaves it alone.
const off = "off"

// collectors are the readers of vendors' libraries, each in a process of its own. A library of this machine knows nothing of
// another root: it is asked there only when a person names it.
func collectors(config *agent.Config, log *slog.Logger) []*child.Reader {
	here := filepath.Clean(config.SysRoot) == "/"
	var list []*child.Reader
	add := func(name, title, library string, worth func() bool, args ...string) {
		if library == off || library == "" && !here {
			return
		}
		if library != "" {
			args = append(args, "--library", libraryFromHere(library))
		}
		list = append(list, child.New(child.Config{
			Name: name, Title: title, Path: ownProgram, Args: append([]string{collector, name}, args...), Env: withoutSettings(os.Environ()),
			Build: build, Worth: worth, Kill: config.KillCollectors, Log: log,
		}))
	}
	add("nvml", "NVML", config.NVML, func() bool { return nvml.Worth(config.SysRoot, config.NVML) })
	add("amdsmi", "AMD SMI", config.AMDSMI, func() bool { return amdsmi.Worth(config.SysRoot, config.AMDSMI) }, "--root", fromHere(config.SysRoot))
	return list
}

// fromHere makes a path absolute, for collectors work in another folder.
func fromHere(path string) string {
	if absolute, err := filepath.Abs(path); err == nil {
		return absolute
	}
	return path
}

// libraryFromHere leaves a bare name to the dynamic linker to find.
func libraryFromHere(path string) string {
	if !strings.ContainsRune(path, filepath.Separator) {
		return path
	}
	return fromHere(path)
}

// ownProgram starts this program as it runs: after an upgrade the path it was started by leads to another one, or to none. Its
// code is in memory already.
const ownProgram = "/proc/self/exe"

// withoutSettings leaves out muster's own variables: they may hold the token, and a collector needs none of them.
func withoutSettings(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, agent.EnvironmentPrefix) })
}

// checkRoot refuses a system root that is no folder: it would look like a machine without GPUs.
func checkRoot(root string) error {
	info, err := os.Stat(root)
	if err == nil && !info.IsDir() {
		err = errors.New("is no folder")
	}
	if err != nil {
		return fmt.Errorf("--sysroot %s: %w; name the folder that holds the machine's sys and proc", root, err)
	}
	return nil
}

// newFleet prepares sd-server for the whole models of the shelf; nil when no --sd-server is given.
func newFleet(config *agent.Config, shelf *shelf, log *slog.Logger) (*sdserver.Fleet, error) {
	if config.SDServer == "" {
		return nil, nil
	}
	return sdserver.New(sdserver.Config{
		Program: config.SDServer, Dir: filepath.Join(config.Data, "sd-server"), Threads: config.SDThreads,
		Models: shelf.complete, BackendName: config.SDBackend, Env: passedOn(os.LookupEnv), Log: log,
	})
}

// passedOn gives the variables of this environment that a generator may need and that choose no device: where libraries are,
// and the architecture that ROCm is told to take a card for. Everything else is left behind.
func passedOn(lookup func(string) (string, bool)) []string {
	var passed []string
	for _, name := range []string{"LD_LIBRARY_PATH", "HSA_OVERRIDE_GFX_VERSION"} {
		if value, ok := lookup(name); ok && value != "" {
			passed = append(passed, name+"="+value)
		}
	}
	return passed
}

func simulatedSlots(inventory gpu.Inventory, sketch backend.Backend, machine *sim.Machine) []scheduler.Slot {
	var slots []scheduler.Slot
	for _, device := range inventory.Devices {
		slots = append(slots, scheduler.Slot{
			Device: device, Backend: sketch, Models: []backend.Model{builtin.Model()}, Speed: machine.StepsPerSecond(device), Owns: machine.Owns,
		})
	}
	return slots
}
