package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
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
	var state, set string
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
			if set != "" {
				query.Set("set_id", set)
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
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", j.ID, j.State, device(j), step(j), now.Sub(j.Created).Truncate(time.Second), word(expectedWords(j.Expected, now)), excerpt(j.Prompt), oneLine(why(j)))
			}
			return table.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the jobs as JSON")
	cmd.Flags().StringVar(&state, "state", "", "only this state: queued, running, succeeded, failed or cancelled")
	completeFlag(cmd, "state", cobra.FixedCompletions(words(job.States), cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().StringVar(&set, "set", "", "only the images of this set, by its ID")
	cmd.Flags().IntVar(&limit, "limit", 20, "jobs at most (1 to 1000)")
	cmd.AddCommand(cancelCommand(config), exportCommand(config))
	return cmd
}

func cancelCommand(config *agent.Config) *cobra.Command {
	return &cobra.Command{
		Use:   "cancel ID...",
		Short: "Cancel jobs, or what is left of sets",

		ValidArgsFunction: complete(config, suggestUnfinished),
		Args: func(_ *cobra.Command, ids []string) error {
			if len(ids) == 0 {
				return errors.New("give the ID of a job, as muster jobs lists it, or that of a set")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, ids []string) error {
			client, err := newClient(cmd, config)
			if err != nil {
				return err
			}
			for _, id := range ids {
				words, err := cancel(cmd.Context(), client, id)
				if err != nil {
					return fmt.Errorf("%s: %w", id, err)
				}
				fmt.Fprintln(cmd.OutOrStdout(), words)
			}
			return nil
		},
	}
}

// cancel gives up a job, or what is left of a set, and says what became of it.
func cancel(ctx context.Context, client *client, id string) (words string, err error) {
	var j job.Job
	err = client.do(ctx, "DELETE", "/api/v1/jobs/"+url.PathEscape(id), nil, &j)
	if !notFound(err) {
		return fmt.Sprintf("%s is %s", id, j.State), err
	}
	set, err := cancelSet(ctx, client, id)
	if notFound(err) {
		return "", errors.New("there is no job and no set with this ID; muster jobs lists the newest jobs, muster jobs --json their sets too")
	}
	return fmt.Sprintf("set %s: %s", id, countWords(set.Jobs)), err
}

// notFound says that the agent answered that something is not there.
func notFound(err error) bool {
	refused := new(refusedError)
	return errors.As(err, &refused) && refused.status == http.StatusNotFound
}

// oneLine is a text on one line, without what a terminal would take for a command.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }), " ")
}

// excerpt is the beginning of a prompt on one line.
func excerpt(prompt string) string {
	const most = 32
	plain := oneLine(prompt)
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
