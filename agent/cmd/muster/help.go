package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// showOwnFlags has the help of every subcommand show what is its own. The settings are flags of all of them, for each may need the data
// folder or the devices: they stand in the help of serve alone.
func showOwnFlags(root, serve *cobra.Command) {
	root.Flags().SortFlags, serve.InheritedFlags().SortFlags = false, false // they stand in the order of what they are for
	serve.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "Global Flags:", "Settings:", 1))
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if cmd == root || cmd == serve {
			help(cmd, args)
			return
		}
		var hidden []*pflag.Flag
		root.PersistentFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				f.Hidden, hidden = true, append(hidden, f)
			}
		})
		help(cmd, args)
		for _, f := range hidden {
			f.Hidden = false
		}
		if takesSettings(cmd) {
			fmt.Fprintf(cmd.OutOrStdout(), "\nBesides it takes the settings of muster serve, such as --data and --config: see %s.\n", serve.CommandPath()+" --help")
		}
	})
}

// takesSettings says whether the settings change what a command does.
func takesSettings(cmd *cobra.Command) bool {
	for c := cmd; c != nil; c = c.Parent() {
		switch c.Name() {
		case "version", "help", "completion", "bench":
			return false
		}
	}
	return cmd.Runnable()
}
