package view

import (
	"time"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/webapp/state"
)

func (p *Page) renderHeader() app.UI {
	return el("header", "top", nil,
		el("div", "brand", nil, mark(), el("span", "brand-name", nil, text("muster")), el("span", "brand-host", nil, text(p.hostName()))),
		p.renderSections(),
		el("div", "top-end", nil, p.renderConnection(), p.renderTheme()),
	)
}

// renderSections leads to the parts of the page, where they can be seen.
func (p *Page) renderSections() app.UI {
	if p.hidden() {
		return el("nav", "none", nil)
	}
	return el("nav", "sections", at{"aria-label", "Sections"},
		sectionLink("devices", "Devices"), sectionLink("order", "Generate"), sectionLink("jobs", "Jobs"), sectionLink("images", "Images"), sectionLink("models", "Models"))
}

func (p *Page) hostName() string {
	if p.state.Inventory != nil && p.state.Inventory.Host.Name != "" {
		return p.state.Inventory.Host.Name
	}
	return "GPU monitor and image generation"
}

func sectionLink(id, label string) app.UI {
	return el("a", "", at{"href", "#" + id, "data-section", id}, text(label), on("click", goToSection))
}

// goToSection scrolls by itself: go-app ignores a link to the fragment that the address has already.
func goToSection(ctx app.Context, e app.Event) {
	e.PreventDefault()
	e.Call("stopPropagation")
	section := data(ctx, "section")
	if target := app.Window().GetElementByID(section); target.Truthy() {
		target.Call("scrollIntoView")
	}
	focus(section)
}

// focus moves the keyboard to an element, without scrolling.
func focus(id string) {
	if target := app.Window().GetElementByID(id); target.Truthy() {
		target.Call("focus", map[string]any{"preventScroll": true})
	}
}

// connectionWords gives the state of the connection in plain words, and a sentence that says what it means.
func connectionWords(s state.State) (label, detail string) {
	switch s.Link {
	case state.Connected:
		return "connected", "Readings arrive as they are taken."
	case state.Stale:
		return "stale since " + clockOr(s.Since, "the start"), "The connection is open, but no reading has arrived since then."
	case state.Offline:
		if s.Since.IsZero() {
			return "offline", "The agent can't be reached. The page tries again by itself."
		}
		return "offline, stale since " + clockOr(s.Since, ""), "The agent can't be reached. This is the last known state; the page tries again by itself."
	case state.Unpaired:
		return "not paired", "This browser needs a one-time link from the agent."
	default:
		return "connecting", "Looking for the agent."
	}
}

// clockOr writes the time of day, with the date where it is not today's.
func clockOr(t time.Time, never string) string {
	switch {
	case t.IsZero():
		return never
	case time.Since(t) > 20*time.Hour:
		return t.Local().Format("2 Jan 15:04:05")
	default:
		return clock(t)
	}
}

func (p *Page) renderConnection() app.UI {
	label, detail := connectionWords(p.state)
	return el("div", "connection", at{"id", "connection", "data-state", string(p.state.Link), "role", "status", "title", detail},
		el("span", "lamp", at{"aria-hidden", "true"}), el("span", "connection-label", nil, text(label)))
}
