package view

import "syscall/js"

// document is the browser's page as the painter's surface.
type document struct{}

func (document) find(id string) target {
	element := js.Global().Get("document").Call("getElementById", id)
	if !element.Truthy() {
		return nil
	}
	return &paintable{element: element, text: element.Get("firstChild")}
}

// paintable keeps the first text node: writing textContent would replace the node that go-app holds.
type paintable struct{ element, text js.Value }

func (e *paintable) set(attribute, value string) {
	switch {
	case attribute == "" && e.text.Truthy():
		e.text.Set("nodeValue", value)
	case attribute == "":
		// An element without text has nothing to paint.
	case attribute == "value":
		e.element.Set("value", value)
	case value == "" && attribute == "title":
		e.element.Call("removeAttribute", attribute)
	default:
		e.element.Call("setAttribute", attribute, value)
	}
}
