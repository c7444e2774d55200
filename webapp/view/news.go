package view

import (
	"slices"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
	"muster/webapp/live"
	"muster/webapp/state"
)

// take applies what came and counts the structural changes.
func (p *Page) take(news live.News) {
	for _, e := range news.Events {
		p.note(e)
		p.state = p.state.Apply(e)
	}
	if news.Link != "" && (news.Link != p.state.Link || !news.Since.Equal(p.state.Since)) {
		p.link(news)
	}
	if slices.ContainsFunc(news.Events, func(e wire.Event) bool { return e.Job != nil || e.Hello != nil }) {
		p.look()
	}
	p.refreshOutbox()
}

func (p *Page) link(news live.News) {
	since := news.Since
	if since.IsZero() {
		since = p.state.Since // nothing arrived in this run of the app: the last known state is older
	}
	if news.Link == p.state.Link && since.Equal(p.state.Since) {
		return
	}
	p.state = p.state.Linked(news.Link, since)
	p.version.all()
}

func (p *Page) refreshOutbox() {
	if p.agent.Link == nil {
		return
	}
	if waiting := p.agent.Link.Outbox(); !slices.EqualFunc(waiting, p.waiting, sameCommand) {
		p.waiting = waiting
		p.version.jobs++
		p.release()
	}
}

// release takes back that the last order is kept here, once it is sent or discarded.
func (p *Page) release() {
	if !p.kept || slices.ContainsFunc(p.waiting, func(c wire.Command) bool { return c.Submit != nil && c.Submit.ID == p.ordered }) {
		return
	}
	p.kept, p.said = false, ""
	p.version.form++
}

func sameCommand(a, b wire.Command) bool {
	switch {
	case a.Submit != nil && b.Submit != nil:
		return a.Submit.ID == b.Submit.ID
	case a.Cancel != nil && b.Cancel != nil:
		return a.Cancel.ID == b.Cancel.ID
	default:
		return false
	}
}

// note counts the structural changes that an event is about to make.
func (p *Page) note(e wire.Event) {
	switch {
	case e.Hello != nil, e.Inventory != nil:
		p.version.all()
	case e.Capacity != nil:
		p.told()
		p.toldModels()
		p.dropChosen(e.Capacity)
		p.version.form++
		p.version.devices++
		p.version.system++
		p.version.generators++
		p.version.models++
	case e.Library != nil:
		p.toldModels()
		if !state.SameLibrary(p.state.Library, e.Library) {
			p.version.models++
			p.version.form++
		}
	case e.History != nil:
		p.drawn = 0
	case e.Snapshot != nil:
		p.noteSnapshot(e.Snapshot)
	case e.Details != nil:
		p.noteReport(e.Details)
	case e.Job != nil:
		p.noteJob(e.Job)
	case e.Error != nil:
		p.noteError(*e.Error)
	}
}

func (p *Page) noteSnapshot(s *gpu.Snapshot) {
	if s.Time.Sub(p.paneled) >= panelInterval {
		p.behind = true
	}
	same := func(a, b gpu.Reading) bool { return a.State == b.State }
	if p.state.Snapshot == nil || !slices.EqualFunc(p.state.Snapshot.GPUs, s.GPUs, same) {
		p.version.devices++
		p.version.system++
	}
}

// noteReport renders the open panels, and the cards when one has a new fault.
func (p *Page) noteReport(r *gpu.Report) {
	p.behind = true
	for i := range r.Devices {
		now, before := r.Devices[i].Faults, p.state.Details(gpu.Ref(i)).Faults
		if len(now) != len(before) || len(now) > 0 && now[len(now)-1] != before[len(before)-1] {
			p.version.devices++
			return
		}
	}
}

func (p *Page) noteJob(j *job.Job) {
	old := p.state.Job(j.ID)
	if old != nil && old.State == j.State && old.Attempt == j.Attempt && old.Error == j.Error && old.ImageID == j.ImageID && (old.Progress.Preview == 0) == (j.Progress.Preview == 0) {
		return // progress and outlook are painted
	}
	p.version.jobs++
	if old == nil || old.State != j.State || old.Attempt != j.Attempt {
		p.version.devices++
	}
	if j.ImageID != "" {
		p.version.images++
	}
	if old != nil && !old.State.Terminal() && j.State.Terminal() {
		p.announceEnd(j)
	}
}

// announceEnd tells screen readers about a failure at once, and about the other ends when the last image of the set has its own.
func (p *Page) announceEnd(j *job.Job) {
	ready, open := 0, 0
	for _, other := range p.state.Jobs {
		switch {
		case other.SetID != j.SetID:
		case other.ID == j.ID, other.State == job.Succeeded:
			ready++
		case !other.State.Terminal():
			open++
		}
	}
	switch {
	case j.State == job.Failed:
		p.announce = "An image failed: " + j.Error
	case open == 0 && j.State == job.Succeeded:
		p.announce = plural(ready, "image is", "images are") + " ready."
	case open == 0 && j.State == job.Cancelled:
		p.announce = "The rest is cancelled. " + plural(ready-1, "image is", "images are") + " ready."
	}
}

// noteError shows a refusal where the command was given: at its field, under the form, or over everything.
func (p *Page) noteError(e wire.Error) {
	switch ours := e.ID != "" && e.ID == p.ordered; {
	case ours && fieldIDs[e.Field] != "":
		p.wrong, p.refusal = map[string]string{e.Field: e.Message}, "Not accepted: see the field above."
	case ours:
		p.refusal = "Not accepted: " + e.Message
	default:
		p.notice = e.Message
	}
	p.version.form++
	p.version.jobs++
}

// look finds the running jobs.
func (p *Page) look() {
	p.working, p.running = nil, map[gpu.Ref]*job.Job{}
	p.forgetPreviews()
	for _, j := range p.state.Jobs {
		if j.State != job.Running {
			continue
		}
		p.working = append(p.working, j)
		if j.DeviceID != nil {
			p.running[*j.DeviceID] = j
		}
	}
}
