package server

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/models"
	"muster/shared/gpu"
	"muster/shared/model"
)

// tinyModel is the smallest whole file of its family; width is what its cross attention takes.
func tinyModel(width int) []byte {
	entry := func(shape []int, from, to int) map[string]any {
		return map[string]any{"dtype": "I8", "shape": shape, "data_offsets": []int{from, to}}
	}
	header, _ := json.Marshal(map[string]any{
		"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": entry([]int{1, width}, 0, width),
		"cond_stage_model.x":  entry([]int{1}, width, width+1),
		"first_stage_model.x": entry([]int{1}, width+1, width+2),
	})
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...), make([]byte, width+2)...)
}

// withLibrary gives an agent a library of these files, which nobody carries installations out in.
func withLibrary(t *testing.T, files map[string][]byte) (a *testAgent, library *models.Library, dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	library, err := models.Open(models.Config{
		Dir: dir, State: filepath.Join(t.TempDir(), "models.json"), Free: func(string) (uint64, uint64, error) { return 500e9, 1e12, nil },
		Loaded: func(name string) []gpu.Ref {
			if name == "sd15" {
				return []gpu.Ref{0}
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return newAgent(t, func(c *Config) { c.Library = library }), library, dir
}

// Who asks for a model that sd-server can't load is told what it lacks, unless another generator has it.
func TestWhatAModelLacksIsSaid(t *testing.T) {
	t.Parallel()
	file := func(tensors map[string][]int) []byte {
		header, at := map[string]any{}, 0
		for name, shape := range tensors {
			bytes := 1
			for _, side := range shape {
				bytes *= side
			}
			header[name] = map[string]any{"dtype": "F8_E4M3", "shape": shape, "data_offsets": []int{at, at + bytes}}
			at += bytes
		}
		raw, _ := json.Marshal(header)
		return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(raw))), raw...), make([]byte, at)...)
	}
	flux := map[string][]int{"double_blocks.0.img_attn.proj.weight": {4, 4}}
	scaled := map[string][]int{"double_blocks.0.img_attn.proj.weight": {4, 4}, "scaled_fp8": {2}}
	vae := map[string][]int{"decoder.conv_in.weight": {2, 16, 1, 1}, "encoder.down.0.block.0.conv1.weight": {4}}
	a, _, _ := withLibrary(t, map[string][]byte{"flux.safetensors": file(flux), "scaled.safetensors": file(scaled), "ae.safetensors": file(vae), "sketch.safetensors": file(flux)})
	for body, want := range map[string]string{
		`{"prompt":"x","model":"flux"}`:                   `flux\" lacks a T5-XXL text encoder (t5xxl_fp16.safetensors) and the CLIP-L text encoder (clip_l.safetensors) for sd-server: install`,
		`{"prompt":"x","model":"scaled"}`:                 `scaled\" has scaled 8-bit weights`,
		`{"prompt":"x","model":"ae"}`:                     `makes no images by itself: it is the FLUX VAE`,
		`{"prompt":"x","model":"sketch","device_id":"9"}`: `device`,
		`{"prompt":"x","model":"nothing"}`:                `is not here; allowed are`,
	} {
		r := a.ask("POST", "/api/v1/jobs", body)
		if r.status != 400 || !strings.Contains(string(r.body), want) || strings.Contains(want, "device") && strings.Contains(string(r.body), "lacks") {
			t.Errorf("%s: %d %s; want %q", body, r.status, r.body, want)
		}
	}
}

