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
	"strings"

	"github.com/spf13/cobra"

	"muster/agent"
	"muster/shared/job"
)

// exportName is what the list of jobs is called in a folder.
const exportName = "jobs.ndjson"

func exportCommand(config *agent.Config) *cobra.Command {
	var to, state, set string
	var images bool
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write all jobs of the running agent, and their images, as files",
		Long:  "Write all jobs of the running agent as JSON, one a line, oldest first: to standard output, or to the file that -o names.\nWith -o FOLDER they go to FOLDER/" + exportName + ", and with --images every finished image beside it, named by its job.\nIt can be interrupted and run again: images that are there already, whole, are not fetched twice.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if images && to == "" {
				return errors.New("--images needs a folder: name it with -o")
			}
			client, err := newClient(cmd, config)
			if err != nil {
				return err
			}
			query := url.Values{}
			for name, value := range map[string]string{"state": state, "set_id": set} {
				if value != "" {
					query.Set(name, value)
				}
			}
			return export(cmd, client, "/api/v1/jobs/export?"+query.Encode(), to, images)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&to, "output", "o", "", "file, or folder (default: standard output)")
	flags.StringVar(&state, "state", "", "only this state: queued, running, succeeded, failed or cancelled")
	flags.StringVar(&set, "set", "", "only the images of this set, by its ID")
	flags.BoolVar(&images, "images", false, "write the images too, into the folder that -o names; made if missing")
	return cmd
}

// export writes the list of jobs to where a person said, then their images.
func export(cmd *cobra.Command, client *client, path, to string, images bool) error {
	ctx := cmd.Context()
	if to == "" {
		return copyJobs(ctx, client, path, cmd.OutOrStdout())
	}
	info, err := os.Stat(to)
	switch folder := err == nil && info.IsDir(); {
	case folder, images, strings.HasSuffix(to, string(filepath.Separator)):
		if err := os.MkdirAll(to, 0o700); err != nil {
			return err
		}
		to = filepath.Join(to, exportName)
	case err == nil && !info.Mode().IsRegular(): // a pipe or a terminal must not be replaced by a file
		file, err := os.OpenFile(to, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(copyJobs(ctx, client, path, file), file.Close())
	}
	if err := writeWhole(to, func(file io.Writer) error { return copyJobs(ctx, client, path, file) }); err != nil || !images {
		return err
	}
	return exportImages(ctx, client, to, cmd.ErrOrStderr())
}

// copyJobs writes the agent's answer. It fails when that breaks off.
func copyJobs(ctx context.Context, client *client, path string, to io.Writer) error {
	body, err := client.stream(ctx, path)
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(to, body); err != nil {
		return fmt.Errorf("the list of jobs broke off: %w", err)
	}
	return nil
}

// exportImages fetches the images of a list of jobs into its folder. Those that the agent has removed are told and left out.
func exportImages(ctx context.Context, client *client, list string, told io.Writer) error {
	file, err := os.Open(list)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := json.NewDecoder(file)
	there, gone := 0, 0
	for {
		var j job.Job
		if err := lines.Decode(&j); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("read %s: %w", list, err)
		}
		if j.ImageID == "" {
			continue
		}
		err := keepImage(ctx, client, j, filepath.Dir(list))
		if notFound(err) {
			gone++
			continue
		}
		if ctx.Err() != nil {
			return interrupted(ctx, "%d images are there: run it again for the others", there)
		}
		if err != nil {
			return fmt.Errorf("%w; %d images are there: run it again for the others", err, there)
		}
		there++
	}
	fmt.Fprintf(told, "%d images are in %s\n", there, filepath.Dir(list))
	if gone > 0 {
		return fmt.Errorf("%d images are no longer kept by the agent", gone)
	}
	return nil
}
