package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"muster/agent/fixture"
)

func TestEightCapturedCardsAreLive(t *testing.T) {
	root := fixture.Root(t, "amd-mi25x8")
	agent := start(t, "--sysroot", root, "--interval", "200ms")
	tab := open(t, agent.Link)
	until(t, tab, `document.querySelectorAll("[data-device]").length == 8`)
	until(t, tab, `document.querySelector("#connection").dataset.state == "connected"`)
	text, err := tab.Text()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"8 device(s) detected", "Device 0", "Device 7", "ROCm Build", "5.7.31921-d1770ee1b", "2.3.1+rocm5.7", "MI25", "9.0", "64"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(text, "imulated") {
		t.Error("the page calls captured devices simulated")
	}

	card := filepath.Join(root, "sys/class/drm/card5/device") // 0000:43:00.0, the fifth by PCI address
	write(t, filepath.Join(card, "gpu_busy_percent"), "87\n")
	write(t, filepath.Join(card, "mem_info_vram_used"), fmt.Sprintln(8<<30))
	until(t, tab, `/87\s*%/.test(document.querySelector('[data-device="4"]').innerText)`)
	until(t, tab, `/8\.00/.test(document.querySelector('[data-device="4"]').innerText)`)
	write(t, filepath.Join(card, "gpu_busy_percent"), "12\n")
	until(t, tab, `/12\s*%/.test(document.querySelector('[data-device="4"]').innerText)`)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestStatusOfCapturedMachine(t *testing.T) {
	agent := start(t, "--sysroot", fixture.Root(t, "amd-mi25x8"))
	type device struct {
		DeviceID          int     `json:"device_id"`
		Name              string  `json:"name"`
		TotalMemoryGB     float64 `json:"total_memory_gb"`
		ComputeCapability string  `json:"compute_capability"`
		Multiprocessors   int     `json:"multi_processor_count"`
	}
	var status struct {
		System struct {
			GPUAvailable bool     `json:"gpu_available"`
			GPUType      string   `json:"gpu_type"`
			GPUCount     int      `json:"gpu_count"`
			GPUName      string   `json:"gpu_name"`
			GPUDevices   []device `json:"gpu_devices"`
			TotalGB      float64  `json:"total_gpu_memory_gb"`
			MultiGPU     bool     `json:"multi_gpu"`
			ROCmVersion  string   `json:"rocm_version"`
			IsROCmBuild  bool     `json:"is_rocm_build"`
			TorchVersion string   `json:"torch_version"`
		} `json:"system"`
	}
	for _, path := range []string{"/api/v1/setup/ai-models/status", "/api/v1/setup/models/status"} {
		eventually(t, "8 devices in "+path, func() bool {
			get(t, agent, path, &status)
			return status.System.GPUCount == 8
		})
		s := status.System
		if !s.GPUAvailable || s.GPUType != "rocm" || !s.MultiGPU || !s.IsROCmBuild || s.ROCmVersion != "5.7.31921-d1770ee1b" || s.TorchVersion != "2.3.1+rocm5.7" || s.TotalGB != 127.88 {
			t.Errorf("%s: %+v", path, s)
		}
		for i, d := range s.GPUDevices {
			if d.DeviceID != i || !strings.Contains(d.Name, "MI25") || d.TotalMemoryGB != 15.98 || d.ComputeCapability != "9.0" || d.Multiprocessors != 64 {
				t.Errorf("device %d: %+v", i, d)
			}
		}
	}
}

func TestMachineWithoutGPU(t *testing.T) {
	agent := start(t, "--sysroot", t.TempDir())
	var status struct {
		System struct {
			GPUAvailable bool   `json:"gpu_available"`
			GPUType      string `json:"gpu_type"`
			GPUCount     int    `json:"gpu_count"`
			GPUDevices   []any  `json:"gpu_devices"`
		} `json:"system"`
	}
	get(t, agent, "/api/v1/setup/ai-models/status", &status)
	if s := status.System; s.GPUAvailable || s.GPUType != "cpu" || s.GPUCount != 0 || s.GPUDevices == nil || len(s.GPUDevices) != 0 {
		t.Errorf("status: %+v", s)
	}
	tab := open(t, agent.Link)
	until(t, tab, `document.body.innerText.includes("0 device(s) detected")`)

	var answer struct {
		Images []struct {
			GPUID   any    `json:"gpu_id"`
			DataURL string `json:"data_url"`
		} `json:"images"`
	}
	request := map[string]any{"appearance": "a woman with red hair and a green coat", "count": 1, "resolution": "256x256", "quality": "draft"}
	if _, err := agent.Do(t.Context(), "POST", "/api/v1/personas/generate-sample-images", request, &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Images) != 1 || answer.Images[0].GPUID != "cpu" || !strings.HasPrefix(answer.Images[0].DataURL, "data:image/png;base64,iVBOR") {
		t.Errorf("sample images: %.300v", answer)
	}
}

func TestAppIsInstallable(t *testing.T) {
	agent := start(t, "--simulate", "2x MI25, 1x RTX 4090")
	tab := open(t, agent.Link)
	until(t, tab, `document.querySelectorAll("[data-device]").length == 3`)
	until(t, tab, `navigator.serviceWorker.controller != null || navigator.serviceWorker.ready.then(() => true)`)
	result, err := chromedp.Call(tab.Context, page.GetInstallabilityErrors, cdp.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range result.InstallabilityErrors {
		t.Errorf("not installable: %+v", problem)
	}
	if !eval[bool](t, tab, `document.body.innerText.toLowerCase().includes("simulated")`) {
		t.Error("the page does not say that its devices are simulated")
	}
}

func TestStartsOfflineOnEveryRoute(t *testing.T) {
	agent := start(t, "--simulate", "2x MI25, 1x RTX 4090")
	tab := open(t, agent.Link, "net::ERR_CONNECTION_REFUSED", "WebSocket", "Failed to load resource", "Failed to fetch")
	until(t, tab, `document.querySelectorAll("[data-device]").length == 3`)
	until(t, tab, `document.querySelector("#connection").dataset.state == "connected"`)
	until(t, tab, `navigator.serviceWorker.ready.then(r => r.active != null && r.active.state == "activated")`)
	if err := agent.Stop(); err != nil {
		t.Fatal(err)
	}
	until(t, tab, `document.querySelector("#connection").dataset.state != "connected"`)
	for _, route := range []string{"/", "/ai-models-setup"} {
		if err := tab.Navigate(agent.URL + route); err != nil {
			t.Fatalf("%s does not start offline: %v", route, err)
		}
		until(t, tab, `document.querySelectorAll("[data-device]").length == 3`)
		until(t, tab, `document.querySelector("#connection").dataset.state == "offline"`)
	}
}

func TestPageWithoutSessionSaysWhatToDo(t *testing.T) {
	agent := start(t, "--simulate", "1x MI25")
	tab := open(t, agent.URL, "401", "HTTP Authentication failed") // what Chromium says by itself of a refusal
	until(t, tab, `document.body.innerText.includes("muster link")`)
	out, err := agent.Command(t.Context(), "link")
	if err != nil {
		t.Fatal(err)
	}
	// The link is opened in this very tab, where only the fragment differs.
	eval[any](t, tab, fmt.Sprintf("void (location.href = %q)", strings.TrimSpace(out)))
	until(t, tab, `document.querySelector("#connection")?.dataset.state == "connected" && location.hash == ""`)
}

// What the other tests lean on: a refusal by the content security policy and an error in the console are seen.
func TestProblemsOfAPageAreSeen(t *testing.T) {
	agent := start(t, "--simulate", "1x MI25")
	tab := open(t, agent.Link, "Content Security Policy", "seen by the test")
	until(t, tab, `document.querySelector("[data-device]") != null`)
	if problems := tab.Problems(); len(problems) > 0 {
		t.Fatalf("a plain page has problems: %q", problems)
	}
	eval[any](t, tab, `(() => {
		const style = document.createElement("style");
		style.textContent = "body { color: red }";
		document.head.append(style);
		console.error("seen by the test");
	})()`)
	eventually(t, "two problems are recorded", func() bool { return len(tab.Problems()) >= 2 })
}
