package comfyui

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/shared/sampler"
)

var update = flag.Bool("update", false, "write the golden files anew")

// serveProbe gives a generator whose server answers as it is told.
func serveProbe(t *testing.T, answer http.HandlerFunc) *Generator {
	t.Helper()
	fake := httptest.NewServer(answer)
	t.Cleanup(fake.Close)
	return newGenerator(attach.Config{Kind: "comfyui", Base: fake.URL}, &attach.Machine{}, Options{}, quick())
}

// stocked is the catalogue of a server that has everything.
func stocked() catalogue {
	c := catalogue{files: map[string][]string{folderCheckpoints: {"v1-5-pruned.safetensors", "sdxl/sd_xl_base_1.0.safetensors", "sdxl/mine.safetensors"}},
		samplers: &sampler.List{Samplers: sampler.Named("euler", "euler_ancestral", "dpmpp_2m", "dpmpp_2m_sde", "res_multistep", "uni_pc"), Schedules: sampler.Named("normal", "karras", "simple", "sgm_uniform", "beta")}}
	for _, file := range everything {
		folder, name, _ := strings.Cut(file, "/")
		c.files[folder] = append(c.files[folder], name)
	}
	return c
}

// The graphs that are sent, family by family.
func TestGolden(t *testing.T) {
	t.Parallel()
	c := stocked()
	entries := c.entries(nil, nil)
	for name, tt := range map[string]struct{ model, sampler string }{
		"sd1": {"v1-5-pruned", "Euler a"}, "sdxl": {"sd_xl_base_1.0", "DPM++ 2M SDE Karras"}, "sd3": {"sd3.5_large", ""}, "flux-checkpoint": {"flux1-dev-fp8", ""},
		"flux": {"flux1-schnell", "euler"}, "chroma": {"Chroma1-HD", ""}, "qwen-image": {"qwen_image_fp8", "UniPC"}, "z-image": {"z_image_turbo_bf16", ""},
	} {
		at := slices.IndexFunc(entries, func(e entry) bool { return e.name == tt.model })
		if at < 0 {
			t.Errorf("no model %s", tt.model)
			continue
		}
		o, err := newOrder(entries[at], c, backend.Request{
			Prompt: `a "quoted" cat, {braces} and \ backslash`, NegativePrompt: "rain\nand snow", Model: tt.model, Sampler: tt.sampler, Seed: 4294967279,
			Width: 1000, Height: 700, Steps: 28, Guidance: 6.5,
		}, 0)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		golden(t, name, o.graph)
	}
}

func golden(t *testing.T, name string, g Graph) {
	t.Helper()
	got, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", "golden", name+".json")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from %s; run go test -update and look at the difference:\n%s", name, path, got)
	}
}

