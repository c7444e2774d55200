package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"muster/agent"
	"muster/agent/scheduler"
	"muster/shared/gpu"
	"muster/webapp/dist"
)

func doctorCommand(config *agent.Config) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say what works on this machine, what does not, and what to do about it",
		Long:  "Say what works on this machine, what does not, and what to do about it. Give it the flags of muster serve,\nso that it looks at the same devices, generator and data folder.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report := &report{out: cmd.OutOrStdout()}
			if err := examineDevices(cmd, config, report); err != nil {
				return err
			}
			examineData(config, report)
			examineAgent(cmd, config, report)
			if report.bad > 0 {
				return fmt.Errorf("%d thing(s) need attention", report.bad)
			}
			return nil
		},
	}
}

// report prints findings as they come and counts the bad ones.
type report struct {
	out io.Writer
	bad int
}

func (r *report) good(format string, args ...any) { fmt.Fprintf(r.out, "ok    "+format+"\n", args...) }
func (r *report) note(format string, args ...any) { fmt.Fprintf(r.out, "note  "+format+"\n", args...) }
func (r *report) fault(format string, args ...any) {
	r.bad++
	fmt.Fprintf(r.out, "FAULT "+format+"\n", args...)
}

func examineDevices(cmd *cobra.Command, config *agent.Config, report *report) error {
	log := slog.New(slog.DiscardHandler)
	hardware, err := newHardware(config, log)
	if err != nil {
		report.fault("%v", err)
		return nil
	}
	return watch(cmd.Context(), config, hardware, log, func(l look) (bool, error) {
		examineInventory(l.inventory, l.snapshot, report)
		examineGenerators(hardware.Slots(*l.inventory), config, report)
		return true, nil
	})
}

func examineGenerators(slots []scheduler.Slot, config *agent.Config, report *report) {
	for _, slot := range slots {
		name := slot.Device.Index.Label()
		if slot.Problem != "" {
			report.fault("%s cannot generate: %s", name, slot.Problem)
			continue
		}
		report.good("%s generates with %s, %d model(s)", name, slot.Backend.Name(), len(slot.Models))
	}
	if config.SDServer == "" {
		report.note("without --sd-server images are drawn by the built-in sketch renderer, which is no AI model and uses no GPU")
	}
}

func examineInventory(inventory *gpu.Inventory, snapshot *gpu.Snapshot, report *report) {
	report.good("%d device(s) detected; %s", len(inventory.Devices), cmp.Or(versions(inventory.Host), "no GPU driver, ROCm or PyTorch found"))
	for i, device := range inventory.Devices {
		switch {
		case device.Error != "":
			report.fault("%s %s: %s", device.Index.Label(), device.Name, device.Error)
		case i < len(snapshot.GPUs) && !snapshot.GPUs[i].State.Usable():
			report.fault("%s %s is %s", device.Index.Label(), device.Name, snapshot.GPUs[i].State)
		default:
			report.good("%s %s, %s GiB in use", device.Index.Label(), device.Name, memory(device, reading(snapshot, inventory, i)))
		}
	}
	if len(inventory.Devices) == 0 {
		report.note("a GPU that is missing here needs its driver: NVIDIA's with libnvidia-ml.so.1, or the kernel's amdgpu; lspci shows what is plugged in")
	}
	for _, problem := range inventory.Problems {
		report.fault("%s", problem)
	}
	for _, adapter := range inventory.OtherAdapters {
		report.note("%s %s is a display adapter without a GPU driver; it takes no work", adapter.PCIAddress, adapter.Name)
	}
	if inventory.Host.Torch == nil {
		report.note("no PyTorch found; muster does not need it. Name the interpreter with --python to have its versions shown")
	}
}

// fewBytes is how little free space draws attention: the queue refuses new work below 2 GB.
const fewBytes = 10 << 30

func examineData(config *agent.Config, report *report) {
	if err := os.MkdirAll(config.Data, 0o700); err != nil {
		report.fault("data folder: %v; choose another with --data", err)
		return
	}
	if err := unix.Access(config.Data, unix.W_OK); err != nil {
		report.fault("data folder %s: %v; choose another with --data", config.Data, err)
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(config.Data, &disk); err != nil {
		report.fault("disk of %s: %v", config.Data, err)
	} else if free := disk.Bavail * uint64(disk.Bsize); free < fewBytes {
		report.fault("disk of %s: %.1f GiB free; below 2 GB new work is refused", config.Data, gpu.RoundGiB(free))
	} else {
		report.good("data folder %s, %.1f GiB free", config.Data, gpu.RoundGiB(free))
	}
	if _, err := fs.Stat(dist.FS(), "index.html"); err != nil {
		report.fault("this build has no app in it: run make build")
	}
}

func examineAgent(cmd *cobra.Command, config *agent.Config, report *report) {
	address, err := agent.Address(*config)
	if errors.Is(err, fs.ErrNotExist) {
		report.note("no agent runs with this data folder; start one with muster serve")
		return
	}
	client, err := newClient(cmd, config)
	if err == nil {
		err = client.do(cmd.Context(), "GET", "/readyz", nil, nil)
	}
	if err != nil {
		report.fault("agent at %s: %v", address, err)
		return
	}
	report.good("agent at http://%s is ready", address)
}
