package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"muster/agent/backend/backendtest"
	"muster/agent/fixture"
	"muster/e2e/harness"
	"muster/e2e/stage"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/pool"
	"muster/shared/wire"
)

// pooled is a device of GET /api/v1/pool.
type pooled struct {
	wire.Steered
	Loaded []string `json:"loaded"` // models
}

// steered gives what the agent says of a device.
func steered(t *testing.T, agent *harness.Agent, ref gpu.Ref) pooled {
	t.Helper()
	var answer struct {
		Devices []pooled `json:"devices"`
	}
	get(t, agent, "/api/v1/pool", &answer)
	for _, s := range answer.Devices {
		if s.Device == ref {
			return s
		}
	}
	t.Fatalf("%s is not in the pool", ref.Label())
	return pooled{}
}

// unfold opens the details of a device, once its card stands.
func unfold(t *testing.T, tab *harness.Page, device int) {
	t.Helper()
	until(t, tab, fmt.Sprintf(`document.querySelector("#connection")?.dataset.state == "connected" && document.querySelector("#open-%d") != null`, device))
	until(t, tab, fmt.Sprintf(`document.querySelector("#steering-%d") != null || (document.querySelector("#open-%[1]d").click(), false)`, device))
}

// press clicks an act in the open details of a device.
func press(t *testing.T, tab *harness.Page, device int, act string, seconds int) {
	t.Helper()
	click(t, tab, fmt.Sprintf(`#steering-%d [data-act="%s"][data-seconds="%d"]`, device, act, seconds))
}

// stands waits until the page says of a device, on its card and in its open details, what is expected.
func stands(t *testing.T, tab *harness.Page, device int, words string) {
	t.Helper()
	says(t, tab, fmt.Sprintf("#card-%d .phase", device), words)
	says(t, tab, fmt.Sprintf("#steering-now-%d", device), words)
}

// free waits until the page says that a device takes work.
func free(t *testing.T, tab *harness.Page, device int) {
	t.Helper()
	says(t, tab, fmt.Sprintf("#steering-now-%d", device), "Takes work.")
	until(t, tab, fmt.Sprintf(`document.querySelector("#card-%d .phase") == null`, device))
}

func submit(t *testing.T, agent *harness.Agent, spec job.Spec) []job.Job {
	t.Helper()
	var set struct {
		Jobs []job.Job `json:"jobs"`
	}
	if _, err := agent.Do(t.Context(), "POST", "/api/v1/jobs", spec, &set); err != nil {
		t.Fatal(err)
	}
	return set.Jobs
}

// made waits until the jobs have succeeded and counts them by device.
func made(t *testing.T, agent *harness.Agent, jobs []job.Job) map[gpu.Ref]int {
	t.Helper()
	on := map[gpu.Ref]int{}
	for _, j := range jobs {
		eventually(t, "an image is made", func() bool {
			get(t, agent, "/api/v1/jobs/"+j.ID, &j)
			return j.State.Terminal()
		})
		if j.State != job.Succeeded || j.DeviceID == nil {
			t.Fatalf("job %s is %s: %s", j.ID, j.State, j.Error)
		}
		on[*j.DeviceID]++
	}
	return on
}

func TestAPausedDeviceStartsNothing(t *testing.T) {
	agent := start(t, "--simulate", "3x V620", "--interval", "200ms")
	tab := open(t, agent.Link)
	unfold(t, tab, 1)
	press(t, tab, 1, "pause", 0)
	stands(t, tab, 1, "Paused")
	if s := steered(t, agent, 1); s.Control.Mode != pool.Paused || s.Phase != wire.PhasePaused {
		t.Errorf("the agent has it as %+v", s)
	}
	if on := made(t, agent, submit(t, agent, job.Spec{Prompt: "a fox", Count: 6, Width: 256, Height: 256})); on[1] != 0 || on[0] == 0 || on[2] == 0 {
		t.Errorf("while Device 1 is paused, images are made on %v", on)
	}
	pinned := submit(t, agent, job.Spec{Prompt: "a pinned fox", DeviceID: new(gpu.Ref(1)), Width: 256, Height: 256})
	says(t, tab, fmt.Sprintf(`[data-job="%s"]`, pinned[0].ID), "Device 1 pinned queued")
	says(t, tab, fmt.Sprintf(`[data-job="%s"] .reason`, pinned[0].ID), "paused")
	press(t, tab, 1, "resume", 0)
	free(t, tab, 1)
	if on := made(t, agent, pinned); on[1] != 1 {
		t.Errorf("after Device 1 was resumed, what is pinned to it is made on %v", on)
	}
}

