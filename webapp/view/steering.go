package view

import (
	"strconv"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
	"muster/shared/pool"
	"muster/shared/wire"
	"muster/webapp/live"
)

// reserveTimes are the choices of how long a device is reserved; 0 seconds is until a person says otherwise.
var reserveTimes = []struct {
	label   string
	seconds int
}{{"1 h", 3600}, {"4 h", 4 * 3600}, {"until I say", 0}}

// renderSteering is where people decide about one device. id is its stable ID.
func (p *Page) renderSteering(ref gpu.Ref, id string) app.UI {
	s, now := p.state.Steered(ref), p.deciding(id)
	n := ref.String()
	return el("div", "steering", at{"id", "steering-" + n, "data-phase", string(s.Phase), "data-pending", flag(now.busy)},
		el("div", "steering-part", nil,
			el("h4", "", nil, text("Work on this device")),
			el("p", "steering-now", at{"id", "steering-now-" + n, "role", "status"}, text(p.steeringWords(&s, now))),
			p.renderActs(ref, id, &s, now),
			el("p", "field-error", at{"role", "alert"}, text(now.refusal)),
			el("p", "steering-help", nil, text("Pause lets it finish what runs and keeps the model loaded. Drain frees its memory after that. Reserve frees it at once: what runs is made again elsewhere.")),
			p.renderYield(ref, id, &s, now)),
		p.renderLimits(ref, id, now))
}

// steeringWords say how things stand, as the agent told it last; an ellipsis while a decision is on its way.
func (p *Page) steeringWords(s *wire.Steered, now *deciding) string {
	words := "Takes work."
	if name, rest := p.phaseSentence(s); name != "" {
		words = name + rest + "."
	}
	switch {
	case now.busy:
		return words + " …"
	case !p.steerable():
		return words + " Offline: this can be changed when the agent is back."
	default:
		return words
	}
}

func (p *Page) renderActs(ref gpu.Ref, id string, s *wire.Steered, now *deciding) app.UI {
	mode := s.Control.Mode
	act := func(act live.Act, seconds int, label string, pressed, able bool) app.UI {
		return p.renderAct(id, act, seconds, label, pressed, able, now)
	}
	reserve := make([]app.UI, len(reserveTimes))
	for i, t := range reserveTimes {
		reserve[i] = act(live.Reserve, t.seconds, t.label, mode == pool.Reserved && t.seconds == 0 && s.Control.Until == nil, true)
	}
	label := "steering-reserve-" + ref.String()
	return el("div", "acts", nil,
		el("div", "act-group", at{"role", "group", "aria-label", "Steer " + ref.Label()},
			act(live.Resume, 0, "Resume", false, mode != pool.Active),
			act(live.Pause, 0, "Pause", mode == pool.Paused, true),
			act(live.Drain, 0, "Drain", mode == pool.Draining, true)),
		el("div", "act-group", at{"role", "group", "aria-labelledby", label},
			append([]app.UI{el("span", "act-label", at{"id", label}, text("Reserve"))}, reserve...)...))
}

func (p *Page) renderAct(id string, act live.Act, seconds int, label string, pressed, able bool, now *deciding) app.UI {
	what := string(act) + strconv.Itoa(seconds)
	if now.busy && now.what == what {
		label += " …"
	}
	body := at{"type", "button", "data-key", id, "data-act", string(act), "data-seconds", strconv.Itoa(seconds), "disabled", flag(!able || !p.steerable()), "aria-disabled", flag(now.busy)}
	if act != live.Resume {
		body = append(body, "aria-pressed", strconv.FormatBool(pressed))
	}
	return el("button", "act", body, text(label), on("click", p.act))
}

// act sends the act that the button names.
func (p *Page) act(ctx app.Context, _ app.Event) {
	seconds, _ := strconv.Atoi(data(ctx, "seconds"))
	act := data(ctx, "act")
	p.decide(act+strconv.Itoa(seconds), live.Decision{Device: data(ctx, "key"), Act: live.Act(act), Seconds: seconds})
}

func (p *Page) renderYield(ref gpu.Ref, id string, s *wire.Steered, now *deciding) app.UI {
	label := "Give way to other programs"
	if now.busy && now.what == "yield" {
		label += " …"
	}
	help := "yield-help-" + ref.String()
	return el("div", "yield", nil,
		el("button", "switch", at{"type", "button", "role", "switch", "data-key", id, "aria-checked", strconv.FormatBool(s.Control.Yield), "aria-describedby", help,
			"disabled", flag(!p.steerable()), "aria-disabled", flag(now.busy)}, el("span", "switch-track", at{"aria-hidden", "true"}), text(label), on("click", p.toggleYield)),
		el("p", "steering-help", at{"id", help}, text("While a game or another model works here, no image starts, and the model is unloaded. It comes back by itself.")))
}

// toggleYield turns giving way on or off, as the agent knows it.
func (p *Page) toggleYield(ctx app.Context, _ app.Event) {
	id := data(ctx, "key")
	ref, ok := p.refByID(id)
	if !ok {
		return
	}
	p.decide("yield", live.Decision{Device: id, Change: live.Change{"yield": !p.state.Steered(ref).Control.Yield}})
}

// refByID gives the number of the device with that stable ID; false when there is none now.
func (p *Page) refByID(id string) (gpu.Ref, bool) {
	if id == processorKey {
		return gpu.CPU, true
	}
	if p.state.Inventory != nil {
		for i := range p.state.Inventory.Devices {
			if p.state.Inventory.Devices[i].ID == id {
				return p.state.Inventory.Devices[i].Index, true
			}
		}
	}
	return 0, false
}
