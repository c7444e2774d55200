package view

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"muster/shared/gpu"
	"muster/shared/wire"
	"muster/webapp/live"
	"muster/webapp/state"
)

var nan = math.NaN()

// flat is a past in which least, mean and most are the same.
func flat(step float64, times []time.Time, values ...float64) live.Past {
	return live.Past{StepSeconds: step, Times: times, Min: values, Mean: values, Max: values}
}

// after gives times so many seconds after noon.
func after(seconds ...int) []time.Time {
	times := make([]time.Time, len(seconds))
	for i, s := range seconds {
		times[i] = noon.Add(time.Duration(s) * time.Second)
	}
	return times
}

func TestPlot(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		in         live.Past
		line, band string
	}{
		{"nothing", live.Past{}, "M0 0", "M0 0"},
		{"only absent", flat(10, after(0, 10), nan, nan), "M0 0", "M0 0"},
		{"band from most to least", live.Past{StepSeconds: 50, Times: after(0, 50), Min: wire.Column{0, 0}, Mean: wire.Column{50, 50}, Max: wire.Column{100, 100}},
			"M0.0 80.0L300.0 80.0L600.0 80.0", "M0.0 0.0L300.0 0.0L600.0 0.0L600.0 160.0L300.0 160.0L0.0 160.0Z"},
		{"an absent value is a gap", flat(25, after(0, 25, 50, 75), 0, nan, nan, 100), "M0.0 160.0L150.0 160.0M450.0 0.0L600.0 0.0", "M0.0 160.0L150.0 160.0L150.0 160.0L0.0 160.0ZM450.0 0.0L600.0 0.0L600.0 0.0L450.0 0.0Z"},
		{"left out steps are a gap", flat(10, after(0, 90), 0, 0), "M0.0 160.0L60.0 160.0M540.0 160.0L600.0 160.0", "M0.0 160.0L60.0 160.0L60.0 160.0L0.0 160.0ZM540.0 160.0L600.0 160.0L600.0 160.0L540.0 160.0Z"},
		{"out of range stays in the box", flat(200, after(-50), 250), "M0.0 0.0L600.0 0.0", "M0.0 0.0L600.0 0.0L600.0 0.0L0.0 0.0Z"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			line, band := plot(test.in, noon, noon.Add(100*time.Second), scale{0, 100})
			if line != test.line || band != test.band {
				t.Errorf("line %s\nband %s\nwant %s\nand  %s", line, band, test.line, test.band)
			}
		})
	}
}

func TestPlotScale(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		metric      gpu.Metric
		least, most float64
		want        scale
	}{
		{gpu.MetricUtilization, 40, 60, scale{0, 100}}, {gpu.MetricMemoryPercent, 0, 0, scale{0, 100}},
		{gpu.MetricTemperature, 31, 44, scale{20, 60}}, {gpu.MetricTemperature, -4, 84, scale{-10, 90}},
		{gpu.MetricPower, 10, 690, scale{0, 800}}, {gpu.MetricPower, 0, 0, scale{0, 4}}, {gpu.MetricPower, 0, 100, scale{0, 100}},
		{gpu.MetricCoreClock, 300, 1980, scale{0, 2000}}, {gpu.MetricMemoryClock, 0, 2619, scale{0, 4000}},
	} {
		if got := plotScale(test.metric, test.least, test.most); got != test.want {
			t.Errorf("%s %g to %g: %v, want %v", test.metric, test.least, test.most, got, test.want)
		}
	}
	for _, odd := range []float64{math.Inf(1), math.NaN(), -3} {
		if got := roundStep(odd); got != 1 {
			t.Errorf("step for %g: %g", odd, got)
		}
	}
}

