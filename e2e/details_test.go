package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"muster/agent/fixture"
	"muster/e2e/harness"
	"muster/e2e/stage"
	"muster/shared/gpu"
	"muster/shared/wire"
)

// onStage opens the page of the made-up machine.
func onStage(t *testing.T, past stage.Past, expected ...string) (*stage.Stage, *harness.Page) {
	t.Helper()
	made, err := stage.Open(past, stage.Machine(time.Now().UTC())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(made.Close)
	tab := open(t, made.URL, append(expected, "WebSocket")...) // the stage ends before the page does
	until(t, tab, `document.querySelectorAll("[data-device]").length == 8 && document.querySelector("#connection").dataset.state == "connected"`)
	return made, tab
}

// says waits until an element's text contains a text.
func says(t *testing.T, tab *harness.Page, selector, text string) {
	t.Helper()
	until(t, tab, `(document.querySelector(`+quote(selector)+`)?.innerText ?? "").replaceAll(/\s+/g, " ").includes(`+quote(text)+`)`)
}

func quote(s string) string { return "`" + strings.ReplaceAll(s, "`", "\\`") + "`" }

func click(t *testing.T, tab *harness.Page, selector string) {
	t.Helper()
	eval[any](t, tab, `void document.querySelector(`+quote(selector)+`).click()`)
}

const drawn = `document.querySelector(".details .past-plot")?.dataset.status == "ready" && document.querySelector(".details .line").getAttribute("d").length > 100`

func TestDetailsByKeyboard(t *testing.T) {
	made, tab := onStage(t, stage.Waves)
	press := func(key string) {
		t.Helper()
		if err := chromedp.Do(tab.Context, chromedp.KeyEvent(key)); err != nil {
			t.Fatal(err)
		}
	}
	if n := eval[int](t, tab, `document.querySelectorAll(".details").length`); n != 0 {
		t.Errorf("%d details are open at the start", n)
	}
	eval[any](t, tab, `void document.querySelector("#open-0").focus()`)
	press(kb.Enter)
	until(t, tab, `document.querySelector("#open-0").getAttribute("aria-expanded") == "true" && document.querySelector("#" + document.querySelector("#open-0").getAttribute("aria-controls")) != null`)
	for _, text := range []string{
		"XID 94 Contained memory error", "GPU 68 °C slows down at 87 °C, switches off at 92 °C", "Limit 700 W settable from 200 to 700 W", "1,755 of 1,980 MHz", "its power limit",
		"NVLink 17 of 18 up down: 4", "Gen 5 ×16", "Error correction on", "Serial number 1652823054221", "python3 48213 alice compute 58.00 GiB python3 train.py", "--pid=host",
	} {
		says(t, tab, "#details-0", text)
	}
	until(t, tab, drawn)
	press(kb.Tab) // to the button that closes them
	if label := eval[string](t, tab, `document.activeElement.getAttribute("aria-label")`); label != "Close the details of Device 0" {
		t.Errorf("the keyboard comes to %q", label)
	}
	press(kb.Enter)
	until(t, tab, `document.querySelector(".details") == null && document.activeElement.id == "open-0" && document.activeElement.getAttribute("aria-expanded") == "false"`)
	before := len(made.Asked())
	press(" ")
	until(t, tab, drawn)
	if after := len(made.Asked()); after <= before {
		t.Error("opening again does not ask for the history again")
	}
}

func TestDetailsByTouch(t *testing.T) {
	_, tab := onStage(t, stage.Waves)
	if err := chromedp.Do(tab.Context, chromedp.EmulateViewport(390, 844)); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(tab.Context, emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: true}); err != nil {
		t.Fatal(err)
	}
	// The whole head of the card is the button.
	hit := eval[bool](t, tab, `(() => {
		const card = document.querySelector("#card-1"), title = card.querySelector("h3");
		card.scrollIntoView({behavior: "instant", block: "center"});
		const r = title.getBoundingClientRect();
		const under = document.elementFromPoint(r.left + 5, r.top + 5);
		under.click();
		return under.id == "open-1";
	})()`)
	if !hit {
		t.Error("a finger on the card's title does not meet its button")
	}
	says(t, tab, "#details-1", "Partitions (MIG)")
	if wide := eval[int](t, tab, `document.documentElement.scrollWidth`); wide > 390 {
		t.Errorf("the page is %d px wide on a phone of 390", wide)
	}
	if over := eval[[]string](t, tab, `[...document.querySelectorAll(".details *")].filter(e => e.getBoundingClientRect().right > document.querySelector(".details").getBoundingClientRect().right + 0.5 && getComputedStyle(e).display != "none").map(e => e.tagName + " " + e.textContent.slice(0, 40))`); len(over) > 0 {
		t.Errorf("sticks out of the details: %q", over)
	}
}

