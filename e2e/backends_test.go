package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"image/png"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"muster/agent/backend/backendtest"
	"muster/agent/backend/backendtest/fakeopenai"
	"muster/agent/backend/backendtest/fakesdapi"
	"muster/agent/fixture"
	"muster/e2e/disk"
	"muster/e2e/harness"
	"muster/e2e/ordeal"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/wire"
)

// generatorsOf gives the agent's generators by their IDs.
func generatorsOf(t *testing.T, agent *harness.Agent) map[string]wire.Generator {
	t.Helper()
	var list struct {
		Generators []wire.Generator `json:"generators"`
	}
	get(t, agent, "/api/v1/generators", &list)
	byID := map[string]wire.Generator{}
	for _, g := range list.Generators {
		byID[g.ID] = g
	}
	return byID
}

// ordered submits images and gives their set.
func ordered(t *testing.T, agent *harness.Agent, spec job.Spec) []job.Job {
	t.Helper()
	var accepted struct {
		Jobs []job.Job `json:"jobs"`
	}
	if status, err := agent.Do(t.Context(), "POST", "/api/v1/jobs", spec, &accepted); err != nil || status != http.StatusAccepted {
		t.Fatalf("status %d, %v", status, err)
	}
	return accepted.Jobs
}

// settled gives the newest of these jobs when all have ended.
func settled(t *testing.T, agent *harness.Agent, jobs []job.Job) []job.Job {
	t.Helper()
	now := make([]job.Job, len(jobs))
	eventually(t, fmt.Sprintf("%d images are made", len(jobs)), func() bool {
		for i, j := range jobs {
			get(t, agent, "/api/v1/jobs/"+j.ID, &now[i])
			if !now[i].State.Terminal() {
				return false
			}
		}
		return true
	})
	return now
}

// addModel gives a fake ComfyUI a checkpoint.
func addModel(t *testing.T, dir, name string) {
	t.Helper()
	backendtest.WriteModel(t, filepath.Join(dir, "models", "checkpoints"), name, backendtest.Scenario{StepMilliseconds: 10})
}

// Every kind of generator at once on one machine: each makes the images of its own card, and a set is spread over all of them.
func TestEveryKindOfGeneratorMakesTheImagesOfItsCard(t *testing.T) {
	python, folder := backendtest.BuildFakeComfyUI(t, backendtest.ComfySettings{Settings: backendtest.MI25x8()})
	addModel(t, folder, "sd15")
	comfy := backendtest.RunComfyUI(t, python, folder, "--cuda-device", "0")
	web := fakesdapi.Start(t, fakesdapi.Config{Flavour: fakesdapi.A1111, Models: []string{"sd15"}, Step: 10 * time.Millisecond})
	local := fakeopenai.Start(t, fakeopenai.Config{Flavour: fakeopenai.LocalAI, Models: []string{"sd15"}, Step: 10 * time.Millisecond})
	program := backendtest.BuildFakeSDServer(t, backendtest.MI25x8())
	models := t.TempDir()
	backendtest.WriteModel(t, models, "sd15", backendtest.Scenario{StepMilliseconds: 10})
	agent := start(t, "--sysroot", fixture.Root(t, "amd-mi25x8"), "--sd-server", program, "--models", models,
		"--comfyui", comfy.Base()+"#0", "--sdapi", web.URL+"#1", "--openai", local.URL+"#2")
	eventually(t, "the attached generators are ready", func() bool {
		all := generatorsOf(t, agent)
		return all["comfyui "+comfy.Address()].State == wire.GeneratorReady && all["sdapi "+strings.TrimPrefix(web.URL, "http://")].State == wire.GeneratorReady &&
			all["openai "+strings.TrimPrefix(local.URL, "http://")].State == wire.GeneratorReady
	})
	want := []string{"comfyui", "sdapi", "openai", "sdserver", "sdserver"}
	var pinned []job.Job
	for i := range want {
		pinned = append(pinned, ordered(t, agent, job.Spec{Prompt: "a lighthouse", Model: "sd15", Steps: 8, DeviceID: new(gpu.Ref(i))})...)
	}
	for i, j := range settled(t, agent, pinned) {
		if j.State != job.Succeeded || j.Backend != want[i] || *j.DeviceID != gpu.Ref(i) {
			t.Errorf("image on device %d: %s by %s: %s", i, j.State, j.Backend, j.Error)
		}
	}
	made := map[string]bool{}
	for _, j := range settled(t, agent, ordered(t, agent, job.Spec{Prompt: "a lighthouse", Model: "sd15", Steps: 20, Count: 16})) {
		if j.State != job.Succeeded {
			t.Errorf("image of the set: %s by %s: %s", j.State, j.Backend, j.Error)
		}
		made[j.Backend] = true
	}
	if len(made) < 3 {
		t.Errorf("a set of 16 was made by %v alone", made)
	}
	sameSizeWithSampler(t, agent)
	if log := agent.Stderr(); strings.Contains(log, "lighthouse") {
		t.Error("the log holds the prompt")
	}
}

