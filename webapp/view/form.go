package view

import (
	"errors"
	"strconv"
	"strings"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/job"
	"muster/shared/wire"
	"muster/webapp/state"
)

// form orders images. Its inputs keep their own values; it reads them when it is submitted.
type form struct {
	app.Compo
	Page    *Page
	Version int

	count int // what the button promises; 0 before anybody changed it
}

const defaultCount = 4

// choice is an option of a select: what is sent and what is read.
type choice struct{ value, label string }

// The qualities are numbers of steps, as everywhere in muster's API.
var qualities = []choice{
	{"20", "Draft, 20"}, {"30", "Standard, 30"}, {"50", "High, 50"}, {"80", "Premium, 80"},
}

var sizes = []choice{
	{"512x512", "512 × 512"}, {"768x768", "768 × 768"}, {"1024x1024", "1024 × 1024"}, {"512x768", "512 × 768, portrait"},
	{"832x1216", "832 × 1216, portrait"}, {"768x512", "768 × 512, landscape"}, {"1216x832", "1216 × 832, landscape"},
}

// automatic leaves the choice to the agent. It is not empty: go-app leaves empty attributes out.
const automatic = "auto"

// fieldIDs gives the input that a field of a Spec is entered in.
var fieldIDs = map[string]string{
	"prompt": "prompt", "negative_prompt": "negative", "count": "count", "width": "size", "height": "size",
	"steps": "quality", "seed": "seed", "model": "model", "device_id": "device",
}

// Render shows the form.
func (f *form) Render() app.UI {
	able := f.Page.state.Capacity == nil || f.Page.state.Capacity.TakesOrders()
	prompt := el("textarea", "", f.input("prompt", at{"rows", "4", "required", "true", "maxlength", strconv.Itoa(job.MaxPrompt),
		"placeholder", "A lighthouse keeper, weathered face, storm light"}), on("keydown", f.keyDown))
	count := void("input", "", f.input("count", at{"type", "number", "min", "1", "max", strconv.Itoa(job.MaxCount), "step", "1", "inputmode", "numeric",
		"value", strconv.Itoa(defaultCount)}), on("input", f.countChanged))
	return section("order", "panel",
		el("h2", "", at{"id", "order-title"}, text("Generate")),
		renderAbility(able),
		el("form", "form", at{"novalidate", "true"},
			f.field("prompt", "Prompt", prompt),
			el("div", "field-row", nil, f.field("count", "Images", count), f.field("size", "Size", f.choose("size", f.sizes()))),
			el("div", "field-row", nil, f.field("quality", "Quality, steps", f.choose("quality", f.qualities())), f.field("device", "Device", f.choose("device", f.devices()))),
			f.field("model", "Model", f.chooseModel()),
			f.renderMore(),
			el("div", "form-end", nil,
				el("button", "primary-button", at{"id", "generate", "type", "submit", "disabled", flag(!able)}, text(f.label())),
				f.renderAnswer()),
			on("submit", f.submit), on("input", f.correct)))
}

// renderAnswer says what became of the last order.
func (f *form) renderAnswer() app.UI {
	class, words := "said", f.Page.said
	if f.Page.refusal != "" {
		class, words = "said field-error", f.Page.refusal
	}
	return el("p", class, at{"id", "generate-said", "role", "status"}, text(words))
}

func renderAbility(able bool) app.UI {
	if able {
		return nothing()
	}
	return el("p", "hint", nil,
		text("Nothing on this machine can generate yet. Run "), el("code", "", nil, text("muster doctor")), text(" to see what is missing."))
}

func (f *form) renderMore() app.UI {
	return el("details", "more", nil, el("summary", "", nil, text("More options")),
		f.field("negative", "Negative prompt", el("textarea", "", f.input("negative", at{"rows", "2", "maxlength", strconv.Itoa(job.MaxPrompt),
			"placeholder", "What the image should not show"}))),
		f.field("seed", "Seed", void("input", "", f.input("seed", at{"type", "number", "min", "0", "max", strconv.Itoa(job.MaxSeed), "step", "1", "inputmode", "numeric",
			"placeholder", "drawn by the agent"}))))
}

// input adds to an input's attributes what ties it to its label and its error.
func (f *form) input(id string, attributes at) at {
	return append(attributes, "id", id, "aria-describedby", id+"-wrong", "aria-invalid", flag(f.wrong(id) != ""))
}

// wrong gives what is wrong with what was entered in an input; "" when nothing is.
func (f *form) wrong(id string) string {
	for field, at := range fieldIDs {
		if at == id && f.Page.wrong[field] != "" {
			return f.Page.wrong[field]
		}
	}
	return ""
}

