package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"muster/agent"
	"muster/shared/gpu"
	"muster/shared/pool"
	"muster/shared/wire"
)

// steering is what the subcommands of devices share.
type steering struct {
	config *agent.Config
	asJSON bool
}

func devicesCommand(config *agent.Config) *cobra.Command {
	s := &steering{config: config}
	cmd := &cobra.Command{
		Use:   "devices",
		Short: "Show what the running agent's devices do, and pause, drain, reserve or limit them",
		Long:  "Show what people decided about the running agent's devices, and what that means now.\nIn the subcommands, DEVICE is a device's number as muster gpus shows it, cpu, a stable ID, or all.\nDecisions outlive a restart of the agent and stay with the device when numbers change.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := newClient(cmd, config)
			if err != nil {
				return err
			}
			return s.show(cmd, client, nil)
		},
	}
	cmd.PersistentFlags().BoolVar(&s.asJSON, "json", false, "print the devices as JSON")
	cmd.AddCommand(
		s.modeCommand("pause", "Start no new image on devices; what runs is finished, and models stay loaded"),
		s.modeCommand("drain", "Start no new image on devices, finish what runs, then unload the models"),
		s.modeCommand("reserve", "Leave devices to other programs at once: what runs is made again elsewhere, models are unloaded"),
		s.modeCommand("resume", "Let devices take work again"),
		s.setCommand(), s.poolCommand(),
	)
	return cmd
}

// someDevice is for commands that need the names of devices.
func someDevice(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("name a device by its number, cpu, its stable ID, or all; see %s --help", cmd.CommandPath())
	}
	return nil
}

func (s *steering) modeCommand(verb, short string) *cobra.Command {
	var term time.Duration
	var wait bool
	cmd := &cobra.Command{
		Use:   verb + " DEVICE...",
		Short: short,
		Args:  someDevice,

		ValidArgsFunction: complete(s.config, suggestAllDevices),
		RunE: func(cmd *cobra.Command, args []string) error {
			var body any
			if cmd.Flags().Changed("for") {
				if term < time.Second {
					return fmt.Errorf("--for %s: want a second at least, such as 90m or 2h", term)
				}
				body = map[string]int64{"for_s": int64(term / time.Second)}
			}
			return s.change(cmd, args, wait, func(ctx context.Context, c *client, key string) error {
				return c.do(ctx, "POST", devicePath(key)+"/"+verb, body, nil)
			})
		},
	}
	if verb != "resume" {
		cmd.Flags().DurationVar(&term, "for", 0, "end it by itself after this time, such as 90m or 2h (default: until muster devices resume)")
	}
	if verb == "drain" {
		cmd.Flags().BoolVar(&wait, "wait", false, "wait until the devices are free")
	}
	return cmd
}

