package view

import (
	"context"
	"errors"
	"time"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/model"
	"muster/webapp/live"
)

// offers are the models that the agent recommends for this machine. It is asked when somebody looks.
type offers struct {
	asking bool
	asked  time.Time // zero: never
	wrong  error     // why the last answer is none
	list   []model.Recommendation
	known  bool // list is an answer
}

// offersLast is how long an answer is shown before the agent is asked again; offersAgain is that of a failure.
const (
	offersLast  = 5 * time.Minute
	offersAgain = 5 * time.Second
)

// due says whether the agent is to be asked.
func (o *offers) due(now time.Time) bool {
	switch {
	case o.asking:
		return false
	case o.wrong != nil:
		return now.Sub(o.asked) >= offersAgain
	default:
		return !o.known || now.Sub(o.asked) >= offersLast
	}
}

// take notes an answer. A failure keeps what was there before.
func (o *offers) take(list []model.Recommendation, err error) {
	o.asking, o.wrong = false, err
	if err == nil {
		o.list, o.known = list, true
	}
}

// askOffers asks for recommendations where somebody looks at them and that is due.
func (p *Page) askOffers(ctx app.Context) {
	now := time.Now()
	if !p.shelf.adding || p.agent.Recommend == nil || !p.steerable() || !p.shelf.offers.due(now) {
		return
	}
	p.shelf.offers.asking, p.shelf.offers.asked = true, now
	p.version.models++
	ctx.Async(func() {
		list, err := p.agent.Recommend(context.Background())
		ctx.Dispatch(func(ctx app.Context) {
			p.shelf.offers.take(list, err)
			p.version.models++
			p.settle(ctx)
		})
	})
}

func (m *models) renderOffers() app.UI {
	o := &m.Page.shelf.offers
	if m.Page.agent.Recommend == nil || !m.Page.shelf.adding {
		return nothing()
	}
	rows := make([]app.UI, len(o.list))
	for i := range o.list {
		rows[i] = m.renderOffer(&o.list[i])
	}
	return el("div", "offers", nil,
		el("h3", "", nil, text("Recommended for this machine")),
		el("p", "entry-meta", at{"role", "status"}, text(m.Page.offerWords())),
		el("ul", "entries", nil, rows...))
}

// offerWords say how things stand with the recommendations; "" when they are there.
func (p *Page) offerWords() string {
	o := &p.shelf.offers
	switch {
	case !p.steerable() && !o.known, errors.Is(o.wrong, live.ErrOffline):
		return "The agent knows them, which can't be reached."
	case o.wrong != nil:
		return "They could not be loaded: " + sentenceOf(o.wrong.Error())
	case !o.known:
		return "Asking the agent…"
	case len(o.list) == 0:
		return "None of those that muster knows."
	default:
		return ""
	}
}

func (m *models) renderOffer(r *model.Recommendation) app.UI {
	now := m.Page.asking(offerKey(r.Repo, r.File))
	words, tone := sentenceOf(r.Words), "well"
	if !r.Usable {
		tone = "off"
	}
	if fits := fitWords(r.NeedBytes, m.Page.inventoryDevices()); fits != "" {
		words = fits // shorter where there are many devices
	}
	return el("li", "entry", at{"data-offer", r.Name, "data-tone", tone},
		el("div", "entry-body", nil,
			el("p", "entry-head", nil, el("strong", "", nil, text(r.Title)), el("span", "badge family", nil, text(r.Family.Title()))),
			el("p", "entry-meta", nil, text(listed(fileSize(r.Bytes), needWords(r.NeedBytes), r.Licence, r.Repo))),
			el("p", "entry-meta", nil, text(r.Description)),
			el("p", "entry-meta", nil, text(words)),
			el("p", "field-error", at{"role", "alert"}, text(offerRefusal(now)))),
		m.renderOfferEnd(r, now))
}

func needWords(bytes uint64) string {
	if bytes == 0 {
		return ""
	}
	return "needs about" + nbsp + memorySize(bytes)
}

// offerRefusal gives why a recommendation was not installed: it has no fields, so the agent's word on one is for the whole.
func offerRefusal(now *deciding) string {
	for field, message := range now.wrong {
		return "Not done: " + sentenceOf(installFields[field].label+" "+message)
	}
	return now.refusal
}

func (m *models) renderOfferEnd(r *model.Recommendation, now *deciding) app.UI {
	label := "Install"
	here := m.Page.inLibrary(r.ModelName)
	if here != nil && len(here.Missing) > 0 {
		label += " what is missing"
	}
	if now.busy {
		label += " …"
	}
	switch {
	case here != nil && len(here.Missing) == 0:
		return el("p", "entry-end", nil, text("installed"))
	case m.Page.installing(r.ModelName):
		return el("p", "entry-end", nil, text("being installed"))
	}
	return el("div", "entry-acts", nil, el("button", "quiet-button", at{"type", "button", "data-offer", r.Name, "aria-label", "Install " + r.Title,
		"disabled", flag(!m.Page.steerable()), "aria-disabled", flag(now.busy)}, text(label), on("click", m.Page.installOffer)))
}

// inLibrary gives the library's model of a name; nil when it has none.
func (p *Page) inLibrary(name string) *model.Model {
	if p.state.Library == nil {
		return nil
	}
	for i := range p.state.Library.Models {
		if p.state.Library.Models[i].Name == name {
			return &p.state.Library.Models[i]
		}
	}
	return nil
}

func (p *Page) installing(name string) bool {
	if p.state.Library == nil {
		return false
	}
	for i := range p.state.Library.Installs {
		if in := &p.state.Library.Installs[i]; in.Name == name && !in.State.Ended() {
			return true
		}
	}
	return false
}

// installOffer installs the recommendation that the button names.
func (p *Page) installOffer(ctx app.Context, _ app.Event) {
	name := data(ctx, "offer")
	for i := range p.shelf.offers.list {
		if r := &p.shelf.offers.list[i]; r.Name == name {
			p.command(offerKey(r.Repo, r.File), live.ModelCommand{Act: live.InstallModel, Source: live.Source{Repo: r.Repo, File: r.File}}, func(err error) {
				if err == nil {
					p.announce = r.Title + " is being installed."
					focus("adding-summary") // the button goes
				}
			})
		}
	}
}
