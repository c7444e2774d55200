package view

import (
	"strconv"
	"syscall/js"
)

// viewport knows which cards can be seen, so that the others are not painted. The browser itself lays out what is up to a
// screen and a half away, which with many cards is all of them.
type viewport struct {
	observer js.Value
	unseen   map[int]bool
	changed  func()
}

// observe watches the cards that are on the page now. Until the browser has answered, all count as seen.
func (v *viewport) observe() {
	if v.observer.IsUndefined() {
		v.observer = js.Global().Get("IntersectionObserver").New(js.FuncOf(v.look), map[string]any{"rootMargin": "160px"})
	}
	v.observer.Call("disconnect")
	v.unseen = map[int]bool{}
	cards := js.Global().Get("document").Call("querySelectorAll", "[data-device]")
	for i := range cards.Length() {
		v.observer.Call("observe", cards.Index(i))
	}
}

func (v *viewport) look(_ js.Value, args []js.Value) any {
	for i := range args[0].Length() {
		entry := args[0].Index(i)
		if n, err := strconv.Atoi(entry.Get("target").Get("dataset").Get("device").String()); err == nil {
			v.unseen[n] = !entry.Get("isIntersecting").Bool()
		}
	}
	v.changed()
	return nil
}

func (v *viewport) seen(i int) bool { return !v.unseen[i] }
