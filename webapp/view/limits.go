package view

import (
	"strconv"
	"strings"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
	"muster/shared/pool"
	"muster/webapp/live"
)

// limitFields names the inputs of a device's limits, by field of a pool.Control.
var limitFields = map[string]string{"max_celsius": "Temperature", "max_watts": "Power", "hours": "Hours"}

// limitID is the id of the input for a field of a pool.Control.
func limitID(ref gpu.Ref, field string) string {
	return strings.ReplaceAll(field, "_", "-") + "-" + ref.String()
}

// renderLimits is the form of a device's limits. Of the processor only the hours can be limited.
func (p *Page) renderLimits(ref gpu.Ref, id string, now *deciding) app.UI {
	save := "Save limits"
	if now.busy && now.what == "limits" {
		save += " …"
	}
	fields := []app.UI{}
	if ref != gpu.CPU {
		r, _ := p.state.Reading(ref)
		fields = append(fields,
			p.renderLimit(ref, now, "max_celsius", "Temperature, °C", "the agent's own limit", lacks(r, r.TemperatureCelsius() == nil, "temperature")),
			p.renderLimit(ref, now, "max_watts", "Power, W", "no limit", lacks(r, r.PowerWatts == nil, "power")))
	}
	fields = append(fields, p.renderLimit(ref, now, "hours", "Hours", "always", "Such as 22:00-08:00, in the agent's time of day."))
	return el("form", "steering-part limits", at{"novalidate", "true", "data-key", id},
		el("h4", "", nil, text("Limits")),
		el("p", "steering-help", nil, text("No new image starts while one is reached. Leave empty what should not be limited.")),
		el("div", "limit-fields", nil, fields...),
		el("div", "limit-end", nil, el("button", "act", at{"type", "submit", "disabled", flag(!p.steerable()), "aria-disabled", flag(now.busy)}, text(save))),
		on("submit", p.saveLimits))
}

// lacks says that a limit has nothing to go by; "" where the device reports the value, or can't be read at all now.
func lacks(r gpu.Reading, absent bool, what string) string {
	if !absent || r.State != gpu.StateOK {
		return ""
	}
	return "This device does not report its " + what + "."
}

func (p *Page) renderLimit(ref gpu.Ref, now *deciding, field, label, none, help string) app.UI {
	id := limitID(ref, field)
	wrong := now.wrong[field]
	if wrong != "" {
		wrong = limitSentence(field, wrong)
	}
	mode := "decimal"
	if field == "hours" {
		mode = "text"
	}
	input := void("input", "", at{"id", id, "type", "text", "inputmode", mode, "autocomplete", "off", "placeholder", none,
		"aria-describedby", id + "-wrong " + id + "-help", "aria-invalid", flag(wrong != ""), "disabled", flag(!p.steerable())})
	return el("div", "field", nil, el("label", "", at{"for", id}, text(label)), input,
		el("p", "field-error", at{"id", id + "-wrong", "role", "alert"}, text(wrong)),
		el("p", "steering-help", at{"id", id + "-help"}, text(help)))
}

// limitSentence joins the name of a field with what Validate says of it.
func limitSentence(field, message string) string {
	if field != "hours" {
		message = limitFields[field] + " " + message
	}
	return strings.TrimSuffix(message, ".") + "."
}

// limitText writes a limit; "" for none.
func limitText(v *float64) string {
	if v == nil {
		return ""
	}
	return strconv.FormatFloat(*v, 'f', -1, 64)
}

// fill writes what the agent holds into an input, once: what a person enters stays until the agent holds something else.
func fill(id, value string) {
	input := app.Window().GetElementByID(id)
	if !input.Truthy() {
		return
	}
	if filled := input.Get("dataset").Get("filled"); filled.Truthy() && filled.String() == "="+value {
		return
	}
	input.Set("value", value)
	input.Get("dataset").Set("filled", "="+value)
}

// fillIn fills the inputs of every device whose details are open, and that of the budget.
func (p *Page) fillIn() {
	fill("budget", limitText(p.state.Budget().MaxWatts))
	for id := range p.open {
		ref, ok := p.refByID(id)
		if !ok {
			continue
		}
		control := p.state.Steered(ref).Control
		fill(limitID(ref, "max_celsius"), limitText(control.MaxCelsius))
		fill(limitID(ref, "max_watts"), limitText(control.MaxWatts))
		fill(limitID(ref, "hours"), control.Hours)
	}
}

// saveLimits checks what was entered as the agent will, and sends it.
func (p *Page) saveLimits(ctx app.Context, e app.Event) {
	e.PreventDefault()
	key := data(ctx, "key")
	ref, ok := p.refByID(key)
	if !ok {
		return
	}
	change, err := readLimits(ref, entered)
	if err != nil {
		p.rejectDecision(key, "limits", err)
		focusWrong(ref, err)
		return
	}
	p.decide("limits", live.Decision{Device: key, Change: change})
}

// focusWrong puts the cursor where the mistake is.
func focusWrong(ref gpu.Ref, err error) {
	if wrong, is := err.(*pool.FieldError); is {
		focus(limitID(ref, wrong.Field))
	}
}

// readLimits gives what the limits that were entered change. Its error is a *pool.FieldError.
func readLimits(ref gpu.Ref, text func(id string) string) (live.Change, error) {
	var control pool.Control
	control.Hours = strings.TrimSpace(text(limitID(ref, "hours")))
	change := live.Change{"hours": control.Hours}
	if ref != gpu.CPU {
		var err error
		if control.MaxCelsius, err = readNumber("max_celsius", text(limitID(ref, "max_celsius"))); err != nil {
			return nil, err
		}
		if control.MaxWatts, err = readNumber("max_watts", text(limitID(ref, "max_watts"))); err != nil {
			return nil, err
		}
		change["max_celsius"], change["max_watts"] = control.MaxCelsius, control.MaxWatts
	}
	return change, control.Validate()
}

// readNumber reads a limit as people write it, with a point or a comma; nil when nothing was entered.
func readNumber(field, text string) (*float64, error) {
	text = strings.Replace(strings.TrimSpace(text), ",", ".", 1)
	if text == "" {
		return nil, nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, &pool.FieldError{Field: field, Message: "must be a number, or empty for no limit"}
	}
	return &n, nil
}
