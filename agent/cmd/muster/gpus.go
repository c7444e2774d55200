package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/agent"
	"muster/shared/gpu"
)

func gpusCommand(config *agent.Config) *cobra.Command {
	var asJSON, follow, long bool
	cmd := &cobra.Command{
		Use:   "gpus",
		Short: "Show every GPU of this machine",
		Long:  "Show every GPU of this machine, as its drivers tell. No agent needs to run. Give it the hardware flags of muster serve\n(--nvml, --amdsmi, --sysroot, --simulate), so that it looks at the same devices.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
			hardware, err := newHardware(config, log)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			paced := *config
			if !follow {
				paced.Interval = min(paced.Interval, lookInterval)
			}
			ticks := 0
			return watch(cmd.Context(), &paced, hardware, log, func(l look) (bool, error) {
				if ticks++; !l.settled(ticks, asJSON || long) {
					return false, nil
				}
				return !follow, show(out, l, asJSON, long, follow && terminal(out))
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print inventory, snapshot and details as JSON, one line each time")
	cmd.Flags().BoolVar(&long, "details", false, "print every value with its source, and why others are absent; processes and faults too")
	cmd.Flags().BoolVar(&follow, "watch", false, "go on until interrupted, every --interval")
	return cmd
}

const (
	// lookInterval is the time between the ticks of a command that prints once.
	lookInterval = 300 * time.Millisecond
	// detailTicks is how many ticks at most the first details are waited for.
	detailTicks = 8
	// sourceTicks is how many it takes until the inventory says where the values come from: the readers learn that from the first
	// calls, the inventory is made anew after these, and the details once more for it.
	sourceTicks = 4
)

// settled says whether a look has what a person asked for, at that tick: the values that take two measurements, those of parts
// and, where they are wanted, every detail with its source.
func (l look) settled(tick int, detailed bool) bool {
	known := len(l.inventory.Devices) == 0 || l.report != nil && l.report.Revision == l.inventory.Revision
	return tick >= detailTicks || known && (!detailed || tick >= sourceTicks || len(l.inventory.Devices) == 0)
}

func show(out io.Writer, l look, asJSON, long, clear bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(map[string]any{"inventory": l.inventory, "snapshot": l.snapshot, "details": l.report})
	}
	var text strings.Builder
	if clear {
		text.WriteString("\033[H\033[2J")
	}
	printGPUs(&text, l, lineWidth(out))
	if long {
		printDetails(&text, l)
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// printGPUs writes what there is, and the table of it in lines of so many characters; 0 is no limit.
func printGPUs(text *strings.Builder, l look, width int) {
	inventory := l.inventory
	fmt.Fprintf(text, "%d device(s) detected", len(inventory.Devices))
	if inventory.Simulated() {
		text.WriteString(" (simulated)")
	}
	if total := inventory.TotalMemoryBytes(); total > 0 {
		fmt.Fprintf(text, ", %.2f GiB VRAM", gpu.RoundGiB(total))
	}
	if found := versions(inventory.Host); found != "" {
		text.WriteString(" · " + found)
	}
	if len(inventory.Devices) == 0 {
		fmt.Fprintf(text, " · images are drawn by the CPU, %d cores", inventory.Host.CPUCount)
	}
	text.WriteByte('\n')
	if len(inventory.Devices) > 0 {
		t := deviceTable(l)
		t.fit(width, "MP", "CC", "PCI")
		t.write(text)
	}
	for _, adapter := range inventory.OtherAdapters {
		fmt.Fprintf(text, "other adapter: %s %s (no GPU driver serves it; it takes no work)\n", adapter.PCIAddress, adapter.Name)
	}
	for _, problem := range inventory.Problems {
		fmt.Fprintf(text, "problem: %s\n", problem)
	}
}

// deviceTable has a line for each device and each part of one that is divided.
func deviceTable(l look) table {
	t := table{{"ID", "NAME", "MEMORY GiB", "LOAD", "TEMP", "POWER", "CC", "MP", "PCI", "STATE"}}
	for i, device := range l.inventory.Devices {
		r := reading(l.snapshot, l.inventory, i)
		t = append(t, []string{device.Index.String(), device.Name, memory(device, r),
			number(r.UtilizationPercent, "%.0f %%"), number(r.TemperatureCelsius(), "%.0f °C"), number(r.PowerWatts, "%.0f W"),
			word(device.ComputeCapability), number(device.MultiprocessorCount, "%d"), word(device.PCIAddress), state(device, r)})
		for n, part := range device.Partitions {
			p := partition(part, l.details(i), n)
			t = append(t, []string{"", "  " + part.Name, memory(part, gpu.Reading{MemoryTotalBytes: p.MemoryTotalBytes, MemoryUsedBytes: p.MemoryUsedBytes}),
				number(p.UtilizationPercent, "%.0f %%"), "", "", word(part.ComputeCapability), number(part.MultiprocessorCount, "%d"), "", ""})
		}
	}
	return t
}

// partition is what was read of the n-th part of a device; empty while nothing was.
func partition(part gpu.Device, d gpu.Details, n int) gpu.PartitionReading {
	if n >= len(d.Partitions) || d.Partitions[n].ID != part.ID {
		return gpu.PartitionReading{}
	}
	return d.Partitions[n]
}

// reading is what was read of a device of the inventory; empty while nothing was.
func reading(snapshot *gpu.Snapshot, inventory *gpu.Inventory, device int) gpu.Reading {
	if snapshot.Revision != inventory.Revision || device >= len(snapshot.GPUs) {
		return gpu.Reading{}
	}
	return snapshot.GPUs[device]
}

// absent is what every view shows for a value that was not reported.
const absent = "—"

func number[N any](value *N, format string) string {
	if value == nil {
		return absent
	}
	return fmt.Sprintf(format, *value)
}

func word(value string) string {
	if value == "" {
		return absent
	}
	return value
}

func memory(device gpu.Device, r gpu.Reading) string {
	total := r.MemoryTotalBytes
	if total == nil {
		total = device.MemoryBytes
	}
	used, of := absent, absent
	if r.MemoryUsedBytes != nil {
		used = fmt.Sprintf("%.2f", gpu.RoundGiB(*r.MemoryUsedBytes))
	}
	if total != nil {
		of = fmt.Sprintf("%.2f", gpu.RoundGiB(*total))
	}
	return used + " / " + of
}

// stateWord is the state as the page says it. JSON and metrics have the state's own name.
func stateWord(s gpu.State) string {
	if s == gpu.StateSuspended {
		return "asleep"
	}
	return strings.ReplaceAll(string(s), "_", " ")
}

func state(device gpu.Device, r gpu.Reading) string {
	words := word(stateWord(r.State))
	if r.AgeMilliseconds >= 1000 {
		words += fmt.Sprintf(" (%d s old)", r.AgeMilliseconds/1000)
	}
	if device.Simulated {
		words += " simulated"
	}
	if device.Error != "" {
		words += ": " + device.Error
	}
	return words
}

// versions lists what was found of drivers and libraries; "" when nothing was.
func versions(h gpu.Host) string {
	parts := []string{}
	add := func(name, version string) {
		if version != "" {
			parts = append(parts, name+" "+version)
		}
	}
	add("NVIDIA driver", h.NVIDIADriver)
	add("CUDA", h.CUDAVersion)
	add("amdgpu", h.AMDGPUDriver)
	add("ROCm", h.ROCmVersion)
	if h.Torch != nil {
		add("PyTorch", h.Torch.Version)
	}
	return strings.Join(parts, ", ")
}

// terminal says whether a person watches the output as it comes.
func terminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
