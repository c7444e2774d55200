package view

import (
	"strings"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
	"muster/shared/wire"
)

// renderProcessor is the card of the CPU: it is no GPU and is not counted as one, but it makes images.
func (p *Page) renderProcessor(inventory *gpu.Inventory, slot *wire.Slot) app.UI {
	ids := idsOf("cpu")
	working := p.running[gpu.CPU]
	badge, tone := "online", "ok"
	steered, kept := p.steered(gpu.CPU)
	switch {
	case working != nil:
		badge, tone = "generating", "busy"
	case slot == nil:
		badge, tone = "no generator", "unsupported"
	case kept:
		badge, tone = strings.ToLower(phaseName(&steered)), "steered"
	}
	words := p.totals()
	return el("article", "card processor", at{"id", "card-cpu", "data-processor", "cpu", "data-state", tone, "aria-labelledby", ids.title},
		el("div", "card-head", nil,
			el("h3", "", at{"id", ids.title}, text("CPU")),
			el("div", "badges", nil, el("span", "badge state", nil, text(badge))),
			el("p", "card-name", at{"title", cpuName(&inventory.Host)}, text(cpuName(&inventory.Host))),
			p.renderOpener(gpu.CPU, processorKey)),
		el("dl", "facts", nil,
			fact("In use", measured("cpu-util", words.cpu), text(" %")),
			fact("Memory", measured("cpu-ram", words.ram), text(" of "+wholeGiB(inventory.Host.MemoryBytes)+" GiB"))),
		p.renderWork(gpu.CPU, working, ids))
}

// processorKey is the processor's stable ID.
const processorKey = "cpu"

// renderProcessorPanel is the open details of the processor: what people decide about it.
func (p *Page) renderProcessorPanel() app.UI {
	if !p.open[processorKey] {
		return nothing()
	}
	return el("section", "details", at{"id", panelID(gpu.CPU), "aria-labelledby", "details-title-cpu"},
		el("div", "details-head", nil,
			el("h3", "", at{"id", "details-title-cpu"}, text("CPU in detail")),
			iconButton("Close the details of CPU", iconCross, at{"data-panel", "cpu"}, on("click", p.togglePanel))),
		p.renderSteering(gpu.CPU, processorKey))
}

// wholeGiB writes the size of main memory, which nobody needs with places.
func wholeGiB(bytes uint64) string { return grouped(float64(bytes) / gpu.GiB) }

func (p *Page) paintProcessor(words totalWords) {
	p.paint.value("cpu-util", words.cpu)
	p.paint.value("cpu-ram", words.ram)
	if j := p.running[gpu.CPU]; j != nil {
		ids := idsOf("cpu")
		p.paint.text(ids.step, stepWords(j))
		p.paint.progress(ids.progress, j)
	}
}
