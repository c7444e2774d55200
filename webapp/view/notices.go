package view

import (
	"slices"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
	"muster/shared/wire"
	"muster/webapp/state"
)

// renderNotices shows what everybody must know: simulated devices, the lost connection, the last refusal, and what could not
// be read at all.
func (p *Page) renderNotices() app.UI {
	var notices []app.UI
	if p.state.Simulated() {
		notices = append(notices, notice("simulated", "Simulated devices",
			"Devices marked “simulated” do not exist. Their readings are made up, and images in their name are drawn by the CPU."))
	}
	switch {
	case p.state.Link == state.Offline && p.state.Inventory != nil:
		notices = append(notices, notice("offline", "Offline",
			"This is the last known state. You can still order images: they are kept here and sent when the agent is back."))
	case p.state.Link == state.Offline:
		notices = append(notices, notice("offline", "The agent does not answer",
			"Start it with “muster serve” on its machine, or check the tunnel to it. This page connects by itself."))
	}
	if p.notice != "" {
		notices = append(notices, el("div", "notice", at{"data-kind", "error", "role", "alert"}, icon(iconWarning),
			el("p", "", nil, el("strong", "", nil, text("Not accepted")), text(" "+p.notice)),
			iconButton("Close this message", iconCross, nil, on("click", p.closeNotice))))
	}
	if p.state.Inventory != nil {
		for _, problem := range p.state.Inventory.Problems {
			notices = append(notices, notice("problem", "Problem", problem))
		}
	}
	if why := p.idleGenerators(); why != "" {
		notices = append(notices, notice("generators", "No GPU generates",
			"Images are drawn by the "+sketchTitle+", until this is mended: "+why))
	}
	for _, g := range p.homelessGenerators() {
		notices = append(notices, notice("generator", generatorTitle(&g), sentenceOf(g.Problem)))
	}
	return el("div", "notices", nil, notices...)
}

// idleGenerators says why none of the generators that were set up works, so that nobody takes a sketch for what their model
// makes; "" when one works, or none was set up.
func (p *Page) idleGenerators() string {
	capacity := p.state.Capacity
	if capacity == nil || capacity.DefaultModel != sketchModel {
		return ""
	}
	for _, slot := range capacity.Slots {
		if slot.Device != gpu.CPU && slot.Problem != "" {
			return slot.Device.Label() + ": " + slot.Problem
		}
	}
	return ""
}

// noticedGenerators is how many generators have a notice of their own; the others stand in their section.
const noticedGenerators = 2

// homelessGenerators are those with a problem that no device's card tells of, because it is not known on which they work.
func (p *Page) homelessGenerators() []wire.Generator {
	if p.state.Capacity == nil {
		return nil
	}
	troubled, _ := sortedGenerators(p.state.Capacity.Generators)
	troubled = slices.DeleteFunc(troubled, func(g wire.Generator) bool { return g.Device != nil || g.Problem == "" })
	return troubled[:min(len(troubled), noticedGenerators)]
}

func notice(kind, title, words string) app.UI {
	return el("div", "notice", at{"data-kind", kind}, icon(iconWarning), el("p", "", nil, el("strong", "", nil, text(title)), text(" "+words)))
}

func (p *Page) closeNotice(app.Context, app.Event) { p.notice = "" }