// sameSizeWithSampler asks for a size that only some of the generators make, and for a sampler that one of them can't be told: all images
// have one size, and none is made by that one.
func sameSizeWithSampler(t *testing.T, agent *harness.Agent) {
	t.Helper()
	made := map[string]bool{}
	images, info := txt2img(t, agent.URL, agent.Token, `{"prompt":"a lighthouse","sampler_name":"DPM++ 2M","steps":20,"width":500,"height":300,"batch_size":16,"override_settings":{"sd_model_checkpoint":"sd15"}}`)
	for i, image := range images {
		raw, err := base64.StdEncoding.DecodeString(image)
		if err != nil {
			t.Fatal(err)
		}
		var j job.Job
		get(t, agent, "/api/v1/jobs/"+info["muster"].(map[string]any)["images"].([]any)[i].(map[string]any)["job_id"].(string), &j)
		if config, err := png.DecodeConfig(bytes.NewReader(raw)); err != nil || config.Width != 512 || config.Height != 320 || j.Backend == "openai" {
			t.Errorf("%s made %dx%d, %v", j.Backend, config.Width, config.Height, err)
		}
		made[j.Backend] = true
	}
	if notes := fmt.Sprint(info["muster"].(map[string]any)["notes"]); len(images) != 16 || !strings.Contains(notes, "500x300 was asked for, and the images are 512x320") {
		t.Errorf("%d images, notes %s", len(images), notes)
	}
	if len(made) < 2 {
		t.Errorf("a set of 16 was made by %v alone", made)
	}
	status, err := agent.Do(t.Context(), "POST", "/api/v1/jobs", job.Spec{Prompt: "a lighthouse", Model: "sd15", Sampler: "Restart", DeviceID: new(gpu.Ref(0))}, nil)
	if status != http.StatusBadRequest || err == nil || !strings.Contains(err.Error(), `"field":"sampler"`) {
		t.Errorf("an unknown sampler: %d, %v", status, err)
	}
}

