package view

import "github.com/maxence-charriere/go-app/v10/pkg/app"

// The views are made of el and void instead of go-app's typed elements: each of those types brings a hundred methods, and each
// chained call its own code. This way the app is 0.9 MB smaller.

// at is attributes as pairs of name and value. A pair with an empty value is left out.
type at []string

// el makes an element. Listeners stand among its children.
func el(tag, class string, attributes at, body ...app.UI) app.UI {
	e := app.Elem(tag)
	if class != "" {
		e.Class(class)
	}
	for i := 0; i+1 < len(attributes); i += 2 {
		if attributes[i+1] != "" {
			e.Attr(attributes[i], attributes[i+1])
		}
	}
	children := body[:0]
	for _, child := range body {
		if l, is := child.(listener); is {
			e.On(l.event, l.do)
			continue
		}
		children = append(children, child)
	}
	return e.Body(children...)
}

// void makes an element without content: img, input.
func void(tag, class string, attributes at, listeners ...app.UI) app.UI {
	e := app.ElemSelfClosing(tag)
	if class != "" {
		e.Class(class)
	}
	for i := 0; i+1 < len(attributes); i += 2 {
		if attributes[i+1] != "" {
			e.Attr(attributes[i], attributes[i+1])
		}
	}
	for _, child := range listeners {
		if l, is := child.(listener); is {
			e.On(l.event, l.do)
		}
	}
	return e
}

// listener is an event handler among the children of an element. go-app compares handlers by their code, so they are methods
// and functions, never closures; what they are about stands in a data attribute.
type listener struct {
	app.UI
	event string
	do    app.EventHandler
}

func on(event string, do app.EventHandler) app.UI { return listener{event: event, do: do} }

func text(s string) app.UI { return app.Text(s) }

// flag gives a boolean attribute's value: "" leaves it out.
func flag(on bool) string {
	if on {
		return "true"
	}
	return ""
}

// nothing keeps a place among siblings, which go-app matches by position.
func nothing() app.UI { return el("span", "none", nil) }

// data gives one data attribute of the element that an event was for.
func data(ctx app.Context, name string) string { return ctx.JSSrc().Get("dataset").Get(name).String() }

const svgNamespace = "http://www.w3.org/2000/svg"

// drawing makes an SVG element that assistive technology skips: what it shows stands beside it as text. It fills its box.
func drawing(viewBox, class string, shapes ...app.UI) app.UI {
	return app.Elem("svg").XMLNS(svgNamespace).Class(class).Attr("viewBox", viewBox).Attr("aria-hidden", "true").Attr("focusable", "false").Attr("preserveAspectRatio", "none").Body(shapes...)
}

// shape makes an element inside of a drawing.
func shape(attributes at) app.UI {
	e := app.Elem("path").XMLNS(svgNamespace)
	for i := 0; i+1 < len(attributes); i += 2 {
		e.Attr(attributes[i], attributes[i+1])
	}
	return e
}

// icon draws one stroked path on a grid of 24.
func icon(path string) app.UI { return drawing("0 0 24 24", "icon", shape(at{"d", path})) }

// The icons, as paths.
const (
	iconCross    = "M6 6l12 12M18 6L6 18"
	iconNext     = "M9 5l7 7-7 7"
	iconDown     = "M5 9l7 7 7-7"
	iconPrevious = "M15 5l-7 7 7 7"
	iconDownload = "M12 4v11M7 10.5l5 5 5-5M5 20h14"
	iconWarning  = "M12 4l9 16H3zM12 10v4.5M12 17.2v.3"
	iconTheme    = "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18"
	iconPicture  = "M4 5h16v14H4zM4 16l4.5-4.5L13 16l3-3 4 4M15.5 9.2v.1"
	iconPlug     = "M9 3v5M15 3v5M6.5 8h11v3.5a5.5 5.5 0 0 1-11 0zM12 17v4"
)

// mark is the sign of muster: eight devices drawn up in two rows, one of them at work.
func mark() app.UI {
	return drawing("0 0 30 32", "mark",
		shape(at{"class", "cells", "d", "M2 8h5v7H2zM9 8h5v7H9zM23 8h5v7h-5zM2 18h5v7H2zM9 18h5v7H9zM16 18h5v7h-5zM23 18h5v7h-5z"}),
		shape(at{"class", "lit", "d", "M16 8h5v7h-5z"}),
	)
}

// measured shows a value, and says as its title why it is absent.
func measured(id string, v value) app.UI {
	return el("span", "value", at{"id", id, "title", v.why}, text(v.text))
}

func fact(name string, content ...app.UI) app.UI {
	return el("div", "", nil, el("dt", "", nil, text(name)), el("dd", "", nil, content...))
}

// iconButton is a button that shows only an icon, and says what it does.
func iconButton(label, path string, attributes at, click app.UI) app.UI {
	return el("button", "icon-button", append(attributes, "type", "button", "aria-label", label, "title", label), icon(path), click)
}

// section is a part of the page that can be jumped to.
func section(id, class string, body ...app.UI) app.UI {
	return el("section", class, at{"id", id, "tabindex", "-1", "aria-labelledby", id + "-title"}, body...)
}

func heading(id, title string, beside ...app.UI) app.UI {
	return el("div", "section-head", nil, append([]app.UI{el("h2", "", at{"id", id + "-title"}, text(title))}, beside...)...)
}
