package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/shared/gpu"
	"muster/shared/model"
)

// installRequest is the body of POST /api/v1/models/install.
type installRequest struct {
	URL      string   `json:"url,omitempty"`
	Repo     string   `json:"repo,omitempty"`
	File     string   `json:"file,omitempty"`
	Revision string   `json:"revision,omitempty"`
	Name     string   `json:"name,omitempty"`
	SHA256   string   `json:"sha256,omitempty"`
	Device   *gpu.Ref `json:"device_id,omitempty"`
}

func (l *library) installCommand() *cobra.Command {
	var request installRequest
	var device string
	var detach bool
	cmd := &cobra.Command{
		Use:   "install NAME | URL | OWNER/REPO:FILE[@REVISION]",
		Short: "Install a model, and show how far it is; Ctrl-C leaves the agent at it",
		Long:  "Install a model: one that muster models recommend lists, by its name; any other .safetensors or .gguf file\nby its https address; or a file of a repository on the hub. The agent downloads it, goes on after a cut connection\nor a restart, and checks its SHA-256 where the hub or --sha256 says it.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("give one model to install; see %s --help", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: cobra.FixedCompletions(catalogued(), cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := newClient(cmd, l.config)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			if err := request.from(ctx, client, args[0]); err != nil {
				return err
			}
			if device != "" {
				to, err := namedDevice(ctx, client, device)
				if err != nil {
					return err
				}
				request.Device = &to.Index
			}
			var in model.Install
			if err := client.do(ctx, "POST", "/api/v1/models/install", request, &in); err != nil {
				return err
			}
			if detach {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "the agent installs %s: muster models shows how far it is, muster models stop %s ends it\n", in.Name, in.ID)
				return err
			}
			view := &installView{out: cmd.OutOrStdout(), live: terminal(cmd.OutOrStdout())}
			return followInstall(ctx, client, in, view, cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&request.SHA256, "sha256", "", "hash that the file must have, in hex (default: what the hub says)")
	flags.StringVar(&request.Name, "name", "", "name that the model shall have (default: the file's)")
	flags.StringVar(&device, "device", "", "load it on this device when it is here: its number or stable ID")
	flags.BoolVar(&detach, "detach", false, "return at once; the agent goes on")
	completeFlag(cmd, "device", complete(l.config, suggestDevices))
	return cmd
}

// from reads what a person wants to install.
func (q *installRequest) from(ctx context.Context, client *client, source string) error {
	switch repo, file, isRepo := strings.Cut(source, ":"); {
	case strings.Contains(source, "://"):
		q.URL = source
		return nil
	case isRepo && strings.Contains(repo, "/"):
		q.Repo = repo
		q.File, q.Revision, _ = strings.Cut(file, "@")
		return nil
	}
	var known model.Recommendations
	if err := client.do(ctx, "GET", "/api/v1/models/recommendations", nil, &known); err != nil {
		return err
	}
	for _, r := range known.Recommendations {
		if r.Name == source {
			q.Repo, q.File = r.Repo, r.File
			return nil
		}
	}
	return fmt.Errorf("%q is none of the models that muster models recommend lists; others are installed by their https address, or as OWNER/REPO:FILE", source)
}

// followInstall shows an installation until it ends. While the agent is away it is waited for, for it goes on then; tell is where a
// person is told that.
func followInstall(ctx context.Context, client *client, in model.Install, view *installView, tell io.Writer) error {
	agent := patience{client: client, tell: tell, above: view.above, sent: true, kept: func() string { return "it goes on installing " + in.Name + " when it is back" }}
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for !in.State.Ended() {
		view.show(in)
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
		err := agent.patiently(ctx, func(ctx context.Context) (err error) {
			in, err = installOf(ctx, client, in)
			return err
		})
		if ctx.Err() != nil {
			return interrupted(ctx, "the agent goes on installing %s: muster models shows how far it is, muster models stop %s ends it", in.Name, in.ID)
		}
		if err != nil {
			return err
		}
	}
	return view.end(in)
}

// installOf looks at an installation once more.
func installOf(ctx context.Context, client *client, in model.Install) (model.Install, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var list model.Installs
	if err := client.do(ctx, "GET", "/api/v1/models/installs", nil, &list); err != nil {
		return in, err
	}
	for _, now := range list.Installs {
		if now.ID == in.ID {
			return now, nil
		}
	}
	return in, fmt.Errorf("the agent knows nothing of the installation %s of %s any more", in.ID, in.Name)
}

// installView draws one line: over itself on a terminal, else anew for every state and trouble.
type installView struct {
	out  io.Writer
	live bool
	told string
}

func (v *installView) show(in model.Install) {
	if v.live {
		fmt.Fprint(v.out, eraseLine+shorten(oneLine(installLine(in)), max(0, lineWidth(v.out)-1)))
		return
	}
	told := string(in.State) + in.Error
	if told != v.told {
		v.told = told
		fmt.Fprintln(v.out, installWords(in))
	}
}

// eraseLine takes away what stands on the line of a terminal.
const eraseLine = "\r\033[K"

// above has something else written in place of the line, which comes again below it.
func (v *installView) above(write func()) {
	if v.live {
		fmt.Fprint(v.out, eraseLine)
	}
	write()
}

// end says how an installation ended: on the line that it went well, else by the error.
func (v *installView) end(in model.Install) error {
	if v.live {
		fmt.Fprint(v.out, eraseLine)
	}
	switch {
	case in.State == model.Installed && in.Error != "":
		return errors.New(in.Error)
	case in.State == model.Installed:
		_, err := fmt.Fprintln(v.out, installWords(in))
		return err
	case in.Error == "":
		return fmt.Errorf("%s was not installed: somebody stopped it", in.Name)
	}
	return fmt.Errorf("%s was not installed: %s", in.Name, in.Error)
}

// installLine is a bar with what is known of the rest.
func installLine(in model.Install) string {
	if in.State != model.Downloading || in.Total <= 0 {
		return installWords(in)
	}
	done := int(min(in.Total, in.Bytes) * barWidth / in.Total)
	return fmt.Sprintf("[%s%s] %s", strings.Repeat("=", done), strings.Repeat(" ", barWidth-done), installWords(in))
}

// installWords is an installation on one line: "sdxl: downloading, 3.1 GB of 6.9 GB, 85.0 MB/s, 45s left".
func installWords(in model.Install) string {
	parts := []string{string(in.State)}
	if !in.State.Ended() && in.Bytes > 0 && in.Total > 0 {
		parts = append(parts, fileSize(in.Bytes)+" of "+fileSize(in.Total))
	} else if in.Bytes > 0 {
		parts = append(parts, fileSize(in.Bytes))
	}
	if in.Speed > 0 {
		parts = append(parts, fmt.Sprintf("%.1f MB/s", float64(in.Speed)/1e6))
		if in.Total > in.Bytes {
			parts = append(parts, fmt.Sprintf("%s left", time.Duration(float64(in.Total-in.Bytes)/float64(in.Speed)*float64(time.Second)).Round(time.Second)))
		}
	}
	if in.Error != "" {
		parts = append(parts, in.Error)
	}
	return in.Name + ": " + strings.Join(parts, ", ")
}
