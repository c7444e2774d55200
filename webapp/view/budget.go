package view

import (
	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/pool"
	"muster/webapp/live"
)

// renderBudget is where people decide what all GPUs together may draw. It is folded until somebody looks.
func (p *Page) renderBudget() app.UI {
	if p.state.Capacity == nil {
		return nothing()
	}
	now, watts := p.deciding(budgetKey), p.state.Budget().MaxWatts
	summary := "Power budget: none"
	if watts != nil {
		summary = "Power budget: " + grouped(*watts) + " W"
	}
	if now.busy {
		summary += " …"
	}
	wrong := now.refusal
	if message := now.wrong["max_watts"]; message != "" {
		wrong = limitSentence("max_watts", message)
	}
	help := "All GPUs together may draw this much: an image starts only if what its device is expected to draw still fits in. Leave it empty for no limit."
	if !p.steerable() {
		help += " Offline: this can be changed when the agent is back."
	}
	input := void("input", "", at{"id", "budget", "type", "text", "inputmode", "decimal", "autocomplete", "off", "placeholder", "no limit",
		"aria-describedby", "budget-wrong budget-help", "aria-invalid", flag(wrong != ""), "disabled", flag(!p.steerable())})
	return el("details", "more budget", nil,
		el("summary", "", at{"id", "budget-now"}, text(summary)),
		el("form", "budget-form", at{"novalidate", "true"},
			el("div", "field", nil, el("label", "", at{"for", "budget"}, text("Power budget, W")),
				el("div", "budget-row", nil, input, el("button", "act", at{"type", "submit", "disabled", flag(!p.steerable()), "aria-disabled", flag(now.busy)}, text("Save"))),
				el("p", "field-error", at{"id", "budget-wrong", "role", "alert"}, text(wrong)),
				el("p", "steering-help", at{"id", "budget-help"}, text(help))),
			on("submit", p.saveBudget)))
}

// saveBudget checks what was entered as the agent will, and sends it.
func (p *Page) saveBudget(_ app.Context, e app.Event) {
	e.PreventDefault()
	watts, err := readNumber("max_watts", entered("budget"))
	settings := pool.Settings{MaxWatts: watts}
	if err == nil {
		err = settings.Validate()
	}
	if err != nil {
		p.rejectDecision(budgetKey, "budget", err)
		focus("budget")
		return
	}
	p.decide("budget", live.Decision{Pool: &settings})
}