// Whatever a request holds, it stays in its slots: nothing else of a template's graph changes.
func TestSlotsAreTyped(t *testing.T) {
	t.Parallel()
	c := stocked()
	e := c.entries(nil, nil)[slices.IndexFunc(c.entries(nil, nil), func(e entry) bool { return e.name == "flux1-schnell" })]
	evil := `", "class_type": "LoadImage", "x": ["4", 0], "muster:output": "`
	o, err := newOrder(e, c, backend.Request{Prompt: evil, NegativePrompt: evil, Sampler: "euler", Width: 64, Height: 64, Steps: 1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(o.graph)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parseGraph(text)
	if err != nil || len(again) != len(e.template.graph) {
		t.Fatalf("%d nodes, %v", len(again), err)
	}
	for id, n := range e.template.graph {
		if again[id].Class != n.Class || len(again[id].Inputs) != len(n.Inputs) {
			t.Errorf("node %s has become %+v", id, again[id])
		}
	}
	if again["6"].Inputs["text"] != evil {
		t.Errorf("the prompt is %v", again["6"].Inputs["text"])
	}
	if o.graph["6"].Inputs["text"] == e.template.graph["6"].Inputs["text"] {
		t.Error("the template itself was changed")
	}
}

func TestTemplatesHaveTheirClassesAlone(t *testing.T) {
	t.Parallel()
	tpl := *checkpoints()["flux"]
	g := tpl.graph.clone()
	g["99"] = &Node{Class: "LoadImage", Inputs: map[string]any{}}
	if err := tpl.allowed(g); err == nil || !strings.Contains(err.Error(), "LoadImage") {
		t.Errorf("got %v", err)
	}
	for family, one := range checkpoints() {
		for _, slot := range []Slot{SlotPrompt, SlotSeed, SlotSteps, SlotCFG, SlotWidth, SlotHeight, SlotModel, SlotSampler, SlotScheduler, SlotPrefix} {
			if len(one.slots[slot]) != 1 {
				t.Errorf("the template of checkpoints of %q has %d places for %s", family, len(one.slots[slot]), slot)
			}
		}
	}
	for family, one := range diffusers() {
		for _, need := range one.needs {
			if len(one.slots[need.slot]) != 1 {
				t.Errorf("the template of %q has no place for %s", family, need.part.Title())
			}
			if !slices.Contains(family.Parts(), need.part) {
				t.Errorf("%q is made without %s elsewhere", family, need.part.Title())
			}
		}
		if len(one.needs) != len(family.Parts()) {
			t.Errorf("%q is made of %d parts, the template knows %d", family, len(family.Parts()), len(one.needs))
		}
	}
}

// twoTexts is a workflow as ComfyUI exports it, without any title of ours.
const twoTexts = `{
  "3": {"inputs": {"seed": 5, "steps": 20, "cfg": 8, "sampler_name": "euler", "scheduler": "normal", "denoise": 1,
    "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}, "class_type": "KSampler", "_meta": {"title": "KSampler"}},
  "4": {"inputs": {"ckpt_name": "model.safetensors"}, "class_type": "CheckpointLoaderSimple", "_meta": {"title": "Load Checkpoint"}},
  "5": {"inputs": {"width": 512, "height": 512, "batch_size": 1}, "class_type": "EmptyLatentImage", "_meta": {"title": "Empty Latent Image"}},
  "6": {"inputs": {"text": "a portrait", "clip": ["4", 1]}, "class_type": "CLIPTextEncode", "_meta": {"title": "CLIP Text Encode (Prompt)"}},
  "7": {"inputs": {"text": "blurry", "clip": ["4", 1]}, "class_type": "CLIPTextEncode", "_meta": {"title": "CLIP Text Encode (Prompt)"}},
  "8": {"inputs": {"samples": ["3", 0], "vae": ["4", 2]}, "class_type": "VAEDecode", "_meta": {"title": "VAE Decode"}},
  "9": {"inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}, "class_type": "SaveImage", "_meta": {"title": "Save Image"}}
}`

// advanced is one of custom samplers, whose parts are nodes of their own, with the prompt in a node that it is linked to.
const advanced = `{
  "1": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux.safetensors", "weight_dtype": "default"}},
  "2": {"class_type": "PrimitiveString", "inputs": {"value": "a cat"}},
  "3": {"class_type": "CLIPTextEncode", "inputs": {"text": ["2", 0], "clip": ["1", 0]}},
  "4": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["3", 0]}},
  "5": {"class_type": "BasicGuider", "inputs": {"model": ["1", 0], "conditioning": ["4", 0]}},
  "6": {"class_type": "RandomNoise", "inputs": {"noise_seed": 18446744073709551615}},
  "7": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
  "8": {"class_type": "BasicScheduler", "inputs": {"scheduler": "simple", "steps": 20, "denoise": 1, "model": ["1", 0]}},
  "9": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 1024, "height": 1024, "batch_size": 1}},
  "10": {"class_type": "SamplerCustomAdvanced", "inputs": {"noise": ["6", 0], "guider": ["5", 0], "sampler": ["7", 0], "sigmas": ["8", 0], "latent_image": ["9", 0]}},
  "11": {"class_type": "VAEDecode", "inputs": {"samples": ["10", 0], "vae": ["1", 0]}},
  "12": {"class_type": "PreviewImage", "inputs": {"images": ["11", 0]}}
}`

// hires makes the image twice: two samplers share one prompt.
var hires = strings.Replace(strings.Replace(twoTexts, `"samples": ["3", 0]`, `"samples": ["11", 0]`, 1), `"4": {"inputs"`,
	`"11": {"class_type": "KSampler", "inputs": {"seed": 6, "steps": 9, "cfg": 5, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.5,
    "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["3", 0]}},
  "4": {"inputs"`, 1)

func found(w *Workflow) string {
	var words []string
	for slot, places := range w.slots {
		for _, p := range places {
			words = append(words, fmt.Sprintf("%s=%s.%s", slot, p.node, p.input))
		}
	}
	slices.Sort(words)
	return strings.Join(append(words, "output="+w.output), " ")
}

func TestSlotsAreFound(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ text, want string }{
		"a plain workflow": {twoTexts, "cfg=3.cfg height=5.height negative=7.text prefix=9.filename_prefix prompt=6.text sampler=3.sampler_name scheduler=3.scheduler seed=3.seed steps=3.steps width=5.width output=9"},
		"custom samplers":  {advanced, "cfg=4.guidance height=9.height prompt=2.value sampler=7.sampler_name scheduler=8.scheduler seed=6.noise_seed steps=8.steps width=9.width output=12"},
		"two samplers":     {hires, "height=5.height negative=7.text prefix=9.filename_prefix prompt=6.text seed=11.seed seed=3.seed width=5.width output=9"},
		"titles win": {strings.Replace(hires, `"title": "KSampler"`, `"title": "first pass muster:steps,cfg"`, 1),
			"cfg=3.cfg height=5.height negative=7.text prefix=9.filename_prefix prompt=6.text seed=11.seed seed=3.seed steps=3.steps width=5.width output=9"},
		"a negative that is the positive zeroed": {strings.Replace(twoTexts, `"7": {"inputs": {"text": "blurry", "clip": ["4", 1]}, "class_type": "CLIPTextEncode"`,
			`"7": {"inputs": {"conditioning": ["6", 0]}, "class_type": "ConditioningZeroOut"`, 1),
			"cfg=3.cfg height=5.height prefix=9.filename_prefix prompt=6.text sampler=3.sampler_name scheduler=3.scheduler seed=3.seed steps=3.steps width=5.width output=9"},
	} {
		w, err := ParseWorkflow([]byte(tt.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := found(w); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, tt.want)
		}
		if lines := w.Explain(); len(lines) < 5 || !strings.Contains(strings.Join(lines, "\n"), "prompt: input") {
			t.Errorf("%s is explained as %q", name, lines)
		}
	}
}

func TestWorkflowsThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ text, words string }{
		"nothing":                {"", "no JSON object"},
		"a list":                 {"[]", "no JSON object"},
		"an empty object":        {"{}", "no nodes"},
		"two objects":            {"{}{}", "follows"},
		"ComfyUI's own format":   {`{"last_node_id": 9, "nodes": [{"id": 1, "type": "KSampler"}], "links": [], "version": 0.4}`, "Export (API)"},
		"a node without class":   {`{"1": {"inputs": {}}}`, "class_type"},
		"a node that is a list":  {`{"1": []}`, "class_type"},
		"a link to nowhere":      {strings.Replace(twoTexts, `["8", 0]`, `["88", 0]`, 1), `linked to node "88", which is not there`},
		"no output":              {strings.Replace(twoTexts, `"SaveImage"`, `"SaveSound"`, 1), "muster:output"},
		"two outputs":            {strings.Replace(twoTexts, `"9": {`, `"10": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "x"}}, "9": {`, 1), "2 nodes of the class SaveImage"},
		"an output on a socket":  {strings.NewReplacer(`"SaveImage"`, `"SaveImageWebsocket"`, `"Save Image"`, `"muster:output"`).Replace(twoTexts), "SaveImage node"},
		"no prompt":              {strings.Replace(twoTexts, `"CLIPTextEncode"`, `"Mystery"`, 1), ""},
		"two prompts":            {strings.Replace(hires, `"positive": ["6", 0], "negative": ["7", 0], "latent_image": ["3", 0]`, `"positive": ["7", 0], "negative": ["6", 0], "latent_image": ["3", 0]`, 1), `node "6" or node "7"`},
		"an unknown slot":        {strings.Replace(twoTexts, `"title": "KSampler"`, `"title": "muster:colour"`, 1), "no slot: there are cfg, encoder"},
		"a slot without input":   {strings.Replace(twoTexts, `"title": "KSampler"`, `"title": "muster:vae"`, 1), "no input for that"},
		"a slot of another kind": {strings.Replace(strings.Replace(twoTexts, `"steps": 20`, `"steps": "many"`, 1), `"title": "KSampler"`, `"title": "muster:steps"`, 1), "is not a whole number"},
		"two titled outputs":     {strings.NewReplacer(`"title": "Save Image"`, `"title": "muster:output"`, `"title": "VAE Decode"`, `"title": "muster:output"`).Replace(twoTexts), "only one image"},
		"more than 1 MiB":        {`{"1": {"class_type": "X", "inputs": {"text": "` + strings.Repeat("x", maxWorkflow) + `"}}}`, "more than the 1048576"},
		"more than 500 nodes":    {manyNodes(maxNodes + 1), "501 nodes"},
	} {
		if name == "no prompt" {
			tt.text = strings.NewReplacer(`"class_type": "KSampler"`, `"class_type": "OtherSampler"`).Replace(twoTexts)
			tt.words = "muster:prompt"
		}
		if _, err := ParseWorkflow([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: got %v; want %q", name, err, tt.words)
		}
	}
}