func TestListModelsGolden(t *testing.T) {
	t.Parallel()
	a, _, dir := withLibrary(t, map[string][]byte{"sd15.safetensors": tinyModel(768), "xl.safetensors": tinyModel(2048), "broken.gguf": []byte("no model")})
	if r := a.ask("POST", "/api/v1/models/xl/disable", ""); r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	want := `{"dir":"DIR","free_bytes":500000000000,"models":[` +
		`{"name":"broken","title":"broken","format":"gguf","bytes":8,"problem":"the file is no gguf file: it does not begin as one","generators":[],"loaded_on":[],"fits":[],"fit_words":"","in_library":true},` +
		`{"name":"sd15","title":"sd15","family":"sd1","format":"safetensors","bytes":SIZE,"vram_bytes":1610613506,"generators":["builtin"],"loaded_on":[0],"fits":[{"device_id":0,"fits":true,"words":"fits"},{"device_id":1,"fits":true,"words":"fits"}],"fit_words":"fits both GPUs","in_library":true},` +
		`{"name":"xl","title":"xl","family":"sdxl","format":"safetensors","bytes":SIZE,"vram_bytes":3221227522,"disabled":true,"generators":[],"loaded_on":[],"fits":[{"device_id":0,"fits":true,"words":"fits"},{"device_id":1,"fits":true,"words":"fits"}],"fit_words":"fits both GPUs","in_library":true},` +
		`{"name":"sketch","title":"built-in sketch renderer, no AI model","bytes":0,"generators":["builtin"],"loaded_on":[],"fits":[],"fit_words":"","in_library":false}]}` + "\n"
	r := a.ask("GET", "/api/v1/models", "")
	got := string(r.body)
	for _, size := range []int{len(tinyModel(768)), len(tinyModel(2048))} {
		got = strings.Replace(got, `"bytes":`+itoa(size), `"bytes":SIZE`, 1)
	}
	if diff := cmp.Diff(want, strings.Replace(got, dir, "DIR", 1)); diff != "" {
		t.Errorf("%d (-want +got)\n%s", r.status, diff)
	}
}

func itoa(n int) string { raw, _ := json.Marshal(n); return string(raw) }

func TestChangesOfModels(t *testing.T) {
	t.Parallel()
	a, library, dir := withLibrary(t, map[string][]byte{"sd15.safetensors": tinyModel(768), "x y.safetensors": tinyModel(768)})
	cookie := a.pair()
	for _, test := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "/api/v1/models/x%20y/disable", "", 200, `"disabled":true`},
		{"POST", "/api/v1/models/x%20y/enable", "{}", 200, `"name":"x y"`},
		{"POST", "/api/v1/models/x%20y/enable", `{"name":1}`, 400, "name"},
		{"POST", "/api/v1/models/nothing/enable", "", 404, "not in the models folder"},
		{"POST", "/api/v1/models/..%2fmodels/enable", "", 404, "not in the models folder"},
		{"POST", "/api/v1/models/x%20y/dance", "", 404, "not_found"},
		{"DELETE", "/api/v1/models/sd15", "", 409, "muster devices drain 0"},
		{"DELETE", "/api/v1/models/sd15?force=1", "", 400, "force"},
		{"DELETE", "/api/v1/models/nothing", "", 404, "not in the models folder"},
		{"DELETE", "/api/v1/models/x%20y", "", 200, `{"name":"x y","removed":true}`},
		{"DELETE", "/api/v1/models/installs/none", "", 404, "no installation"},
		{"POST", "/api/v1/models/installs/none/again", "", 404, "no installation"},
		{"POST", "/api/v1/models/sd15/none/again", "", 404, "not_found"},
		{"DELETE", "/api/v1/models/x/enable", "", 404, "not_found"},
		{"PUT", "/api/v1/models/x/enable", "", 405, "allowed are DELETE, POST"},
		{"POST", "/api/v1/models/install", `{"url":"https://files.test/a.safetensors","sha256":"` + strings.Repeat("AB", 32) + `","device_id":1}`, 202, `"name":"a","from":"files.test/a.safetensors","state":"waiting"`},
		{"POST", "/api/v1/models/install", `{"repo":"o/n","file":"sub/b.gguf","revision":"v1","name":"mine"}`, 202, `"from":"huggingface.co/o/n/sub/b.gguf at v1"`},
		{"POST", "/api/v1/models/install", `{"url":"https://files.test/other/a.gguf"}`, 409, "is being installed"},
		{"POST", "/api/v1/models/install", `{"url":"https://files.test/sd15.gguf"}`, 409, "is in the models folder"},
		{"POST", "/api/v1/models/install", `{"url":"http://files.test/c.gguf"}`, 400, `"field":"url"`},
		{"POST", "/api/v1/models/install", `{"url":"https://files.test/c.gguf","device_id":9}`, 400, `"field":"device_id"`},
		{"POST", "/api/v1/models/install", `{"url":"https://files.test/c.gguf","name":"../c.gguf"}`, 400, `"field":"name"`},
		{"POST", "/api/v1/models/install", `{"url":"https://files.test/c.gguf","name":"installs"}`, 400, `"field":"name"`},
		{"POST", "/api/v1/models/install", `{"repo":"../n","file":"b.gguf"}`, 400, `"field":"repo"`},
		{"POST", "/api/v1/models/install", `{}`, 400, `"field":"url"`},
		{"POST", "/api/v1/models/install", `{"uri":"x"}`, 400, "allowed are url, repo, file, revision, name, sha256, device_id"},
		{"POST", "/api/v1/models/sketch/load", `{"device_id":0}`, 503, "no generator of this agent can load"},
		{"POST", "/api/v1/models/sketch/load", `{"device_id":7}`, 400, "no device 7"},
		{"POST", "/api/v1/models/sd15/load", `{"device_id":1}`, 404, "Device 1 has no generator with a model sd15"},
		{"POST", "/api/v1/models/sketch/load", `{}`, 400, "device_id"},
	} {
		r := a.send(test.method, test.path, test.body, "Cookie", cookie, "Origin", "http://"+testAddr) // a session is the owner's
		if r.status != test.status || !strings.Contains(string(r.body), test.want) {
			t.Errorf("%s %s %s: %d %s; want %d and %q", test.method, test.path, test.body, r.status, r.body, test.status, test.want)
		}
	}
	var list model.Installs
	a.ask("GET", "/api/v1/models/installs", "").into(t, &list)
	if len(list.Installs) != 2 || list.Installs[0].Name != "mine" || *list.Installs[1].Device != 1 || list.Installs[1].SHA != strings.Repeat("ab", 32) {
		t.Errorf("%+v", list)
	}
	var stopped model.Install
	a.ask("DELETE", "/api/v1/models/installs/"+list.Installs[0].ID, "").into(t, &stopped)
	if stopped.State != model.Stopped {
		t.Errorf("%+v", stopped)
	}
	var again model.Install
	if r := a.ask("POST", "/api/v1/models/installs/"+stopped.ID+"/again", ""); r.status != 202 {
		t.Errorf("asked for again: %d %s", r.status, r.body)
	} else if r.into(t, &again); again.State != model.Waiting || again.From != stopped.From || again.Name != stopped.Name {
		t.Errorf("%+v", again)
	}
	if _, err := os.Stat(filepath.Join(dir, "x y.safetensors")); !errors.Is(err, os.ErrNotExist) || len(library.Library().Models) != 1 {
		t.Errorf("%v, %+v", err, library.Library().Models)
	}
}

