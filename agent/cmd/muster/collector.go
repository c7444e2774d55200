package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/pflag"

	"muster/agent/telemetry"
	"muster/agent/telemetry/amdsmi"
	"muster/agent/telemetry/child"
	"muster/agent/telemetry/nvml"
)

// collector is the subcommand that the agent starts itself with, to read through a vendor's library in a process of its own.
// People never need it, so it stands in no help text.
const collector = "collector"

// collect is the whole life of a collector. It stays away from the command line's and the server's code, which take memory.
func collect(args []string) error {
	reader, err := collected(args)
	if err != nil {
		return err
	}
	in, out, err := child.TakeStdio()
	if err != nil {
		return err
	}
	// Being killed inside a driver call can hang the device: the end of stdin is what ends it, and SIGTERM likewise.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	_ = os.WriteFile("/proc/self/comm", []byte("muster-"+reader.Name()), 0) // for lists of processes, which else show "exe"
	debug.FreeOSMemory()                                                    // what the other subcommands prepared
	return child.Serve(ctx, build, reader, in, out)
}

// collected gives the reader that the arguments name.
func collected(args []string) (telemetry.Reader, error) {
	flags := pflag.NewFlagSet(collector, pflag.ContinueOnError)
	library := flags.String("library", "", "path of the vendor's library")
	root := flags.String("root", "/", "folder that holds the machine's sys")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	switch name := flags.Arg(0); name {
	case "nvml":
		return nvml.New(*library), nil
	case "amdsmi":
		return amdsmi.New(amdsmi.Config{Library: *library, Root: *root}), nil
	default:
		return nil, fmt.Errorf("unknown collector %q", name)
	}
}
