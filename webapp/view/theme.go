package view

import "github.com/maxence-charriere/go-app/v10/pkg/app"

// theme is the reader's choice of colours: "" follows the system.
type theme string

const (
	themeSystem theme = ""
	themeLight  theme = "light"
	themeDark   theme = "dark"
)

// next gives the theme after this one, and a word for this one.
func (t theme) next() (theme, string) {
	switch t {
	case themeLight:
		return themeDark, "light"
	case themeDark:
		return themeSystem, "dark"
	default:
		return themeLight, "as the system"
	}
}

func (p *Page) renderTheme() app.UI {
	next, now := p.theme.next()
	_, then := next.next()
	return iconButton("Colours: "+now+". Change to: "+then, iconTheme, at{"id", "theme"}, on("click", p.changeTheme))
}

func (p *Page) changeTheme(app.Context, app.Event) {
	p.theme, _ = p.theme.next()
	if p.agent.Keep != nil {
		_ = p.agent.Keep.Set(keepTheme, string(p.theme))
	}
	app.Window().Get("document").Get("documentElement").Call("setAttribute", "data-theme", string(p.theme))
}
