package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"muster/e2e/harness"
	"muster/e2e/stage"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/wire"
)

// onShelf opens the page of a made-up machine with a full library.
func onShelf(t *testing.T, expected ...string) (*stage.Stage, *harness.Page) {
	t.Helper()
	made, err := stage.Open(stage.Waves, stage.Shelf(time.Now().UTC())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(made.Close)
	tab := open(t, made.URL, append(expected, "WebSocket")...)
	until(t, tab, `document.querySelectorAll("[data-device]").length == 8 && document.querySelectorAll("[data-model].entry").length == 13 && document.querySelector("#connection").dataset.state == "connected"`)
	return made, tab
}

// done waits until the made-up agent was asked for something.
func done(t *testing.T, made *stage.Stage, want stage.Done) {
	t.Helper()
	eventually(t, fmt.Sprintf("the agent is asked for %+v", want), func() bool { return slices.Contains(made.Done(), want) })
}

func TestWhatIsAskedAboutModels(t *testing.T) {
	made, tab := onShelf(t)
	click(t, tab, `[data-model="sd_xl_base_1.0"] [data-act="disable"]`)
	done(t, made, stage.Done{Method: "POST", Path: "/api/v1/models/sd_xl_base_1.0/disable"})
	eval[any](t, tab, `void (document.querySelector('[data-model="sd_xl_turbo_1.0"] select').value = "5")`)
	click(t, tab, `[data-model="sd_xl_turbo_1.0"] [data-act="load"]`)
	done(t, made, stage.Done{Method: "POST", Path: "/api/v1/models/sd_xl_turbo_1.0/load", Body: `{"device_id":5}`})
	click(t, tab, `[data-install="a1"] [data-act="stop"]`)
	done(t, made, stage.Done{Method: "DELETE", Path: "/api/v1/models/installs/a1"})
	click(t, tab, `[data-install="a3"] [data-act="again"]`)
	done(t, made, stage.Done{Method: "POST", Path: "/api/v1/models/installs/a3/again"})

	click(t, tab, `#adding-summary`)
	until(t, tab, `document.querySelectorAll("[data-offer].entry").length == 4`)
	says(t, tab, `[data-offer="sdxl-1.0"]`, "installed")
	click(t, tab, `button[data-offer="flux-schnell-q8"]`)
	done(t, made, stage.Done{Method: "POST", Path: "/api/v1/models/install", Body: `{"repo":"city96/FLUX.1-schnell-gguf","file":"flux1-schnell-Q4_0.gguf"}`})

	enter(t, tab, "#install-source", "https://models.example.org/x.safetensors")
	eval[any](t, tab, `void (document.querySelector("#install-device").value = "1")`)
	eval[any](t, tab, `void document.querySelector("#install").requestSubmit()`)
	done(t, made, stage.Done{Method: "POST", Path: "/api/v1/models/install", Body: `{"url":"https://models.example.org/x.safetensors","device_id":1}`})
	says(t, tab, "#install-said", "It is being installed")
	until(t, tab, `document.querySelector("#install-source").value == ""`)
}

func TestAnInstallationThatIsRefusedSaysWhy(t *testing.T) {
	made, tab := onShelf(t, "400")
	click(t, tab, `#adding-summary`)
	eval[any](t, tab, `void document.querySelector("#install").requestSubmit()`)
	says(t, tab, "#install-source-wrong", "The address is missing")
	if id := eval[string](t, tab, `document.activeElement.id`); id != "install-source" {
		t.Errorf("the cursor is at %q", id)
	}
	made.RefuseField("sha256", `is "0a"; want 64 hex digits`)
	enter(t, tab, "#install-source", "ada/models")
	enter(t, tab, "#install-file", "<img src=x onerror=alert(1)>.gguf")
	eval[any](t, tab, `void document.querySelector("#install").requestSubmit()`)
	says(t, tab, "#install-sha256-wrong", `SHA-256 is "0a"; want 64 hex digits.`)
	until(t, tab, `document.activeElement.id == "install-sha256" && document.querySelector("#install-source").value == "ada/models" && document.querySelector("#install-source-wrong").innerText == ""`)
}

// A file goes only after a question in the page, whose safe answer has the keyboard.
func TestRemovingAModelByKeyboard(t *testing.T) {
	made, tab := onShelf(t)
	key := func(key string) {
		t.Helper()
		if err := chromedp.Do(tab.Context, chromedp.KeyEvent(key)); err != nil {
			t.Fatal(err)
		}
	}
	const row = `[data-model="v1-5-pruned-emaonly"].entry`
	at := func(act string) string {
		return `document.activeElement.closest("[data-model].entry")?.dataset.model == "v1-5-pruned-emaonly" && document.activeElement.innerText == "` + act + `"`
	}
	eval[any](t, tab, `void document.querySelector('`+row+` [data-act="remove"]').focus()`)
	key(kb.Enter)
	until(t, tab, at("Keep it"))
	says(t, tab, row, "Remove v1-5-pruned-emaonly? Its file of 4.3 GB is deleted.")
	key(kb.Escape)
	until(t, tab, at("Remove"))
	key(kb.Enter)
	until(t, tab, at("Keep it"))
	if n := len(made.Done()); n > 0 {
		t.Fatalf("removed without an answer: %+v", made.Done())
	}
	eval[any](t, tab, `void document.querySelector('`+row+` .confirm [data-act="remove"]').focus()`)
	key(kb.Enter)
	done(t, made, stage.Done{Method: "DELETE", Path: "/api/v1/models/v1-5-pruned-emaonly"})
	until(t, tab, `document.activeElement.id == "models"`)
}

// What was chosen in a model's row stays with the model when others come and go, and so does the model that the form asks for.
func TestChoicesStayWithTheirModels(t *testing.T) {
	made, tab := onShelf(t)
	for selector, value := range map[string]string{`[data-model="z_image_turbo-Q8_0"] select`: "4", "#model": "z_image_turbo-Q8_0"} {
		eval[any](t, tab, fmt.Sprintf(`void (s => { s.value = %q; s.dispatchEvent(new Event("input", {bubbles: true})) })(document.querySelector(%s))`, value, quote(selector)))
	}
	events := stage.Shelf(time.Now().UTC())
	var library *model.Library
	var capacity *wire.Capacity
	for _, e := range events {
		if e.Library != nil {
			library = e.Library
		}
		if e.Capacity != nil {
			capacity = e.Capacity
		}
	}
	library.Models, capacity.Models = library.Models[2:], capacity.Models[2:]
	made.Tell(wire.Event{Library: library})
	made.Tell(wire.Event{Capacity: capacity})
	until(t, tab, `document.querySelectorAll("[data-model].entry").length == 11`)
	until(t, tab, `document.querySelector("#model").value == "z_image_turbo-Q8_0" && document.querySelector('[data-model="z_image_turbo-Q8_0"] select').value == "4"`)
	capacity.Models = slices.DeleteFunc(slices.Clone(capacity.Models), func(m wire.Model) bool { return m.Name == "z_image_turbo-Q8_0" })
	made.Tell(wire.Event{Capacity: capacity})
	says(t, tab, "#generate-said", "The model that was chosen is not there any more: choose again.")
	until(t, tab, `document.querySelector("#model").selectedIndex == 0`)
}

func TestModelsByTouch(t *testing.T) {
	_, tab := onShelf(t)
	if err := chromedp.Do(tab.Context, chromedp.EmulateViewport(390, 844)); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(tab.Context, emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: true}); err != nil {
		t.Fatal(err)
	}
	click(t, tab, "#adding-summary")
	click(t, tab, "#generators-well")
	until(t, tab, `document.querySelectorAll("[data-offer].entry").length == 4`)
	small := eval[[]string](t, tab, `[...document.querySelectorAll("#models :is(summary, button, input, select), #generators summary")].filter(e => {
		const r = e.getBoundingClientRect();
		return r.height < 44 || r.width < 44;
	}).map(e => e.innerText || e.id)`)
	if len(small) > 0 {
		t.Errorf("too small for a finger: %q", small)
	}
	if n := eval[int](t, tab, `document.querySelectorAll("#models :is(button, input, select)").length`); n < 40 {
		t.Errorf("%d controls, want all", n)
	}
	if wide := eval[int](t, tab, `document.documentElement.scrollWidth`); wide > 390 {
		t.Errorf("the page is %d px wide on a phone of 390", wide)
	}
}

