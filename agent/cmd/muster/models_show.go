package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/shared/gpu"
	"muster/shared/model"
	"muster/shared/wire"
)

// show prints all models, what is being installed, and where.
func (l *library) show(cmd *cobra.Command, client *client) error {
	var offers model.Offers
	if err := client.do(cmd.Context(), "GET", "/api/v1/models", nil, &offers); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	list := model.Installs{Installs: []model.Install{}}
	if offers.Dir != "" {
		if err := client.do(cmd.Context(), "GET", "/api/v1/models/installs", nil, &list); err != nil {
			return err
		}
	}
	if l.asJSON {
		return json.NewEncoder(out).Encode(struct {
			model.Offers
			model.Installs
		}{offers, list})
	}
	var text strings.Builder
	t := modelTable(offers.Models)
	t.fit(lineWidth(out), "GENERATORS", "LOADED", "FAMILY", "SIZE")
	t.write(&text)
	if slices.ContainsFunc(offers.Models, func(m model.Offer) bool { return len(m.Fits) > 0 }) {
		fmt.Fprintln(&text, fitsNote)
	}
	for _, in := range list.Installs {
		if worthTelling(in, offers.Models, time.Now()) {
			fmt.Fprintf(&text, "%s: %s\n", in.ID, oneLine(installWords(in)))
		}
	}
	for _, load := range offers.Loads {
		fmt.Fprintln(&text, loadWords(load))
	}
	if offers.Problem != "" {
		fmt.Fprintln(&text, offers.Problem)
	}
	if offers.Dir != "" {
		fmt.Fprintf(&text, "models folder: %s%s\n", offers.Dir, freeWords(offers.FreeBytes))
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// toldFor is how long an installation that failed is told of.
const toldFor = time.Hour

// worthTelling says whether an installation belongs into a list of models: while it goes on, and for a while when something went wrong
// with it, unless its model is here now all the same.
func worthTelling(in model.Install, offers []model.Offer, now time.Time) bool {
	if !in.State.Ended() {
		return true
	}
	here := in.State != model.Installed && slices.ContainsFunc(offers, func(m model.Offer) bool { return m.InLibrary && m.Name == in.Name })
	return in.State != model.Stopped && in.Error != "" && !here && in.Ended != nil && now.Sub(*in.Ended) < toldFor
}

func freeWords(free *uint64) string {
	if free == nil {
		return ""
	}
	return ", " + fileSize(int64(min(*free, math.MaxInt64))) + " free"
}

func modelTable(offers []model.Offer) table {
	t := table{{"NAME", "FAMILY", "SIZE", "NEEDS", "FITS", "LOADED", "GENERATORS", "NOTE"}}
	for _, m := range offers {
		t = append(t, []string{m.Name, word(string(m.Family)), fileSize(m.Bytes), needWords(m.VRAMBytes), fitsShort(m.Fits), word(numbers(m.LoadedOn)),
			word(kindTitles(m.Generators)), noteWords(m)})
	}
	return t
}

func kindTitles(kinds []string) string {
	var titles []string
	for _, kind := range kinds {
		titles = append(titles, wire.KindTitle(kind))
	}
	return strings.Join(titles, ", ")
}

// noteWords is what keeps a model from being used, or what it needs.
func noteWords(m model.Offer) string {
	switch {
	case m.Problem != "":
		return m.Problem
	case m.Disabled:
		return "disabled"
	case m.Lacks() != "":
		return m.Lacks()
	case len(m.With) > 0:
		return "with " + gpu.Listed(m.With)
	case m.Part != model.NoPart:
		return m.Part.Title() + ", a part of models"
	case m.InLibrary && m.Partial:
		return "needs text encoders and a VAE beside it"
	case !m.InLibrary && m.Title != m.Name:
		return m.Title
	}
	return ""
}

// fileSize is the size of a file or a disk, in the units that those are sold in: "6.9 GB", "320 MB", "412 GB". Sizes of memory are in GiB.
func fileSize(bytes int64) string {
	switch {
	case bytes <= 0:
		return absent
	case bytes < 1e6:
		return fmt.Sprintf("%.2f MB", max(0.01, float64(bytes)/1e6))
	case bytes < 1e9:
		return fmt.Sprintf("%.0f MB", float64(bytes)/1e6)
	case bytes < 100e9:
		return fmt.Sprintf("%.1f GB", float64(bytes)/1e9)
	}
	return fmt.Sprintf("%.0f GB", float64(bytes)/1e9)
}

func needWords(bytes uint64) string {
	if bytes == 0 {
		return absent
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/gpu.GiB)
}

// fitsShort is the devices on which a model fits: "all 8", "0–2, not 3", "none".
func fitsShort(fits []model.DeviceFit) string {
	var on, off []gpu.Ref
	for _, fit := range fits {
		switch {
		case fit.Fits == nil:
		case *fit.Fits:
			on = append(on, fit.Device)
		default:
			off = append(off, fit.Device)
		}
	}
	switch {
	case len(on) == len(fits) && len(on) > 1:
		return fmt.Sprintf("all %d", len(on))
	case len(off) == len(fits) && len(off) > 0:
		return "none"
	case len(off) > 0:
		return strings.TrimPrefix(numbers(on)+", not "+numbers(off), ", ")
	default:
		return word(numbers(on))
	}
}

// numbers is gpu.Named without the word that begins it.
func numbers(refs []gpu.Ref) string {
	return strings.TrimPrefix(strings.TrimPrefix(gpu.Named(refs), "devices "), "Device ")
}

// fitsNote says what a model's fit leaves out of account.
const fitsNote = "Whether a model fits is told by the whole memory of a device, whatever other programs hold of it now."

func recommendTable(known []model.Recommendation) table {
	t := table{{"NAME", "FAMILY", "SIZE", "NEEDS", "LICENCE", "WHAT FOR", "HERE"}}
	for _, r := range known {
		here := r.Words
		if r.Installed {
			here = "installed, " + here
		}
		t = append(t, []string{r.Name, string(r.Family), fileSize(r.Bytes), needWords(r.NeedBytes), r.Licence, r.Description, here})
	}
	return t
}
