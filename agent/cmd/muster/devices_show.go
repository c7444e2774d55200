package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/shared/pool"
	"muster/shared/wire"
)

// show prints the devices with these stable IDs; nil prints all.
func (s *steering) show(cmd *cobra.Command, client *client, keys []string) error {
	var now wire.Pool
	if err := client.do(cmd.Context(), "GET", "/api/v1/pool", nil, &now); err != nil {
		return err
	}
	if keys != nil {
		now.Devices = slices.DeleteFunc(now.Devices, func(d wire.PoolDevice) bool { return !slices.Contains(keys, d.Key) })
	}
	out := cmd.OutOrStdout()
	if s.asJSON {
		return json.NewEncoder(out).Encode(now)
	}
	var text strings.Builder
	t := steeredTable(now.Devices, time.Now())
	t.fit(lineWidth(out), "HOURS", "LIMITS", "YIELD", "NAME")
	t.write(&text)
	if keys == nil && now.Pool.MaxWatts != nil {
		fmt.Fprintln(&text, poolWords(now.Pool))
	}
	_, err := io.WriteString(out, text.String())
	return err
}

func poolWords(settings pool.Settings) string {
	if settings.MaxWatts == nil {
		return "all GPUs together: no limit"
	}
	return fmt.Sprintf("all GPUs together: %g W at most", *settings.MaxWatts)
}

func steeredTable(devices []wire.PoolDevice, now time.Time) table {
	t := table{{"ID", "NAME", "MODE", "YIELD", "LIMITS", "HOURS", "LOADED", "RUNNING", "NOW"}}
	for _, d := range devices {
		t = append(t, []string{d.Device.String(), word(d.Name), modeWords(d.Control, now), yesNo(d.Control.Yield), limitWords(d.Control), word(d.Control.Hours),
			word(strings.Join(d.Loaded, ", ")), word(strings.Join(d.Running, ", ")), phaseWords(d.Steered)})
	}
	return t
}

// modeWords is the mode, with its end in the time zone of who reads it.
func modeWords(c pool.Control, now time.Time) string {
	c = c.At(now)
	if c.Until == nil {
		return string(c.Mode)
	}
	until := c.Until.Local()
	format := "15:04"
	if until.Sub(now) > 20*time.Hour {
		format = "2006-01-02 15:04"
	}
	return fmt.Sprintf("%s until %s", c.Mode, until.Format(format))
}

func yesNo(v bool) string {
	if v {
		return "yes"
	}
	return "no"
}

func limitWords(c pool.Control) string {
	var limits []string
	if c.MaxCelsius != nil {
		limits = append(limits, fmt.Sprintf("%g °C", *c.MaxCelsius))
	}
	if c.MaxWatts != nil {
		limits = append(limits, fmt.Sprintf("%g W", *c.MaxWatts))
	}
	return word(strings.Join(limits, ", "))
}

// phaseWords is what the device does now; the agent's words would continue "Device 0".
func phaseWords(d wire.Steered) string {
	if d.Words == "" {
		return string(d.Phase)
	}
	return strings.TrimPrefix(d.Words, "is ")
}
