package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"muster/agent/backend/backendtest"
	"muster/agent/fixture"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/wire"
)

// What a person decides about a model from the page holds: in the agent, on another start of the page, and in what can be chosen.
func TestAModelIsDisabledEnabledAndRemovedFromThePage(t *testing.T) {
	program := backendtest.BuildFakeSDServer(t, backendtest.MI25x8())
	models := t.TempDir()
	for _, name := range []string{"dreams", "nightmares"} {
		backendtest.WriteModel(t, models, name, backendtest.Scenario{StepMilliseconds: 10})
	}
	agent := start(t, "--sysroot", fixture.Root(t, "amd-mi25x8"), "--sd-server", program, "--models", models, "--interval", "200ms")
	disabled := func(name string) bool {
		t.Helper()
		var offers model.Offers
		get(t, agent, "/api/v1/models", &offers)
		for _, m := range offers.Models {
			if m.Name == name {
				return m.Disabled
			}
		}
		t.Fatalf("%s is not there: %+v", name, offers)
		return false
	}
	tab := open(t, agent.Link)
	const row = `[data-model="nightmares"].entry`
	says(t, tab, row, "Fits every device")
	click(t, tab, row+` [data-act="disable"]`)
	says(t, tab, row, "disabled")
	if !disabled("nightmares") || disabled("dreams") {
		t.Error("the page shows what the agent does not hold")
	}
	until(t, tab, `document.querySelector("#model option[value=nightmares]").disabled || document.querySelector("#model option[value=nightmares]").closest("optgroup").disabled`)
	if err := tab.Navigate(agent.URL); err != nil {
		t.Fatal(err)
	}
	says(t, tab, row, "disabled")
	click(t, tab, row+` [data-act="enable"]`)
	until(t, tab, `document.querySelector('`+row+` [data-act="disable"]') != null && document.querySelector("#model option[value=nightmares]").closest("optgroup") == null`)
	if disabled("nightmares") {
		t.Error("enabled on the page alone")
	}

	until(t, tab, `document.querySelector('`+row+` [data-act="load"]') != null`)
	eval[any](t, tab, `void (s => { s.value = "2"; s.dispatchEvent(new Event("input", {bubbles: true})) })(document.querySelector('`+row+` select'))`)
	click(t, tab, row+` [data-act="load"]`)
	says(t, tab, row, "loaded on Device 2")
	until(t, tab, `document.querySelector('`+row+`').dataset.pending == null`)
	if loaded := generatorsOf(t, agent)["sdserver 2"].Loaded; loaded != "nightmares" {
		t.Errorf("Device 2 holds %q", loaded)
	}

	click(t, tab, `[data-model="dreams"].entry [data-act="remove"]`)
	says(t, tab, `[data-model="dreams"] .confirm`, "Remove dreams?")
	if _, err := os.Stat(filepath.Join(models, "dreams.safetensors")); err != nil {
		t.Fatalf("gone before the question was answered: %v", err)
	}
	click(t, tab, `[data-model="dreams"] .confirm [data-act="remove"]`)
	until(t, tab, `document.querySelector('[data-model="dreams"].entry') == null`)
	if _, err := os.Stat(filepath.Join(models, "dreams.safetensors")); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
}

// An installation that the agent refuses says so at its field; one that fails is told of with the reason, and asked for again.
func TestAnInstallationThatFailsIsShown(t *testing.T) {
	agent := start(t, "--simulate", "1x MI25", "--interval", "200ms")
	tab := open(t, agent.Link, "400")
	until(t, tab, `document.querySelector("#connection")?.dataset.state == "connected"`)
	click(t, tab, "#adding-summary")
	until(t, tab, `document.querySelectorAll("[data-offer].entry").length > 3`)
	install := func(source string) {
		t.Helper()
		enter(t, tab, "#install-source", source)
		eval[any](t, tab, `void document.querySelector("#install").requestSubmit()`)
	}
	install("http://models.example.org/x.safetensors")
	says(t, tab, "#install-source-wrong", "https")
	install("https://127.0.0.1:1/x.safetensors")
	says(t, tab, "#installs [data-state=failed] .entry-problem", "it leads to this machine")
	click(t, tab, `#installs [data-act="again"]`)
	eventually(t, "it is taken once more", func() bool { return strings.Count(agent.Stderr(), "a model was not installed") == 2 })
	// As long as that is on its way to the page, the button does nothing.
	until(t, tab, `document.querySelector("#installs [data-install]") == null || (document.querySelector('#installs [data-act="stop"]')?.click(), false)`)
}

// The pictures that ComfyUI sends of an unfinished image stand in its row, until the image itself does.
func TestPicturesOfComfyUIAreShown(t *testing.T) {
	python, folder := backendtest.BuildFakeComfyUI(t, backendtest.ComfySettings{Settings: backendtest.MI25x8()})
	backendtest.WriteModel(t, filepath.Join(folder, "models", "checkpoints"), "dreams", backendtest.Scenario{StepMilliseconds: 100})
	comfy := backendtest.RunComfyUI(t, python, folder, "--cuda-device", "0")
	agent := start(t, "--sysroot", fixture.Root(t, "amd-mi25x8"), "--comfyui", comfy.Base()+"#0", "--interval", "200ms")
	eventually(t, "ComfyUI is ready", func() bool { return generatorsOf(t, agent)["comfyui "+comfy.Address()].State == wire.GeneratorReady })
	tab := open(t, agent.Link, "preview") // one that is asked for as the image is finished is gone
	until(t, tab, `document.querySelector("#connection")?.dataset.state == "connected"`)
	if err := chromedp.Do(tab.Context, chromedp.EmulateViewport(390, 844)); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	made := ordered(t, agent, job.Spec{Prompt: "a lighthouse", Model: "dreams", Steps: 100})
	id := made[0].ID
	image := `document.querySelector("#j` + id + `-preview")`
	until(t, tab, image+`?.complete && `+image+`.naturalWidth > 0`)
	first := eval[string](t, tab, image+`.src`)
	until(t, tab, image+` != null && `+image+`.src != `+quote(first)+` && `+image+`.complete && `+image+`.naturalWidth > 0`)
	says(t, tab, `[data-generator="comfyui `+comfy.Address()+`"]`, "attached")
	until(t, tab, image+` == null && document.querySelector('[data-job="`+id+`"] .job-thumb img')?.src.includes("/api/v1/images/")`)
	t.Logf("finished after %s", time.Since(started))
}