func TestWithoutALibrary(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for path, method := range map[string]string{
		"/api/v1/models/installs": "GET", "/api/v1/models/x": "DELETE", "/api/v1/models/x/enable": "POST", "/api/v1/models/installs/x": "DELETE", "/api/v1/models/installs/x/again": "POST",
	} {
		if r := a.ask(method, path, ""); r.status != 503 || !strings.Contains(r.message(), "no models folder") {
			t.Errorf("%s %s: %d %s", method, path, r.status, r.body)
		}
	}
	var offers model.Offers
	a.ask("GET", "/api/v1/models", "").into(t, &offers)
	if len(offers.Models) != 2 || offers.Models[1].Name != "sd15" || offers.Models[1].LoadedOn[0] != 0 {
		t.Errorf("those of the generators: %+v", offers)
	}
}

// Loading answers when it is done, after a while that it goes on, and when it came to nothing why.
func TestLoadModel(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		load   func(context.Context) error
		status int
		want   string
	}{
		"done":    {func(context.Context) error { return nil }, 200, `"loaded":true`},
		"long":    {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, 202, `"loaded":false`},
		"no room": {func(context.Context) error { return errors.New("no room on the device") }, 409, "sketch was not loaded on Device 1: no room on the device"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAgent(t, func(c *Config) {
					c.LoadModel = func(ctx context.Context, name string, device gpu.Ref) error {
						if name != "sketch" || device != 1 {
							t.Errorf("%s on %s", name, device)
						}
						return test.load(ctx)
					}
				})
				began := time.Now()
				r := a.ask("POST", "/api/v1/models/sketch/load", `{"device_id":1}`)
				if r.status != test.status || !strings.Contains(string(r.body), test.want) || time.Since(began) > loadPatience+time.Second {
					t.Errorf("%d %s after %s", r.status, r.body, time.Since(began))
				}
				a.server.stop() // ends what still loads
			})
		})
	}
}

