package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"muster/agent"
	"muster/webapp/dist"
)

func serveCommand(config *agent.Config) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Watch, serve the app and take generation commands (the default)",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
			hardware, err := newHardware(config, log)
			if err != nil {
				return err
			}
			err = agent.Run(cmd.Context(), *config, hardware, dist.FS(), build, cmd.OutOrStdout(), log)
			if stopped := cmd.Context().Err(); stopped != nil && errors.Is(err, stopped) {
				return nil // before it had begun
			}
			return err
		},
	}
}

func linkCommand(config *agent.Config) *cobra.Command {
	return &cobra.Command{
		Use:   "link",
		Short: "Print a new one-time link to the app of the running agent",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := newClient(cmd, config)
			if err != nil {
				return err
			}
			var link struct {
				URL string `json:"url"`
			}
			if err := client.do(cmd.Context(), "POST", "/api/v1/session/link", nil, &link); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), link.URL)
			return nil
		},
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of muster",
		Args:  noArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintf(cmd.OutOrStdout(), "muster %s (%s, %s/%s)\n", build, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}
