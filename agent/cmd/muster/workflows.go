package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"muster/agent"
	"muster/shared/wire"
)

// generatorList is the answer of GET /api/v1/generators.
type generatorList struct {
	Generators []wire.Generator `json:"generators"`
}

// workflowList is the answer of GET /api/v1/workflows.
type workflowList struct {
	Workflows []wire.Workflow `json:"workflows"`
}

func workflowsCommand(config *agent.Config) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "workflows",
		Short: "List, import and remove ComfyUI workflows of your own",
		Long: "List, import and remove ComfyUI workflows of your own. Each is a model of its name: muster generate --model NAME.\n" +
			"In ComfyUI choose Workflow, Export (API). Prompt, seed, steps and size are found by the usual nodes; where they are\n" +
			"not, give the node that holds one the title muster:prompt, muster:negative, muster:seed, muster:steps, muster:cfg,\n" +
			"muster:width,height or muster:model, and the node that saves the image muster:output.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := newClient(cmd, config)
			if err != nil {
				return err
			}
			var list workflowList
			if err := client.do(cmd.Context(), "GET", "/api/v1/workflows", nil, &list); err != nil {
				return err
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 2, 0, 2, ' ', 0)
			fmt.Fprintln(table, "NAME\tYOU CAN CHOOSE\tPROBLEM")
			for _, w := range list.Workflows {
				fmt.Fprintf(table, "%s\t%s\t%s\n", w.Name, word(strings.Join(w.Slots, ", ")), word(w.Problem))
			}
			return table.Flush()
		},
	}
	cmd.AddCommand(importWorkflowCommand(config), removeWorkflowCommand(config))
	return cmd
}

// maxWorkflow is how much of a file is read: the agent takes less.
const maxWorkflow = 4 << 20

func importWorkflowCommand(config *agent.Config) *cobra.Command {
	var name string
	var force bool
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Import a workflow that ComfyUI exported in API format, and wait until it is a model",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one file that ComfyUI exported (Workflow, Export (API))")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := newClient(cmd, config)
			if err != nil {
				return err
			}
			text, err := readWorkflow(args[0])
			if err != nil {
				return err
			}
			if name == "" {
				name = strings.TrimSuffix(filepath.Base(args[0]), filepath.Ext(args[0]))
			}
			return importWorkflow(cmd.Context(), client, cmd.OutOrStdout(), name, text, force)
		},
		ValidArgsFunction: extension("json"),
	}
	cmd.Flags().StringVar(&name, "name", "", "of the model (default: the file's)")
	cmd.Flags().BoolVar(&force, "force", false, "replace a workflow of the same name")
	return cmd
}

func readWorkflow(path string) (jsonText, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxWorkflow))
}

// jsonText is sent as it is: what is wrong with it the agent explains.
type jsonText []byte

func removeWorkflowCommand(config *agent.Config) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a workflow",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("give the name of one workflow, as muster workflows lists it")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := newClient(cmd, config)
			if err != nil {
				return err
			}
			return removeWorkflow(cmd.Context(), client, cmd.OutOrStdout(), args[0])
		},
		ValidArgsFunction: complete(config, suggestWorkflows),
	}
}

func removeWorkflow(ctx context.Context, client *client, out io.Writer, name string) error {
	err := client.do(ctx, "DELETE", "/api/v1/workflows/"+url.PathEscape(name), nil, nil)
	if !notFound(err) {
		if err == nil {
			fmt.Fprintf(out, "%s is removed\n", name)
		}
		return err
	}
	here, listing := workflows(ctx, client)
	switch {
	case listing != nil: // there is no ComfyUI, and the agent says so
		return err
	case len(here) == 0:
		return fmt.Errorf("there is no workflow %q; none was imported", name)
	}
	return fmt.Errorf("there is no workflow %q; there are %s", name, strings.Join(here, ", "))
}

// workflows gives the names of those that were imported.
func workflows(ctx context.Context, c *client) (names []string, err error) {
	var list workflowList
	if err := c.do(ctx, "GET", "/api/v1/workflows", nil, &list); err != nil {
		return nil, err
	}
	for _, w := range list.Workflows {
		names = append(names, w.Name)
	}
	return names, nil
}

func suggestWorkflows(ctx context.Context, c *client) []string {
	names, _ := workflows(ctx, c) // nothing to suggest is no error
	return names
}
