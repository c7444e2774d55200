package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"muster/agent"
	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// doctorTicks is how many looks doctor takes at most: enough for values that are differences between two of them, and for the
// first details.
const doctorTicks = 4

// examineMachine looks at the devices through every reader, asks each what it needs and found, and gives the devices it saw. The
// generators are those of the configuration; where it names none, those of the running agent.
func examineMachine(ctx context.Context, config *agent.Config, running running, report *report) (seen []gpu.Device, err error) {
	log := slog.New(slog.DiscardHandler)
	hardware, err := newHardware(config, log)
	faulty := err != nil
	if faulty { // a generator that can't be set up hides no device
		report.fault("%v", err)
		bare := *config
		bare.SDServer, bare.ComfyUIDir, bare.ComfyUI, bare.SDAPI, bare.OpenAI = "", "", nil, nil, nil
		if hardware, err = newHardware(&bare, log); err != nil {
			return nil, nil
		}
	}
	ticks := 0
	hardware.Collect = together(hardware.Collect, hardware.Run) // attached generators are asked meanwhile; nothing is started
	err = watch(ctx, config, hardware, log, func(l look) (bool, error) {
		if hardware.See != nil {
			hardware.See(l.inventory, l.report)
		}
		if ticks++; ticks < doctorTicks && (l.report == nil || ticks == 1 || asking(hardware)) {
			return false, nil
		}
		seen = l.inventory.Devices
		found := findings(ctx, hardware)
		examineInventory(l, found, report)
		examineSettings(config, len(seen), report)
		for _, finding := range found {
			report.finding(finding)
		}
		switch {
		case !namesGenerators(config) && len(running.generators) > 0:
			report.note("the generators are those of the agent at http://%s; give doctor the flags of muster serve to have others looked at", running.address)
			examineGenerators(running.generators, seen, report)
		case !faulty:
			examineWishes(config, hardware.Generators(), seen, report)
			examineGenerators(hardware.Generators(), seen, report)
		}
		return true, nil
	})
	return seen, err
}

// examineDeadline is how long a reader may take to say what it found.
const examineDeadline = 10 * time.Second

type examiner interface {
	Examine(context.Context) []telemetry.Finding
}

// findings asks every reader at once, and gives their answers in the readers' order. One that does not answer is a finding.
func findings(ctx context.Context, hardware agent.Hardware) (all []telemetry.Finding) {
	ctx, cancel := context.WithTimeout(ctx, examineDeadline)
	defer cancel()
	type asked struct {
		name   string
		answer chan []telemetry.Finding
	}
	var list []asked
	ask := func(name string, reader any) {
		e, ok := reader.(examiner)
		if !ok {
			return
		}
		answer := make(chan []telemetry.Finding, 1)
		list = append(list, asked{name, answer})
		go func() { answer <- e.Examine(ctx) }()
	}
	for _, reader := range hardware.Readers {
		ask(reader.Name(), reader)
	}
	ask("host", hardware.Host)
	for _, a := range list {
		select {
		case found := <-a.answer:
			all = append(all, found...)
		case <-ctx.Done():
			all = append(all, telemetry.Finding{Level: telemetry.LevelFault, Subject: a.name, Text: fmt.Sprintf("did not answer within %v", examineDeadline),
				Costs: "what is shown of its devices may be old", Mend: "see the kernel log (sudo dmesg); if a driver hangs, only a reboot helps"})
		}
	}
	return all
}

