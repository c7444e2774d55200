package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
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
				var ref gpu.Ref
				if err := parseRef(device, &ref); err != nil {
					return err
				}
				spec.DeviceID = &ref
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
	flags.StringVar(&device, "device", "", "make every image on this device: its number, or cpu (default: spread them)")
	flags.StringVar(&spec.Model, "model", "", "model (default: the agent's)")
	flags.StringVar(&spec.NegativePrompt, "negative", "", "what the images should not show")
	flags.IntVar(&spec.Width, "width", job.DefaultSide, "pixels")
	flags.IntVar(&spec.Height, "height", job.DefaultSide, "pixels")
	flags.IntVar(&spec.Steps, "steps", job.DefaultSteps, "sampling steps")
	flags.Float64Var(&guidance, "guidance", job.DefaultGuidance, "guidance scale")
	flags.Int64Var(&seed, "seed", 0, "seed of the first image (default: random)")
	flags.IntVar(&spec.Priority, "priority", 0, "-10 to 10, higher first")
	flags.BoolVar(&asJSON, "json", false, "print the finished jobs as JSON and no progress")
	return cmd
}

func parseRef(text string, ref *gpu.Ref) error {
	if text == gpu.CPU.String() {
		*ref = gpu.CPU
		return nil
	}
	rank, err := strconv.Atoi(text)
	if err != nil || rank < 0 {
		return fmt.Errorf("--device %s: want a device's number as muster gpus shows it, or cpu", text)
	}
	*ref = gpu.Ref(rank)
	return nil
}

func generate(cmd *cobra.Command, client *client, spec job.Spec, dir string, asJSON bool) error {
	if err := spec.Validate(); err != nil { // the flags have their defaults: a 0 was typed
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	ctx := cmd.Context()
	var accepted struct {
		SetID string    `json:"set_id"`
		Jobs  []job.Job `json:"jobs"`
	}
	if err := client.do(ctx, "POST", "/api/v1/jobs", spec, &accepted); err != nil {
		return err
	}
	view := &progressView{out: cmd.OutOrStdout(), live: !asJSON && terminal(cmd.OutOrStdout()), quiet: asJSON}
	jobs, err := follow(ctx, client, accepted.SetID, func(j job.Job) error { return save(ctx, client, j, dir) }, view)
	if ctx.Err() != nil {
		if jobs == nil { // interrupted before the first look
			jobs = accepted.Jobs
		}
		return errors.Join(errors.New("interrupted"), cancelSet(context.WithoutCancel(ctx), client, jobs))
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
		view.show(jobs)
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

// save writes an image as DIR/<job id>.png, which no other job has.
func save(ctx context.Context, client *client, j job.Job, dir string) error {
	response, err := client.send(ctx, "GET", "/api/v1/images/"+url.PathEscape(j.ImageID), nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	file, err := os.Create(filepath.Join(dir, imageName(j)))
	if err != nil {
		return err
	}
	_, err = io.Copy(file, response.Body)
	return errors.Join(err, file.Close())
}

func imageName(j job.Job) string { return filepath.Base(j.ID) + ".png" }

func cancelSet(ctx context.Context, client *client, jobs []job.Job) error {
	var failed error
	for _, j := range jobs {
		if !j.State.Terminal() {
			failed = errors.Join(failed, client.do(ctx, "DELETE", "/api/v1/jobs/"+url.PathEscape(j.ID), nil, nil))
		}
	}
	return failed
}

// progressView draws one line per image: bars over each other on a terminal, else a line for every image that ended.
type progressView struct {
	out         io.Writer
	live, quiet bool
	lines       int             // drawn by the last show
	told        map[string]bool // ids of ended jobs, without a terminal
}

const barWidth = 24

func (v *progressView) show(jobs []job.Job) {
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
		io.WriteString(v.out, text.String())
	default:
		if v.told == nil {
			v.told = map[string]bool{}
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
