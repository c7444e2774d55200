package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"muster/agent"
	"muster/shared/job"
)

// jobList is the answer of GET /api/v1/jobs.
type jobList struct {
	Jobs []job.Job `json:"jobs"`
	Next string    `json:"next"`
	// Expected is when the set is predicted to be done, where all of one was asked for; nil when that is not known.
	Expected *job.Expected `json:"expected,omitempty"`
}

func jobsCommand(config *agent.Config) *cobra.Command {
	var asJSON bool
	var state string
	var limit int
	cmd := &cobra.Command{
		Use:   "jobs",
		Short: "List jobs of the running agent, newest first",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := newClient(cmd, config)
			if err != nil {
				return err
			}
			query := url.Values{"limit": {strconv.Itoa(limit)}, "order": {"newest"}}
			if state != "" {
				query.Set("state", state)
			}
			var list jobList
			if err := client.do(cmd.Context(), "GET", "/api/v1/jobs?"+query.Encode(), nil, &list); err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(list)
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 2, 0, 2, ' ', 0)
			fmt.Fprintln(table, "ID\tSTATE\tDEVICE\tSTEP\tAGE\tEXPECTED\tPROMPT\tWHY")
			now := time.Now()
			for _, j := range list.Jobs {
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", j.ID, j.State, device(j), step(j), now.Sub(j.Created).Truncate(time.Second), word(expectedWords(j.Expected, now)), excerpt(j.Prompt), why(j))
			}
			return table.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the jobs as JSON")
	cmd.Flags().StringVar(&state, "state", "", "only this state: queued, running, succeeded, failed or cancelled")
	completeFlag(cmd, "state", cobra.FixedCompletions(words(job.States), cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().IntVar(&limit, "limit", 20, "jobs at most (1 to 1000)")
	cmd.AddCommand(cancelCommand(config), exportCommand(config))
	return cmd
}

func cancelCommand(config *agent.Config) *cobra.Command {
	return &cobra.Command{
		Use:   "cancel ID...",
		Short: "Cancel jobs",

		ValidArgsFunction: complete(config, suggestUnfinished),
		Args: func(_ *cobra.Command, ids []string) error {
			if len(ids) == 0 {
				return errors.New("give the ID of a job, as muster jobs lists it")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, ids []string) error {
			client, err := newClient(cmd, config)
			if err != nil {
				return err
			}
			for _, id := range ids {
				var j job.Job
				if err := client.do(cmd.Context(), "DELETE", "/api/v1/jobs/"+url.PathEscape(id), nil, &j); err != nil {
					return fmt.Errorf("%s: %w", id, err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is %s\n", id, j.State)
			}
			return nil
		},
	}
}

// excerpt is the beginning of a prompt on one line, without what a terminal would take for a command.
func excerpt(prompt string) string {
	const most = 32
	plain := strings.Join(strings.FieldsFunc(prompt, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }), " ")
	if runes := []rune(plain); len(runes) > most {
		return strings.TrimSpace(string(runes[:most-1])) + "…"
	}
	return plain
}

func device(j job.Job) string {
	if j.DeviceID == nil {
		return absent
	}
	if j.Simulated {
		return j.DeviceID.String() + " (simulated)"
	}
	return j.DeviceID.String()
}

func step(j job.Job) string {
	if j.State != job.Running || j.Progress.Steps == 0 {
		return absent
	}
	return fmt.Sprintf("%d/%d", j.Progress.Step, j.Progress.Steps)
}

func why(j job.Job) string {
	if j.Error != "" && j.State != job.Succeeded {
		return j.Error
	}
	return word(j.Reason)
}