// examineInventory says what is listed; problems that a finding tells with what they cost are left to it.
func examineInventory(l look, found []telemetry.Finding, report *report) {
	inventory := l.inventory
	report.good("%d device(s) detected; %s", len(inventory.Devices), cmp.Or(versions(inventory.Host), "no GPU driver, ROCm or PyTorch found"))
	for i, device := range inventory.Devices {
		name := device.Index.Label() + " " + device.Name
		r := reading(l.snapshot, inventory, i)
		switch {
		case device.Error != "":
			report.fault("%s: %s", name, device.Error)
		case !r.State.Usable():
			report.fault("%s: %s", name, state(device, r))
		case r.State == gpu.StateSuspended:
			report.good("%s is asleep and was not woken", name)
		default:
			report.good("%s, %s GiB in use", name, memory(device, r))
		}
		if mend := stateMend[r.State]; mend != "" {
			report.mend(mend)
		}
		examineDetails(name, r, l.details(i), report)
	}
	if len(inventory.Devices) == 0 {
		report.note("a GPU that is missing here needs its driver: NVIDIA's with libnvidia-ml.so.1, or the kernel's amdgpu, i915 or xe; lspci shows what is plugged in")
	}
	for _, problem := range inventory.Problems {
		if !slices.ContainsFunc(found, func(f telemetry.Finding) bool {
			return f.Level != telemetry.LevelOK && strings.Contains(problem, f.Text)
		}) {
			report.fault("%s", problem)
		}
	}
	for _, adapter := range inventory.OtherAdapters {
		report.note("%s %s is a display adapter that no GPU driver of muster's serves; it takes no work", adapter.PCIAddress, adapter.Name)
		if mend := adapterMend(adapter.Driver); mend != "" {
			report.mend(mend)
		}
	}
	if inventory.Host.Torch == nil {
		report.note("no PyTorch found; muster does not need it. Name the interpreter with --python to have its versions shown")
	}
}

// stateMend is what a person can do about a device's state.
var stateMend = map[gpu.State]string{
	gpu.StateStuck:          "see the kernel log (sudo dmesg); if its driver hangs, only a reboot helps",
	gpu.StateLost:           "load its driver; if that is loaded, reboot, and check the card's power, heat, slot and riser if it comes again",
	gpu.StateDriverMismatch: "reboot, or unload the old kernel module and load the new one",
	gpu.StateNoDriver:       "install its driver, or load its kernel module",
	gpu.StateNoPermission:   "sudo usermod -aG video,render $USER, and log in again",
}

// adapterMend says how a card that another driver has becomes a device; "" where nothing can be done.
func adapterMend(driver string) string {
	switch driver {
	case "radeon":
		return "it is too old, unless its chip is GCN 1 or 2: start Linux with radeon.si_support=0 amdgpu.si_support=1, or radeon.cik_support=0 amdgpu.cik_support=1"
	case "nouveau", "nova", "nova_core":
		return "install NVIDIA's driver, and reboot"
	case "vfio-pci":
		return "it was given to a virtual machine; run muster there"
	}
	return ""
}

// examineDetails says what can't be true, and what wears the device out.
func examineDetails(name string, r gpu.Reading, d gpu.Details, report *report) {
	for _, field := range r.Suspect {
		report.note("%s: %s contradicts its other values (a load of 100 %% with idle power and engines that stand still): nothing is decided by it", name, field)
	}
	for _, x := range d.Disagreements {
		report.note("%s: two sources differ by more than %.0f %%: %s; the first is shown", name, 100*gpu.DisagreementShare, disagreementWords(x))
	}
	for _, f := range d.Faults {
		report.note("%s reported %s %d at %s: %s", name, f.Kind, f.Code, f.Time.Local().Format("15:04:05"), cmp.Or(f.Text, "see the maker's documentation"))
	}
	if e := d.ECC; e != nil && e.UncorrectedVolatile != nil && *e.UncorrectedVolatile > 0 {
		report.fault("%s: %d memory errors that could not be corrected since the driver was loaded: test the card, and replace it if they come back", name, *e.UncorrectedVolatile)
	}
	if rows := d.RemappedRows; rows != nil && rows.Failed {
		report.fault("%s: no spare rows are left in its memory: replace the card", name)
	} else if rows != nil && rows.Pending {
		report.note("%s: a row of its memory will be replaced at the next reset: reboot when you can", name)
	}
	if d.ProcessesHidden != "" {
		report.note("%s: %s", name, d.ProcessesHidden)
	}
}

// together runs both, either of which may be nil.
func together(a, b func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		for _, run := range []func(context.Context) error{a, b} {
			if run != nil {
				group.Go(func() error { return run(ctx) })
			}
		}
		return group.Wait()
	}
}
