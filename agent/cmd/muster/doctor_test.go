package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"muster/agent"
	"muster/shared/gpu"
	"muster/shared/wire"
)

func eightDevices() (devices []gpu.Device) {
	for i := range 8 {
		devices = append(devices, gpu.Device{ID: "GPU-" + gpu.Ref(i).String(), Index: gpu.Ref(i), Name: "MI25"})
	}
	return devices
}

func TestGeneratorsAreToldTogether(t *testing.T) {
	t.Parallel()
	fleet := func(kind, title, problem string, devices ...gpu.Ref) (list []wire.Generator) {
		for _, d := range devices {
			list = append(list, wire.Generator{ID: kind + " " + d.String(), Kind: kind, Title: title, Device: new(d), Models: 3, Problem: problem})
		}
		return list
	}
	sketch := wire.Generator{ID: "builtin", Kind: "builtin", Title: "built-in sketch renderer, no AI model", Device: new(gpu.CPU), Models: 1}
	away := wire.Generator{ID: "comfyui 127.0.0.1:8188", Kind: "comfyui", Title: "comfyui", Address: "127.0.0.1:8188", Attached: true, Problem: "it is not there"}
	for name, test := range map[string]struct {
		list []wire.Generator
		want string
		bad  int
	}{
		"eight of one fault": {append(fleet("comfyui", "ComfyUI 0.3", "no Python", 0, 1, 2, 3, 4, 5, 6, 7), sketch), "FAULT ComfyUI 0.3 on devices 0–7: no Python\nnote  built-in sketch renderer, no AI model draws on CPU\n", 1},
		"two faults": {append(fleet("sdserver", "sd-server", "no model yet", 0, 1, 2), fleet("sdserver", "sd-server", "it died", 3, 4, 5, 6, 7)...),
			"FAULT sd-server on devices 0–2: no model yet\nFAULT sd-server on devices 3–7: it died\n", 2},
		"all well":          {fleet("sdserver", "sd-server", "", 0, 1, 2, 3, 4, 5, 6, 7), "ok    sd-server generates on devices 0–7, 3 model(s)\n", 0},
		"some have none":    {fleet("sdserver", "sd-server", "", 0, 1, 2, 3, 4, 5), "ok    sd-server generates on devices 0–5, 3 model(s)\nnote  devices 6 and 7 have no generator: they stay idle\n", 0},
		"one has none":      {fleet("sdserver", "sd-server", "", 0, 1, 2, 3, 4, 5, 7), "ok    sd-server generates on devices 0–5 and 7, 3 model(s)\nnote  Device 6 has no generator: it stays idle\n", 0},
		"placed nowhere":    {append([]wire.Generator{away}, fleet("sdserver", "sd-server", "", 0, 1, 2, 3, 4, 5, 6, 7)...), "FAULT ComfyUI at 127.0.0.1:8188: it is not there\nok    sd-server generates on devices 0–7, 3 model(s)\n", 1},
		"only the sketch":   {[]wire.Generator{sketch}, "note  built-in sketch renderer, no AI model draws on CPU\nnote  no generator is set up: give muster serve --sd-server, --comfyui-dir or the address of a running one (--comfyui, --sdapi, --openai); see the README\n", 0},
		"simulated devices": {[]wire.Generator{{Kind: "builtin", Title: "sketches"}}, "note  sketches draws on every device\nnote  no generator is set up: give muster serve --sd-server, --comfyui-dir or the address of a running one (--comfyui, --sdapi, --openai); see the README\n", 0},
	} {
		var out strings.Builder
		report := &report{out: &out}
		examineGenerators(test.list, eightDevices(), report)
		if out.String() != test.want || report.bad != test.bad {
			t.Errorf("%s: %d faults\n%swant\n%s", name, report.bad, out.String(), test.want)
		}
	}
}

