package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"muster/agent"
	"muster/agent/models"
	"muster/shared/model"
)

// library is what the subcommands of models share.
type library struct {
	config *agent.Config
	asJSON bool
}

func modelsCommand(config *agent.Config) *cobra.Command {
	l := &library{config: config}
	cmd := &cobra.Command{
		Use:   "models",
		Short: "Show the models that the running agent has, install further ones, enable, disable, load and remove them",
		Long:  "Show the models of the running agent: those in its models folder, and those that its generators have\nbesides; what each needs, on which devices it fits, and where it is loaded.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := newClient(cmd, config)
			if err != nil {
				return err
			}
			return l.show(cmd, client)
		},
	}
	cmd.PersistentFlags().BoolVar(&l.asJSON, "json", false, "print JSON")
	cmd.AddCommand(
		l.recommendCommand(), l.installCommand(), l.stopCommand(),
		l.eachCommand("remove", "Delete model files for good", func(ctx context.Context, c *client, name string) error {
			return c.do(ctx, "DELETE", modelPath(name), nil, nil)
		}),
		l.eachCommand("enable", "Let models be generated with", func(ctx context.Context, c *client, name string) error {
			return c.do(ctx, "POST", modelPath(name)+"/enable", nil, nil)
		}),
		l.eachCommand("disable", "Keep models from being generated with; their files stay", func(ctx context.Context, c *client, name string) error {
			return c.do(ctx, "POST", modelPath(name)+"/disable", nil, nil)
		}),
		l.loadCommand(),
	)
	return cmd
}

func modelPath(name string) string { return "/api/v1/models/" + url.PathEscape(name) }

// someModel is for commands that need the names of models.
func someModel(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("name a model as muster models lists it; see %s --help", cmd.CommandPath())
	}
	return nil
}

// eachCommand does something to every model that is named, and then shows all of them.
func (l *library) eachCommand(verb, short string, do func(context.Context, *client, string) error) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NAME...", Short: short, Args: someModel, ValidArgsFunction: complete(l.config, suggestOffers),
		RunE: func(cmd *cobra.Command, names []string) error {
			client, err := newClient(cmd, l.config)
			if err != nil {
				return err
			}
			for _, name := range names {
				if err := do(cmd.Context(), client, name); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
			return l.show(cmd, client)
		},
	}
}

func (l *library) recommendCommand() *cobra.Command {
	return &cobra.Command{
		Use: "recommend", Short: "List well-known models, the best for this machine's devices first", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := newClient(cmd, l.config)
			if err != nil {
				return err
			}
			var known model.Recommendations
			if err := client.do(cmd.Context(), "GET", "/api/v1/models/recommendations", nil, &known); err != nil {
				return err
			}
			if l.asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(known)
			}
			t := recommendTable(known.Recommendations)
			t.fit(lineWidth(cmd.OutOrStdout()), "LICENCE", "FAMILY", "WHAT FOR")
			t.write(cmd.OutOrStdout())
			_, err = fmt.Fprintln(cmd.OutOrStdout(), fitsNote)
			return err
		},
	}
}

func (l *library) stopCommand() *cobra.Command {
	return &cobra.Command{
		Use: "stop ID|NAME...", Short: "End installations, and remove what they have downloaded",
		Args: func(_ *cobra.Command, ids []string) error {
			if len(ids) == 0 {
				return errors.New("give the ID of an installation, as muster models lists it, or the name of its model")
			}
			return nil
		},
		ValidArgsFunction: complete(l.config, suggestInstalls),
		RunE: func(cmd *cobra.Command, ids []string) error {
			client, err := newClient(cmd, l.config)
			if err != nil {
				return err
			}
			for _, id := range ids {
				in, err := stopInstall(cmd.Context(), client, id)
				if err != nil {
					return fmt.Errorf("%s: %w", id, err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is %s\n", in.Name, in.State)
			}
			return nil
		},
	}
}

// stopInstall ends an installation that a person names by its ID, or, while it goes on, by its model's name.
func stopInstall(ctx context.Context, client *client, name string) (in model.Install, err error) {
	var list model.Installs
	if err := client.do(ctx, "GET", "/api/v1/models/installs", nil, &list); err != nil {
		return in, err
	}
	var open []string
	id := ""
	for _, in := range list.Installs {
		if !in.State.Ended() {
			open = append(open, in.ID+" ("+in.Name+")")
		}
		if in.ID == name || !in.State.Ended() && in.Name == name {
			id = in.ID
		}
	}
	switch {
	case id != "":
		return in, client.do(ctx, "DELETE", "/api/v1/models/installs/"+url.PathEscape(id), nil, &in)
	case len(open) == 0:
		return in, errors.New("there is no such installation; none is under way (muster models remove deletes a model that is here)")
	}
	return in, fmt.Errorf("there is no such installation; under way are %s", strings.Join(open, ", "))
}

// suggestOffers names every model that the agent knows, usable or not.
func suggestOffers(ctx context.Context, c *client) []string {
	var offers model.Offers
	if c.do(ctx, "GET", "/api/v1/models", nil, &offers) != nil {
		return nil
	}
	var words []string
	for _, m := range offers.Models {
		words = append(words, m.Name)
	}
	return words
}

// suggestInstalls names the installations that can be ended.
func suggestInstalls(ctx context.Context, c *client) []string {
	var list model.Installs
	if c.do(ctx, "GET", "/api/v1/models/installs", nil, &list) != nil {
		return nil
	}
	var words []string
	for _, in := range list.Installs {
		if in.State != model.Installed {
			words = append(words, in.ID+"\t"+in.Name)
		}
	}
	return words
}

// catalogued names the models that are known without an agent.
func catalogued() []string {
	var words []string
	for _, known := range models.Recommend(nil, model.Library{}) {
		words = append(words, known.Name+"\t"+known.Title)
	}
	return words
}
