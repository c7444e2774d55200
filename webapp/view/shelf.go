package view

import (
	"context"
	"errors"
	"time"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/model"
	"muster/shared/pool"
	"muster/webapp/live"
	"muster/webapp/state"
)

// shelf is what the page itself knows about models: what was asked of the agent, and what is open.
type shelf struct {
	asked    map[string]*deciding // by what it is about: see modelKey, installKey and addKey
	removing string               // name of the model whose removal is to be confirmed; "" for none
	adding   bool                 // the part that installs is open
	said     string               // what became of the last installation that was asked for
	offers   offers
	around   app.Context    // of the section: the row that was clicked may be gone when the answer comes
	loads    painter        // of installations
	painted  *model.Library // that they show now
}

func modelKey(name string) string { return "model " + name }
func installKey(id string) string { return "install " + id }

const addKey = "add" // for what the form asks; a recommendation has its repository behind it

func offerKey(repo, file string) string { return addKey + " " + repo + " " + file }

// asking gives what is on its way about a model or an installation, or what became of it; zero when nothing was asked.
func (p *Page) asking(key string) *deciding {
	if d := p.shelf.asked[key]; d != nil {
		return d
	}
	return &deciding{}
}

func (p *Page) setAsking(key string, d *deciding) {
	if p.shelf.asked == nil {
		p.shelf.asked = map[string]*deciding{}
	}
	p.shelf.asked[key] = d
	p.version.models++
}

// command sends what a person asks about models, unless the same is on its way. done is called with the answer; nil for nobody.
func (p *Page) command(key string, c live.ModelCommand, done func(error)) {
	if p.agent.Command == nil || p.asking(key).busy || !p.steerable() {
		return
	}
	now := &deciding{busy: true, what: string(c.Act)}
	p.setAsking(key, now)
	p.settle(p.shelf.around)
	p.shelf.around.Async(func() {
		err := p.agent.Command(context.Background(), c)
		p.shelf.around.Dispatch(func(ctx app.Context) {
			p.answered(key, now, err)
			if done != nil {
				done(err)
			}
			p.settle(ctx)
		})
		if err != nil {
			return
		}
		time.Sleep(tellPatience) // what changes nothing is never told
		p.shelf.around.Dispatch(func(ctx app.Context) {
			if now.busy {
				now.told = true
				p.answered(key, now, nil)
				p.settle(ctx)
			}
		})
	})
}

// answered notes the answer. It stays on its way until the agent has told everybody too.
func (p *Page) answered(key string, d *deciding, err error) {
	if p.shelf.asked[key] != d {
		return
	}
	d.answered = true
	d.busy = err == nil && !d.told
	if err != nil {
		d.refuseModel(err)
	}
	p.setAsking(key, d)
}

// refuseModel notes why the agent did not do it: at a field of the form, or for the whole.
func (d *deciding) refuseModel(err error) {
	var wrong *pool.FieldError
	if errors.As(err, &wrong) && d.what == string(live.InstallModel) && installFields[wrong.Field].id != "" {
		d.wrong = map[string]string{wrong.Field: wrong.Message}
		return
	}
	d.refusal = "Not done: " + sentenceOf(err.Error())
}

// toldModels notes that the agent has said how things stand.
func (p *Page) toldModels() {
	for _, d := range p.shelf.asked {
		d.told = true
		if d.busy && d.answered {
			d.busy = false
			p.version.models++
		}
	}
}

// away says why models can't be changed now; "" when they can.
func (p *Page) away() string {
	switch {
	case p.steerable():
		return ""
	case p.state.Link == state.Unpaired:
		return "This browser is not paired: models can be changed when it is."
	case p.state.Link == state.Connecting:
		return "Connecting: models can be changed when the agent answers."
	default:
		return "Offline: models can be changed when the agent is back."
	}
}
