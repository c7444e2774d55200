package view

import (
	"strconv"
	"strings"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/job"
	"muster/shared/wire"
	"muster/webapp/state"
)

// jobs is the list of what was ordered: what waits for the connection, what is being made, and what has ended lately.
type jobs struct {
	app.Compo
	Page    *Page
	Version int
}

// endedSets is how many sets stay on the list after they ended; activeSets is how many are shown of those that have not, beside
// all of which an image is being made.
const (
	endedSets  = 5
	activeSets = 12
)

// Render shows the list.
func (l *jobs) Render() app.UI {
	sets := l.Page.state.Sets()
	var active, ended []app.UI
	running, queued := 0, 0
	shown, hidden := shownSets(sets)
	for _, s := range shown {
		active = append(active, l.renderSet(s))
	}
	for _, s := range sets {
		running += s.Count(job.Running)
		queued += s.Count(job.Queued)
		switch {
		case s.Active():
		case len(ended) < endedSets:
			ended = append(ended, l.renderEnded(s))
		}
	}
	waiting := l.renderWaiting()
	return section("jobs", "panel",
		heading("jobs", "Jobs", el("p", "tally", nil, text(l.tally(running, queued)))),
		l.renderEmpty(len(waiting)+len(active)+len(ended) == 0),
		el("div", "sets", nil, append(waiting, active...)...),
		renderHidden(hidden),
		el("div", "sets ended", nil, ended...))
}

// shownSets gives of the sets that have not ended those that are shown, and how many images of the others wait. Thousands may be
// queued.
func shownSets(sets []state.Set) (shown []state.Set, hidden int) {
	for _, s := range sets {
		switch {
		case !s.Active():
		case len(shown) < activeSets || s.Count(job.Running) > 0:
			shown = append(shown, s)
		default:
			hidden += s.Count(job.Queued)
		}
	}
	return shown, hidden
}

func renderHidden(images int) app.UI {
	if images == 0 {
		return nothing()
	}
	return el("p", "hidden-sets", nil, text("And "+plural(images, "image", "images")+" of earlier orders, which wait."))
}

func (l *jobs) tally(running, queued int) string {
	switch {
	case running+queued == 0 && !l.Page.informed():
		return ""
	case running+queued == 0:
		return "nothing is being made"
	case queued == 0:
		return strconv.Itoa(running) + " running"
	default:
		return strconv.Itoa(running) + " running, " + strconv.Itoa(queued) + " queued"
	}
}

// informed says whether the page knows what the agent knows. Without it an empty list means nothing.
func (p *Page) informed() bool {
	return p.state.Link != state.Offline && p.state.Link != state.Unpaired
}

func (l *jobs) renderEmpty(empty bool) app.UI {
	if !empty {
		return nothing()
	}
	if !l.Page.informed() {
		return el("p", "empty", nil, text("The agent has the jobs: they show when it is back."))
	}
	return el("p", "empty", nil, text("No jobs yet. Describe an image: each image of an order goes to the device that will have it ready first."))
}

// renderWaiting shows orders that the agent has not confirmed.
func (l *jobs) renderWaiting() []app.UI {
	var out []app.UI
	for _, c := range l.Page.waiting {
		if c.Submit == nil {
			continue
		}
		words := "Sending…"
		if l.Page.state.Link != state.Connected {
			words = "Waiting for the connection. It is sent once, as soon as the agent is back."
		}
		out = append(out, el("article", "set waiting", at{"data-waiting", c.Submit.ID},
			setPrompt("p", c.Submit.Spec.Prompt),
			el("div", "set-end", nil,
				el("p", "set-meta", nil, text(plural(max(1, c.Submit.Spec.Count), "image", "images")+". "+words)),
				el("button", "quiet-button", at{"type", "button", "data-command", c.Submit.ID}, text("Discard"), on("click", l.withdraw)))))
	}
	return out
}

func setPrompt(tag, prompt string) app.UI {
	return el(tag, "set-prompt", at{"title", prompt}, text(prompt))
}

func (l *jobs) renderRows(s state.Set) app.UI {
	rows := make([]app.UI, len(s.Jobs))
	for i, j := range s.Jobs {
		rows[i] = l.renderJob(j, len(s.Jobs))
	}
	return el("ul", "job-list", nil, rows...)
}

func (l *jobs) renderSet(s state.Set) app.UI {
	return el("article", "set", at{"data-set", s.ID},
		setPrompt("p", s.Jobs[0].Prompt),
		el("p", "set-when", at{"id", "s" + s.ID + "-when"}, text(l.Page.setOutlook(s))),
		el("div", "set-end", nil,
			el("div", "set-words", nil,
				el("p", "set-meta", nil, text(shareWords(s))),
				el("p", "set-meta", nil, text(l.describe(s)))),
			el("button", "quiet-button", at{"type", "button", "data-set", s.ID}, text(cancelWord(len(s.Jobs))), on("click", l.cancelSet))),
		l.renderRows(s))
}

