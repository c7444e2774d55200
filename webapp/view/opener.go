package view

import (
	"strconv"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
)

// renderOpener is the button that opens a card's details. It covers the head of the card.
func (p *Page) renderOpener(ref gpu.Ref, id string) app.UI {
	n := ref.String()
	open := p.open[id]
	controls := ""
	if open {
		controls = panelID(ref)
	}
	return el("button", "opener", at{"type", "button", "id", "open-" + n, "data-panel", n, "aria-expanded", strconv.FormatBool(open), "aria-controls", controls, "aria-label", "Details of " + ref.Label()},
		icon(iconDown), on("click", p.togglePanel))
}

func panelID(ref gpu.Ref) string { return "details-" + ref.String() }

// renderPanel gives the open details of a device, or keeps their place.
func (p *Page) renderPanel(d *gpu.Device) app.UI {
	if !p.open[d.ID] {
		return nothing()
	}
	return &panel{Page: p, Device: d.Index, ID: d.ID, Version: p.version.devices, past: past{choice: p.choice}, of: d.ID}
}

// togglePanel opens or closes the details that the button names.
func (p *Page) togglePanel(ctx app.Context, _ app.Event) {
	ref := pinned(data(ctx, "panel"))
	if ref == nil {
		return
	}
	id := p.idOf(*ref)
	if id == "" {
		return
	}
	p.setOpen(id, !p.open[id])
	p.settle(p.around) // the button that was clicked may be gone by then
	focus("open-" + ref.String())
	if p.open[id] {
		ctx.Defer(func(app.Context) { reveal(panelID(*ref), "card-"+ref.String()) })
	}
}

// idOf gives the stable ID of a device; "" when there is none of that number.
func (p *Page) idOf(ref gpu.Ref) string {
	if ref == gpu.CPU {
		return processorKey
	}
	if p.state.Inventory == nil {
		return ""
	}
	d, _ := p.state.Inventory.Device(ref)
	return d.ID
}

func (p *Page) setOpen(id string, open bool) {
	if p.open == nil {
		p.open = map[string]bool{}
	}
	if p.open[id] = open; !open {
		delete(p.open, id)
	}
	p.version.devices++
}

// reveal scrolls to a card whose details opened where hardly any of them can be seen.
func reveal(panel, card string) {
	opened, above := app.Window().GetElementByID(panel), app.Window().GetElementByID(card)
	if opened.Truthy() && above.Truthy() && opened.Call("getBoundingClientRect").Get("top").Float() > 0.6*app.Window().Get("innerHeight").Float() {
		above.Call("scrollIntoView")
	}
}

// onlyPanels takes back that what is around a panel renders with it: what the painter knows of the cards stays true.
func (p *Page) onlyPanels() { p.around.PreventUpdate() }

// refreshPanels lets the open panels render again, and nothing around them.
func (p *Page) refreshPanels() {
	p.paneled, p.behind = p.now(), false
	for panel, ctx := range p.panels {
		ctx.Dispatch(func(ctx app.Context) {
			p.onlyPanels()
			panel.follow(ctx)
		})
	}
}
