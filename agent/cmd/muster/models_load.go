package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"muster/shared/gpu"
	"muster/shared/model"
)

func (l *library) loadCommand() *cobra.Command {
	var device string
	var detach bool
	cmd := &cobra.Command{
		Use: "load NAME --device N", Short: "Load a model on a device ahead of the first image; Ctrl-C leaves the agent at it",
		Args: cobra.ExactArgs(1), ValidArgsFunction: complete(l.config, suggestOffers),
		RunE: func(cmd *cobra.Command, names []string) error {
			client, err := newClient(cmd, l.config)
			if err != nil {
				return err
			}
			ctx, out, name := cmd.Context(), cmd.OutOrStdout(), names[0]
			to, err := namedDevice(ctx, client, device)
			if err != nil {
				return err
			}
			ref := to.Index
			var answer struct{ Loaded bool }
			if err := client.do(ctx, "POST", modelPath(name)+"/load", map[string]any{"device_id": ref}, &answer); err != nil {
				return err
			}
			switch {
			case answer.Loaded:
			case detach:
				_, err := fmt.Fprintf(out, "%s is being loaded on %s: muster models shows what becomes of it\n", name, ref.Label())
				return err
			default:
				if err := followLoad(ctx, client, name, ref, out); err != nil {
					return err
				}
			}
			_, err = fmt.Fprintf(out, "%s is loaded on %s\n", name, ref.Label())
			return err
		},
	}
	cmd.Flags().StringVar(&device, "device", "", "where: a device's number, or its stable ID")
	cmd.Flags().BoolVar(&detach, "detach", false, "do not wait longer than the agent's first answer takes, 20 s; the agent goes on")
	_ = cmd.MarkFlagRequired("device")
	completeFlag(cmd, "device", complete(l.config, suggestDevices))
	return cmd
}

// followLoad waits until a model that was asked for is on its device, and says meanwhile what it waits for. Its error says why it did not
// get there.
func followLoad(ctx context.Context, client *client, name string, device gpu.Ref, out io.Writer) error {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	told := ""
	for {
		var offers model.Offers
		err := client.do(ctx, "GET", "/api/v1/models", nil, &offers)
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted; the agent goes on loading %s: muster models shows what becomes of it", name)
		}
		if err != nil {
			return err
		}
		load := model.LoadOf(offers.Loads, name, device)
		switch {
		case load == nil && slices.ContainsFunc(offers.Models, func(m model.Offer) bool { return m.Name == name && slices.Contains(m.LoadedOn, device) }):
			return nil
		case load == nil:
			return fmt.Errorf("the agent does not load %s on %s any more: it was restarted, or another model took its place; ask again", name, device.Label())
		case load.State == model.LoadFailed:
			return errors.New(loadWords(*load))
		}
		if words := loadWords(*load); words != told {
			told = words
			fmt.Fprintln(out, words)
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// loadWords is a load on one line: "sdxl was not loaded on Device 1: it died; load it again".
func loadWords(l model.Load) string {
	switch l.State {
	case model.LoadFailed:
		return fmt.Sprintf("%s was not loaded on %s: %s", l.Model, l.Device.Label(), l.Words)
	case model.LoadWaits:
		return fmt.Sprintf("%s is to be loaded on %s: it %s", l.Model, l.Device.Label(), l.Words)
	}
	return fmt.Sprintf("%s is being loaded on %s", l.Model, l.Device.Label())
}
