package view

import (
	"strconv"
	"time"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/model"
	"muster/webapp/live"
)

// endedInstalls is how many installations that have ended are shown, beside all that have not.
const endedInstalls = 4

// renderInstalls shows what is on its way to the library, and what ended lately.
func (m *models) renderInstalls(library *model.Library) app.UI {
	if library == nil {
		return nothing()
	}
	var rows []app.UI
	for _, in := range m.Page.shownInstalls(library) {
		rows = append(rows, m.renderInstall(in))
	}
	return el("ul", "entries", at{"id", "installs", "aria-label", "Installations"}, rows...)
}

// shownInstalls leaves out those whose model is here, which shows among the others, and those that a person stopped.
func (p *Page) shownInstalls(library *model.Library) []*model.Install {
	var out []*model.Install
	ended := 0
	for i := range library.Installs {
		in := &library.Installs[i]
		switch {
		case in.State == model.Stopped, in.State == model.Installed && in.Error == "":
		case !in.State.Ended():
			out = append(out, in)
		case ended < endedInstalls:
			ended++
			out = append(out, in)
		}
	}
	return out
}

func (m *models) renderInstall(in *model.Install) app.UI {
	now, id := m.Page.asking(installKey(in.ID)), "i"+in.ID
	tone := "well"
	if in.State == model.Failed {
		tone = "trouble"
	}
	bar := nothing()
	if !in.State.Ended() {
		bar = el("div", "bar", nil, el("progress", "", installProgress(in, at{"id", id + "-bar", "aria-label", "Installation of " + in.Name})))
	}
	target := ""
	if in.Device != nil {
		target = "then loaded on " + in.Device.Label()
	}
	return el("li", "entry", at{"data-install", in.ID, "data-state", string(in.State), "data-tone", tone},
		el("div", "entry-body", nil,
			el("p", "entry-head", nil, el("strong", "", nil, text(in.Name)), el("span", "badge state", nil, text(installState(in)))),
			bar,
			el("p", "entry-meta figures-line", at{"id", id + "-words"}, text(installWords(in, m.Page.state.Live()))),
			el("p", "entry-meta", nil, text(listed(in.From, target))),
			el("p", "entry-problem", nil, text(sentenceOf(in.Error))),
			el("p", "field-error", at{"role", "alert"}, text(now.refusal))),
		m.renderInstallActs(in, now))
}

func installProgress(in *model.Install, attributes at) at {
	if in.Total > 0 {
		attributes = append(attributes, "max", strconv.FormatInt(in.Total, 10), "value", strconv.FormatInt(min(in.Bytes, in.Total), 10))
	}
	return attributes
}

// installState says where an installation is, in a word or two.
func installState(in *model.Install) string {
	switch in.State {
	case model.Waiting:
		return "waiting"
	case model.Downloading:
		return "downloading"
	case model.Verifying:
		return "checking"
	case model.Loading:
		return "loading"
	case model.Installed:
		return "installed"
	case model.Failed:
		return "failed"
	default:
		return string(in.State)
	}
}

// installWords say how far an installation is: "3.2 of 6.9 GB · 84 MB a second · 44 s left". live says that it is of now.
func installWords(in *model.Install, live bool) string {
	size, speed, left := "", "", ""
	switch {
	case in.Total > 0 && in.State != model.Installed:
		size = fileSize(in.Bytes) + " of " + fileSize(in.Total)
	case in.Bytes > 0 && !in.State.Ended():
		size = fileSize(in.Bytes)
	}
	if in.State == model.Downloading && in.Speed > 0 && live {
		speed = fileSize(in.Speed) + " a second"
		if in.Total > in.Bytes {
			if seconds := (in.Total - in.Bytes) / in.Speed; seconds < 7*24*3600 {
				left = remaining(time.Duration(seconds) * time.Second)
			}
		}
	}
	if in.State == model.Waiting {
		size = listed(size, "begins when the one before it is done")
	}
	return listed(size, speed, left)
}

// remaining writes a time left coarsely enough to be calm.
func remaining(d time.Duration) string {
	words := about(d)
	if words == "" {
		return "nearly done"
	}
	return words + " left"
}

func (m *models) renderInstallActs(in *model.Install, now *deciding) app.UI {
	button := func(act live.ModelAct, label string) app.UI {
		name := label + ": " + in.Name
		if now.busy && now.what == string(act) {
			label += " …"
		}
		return el("button", "quiet-button", at{"type", "button", "data-act", string(act), "data-install", in.ID, "aria-label", name,
			"disabled", flag(!m.Page.steerable()), "aria-disabled", flag(now.busy)}, text(label), on("click", m.Page.installAct))
	}
	switch in.State {
	case model.Failed:
		return el("div", "entry-acts", nil, button(live.AgainInstall, "Try again"), button(live.StopInstall, "Give up"))
	case model.Installed:
		return nothing()
	default:
		return el("div", "entry-acts", nil, button(live.StopInstall, "Stop"))
	}
}

// installAct sends the act that the button of an installation names.
func (p *Page) installAct(ctx app.Context, _ app.Event) {
	id, act := data(ctx, "install"), live.ModelAct(data(ctx, "act"))
	p.command(installKey(id), live.ModelCommand{Act: act, Install: id}, func(err error) {
		if err == nil {
			focus("models") // the button goes
		}
	})
}

// paintInstalls writes how far installations are.
func (p *Page) paintInstalls() {
	library := p.state.Library
	if library == nil || library == p.shelf.painted {
		return
	}
	p.shelf.painted = library
	p.shelf.loads.text("models-tally", p.modelsTally())
	for _, in := range p.shownInstalls(library) {
		id := "i" + in.ID
		p.shelf.loads.text(id+"-words", installWords(in, p.state.Live()))
		if in.Total > 0 && !in.State.Ended() {
			p.shelf.loads.attribute(id+"-bar", "max", strconv.FormatInt(in.Total, 10))
			p.shelf.loads.attribute(id+"-bar", "value", strconv.FormatInt(min(in.Bytes, in.Total), 10))
		}
	}
}