func (s *steering) setCommand() *cobra.Command {
	var yield, noYield bool
	var celsius, watts, hours string
	cmd := &cobra.Command{
		Use:   "set DEVICE...",
		Short: "Limit devices by temperature, power and time of day, and let them give way to other programs",
		Args:  someDevice,

		ValidArgsFunction: complete(s.config, suggestAllDevices),
		RunE: func(cmd *cobra.Command, args []string) error {
			change := map[string]any{}
			switch typed := cmd.Flags(); {
			case typed.Changed("no-yield"):
				change["yield"] = !noYield
			case typed.Changed("yield"):
				change["yield"] = yield
			}
			for _, limit := range []struct{ flag, text, field string }{{"max-celsius", celsius, "max_celsius"}, {"max-watts", watts, "max_watts"}} {
				if !cmd.Flags().Changed(limit.flag) {
					continue
				}
				value, err := limitOf(limit.flag, limit.text)
				if err != nil {
					return err
				}
				change[limit.field] = value
			}
			if cmd.Flags().Changed("hours") {
				if hours == none {
					hours = ""
				}
				if _, err := pool.ParseHours(hours); err != nil {
					return fmt.Errorf("--hours: %w", err)
				}
				change["hours"] = hours
			}
			if len(change) == 0 {
				return fmt.Errorf("say what to set; see %s --help", cmd.CommandPath())
			}
			return s.change(cmd, args, false, func(ctx context.Context, c *client, key string) error {
				return c.do(ctx, "PATCH", devicePath(key)+"/control", change, nil)
			})
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVar(&yield, "yield", false, "give way while another program works on the device, and come back by itself")
	flags.BoolVar(&noYield, "no-yield", false, "share the device with other programs")
	flags.StringVar(&celsius, "max-celsius", "", `start no image at this temperature, such as 80; "none" for the agent's own limit`)
	flags.StringVar(&watts, "max-watts", "", `start no image while the device draws this much, such as 200; "none" for no limit`)
	flags.StringVar(&hours, "hours", "", `start images only at these times of day, such as "22:00-08:00"; "none" for always`)
	cmd.MarkFlagsMutuallyExclusive("yield", "no-yield")
	return cmd
}

func (s *steering) poolCommand() *cobra.Command {
	var watts string
	cmd := &cobra.Command{
		Use:   "pool",
		Short: "Show or set what all GPUs together may draw",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := newClient(cmd, s.config)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("max-watts") {
				limit, err := limitOf("max-watts", watts)
				if err != nil {
					return err
				}
				if err := client.do(cmd.Context(), "PUT", "/api/v1/pool", pool.Settings{MaxWatts: limit}, nil); err != nil {
					return err
				}
			}
			var now wire.Pool
			if err := client.do(cmd.Context(), "GET", "/api/v1/pool", nil, &now); err != nil {
				return err
			}
			if s.asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(now.Pool)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), poolWords(now.Pool))
			return err
		},
	}
	cmd.Flags().StringVar(&watts, "max-watts", "", `start an image only where all GPUs together stay below, such as 1500; "none" for no limit`)
	return cmd
}

// none is how the command line takes a limit away.
const none = "none"

// limitOf reads a limit; nil is none.
func limitOf(flag, text string) (*float64, error) {
	if text == none {
		return nil, nil
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || !(value > 0 && value <= pool.MaxWatts) { // JSON has no NaN
		return nil, fmt.Errorf("--%s %s: want a number above 0, or none", flag, text)
	}
	return &value, nil
}

func devicePath(key string) string { return "/api/v1/devices/" + url.PathEscape(key) }

// change steers the devices that the arguments name, one after the other, and shows them.
func (s *steering) change(cmd *cobra.Command, args []string, wait bool, do func(context.Context, *client, string) error) error {
	client, err := newClient(cmd, s.config)
	if err != nil {
		return err
	}
	keys, err := deviceKeys(cmd.Context(), client, args)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := do(cmd.Context(), client, key); err != nil {
			return fmt.Errorf("device %s: %w", key, err)
		}
	}
	if wait {
		if err := awaitDrained(cmd.Context(), client, keys, cmd.ErrOrStderr()); err != nil {
			return err
		}
	}
	return s.show(cmd, client, keys)
}

// deviceKeys gives the stable IDs of what a person named, each once: numbers may change before the next call.
func deviceKeys(ctx context.Context, client *client, names []string) (keys []string, err error) {
	var now wire.Pool
	if err := client.do(ctx, "GET", "/api/v1/pool", nil, &now); err != nil {
		return nil, err
	}
	for _, name := range names {
		found := name == "all"
		for _, d := range now.Devices {
			if name == "all" || name == d.Key || name == d.Device.String() {
				found, keys = true, append(keys, d.Key)
			}
		}
		if name == gpu.CPU.String() && !found { // it is shown only where it has work or a decision
			found, keys = true, append(keys, name)
		}
		if !found {
			return nil, fmt.Errorf("there is no device %s; there are %s", name, poolChoices(now))
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), nil
}

// poolChoices lists what can be steered, as people see it.
func poolChoices(now wire.Pool) string {
	var known []choice
	for _, d := range now.Devices {
		if d.Device != gpu.CPU {
			known = append(known, choice{d.Device, d.Name})
		}
	}
	return choices(append(known, choice{ref: gpu.CPU}), "all")
}