func TestADrainedDeviceHoldsNothing(t *testing.T) {
	program := backendtest.BuildFakeSDServer(t, backendtest.MI25x8())
	models := t.TempDir()
	backendtest.WriteModel(t, models, "sd15", backendtest.Scenario{LoadMilliseconds: 200, StepMilliseconds: 100})
	agent := start(t, "--sysroot", fixture.Root(t, "amd-mi25x8"), "--sd-server", program, "--models", models, "--interval", "200ms")
	tab := open(t, agent.Link)
	unfold(t, tab, 2)
	jobs := submit(t, agent, job.Spec{Prompt: "a slow fox", DeviceID: new(gpu.Ref(2)), Steps: 40, Width: 256, Height: 256})
	until(t, tab, `document.querySelector("#card-2").dataset.state == "busy"`)
	press(t, tab, 2, "drain", 0)
	stands(t, tab, 2, "Draining: 1 image left")
	stands(t, tab, 2, "Drained")
	if on := made(t, agent, jobs); on[2] != 1 {
		t.Errorf("what ran was made on %v", on)
	}
	if serving := backendtest.Serving(t, program); len(serving) == 0 {
		t.Error("no sd-server ever ran")
	}
	if s := steered(t, agent, 2); s.Phase != wire.PhaseDrained || len(s.Loaded) > 0 {
		t.Errorf("the agent has it as %+v", s)
	}
	press(t, tab, 2, "resume", 0)
	free(t, tab, 2)
}

func TestWhatPeopleDecideIsKeptAndSeenByAll(t *testing.T) {
	data := t.TempDir()
	flags := []string{"--simulate", "3x MI25", "--interval", "200ms"}
	agent := startOn(t, data, flags...)
	tab := open(t, agent.Link, "net::ERR", "WebSocket", "Failed to load resource")
	link, err := agent.Command(t.Context(), "link")
	if err != nil {
		t.Fatal(err)
	}
	other := open(t, strings.TrimSpace(link), "net::ERR", "WebSocket", "Failed to load resource")
	unfold(t, tab, 0)
	unfold(t, other, 0)

	press(t, tab, 0, "reserve", 3600)
	stands(t, tab, 0, "Reserved until ")
	stands(t, other, 0, "Reserved until ")
	if s := steered(t, agent, 0); s.Control.Until == nil || time.Until(*s.Control.Until) > time.Hour || time.Until(*s.Control.Until) < 55*time.Minute {
		t.Errorf("reserved for an hour is %+v", s.Control)
	}
	click(t, other, `#steering-0 [role="switch"]`)
	enter(t, other, "#max-celsius-0", "80,5")
	until(t, tab, `document.querySelector('#steering-0 [role="switch"]').getAttribute("aria-checked") == "true"`)
	until(t, other, `document.querySelector("#steering-0").dataset.pending == null`)
	eval[any](t, other, `void document.querySelector("#steering-0 form").requestSubmit()`)
	until(t, tab, `document.querySelector("#max-celsius-0").value == "80.5"`)
	enter(t, tab, "#budget", "900")
	eval[any](t, tab, `void document.querySelector(".budget-form").requestSubmit()`)
	says(t, other, "#budget-now", "Power budget: 900 W")

	all := func(tab *harness.Page) {
		t.Helper()
		unfold(t, tab, 0)
		stands(t, tab, 0, "Reserved until ")
		says(t, tab, "#budget-now", "Power budget: 900 W")
		until(t, tab, `document.querySelector("#max-celsius-0").value == "80.5" && document.querySelector('#steering-0 [role="switch"]').getAttribute("aria-checked") == "true"`)
	}
	if err := tab.Navigate(agent.URL); err != nil {
		t.Fatal(err)
	}
	all(tab)
	if err := agent.Stop(); err != nil {
		t.Fatal(err)
	}
	until(t, other, `document.querySelector("#connection").dataset.state == "offline"`)
	says(t, other, "#steering-now-0", "Offline: this can be changed when the agent is back.")
	until(t, other, `[...document.querySelectorAll("#steering-0 :is(button, input), .budget-form :is(button, input)")].every(e => e.disabled)`)
	all(open(t, startOn(t, data, flags...).Link))
}