func manyNodes(n int) string {
	var b strings.Builder
	b.WriteString("{")
	for i := range n {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, `"%d": {"class_type": "X", "inputs": {}}`, i)
	}
	b.WriteString("}")
	return b.String()
}

// A workflow whose links go in a circle ends too.
func TestCircle(t *testing.T) {
	t.Parallel()
	circle := `{"1": {"class_type": "KSampler", "inputs": {"positive": ["2", 0], "negative": ["1", 0], "seed": ["1", 0]}},
		"2": {"class_type": "CLIPTextEncode", "inputs": {"text": ["3", 0]}}, "3": {"class_type": "X", "inputs": {"text": ["2", 0]}},
		"4": {"class_type": "SaveImage", "inputs": {"images": ["4", 0]}}}`
	if _, err := ParseWorkflow([]byte(circle)); err == nil || !strings.Contains(err.Error(), "no prompt") {
		t.Errorf("got %v", err)
	}
}

func TestFolderOfWorkflows(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "workflows")
	w := OpenWorkflows(dir, nil)
	if got := w.All(); len(got) != 0 {
		t.Errorf("without a folder: %v", got)
	}
	for _, name := range []string{"", ".", "..", "a/b", `a\b`, "../x", ".hidden", strings.Repeat("x", 201), "a\nb"} {
		if _, err := w.Import(name, []byte(twoTexts), true); !errors.Is(err, ErrWorkflow) {
			t.Errorf("%q is taken as a name: %v", name, err)
		}
		if err := w.Remove(name); !errors.Is(err, ErrWorkflow) {
			t.Errorf("%q is taken as a name to remove: %v", name, err)
		}
	}
	if _, err := w.Import("bad", []byte("{}"), true); !errors.Is(err, ErrWorkflow) {
		t.Errorf("nonsense is imported: %v", err)
	}
	if _, err := w.Import("Büste für Anna", []byte(twoTexts), false); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Import("Büste für Anna", []byte(twoTexts), false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("one of that name: %v", err)
	}
	if _, err := w.Import("Büste für Anna", []byte(twoTexts), true); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "wrong.json"), []byte(`{"nodes":[],"links":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside.json")
	if err := os.WriteFile(outside, []byte(twoTexts), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link.json")); err != nil {
		t.Fatal(err)
	}
	w.forget()
	if all := w.All(); len(all) != 1 || all["Büste für Anna"] == nil {
		t.Errorf("workflows %v", all)
	}
	problems := w.Problems()
	if len(problems) != 3 || !strings.Contains(fmt.Sprint(problems["wrong"]), "Export (API)") || problems["link"] == nil || problems["folder"] == nil {
		t.Errorf("problems %v", problems)
	}
	var list []string
	for _, one := range w.List() {
		list = append(list, fmt.Sprintf("%s:%d:%v", one.Name, len(one.Slots), one.Problem != ""))
	}
	if got := strings.Join(list, " "); got != "Büste für Anna:9:false folder:0:true link:0:true wrong:0:true" {
		t.Errorf("list %s", got)
	}
	if err := w.Remove("another"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removing what is not there: %v", err)
	}
	if err := w.Remove("Büste für Anna"); err != nil || len(w.All()) != 0 {
		t.Errorf("after removal: %v, %v", w.All(), err)
	}
	var none *Workflows
	if len(none.All()) != 0 {
		t.Error("no workflows at all have some")
	}
}

func TestNamesOfModels(t *testing.T) {
	t.Parallel()
	c := catalogue{files: map[string][]string{
		folderCheckpoints: {"one.safetensors", "sdxl/two.safetensors", "a/same.safetensors", "b/same.safetensors", `win\dows.safetensors`, "twin.ckpt", "twin.safetensors",
			"flux1-dev.safetensors", strings.Repeat("x", 300) + ".safetensors"},
		folderDiffusion: {"flux1-dev.safetensors", "wan2.1.safetensors", "flux1-kontext-dev.safetensors", "qwen_image_edit.safetensors", "z_image_turbo.safetensors"},
	}}
	var names []string
	for _, e := range c.entries(nil, map[string]*Workflow{"mine": {}, "one": {}}) {
		names = append(names, e.name)
		if strings.ContainsAny(e.name, `/\`) {
			t.Errorf("%q holds a path separator", e.name)
		}
	}
	want := []string{"a: same", "b: same", "checkpoints: flux1-dev", "checkpoints: twin.ckpt", "checkpoints: twin.safetensors", "diffusion_models: flux1-dev", "dows", "mine", "one", "two", "z_image_turbo"}
	if !slices.Equal(names, want) {
		t.Errorf("got %q\nwant %q", names, want)
	}
}

// A request's sampler goes where the workflow has a place for it, and nowhere else.
func TestSamplers(t *testing.T) {
	t.Parallel()
	whole, err := ParseWorkflow([]byte(twoTexts))
	if err != nil {
		t.Fatal(err)
	}
	fixed := &Workflow{slots: map[Slot][]place{}}
	for name, tt := range map[string]struct {
		e                      entry
		c                      catalogue
		wanted                 string
		sampler, schedule, err string
	}{
		"none":              {entry{workflow: whole}, stocked(), "", "", "", ""},
		"known":             {entry{workflow: whole}, stocked(), "DPM++ 2M Karras", "dpmpp_2m", "karras", ""},
		"unknown":           {entry{workflow: whole}, stocked(), "Restart", "", "", "choose one of Euler, Euler a, DPM++ 2M"},
		"server tells none": {entry{workflow: whole}, catalogue{}, "euler", "euler", "", ""},
		"workflow's own":    {entry{name: "mine", workflow: fixed}, stocked(), "Euler", "", "", "the workflow mine has no place for a sampler"},
		"workflow, none":    {entry{name: "mine", workflow: fixed}, stocked(), "", "", "", ""},
	} {
		sampler, schedule, err := tt.e.sampler(tt.c, tt.wanted)
		if sampler != tt.sampler || schedule != tt.schedule || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %q %q, %v", name, sampler, schedule, err)
		}
		if knows := tt.e.model(tt.c).Samplers.Knows(tt.wanted); knows != (tt.err == "") {
			t.Errorf("%s: the model is told to know it: %v", name, knows)
		}
	}
}

func TestComponents(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		c     component
		files string
		want  string
	}{
		{t5, "clip_l.safetensors umt5_xxl.safetensors flux/t5xxl_fp16.safetensors t5xxl_fp8_e4m3fn.safetensors", "t5xxl_fp8_e4m3fn.safetensors"},
		{t5, "t5xxl_fp16.safetensors", "t5xxl_fp16.safetensors"},
		{clipL, "clip_g.safetensors clip_l.safetensors", "clip_l.safetensors"},
		{qwen25, "qwen_3_4b.safetensors qwen_2.5_vl_7b.safetensors", "qwen_2.5_vl_7b.safetensors"},
		{qwen3, "qwen_2.5_vl_7b.safetensors sub/qwen_3_4b.safetensors", "sub/qwen_3_4b.safetensors"},
		{fluxVAE, "flux2-vae.safetensors qwen_image_vae.safetensors ae.safetensors pixel_space", "ae.safetensors"},
		{fluxVAE, `flux\flux_vae.safetensors vae-ft-mse.safetensors`, `flux\flux_vae.safetensors`},
		{qwenVAE, "ae.safetensors qwen_image_vae.safetensors", "qwen_image_vae.safetensors"},
		{qwenVAE, "ae.safetensors", ""},
	} {
		got, err := tt.c.choose(strings.Fields(tt.files))
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s of %s: got %q, %v; want %q", tt.c.part.Title(), tt.files, got, err, tt.want)
		}
	}
}
