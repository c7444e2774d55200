// Command muster watches every GPU of this machine and spreads image generation over them. Its subcommands stand in one file
// each; hardware.go holds the list of readers and generators.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"muster/agent"
)

// build is set by the Makefile (git describe).
var build = "dev"

func main() {
	if len(os.Args) > 1 && os.Args[1] == collector {
		exit(collect(os.Args[2:]))
	}
	ctx := untilSignal(context.Background())
	exit(asEnded(ctx, command().ExecuteContext(ctx)))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "muster:", err)
	}
	os.Exit(exitCode(err))
}

func command() *cobra.Command {
	config := agent.Default()
	var file string
	root := &cobra.Command{
		Use:           "muster",
		Short:         "Watch every GPU of this machine, and generate images on all of them",
		Long:          "muster watches every GPU of this machine and spreads image generation over them.\nWithout a subcommand it serves, as muster serve does. Every flag has an environment variable\n(--allow-host is MUSTER_ALLOW_HOST) and a key of the same name in the file that --config names (TOML).",
		Args:          noArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if variable, ok := os.LookupEnv("MUSTER_CONFIG"); ok && !cmd.Flags().Changed("config") {
				file = variable
			}
			if err := config.Fill(cmd.Root().PersistentFlags(), file, os.LookupEnv); err != nil {
				return err
			}
			return config.Validate()
		},
	}
	root.PersistentFlags().SortFlags = false
	root.PersistentFlags().StringVar(&file, "config", "", "configuration file")
	config.AddFlags(root.PersistentFlags())
	completeSettings(root)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
	})
	serve := serveCommand(&config)
	root.RunE = serve.RunE
	root.AddCommand(serve, linkCommand(&config), gpusCommand(&config), generateCommand(&config), jobsCommand(&config), workflowsCommand(&config), devicesCommand(&config), modelsCommand(&config), doctorCommand(&config), benchCommand(), versionCommand())
	showOwnFlags(root, serve)
	return root
}

// noArgs is for commands that take flags alone: another word is a mistyped command, or a value that lost its flag.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unknown command %q; see %s --help", args[0], cmd.CommandPath())
	}
	return nil
}
