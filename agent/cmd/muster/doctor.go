package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"muster/agent"
	"muster/agent/telemetry"
	"muster/shared/gpu"
	"muster/shared/wire"
	"muster/webapp/dist"
)

func doctorCommand(config *agent.Config) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say what works on this machine, what does not, and what to do about it",
		Long:  "Say what works on this machine, what does not, and what to do about it. Give it the flags of muster serve,\nso that it looks at the same devices, generators and data folder. Without the flags of a generator it tells of those of the\nagent that runs with the data folder.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report := &report{out: cmd.OutOrStdout()}
			running := findRunning(cmd, config)
			seen, err := examineMachine(cmd.Context(), config, running, report)
			if err != nil {
				return err
			}
			examineData(config, report)
			examineAgent(cmd.Context(), running, seen, report)
			if report.bad > 0 {
				return fmt.Errorf("%d thing(s) need attention", report.bad)
			}
			return nil
		},
	}
}

// report prints findings as they come and counts the faults.
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

// finding prints what a reader found, what it costs and what mends it.
func (r *report) finding(f telemetry.Finding) {
	print := map[telemetry.Level]func(string, ...any){telemetry.LevelOK: r.good, telemetry.LevelNote: r.note}[f.Level]
	if print == nil {
		print = r.fault
	}
	print("%s: %s", f.Subject, f.Text)
	if f.Costs != "" {
		fmt.Fprintf(r.out, "      costs: %s\n", f.Costs)
	}
	if f.Mend != "" {
		r.mend(f.Mend)
	}
}

// mend says below a finding what a person can do.
func (r *report) mend(how string) { fmt.Fprintf(r.out, "      mend:  %s\n", how) }

// fewBytes is how little free space draws attention: the queue refuses new work below 2 GB.
const fewBytes = 10_000_000_000

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
		report.fault("disk of %s%s; below 2 GB new work is refused", config.Data, freeWords(&free))
	} else {
		report.good("data folder %s%s", config.Data, freeWords(&free))
	}
	if _, err := fs.Stat(dist.FS(), "index.html"); err != nil {
		report.fault("this build has no app in it: run make build")
	}
}

// running is the agent of the data folder, as doctor finds it.
type running struct {
	address    string // "" when none runs
	client     *client
	err        error            // why it can't be asked, or takes no work; nil when all is well
	generators []wire.Generator // nil when they are not known
}

// findRunning asks the agent of the data folder what doctor needs of it.
func findRunning(cmd *cobra.Command, config *agent.Config) (found running) {
	if found.address, found.err = agent.Address(*config); errors.Is(found.err, fs.ErrNotExist) {
		return running{}
	}
	if found.err != nil {
		return found
	}
	if found.client, found.err = newClient(cmd, config); found.err != nil {
		return found
	}
	found.err = found.client.do(cmd.Context(), "GET", "/readyz", nil, nil)
	var list generatorList
	if err := found.client.do(cmd.Context(), "GET", "/api/v1/generators", nil, &list); err == nil {
		found.generators = list.Generators
	} else if found.err == nil {
		found.err = err
	}
	return found
}

func examineAgent(ctx context.Context, running running, seen []gpu.Device, report *report) {
	switch {
	case running.address == "" && running.err == nil:
		report.note("no agent runs with this data folder; start one with muster serve")
		return
	case running.err != nil:
		report.fault("agent at %s: %v", running.address, running.err)
		return
	}
	report.good("agent at http://%s is ready", running.address)
	var theirs gpu.Inventory
	if err := running.client.do(ctx, "GET", "/api/v1/inventory", nil, &theirs); err != nil {
		report.fault("agent at %s: its devices: %v", running.address, err)
	} else if difference := compareDevices(seen, theirs.Devices); difference != "" {
		report.note("the agent %s: it was started with other flags or by another user; give doctor the flags of muster serve", difference)
	}
}

// compareDevices says how what the agent sees differs from what this command saw; "" when it does not.
func compareDevices(ours, theirs []gpu.Device) string {
	missing, more := without(ours, theirs), without(theirs, ours)
	switch {
	case len(missing) > 0:
		return "does not see " + missing[0].Name + " (" + missing[0].ID + ")"
	case len(more) > 0:
		return "sees " + more[0].Name + " (" + more[0].ID + "), which this command does not"
	}
	return ""
}

// without gives the devices of list that other does not have.
func without(list, other []gpu.Device) (left []gpu.Device) {
	for _, d := range list {
		if !slices.ContainsFunc(other, func(o gpu.Device) bool { return o.ID == d.ID }) {
			left = append(left, d)
		}
	}
	return left
}