// The picture of an unfinished image follows the agent, not too often, moves nothing, and stops with the connection.
func TestPicturesOfUnfinishedImages(t *testing.T) {
	made, tab := onShelf(t, "net::ERR", "Failed to load resource")
	const image = `document.querySelector("#j01A0-preview")`
	until(t, tab, image+`?.complete && `+image+`.naturalWidth == 64`)
	if alt := eval[string](t, tab, image+`.alt`); alt != "Unfinished image 1 of an old sea captain with a grey beard, storm light" {
		t.Errorf("it is called %q", alt)
	}
	eval[any](t, tab, `void (window.moved = 0, new PerformanceObserver(list => list.getEntries().forEach(e => { window.moved += e.value })).observe({type: "layout-shift"}))`)
	looked := made.Looked()
	began := time.Now()
	var running job.Job
	for _, e := range stage.Shelf(began.UTC()) {
		if e.Job != nil && e.Job.ID == "01A0" {
			running = *e.Job
		}
	}
	for n := 2; n <= 40; n++ {
		progress := running
		progress.Progress.Preview = n
		made.Tell(wire.Event{Job: &progress})
	}
	until(t, tab, image+`.src.endsWith("?n=1-40") && `+image+`.complete`)
	if n, most := made.Looked()-looked, 2+int(time.Since(began)/(500*time.Millisecond)); n > most {
		t.Errorf("%d pictures were asked for in %s, want at most %d", n, time.Since(began), most)
	}
	if moved := eval[float64](t, tab, `window.moved`); moved > 0 {
		t.Errorf("the page moved by %g", moved)
	}
	ready := running
	ready.State, ready.ImageID, ready.Finished = job.Succeeded, "abc", new(began)
	ready.DeviceID = new(gpu.Ref(0))
	made.Tell(wire.Event{Job: &ready})
	until(t, tab, image+` == null && document.querySelector('[data-job="01A0"] .job-thumb img').src.includes("/api/v1/images/abc")`)
}