// field shows an input under its label, with the place of its error.
func (f *form) field(id, label string, input app.UI) app.UI {
	wrong := f.wrong(id)
	if wrong != "" {
		wrong = sentence(id, label, wrong)
	}
	return el("div", "field", nil, el("label", "", at{"for", id}, text(label)), input, el("p", "field-error", at{"id", id + "-wrong"}, text(wrong)))
}

// sentence joins the name of a field with what Validate says of it: "Prompt must not be empty."
func sentence(id, label, message string) string {
	switch id {
	case "count":
		label = "The number of images"
	case "quality":
		label = "The number of steps"
	}
	return label + " " + strings.TrimSuffix(message, ".") + "."
}

func (f *form) choose(id string, choices []choice) app.UI {
	return el("select", "", f.input(id, nil), options(choices)...)
}

func options(choices []choice) []app.UI {
	out := make([]app.UI, len(choices))
	for i, c := range choices {
		out[i] = el("option", "", at{"value", c.value}, text(c.label))
	}
	return out
}

func (f *form) devices() []choice {
	out := []choice{{automatic, "Automatic"}}
	if f.Page.state.Capacity == nil {
		return out
	}
	for _, slot := range f.Page.state.Capacity.Slots {
		label := slot.Device.Label()
		if f.Page.state.Inventory != nil {
			if d, ok := f.Page.state.Inventory.Device(slot.Device); ok {
				label += ", " + d.Name
			}
		}
		if s, kept := f.Page.steered(slot.Device); kept {
			label += " (" + strings.ToLower(phaseName(&s)) + ")"
		} else if slot.Problem != "" {
			label += " (takes no work now)"
		}
		out = append(out, choice{slot.Device.String(), label})
	}
	return out
}

func (f *form) label() string {
	count := f.count
	if count == 0 {
		count = defaultCount
	}
	images := plural(count, "image", "images")
	switch f.Page.state.Link {
	case state.Offline, state.Unpaired:
		return "Keep " + images + " for later"
	default:
		return "Generate " + images
	}
}

func (f *form) countChanged(ctx app.Context, _ app.Event) {
	if n, err := strconv.Atoi(ctx.JSSrc().Get("value").String()); err == nil {
		f.count = max(1, min(job.MaxCount, n))
	}
}

func (f *form) keyDown(ctx app.Context, e app.Event) {
	if e.Get("key").String() == "Enter" && (e.Get("ctrlKey").Bool() || e.Get("metaKey").Bool()) {
		f.submit(ctx, e)
	}
}

// correct takes back what was said of an input when something else is entered there, and remembers what was chosen.
func (f *form) correct(_ app.Context, e app.Event) {
	input := e.Get("target")
	id := input.Get("id").String()
	f.Page.choose(id, input.Get("value").String())
	if f.wrong(id) != "" {
		f.Page.wrong, f.Page.refusal, f.Page.said = nil, "", ""
	}
}

func (f *form) submit(ctx app.Context, e app.Event) {
	e.PreventDefault()
	spec, err := readSpec(entered)
	if err == nil {
		err = spec.WithDefaults().Validate()
	}
	if err != nil {
		f.reject(ctx, err)
		return
	}
	f.Page.wrong, f.Page.refusal = nil, ""
	f.Page.said = f.Page.order(spec)
	f.Page.settle(ctx)
}

// reject shows the error at its field and puts the cursor there.
func (f *form) reject(ctx app.Context, err error) {
	f.Page.said, f.Page.refusal = "", ""
	var wrong *job.FieldError
	if !errors.As(err, &wrong) {
		f.Page.notice = err.Error()
		return
	}
	f.Page.wrong = map[string]string{wrong.Field: wrong.Message}
	f.Page.said = "Not sent yet: see the field above."
	ctx.Defer(func(app.Context) {
		if input := app.Window().GetElementByID(fieldIDs[wrong.Field]); input.Truthy() {
			input.Call("focus")
		}
	})
}

// order hands the command over, and says what became of it.
func (p *Page) order(spec job.Spec) string {
	if p.agent.Link == nil || p.agent.NewID == nil {
		return ""
	}
	id := p.agent.NewID()
	if err := p.agent.Link.Send(wire.Command{Submit: &wire.Submit{ID: id, Spec: spec}}); err != nil {
		p.notice = err.Error()
		return ""
	}
	p.ordered, p.kept = id, p.state.Link != state.Connected
	p.refreshOutbox()
	if !p.kept {
		return plural(spec.Count, "image", "images") + " ordered."
	}
	return plural(spec.Count, "image", "images") + " kept here until the agent is back."
}
