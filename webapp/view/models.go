package view

import (
	"strconv"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
	"muster/shared/model"
	"muster/webapp/state"
)

// models is what can be generated with: what is on its way, what is here, and how more is installed.
type models struct {
	app.Compo
	Page    *Page
	Version int
}

// OnMount remembers where answers are shown.
func (m *models) OnMount(ctx app.Context) { m.Page.shelf.around = ctx }

// Render shows the section.
func (m *models) Render() app.UI {
	library, list := m.Page.state.Library, m.Page.models()
	problem := ""
	if library != nil {
		problem = library.Problem
	}
	return section("models", "setup",
		heading("models", "Models", el("p", "tally", at{"id", "models-tally"}, text(m.Page.modelsTally()))),
		el("p", "away", at{"role", "status"}, text(m.Page.away())),
		el("p", "hint library-problem", nil, text(sentenceOf(problem))),
		m.renderInstalls(library),
		m.renderList(list),
		m.renderAdding())
}

// models are those that are models: the built-in renderer's is none.
func (p *Page) models() []state.Model {
	var out []state.Model
	for _, m := range p.state.Models() {
		if m.Name != sketchModel || m.InLibrary {
			out = append(out, m)
		}
	}
	return out
}

// modelsTally counts them: "12 models, 3 loaded · 412 GB free in /srv/models".
func (p *Page) modelsTally() string {
	list := p.models()
	loaded, count, free := 0, "", ""
	for i := range list {
		if len(list[i].Loaded) > 0 {
			loaded++
		}
	}
	if len(list) > 0 {
		count = plural(len(list), "model", "models")
	}
	if loaded > 0 {
		count += ", " + strconv.Itoa(loaded) + " loaded"
	}
	if l := p.state.Library; l != nil && l.FreeBytes != nil {
		free = fileSize(int64(min(*l.FreeBytes, 1<<62))) + " free"
	}
	return listed(count, free)
}

func (m *models) renderList(list []state.Model) app.UI {
	library := m.Page.state.Library
	switch {
	case len(list) > 0:
	case library == nil:
		return el("p", "empty", nil, text("The agent has not said yet which models it has."))
	default:
		return el("p", "empty", nil, text("No models yet. Install one below, or put .safetensors and .gguf files into "), el("code", "", nil, text(library.Dir)), text("."))
	}
	rows := make([]app.UI, len(list))
	for i := range list {
		rows[i] = &modelRow{Page: m.Page, Model: list[i], Version: m.Version}
	}
	return el("ul", "entries", at{"id", "model-list"}, rows...)
}

// familyName is a badge's text.
func familyName(f model.Family) string {
	if f == model.Unknown {
		return ""
	}
	return f.Title()
}

// inventoryDevices are the GPUs that are known.
func (p *Page) inventoryDevices() []gpu.Device {
	if p.state.Inventory == nil {
		return nil
	}
	return p.state.Inventory.Devices
}
