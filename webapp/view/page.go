// Package view is the page: one component per file. Page owns what is shown; the other components point to it and render again
// only when their Version rises. What changes with every tick is painted past them (painter.go).
package view

import (
	"context"
	"strconv"
	"time"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
	"muster/webapp/state"
)

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

	open    map[string]bool        // the devices, by ID, whose details are open
	panels  map[*panel]app.Context // that show them
	around  app.Context            // of the devices around the panels
	paneled time.Time              // the snapshot that the panels rendered last
	behind  bool                   // something came that the panels do not show yet
	choice  pastChoice             // of history that was looked at last

	decisions map[string]*deciding // by stable ID of a device, or budgetKey
	outlooks  outlooks
	previews  map[string]preview // by job
	shelf     shelf
	chosen    map[string]string // what a person chose of lists that the agent changes, by id of the select

	title    string // of the browser's tab
	theme    theme
	pairing  pairing
	notice   string            // what went wrong last, for a person to close
	announce string            // for screen readers: what was finished
	wrong    map[string]string // what is wrong with the form, by field of a Spec
	ordered  string            // id of the command that the form made last
	said     string            // what became of it
	kept     bool              // it waits for the connection
	refusal  string            // why the agent did not accept it
	picture  string            // id of the job whose image is open; "" for none
	shown    int               // how many images the gallery shows
	stop     context.CancelFunc
}

// versions count the structural changes of each part.
type versions struct{ system, devices, form, jobs, images, generators, models int }

// all is the change of everything.
func (v *versions) all() {
	*v = versions{v.system + 1, v.devices + 1, v.form + 1, v.jobs + 1, v.images + 1, v.generators + 1, v.models + 1}
}

// NewPage makes the page with the last known state, if one was kept.
func NewPage(a Agent) *Page {
	p := &Page{agent: a, paint: painter{on: document{}}, steps: painter{on: document{}}, shown: galleryPage}
	p.shelf.loads.on = document{}
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
	if p.agent.OnVisible != nil {
		p.agent.OnVisible(func() {
			ctx.Dispatch(func(ctx app.Context) {
				p.settle(ctx)
				p.refreshPanels()
			})
		})
	}
	listening, stop := context.WithCancel(context.Background())
	p.stop = stop
	ctx.Async(func() {
		if p.agent.Code != "" && p.agent.Pair != nil {
			if err := p.agent.Pair(listening, p.agent.Code); err != nil {
				ctx.Dispatch(func(app.Context) { p.pairing.wrong = capital(err.Error()) })
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

// receive takes what came, and lets render only what changed in structure; the rest is painted. While nobody can see the page
// only its title changes: the rest is rendered when it is seen again.
func (p *Page) receive(ctx app.Context) {
	before, announced := p.version, p.announce
	p.take(p.agent.Link.Take())
	if p.visible() {
		if p.behind {
			p.refreshPanels()
		}
		p.askOffers(ctx)
	}
	switch changed := p.version != before || p.announce != announced; {
	case !p.visible():
		ctx.PreventUpdate()
		p.retitle()
	case changed:
		p.settle(ctx)
	default:
		ctx.PreventUpdate()
		p.paintAll()
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
			p.outlooks.painted = false
		}
		if p.settled.models != p.version.models {
			p.shelf.loads.reset()
			p.shelf.painted = nil
		}
		p.settled = p.version
		p.retitle()
		p.fillIn()
		p.rechoose()
		p.paintAll()
	})
}

// retitle says in the browser's tab what is being made.
func (p *Page) retitle() {
	title := "muster"
	if n := len(p.working); n > 0 {
		title = strconv.Itoa(n) + " running · muster"
	}
	if title != p.title {
		p.title = title
		app.Window().Get("document").Set("title", title)
	}
}

// lookAround finds out which cards can be seen, where there are many.
func (p *Page) lookAround() {
	if p.state.Inventory != nil && len(p.state.Inventory.Devices) >= denseFrom {
		p.window.observe()
	}
}

func (p *Page) visible() bool { return p.agent.Visible == nil || p.agent.Visible() }

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
					&models{Page: p, Version: p.version.models},
					&generators{Page: p, Version: p.version.generators},
				),
			),
		),
		p.renderFooter(),
		&lightbox{Page: p, Picture: p.picture, Version: p.version.images},
		el("p", "visually-hidden", at{"id", "announcements", "aria-live", "polite"}, text(p.announce)),
	)
}

// hidden says that there is nothing to see before the browser is paired.
func (p *Page) hidden() bool { return p.state.Link == state.Unpaired && p.state.Inventory == nil }

func (p *Page) contentClass() string {
	if p.hidden() {
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
