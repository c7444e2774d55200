package view

import (
	"context"
	"strconv"
	"time"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
	"muster/webapp/state"
)

// panel is the details of one device, open below its card. It renders when a report comes, not with every tick.
type panel struct {
	app.Compo
	Page    *Page
	Device  gpu.Ref
	ID      string // of the device: what was learned of another is dropped
	Version int

	past    past
	of      string // ID that past belongs to
	origins bool   // show where values come from
}

// panelInterval is how long an open panel shows the same values where no reports come.
const panelInterval = 6 * time.Second

// OnMount registers the panel for new reports and asks for the history.
func (d *panel) OnMount(ctx app.Context) {
	if d.Page.panels == nil {
		d.Page.panels = map[*panel]app.Context{}
	}
	d.Page.panels[d] = ctx
	d.Page.onlyPanels()
	d.follow(ctx)
}

// OnDismount ends that.
func (d *panel) OnDismount() { delete(d.Page.panels, d) }

// OnUpdate follows what changed around the panel.
func (d *panel) OnUpdate(ctx app.Context) {
	if d.of != d.ID {
		d.of, d.past = d.ID, past{choice: d.past.choice, ticket: d.past.ticket + 1}
	}
	d.follow(ctx)
}

// follow asks for the history when that is due.
func (d *panel) follow(ctx app.Context) {
	now := time.Now()
	ask := d.Page.agent.Past
	if ask == nil || !d.past.due(now, d.Page.state.Link == state.Connected) {
		return
	}
	to := now
	if d.Page.state.Live() {
		to = d.Page.now() // the agent's clock may differ from the browser's
	}
	query, ticket := d.past.ask(d.Device, now, to)
	ctx.Async(func() {
		answer, err := ask(context.Background(), query)
		ctx.Dispatch(func(app.Context) {
			d.Page.onlyPanels()
			d.past.take(ticket, query, answer, err)
		})
	})
}

// Render shows the panel.
func (d *panel) Render() app.UI {
	device, ok := d.device()
	if !ok {
		return nothing()
	}
	reading, _ := d.Page.state.Reading(d.Device)
	details := d.Page.state.Details(d.Device)
	w := &whence{&device, &reading, &details}
	n := d.Device.String()
	return el("section", "details", at{"id", panelID(d.Device), "aria-labelledby", "details-title-" + n, "data-origins", flag(d.origins)},
		el("div", "details-head", nil,
			el("div", "", nil,
				el("h3", "", at{"id", "details-title-" + n}, text(d.Device.Label()+" in detail")),
				el("p", "details-time", nil, text(asked(w)))),
			iconButton("Close the details of "+d.Device.Label(), iconCross, at{"data-panel", n}, on("click", d.Page.togglePanel))),
		renderFaults(w.details, d.Page.now()),
		d.Page.renderSteering(d.Device, d.ID),
		d.renderPast(),
		d.renderGroups(inspect(w)),
		w.renderPartitions(),
		w.renderProcesses(),
		el("button", "quiet-button origins", at{"type", "button", "aria-pressed", strconv.FormatBool(d.origins)}, text("Where the values come from"), on("click", d.toggleOrigins)))
}

func (d *panel) device() (gpu.Device, bool) {
	if d.Page.state.Inventory == nil {
		return gpu.Device{}, false
	}
	return d.Page.state.Inventory.Device(d.Device)
}

// asked says when the driver was asked for the details.
func asked(w *whence) string {
	at := w.details.Time
	switch words := "Asked at " + clockOr(at, ""); {
	case at.IsZero():
		return "No details have arrived yet."
	case w.reading.State == gpu.StateSuspended:
		return words + ", before it fell asleep."
	case w.reading.State == gpu.StateStuck, w.reading.State == gpu.StateLost:
		return words + ": these values are the last ones."
	default:
		return words + "."
	}
}

func (d *panel) toggleOrigins(app.Context, app.Event) {
	d.Page.onlyPanels()
	d.origins = !d.origins
}

func (d *panel) renderPast() app.UI {
	if d.Page.agent.Past == nil {
		return nothing()
	}
	metrics, spans := make([]app.UI, len(pastMetrics)), make([]app.UI, len(pastSpans))
	for i, m := range pastMetrics {
		metrics[i] = pick("metric", i, d.past.choice.metric == i, m.name, d.pickMetric)
	}
	for i, s := range pastSpans {
		spans[i] = pick("span", i, d.past.choice.span == i, s.name, d.pickSpan)
	}
	return el("div", "past", nil,
		el("div", "past-head", nil,
			el("div", "choices", at{"role", "group", "aria-label", "What the history shows"}, metrics...),
			el("div", "choices", at{"role", "group", "aria-label", "How far back it goes"}, spans...)),
		d.past.render(d.Page.state.Link))
}

func pick(kind string, i int, pressed bool, name string, do app.EventHandler) app.UI {
	return el("button", "choice", at{"type", "button", "data-" + kind, strconv.Itoa(i), "aria-pressed", strconv.FormatBool(pressed)}, text(name), on("click", do))
}

func (d *panel) pickMetric(ctx app.Context, _ app.Event) {
	if n, err := strconv.Atoi(data(ctx, "metric")); err == nil && n >= 0 && n < len(pastMetrics) {
		d.pick(ctx, pastChoice{n, d.past.choice.span})
	}
}

func (d *panel) pickSpan(ctx app.Context, _ app.Event) {
	if n, err := strconv.Atoi(data(ctx, "span")); err == nil && n >= 0 && n < len(pastSpans) {
		d.pick(ctx, pastChoice{d.past.choice.metric, n})
	}
}

// pick changes what this panel shows of the past; the next one to open begins with the same.
func (d *panel) pick(ctx app.Context, c pastChoice) {
	d.Page.onlyPanels()
	d.past.choose(c)
	d.Page.choice = c
	d.follow(ctx)
}

// renderGroups shows the rows by subject. What the card does not have shows only among the origins.
func (d *panel) renderGroups(groups []subject) app.UI {
	var out []app.UI
	for _, g := range groups {
		var rows []app.UI
		for _, r := range g.rows {
			if !r.quiet || d.origins {
				rows = append(rows, r.render(d.origins))
			}
		}
		if len(rows) > 0 {
			out = append(out, el("div", "group", at{"data-group", g.name}, el("h4", "", nil, text(g.name)), el("dl", "", nil, rows...)))
		}
	}
	return el("div", "groups", nil, out...)
}

func (r *row) render(origin bool) app.UI {
	body := []app.UI{el("dt", "", nil, text(r.name)), el("dd", "", nil, measured("", r.value))}
	if r.other != "" {
		body = append(body, el("dd", "other", nil, text(r.other)))
	}
	if r.note != "" {
		body = append(body, el("dd", "note", nil, text(r.note)))
	}
	switch {
	case origin && r.from != "":
		body = append(body, el("dd", "origin", nil, text(r.from)))
	case r.value.why != "":
		body = append(body, el("dd", "note", nil, text(r.value.why)))
	}
	return el("div", "", nil, body...)
}
