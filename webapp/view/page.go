// Package view is the page: one component per file. Page owns what is shown; the other components point to it and render again
// only when their Version rises. What changes with every tick is painted past them (painter.go).
package view

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
	"muster/webapp/live"
	"muster/webapp/state"
)

// Agent is what the page needs from the outside. Only Link is required; without the others the page just can't do what they do.
type Agent struct {
	Link *live.Link
	// Pair gives a one-time code for a session; its error is for people.
	Pair func(ctx context.Context, code string) error
	// Code is a one-time code that came with the page's address; "" for none.
	Code string
	// NewID gives an id for a command that nobody else has.
	NewID func() string
	// Visible says whether anybody can see the page; nil: always.
	Visible func() bool
	// Keep holds the last known state and the choices of the reader; nil keeps nothing.
	Keep Keep
}

// Keep is a small store of texts by key. Get gives "" for an unknown key.
type Keep interface {
	Get(key string) string
	Set(key, value string) error
}

// Page is the whole app. All routes share one, so that nothing is lost between them. Its fields belong to the UI goroutine.
type Page struct {
	app.Compo

	agent   Agent
	state   state.State
	working []*job.Job           // the running jobs
	running map[gpu.Ref]*job.Job // and by device
	waiting []wire.Command       // sent or to be sent, not answered yet
	metric  state.Metric         // what the cards' trends show
	paint   painter              // of system and devices
	steps   painter              // of jobs
	settled versions             // that the painters know the elements of
	window  viewport
	cards   []cardIDs
	version versions
	drawn   int64     // bucket that the trends were last drawn for
	saved   time.Time // when the last known state was kept

	theme    theme
	pairing  pairing
	notice   string            // what went wrong last, for a person to close
	announce string            // for screen readers: what was finished
	wrong    map[string]string // what is wrong with the form, by field of a Spec
	ordered  string            // id of the command that the form made last
	refusal  string            // why the agent did not accept it
	picture  string            // id of the job whose image is open; "" for none
	shown    int               // how many images the gallery shows
	stop     context.CancelFunc
}

// versions count the structural changes of each part.
type versions struct{ system, devices, form, jobs, images int }

// all is the change of everything.
func (v *versions) all() {
	*v = versions{v.system + 1, v.devices + 1, v.form + 1, v.jobs + 1, v.images + 1}
}

// NewPage makes the page with the last known state, if one was kept.
func NewPage(a Agent) *Page {
	p := &Page{agent: a, paint: painter{on: document{}}, steps: painter{on: document{}}, shown: galleryPage}
	p.state.Link = state.Connecting
	if a.Keep != nil {
		if kept, err := state.Restore([]byte(a.Keep.Get(keepState))); err == nil {
			p.state = kept
		}
		p.theme = theme(a.Keep.Get(keepTheme))
	}
	p.look()
	return p
}