func TestPastAsksWhenItIsDue(t *testing.T) {
	t.Parallel()
	h := &past{}
	if !h.due(noon, true) {
		t.Fatal("not due when it opens")
	}
	query, ticket := h.ask(3, noon, noon.Add(-time.Second))
	if query.Device != 3 || query.Metric != gpu.MetricUtilization || query.To.Sub(query.From) != 10*time.Minute || !query.To.Equal(noon.Add(-time.Second)) || query.Points != pastPoints {
		t.Errorf("asks %+v", query)
	}
	if h.due(noon.Add(time.Hour), true) {
		t.Error("due while an answer is on its way")
	}
	h.take(ticket, query, flat(10, after(0), 1), nil)
	if h.due(noon.Add(9*time.Second), true) || !h.due(noon.Add(10*time.Second), true) {
		t.Error("ten minutes are not renewed every ten seconds")
	}
	h.choose(pastChoice{metric: 3, span: 2})
	if !h.due(noon, true) {
		t.Error("not due when the choice changed")
	}
	_, ticket = h.ask(3, noon, noon)
	h.take(ticket, query, live.Past{}, errors.New("busy"))
	if h.due(noon.Add(9*time.Second), true) || !h.due(noon.Add(10*time.Second), true) || h.due(noon.Add(time.Hour), false) {
		t.Error("a failure is tried again after ten seconds, while connected")
	}
}

func TestLateAnswersAreDropped(t *testing.T) {
	t.Parallel()
	h := &past{}
	first, one := h.ask(0, noon, noon)
	h.choose(pastChoice{span: 1})
	second, two := h.ask(0, noon, noon)
	h.take(two, second, flat(60, after(0), 2), nil)
	h.take(one, first, flat(10, after(0), 1), nil)
	if !h.current() || h.answer.Mean[0] != 2 || h.query.To.Sub(h.query.From) != 24*time.Hour {
		t.Errorf("shows %+v", h.answer)
	}
}

func TestPastWords(t *testing.T) {
	t.Parallel()
	answered := func(p live.Past) *past {
		h := &past{}
		query, ticket := h.ask(0, noon, noon)
		h.take(ticket, query, p, nil)
		return h
	}
	failed := func(h *past, err error) *past {
		_, ticket := h.ask(0, noon, noon)
		h.take(ticket, live.PastQuery{}, live.Past{}, err)
		return h
	}
	values := flat(10, after(-60, -50), 20, 40)
	for _, test := range []struct {
		name   string
		in     *past
		link   state.Link
		status string
		drawn  bool
		want   string
	}{
		{"loading", &past{}, state.Connected, "loading", false, "Loading the history…"},
		{"ready", answered(values), state.Connected, "ready", true, "Mean 30 %, from 20 to 40 %. Line: mean of each 10 s; band: least to most."},
		{"empty", answered(live.Past{}), state.Connected, "ready", false, "Nothing was recorded in this time."},
		{"refused", failed(&past{}, errors.New("the disk is gone")), state.Connected, "failed", false, "The history could not be loaded: the disk is gone."},
		{"offline", failed(&past{}, live.ErrOffline), state.Offline, "failed", false, "The history is kept by the agent, which can't be reached. It comes back with it."},
		{"offline, with what was there", failed(answered(values), live.ErrOffline), state.Offline, "failed", true, "Not updated: the agent can't be reached."},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			markup, words := render(test.in.render(test.link))
			expect(t, words, test.want)
			expect(t, markup, `data-status="`+test.status+`"`)
			if drawn := strings.Contains(markup, "M540.0"); drawn != test.drawn {
				t.Errorf("drawn: %v", drawn)
			}
		})
	}
}

func TestPastAxes(t *testing.T) {
	t.Parallel()
	h := &past{choice: pastChoice{metric: 3, span: 0}}
	query, ticket := h.ask(0, noon, noon)
	h.take(ticket, query, flat(10, after(-60), 390), nil)
	_, words := render(h.render(state.Connected))
	want := "400 W 300 200 100 0 "
	for i := -10; i <= 0; i += 2 {
		want += noon.Add(time.Duration(i)*time.Minute).Local().Format("15:04") + " "
	}
	expect(t, words, want)
}

func TestChoicesOfThePast(t *testing.T) {
	t.Parallel()
	p := opened(machine(1).Devices[0], reading(0), gpu.Details{})
	_, words := html(p)
	refuse(t, words, "30 days") // nobody to ask
	p.agent.Past = func(context.Context, live.PastQuery) (live.Past, error) { return live.Past{}, nil }
	p.choice = pastChoice{metric: 2, span: 1}
	markup, words := html(p)
	expect(t, words, "Utilisation Memory Temperature Power Core clock Memory clock 10 min 24 h 30 days")
	for _, pressed := range [][]string{{`data-metric="2"`, `aria-pressed`}, {`data-span="1"`, `aria-pressed`}} {
		element(t, markup, pressed...)
	}
}
