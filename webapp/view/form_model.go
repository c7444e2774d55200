package view

import (
	"slices"
	"strconv"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/model"
	"muster/shared/wire"
	"muster/webapp/state"
)

// chooseModel lists the models that generators have, and those that would be there but for a decision or a fault.
func (f *form) chooseModel() app.UI {
	body := options(f.models())
	if off := f.off(); len(off) > 0 {
		body = append(body, el("optgroup", "", at{"label", "Not to be had now", "disabled", "true"}, options(off)...))
	}
	return el("select", "", f.input("model", nil), body...)
}

// models are the choices, the agent's own default first.
func (f *form) models() []choice {
	capacity := f.Page.state.Capacity
	if capacity == nil || len(capacity.Models) == 0 {
		return []choice{{automatic, "Automatic"}}
	}
	known := map[string]*state.Model{}
	list := f.Page.state.Models()
	for i := range list {
		known[list[i].Name] = &list[i]
	}
	out := []choice{}
	for i := range capacity.Models {
		m := &capacity.Models[i]
		c := choice{m.Name, f.modelLabel(m, known[m.Name])}
		if m.Name == capacity.DefaultModel {
			out = append([]choice{c}, out...)
		} else {
			out = append(out, c)
		}
	}
	return out
}

// suits is what suits the model that is chosen, as the agent would take it: by its file, else by its name.
func (f *form) suits() model.Suits {
	name := f.Page.chosen["model"]
	if c := f.Page.state.Capacity; (name == "" || name == automatic) && c != nil {
		name = c.DefaultModel
	}
	for _, m := range f.Page.state.Models() {
		if m.Name == name && m.Family != model.Unknown {
			return model.SuitsOf(m.Family, name)
		}
	}
	return model.SuitsOf(model.FamilyOfName(name), name)
}

// sizes and qualities are the choices, first what suits the model.
func (f *form) sizes() []choice {
	return append([]choice{{automatic, "Auto, " + strconv.Itoa(f.suits().Side) + " px"}}, sizes...) // of a square: longer words are cut off
}

func (f *form) qualities() []choice {
	return append([]choice{{automatic, "Auto, " + strconv.Itoa(f.suits().Steps)}}, qualities...)
}

// modelLabel says what a model is, and whether it is at hand: "SDXL 1.0 · SDXL · 6.9 GB · loaded".
func (f *form) modelLabel(m *wire.Model, known *state.Model) string {
	title, family, size, hand := f.Page.modelTitle(m.Name), "", "", ""
	if known == nil || m.Name == sketchModel {
		return title
	}
	if known.Bytes > 0 {
		size = fileSize(known.Bytes)
	}
	switch {
	case m.Away != "":
		hand = "its generator is away"
	case len(known.Able) == 0:
		hand = "no active device has it"
	case len(known.Loaded) > 0:
		hand = "loaded"
	}
	family = familyName(known.Family)
	if family == title {
		family = ""
	}
	return listed(title, family, size, hand)
}

// off are the library's models that can't be chosen, with the reason.
func (f *form) off() []choice {
	var out []choice
	if f.Page.state.Library == nil {
		return nil
	}
	for i := range f.Page.state.Library.Models {
		m := &f.Page.state.Library.Models[i]
		why := ""
		switch {
		case m.Disabled:
			why = "disabled"
		case m.Problem != "":
			why = "it has a fault"
		default:
			continue
		}
		title := m.Title
		if title == "" {
			title = m.Name
		}
		out = append(out, choice{m.Name, listed(title, why)})
	}
	return out
}

// choose remembers what a person chose of a list that changes with what the agent has.
func (p *Page) choose(id, value string) {
	if id == "model" || id == "device" {
		p.remember(id, value)
	}
}

// remember is choose for any select.
func (p *Page) remember(id, value string) {
	if p.chosen == nil {
		p.chosen = map[string]string{}
	}
	p.chosen[id] = value
}

// rechoose lets a select stand at what was chosen there, wherever on the list that is now: browsers keep the position.
func (p *Page) rechoose() {
	for id, value := range p.chosen {
		list := app.Window().GetElementByID(id)
		switch {
		case !list.Truthy():
		case value == "":
			list.Set("selectedIndex", 0)
			delete(p.chosen, id)
		case list.Get("value").String() != value:
			list.Set("value", value)
		}
	}
}

// dropChosen gives up what was chosen when it is not on the list any more, and says so: nobody shall get images of another model
// than they think.
func (p *Page) dropChosen(c *wire.Capacity) {
	gone := ""
	if name := p.chosen["model"]; name != "" && name != automatic && !slices.ContainsFunc(c.Models, func(m wire.Model) bool { return m.Name == name }) {
		p.chosen["model"], gone = "", "model"
	}
	if ref := pinned(p.chosen["device"]); ref != nil && !slices.ContainsFunc(c.Slots, func(s wire.Slot) bool { return s.Device == *ref }) {
		p.chosen["device"], gone = "", "device"
	}
	if gone != "" {
		p.said, p.refusal = "The "+gone+" that was chosen is not there any more: choose again.", ""
	}
}
