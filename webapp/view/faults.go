package view

import (
	"strconv"
	"time"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
)

// faultNews is how long a fault counts as new: it then shows on the card, and is coloured in the details.
const faultNews = time.Hour

// faultsShown is how many faults the details show; the earlier ones stand behind a click.
const faultsShown = 3

// now is the agent's time as far as the page knows it; zero before the first snapshot.
func (p *Page) now() time.Time {
	if p.state.Snapshot == nil {
		return time.Time{}
	}
	return p.state.Snapshot.Time
}

// newest gives a device's last fault, if it is new.
func newest(details *gpu.Details, now time.Time) *gpu.Fault {
	n := len(details.Faults)
	if n == 0 || now.Sub(details.Faults[n-1].Time) > faultNews {
		return nil
	}
	return &details.Faults[n-1]
}

func faultName(f *gpu.Fault) string { return f.Kind + " " + strconv.FormatUint(f.Code, 10) }

func faultText(f *gpu.Fault) string {
	if f.Text == "" {
		return "The driver does not say what this code means."
	}
	return f.Text
}

// faultBadge is on the card of a device that had a fault lately.
func faultBadge(details *gpu.Details, now time.Time) app.UI {
	f := newest(details, now)
	if f == nil {
		return nothing()
	}
	return el("span", "badge fault", at{"title", "Fault at " + clockOr(f.Time, "") + ": " + faultText(f)}, text(faultName(f)))
}

// renderFaults lists what the driver reported, the newest first.
func renderFaults(details *gpu.Details, now time.Time) app.UI {
	n := len(details.Faults)
	if n == 0 {
		return nothing()
	}
	items := make([]app.UI, n)
	for i := range details.Faults {
		items[n-1-i] = faultItem(&details.Faults[i], now)
	}
	body := []app.UI{el("h4", "", nil, text("Faults")), el("ul", "fault-list", nil, items[:min(n, faultsShown)]...)}
	if n > faultsShown {
		body = append(body, el("details", "more", nil, el("summary", "", nil, text(strconv.Itoa(n-faultsShown)+" earlier")), el("ul", "fault-list", nil, items[faultsShown:]...)))
	}
	return el("div", "faults", nil, body...)
}

func faultItem(f *gpu.Fault, now time.Time) app.UI {
	age, when := "old", clockOr(f.Time, "at an unknown time")
	if passed := now.Sub(f.Time); passed <= faultNews {
		age = "new"
		when += ", " + span(passed) + " ago"
	}
	return el("li", "fault", at{"data-age", age}, el("strong", "", nil, text(faultName(f))), el("span", "fault-text", nil, text(faultText(f))), el("span", "fault-time", nil, text(when)))
}
