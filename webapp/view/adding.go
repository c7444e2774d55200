package view

import (
	"strings"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
	"muster/shared/pool"
	"muster/webapp/live"
)

// installFields are the inputs that install a model, by field of the agent's request: the id, and what a sentence calls it.
var installFields = map[string]struct{ id, label string }{
	"url": {"install-source", "The address"}, "repo": {"install-source", "The repository"}, "revision": {"install-source", "The revision"},
	"file": {"install-file", "The file"}, "name": {"install-name", "The name"}, "sha256": {"install-sha256", "SHA-256"}, "device_id": {"install-device", "The device"},
}

// renderAdding is the part that installs models: what is recommended here, and a form for any other. It is folded until
// somebody looks.
func (m *models) renderAdding() app.UI {
	return el("details", "fold adding", at{"id", "adding", "open", flag(m.Page.shelf.adding)},
		el("summary", "", at{"id", "adding-summary"}, el("span", "", nil, text("Install a model"))),
		m.renderOffers(),
		m.renderForm(),
		on("toggle", m.toggleAdding))
}

// toggleAdding follows the browser, and asks for recommendations when somebody looks.
func (m *models) toggleAdding(ctx app.Context, _ app.Event) {
	if open := ctx.JSSrc().Get("open").Bool(); open != m.Page.shelf.adding {
		m.Page.shelf.adding = open
		m.Page.version.models++
	}
	m.Page.askOffers(ctx)
	m.Page.settle(ctx)
}

func (m *models) renderForm() app.UI {
	now := m.Page.asking(addKey)
	label := "Install"
	if now.busy {
		label += " …"
	}
	class, words := "said", m.Page.shelf.said
	if now.refusal != "" {
		class, words = "said field-error", now.refusal
	}
	return el("form", "form install", at{"id", "install", "novalidate", "true", "aria-labelledby", "install-title"},
		el("h3", "", at{"id", "install-title"}, text("From an address or a repository")),
		m.field(now, "source", "Address or repository", "https://… or owner/name", "An address of a .safetensors or .gguf file that begins with https://, or a repository of the hub as owner/name."),
		el("div", "field-row", nil,
			m.field(now, "file", "File in the repository", "model.safetensors", "Only with owner/name."),
			m.field(now, "name", "Name", "as the file", "What it is called here.")),
		el("div", "field-row", nil,
			m.field(now, "sha256", "SHA-256", "64 hex digits", "Optional: another file is refused."),
			m.deviceField(now)),
		el("div", "form-end", nil,
			el("button", "act", at{"id", "install-send", "type", "submit", "disabled", flag(!m.Page.steerable()), "aria-disabled", flag(now.busy)}, text(label)),
			el("p", class, at{"id", "install-said", "role", "status"}, text(words))),
		on("submit", m.install))
}

// installWrong gives what is wrong with what was entered in an input of the form; "" when nothing is.
func installWrong(now *deciding, id string) string {
	for field, message := range now.wrong {
		if input := installFields[field]; input.id == id {
			return sentenceOf(input.label + " " + message)
		}
	}
	return ""
}

func (m *models) field(now *deciding, name, label, placeholder, help string) app.UI {
	id := "install-" + name
	wrong := installWrong(now, id)
	return el("div", "field", nil, el("label", "", at{"for", id}, text(label)),
		void("input", "", at{"id", id, "type", "text", "autocomplete", "off", "autocapitalize", "off", "spellcheck", "false", "placeholder", placeholder,
			"aria-describedby", id + "-wrong " + id + "-help", "aria-invalid", flag(wrong != ""), "disabled", flag(!m.Page.steerable())}),
		el("p", "field-error", at{"id", id + "-wrong", "role", "alert"}, text(wrong)),
		el("p", "steering-help", at{"id", id + "-help"}, text(help)))
}

// deviceField chooses where the model is loaded when it is here.
func (m *models) deviceField(now *deciding) app.UI {
	const id = "install-device"
	wrong := installWrong(now, id)
	options := []app.UI{el("option", "", at{"value", automatic}, text("No device"))}
	if capacity := m.Page.state.Capacity; capacity != nil {
		for i := range capacity.Slots {
			if ref := capacity.Slots[i].Device; ref != gpu.CPU {
				options = append(options, el("option", "", at{"value", ref.String()}, text(ref.Label())))
			}
		}
	}
	return el("div", "field", nil, el("label", "", at{"for", id}, text("Then load it on")),
		el("select", "", at{"id", id, "aria-describedby", id + "-wrong", "aria-invalid", flag(wrong != ""), "disabled", flag(!m.Page.steerable())}, options...),
		el("p", "field-error", at{"id", id + "-wrong", "role", "alert"}, text(wrong)))
}

// install checks what was entered and asks the agent.
func (m *models) install(ctx app.Context, e app.Event) {
	e.PreventDefault()
	p := m.Page
	p.shelf.said = ""
	source, err := readSource(entered)
	if err != nil {
		d := &deciding{what: string(live.InstallModel)}
		d.refuseModel(err)
		p.setAsking(addKey, d)
		p.settle(ctx)
		focusInstall(err)
		return
	}
	p.command(addKey, live.ModelCommand{Act: live.InstallModel, Source: source, Device: pinned(entered("install-device"))}, func(err error) {
		if err != nil {
			focusInstall(err)
			return
		}
		p.shelf.said = "It is being installed: see the list above."
		for _, field := range installFields {
			if input := app.Window().GetElementByID(field.id); input.Truthy() && field.id != "install-device" {
				input.Set("value", "")
			}
		}
	})
}

// focusInstall puts the cursor where the mistake is.
func focusInstall(err error) {
	if wrong, is := err.(*pool.FieldError); is {
		focus(installFields[wrong.Field].id)
	}
}

// readSource makes a source of the inputs' texts: an address has "://", a repository is owner/name. Its error is a *pool.FieldError.
func readSource(text func(id string) string) (live.Source, error) {
	get := func(name string) string { return strings.TrimSpace(text("install-" + name)) }
	from, file := get("source"), get("file")
	source := live.Source{Name: get("name"), SHA256: strings.ToLower(strings.TrimPrefix(get("sha256"), "sha256:"))}
	switch {
	case from == "":
		return source, &pool.FieldError{Field: "url", Message: "is missing: enter https://… or owner/name"}
	case strings.Contains(from, "://"):
		if file != "" {
			return source, &pool.FieldError{Field: "file", Message: "goes with owner/name only: leave it empty with an address"}
		}
		source.URL = from
	case strings.Count(from, "/") == 1 && !strings.HasPrefix(from, "/") && !strings.HasSuffix(from, "/"):
		if file == "" {
			return source, &pool.FieldError{Field: "file", Message: "is missing: a repository holds many, name one of them"}
		}
		source.Repo, source.File = from, file
	default:
		return source, &pool.FieldError{Field: "url", Message: "must begin with https://, or be a repository as owner/name"}
	}
	if sum := source.SHA256; sum != "" && (len(sum) != 64 || strings.Trim(sum, "0123456789abcdef") != "") {
		return source, &pool.FieldError{Field: "sha256", Message: "must be 64 hex digits, or empty"}
	}
	return source, nil
}
