package view

import (
	"errors"
	"strconv"
	"time"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
	"muster/webapp/live"
	"muster/webapp/state"
)

// pastMetrics are the choices of what the history in the details shows.
var pastMetrics = []struct {
	name   string
	metric gpu.Metric
	unit   string
}{
	{"Utilisation", gpu.MetricUtilization, "%"}, {"Memory", gpu.MetricMemoryPercent, "%"}, {"Temperature", gpu.MetricTemperature, "°C"},
	{"Power", gpu.MetricPower, "W"}, {"Core clock", gpu.MetricCoreClock, "MHz"}, {"Memory clock", gpu.MetricMemoryClock, "MHz"},
}

// pastSpans are the choices of how far back it goes. ticks is in how many parts the axis of time is labelled; again, after what
// time it is worth asking anew.
var pastSpans = []struct {
	name   string
	length time.Duration
	ticks  int
	layout string
	again  time.Duration
}{
	{"10 min", 10 * time.Minute, 5, "15:04", 10 * time.Second},
	{"24 h", 24 * time.Hour, 4, "15:04", 2 * time.Minute},
	{"30 days", 30 * 24 * time.Hour, 5, "2 Jan", 10 * time.Minute},
}

// pastPoints is how many values are asked for: what a phone can show, and enough for a desktop.
const pastPoints = 240

// pastChoice is what the reader wants to see of the past: positions in pastMetrics and pastSpans.
type pastChoice struct{ metric, span int }

// past is the history of one device as its panel shows it. The zero value has not asked yet.
type past struct {
	choice   pastChoice
	shown    pastChoice     // what answer belongs to
	query    live.PastQuery // that answer belongs to
	answer   live.Past
	answered bool  // there is an answer
	asking   bool  // another is on its way
	wrong    error // why the last request failed; nil when it did not
	asked    time.Time
	ticket   int // of the newest request; answers to earlier ones are late
}

// due says whether it is time to ask: the choice changed, the answer is old, or a failure may be over.
func (h *past) due(now time.Time, connected bool) bool {
	switch {
	case h.asked.IsZero():
		return true
	case h.asking:
		return false
	case h.wrong != nil:
		return connected && now.Sub(h.asked) >= pastSpans[0].again
	default:
		return now.Sub(h.asked) >= pastSpans[h.choice.span].again
	}
}

// ask begins a request for the span before to and gives its number.
func (h *past) ask(device gpu.Ref, now, to time.Time) (live.PastQuery, int) {
	h.ticket++
	h.asking, h.asked = true, now
	span := pastSpans[h.choice.span]
	return live.PastQuery{Device: device, Metric: pastMetrics[h.choice.metric].metric, From: to.Add(-span.length), To: to, Points: pastPoints}, h.ticket
}

// take notes the answer to a request. A failure keeps what was there before.
func (h *past) take(ticket int, query live.PastQuery, answer live.Past, err error) {
	if ticket != h.ticket {
		return
	}
	h.asking, h.wrong = false, err
	if err == nil {
		h.answered, h.answer, h.query, h.shown = true, answer, query, h.choice
	}
}

// choose changes what is shown and makes a request due; an answer that is still to come is not wanted any more.
func (h *past) choose(c pastChoice) {
	h.ticket++
	h.choice, h.asking, h.asked, h.wrong = c, false, time.Time{}, nil
}

// current says whether the answer is to what is asked for now.
func (h *past) current() bool { return h.answered && h.shown == h.choice }

// words says in a sentence what the drawing shows, or why there is none.
func (h *past) words(link state.Link) string {
	switch {
	case errors.Is(h.wrong, live.ErrOffline), h.wrong != nil && link != state.Connected:
		if h.current() {
			return "Not updated: the agent can't be reached."
		}
		return "The history is kept by the agent, which can't be reached. It comes back with it."
	case h.wrong != nil:
		return "The history could not be loaded: " + h.wrong.Error() + "."
	case !h.current():
		return "Loading the history…"
	}
	least, mean, most, ok := extent(h.answer)
	if !ok {
		return "Nothing was recorded in this time."
	}
	unit := " " + pastMetrics[h.shown.metric].unit
	return "Mean " + grouped(mean) + unit + ", from " + grouped(least) + " to " + grouped(most) + unit + ". Line: mean of each " + span(seconds(h.answer.StepSeconds)) + "; band: least to most."
}

func (h *past) render(link state.Link) app.UI {
	status := "ready"
	switch {
	case h.wrong != nil:
		status = "failed"
	case !h.current():
		status = "loading"
	}
	return el("div", "past-plot", at{"data-status", status}, h.renderAxis(), h.renderDrawing(), h.renderTimes(),
		el("p", "past-words", nil, text(h.words(link))))
}

// scale gives the ends of the axis of what is drawn; false when nothing is.
func (h *past) scale() (scale, bool) {
	if !h.current() {
		return scale{}, false
	}
	least, _, most, ok := extent(h.answer)
	if !ok {
		return scale{}, false
	}
	return plotScale(h.query.Metric, least, most), true
}

func (h *past) renderAxis() app.UI {
	labels := make([]app.UI, plotLines+1)
	s, ok := h.scale()
	for i := range labels {
		label := ""
		if ok {
			label = grouped(s.high - float64(i)*(s.high-s.low)/plotLines)
		}
		if i == 0 {
			label += " " + pastMetrics[h.choice.metric].unit
		}
		labels[i] = el("span", "", nil, text(label))
	}
	return el("div", "past-y", at{"aria-hidden", "true"}, labels...)
}

func (h *past) renderDrawing() app.UI {
	line, band := "M0 0", "M0 0"
	if s, ok := h.scale(); ok {
		line, band = plot(h.answer, h.query.From, h.query.To, s)
	}
	rules := ""
	for i := range plotLines + 1 {
		y := strconv.Itoa(i * plotHeight / plotLines)
		rules += "M0 " + y + "H" + strconv.Itoa(plotWidth)
	}
	return drawing("0 0 "+strconv.Itoa(plotWidth)+" "+strconv.Itoa(plotHeight), "past-drawing",
		shape(at{"class", "rule", "d", rules}), shape(at{"class", "area", "d", band}), shape(at{"class", "line", "d", line}))
}

func (h *past) renderTimes() app.UI {
	s := pastSpans[h.choice.span]
	labels := make([]app.UI, s.ticks+1)
	for i := range labels {
		label := ""
		if h.current() {
			label = h.query.From.Add(s.length * time.Duration(i) / time.Duration(s.ticks)).Local().Format(s.layout)
		}
		labels[i] = el("span", "", nil, text(label))
	}
	return el("div", "past-x", at{"aria-hidden", "true"}, labels...)
}
