package main

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/agent"
	"muster/agent/scheduler"
	"muster/agent/telemetry/sim"
	"muster/shared/gpu"
	"muster/shared/job"
)

// completeLimit bounds what a shell waits for when somebody presses Tab.
const completeLimit = 2 * time.Second

// suggest gives what may stand at a place of the command line, each "word" or "word<TAB>description".
type suggest func(ctx context.Context, c *client) []string

// complete makes a shell's completion of what the running agent says. Without an agent there is nothing to suggest, and no error: a
// message would be written into the line that is being typed.
func complete(config *agent.Config, from suggest) cobra.CompletionFunc {
	return func(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
		file, _ := cmd.Flags().GetString("config")
		if file == "" {
			file = os.Getenv(agent.EnvironmentPrefix + "CONFIG")
		}
		if config.Fill(cmd.Root().PersistentFlags(), file, os.LookupEnv) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		client, err := newClient(cmd, config)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeLimit)
		defer cancel()
		words := slices.DeleteFunc(from(ctx, client), func(word string) bool {
			name, _, _ := strings.Cut(word, "\t")
			return slices.Contains(given, name)
		})
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFlag gives a flag its completion.
func completeFlag(cmd *cobra.Command, flag string, with cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, with); err != nil {
		panic(err) // no such flag: a slip in this program
	}
}

// suggestDevices names the agent's devices by their numbers.
func suggestDevices(ctx context.Context, c *client) []string {
	var inventory gpu.Inventory
	if c.do(ctx, "GET", "/api/v1/inventory", nil, &inventory) != nil {
		return nil
	}
	var words []string
	for _, d := range inventory.Devices {
		words = append(words, d.Index.String()+"\t"+d.Name)
	}
	return append(words, "cpu\tthe processor")
}

// suggestAllDevices is suggestDevices for commands that also take all of them at once.
func suggestAllDevices(ctx context.Context, c *client) []string {
	if words := suggestDevices(ctx, c); words != nil {
		return append(words, "all\tevery device")
	}
	return nil
}

// suggestModels names the models that can be generated with now.
func suggestModels(ctx context.Context, c *client) []string {
	var status struct {
		Models []struct{ Name, Title string } `json:"available_models"`
	}
	if c.do(ctx, "GET", "/api/v1/setup/ai-models/status", nil, &status) != nil {
		return nil
	}
	var words []string
	for _, m := range status.Models {
		word := m.Name
		if m.Title != m.Name {
			word += "\t" + m.Title
		}
		words = append(words, word)
	}
	return words
}

// suggestUnfinished names the jobs that can still be cancelled.
func suggestUnfinished(ctx context.Context, c *client) []string {
	var words []string
	for _, state := range []job.State{job.Running, job.Queued} {
		var list jobList
		if c.do(ctx, "GET", "/api/v1/jobs?limit=50&order=newest&state="+string(state), nil, &list) != nil {
			return nil
		}
		for _, j := range list.Jobs {
			words = append(words, j.ID+"\t"+string(j.State)+": "+excerpt(j.Prompt))
		}
	}
	return words
}

// completeSettings gives the flags of muster serve their completions.
func completeSettings(root *cobra.Command) {
	completeFlag(root, "policy", cobra.FixedCompletions(words(scheduler.Policies), cobra.ShellCompDirectiveNoFileComp))
	completeFlag(root, "simulate", cobra.FixedCompletions(sim.Models(), cobra.ShellCompDirectiveNoFileComp))
	completeFlag(root, "config", extension("toml"))
	for _, folder := range []string{"data", "models", "sysroot"} {
		completeFlag(root, folder, onlyFolders)
	}
}

func onlyFolders(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

func extension(names ...string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return names, cobra.ShellCompDirectiveFilterFileExt
	}
}

// words gives named values as what a shell completes.
func words[T ~string](values []T) []string {
	list := make([]string, len(values))
	for i, value := range values {
		list[i] = string(value)
	}
	return list
}