func enter(t *testing.T, tab *harness.Page, selector, text string) {
	t.Helper()
	eval[any](t, tab, fmt.Sprintf(`void (document.querySelector(%q).value = %q)`, selector, text))
}

func TestALimitThatIsRefusedSaysWhy(t *testing.T) {
	agent := start(t, "--simulate", "1x MI25", "--interval", "200ms")
	tab := open(t, agent.Link)
	unfold(t, tab, 0)
	for _, wrong := range []struct{ field, text, want string }{
		{"max-celsius", "20", "Temperature is 20; allowed is 30 to 120."}, {"max-celsius", "warm", "Temperature must be a number"}, {"max-watts", "0", "Power is 0; allowed is 1 to 100000."},
		{"hours", "at night", "is no time of day: want 22:00-08:00"},
	} {
		enter(t, tab, "#"+wrong.field+"-0", wrong.text)
		eval[any](t, tab, `void document.querySelector("#steering-0 form").requestSubmit()`)
		says(t, tab, "#"+wrong.field+"-0-wrong", wrong.want)
		if id := eval[string](t, tab, `document.activeElement.id`); id != wrong.field+"-0" {
			t.Errorf("%s: the cursor is at %q", wrong.want, id)
		}
		enter(t, tab, "#"+wrong.field+"-0", "")
	}
	if s := steered(t, agent, 0); !s.Control.IsZero() {
		t.Errorf("a refused limit holds: %+v", s.Control)
	}
	hours := time.Now().Add(2*time.Hour).Format("15:04") + "-" + time.Now().Add(3*time.Hour).Format("15:04")
	enter(t, tab, "#hours-0", hours)
	eval[any](t, tab, `void document.querySelector("#steering-0 form").requestSubmit()`)
	stands(t, tab, 0, "Limited")
	says(t, tab, "#steering-now-0", hours)
	enter(t, tab, "#hours-0", "")
	eval[any](t, tab, `void document.querySelector("#steering-0 form").requestSubmit()`)
	free(t, tab, 0)
}

