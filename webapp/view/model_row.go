package view

import (
	"slices"
	"strconv"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
	"muster/shared/model"
	"muster/shared/wire"
	"muster/webapp/live"
	"muster/webapp/state"
)

// modelRow is one model, and what can be done with it.
type modelRow struct {
	app.Compo
	Page    *Page
	Model   state.Model
	Version int
}

// CompoID lets a row belong to one model: go-app keeps rows by position, and what was chosen in one must not come to mean another's.
func (r *modelRow) CompoID() string { return r.Model.Name }

// Render shows the row.
func (r *modelRow) Render() app.UI {
	m, now := &r.Model, r.Page.asking(modelKey(r.Model.Name))
	return el("li", "entry", at{"data-model", m.Name, "data-tone", r.tone(), "data-pending", flag(now.busy)},
		el("div", "entry-body", nil,
			el("p", "entry-head", nil, append([]app.UI{el("strong", "", nil, text(modelName(m)))}, r.badges()...)...),
			el("p", "entry-meta", at{"title", r.loadedTitle()}, text(r.about())),
			el("p", "entry-meta", nil, text(fitWords(m.VRAMBytes, r.Page.inventoryDevices()))),
			el("p", "entry-meta", nil, text(r.files())),
			el("p", "entry-problem", nil, text(sentenceOf(m.Problem))),
			r.renderFailedLoads(now),
			el("p", "field-error", at{"role", "alert"}, text(now.refusal))),
		r.renderEnd(now))
}

func modelName(m *state.Model) string {
	if m.Title != "" {
		return m.Title
	}
	return m.Name
}

func (r *modelRow) tone() string {
	switch {
	case r.Model.Problem != "" || len(r.loads(model.LoadFailed)) > 0:
		return "trouble"
	case r.Model.Disabled:
		return "off"
	default:
		return "well"
	}
}

func (r *modelRow) badges() []app.UI {
	m := &r.Model
	var out []app.UI
	badge := func(class, words, title string) {
		if words != "" {
			out = append(out, el("span", "badge "+class, at{"title", title}, text(words)))
		}
	}
	badge("family", familyName(m.Family), "")
	if m.Disabled {
		badge("off", "disabled", "Nothing is generated with it until somebody enables it.")
	}
	if m.Partial && len(m.With) == 0 || len(m.Missing) > 0 {
		badge("partial", "needs more files", "It is no whole checkpoint: its generator needs text encoders or a VAE beside it.")
	}
	if m.Part != model.NoPart {
		badge("family", "part of models", "It makes no images by itself: models are loaded with it.")
	}
	return out
}

// files says what the model is loaded with, or what is missing for that.
func (r *modelRow) files() string {
	m := &r.Model
	switch {
	case m.Part != model.NoPart && m.Scaled:
		return sentenceOf(m.Part.Title() + " whose scaled 8-bit weights sd-server can't read")
	case m.Part != model.NoPart:
		return sentenceOf(m.Part.Title() + " for the models here that need it")
	case m.Scaled:
		return sentenceOf("it " + m.Lacks())
	case len(m.Missing) > 0:
		return sentenceOf("for sd-server it lacks " + enumerated(m.Missing) + ": its place is beside the model, or in a folder text_encoders or vae there")
	case len(m.With) > 0:
		return sentenceOf("loaded with " + enumerated(m.With))
	}
	return ""
}

// about says what the model is, and where it is loaded.
func (r *modelRow) about() string {
	m := &r.Model
	size, need, name, loaded, source := "", "", "", "", ""
	if m.Bytes > 0 {
		size = fileSize(m.Bytes)
	}
	if m.VRAMBytes > 0 {
		need = "needs about" + nbsp + memorySize(m.VRAMBytes)
	}
	if m.Title != "" && m.Title != m.Name {
		name = m.Name
	}
	if len(m.Loaded) > 0 {
		loaded = "loaded on " + devicesText(m.Loaded)
	}
	loaded = listed(r.loading(), loaded)
	if !m.InLibrary {
		source = "of " + r.generators()
	} else if len(m.Slots) == 0 && !m.Disabled && m.Problem == "" && m.Part == model.NoPart {
		loaded = "no generator has it"
	}
	return listed(loaded, size, need, source, name)
}

// loadedTitle lists all devices that hold the model, where the row only counts them; "" where it names them.
func (r *modelRow) loadedTitle() string {
	if all := allDevices(r.Model.Loaded); all != devicesText(r.Model.Loaded) {
		return "Loaded on " + all
	}
	return ""
}

// generators names those that have the model: "ComfyUI on Device 1".
func (r *modelRow) generators() string {
	kinds := slices.Clone(r.Model.Backends)
	for i, kind := range kinds {
		kinds[i] = wire.KindTitle(kind)
	}
	if len(kinds) == 0 {
		return "a generator that is not there now"
	}
	words := enumerated(kinds)
	if on := devicesText(r.Model.Slots); on != "" {
		words += " on " + on
	}
	return words
}

// renderEnd is what can be done, or the question whether the file shall really go.
func (r *modelRow) renderEnd(now *deciding) app.UI {
	m := &r.Model
	if r.Page.shelf.removing == m.Name && m.InLibrary {
		return r.renderConfirm(now)
	}
	body := []app.UI{r.renderLoad(now)}
	if m.InLibrary {
		able := live.DisableModel
		if m.Disabled {
			able = live.EnableModel
		}
		if m.Part == model.NoPart {
			body = append(body, r.act(able, capital(string(able)), now, on("click", r.Page.modelAct)))
		}
		body = append(body,
			r.act(live.RemoveModel, "Remove", now, on("click", r.Page.askRemoval)))
	}
	return el("div", "entry-acts", at{"role", "group", "aria-label", modelName(m)}, body...)
}

