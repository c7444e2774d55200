package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/builtin"
	"muster/agent/backend/comfyui"
	"muster/agent/scheduler"
	"muster/agent/server"
	"muster/shared/gpu"
	"muster/shared/wire"
)

// attached is a generator that somebody else runs.
type attached interface {
	backend.Backend
	Run(context.Context) error
	Device() (gpu.Device, bool)
	Problem() error
	Models() []backend.Model
	Status() wire.Generator
	Owns(pid int) bool
	// Was is the stable ID of the device that it worked on when it was seen last, while it is away and not known to have one; "" otherwise.
	Was() string
}

// fleet starts a generator for each device.
type fleet interface {
	Run(context.Context) error
	Serves(gpu.Device) error
	Backend() backend.Backend
	Models() []backend.Model
	Owns(pid int) bool
	Generators([]gpu.Device) []wire.Generator
}

// generators are the programs that make images on this machine. A device is one generator's: the first attached one that works on it,
// else the fleet's; the processor is the sketch renderer's where no other works on it. None of the methods blocks but Run.
type generators struct {
	machine  *attach.Machine
	shelf    *shelf
	attached []attached
	fleet    fleet           // nil for none
	sketch   backend.Backend // needs no model and no device

	workflows *comfyui.Workflows // nil without ComfyUI
}

// Run asks the attached ones what they are, and owns what the fleet starts, until ctx ends.
func (g *generators) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	if g.fleet != nil {
		group.Go(func() error { return g.fleet.Run(ctx) })
	}
	for _, a := range g.attached {
		group.Go(func() error { return a.Run(ctx) })
	}
	return group.Wait()
}

// claims gives by ID of a device the attached generator that has it.
func (g *generators) claims() map[string]attached {
	claimed := map[string]attached{}
	for _, a := range g.attached {
		if dev, known := a.Device(); known && claimed[dev.ID] == nil {
			claimed[dev.ID] = a
		}
	}
	return claimed
}

// returning gives by ID of a device that nobody claims the attached generator that worked there when it was seen last, and is away. It
// may work elsewhere when it is back, so it takes the device from nobody.
func (g *generators) returning(claimed map[string]attached) map[string]attached {
	expected := map[string]attached{}
	for _, a := range g.attached {
		if id := a.Was(); id != "" && claimed[id] == nil && expected[id] == nil {
			expected[id] = a
		}
	}
	return expected
}

// awaited gives the models of the attached generators that are away, or whose device is not known yet.
func (g *generators) awaited() []scheduler.Awaited {
	var list []scheduler.Awaited
	for _, a := range g.attached {
		if _, known := a.Device(); known {
			continue // it has a slot, or never gets one: another generator has its device
		}
		switch status := a.Status(); status.State {
		case wire.GeneratorStarting, wire.GeneratorUnreachable:
			if models := g.shelf.enabled(a.Models()); len(models) > 0 {
				list = append(list, scheduler.Awaited{Generator: status.ID, Models: models})
			}
		}
	}
	return list
}

// slots gives every device that has a generator, those that can't be given work with the reason, and the CPU: while a device serves, or
// somebody's own generator is only away, the sketch renderer there goes on with what was accepted before and takes nothing new.
func (g *generators) slots(inventory gpu.Inventory) []scheduler.Slot {
	var slots []scheduler.Slot
	claimed := g.claims()
	expected := g.returning(claimed)
	served := false
	add := func(slot scheduler.Slot, problem error, owns func(int) bool) {
		if g.machine.CanTell { // numbers of processes that may be another PID namespace's say nothing
			slot.Owns = owns
		}
		if problem != nil {
			slot.Problem = problem.Error()
		} else {
			served = true
		}
		slots = append(slots, slot)
	}
	for _, device := range append(slices.Clone(inventory.Devices), backend.CPU()) {
		switch a := claimed[device.ID]; {
		case a != nil:
			add(scheduler.Slot{Device: device, Backend: a, Generator: a.Status().ID, Models: g.shelf.enabled(a.Models())}, a.Problem(), a.Owns)
		case device.Index != gpu.CPU && g.fleet != nil:
			slot := scheduler.Slot{Device: device, Backend: g.fleet.Backend(), Models: g.shelf.enabled(g.fleet.Models())}
			problem := g.fleet.Serves(device)
			if problem == nil && len(slot.Models) == 0 {
				problem = errNoModel
			}
			add(slot, problem, g.fleet.Owns)
		case expected[device.ID] != nil:
			a := expected[device.ID]
			if problem := a.Problem(); problem != nil { // else it is back this very moment, perhaps elsewhere
				add(scheduler.Slot{Device: device, Backend: a, Generator: a.Status().ID, Models: g.shelf.enabled(a.Models())}, problem, a.Owns)
			}
		}
	}
	return append(slots, scheduler.Slot{Device: backend.CPU(), Backend: g.sketch, Models: []backend.Model{builtin.Model()}, Fallback: served || len(g.attached) > 0})
}