// onPool opens the page of a made-up pool that people steer in every way.
func onPool(t *testing.T, expected ...string) (*stage.Stage, *harness.Page) {
	t.Helper()
	made, err := stage.Open(stage.Waves, stage.Pool(time.Now().UTC())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(made.Close)
	tab := open(t, made.URL, append(expected, "WebSocket")...)
	until(t, tab, `document.querySelectorAll("[data-device]").length == 8 && document.querySelector("#connection").dataset.state == "connected"`)
	return made, tab
}

func TestSteeringByKeyboard(t *testing.T) {
	made, tab := onPool(t, "507")
	key := func(key string) {
		t.Helper()
		if err := chromedp.Do(tab.Context, chromedp.KeyEvent(key)); err != nil {
			t.Fatal(err)
		}
	}
	eval[any](t, tab, `void document.querySelector("#open-0").focus()`)
	key(kb.Enter)
	until(t, tab, `document.querySelector("#steering-0") != null`)
	var met []string
	for range 12 {
		key(kb.Tab)
		met = append(met, eval[string](t, tab, `document.activeElement.innerText || document.activeElement.id || document.activeElement.getAttribute("aria-label")`))
	}
	// A device that takes work has nothing to resume.
	want := "Close the details of Device 0|Pause|Drain|1 h|4 h|until I say|Give way to other programs|max-celsius-0|max-watts-0|hours-0|Save limits|Utilisation"
	if got := strings.Join(met, "|"); got != want {
		t.Errorf("the keyboard meets %s, want %s", got, want)
	}
	made.Refuse("the disk is full: free some space")
	eval[any](t, tab, `void document.querySelector('#steering-0 [data-act="drain"]').focus()`)
	key(" ")
	says(t, tab, "#steering-0 [role=alert]", "Not accepted: the disk is full: free some space.")
	if act := eval[string](t, tab, `document.activeElement.dataset.act`); act != "drain" {
		t.Errorf("after a refusal the keyboard is at %q", act)
	}
}

func TestSteeringByTouch(t *testing.T) {
	_, tab := onPool(t)
	if err := chromedp.Do(tab.Context, chromedp.EmulateViewport(390, 844)); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(tab.Context, emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: true}); err != nil {
		t.Fatal(err)
	}
	unfold(t, tab, 4)
	click(t, tab, "#budget-now")
	small := eval[[]string](t, tab, `[...document.querySelectorAll("#steering-4 :is(button, input), .budget :is(summary, button, input)")].filter(e => {
		const r = e.getBoundingClientRect();
		return r.height < 44 || r.width < 44;
	}).map(e => e.innerText || e.id)`)
	if len(small) > 0 {
		t.Errorf("too small for a finger: %q", small)
	}
	if n := eval[int](t, tab, `document.querySelectorAll("#steering-4 :is(button, input)").length`); n < 11 {
		t.Errorf("%d controls, want all", n)
	}
	if wide := eval[int](t, tab, `document.documentElement.scrollWidth`); wide > 390 {
		t.Errorf("the page is %d px wide on a phone of 390", wide)
	}
}

func TestEveryImageSaysWhyAndWhen(t *testing.T) {
	_, tab := onPool(t)
	for job, want := range map[string]string{
		"01A0": "Device 0 step 21 of 30", "01B1": "waits for Device 1: sooner there than anywhere else", "01B5": "waits: 5 images are before it", "01C0": "Device 2 pinned queued",
	} {
		says(t, tab, `[data-job="`+job+`"]`, want)
	}
	until(t, tab, `/expected \d\d:\d\d \(in \d+ s, between \d+ s and \d+ (s|min)\)/.test(document.querySelector("#j01B1-when").innerText.replaceAll("\u00a0", " "))`)
	until(t, tab, `/^All expected /.test(document.querySelector("#s01A-when").innerText.replaceAll("\u00a0", " "))`)
	if text := eval[string](t, tab, `document.querySelector("#j01B5-when").innerText + document.querySelector("#s01B-when").innerText`); text != "" {
		t.Errorf("what is not predicted says %q", text)
	}
	says(t, tab, `[data-set="01A"]`, "1 each on devices 0, 1, 3")
}

// The same of a real agent: once each device has made an image, whatever waits says why and when.
func TestAFullQueueSaysWhyAndWhen(t *testing.T) {
	agent := start(t, "--simulate", "2x V620", "--interval", "200ms")
	tab := open(t, agent.Link)
	made(t, agent, submit(t, agent, job.Spec{Prompt: "a first fox", Count: 4, Width: 256, Height: 256}))
	set := submit(t, agent, job.Spec{Prompt: "a fox that waits", Count: 12, Width: 256, Height: 256, Steps: 60})
	rows := `[...document.querySelectorAll('[data-set="` + set[0].SetID + `"] [data-job]')]`
	until(t, tab, rows+`.length == 12 && `+rows+`.filter(r => ["queued", "running"].includes(r.dataset.state)).length > 6`)
	until(t, tab, `(open => open.length > 4 && open.every(r => r.querySelector(".reason").innerText != "" && r.querySelector(".when").innerText.startsWith("expected")))(`+rows+`.filter(r => ["queued", "running"].includes(r.dataset.state)))`)
	until(t, tab, `document.querySelector('[data-set="`+set[0].SetID+`"] .set-when')?.innerText.startsWith("All expected")`)
	for _, j := range set {
		if _, err := agent.Do(t.Context(), "DELETE", "/api/v1/jobs/"+j.ID, nil, nil); err != nil {
			t.Log(err) // it was ready
		}
	}
	finished(t, agent, 16)
}