// A FLUX.1 of several files is one model for sd-server, once all of them are there.
func TestModelOfSeveralFiles(t *testing.T) {
	program := backendtest.BuildFakeSDServer(t, backendtest.MI25x8())
	models := t.TempDir()
	put := func(path, tensors string, bytes int64) {
		path = filepath.Join(models, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		head := append([]byte{byte(len(tensors)), 0, 0, 0, 0, 0, 0, 0}, tensors...) // the header's length, below 256, comes first
		if err := os.WriteFile(path, head, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, int64(len(head))+bytes); err != nil {
			t.Fatal(err)
		}
	}
	put("flux1-dev.safetensors", `{"double_blocks.0.img_attn.norm.key_norm.scale":{"dtype":"F16","shape":[128],"data_offsets":[0,256]}}`, 256)
	put("text_encoders/t5.safetensors", `{"shared.weight":{"dtype":"F16","shape":[32128,4096],"data_offsets":[0,263192576]}}`, 263192576)
	put("vae/ae.safetensors", `{"decoder.conv_in.weight":{"dtype":"F16","shape":[512,16,3,3],"data_offsets":[0,147456]}}`, 147456)
	agent := start(t, "--sysroot", fixture.Root(t, "amd-mi25x8"), "--sd-server", program, "--models", models)
	shelved := func() model.Offer {
		var offers model.Offers
		get(t, agent, "/api/v1/models", &offers)
		at := slices.IndexFunc(offers.Models, func(m model.Offer) bool { return m.Name == "flux1-dev" })
		if at < 0 {
			return model.Offer{}
		}
		return offers.Models[at]
	}
	eventually(t, "what is missing is told", func() bool { return len(shelved().Missing) == 1 && strings.Contains(shelved().Missing[0], "CLIP-L") })
	put("text_encoders/clip.safetensors", `{"text_model.embeddings.token_embedding.weight":{"dtype":"F16","shape":[49408,768],"data_offsets":[0,75890688]}}`, 75890688)
	eventually(t, "the model is offered", func() bool { return slices.Contains(shelved().Generators, "sdserver") })
	jobs := settled(t, agent, ordered(t, agent, job.Spec{Prompt: "a lighthouse", Model: "flux1-dev"}))
	if j := jobs[0]; j.State != job.Succeeded || j.Width != 1024 || j.Guidance != 3.5 {
		t.Errorf("%s, %dx%d, guidance %g: %s", j.State, j.Width, j.Height, j.Guidance, j.Error)
	}
	args := strings.Join(backendtest.Serving(t, program)[0].Args, " ")
	for _, want := range []string{"--diffusion-model " + models + "/flux1-dev.safetensors", "--t5xxl " + models + "/text_encoders/t5.safetensors", "--clip_l ", "--vae "} {
		if !strings.Contains(args, want) {
			t.Errorf("%s is not among %s", want, args)
		}
	}
}

// A generator that is away keeps its images waiting, with the reason; what it makes when it comes back counts.
func TestImagesWaitForAComfyUIThatComesLater(t *testing.T) {
	python, folder := backendtest.BuildFakeComfyUI(t, backendtest.ComfySettings{Settings: backendtest.MI25x8()})
	addModel(t, folder, "dreams")
	comfy := backendtest.RunComfyUI(t, python, folder, "--cuda-device", "0")
	data := t.TempDir()
	flags := []string{"--sysroot", fixture.Root(t, "amd-mi25x8"), "--comfyui", comfy.Base() + "#3"}
	agent, err := harness.Start(data, flags...)
	if err != nil {
		t.Fatal(err)
	}
	id := "comfyui " + comfy.Address()
	eventually(t, "ComfyUI is ready", func() bool { return generatorsOf(t, agent)[id].State == wire.GeneratorReady })
	first := settled(t, agent, ordered(t, agent, job.Spec{Prompt: "x", Model: "dreams", Steps: 4}))
	if first[0].State != job.Succeeded || *first[0].DeviceID != 3 {
		t.Fatalf("%+v", first[0])
	}
	comfy.Stop()
	eventually(t, "its absence is seen", func() bool { return generatorsOf(t, agent)[id].State == wire.GeneratorUnreachable })
	waiting := ordered(t, agent, job.Spec{Prompt: "x", Model: "dreams", Steps: 4})
	eventually(t, "the image says why it waits", func() bool {
		var j job.Job
		get(t, agent, "/api/v1/jobs/"+waiting[0].ID, &j)
		return j.State == job.Queued && strings.Contains(j.Reason, "does not answer any more")
	})
	if out, err := agent.Command(t.Context(), "generate", "x", "--model", "nothing"); err == nil || !strings.Contains(out, "is not here") {
		t.Errorf("a model that nobody has: %s, %v", out, err)
	}
	if err := agent.Kill(); err != nil { // the agent's own end changes nothing
		t.Fatal(err)
	}
	again := startOn(t, data, flags...)
	comfy.Start(t, "--cuda-device", "0")
	if j := settled(t, again, waiting)[0]; j.State != job.Succeeded || *j.DeviceID != 3 || j.Failures != 0 {
		t.Errorf("%+v", j)
	}
}

// What a ComfyUI had is known when it is away at the start: its models can be asked for, and wait for it, on whichever card it is then.
func TestModelsOfAComfyUIThatIsAwayAtTheStart(t *testing.T) {
	python, folder := backendtest.BuildFakeComfyUI(t, backendtest.ComfySettings{Settings: backendtest.MI25x8()})
	addModel(t, folder, "dreams")
	comfy := backendtest.RunComfyUI(t, python, folder, "--cuda-device", "0")
	data, id := t.TempDir(), "comfyui "+comfy.Address()
	root := fixture.Root(t, "amd-mi25x8")
	agent, err := harness.Start(data, "--sysroot", root, "--comfyui", comfy.Base()+"#3")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "ComfyUI is ready", func() bool { return generatorsOf(t, agent)[id].State == wire.GeneratorReady })
	comfy.Stop()
	if err := agent.Stop(); err != nil {
		t.Fatal(err)
	}
	again, err := harness.Start(data, "--sysroot", root, "--comfyui", comfy.Base()+"#5")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "its absence is seen", func() bool { return generatorsOf(t, again)[id].State == wire.GeneratorUnreachable })
	if g := generatorsOf(t, again)[id]; g.Models != 1 || g.Seen == nil || time.Since(*g.Seen) > time.Minute || *g.Device != 5 {
		t.Errorf("%+v", g)
	}
	waiting := ordered(t, again, job.Spec{Prompt: "x", Model: "dreams", Steps: 4})
	eventually(t, "the image says why it waits", func() bool {
		var j job.Job
		get(t, again, "/api/v1/jobs/"+waiting[0].ID, &j)
		return j.State == job.Queued && strings.Contains(j.Reason, "is not there")
	})
	if out, err := again.Command(t.Context(), "doctor", "--sysroot", root, "--comfyui", comfy.Base()+"#5"); err == nil || !strings.Contains(out, "with 1 model(s)") {
		t.Errorf("doctor: %s, %v", out, err)
	}
	comfy.Start(t, "--cuda-device", "0")
	if j := settled(t, again, waiting)[0]; j.State != job.Succeeded || *j.DeviceID != 5 {
		t.Errorf("%+v", j)
	}
	if err := again.Kill(); err != nil {
		t.Fatal(err)
	}
	comfy.Stop()
	if err := os.Remove(filepath.Join(folder, "models", "checkpoints", "dreams.safetensors")); err != nil {
		t.Fatal(err)
	}
	addModel(t, folder, "nightmares")
	unplaced, err := harness.Start(data, "--sysroot", root, "--comfyui", comfy.Base()) // eight equal cards: nobody knows which
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "its absence is seen", func() bool { return generatorsOf(t, unplaced)[id].State == wire.GeneratorUnreachable })
	if g := generatorsOf(t, unplaced)[id]; g.Models != 1 || g.Device != nil {
		t.Errorf("after a kill, without its device: %+v", g)
	}
	late := ordered(t, unplaced, job.Spec{Prompt: "x", Model: "dreams", Steps: 4})
	if err := unplaced.Stop(); err != nil {
		t.Fatal(err)
	}
	last := startOn(t, data, "--sysroot", root, "--comfyui", comfy.Base()+"#5")
	comfy.Start(t, "--cuda-device", "0")
	eventually(t, "ComfyUI is taken as it is", func() bool {
		g := generatorsOf(t, last)[id]
		return g.State == wire.GeneratorReady && g.Models == 1 && g.Seen == nil
	})
	eventually(t, "a model that is gone is not waited for at ComfyUI any more", func() bool { // minutes later it fails
		var j job.Job
		get(t, last, "/api/v1/jobs/"+late[0].ID, &j)
		return strings.HasSuffix(j.Reason, `no device has a generator for model "dreams" now`) || strings.HasSuffix(j.Reason, `no generator for model "dreams" now`)
	})
	if out, err := last.Command(t.Context(), "generate", "x", "--model", "dreams"); err == nil || !strings.Contains(out, "is not here") {
		t.Errorf("a model that is gone: %s, %v", out, err)
	}
}

