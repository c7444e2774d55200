package backendtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// comfyGraph is a graph of one checkpoint, in API format.
func comfyGraph(model string, steps int) string {
	return fmt.Sprintf(`{"3":{"class_type":"KSampler","inputs":{"seed":1,"steps":%d,"cfg":7,"sampler_name":"euler","scheduler":"normal","denoise":1,
		"model":["4",0],"positive":["6",0],"negative":["6",0],"latent_image":["5",0]}},"4":{"class_type":"CheckpointLoaderSimple","inputs":{"ckpt_name":%q}},
		"5":{"class_type":"EmptyLatentImage","inputs":{"width":64,"height":64,"batch_size":1}},"6":{"class_type":"CLIPTextEncode","inputs":{"text":"x","clip":["4",1]}},
		"8":{"class_type":"VAEDecode","inputs":{"samples":["3",0],"vae":["4",2]}},"9":{"class_type":"SaveImage","inputs":{"filename_prefix":"a/b","images":["8",0]}}}`, steps, model)
}

// askHTTP makes one request of a fake and gives status and body.
func askHTTP(t *testing.T, method, url, body string, headers ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func runFake(t *testing.T, settings ComfySettings, args ...string) *Running {
	t.Helper()
	python, dir := BuildFakeComfyUI(t, settings)
	WriteModel(t, filepath.Join(dir, "models", "checkpoints"), "model", Scenario{StepMilliseconds: 20})
	return RunComfyUI(t, python, dir, args...)
}

// What the fake answers is what server.py and execution.py answer.
func TestComfyUIAnswers(t *testing.T) {
	t.Parallel()
	newer, older := runFake(t, ComfySettings{}), runFake(t, ComfySettings{Older: true})
	const id = "11111111-2222-3333-4444-555555555555"
	prompt := func(graph, id string) string { return `{"prompt":` + graph + `,"prompt_id":"` + id + `"}` }
	for name, tt := range map[string]struct {
		fake    *Running
		method  string
		path    string
		body    string
		headers []string
		status  int
		words   []string
	}{
		"a foreign page":           {newer, "GET", "/system_stats", "", []string{"Origin", "http://evil.example"}, 403, nil},
		"its own page":             {newer, "GET", "/system_stats", "", []string{"Origin", newer.Base()}, 200, []string{`"comfyui_version":"0.3.64"`, `"index":0`, `"vram_total":25769803776`}},
		"below /api too":           {newer, "GET", "/api/system_stats", "", nil, 200, []string{`"type":"cuda"`}},
		"no such route":            {newer, "GET", "/nothing", "", nil, 404, []string{"404: Not Found"}},
		"load":                     {newer, "GET", "/prompt", "", nil, 200, []string{`{"exec_info":{"queue_remaining":`}},
		"models":                   {newer, "GET", "/models/checkpoints", "", nil, 200, []string{`["model.safetensors"]`}},
		"no such folder":           {newer, "GET", "/models/nothing", "", nil, 404, nil},
		"samplers":                 {newer, "GET", "/object_info/KSampler", "", nil, 200, []string{`"sampler_name":["COMBO",{"options":["euler",`}},
		"samplers of 2025":         {older, "GET", "/object_info/KSampler", "", nil, 200, []string{`"sampler_name":[["euler",`}},
		"no such class":            {newer, "GET", "/object_info/Nothing", "", nil, 200, []string{"{}"}},
		"no JSON":                  {newer, "POST", "/prompt", "{", nil, 500, []string{"Server got itself in trouble"}},
		"no prompt":                {newer, "POST", "/prompt", "{}", nil, 400, []string{`"type":"no_prompt"`, `"node_errors":{}`}},
		"an id in capitals":        {newer, "POST", "/prompt", prompt(comfyGraph("model.safetensors", 1), strings.ToUpper("aaaaaaaa-2222-3333-4444-555555555555")), nil, 400, []string{`"type":"invalid_prompt_id"`}},
		"any id in 2025":           {older, "POST", "/prompt", prompt(comfyGraph("model.safetensors", 1), "mine"), nil, 200, []string{`"prompt_id":"mine"`}},
		"a model that is not here": {newer, "POST", "/prompt", prompt(comfyGraph("other.safetensors", 1), id), nil, 400, []string{`"type":"prompt_outputs_failed_validation"`, `"type":"value_not_in_list"`, `"input_name":"ckpt_name"`, `"class_type":"CheckpointLoaderSimple"`, `['model.safetensors']`}},
		"no output":                {newer, "POST", "/prompt", prompt(strings.Replace(comfyGraph("model.safetensors", 1), `"SaveImage"`, `"VAELoader"`, 1), id), nil, 400, []string{`"type":"prompt_no_outputs"`}},
		"no such node":             {newer, "POST", "/prompt", prompt(`{"1":{"class_type":"Nothing","inputs":{}}}`, id), nil, 400, []string{`"type":"invalid_prompt"`, "node Nothing does not exist"}},
		"an input is missing":      {newer, "POST", "/prompt", prompt(strings.Replace(comfyGraph("model.safetensors", 1), `"seed":1,`, "", 1), id), nil, 400, []string{`"type":"required_input_missing"`}},
		"too many steps":           {newer, "POST", "/prompt", prompt(comfyGraph("model.safetensors", 10001), id), nil, 400, []string{`"type":"value_bigger_than_max"`}},
		"cancelling nothing":       {newer, "POST", "/api/jobs/" + id + "/cancel", "{}", nil, 200, []string{`{"cancelled":false}`}},
		"cancelling in 2025":       {older, "POST", "/api/jobs/" + id + "/cancel", "{}", nil, 404, nil},
		"no such job":              {newer, "GET", "/api/jobs/" + id, "", nil, 404, []string{"Job not found"}},
		"no such history":          {newer, "GET", "/history/" + id, "", nil, 200, []string{"{}"}},
		"an image out of bounds":   {newer, "GET", "/view?filename=../x", "", nil, 400, nil},
		"a folder out of bounds":   {newer, "GET", "/view?filename=x&subfolder=../..", "", nil, 403, nil},
		"no such image":            {newer, "GET", "/view?filename=x.png", "", nil, 404, nil},
	} {
		status, text := askHTTP(t, tt.method, tt.fake.Base()+tt.path, tt.body, tt.headers...)
		if status != tt.status {
			t.Errorf("%s: %d %.300s; want %d", name, status, text, tt.status)
		}
		for _, words := range tt.words {
			if !strings.Contains(text, words) {
				t.Errorf("%s: %.300s; want %s in it", name, text, words)
			}
		}
	}
}

// heard reads the types of a socket's text messages, "binary" for the others, until one of them comes; nil when the socket is silent.
func heard(t *testing.T, conn *websocket.Conn, last string, patience time.Duration) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var kinds []string
	for {
		kind, text, err := conn.Read(ctx)
		if err != nil {
			return kinds
		}
		said := struct{ Type string }{"binary"}
		if kind == websocket.MessageText {
			if err := json.Unmarshal(text, &said); err != nil {
				t.Fatal(err)
			}
		}
		kinds = append(kinds, said.Type)
		if said.Type == last {
			return kinds
		}
	}
}

