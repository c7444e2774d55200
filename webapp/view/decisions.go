package view

import (
	"context"
	"errors"
	"time"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/pool"
	"muster/webapp/live"
	"muster/webapp/state"
)

// deciding is a decision on its way, and what became of the last one. What was decided is shown only when the agent says so.
type deciding struct {
	busy     bool   // not answered, or carried out and not told yet
	what     string // the control that was used: an act, "yield", "limits" or "budget"
	answered bool
	told     bool              // a capacity event came since it was sent
	refusal  string            // why it was not accepted, but for what is wrong with a field
	wrong    map[string]string // what is wrong, by field of a pool.Control or pool.Settings
}

// budgetKey stands for all devices together among the IDs of devices.
const budgetKey = ""

// tellPatience is how long the page waits for the capacity event of a decision that was carried out: one that changes nothing
// has none.
const tellPatience = 2 * time.Second

// deciding gives what is on its way about a device, or what became of it; zero when nothing was decided on this page.
func (p *Page) deciding(key string) *deciding {
	if d := p.decisions[key]; d != nil {
		return d
	}
	return &deciding{}
}

func (p *Page) setDeciding(key string, d *deciding) {
	if p.decisions == nil {
		p.decisions = map[string]*deciding{}
	}
	p.decisions[key] = d
	p.version.devices++
	p.version.system++
}

// decide sends a decision that was checked, unless another about the same is on its way.
func (p *Page) decide(what string, d live.Decision) {
	key := d.Device
	if p.agent.Decide == nil || p.deciding(key).busy || !p.steerable() {
		return
	}
	now := &deciding{busy: true, what: what}
	p.setDeciding(key, now)
	p.settle(p.around)
	p.around.Async(func() {
		err := p.agent.Decide(context.Background(), d)
		p.around.Dispatch(func(ctx app.Context) {
			p.decided(key, now, err)
			p.settle(ctx)
		})
		if err != nil {
			return
		}
		time.Sleep(tellPatience)
		p.around.Dispatch(func(ctx app.Context) {
			if now.busy {
				now.told = true
				p.decided(key, now, nil)
				p.settle(ctx)
			}
		})
	})
}

// decided notes the answer. The decision stays on its way until the agent has told everybody too.
func (p *Page) decided(key string, d *deciding, err error) {
	if p.decisions[key] != d {
		return
	}
	d.answered = true
	d.busy = err == nil && !d.told
	if err != nil {
		d.refuse(err)
	}
	p.setDeciding(key, d)
}

// refuse notes why a decision was not accepted: at its field, or for the whole.
func (d *deciding) refuse(err error) {
	var wrong *pool.FieldError
	if errors.As(err, &wrong) && (limitFields[wrong.Field] != "" || d.what == "budget") {
		d.wrong = map[string]string{wrong.Field: wrong.Message}
		return
	}
	d.refusal = "Not accepted: " + err.Error() + "."
}

// told notes that the agent has said how things stand.
func (p *Page) told() {
	for _, d := range p.decisions {
		d.told = true
		d.busy = d.busy && !d.answered
	}
}

// rejectDecision shows what is wrong with what was entered, before anything is sent.
func (p *Page) rejectDecision(key, what string, err error) {
	d := &deciding{what: what}
	d.refuse(err)
	p.setDeciding(key, d)
	p.settle(p.around)
}

// steerable says whether a decision can be sent. It never waits for the connection: a device that is paused hours after somebody
// asked for it is a surprise.
func (p *Page) steerable() bool {
	return p.state.Link == state.Connected || p.state.Link == state.Stale
}