// A ComfyUI that dies during an image is away at once, costs the image one try, and makes it when it is back.
func TestComfyUIThatDiesDuringAnImage(t *testing.T) {
	python, folder := backendtest.BuildFakeComfyUI(t, backendtest.ComfySettings{Settings: backendtest.MI25x8()})
	backendtest.WriteModel(t, filepath.Join(folder, "models", "checkpoints"), "dreams", backendtest.Scenario{StepMilliseconds: 100})
	comfy := backendtest.RunComfyUI(t, python, folder, "--cuda-device", "0")
	agent := start(t, "--sysroot", fixture.Root(t, "amd-mi25x8"), "--comfyui", comfy.Base()+"#3")
	id := "comfyui " + comfy.Address()
	eventually(t, "ComfyUI is ready", func() bool { return generatorsOf(t, agent)[id].State == wire.GeneratorReady })
	jobs := ordered(t, agent, job.Spec{Prompt: "x", Model: "dreams", Steps: 30})
	eventually(t, "the image is being made", func() bool {
		var j job.Job
		get(t, agent, "/api/v1/jobs/"+jobs[0].ID, &j)
		return j.Progress.Step > 0
	})
	comfy.Stop()
	eventually(t, "its absence is seen", func() bool { return generatorsOf(t, agent)[id].State == wire.GeneratorUnreachable })
	comfy.Start(t, "--cuda-device", "0")
	if j := settled(t, agent, jobs)[0]; j.State != job.Succeeded || j.Failures > 1 {
		t.Errorf("%s after %d failures: %s", j.State, j.Failures, j.Error)
	}
}

