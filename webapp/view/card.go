package view

import (
	"strconv"
	"strings"
	"time"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
	"muster/shared/job"
)

// cardIDs are the ids of what is painted on a card.
type cardIDs struct {
	title, age, util, doubt, used, total, bar, shared, temp, tone, power, line, area, step, progress string
}

func idsOf(key string) cardIDs {
	p := "g" + key + "-"
	return cardIDs{p + "title", p + "age", p + "util", p + "doubt", p + "used", p + "total", p + "bar", p + "shared", p + "temp", p + "tone", p + "power", p + "line", p + "area", p + "step", p + "progress"}
}

func (p *Page) renderCard(d *gpu.Device) app.UI {
	ids := idsOf(d.Index.String())
	reading, ok := p.state.Reading(d.Index)
	r := p.read(d)
	working := p.running[d.Index]
	details := p.state.Details(d.Index)
	about := &whence{d, &reading, &details}
	badge, tone := r.badge, string(reading.State)
	steered, kept := p.steered(d.Index)
	switch {
	case working != nil && (!ok || reading.State.Usable()):
		badge, tone = "generating", "busy"
	case kept && reading.State == gpu.StateOK:
		badge, tone = strings.ToLower(phaseName(&steered)), "steered"
	}
	return el("article", "card", at{"id", "card-" + d.Index.String(), "data-device", d.Index.String(), "data-state", tone, "aria-labelledby", ids.title},
		el("div", "card-head", nil,
			el("h3", "", at{"id", ids.title}, text(d.Index.Label())),
			el("div", "badges", nil, faultBadge(&details, p.now()), simulatedBadge(d.Simulated), el("span", "badge state", nil, text(badge))),
			el("p", "card-name", at{"title", d.Name}, text(cardName(d))),
			p.renderOpener(d.Index, d.ID)),
		renderHint(r, ids),
		el("div", "card-gauge", nil,
			el("div", "", nil, el("p", "reading", nil, measured(ids.util, r.utilization), el("span", "unit", nil, text(" %")), el("span", "doubt", at{"id", ids.doubt, "title", suspicion}, text(r.doubt)), el("span", "label", nil, text("utilisation")))),
			p.renderTrend(ids)),
		renderMemory(d, ids, r),
		el("dl", "facts", nil,
			fact("Temperature", el("span", "health", at{"id", ids.tone, "data-health", string(r.health)}, measured(ids.temp, r.temperature))),
			fact("Power", measured(ids.power, r.power)),
			fact("Compute capability", measured("", about.value("compute_capability", d.ComputeCapability))),
			fact("Multiprocessors", measured("", about.value("multi_processor_count", optionalCount(d.MultiprocessorCount))))),
		p.renderWork(d.Index, working, ids))
}

// cardName is the device's name, and into how many parts it is divided.
func cardName(d *gpu.Device) string {
	if len(d.Partitions) == 0 {
		return d.Name
	}
	return d.Name + " · " + plural(len(d.Partitions), "partition", "partitions")
}

func simulatedBadge(simulated bool) app.UI {
	if !simulated {
		return nothing()
	}
	return el("span", "badge simulated", at{"title", "This device does not exist: its readings are made up."}, text("simulated"))
}

// renderHint explains a state that is not plainly good, with the age of the values.
func renderHint(r readout, ids cardIDs) app.UI {
	class := "hint"
	if r.hint == "" && r.age == "" {
		class = "none"
	}
	return el("p", class, nil, text(r.hint+" "), el("span", "age", at{"id", ids.age}, text(r.age)))
}

func (p *Page) renderTrend(ids cardIDs) app.UI {
	return el("div", "trend-box", nil,
		drawing("0 0 150 40", "trend",
			shape(at{"class", "rule", "d", "M0 1H150M0 20.5H150"}),
			shape(at{"class", "area", "id", ids.area, "d", "M0 0"}),
			shape(at{"class", "line", "id", ids.line, "d", "M0 0"})),
		el("span", "trend-label", nil, text(metricNames[p.metric]+", 5 min")))
}

func renderMemory(d *gpu.Device, ids cardIDs, r readout) app.UI {
	name := memoryName(d, r.shared.why == "")
	shared := "vram-text"
	if r.shared.why != "" || !d.Unified {
		shared = "none"
	}
	return el("div", "vram", nil,
		el("div", "vram-text", nil, el("span", "label", nil, text(name)),
			el("span", "amount", nil, el("b", "", nil, measured(ids.used, r.used)), text(" of "), measured(ids.total, r.total), text(" GiB"))),
		el("div", "bar", nil, el("meter", "", at{"id", ids.bar, "min", "0", "max", "1", "value", r.share, "aria-label", name + " in use"})),
		el("div", shared, nil, el("span", "label", nil, text("Main memory")), el("span", "amount", nil, measured(ids.shared, r.shared))))
}