// shareWords say how many images of a set are on which device: "2 on Device 3 · 1 each on devices 0, 1 · 5 waiting". "" for a single
// image, and while all wait.
func shareWords(s state.Set) string {
	if len(s.Jobs) == 1 {
		return ""
	}
	devices := map[int][]string{} // by how many images are there
	for _, share := range s.Shares() {
		devices[share.Images] = append(devices[share.Images], share.Device.Label())
	}
	words := ""
	for n := len(s.Jobs); n > 0; n-- {
		if names := devices[n]; len(names) > 0 {
			words += separated(words, " · ") + strconv.Itoa(n) + nbsp + onDevices(names)
		}
	}
	if waiting := s.Count(job.Queued); waiting > 0 && words != "" {
		words += " · " + strconv.Itoa(waiting) + nbsp + "waiting"
	}
	return words
}

// onDevices joins labels of devices: "on Device 3", "each on devices 0, 1".
func onDevices(labels []string) string {
	if len(labels) == 1 {
		return "on " + strings.ReplaceAll(labels[0], " ", nbsp)
	}
	numbers := strings.ReplaceAll(strings.Join(labels, ", "), "Device ", "")
	return "each on devices" + nbsp + numbers
}

// renderEnded folds a set that has ended, unless something went wrong with it.
func (l *jobs) renderEnded(s state.Set) app.UI {
	return el("details", "set", at{"data-set", s.ID, "open", flag(s.Count(job.Failed) > 0)},
		el("summary", "", nil, el("span", "set-outcome", at{"data-tone", tone(s)}, text(outcome(s))), setPrompt("span", s.Jobs[0].Prompt)),
		l.renderRows(s))
}

func cancelWord(n int) string {
	if n == 1 {
		return "Cancel"
	}
	return "Cancel all"
}

func tone(s state.Set) string {
	switch {
	case s.Count(job.Failed) > 0:
		return "failed"
	case s.Count(job.Cancelled) == len(s.Jobs):
		return "cancelled"
	default:
		return "succeeded"
	}
}

// outcome says how a set ended: "4 of 4 ready", "3 of 4 ready, 1 failed".
func outcome(s state.Set) string {
	words := strconv.Itoa(s.Count(job.Succeeded)) + " of " + strconv.Itoa(len(s.Jobs)) + " ready"
	if n := s.Count(job.Failed); n > 0 {
		words += ", " + strconv.Itoa(n) + " failed"
	}
	if n := s.Count(job.Cancelled); n > 0 {
		words += ", " + strconv.Itoa(n) + " cancelled"
	}
	return words
}

func (l *jobs) describe(s state.Set) string {
	first := s.Jobs[0]
	return outcome(s) + " · " + strconv.Itoa(first.Width) + " × " + strconv.Itoa(first.Height) + " · " + strconv.Itoa(first.Steps) + " steps · " + l.Page.modelTitle(first.Model)
}

func (l *jobs) cancelling(jobID string) bool {
	for _, c := range l.Page.waiting {
		if c.Cancel != nil && c.Cancel.JobID == jobID {
			return true
		}
	}
	return false
}

func (l *jobs) cancel(ctx app.Context, _ app.Event) {
	l.Page.giveUp(data(ctx, "cancel"))
	focus("jobs") // the button goes
	l.Page.settle(ctx)
}

func (l *jobs) cancelSet(ctx app.Context, _ app.Event) {
	set := data(ctx, "set")
	for _, j := range l.Page.state.Jobs {
		if j.SetID == set && !j.State.Terminal() {
			l.Page.giveUp(j.ID)
		}
	}
	focus("jobs")
	l.Page.settle(ctx)
}

func (l *jobs) withdraw(ctx app.Context, _ app.Event) {
	l.Page.agent.Link.Withdraw(data(ctx, "command"))
	focus("jobs")
	l.Page.refreshOutbox()
	l.Page.settle(ctx)
}

// giveUp asks the agent to cancel a job, once.
func (p *Page) giveUp(jobID string) {
	for _, c := range p.waiting {
		if c.Cancel != nil && c.Cancel.JobID == jobID {
			return
		}
	}
	if err := p.agent.Link.Send(wire.Command{Cancel: &wire.Cancel{ID: p.agent.NewID(), JobID: jobID}}); err != nil {
		p.notice = err.Error()
	}
	p.refreshOutbox()
}

// paintJobs writes how far the running images are, and what is expected of those that have not ended.
func (p *Page) paintJobs() {
	for _, j := range p.working {
		id := "j" + j.ID
		p.steps.text(id+"-words", jobWords(j))
		p.steps.progress(id+"-bar", j)
	}
	p.paintOutlooks()
}