// ComfyUIs that the agent starts see one card each, and none outlives it, however it ends.
func TestComfyUIIsStartedForEachCardAndEndsWithTheAgent(t *testing.T) {
	python, folder := backendtest.BuildFakeComfyUI(t, backendtest.ComfySettings{Settings: backendtest.MI25x8()})
	addModel(t, folder, "dreams")
	data := t.TempDir()
	agent, err := harness.Start(data, "--sysroot", fixture.Root(t, "amd-mi25x8"), "--comfyui-dir", folder, "--comfyui-python", python)
	if err != nil {
		t.Fatal(err)
	}
	const prompt = "an unmistakable walrus"
	jobs := settled(t, agent, ordered(t, agent, job.Spec{Prompt: prompt, Model: "dreams", Steps: 30, Count: 4}))
	devices := map[string]bool{}
	for _, j := range jobs {
		if j.State != job.Succeeded || j.Backend != "comfyui" {
			t.Errorf("%s by %s: %s", j.State, j.Backend, j.Error)
		}
		devices[j.DeviceKey] = true
	}
	starts := backendtest.Serving(t, python)
	if len(starts) == 0 {
		t.Fatal("no ComfyUI was started")
	}
	for _, s := range starts {
		if s.Refused != "" || len(s.Masks) != 1 {
			t.Errorf("a ComfyUI on %q: masks %v, refused %q", s.Device, s.Masks, s.Refused)
		}
		if slices.ContainsFunc(s.Args, func(arg string) bool { return strings.Contains(arg, "walrus") }) {
			t.Error("a prompt stands in its arguments")
		}
		delete(devices, s.Device)
	}
	if len(devices) > 0 {
		t.Errorf("jobs claim %v, on which no ComfyUI ran", devices)
	}
	if strings.Contains(agent.Stderr(), "walrus") {
		t.Error("the log holds the prompt")
	}
	long := ordered(t, agent, job.Spec{Prompt: prompt, Model: "dreams", Steps: 200})
	eventually(t, "an image is being made", func() bool {
		var j job.Job
		get(t, agent, "/api/v1/jobs/"+long[0].ID, &j)
		return j.Progress.Step > 0
	})
	if len(ordeal.Processes(python)) == 0 {
		t.Error("no ComfyUI runs during an image")
	}
	if err := agent.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no ComfyUI is left", func() bool { return len(ordeal.Processes(python)) == 0 })
}