func dial(t *testing.T, r *Running, client string) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), r.Base()+"/ws?clientId="+client, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(1 << 20)
	t.Cleanup(func() { _ = conn.CloseNow() })
	if got := heard(t, conn, "status", patience); len(got) != 1 {
		t.Fatalf("it began with %v", got)
	}
	return conn
}

// Events go to the client that submitted the prompt, on its newest socket alone, in ComfyUI's order.
func TestComfyUIEvents(t *testing.T) {
	t.Parallel()
	fake := runFake(t, ComfySettings{})
	replaced, other := dial(t, fake, "me"), dial(t, fake, "other")
	mine := dial(t, fake, "me")
	if err := mine.Write(t.Context(), websocket.MessageText, []byte(`{"type":"feature_flags","data":{"supports_preview_metadata":true}}`)); err != nil {
		t.Fatal(err)
	}
	if got := heard(t, mine, "feature_flags", patience); len(got) != 1 {
		t.Errorf("flags were answered with %v", got)
	}
	body := `{"client_id":"me","prompt":` + comfyGraph("model.safetensors", 2) + `}`
	if status, text := askHTTP(t, "POST", fake.Base()+"/prompt", body); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	got := strings.Join(heard(t, mine, "execution_success", patience), " ")
	for _, want := range []string{"execution_start execution_cached", "progress progress_state binary progress", "executing executed progress_state execution_success"} {
		if !strings.Contains(got, want) {
			t.Errorf("events %s; want %s among them", got, want)
		}
	}
	for name, conn := range map[string]*websocket.Conn{"the socket that was replaced": replaced, "another client's": other} {
		for _, kind := range heard(t, conn, "execution_success", 300*time.Millisecond) {
			if kind != "status" {
				t.Errorf("%s heard %s", name, kind)
			}
		}
	}
}

// The device is chosen by mask, or by --cuda-device; without either on a machine of several, and with two masks, the fake refuses.
func TestComfyUIDevices(t *testing.T) {
	t.Parallel()
	settings := ComfySettings{Settings: Settings{Devices: []Device{{Name: "CUDA0", Description: "one", ID: "GPU-1"}, {Name: "CUDA1", Description: "two", ID: "GPU-2"}}}}
	for name, tt := range map[string]struct {
		args   []string
		env    []string
		device string // "" when it refuses
	}{
		"by mask":        {nil, []string{"CUDA_VISIBLE_DEVICES=GPU-2"}, "GPU-2"},
		"by flag":        {[]string{"--cuda-device", "1"}, nil, "GPU-2"},
		"by neither":     {nil, nil, ""},
		"by a wrong one": {nil, []string{"CUDA_VISIBLE_DEVICES=GPU-9"}, ""},
		"by two masks":   {nil, []string{"CUDA_VISIBLE_DEVICES=0", "HIP_VISIBLE_DEVICES=0"}, ""},
		"the processor":  {[]string{"--cpu"}, nil, "cpu"},
		"a wrong flag":   {[]string{"--nothing"}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			python, dir := BuildFakeComfyUI(t, settings)
			cmd := exec.Command(python, append([]string{filepath.Join(dir, "main.py"), "--port", "0"}, tt.args...)...)
			cmd.Env = tt.env
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			late := time.After(patience)
			for len(Serving(t, python)) == 0 {
				select {
				case <-late:
					t.Fatal("it did not start")
				case <-time.After(5 * time.Millisecond):
				}
			}
			start := Serving(t, python)[0]
			if start.Device != tt.device || (start.Refused == "") != (tt.device != "") {
				t.Errorf("%+v; want it on %q", start, tt.device)
			}
			_ = cmd.Process.Kill()
			<-ended
		})
	}
}