// What is given and comes to nothing is a fault, with the reason.
func TestSettingsThatComeToNothing(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		c       agent.Config
		devices int
		want    string
	}{
		"nothing":           {agent.Config{}, 0, ""},
		"all is well":       {agent.Config{SDServer: "x", Models: t.TempDir()}, 2, ""},
		"no folder":         {agent.Config{Models: filepath.Join(t.TempDir(), "none")}, 2, "FAULT --models: models folder"},
		"simulated":         {agent.Config{Simulate: "2x MI25", ComfyUI: []string{"http://127.0.0.1:8188"}}, 2, "FAULT --simulate: the generators that were given are not used"},
		"no GPU":            {agent.Config{SDServer: "x"}, 0, "FAULT no GPU is detected"},
		"attached, no GPU":  {agent.Config{OpenAI: []string{"http://127.0.0.1:8080"}}, 0, ""},
		"simulated without": {agent.Config{Simulate: "2x MI25"}, 2, ""},
	} {
		var out strings.Builder
		report := &report{out: &out}
		examineSettings(&tt.c, tt.devices, report)
		if got := out.String(); !strings.HasPrefix(got, tt.want) || (tt.want == "") != (got == "") || (report.bad > 0) != (got != "") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestUnknownDeviceBehindAnAddress(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	config := agent.Default()
	config.ComfyUI = []string{"http://127.0.0.1:8188#x", "127.0.0.1:8189#3", "127.0.0.1:8190#cpu", "127.0.0.1:8191", "127.0.0.1:8192#GPU-1"}
	config.SDAPI = []string{"http://me:secret@127.0.0.1:7860#9", "127.0.0.1:7861#y"}
	told := []wire.Generator{{ID: "sdapi 127.0.0.1:7861", State: wire.GeneratorUnplaced, Problem: "it was said to work on y"}}
	examineWishes(&config, told, eightDevices(), &report{out: &out})
	want := "FAULT --comfyui http://127.0.0.1:8188#x: there is no such device; there are 0–7 (MI25), cpu\nFAULT --sdapi http://127.0.0.1:7860#9: there is no such device; there are 0–7 (MI25), cpu\n"
	if out.String() != want {
		t.Errorf("%swant\n%s", out.String(), want)
	}
}

// doctor without the flags of a generator tells of those of the agent that runs.
func TestDoctorAsksTheRunningAgent(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		flags      []string
		agent      bool
		want, none string
	}{
		"the agent's":      {nil, true, "ok    sd-server generates on Device 0, 2 model(s)", "no generator is set up"},
		"no agent":         {nil, false, "no generator is set up", "sd-server generates"},
		"flags of its own": {[]string{"--comfyui", "127.0.0.1:1#cpu"}, true, "FAULT ComfyUI at 127.0.0.1:1 on CPU is not there: ComfyUI can't be reached", "sd-server generates"},
		"a wrong flag":     {[]string{"--sd-server", "/nowhere/sd-server"}, true, "FAULT sd-server /nowhere/sd-server can't be run: no such file or directory: give the path", "no generator is set up"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := t.TempDir()
			if test.agent {
				fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = w.Write([]byte(map[string]string{
						"/api/v1/generators": `{"generators":[{"id":"sdserver 0","kind":"sdserver","title":"sd-server","device_id":0,"state":"ready","models":2},{"id":"builtin","kind":"builtin","title":"sketches","device_id":"cpu","state":"ready","models":1}]}`,
						"/api/v1/inventory":  `{"devices":[]}`,
					}[r.URL.Path]))
				}))
				defer fake.Close()
				for file, content := range map[string]string{"address": strings.TrimPrefix(fake.URL, "http://"), "token": rigToken} {
					if err := os.WriteFile(filepath.Join(data, file), []byte(content+"\n"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			out := doctored(t, append(test.flags, "--data", data, "--sysroot", t.TempDir(), "--interval", "100ms")...)
			if !strings.Contains(out, test.want) || strings.Contains(out, test.none) {
				t.Errorf("want %q and not %q:\n%s", test.want, test.none, out)
			}
		})
	}
}

// doctored gives what doctor prints; whether it finds fault is not asked.
func doctored(t *testing.T, flags ...string) string {
	t.Helper()
	var out strings.Builder
	cmd := command()
	cmd.SetArgs(append([]string{"doctor"}, flags...))
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	_ = cmd.ExecuteContext(t.Context())
	return out.String()
}

func TestNoAgentIsNoFault(t *testing.T) {
	t.Parallel()
	config := agent.Default()
	config.Data = t.TempDir()
	found := findRunning(&cobra.Command{}, &config)
	var out strings.Builder
	report := &report{out: &out}
	examineAgent(context.Background(), found, nil, report)
	if report.bad != 0 || !strings.Contains(out.String(), "no agent runs with this data folder") {
		t.Errorf("%d faults: %s", report.bad, out.String())
	}
}