// A workflow of one's own is imported by the command line and is a model at once; what is wrong with another is explained.
func TestAnImportedWorkflowIsAModel(t *testing.T) {
	python, folder := backendtest.BuildFakeComfyUI(t, backendtest.ComfySettings{Settings: backendtest.MI25x8()})
	addModel(t, folder, "dreams")
	comfy := backendtest.RunComfyUI(t, python, folder, "--cuda-device", "0")
	agent := start(t, "--sysroot", fixture.Root(t, "amd-mi25x8"), "--comfyui", comfy.Base()+"#0")
	file := filepath.Join(t.TempDir(), "my style.json")
	graph := `{"4":{"class_type":"CheckpointLoaderSimple","inputs":{"ckpt_name":"dreams.safetensors"}},
"5":{"class_type":"EmptyLatentImage","inputs":{"width":512,"height":512,"batch_size":1}},
"6":{"class_type":"CLIPTextEncode","inputs":{"text":"x","clip":["4",1]}},"7":{"class_type":"CLIPTextEncode","inputs":{"text":"","clip":["4",1]}},
"3":{"class_type":"KSampler","inputs":{"seed":1,"steps":20,"cfg":7,"sampler_name":"euler","scheduler":"normal","denoise":1,"model":["4",0],"positive":["6",0],"negative":["7",0],"latent_image":["5",0]}},
"8":{"class_type":"VAEDecode","inputs":{"samples":["3",0],"vae":["4",2]}},"9":{"class_type":"SaveImage","inputs":{"images":["8",0],"filename_prefix":"mine"}}}`
	if err := os.WriteFile(file, []byte(graph), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := agent.Command(t.Context(), "workflows", "import", file)
	if err != nil || !strings.Contains(out, "my style is a model now") {
		t.Fatalf("%s, %v", out, err)
	}
	var status struct {
		Models []struct{ Name string } `json:"available_models"`
	}
	get(t, agent, "/api/v1/setup/ai-models/status", &status)
	if !slices.ContainsFunc(status.Models, func(m struct{ Name string }) bool { return m.Name == "my style" }) {
		t.Errorf("it is said to be a model before it is one: %+v", status)
	}
	if j := settled(t, agent, ordered(t, agent, job.Spec{Prompt: "x", Model: "my style", Steps: 4}))[0]; j.State != job.Succeeded || j.Steps != 4 {
		t.Errorf("%+v", j)
	}
	if out, err := agent.Command(t.Context(), "workflows", "import", file); err == nil || !strings.Contains(out, "replace it with --force") {
		t.Errorf("one of the same name: %s, %v", out, err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(graph, "dreams.safetensors", "nightmares.safetensors", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := agent.Command(t.Context(), "workflows", "import", file, "--force"); err == nil || !strings.Contains(out, "my style is replaced") || !strings.Contains(out, `lacks ckpt_name "nightmares.safetensors"`) {
		t.Errorf("one that lacks its checkpoint: %s, %v", out, err)
	}
	bad := filepath.Join(t.TempDir(), "ui.json")
	if err := os.WriteFile(bad, []byte(`{"nodes":[],"links":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := agent.Command(t.Context(), "workflows", "import", bad); err == nil || !strings.Contains(out+err.Error(), "API") {
		t.Errorf("%s, %v", out, err)
	}
	if out, err := agent.Command(t.Context(), "workflows", "remove", "my styel"); err == nil || !strings.Contains(out, `there is no workflow "my styel"; there are my style`) {
		t.Errorf("%s, %v", out, err)
	}
	if out, err := agent.Command(t.Context(), "workflows", "remove", "my style"); err != nil {
		t.Errorf("%s, %v", out, err)
	}
}

// Doctor says of every generator whether it can be used.
func TestDoctorTellsOfGenerators(t *testing.T) {
	web := fakesdapi.Start(t, fakesdapi.Config{Flavour: fakesdapi.Forge, Models: []string{"sd15"}})
	agent := start(t, "--sysroot", fixture.Root(t, "amd-mi25x8"), "--sdapi", web.URL+"#1")
	out, err := agent.Command(t.Context(), "doctor", "--sysroot", fixture.Root(t, "amd-mi25x8"), "--sdapi", web.URL+"#1", "--comfyui", "127.0.0.1:1")
	if err == nil {
		t.Error("doctor finds nothing wrong with a ComfyUI that is not there")
	}
	for _, words := range []string{"generates on Device 1, 1 model(s)", "FAULT ComfyUI at 127.0.0.1:1", "is not there", "start it, or leave it out"} {
		if !strings.Contains(out, words) {
			t.Errorf("doctor does not say %q:\n%s", words, out)
		}
	}
}

// A model that does not get onto its device after all, long after the agent's first answer: who asked is told, and whoever looks later.
func TestLoadThatFailsLate(t *testing.T) {
	program := backendtest.BuildFakeSDServer(t, backendtest.MI25x8())
	models := t.TempDir()
	backendtest.WriteModel(t, models, "heavy", backendtest.Scenario{Faults: []backendtest.Fault{{Do: backendtest.LoadOutOfMemory}}})
	backendtest.WriteModel(t, models, "light", backendtest.Scenario{StepMilliseconds: 500})
	agent := start(t, "--sysroot", fixture.Root(t, "amd-mi25x8"), "--sd-server", program, "--models", models)
	eventually(t, "the model is there", func() bool {
		out, err := agent.Command(t.Context(), "models")
		return err == nil && strings.Contains(out, "sd-server")
	})
	busy := ordered(t, agent, job.Spec{Prompt: "x", Model: "light", Steps: 48, DeviceID: new(gpu.Ref(2))}) // longer than an answer is kept back
	eventually(t, "the device is at work", func() bool {
		var j job.Job
		get(t, agent, "/api/v1/jobs/"+busy[0].ID, &j)
		return j.Progress.Step > 0
	})
	out, err := agent.Command(t.Context(), "models", "load", "heavy", "--device", "2")
	if err == nil || !strings.Contains(out, "heavy is to be loaded on Device 2: it waits for the image") || !strings.Contains(out, "heavy was not loaded on Device 2: ") || !strings.Contains(out, "choose another device") {
		t.Errorf("who asked: %v, %s", err, out)
	}
	if out, err := agent.Command(t.Context(), "models"); err != nil || !strings.Contains(out, "heavy was not loaded on Device 2: ") {
		t.Errorf("who looks later: %v, %s", err, out)
	}
	var seen []model.Load
	ctx, enough := context.WithTimeout(t.Context(), time.Minute)
	defer enough()
	_ = agent.View(ctx, wire.SubprotocolBinary, func(event wire.Event, _ int) {
		if event.Capacity != nil {
			seen = event.Capacity.Loads
			enough()
		}
	})
	if len(seen) != 1 || seen[0].Model != "heavy" || seen[0].Device != 2 || seen[0].State != model.LoadFailed || seen[0].Words == "" {
		t.Errorf("a page that is opened later sees %+v", seen)
	}
}

// A folder of ComfyUI on a disk that hangs does not keep the agent from starting; ComfyUI is used when the disk answers.
func TestComfyUIFolderThatHangsAtTheStart(t *testing.T) {
	python, folder := backendtest.BuildFakeComfyUI(t, backendtest.ComfySettings{Settings: backendtest.MI25x8()})
	addModel(t, folder, "dreams")
	hanging, err := disk.NewHanging(folder, t.TempDir())
	if errors.Is(err, disk.ErrNotHere) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := hanging.Close(); err != nil {
			t.Error(err)
		}
	})
	root, data := fixture.Root(t, "amd-mi25x8"), t.TempDir()
	agent, err := harness.Start(data, "--sysroot", root, "--comfyui-dir", hanging.Dir, "--comfyui-python", python)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		hanging.LetGo() // a program that waits for it can't end
		_ = agent.Stop()
	})
	if hanging.Waits() == 0 {
		t.Fatal("nobody waits for the folder")
	}
	eventually(t, "people are told", func() bool {
		return strings.Contains(generatorsOf(t, agent)["comfyui 0"].Problem, "does not answer: its disk or network may hang")
	})
	hanging.LetGo()
	eventually(t, "ComfyUI is found", func() bool {
		g := generatorsOf(t, agent)["comfyui 0"]
		return g.Problem == "" && g.Models == 1
	})
	if j := settled(t, agent, ordered(t, agent, job.Spec{Prompt: "x", Model: "dreams", Steps: 4}))[0]; j.State != job.Succeeded {
		t.Errorf("%+v", j)
	}
}