func (r *modelRow) act(act live.ModelAct, label string, now *deciding, do app.UI) app.UI {
	name := label
	if now.busy && now.what == string(act) {
		label += " …"
	}
	return el("button", "quiet-button", at{"type", "button", "id", rowID(string(act), r.Model.Name), "data-act", string(act), "data-model", r.Model.Name, "aria-label", name + " " + modelName(&r.Model),
		"disabled", flag(!r.Page.steerable()), "aria-disabled", flag(now.busy)}, text(label), do)
}

// rowID is the id of a control of a model's row. It has no blanks, whatever the model is called.
func rowID(what, model string) string {
	id := what + "-"
	for _, c := range []byte(model) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' {
			id += string(rune(c))
		} else {
			id += "_" + strconv.FormatUint(uint64(c), 16)
		}
	}
	return id
}

// whereToLoad are the devices that the model can be loaded on, each with why not, and the position of the first that nothing speaks
// against. The list is of all that have the model, so that what was chosen on it stays where it is.
func (r *modelRow) whereToLoad() (list []choice, best int) {
	m, devices := &r.Model, r.Page.inventoryDevices()
	best = -1
	for i, ref := range m.Slots {
		label := ref.Label()
		switch {
		case slices.Contains(m.Loaded, ref):
			label += " (loaded)"
		case !slices.Contains(m.Able, ref):
			label += " (takes no work)"
		case ref >= 0 && int(ref) < len(devices) && model.FitOf(m.VRAMBytes, roomOf(&devices[ref])) == model.FitNot:
			label += " (does not fit)"
		case best < 0:
			best = i
		}
		list = append(list, choice{ref.String(), label})
	}
	return list, max(0, best)
}

func (r *modelRow) renderLoad(now *deciding) app.UI {
	m := &r.Model
	elsewhere := slices.ContainsFunc(m.Slots, func(ref gpu.Ref) bool { return !slices.Contains(m.Loaded, ref) })
	if !elsewhere || m.Disabled || m.Problem != "" {
		return nothing()
	}
	where, best := r.whereToLoad()
	options := make([]app.UI, len(where))
	for i, c := range where {
		options[i] = el("option", "", at{"value", c.value, "selected", flag(i == best)}, text(c.label))
	}
	id := rowID("load-on", m.Name)
	return el("span", "load", nil,
		el("select", "", at{"id", id, "aria-label", "Device to load " + modelName(m) + " on", "disabled", flag(!r.Page.steerable())}, append(options, on("input", r.Page.chooseDevice))...),
		r.act(live.LoadModel, "Load", now, on("click", r.Page.loadModel)))
}

func (r *modelRow) renderConfirm(now *deciding) app.UI {
	m := &r.Model
	words := "Remove " + m.Name + "? Its file of " + fileSize(m.Bytes) + " is deleted."
	if len(m.Loaded) > 0 {
		words += " It is loaded on " + devicesText(m.Loaded) + "."
	}
	id := rowID("confirm", m.Name)
	return el("div", "confirm", at{"role", "group", "aria-labelledby", id},
		el("p", "", at{"id", id}, text(words)),
		el("div", "entry-acts", nil,
			r.act(live.RemoveModel, "Remove the file", now, on("click", r.Page.modelAct)),
			el("button", "quiet-button", at{"type", "button", "id", rowID("keep", m.Name), "data-model", m.Name, "aria-label", "Keep " + modelName(m)}, text("Keep it"), on("click", r.Page.keepModel))),
		on("keydown", r.Page.confirmKey))
}

// modelAct sends the act that the button names.
func (p *Page) modelAct(ctx app.Context, _ app.Event) {
	name, act := data(ctx, "model"), live.ModelAct(data(ctx, "act"))
	p.command(modelKey(name), live.ModelCommand{Act: act, Model: name}, func(err error) {
		if act != live.RemoveModel || p.shelf.removing != name {
			return
		}
		p.shelf.removing = ""
		p.version.models++
		if err == nil {
			p.announce = name + " is removed."
			focus("models") // the row goes
		}
	})
}

// chooseDevice remembers where a model is to be loaded: its row is made anew when the list changes above it.
func (p *Page) chooseDevice(ctx app.Context, _ app.Event) {
	p.remember(ctx.JSSrc().Get("id").String(), ctx.JSSrc().Get("value").String())
}

func (p *Page) loadModel(ctx app.Context, _ app.Event) {
	name := data(ctx, "model")
	if ref := pinned(entered(rowID("load-on", name))); ref != nil {
		p.command(modelKey(name), live.ModelCommand{Act: live.LoadModel, Model: name, Device: ref}, nil)
	}
}

// askRemoval asks in the row whether the file shall go; the safe answer has the keyboard.
func (p *Page) askRemoval(ctx app.Context, _ app.Event) {
	p.setRemoving(data(ctx, "model"))
	p.settle(p.shelf.around)
	name := p.shelf.removing
	p.shelf.around.Defer(func(app.Context) { focus(rowID("keep", name)) }) // the button that was clicked is gone by then
}

func (p *Page) setRemoving(name string) {
	p.shelf.removing = name
	p.version.models++
}

func (p *Page) keepModel(app.Context, app.Event) { p.cancelRemoval() }

// confirmKey takes Escape for "keep it".
func (p *Page) confirmKey(_ app.Context, e app.Event) {
	if e.Get("key").String() == "Escape" {
		p.cancelRemoval()
	}
}

func (p *Page) cancelRemoval() {
	name := p.shelf.removing
	p.setRemoving("")
	p.settle(p.shelf.around)
	p.shelf.around.Defer(func(app.Context) { focus(rowID(string(live.RemoveModel), name)) })
}
