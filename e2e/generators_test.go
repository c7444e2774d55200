package e2e

import (
	"testing"

	"github.com/chromedp/chromedp"

	"muster/agent/fixture"
	"muster/shared/wire"
)

// A generator that can't be reached is on no device's card. It is told of at the top, and in its section with what would help.
func TestAGeneratorThatIsAwayIsShown(t *testing.T) {
	agent := start(t, "--sysroot", fixture.Root(t, "amd-mi25x8"), "--interval", "200ms", "--comfyui", "http://127.0.0.1:1")
	const id = "comfyui 127.0.0.1:1"
	eventually(t, "the agent has tried to reach it", func() bool { return generatorsOf(t, agent)[id].State == wire.GeneratorUnreachable })
	tab := open(t, agent.Link)
	const row = `[data-generator="` + id + `"]`
	for _, text := range []string{"ComfyUI", "does not answer", "127.0.0.1:1", "attached", "start it, or leave it out of muster's settings"} {
		says(t, tab, row, text)
	}
	says(t, tab, `.notice[data-kind="generator"]`, "start it, or leave it out of muster's settings")
	if first := eval[string](t, tab, `document.querySelector("#generators [data-generator]").dataset.state`); first != string(wire.GeneratorUnreachable) {
		t.Errorf("the first that is shown is %s", first)
	}
	if err := chromedp.Do(tab.Context, chromedp.EmulateViewport(390, 844)); err != nil {
		t.Fatal(err)
	}
	until(t, tab, `(r => r.width > 0 && r.left >= 0 && r.right <= 390)(document.querySelector('`+row+`').getBoundingClientRect())`)
	if wide := eval[int](t, tab, `document.documentElement.scrollWidth`); wide > 390 {
		t.Errorf("the page is %d px wide on a phone of 390: %v", wide, eval[[]string](t, tab, `[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > 391).map(e => e.tagName + "." + e.className + "#" + e.id + " " + Math.round(e.getBoundingClientRect().right))`))
	}
	if top := eval[float64](t, tab, `(scrollTo(0, 0), document.querySelector('.notice[data-kind="generator"]').getBoundingClientRect().bottom)`); top > 844 {
		t.Errorf("on a phone the notice ends at %g px, below what can be seen", top)
	}
}

// Where nobody has connected a generator, the page says how.
func TestThePageSaysHowToConnectAGenerator(t *testing.T) {
	agent := start(t, "--simulate", "1x MI25", "--interval", "200ms")
	tab := open(t, agent.Link)
	for _, text := range []string{"No generator is connected.", "--sd-server PATH", "--comfyui http://127.0.0.1:8188"} {
		says(t, tab, "#generators", text)
	}
}
