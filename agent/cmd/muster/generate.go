package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

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
		Long:  "Generate images on the running agent and save them as PNG files. PROMPT - reads it from standard input,\nwhich keeps it out of the process list. Ctrl-C cancels what is not finished.",
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
			if device != "" {
				pinTo(device, &spec)
			}
			client, err := newClient(cmd, config)
			if err != nil {
				return err
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
	flags.IntVar(&spec.Width, "width", job.DefaultSide, "pixels")
	flags.IntVar(&spec.Height, "height", job.DefaultSide, "pixels")
	flags.IntVar(&spec.Steps, "steps", job.DefaultSteps, "sampling steps")
	flags.Float64Var(&guidance, "guidance", job.DefaultGuidance, "guidance scale")
	flags.Int64Var(&seed, "seed", 0, "seed of the first image (default: random)")
	flags.IntVar(&spec.Priority, "priority", 0, "-10 to 10, higher first")
	flags.BoolVar(&asJSON, "json", false, "print the finished jobs as JSON and no progress")
	completeFlag(cmd, "device", complete(config, suggestDevices))
	completeFlag(cmd, "model", complete(config, suggestModels))
	completeFlag(cmd, "output", onlyFolders)
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	return cmd
}

// pinTo pins by number where the name is one, else by stable ID, of which cpu is one.
func pinTo(device string, spec *job.Spec) {
	if rank, err := strconv.ParseUint(device, 10, 31); err == nil {
		spec.DeviceID = new(gpu.Ref(rank))
		return
	}
	spec.DeviceKey = device
}

func generate(cmd *cobra.Command, client *client, spec job.Spec, dir string, asJSON bool) error {
	if err := spec.Validate(); err != nil { // the flags have their defaults: a 0 was typed
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	ctx := cmd.Context()
	setID, err := submit(ctx, client, spec)
	if err != nil {
		return err
	}
	view := &progressView{out: cmd.OutOrStdout(), live: !asJSON && terminal(cmd.OutOrStdout()), quiet: asJSON}
	jobs, err := follow(ctx, client, setID, func(j job.Job) error { return keepImage(ctx, client, j, dir) }, view)
	if ctx.Err() != nil {
		return errors.Join(errInterrupted, cancelSet(context.WithoutCancel(ctx), client, setID))
	}
	if err != nil {
		return err
	}
	if asJSON {
		err = json.NewEncoder(cmd.OutOrStdout()).Encode(jobList{Jobs: jobs})
	}
	failed := 0
	for _, j := range jobs {
		if j.State != job.Succeeded {
			failed++
		}
	}
	if failed > 0 {
		return errors.Join(err, fmt.Errorf("%d of %d images were not made", failed, len(jobs)))
	}
	return err
}

// follow asks for the jobs of a set until all have ended, and hands each that succeeded to save, once.
func follow(ctx context.Context, client *client, setID string, save func(job.Job) error, view *progressView) (jobs []job.Job, err error) {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	saved := map[string]bool{}
	for {
		var list jobList
		if err := client.do(ctx, "GET", "/api/v1/jobs?set_id="+url.QueryEscape(setID), nil, &list); err != nil {
			return jobs, err
		}
		jobs = list.Jobs
		ended := 0
		for _, j := range jobs {
			if j.State == job.Succeeded && !saved[j.ID] {
				if err := save(j); err != nil {
					return jobs, err
				}
				saved[j.ID] = true
			}
			if j.State.Terminal() {
				ended++
			}
		}
		view.show(jobs, list.Expected)
		if ended == len(jobs) {
			return jobs, nil
		}
		select {
		case <-ctx.Done():
			return jobs, ctx.Err()
		case <-ticker.C:
		}
	}
}

// progressView draws one line per image, and when the set is expected: bars over each other on a terminal, else a line for every
// image that ended.
type progressView struct {
	out         io.Writer
	live, quiet bool
	lines       int             // drawn by the last show
	told        map[string]bool // ids of ended jobs, without a terminal
	promised    bool            // when the set is expected was told, without a terminal
}

const barWidth = 24

func (v *progressView) show(jobs []job.Job, expected *job.Expected) {
	when := expectedWords(expected, time.Now())
	switch {
	case v.quiet:
	case v.live:
		var text strings.Builder
		if v.lines > 0 {
			fmt.Fprintf(&text, "\033[%dA", v.lines)
		}
		for _, j := range jobs {
			fmt.Fprintf(&text, "\r\033[K%s\n", line(j))
		}
		v.lines = len(jobs)
		text.WriteString("\033[J")
		if when != "" {
			fmt.Fprintf(&text, "expected %s\n", when)
			v.lines++
		}
		io.WriteString(v.out, text.String())
	default:
		if v.told == nil {
			v.told = map[string]bool{}
		}
		if when != "" && !v.promised {
			v.promised = true
			fmt.Fprintln(v.out, "expected", when)
		}
		for _, j := range jobs {
			if j.State.Terminal() && !v.told[j.ID] {
				v.told[j.ID] = true
				fmt.Fprintln(v.out, line(j))
			}
		}
	}
}

func line(j job.Job) string {
	done := 0
	if j.Progress.Steps > 0 {
		done = min(barWidth, j.Progress.Step*barWidth/j.Progress.Steps)
	}
	tail := why(j)
	if j.State == job.Succeeded {
		done, tail = barWidth, imageName(j)
	}
	return fmt.Sprintf("%2d [%s%s] %-9s on %-3s seed %d  %s", j.Ordinal+1, strings.Repeat("=", done), strings.Repeat(" ", barWidth-done), j.State, device(j), j.Seed, tail)
}