func TestSetupRecommendations(t *testing.T) {
	t.Parallel()
	a, _, _ := withLibrary(t, map[string][]byte{"sd_xl_base_1.0.safetensors": tinyModel(2048)})
	var got struct {
		Success bool
		Info    map[string]any              `json:"system_info"`
		To      map[string][]map[string]any `json:"recommendations"`
	}
	r := a.ask("GET", "/api/v1/setup/ai-models/recommendations", "")
	r.into(t, &got)
	info, _ := json.Marshal(got.Info)
	if want := `{"cpu_count":0,"disk_space_gb":465.66,"gpu_count":2,"gpu_memory_gb":16,"gpu_type":"rocm","platform":"linux","ram_gb":0,"recommended_engines":{"image":"z-image-turbo"}}`; string(info) != want || !got.Success {
		t.Errorf("got  %s\nwant %s", info, want)
	}
	if len(got.To["installable"]) == 0 || len(got.To["requires_upgrade"]) == 0 || got.To["api_only"] == nil || len(got.To["api_only"]) != 0 {
		t.Fatalf("%s", r.body)
	}
	for _, m := range got.To["installable"] {
		if m["category"] != "image" || m["size_gb"].(float64) < 1 || m["min_ram_gb"].(float64) < 4 || m["min_gpu_memory_gb"].(float64) > 16 || m["description"] == "" {
			t.Errorf("%v", m)
		}
		if m["name"] == "sdxl-1.0" != m["installed"].(bool) {
			t.Errorf("installed: %v", m)
		}
	}
	for _, m := range got.To["requires_upgrade"] {
		checks := m["requirements_check"].([]any)
		if m["name"] == "flux1-schnell" && (len(checks) != 1 || checks[0] != "Need 16.1GB GPU memory (have 16.0GB)") {
			t.Errorf("%v", m)
		}
	}
}