// look finds the running jobs.
func (p *Page) look() {
	p.working, p.running = nil, map[gpu.Ref]*job.Job{}
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

// Keys of what is kept. The loader reads keepTheme too, before anything is drawn.
const (
	keepState = "muster.state"
	keepTheme = "muster.theme"
)

// OnMount pairs with the code of the address, connects and listens.
func (p *Page) OnMount(ctx app.Context) {
	if p.agent.Link == nil {
		return
	}
	p.window.changed = func() {
		ctx.Dispatch(func(ctx app.Context) {
			ctx.PreventUpdate()
			p.drawn = 0
			p.paintAll()
		})
	}
	listening, stop := context.WithCancel(context.Background())
	p.stop = stop
	ctx.Async(func() {
		if p.agent.Code != "" && p.agent.Pair != nil {
			if err := p.agent.Pair(listening, p.agent.Code); err != nil {
				ctx.Dispatch(func(app.Context) { p.pairing.wrong = err.Error() })
			}
		}
		_ = p.agent.Link.Run(listening) // it ends with the page
	})
	ctx.Async(func() {
		for {
			select {
			case <-listening.Done():
				return
			case <-p.agent.Link.Ready():
				ctx.Dispatch(p.receive)
			}
		}
	})
	p.settle(ctx)
}

// OnDismount stops listening.
func (p *Page) OnDismount() {
	if p.stop != nil {
		p.stop()
	}
}

// receive takes what came, and lets render only what changed in structure; the rest is painted.
func (p *Page) receive(ctx app.Context) {
	before := p.version
	announced := p.announce
	p.take(p.agent.Link.Take())
	if p.version == before && p.announce == announced {
		ctx.PreventUpdate()
		if p.visible() {
			p.paintAll()
		}
	} else {
		p.settle(ctx)
	}
	p.keep(time.Now())
}

// settle repaints after the rendering that is due. Painters forget the elements of parts that were rendered anew.
func (p *Page) settle(ctx app.Context) {
	ctx.Defer(func(app.Context) {
		if p.settled.system != p.version.system || p.settled.devices != p.version.devices {
			p.paint.reset()
			p.drawn = 0
			p.lookAround()
		}
		if p.settled.jobs != p.version.jobs {
			p.steps.reset()
		}
		p.settled = p.version
		app.Window().Get("document").Set("title", p.title())
		p.paintAll()
	})
}

// title says in the browser's tab what is being made.
func (p *Page) title() string {
	if len(p.working) == 0 {
		return "muster"
	}
	return strconv.Itoa(len(p.working)) + " running · muster"
}

// lookAround finds out which cards can be seen, where there are many.
func (p *Page) lookAround() {
	if p.state.Inventory != nil && len(p.state.Inventory.Devices) >= denseFrom {
		p.window.observe()
	}
}

func (p *Page) visible() bool { return p.agent.Visible == nil || p.agent.Visible() }

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
	}
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
		p.version.form++
		p.version.devices++
	case e.History != nil:
		p.drawn = 0
	case e.Snapshot != nil:
		p.noteSnapshot(e.Snapshot)
	case e.Job != nil:
		p.noteJob(e.Job)
	case e.Error != nil:
		p.noteError(*e.Error)
	}
}

func (p *Page) noteSnapshot(s *gpu.Snapshot) {
	same := func(a, b gpu.Reading) bool { return a.State == b.State }
	if p.state.Snapshot == nil || !slices.EqualFunc(p.state.Snapshot.GPUs, s.GPUs, same) {
		p.version.devices++
		p.version.system++
	}
}

func (p *Page) noteJob(j *job.Job) {
	old := p.state.Job(j.ID)
	if old != nil && old.State == j.State && old.Attempt == j.Attempt && old.Reason == j.Reason && old.Error == j.Error && old.ImageID == j.ImageID {
		return // progress
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

// announceEnd tells screen readers about a failure at once, and about success when the last image of the set is there.
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

// keep saves the last known state every ten seconds.
func (p *Page) keep(now time.Time) {
	const every = 10 * time.Second
	if p.agent.Keep == nil || p.state.Snapshot == nil || p.state.Link != state.Connected || now.Sub(p.saved) < every {
		return
	}
	p.saved = now
	if b, err := p.state.Save(now); err == nil {
		// A full store costs only the offline start.
		_ = p.agent.Keep.Set(keepState, string(b))
	}
}

// Render shows the frame and its parts.
func (p *Page) Render() app.UI {
	return el("div", "page", at{"data-link", string(p.state.Link)},
		el("a", "skip", at{"href", "#main", "data-section", "main"}, text("Skip to content"), on("click", goToSection)),
		p.renderHeader(),
		el("main", "", at{"id", "main", "tabindex", "-1"},
			p.renderNotices(),
			p.renderPairing(),
			el("div", p.contentClass(), nil,
				&system{Page: p, Version: p.version.system},
				el("div", "columns", nil,
					&devices{Page: p, Version: p.version.devices},
					el("div", "rail", nil, &form{Page: p, Version: p.version.form}, &jobs{Page: p, Version: p.version.jobs}),
					&gallery{Page: p, Version: p.version.images},
				),
			),
		),
		p.renderFooter(),
		&lightbox{Page: p, Picture: p.picture, Version: p.version.images},
		el("p", "visually-hidden", at{"id", "announcements", "aria-live", "polite"}, text(p.announce)),
	)
}

// contentClass hides the page where there is nothing to see before the browser is paired.
func (p *Page) contentClass() string {
	if p.state.Link == state.Unpaired && p.state.Inventory == nil {
		return "none"
	}
	return "content"
}

func (p *Page) renderFooter() app.UI {
	build := "muster"
	if p.state.Hello.Build != "" {
		build += " " + p.state.Hello.Build
	}
	return el("footer", "foot", nil, el("span", "", nil, text(build)),
		el("span", "", nil, text("Everything on this page comes from this machine and stays on it.")))
}
