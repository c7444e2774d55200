package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"muster/agent"
	"muster/shared/model"
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

// importWorkflow hands a workflow to the agent, and says when it is a model, or what it lacks for that.
func importWorkflow(ctx context.Context, client *client, out io.Writer, name string, text jsonText, force bool) error {
	headers := []string{"If-None-Match", "*"}
	replaced := false
	if force {
		before, err := workflows(ctx, client)
		if err != nil {
			return err
		}
		headers, replaced = nil, slices.Contains(before, name)
	}
	var kept wire.Workflow
	err := client.do(ctx, "PUT", "/api/v1/workflows/"+url.PathEscape(name), text, &kept, headers...)
	if refused := new(refusedError); errors.As(err, &refused) && refused.status == http.StatusPreconditionFailed {
		return fmt.Errorf("a workflow called %q is here already: replace it with --force, or give this one another name with --name", name)
	}
	if err != nil {
		return err
	}
	if replaced {
		fmt.Fprintf(out, "%s is replaced\n", kept.Name)
	}
	if err := awaitModel(ctx, client, kept.Name); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is a model now; you can choose its %s\n", kept.Name, strings.Join(kept.Slots, ", "))
	if len(kept.Lacks) > 0 {
		return fmt.Errorf("its images will fail where something is missing: %s; install that there (with ComfyUI-Manager, for instance), or change the workflow", strings.Join(kept.Lacks, "; "))
	}
	return nil
}

// modelWait is how long an imported workflow may take to be offered: generators are asked every few seconds what they have.
const modelWait = 15 * time.Second

// awaitModel waits until a generator has a model, and says why none has when there is none that could, or when that takes too long.
func awaitModel(ctx context.Context, client *client, name string) error {
	last, cancel := context.WithTimeout(ctx, modelWait)
	defer cancel()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	var why []string
	for {
		var offers model.Offers
		err := client.do(last, "GET", "/api/v1/models", nil, &offers)
		switch {
		case ctx.Err() != nil:
			return interrupted(ctx, "%s is kept; muster models shows when it is a model", name)
		case err != nil && last.Err() == nil:
			return err
		case slices.ContainsFunc(offers.Models, func(m model.Offer) bool { return m.Name == name && !m.InLibrary && len(m.Generators) > 0 }):
			return nil
		}
		var list generatorList
		if last.Err() == nil && client.do(last, "GET", "/api/v1/generators", nil, &list) == nil {
			var hopeless bool
			if why, hopeless = withoutComfyUI(list.Generators); hopeless {
				return noModelYet(name, why)
			}
		}
		select {
		case <-last.Done():
			if ctx.Err() == nil {
				return noModelYet(name, why)
			}
		case <-ticker.C:
		}
	}
}

func noModelYet(name string, why []string) error {
	reason := fmt.Sprintf("no ComfyUI offered it within %s; muster models shows when one does", modelWait)
	if len(why) > 0 {
		reason = "no ComfyUI can be used now (" + strings.Join(why, "; ") + "); it is one as soon as one can"
	}
	return fmt.Errorf("%s is kept, but no model yet: %s", name, reason)
}

// withoutComfyUI says why no ComfyUI can be used; none when one can, or when that is not known. hopeless says that nothing will change
// that by itself soon: one that has no model yet may have one in a moment.
func withoutComfyUI(generators []wire.Generator) (why []string, hopeless bool) {
	hopeless = true
	for _, g := range generators {
		if g.Kind != "comfyui" {
			continue
		}
		if g.Problem == "" || g.State == wire.GeneratorStarting {
			return nil, false
		}
		hopeless = hopeless && (g.State == wire.GeneratorUnreachable || g.State == wire.GeneratorUnplaced)
		if !slices.Contains(why, g.Problem) {
			why = append(why, g.Problem)
		}
	}
	return why, hopeless && len(why) > 0
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