func TestRangesOfTheHistory(t *testing.T) {
	made, tab := onStage(t, stage.Waves)
	click(t, tab, "#open-2")
	until(t, tab, drawn)
	for span, want := range map[string]time.Duration{"1": 24 * time.Hour, "2": 30 * 24 * time.Hour, "0": 10 * time.Minute} {
		click(t, tab, `.details [data-span="`+span+`"]`)
		until(t, tab, drawn+` && document.querySelector('.details [data-span="`+span+`"]').getAttribute("aria-pressed") == "true"`)
		asked := made.Asked()
		if q := asked[len(asked)-1]; seconds(t, q, "to")-seconds(t, q, "from") != int64(want/time.Second) || q.Get("device") != "2" {
			t.Errorf("%s: asks %s", want, q.Encode())
		}
	}
	click(t, tab, `.details [data-metric="2"]`)
	says(t, tab, ".details .past-y", "100 °C 75 50 25 0")
	until(t, tab, drawn)
	if gaps := eval[int](t, tab, `document.querySelector(".details .line").getAttribute("d").match(/M/g).length`); gaps != 2 {
		t.Errorf("the line has %d stretches, want 2: what was not recorded is a gap", gaps)
	}
	says(t, tab, ".details .past-words", "Mean ")
}

func seconds(t *testing.T, q url.Values, name string) int64 {
	t.Helper()
	var n int64
	for _, digit := range q.Get(name) {
		n = 10*n + int64(digit-'0')
	}
	return n
}

func TestHistoryThatCannotBeShown(t *testing.T) {
	refuses := func(url.Values) (int, any) {
		return http.StatusServiceUnavailable, map[string]any{"error": map[string]string{"code": "busy", "message": "the disk does not answer"}}
	}
	made, tab := onStage(t, refuses, "503")
	click(t, tab, "#open-0")
	says(t, tab, ".details .past-words", "The history could not be loaded: the disk does not answer.")
	made.Answer(func(url.Values) (int, any) {
		return 200, map[string]any{"step_s": 10, "times": []int{}, "min": []int{}, "mean": []int{}, "max": []int{}}
	})
	click(t, tab, `.details [data-span="1"]`)
	says(t, tab, ".details .past-words", "Nothing was recorded in this time.")
	made.Answer(stage.Waves)
	click(t, tab, `.details [data-span="2"]`)
	until(t, tab, drawn)
	eval[any](t, tab, `window.fetch = () => Promise.reject(new TypeError("offline"))`)
	click(t, tab, `.details [data-span="0"]`)
	says(t, tab, ".details .past-words", "The history is kept by the agent, which can't be reached.")
}

func TestTruthOnTheCards(t *testing.T) {
	_, tab := onStage(t, stage.Waves)
	for selector, text := range map[string]string{
		"#card-1": "NVIDIA H100 80GB HBM3 · 3 partitions", "#card-2": "100 % ?", "#card-3": "VRAM 0.38 of 0.50 GiB Main memory 37.00 of 96.00 GiB", "#card-6": "Main memory 44.00 of 119.00 GiB",
		"#card-4": "Asleep to save power.", "#card-5": "last reading 2 min ago", "#card-7": "Kernel module and driver library differ. Reboot", "#system": "over 3 of 8 devices", ".adapters": "ASPEED Graphics Family",
	} {
		says(t, tab, selector, text)
	}
	for _, n := range []string{"2", "4"} {
		click(t, tab, "#open-"+n)
	}
	says(t, tab, "#details-2", "hwmon power1_average says 12 W, libamd_smi says 19 W")
	says(t, tab, "#details-2", "No program uses this device.")
	says(t, tab, "#details-4", "(asleep: reading it would wake the device)")
	if text := eval[string](t, tab, `document.querySelector("#details-4").innerText`); strings.Contains(text, "Fan") {
		t.Error("values that are not there are shown unasked")
	}
	click(t, tab, "#details-4 .origins")
	says(t, tab, "#details-4", "Fan — asleep: reading it would wake the device")
}

func TestANewFaultIsSeenAtOnce(t *testing.T) {
	made, tab := onStage(t, stage.Waves)
	click(t, tab, "#open-6")
	says(t, tab, "#details-6", "No program uses this device.")
	events := stage.Machine(time.Now().UTC())
	report := events[2].Details
	report.Devices[6].Faults = []gpu.Fault{{Time: time.Now().UTC(), Kind: "XID", Code: 79, Text: "GPU has fallen off the bus"}}
	made.Tell(wire.Event{Details: report})
	says(t, tab, "#card-6 .fault", "XID 79")
	says(t, tab, `#details-6 .fault[data-age="new"]`, "GPU has fallen off the bus")
}