// list tells of every generator, in words for people.
func (g *generators) list() []wire.Generator {
	claimed := g.claims()
	var list []wire.Generator
	for _, a := range g.attached {
		status := a.Status()
		if dev, known := a.Device(); known && claimed[dev.ID] != a {
			status.State = wire.GeneratorUnusable
			status.Problem = fmt.Sprintf("%s takes its images by %s already: a device has one generator, so leave one of the two out of muster's settings",
				dev.Index.Label(), titleOf(claimed[dev.ID].Status()))
		}
		list = append(list, status)
	}
	if inventory := g.machine.Inventory(); inventory != nil && g.fleet != nil {
		free := slices.DeleteFunc(slices.Clone(inventory.Devices), func(dev gpu.Device) bool { return claimed[dev.ID] != nil })
		for _, one := range g.fleet.Generators(free) {
			if one.Models == 0 && one.Problem == "" {
				one.State, one.Problem = wire.GeneratorUnusable, errNoModel.Error()
			}
			list = append(list, one)
		}
	}
	if claimed[backend.CPU().ID] == nil {
		list = append(list, sketcher(g.sketch, new(gpu.CPU)))
	}
	return list
}

// titleOf is what people call a generator: "ComfyUI 0.3.62 at 127.0.0.1:8188", "sd-server" for one that does not run.
func titleOf(g wire.Generator) string {
	title := g.Title
	if title == "" || title == g.Kind {
		title = wire.KindTitle(g.Kind)
	}
	if g.Address != "" {
		title += " at " + g.Address
	}
	return title
}

// sketcher tells of the built-in renderer; dev is nil where it serves every device, as on simulated machines.
func sketcher(sketch backend.Backend, dev *gpu.Ref) wire.Generator {
	return wire.Generator{ID: sketch.Name(), Kind: sketch.Name(), Title: builtin.Model().Title, Device: dev, State: wire.GeneratorReady, Models: 1}
}

// named says whether a generator has a model of that name that is no workflow.
func (g *generators) named(name string) bool {
	if g.workflows != nil && slices.ContainsFunc(g.workflows.List(), func(w wire.Workflow) bool { return w.Name == name }) {
		return false // it is replaced
	}
	has := func(m backend.Model) bool { return m.Name == name }
	return g.fleet != nil && slices.ContainsFunc(g.fleet.Models(), has) ||
		slices.ContainsFunc(g.attached, func(a attached) bool { return slices.ContainsFunc(a.Models(), has) })
}

// imports lets the administrator import workflows; without ComfyUI there are none.
func (g *generators) imports() server.Workflows {
	w := g.workflows
	if w == nil {
		return server.Workflows{}
	}
	return server.Workflows{
		List: w.List,
		Import: func(ctx context.Context, name string, text []byte, replace bool) (wire.Workflow, error) {
			if g.named(name) {
				return wire.Workflow{}, workflowFault{fmt.Errorf("a model is called %q already: give the workflow another name with --name", name)}
			}
			kept, err := w.Import(name, text, replace)
			if err != nil {
				return wire.Workflow{}, refused(err)
			}
			return wire.Workflow{Name: name, Slots: kept.Slots(), Lacks: g.lacks(ctx, kept)}, nil
		},
		Remove: func(name string) error { return refused(w.Remove(name)) },
	}
}

// lacks has every attached ComfyUI look at what there is now, and says what each lacks for a workflow. One that does not answer says nothing.
func (g *generators) lacks(ctx context.Context, w *comfyui.Workflow) (words []string) {
	for _, a := range g.attached {
		comfy, ok := a.(*comfyui.Generator)
		if !ok {
			continue
		}
		comfy.Server().Look()
		if comfy.Problem() != nil {
			continue
		}
		if lacks, err := comfy.Lacks(ctx, w); err == nil && len(lacks) > 0 {
			words = append(words, comfy.Server().Name()+" lacks "+gpu.Listed(lacks))
		}
	}
	return words
}

// refused tells the server which errors are the workflow's.
func refused(err error) error {
	if errors.Is(err, comfyui.ErrWorkflow) {
		return workflowFault{err}
	}
	return err
}

// workflowFault is a fault of a workflow, in ComfyUI's own words.
type workflowFault struct{ error }

// Is says that it is what the server calls one.
func (workflowFault) Is(target error) bool { return target == server.ErrWorkflow }
