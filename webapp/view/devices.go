package view

import (
	"strconv"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
	"muster/shared/wire"
	"muster/webapp/state"
)

// devices is the grid of cards, and what is beside them: the processor where it draws, and adapters that can't compute.
type devices struct {
	app.Compo
	Page    *Page
	Version int
}

// denseFrom is the number of devices from which the cards show less, so that they still can be looked over.
const denseFrom = 13

// OnMount remembers what is around the panels, so that they can render without it.
func (d *devices) OnMount(ctx app.Context) { d.Page.around = ctx }

// Render shows the section.
func (d *devices) Render() app.UI {
	inventory := d.Page.state.Inventory
	if inventory == nil {
		return section("devices", "devices", heading("devices", "Devices"),
			el("div", "cards", at{"aria-hidden", "true"}, ghost(), ghost(), ghost(), ghost()))
	}
	class := "cards"
	if len(inventory.Devices) >= denseFrom {
		class = "cards dense"
	}
	cards := make([]app.UI, 0, 2*len(inventory.Devices)+2)
	for i := range inventory.Devices {
		cards = append(cards, d.Page.renderCard(&inventory.Devices[i]), d.Page.renderPanel(&inventory.Devices[i]))
	}
	if slot := d.Page.processor(); slot != nil || len(inventory.Devices) == 0 {
		cards = append(cards, d.Page.renderProcessor(inventory, slot), d.Page.renderProcessorPanel())
	}
	return section("devices", "devices",
		heading("devices", "Devices", d.renderMetrics(len(inventory.Devices))),
		el("div", class, nil, cards...),
		adapters(inventory.OtherAdapters))
}

// ghost is the place of a card that is not known yet.
func ghost() app.UI { return el("div", "card ghost", nil) }

// metricNames are the choices of what the trends show, in the order of state.Metric.
var metricNames = []string{"Utilisation", "VRAM", "Temperature", "Power"}

func (d *devices) renderMetrics(count int) app.UI {
	if count == 0 {
		return nothing()
	}
	choices := make([]app.UI, len(metricNames))
	for i, name := range metricNames {
		pressed := strconv.FormatBool(d.Page.metric == state.Metric(i))
		choices[i] = el("button", "choice", at{"type", "button", "data-metric", strconv.Itoa(i), "aria-pressed", pressed}, text(name), on("click", d.choose))
	}
	return el("div", "choices", at{"role", "group", "aria-label", "Trend of the last five minutes"}, choices...)
}

func (d *devices) choose(ctx app.Context, _ app.Event) {
	n, err := strconv.Atoi(data(ctx, "metric"))
	if err != nil || n < 0 || n >= len(metricNames) {
		return
	}
	d.Page.metric = state.Metric(n)
	d.Page.drawn = 0
	d.Page.settle(ctx)
}

func adapters(list []gpu.Adapter) app.UI {
	if len(list) == 0 {
		return nothing()
	}
	items := make([]app.UI, len(list))
	for i, a := range list {
		driver := "no driver"
		if a.Driver != "" {
			driver = "driver " + a.Driver
		}
		items[i] = el("li", "", nil, el("strong", "", nil, text(a.Name)), el("span", "", nil, text(a.PCIAddress+" · "+driver)))
	}
	return el("div", "adapters", nil, el("h3", "", nil, text("Other display adapters")),
		el("p", "", nil, text("Seen on the bus, but not for computing. They are not counted and take no work.")), el("ul", "", nil, items...))
}

// slot gives the generator of a device; nil when it has none.
func (p *Page) slot(ref gpu.Ref) *wire.Slot {
	if p.state.Capacity == nil {
		return nil
	}
	for i := range p.state.Capacity.Slots {
		if p.state.Capacity.Slots[i].Device == ref {
			return &p.state.Capacity.Slots[i]
		}
	}
	return nil
}

func (p *Page) processor() *wire.Slot { return p.slot(gpu.CPU) }

// modelTitle gives what people call a model.
func (p *Page) modelTitle(name string) string {
	if p.state.Capacity != nil {
		for _, m := range p.state.Capacity.Models {
			if m.Name == name && m.Title != "" {
				return m.Title
			}
		}
	}
	if name == sketchModel {
		return sketchTitle
	}
	return name
}

// The built-in renderer is called this wherever it shows, also while the agent's list of models is not known.
const (
	sketchModel = "sketch"
	sketchTitle = "built-in sketch renderer, no AI model"
)
