package view

import (
	"context"
	"unicode"
	"unicode/utf8"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/webapp/live"
	"muster/webapp/state"
)

// pairing is what the panel for a browser without a session shows.
type pairing struct {
	busy  bool
	wrong string // why the last code was not taken
}

func (p *Page) renderPairing() app.UI {
	if p.state.Link != state.Unpaired {
		return nothing()
	}
	label := "Pair this browser"
	if p.pairing.busy {
		label = "Pairing…"
	}
	return el("section", "panel pairing", at{"id", "pairing", "aria-labelledby", "pair-title"}, icon(iconPlug),
		el("div", "pairing-body", nil,
			el(p.pairingHeading(), "pair-title", at{"id", "pair-title"}, text("Let this browser in")),
			el("p", "", at{"id", "pair-help"},
				text("muster shows this machine only to browsers that you have let in. In a terminal on it, run "),
				el("code", "", nil, text("muster link")),
				text(" and open the link that it prints, or paste the link here. It works once, for five minutes.")),
			el("form", "", nil,
				el("label", "", at{"for", "pair-code"}, text("One-time link or code")),
				el("div", "pair-row", nil,
					void("input", "", at{"id", "pair-code", "type", "text", "autocomplete", "off", "spellcheck", "false", "placeholder", "http://127.0.0.1:8000/#pair=…",
						"aria-describedby", "pair-help pair-wrong", "aria-invalid", flag(p.pairing.wrong != "")}),
					el("button", "primary-button", at{"id", "pair", "type", "submit", "disabled", flag(p.pairing.busy)}, text(label))),
				el("p", "field-error", at{"id", "pair-wrong", "role", "alert"}, text(p.pairing.wrong)),
				on("submit", p.pair))))
}

// capital makes a sentence of what the agent says.
func capital(message string) string {
	if message == "" {
		return ""
	}
	first, size := utf8.DecodeRuneInString(message)
	return string(unicode.ToUpper(first)) + message[size:]
}

// pairingHeading is the page's first heading where the panel stands alone.
func (p *Page) pairingHeading() string {
	if p.state.Inventory == nil {
		return "h1"
	}
	return "h2"
}

func (p *Page) pair(ctx app.Context, e app.Event) {
	e.PreventDefault()
	code := live.PairCode(entered("pair-code"))
	if code == "" {
		p.pairing.wrong = "This is neither a link from “muster link” nor its code."
		return
	}
	if p.agent.Pair == nil || p.pairing.busy {
		return
	}
	p.pairing = pairing{busy: true}
	ctx.Async(func() {
		err := p.agent.Pair(context.Background(), code)
		ctx.Dispatch(func(app.Context) {
			p.pairing = pairing{}
			if err != nil {
				p.pairing.wrong = capital(err.Error())
				return
			}
			focus("main") // the panel goes
			p.agent.Link.Retry()
		})
	})
}
