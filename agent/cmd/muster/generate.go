package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"muster/agent"
	"muster/shared/gpu"
	"muster/shared/job"
)

// poll is how often the command line asks for progress; the agent publishes it at most 4 times a second.
const poll = 250 * time.Millisecond

func generateCommand(config *agent.Config) *cobra.Command {
	var spec job.Spec
	var dir, device string
	var seed int64
	var guidance float64
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "generate PROMPT",
		Short: "Generate images on the running agent and save them",
		Long:  "Generate images on the running agent and save them as PNG files. PROMPT - reads it from standard input,\nwhich keeps it out of the process list. The images are made even if the agent is started again meanwhile: the command\nwaits for it. Ctrl-C cancels what is not finished and saves what is; a second one ends the command at once.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New(`give one prompt, in quotes if it has spaces: muster generate "a lighthouse at dusk"`)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			spec.Prompt = args[0]
			if args[0] == "-" {
				raw, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), job.MaxPrompt+1))
				if err != nil {
					return err
				}
				spec.Prompt = strings.TrimSpace(string(raw))
			}
			if cmd.Flags().Changed("seed") {
				spec.Seed = &seed
			}
			if cmd.Flags().Changed("guidance") {
				spec.Guidance = &guidance
			}
			if err := checkTyped(spec, cmd.Flags()); err != nil {
				return err
			}
			client, err := newClient(cmd, config)
			if err != nil {
				return err
			}
			if device != "" {
				if err := pinTo(cmd.Context(), client, device, &spec); err != nil {
					return err
				}
			}
			return generate(cmd, client, spec, dir, asJSON)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.IntVarP(&spec.Count, "count", "n", 1, "images (1 to 16)")
	flags.StringVarP(&dir, "output", "o", ".", "folder for the images; made if missing")
	flags.StringVar(&device, "device", "", "make every image on this device: its number, cpu, or its stable ID (default: spread them)")
	flags.StringVar(&spec.Model, "model", "", "model (default: the agent's)")
	flags.StringVar(&spec.NegativePrompt, "negative", "", "what the images should not show")
	flags.IntVar(&spec.Width, "width", 0, "pixels (default: what suits the model)")
	flags.IntVar(&spec.Height, "height", 0, "pixels (default: what suits the model)")
	flags.IntVar(&spec.Steps, "steps", 0, "sampling steps (default: what suits the model)")
	flags.StringVar(&spec.Sampler, "sampler", "", "sampler (default: what suits the model)")
	flags.Float64Var(&guidance, "guidance", 0, "guidance scale (default: what suits the model)")
	flags.Int64Var(&seed, "seed", 0, "seed of the first image (default: random)")
	flags.IntVar(&spec.Priority, "priority", 0, "-10 to 10, higher first")
	flags.BoolVar(&asJSON, "json", false, "print the finished jobs as JSON and no progress")
	completeFlag(cmd, "device", complete(config, suggestDevices))
	completeFlag(cmd, "model", complete(config, suggestModels))
	completeFlag(cmd, "output", onlyFolders)
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	return cmd
}

// checkTyped refuses what no agent takes. In a job.Spec 0 stands for what was left out: one that was typed is none of these.
func checkTyped(spec job.Spec, typed *pflag.FlagSet) error {
	checked := spec.WithDefaults()
	for flag, value := range map[string]struct{ to, from *int }{
		"width": {&checked.Width, &spec.Width}, "height": {&checked.Height, &spec.Height}, "steps": {&checked.Steps, &spec.Steps}, "count": {&checked.Count, &spec.Count},
	} {
		if typed.Changed(flag) {
			*value.to = *value.from
		}
	}
	return checked.Validate()
}

// pinTo pins by number where a person named the device by it, else by stable ID, of which cpu is one.
func pinTo(ctx context.Context, client *client, name string, spec *job.Spec) error {
	device, err := namedDevice(ctx, client, name)
	if err != nil {
		return err
	}
	if name == device.Index.String() && device.Index != gpu.CPU {
		spec.DeviceID = &device.Index
		return nil
	}
	spec.DeviceKey = device.ID
	return nil
}

func generate(cmd *cobra.Command, client *client, spec job.Spec, dir string, asJSON bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	ctx := cmd.Context()
	e := &errand{spec: spec, key: "muster-" + rand.Text(), dir: dir, saved: map[string]bool{}, view: newProgressView(cmd.OutOrStdout(), asJSON)}
	e.patience = patience{client: client, tell: cmd.ErrOrStderr(), above: e.view.above, kept: e.keptWords}
	err := e.submit(ctx)
	if err == nil {
		e.tellTaken()
		err = e.follow(ctx)
	}
	if err != nil && ctx.Err() != nil {
		err = e.giveUp(ctx)
	} else if err != nil {
		return e.explain(err)
	}
	if asJSON && e.jobs != nil {
		err = errors.Join(err, json.NewEncoder(cmd.OutOrStdout()).Encode(jobList{Jobs: e.jobs}))
	}
	if err != nil {
		return err
	}
	if !asJSON && len(e.saved) > 0 {
		fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace(e.savedWords("")))
	}
	return e.failure()
}

// tellTaken says what was taken that was not asked for in so many words: the model that the agent chose, and what it had to change.
func (e *errand) tellTaken() {
	if len(e.jobs) > 0 && e.spec.Model == "" {
		j := e.jobs[0]
		fmt.Fprintf(e.tell, "model %s, %dx%d, %d steps\n", j.Model, j.Width, j.Height, j.Steps)
	}
	for _, note := range e.notes {
		fmt.Fprintln(e.tell, note)
	}
}

// failure says how many images were not made; nil when all were. On a terminal, where lines are short, it says why too.
func (e *errand) failure() error {
	left := unmade(e.jobs)
	if len(left) == 0 {
		return nil
	}
	text := fmt.Sprintf("%d of %d images were not made", len(left), len(e.jobs))
	var reasons []string
	for _, j := range left {
		if words := oneLine(why(j)); e.view.live && words != absent && !slices.Contains(reasons, words) {
			reasons = append(reasons, words)
		}
	}
	if len(reasons) > 0 {
		text += ": " + strings.Join(reasons, "; ")
	}
	return errors.New(text)
}