// Values that change their width move nothing, with open details neither.
func TestNothingShiftsWhenValuesChange(t *testing.T) {
	made, tab := onStage(t, stage.Waves)
	click(t, tab, "#open-0")
	until(t, tab, drawn)
	// A unit moves behind its number, and nothing else does.
	eval[any](t, tab, `void (window.shifts = [], new PerformanceObserver(list => list.getEntries().filter(e => !e.hadRecentInput).forEach(e =>
		shifts.push(...e.sources.filter(s => s.node && !(s.node.parentElement ?? s.node).closest(".unit") && !s.node.matches?.(".unit")).map(s => s.node.textContent.slice(0, 80))))).observe({type: "layout-shift"}))`)
	events := stage.Machine(time.Now().UTC())
	for _, watts := range []float64{7, 1234, 88} {
		s := *events[1].Snapshot
		s.GPUs = append([]gpu.Reading(nil), s.GPUs...)
		for i := range s.GPUs {
			r := &s.GPUs[i]
			r.PowerWatts, r.UtilizationPercent, r.Temperatures = &watts, &watts, []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: watts}}
		}
		made.Tell(wire.Event{Snapshot: &s})
		made.Tell(wire.Event{Details: events[2].Details})
		want := map[float64]string{7: "7", 1234: "1,234", 88: "88"}[watts]
		says(t, tab, "#card-0", want+" %")
		says(t, tab, "#details-0", "Draw "+want+" W")
	}
	if shifts := eval[[]string](t, tab, `shifts`); len(shifts) > 0 {
		t.Errorf("the layout shifted: %q", shifts)
	}
}

func TestDetailsOfSimulatedDevices(t *testing.T) {
	agent := start(t, "--simulate", "1x MI25, 1x H100", "--interval", "200ms")
	tab := open(t, agent.Link)
	until(t, tab, `document.querySelectorAll("[data-device]").length == 2`)
	for _, n := range []string{"0", "1"} {
		click(t, tab, "#open-"+n)
		says(t, tab, "#details-"+n, "Slowed down by nothing: it is idle")
		says(t, tab, "#details-"+n, "Asked at ")
		until(t, tab, `document.querySelector("#details-`+n+` .past-plot").dataset.status == "ready"`)
	}
	click(t, tab, "#details-1 .origins")
	says(t, tab, "#details-1 .group dd.origin", "simulation")
	// The agent's history reaches the drawing.
	until(t, tab, `(document.querySelector("#details-0 [data-metric='3']").click(), document.querySelector("#details-0 .past-plot .line").getAttribute("d") != "M0 0")`)
}

func TestDetailsOfCapturedCards(t *testing.T) {
	agent := start(t, "--sysroot", fixture.Root(t, "amd-mi25x8"), "--interval", "200ms")
	tab := open(t, agent.Link)
	until(t, tab, `document.querySelectorAll("[data-device]").length == 8`)
	click(t, tab, "#open-4")
	for _, text := range []string{"Device 4 in detail", "PCI address 0000:43:00.0", "Architecture gfx900", "Compute capability 9.0", "Multiprocessors 64", "VRAM ", " of 15.98 GiB", "Asked at "} {
		says(t, tab, "#details-4", text)
	}
	click(t, tab, "#details-4 .origins")
	says(t, tab, "#details-4 .groups", "gpu_busy_percent")
	says(t, tab, "#details-4 .groups", "not supported by this card or its driver")
}

func TestDetailsWithoutTheAgent(t *testing.T) {
	agent := start(t, "--simulate", "1x H100", "--interval", "200ms")
	tab := open(t, agent.Link, "net::ERR_CONNECTION_REFUSED", "WebSocket", "Failed to load resource", "Failed to fetch")
	until(t, tab, `navigator.serviceWorker.ready.then(r => r.active != null && r.active.state == "activated")`)
	until(t, tab, `(localStorage.getItem("muster.state") ?? "").includes('"details"')`)
	if err := agent.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := tab.Navigate(agent.URL); err != nil {
		t.Fatal(err)
	}
	until(t, tab, `document.querySelector("#connection")?.dataset.state == "offline" && document.querySelector("#open-0") != null`)
	click(t, tab, "#open-0")
	says(t, tab, "#details-0", "Asked at ")
	says(t, tab, "#details-0", "Performance state P")
	says(t, tab, "#details-0 .past-words", "The history is kept by the agent, which can't be reached.")
}