// memoryName says which memory a device's own is. shared says that it reports main memory apart.
func memoryName(d *gpu.Device, shared bool) string {
	if d.Unified && !shared {
		return "Main memory"
	}
	return "VRAM"
}

// renderWork says what the device makes right now, or why it makes nothing.
func (p *Page) renderWork(ref gpu.Ref, j *job.Job, ids cardIDs) app.UI {
	if j != nil {
		return el("div", "work busy", nil,
			p.renderPhase(ref),
			el("p", "work-title", at{"title", j.Prompt}, text(shorten(j.Prompt, 90))),
			progress(ids.progress, "", "Progress of the image on "+ref.Label(), j),
			el("p", "work-step", at{"id", ids.step}, text(stepWords(j))))
	}
	tone, words := p.idleWords(ref)
	return el("div", "work "+tone, nil, p.renderPhase(ref), el("p", "work-step", at{"title", words}, text(words)))
}

// idleWords say why a device makes nothing, and in which tone; "" where the line of its phase says so already.
func (p *Page) idleWords(ref gpu.Ref) (tone, words string) {
	slot := p.slot(ref)
	reading, read := p.state.Reading(ref)
	_, kept := p.steered(ref)
	switch {
	case p.state.Capacity == nil:
		return "", ""
	case read && !reading.State.Usable():
		return "off", "Takes no work in this state."
	case slot == nil:
		return "off", "No generator serves this device."
	case slot.Problem != "":
		return "off", "Takes no work: " + slot.Problem
	case kept:
		return "off", ""
	case slot.Loaded != "" && slot.Loaded != sketchModel:
		return "idle", "Ready. Loaded: " + p.modelTitle(slot.Loaded)
	case len(slot.Models) == 1:
		return "idle", "Ready: " + p.modelTitle(slot.Models[0])
	default:
		return "idle", "Ready to generate."
	}
}

// progress is the bar of a running image.
func progress(id, class, label string, j *job.Job) app.UI {
	return el("div", "bar "+class, nil,
		el("progress", "", at{"id", id, "max", strconv.Itoa(max(1, j.Progress.Steps)), "value", strconv.Itoa(j.Progress.Step), "aria-label", label}))
}

// stepWords says how far a running image is: "step 12 of 30 · about 8 s left".
func stepWords(j *job.Job) string {
	words := stepsDone(j)
	if eta := j.Progress.ETASeconds; eta != nil {
		words += " · about " + span(seconds(*eta)) + " left"
	}
	return words
}

func stepsDone(j *job.Job) string {
	switch p := j.Progress; {
	case p.Steps > 0:
		return "step " + strconv.Itoa(p.Step) + " of " + strconv.Itoa(p.Steps)
	case p.Step > 0:
		return "step " + strconv.Itoa(p.Step)
	default:
		return "starting"
	}
}

// paintAll writes what changes with every tick. It does nothing where nothing changed.
func (p *Page) paintAll() {
	words := p.totals()
	p.paintTotals(words)
	p.paintProcessor(words)
	p.paintJobs()
	p.paintPreviews(time.Now())
	p.paintInstalls()
	inventory := p.state.Inventory
	if inventory == nil {
		return
	}
	redraw := p.drawn != p.state.Trends.End
	p.drawn = p.state.Trends.End
	for i := range inventory.Devices {
		if !p.window.seen(i) {
			continue
		}
		p.paintCard(&inventory.Devices[i])
		if redraw {
			p.paintTrend(i)
		}
	}
}

func (p *Page) paintCard(d *gpu.Device) {
	ids := p.ids(int(d.Index))
	r := p.read(d)
	p.paint.text(ids.age, r.age)
	p.paint.value(ids.util, r.utilization)
	p.paint.text(ids.doubt, r.doubt)
	p.paint.value(ids.used, r.used)
	p.paint.value(ids.total, r.total)
	p.paint.attribute(ids.bar, "value", r.share)
	p.paint.value(ids.shared, r.shared)
	p.paint.value(ids.temp, r.temperature)
	p.paint.attribute(ids.tone, "data-health", string(r.health))
	p.paint.value(ids.power, r.power)
	if j := p.running[d.Index]; j != nil {
		p.paint.text(ids.step, stepWords(j))
		p.paint.progress(ids.progress, j)
	}
}

// ids gives the ids of a card, made once.
func (p *Page) ids(i int) *cardIDs {
	for len(p.cards) <= i {
		p.cards = append(p.cards, idsOf(strconv.Itoa(len(p.cards))))
	}
	return &p.cards[i]
}

func (p *Page) paintTrend(i int) {
	if i >= len(p.state.Trends.Devices) {
		return
	}
	var limit *float64
	if r, ok := p.state.Reading(gpu.Ref(i)); ok {
		limit = r.PowerLimitWatts
	}
	line, area := sparkline(p.state.Trends.Devices[i][p.metric], scaleOf(p.metric, limit))
	ids := p.ids(i)
	p.paint.attribute(ids.line, "d", line)
	p.paint.attribute(ids.area, "d", area)
}