// What a machine lacks, in the earlier system's words.
func TestRequirements(t *testing.T) {
	t.Parallel()
	known := model.Recommendation{Bytes: 17_246_524_772, NeedBytes: 20 * gpu.GiB}
	small := gpu.Inventory{Host: gpu.Host{MemoryBytes: 8 * gpu.GiB}, Devices: []gpu.Device{{MemoryBytes: p(uint64(8 * gpu.GiB))}}}
	got := lacking(known, small, model.Library{FreeBytes: p(uint64(5 * gpu.GiB))})
	want := []string{"Need 20.0GB GPU memory (have 8.0GB)", "Need 13GB RAM (have 8.0GB)", "Need 16.1GB disk space (have 5.0GB)"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	known.Usable, known.Installed = true, true
	if got := lacking(known, gpu.Inventory{Host: gpu.Host{MemoryBytes: 12 * gpu.GiB}}, model.Library{}); len(got) != 0 {
		t.Errorf("nothing is lacking: %v", got)
	}
}

func TestSetupChanges(t *testing.T) {
	t.Parallel()
	a, library, _ := withLibrary(t, map[string][]byte{"sd_xl_base_1.0.safetensors": tinyModel(2048), "own.safetensors": tinyModel(768)})
	const at = "/api/v1/setup/ai-models/"
	for _, test := range []struct {
		route, body string
		status      int
		want        string
	}{
		{"enable", `{"model_name":"sdxl-1.0","enabled":false}`, 200, `{"success":true,"message":"sdxl-1.0 is disabled","model_name":"sdxl-1.0","enabled":false}`},
		{"enable", `{"model_name":"own","enabled":true}`, 200, `{"success":true,"message":"own is enabled","model_name":"own","enabled":true}`},
		{"enable", `{"model_name":"nothing","enabled":true}`, 404, `{"detail":"no such model: \"nothing\" is not in the models folder"}`},
		{"enable", `{"enabled":true}`, 400, `{"detail":"model_name: is missing"}`},
		{"install", `{"model_names":["sdxl-1.0","dreamshaper-8"],"model_type":"image"}`, 200, `{"success":true,"message":"1 started, 1 installed already","models":["sdxl-1.0","dreamshaper-8"],"installs":[{`},
		{"install", `{"model_names":["voodoo"],"model_type":"image"}`, 404, `{"detail":"there is no model`},
		{"install", `{"model_names":["sd-1.5"],"model_type":"text"}`, 400, `{"detail":"model_type: is \"text\"; muster has image models alone"}`},
		{"install", `{"model_names":[],"model_type":"image"}`, 400, `{"detail":"model_names: is empty`},
		{"install", `{"model_names":["sd-1.5"],"url":"https://files.test/x.gguf"}`, 400, `{"detail":"model_names: and another source`},
		{"install", `{"url":"https://files.test/x.gguf","device_id":0}`, 200, `"from":"files.test/x.gguf"`},
		{"install", `{"url":"https://files.test/x.gguf","device_id":5}`, 400, `{"detail":"device_id: there is no device 5`},
		{"install", `{"url":"ftp://files.test/y.gguf"}`, 400, `{"detail":"url: `},
		{"uninstall", `{"model_name":"own"}`, 200, `{"success":true,"message":"own is removed","model_name":"own","enabled":false}`},
		{"uninstall", `{"model_name":"../own"}`, 404, `{"detail":"`},
		{"uninstall", `{}`, 400, `{"detail":"model_name: is missing"}`},
		{"uninstall", `half`, 400, `{"detail":"not JSON`},
	} {
		r := a.ask("POST", at+test.route, test.body)
		if r.status != test.status || !strings.HasPrefix(string(r.body), test.want) && !strings.Contains(string(r.body), test.want) {
			t.Errorf("%s %s: %d %s; want %d and %s", test.route, test.body, r.status, r.body, test.status, test.want)
		}
	}
	if got := library.Library(); len(got.Models) != 1 || !got.Models[0].Disabled || len(got.Installs) != 2 {
		t.Errorf("%+v", got)
	}
}

func TestStatusShowsTheLibrary(t *testing.T) {
	t.Parallel()
	a, _, dir := withLibrary(t, map[string][]byte{"sd15.safetensors": tinyModel(768), "own.safetensors": tinyModel(2048)})
	a.ask("POST", "/api/v1/models/own/disable", "")
	var got struct {
		Dir       string `json:"models_directory"`
		Installed []struct {
			Name, Title, Family string
			SizeGB              *float64 `json:"size_gb"`
			Enabled             *bool
		} `json:"installed_models"`
		Total     int                     `json:"total_models_count"`
		Available []struct{ Name string } `json:"available_models"`
	}
	r := a.ask("GET", "/api/v1/setup/ai-models/status", "")
	r.into(t, &got)
	if got.Dir != dir || len(got.Installed) != 2 || got.Installed[0].Name != "own" || *got.Installed[0].Enabled || got.Installed[0].Family != "sdxl" || !*got.Installed[1].Enabled || got.Installed[1].SizeGB == nil || got.Total != 3 || len(got.Available) != 2 {
		t.Errorf("%+v", got)
	}
	if strings.Count(string(r.body), dir) != 1 {
		t.Errorf("a path is shown: %s", r.body)
	}
}

// Who may change the machine's models is said in the table: today whoever has a session or the token, and nobody else.
func TestModelsAreTheAdministrators(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	admin := map[string]bool{}
	for _, rt := range a.server.routes() {
		if rt.access == needsAdmin {
			admin[rt.method+" "+rt.path] = true
		} else if rt.method != http.MethodGet && (strings.Contains(rt.path, "/models") || strings.Contains(rt.path, "/ai-models")) {
			t.Errorf("%s %s is open to more than the administrator", rt.method, rt.path)
		}
	}
	if len(admin) != 10 { // eight of models, two of workflows
		t.Errorf("%v", admin)
	}
	if r := a.send("POST", "/api/v1/models/install", `{"url":"https://files.test/x.gguf"}`); r.status != 401 {
		t.Errorf("without credentials: %d", r.status)
	}
}
