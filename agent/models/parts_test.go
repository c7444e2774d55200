package models

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"muster/shared/gpu"
	"muster/shared/model"
)

// sparse writes a safetensors file of tensors of their real shapes, which takes no room on the disk.
func sparse(t *testing.T, path string, tensors ...tensor) {
	t.Helper()
	header := map[string]any{}
	at := uint64(0)
	for _, one := range tensors {
		if one.dtype == "" {
			one.dtype = "F16"
		}
		size := elementBytes[one.dtype]
		for _, side := range one.shape {
			size *= side
		}
		header[one.name] = map[string]any{"dtype": one.dtype, "shape": one.shape, "data_offsets": []uint64{at, at + size}}
		at += size
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	head := append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, head, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(len(head))+int64(at)); err != nil {
		t.Fatal(err)
	}
}

// partTensors are the marks of parts as they are published.
var partTensors = map[string][]tensor{
	"t5xxl_fp16":           {one("shared.weight", 32128, 4096), one("encoder.block.0.layer.0.SelfAttention.k.weight", 4)},
	"t5xxl_gguf_like":      {one("token_embd.weight", 32128, 4096), one("enc.blk.0.attn_k.weight", 4)},
	"umt5":                 {one("shared.weight", 256384, 4096), one("encoder.block.0.layer.0.SelfAttention.k.weight", 4)},
	"clip_l":               {one("text_model.embeddings.token_embedding.weight", 49408, 768)},
	"clip_g":               {one("text_model.embeddings.token_embedding.weight", 49408, 1280)},
	"clip_h":               {one("text_model.embeddings.token_embedding.weight", 49408, 1024)},
	"qwen_2.5_vl_7b":       {one("model.embed_tokens.weight", 152064, 3584), one("model.layers.0.self_attn.q_proj.weight", 4), one("visual.blocks.0.attn.qkv.weight", 4)},
	"Qwen3-4B":             {one("token_embd.weight", 151936, 2560), one("blk.0.attn_q.weight", 4)},
	"Qwen3-8B":             {one("token_embd.weight", 151936, 4096), one("blk.0.attn_q.weight", 4)},
	"ae":                   {one("decoder.conv_in.weight", 512, 16, 3, 3), one("encoder.down.0.block.0.conv1.weight", 4)},
	"sd3_vae":              {one("decoder.conv_in.weight", 512, 16, 3, 3), one("encoder.down.0.block.0.conv1.weight", 4)},
	"sdxl_vae":             {one("decoder.conv_in.weight", 512, 4, 3, 3), one("encoder.down.0.block.0.conv1.weight", 4)},
	"qwen_image_vae":       {one("decoder.conv1.weight", 384, 16, 3, 3, 3), one("decoder.upsamples.0.residual.0.gamma", 4)},
	"wan_2.1_vae":          {one("decoder.conv1.weight", 384, 16, 3, 3, 3), one("decoder.upsamples.0.residual.0.gamma", 4)},
	"t5xxl-00001-of-00002": {one("shared.weight", 32128, 4096), one("encoder.block.0.layer.0.SelfAttention.k.weight", 4)},
	"Qwen2.5-7B":           {one("model.embed_tokens.weight", 152064, 3584), one("model.layers.0.self_attn.q_proj.weight", 4)},
	"Qwen3-VL-4B":          {one("model.embed_tokens.weight", 151936, 2560), one("model.layers.0.self_attn.q_proj.weight", 4), one("model.visual.blocks.0.attn.qkv.weight", 4)},
	"gemma-3-4b":           {one("model.embed_tokens.weight", 262208, 2560), one("model.layers.0.self_attn.q_proj.weight", 4)},
	"gemma-2-9b":           {one("model.embed_tokens.weight", 256000, 3584), one("model.layers.0.self_attn.q_proj.weight", 4), one("visual.blocks.0.attn.qkv.weight", 4)},
	"t5xxl_fp8_scaled":     {one("shared.weight", 32128, 4096), one("encoder.block.0.layer.0.SelfAttention.k.weight", 4), one("encoder.block.0.layer.0.SelfAttention.k.scale_weight", 1)},
	"flux1-dev":            {one("double_blocks.0.img_attn.norm.key_norm.scale", 128), one("img_in.weight", 1, 64), one("txt_in.weight", 1, 4096)},
	"sd3.5_large":          {one("model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight", 4), one("first_stage_model.decoder.conv_in.weight", 512, 16, 3, 3)},
	"sdxl_unet":            {one("input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", 2, 2048)},
	"realesrgan":           {one("model.0.weight", 4), one("model.1.sub.0.RDB1.conv1.0.weight", 4)},
}

func TestPartsAreKnownByTheirHeaders(t *testing.T) {
	t.Parallel()
	want := map[string]model.Part{
		"t5xxl_fp16": model.T5, "t5xxl_gguf_like": model.T5, "t5xxl_fp8_scaled": model.T5, "clip_l": model.CLIPL, "clip_g": model.CLIPG, "qwen_2.5_vl_7b": model.Qwen25, "Qwen3-4B": model.Qwen3,
		"ae": model.FluxVAE, "sd3_vae": model.SD3VAE, "qwen_image_vae": model.QwenVAE,
	}
	dir := t.TempDir()
	for name, tensors := range partTensors {
		sparse(t, filepath.Join(dir, name+".safetensors"), tensors...)
	}
	files, err := List(dir)
	if err != nil || len(files) != len(partTensors) {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range inspectAll(files, nil) {
		if got := partOf(&f); got != want[f.Name] {
			t.Errorf("%s is %q, want %q (%s)", f.Name, got, want[f.Name], f.problem)
		}
		if isPart := f.part != model.NoPart; isPart && f.problem != "" {
			t.Errorf("%s has the problem %s", f.Name, f.problem)
		}
	}
}

// gguf files of language models say what they are.
func TestLanguageModelsAreToldApart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		architecture string
		words, width uint64
		want         model.Part
	}{
		{"qwen2vl", 152064, 3584, model.Qwen25}, {"qwen2", 152064, 3584, model.NoPart}, {"qwen3", 151936, 2560, model.Qwen3}, {"qwen3vl", 151936, 2560, model.NoPart},
		{"qwen2", 151936, 2560, model.NoPart}, {"gemma3", 262208, 2560, model.NoPart}, {"gemma2", 256000, 3584, model.NoPart}, {"t5encoder", 32128, 4096, model.T5},
	} {
		seen := traits{architecture: tt.architecture}
		seen.see(one("token_embd.weight", tt.words, tt.width))
		if got := seen.judge(); got.part != tt.want || (tt.want == model.NoPart) != (got.problem != "") {
			t.Errorf("%s of %d words: %q, %s", tt.architecture, tt.words, got.part, got.problem)
		}
	}
}

// Weights whose scales sd-server does not apply are told from those that it reads right, in models and in parts.
func TestScaledWeights(t *testing.T) {
	t.Parallel()
	typed := func(dtype string, of tensor) tensor { of.dtype = dtype; return of }
	const layer = "double_blocks.0.img_attn.proj."
	plain := one("double_blocks.0.img_attn.norm.key_norm.scale", 128)
	for name, tt := range map[string]struct {
		tensors []tensor
		want    bool
	}{
		"16 bits":                         {[]tensor{plain, one(layer+"weight", 4, 4)}, false},
		"8 bits without scales":           {[]tensor{plain, typed("F8_E4M3", one(layer+"weight", 4, 4))}, false},
		"fp8, ComfyUI's first scales":     {[]tensor{plain, typed("F8_E4M3", one(layer+"weight", 4, 4)), typed("F32", one(layer+"scale_weight", 1)), typed("F8_E4M3", one("scaled_fp8", 2))}, true},
		"fp8 inside a checkpoint":         {[]tensor{plain, one("text_encoders.t5xxl.transformer.scaled_fp8", 0), one(layer+"weight", 4, 4)}, true},
		"fp8, ComfyUI's later scales":     {[]tensor{plain, typed("F8_E4M3", one(layer+"weight", 4, 4)), typed("F32", one(layer+"weight_scale", 1)), typed("U8", one(layer+"comfy_quant", 30))}, true},
		"fp8, diffusers":                  {[]tensor{plain, typed("F32", one(layer+"weight_scale", 1)), typed("F8_E5M2", one(layer+"weight", 4, 4))}, true},
		"nvfp4":                           {[]tensor{plain, typed("U8", one(layer+"weight", 4, 4)), typed("F8_E4M3", one(layer+"weight_scale", 4)), typed("F32", one(layer+"weight_scale_2", 1)), typed("U8", one(layer+"comfy_quant", 30))}, true},
		"int8, as ComfyUI describes it":   {[]tensor{plain, typed("I8", one(layer+"weight", 4, 4)), typed("F32", one(layer+"weight_scale", 4, 1)), typed("U8", one(layer+"comfy_quant", 90))}, false},
		"int8 that nothing describes":     {[]tensor{plain, typed("I8", one(layer+"weight", 4, 4)), typed("F32", one(layer+"weight_scale", 4, 1))}, true},
		"int8, and fp8 in another module": {[]tensor{plain, typed("I8", one(layer+"weight", 4, 4)), typed("F32", one(layer+"weight_scale", 4, 1)), typed("U8", one(layer+"comfy_quant", 90)), typed("F8_E4M3", one("img_in.weight", 4, 4))}, true},
	} {
		path := filepath.Join(t.TempDir(), "model.safetensors")
		sparse(t, path, tt.tensors...)
		if got := inspectFile(File{Path: path}); got.scaled != tt.want || got.problem != "" {
			t.Errorf("%s: scaled is %v; %s", name, got.scaled, got.problem)
		}
	}
}

// A part that sd-server can't read right is missing, and said to be there.
func TestScaledPartIsMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"flux1-dev", "t5xxl_fp8_scaled", "t5xxl-00001-of-00002", "clip_l", "ae"} {
		sparse(t, filepath.Join(dir, name+".safetensors"), partTensors[name]...)
	}
	usable, err := Look(dir)
	if err != nil || len(usable) != 1 || usable[0].Parts != nil {
		t.Fatalf("%+v, %v", usable, err)
	}
	const want = "a T5-XXL text encoder (t5xxl_fp16.safetensors; t5xxl_fp8_scaled is there, but sd-server can't read its scaled 8-bit weights)"
	if got := usable[0].Missing; len(got) != 1 || got[0] != want {
		t.Errorf("missing %q", got)
	}
}

// A piece of a file is no model and no part, and its problem says why.
func TestPieces(t *testing.T) {
	t.Parallel()
	s := newShelf(t, nil)
	for name, of := range map[string]string{"diffusion_pytorch_model-00001-of-00003": "flux1-dev", "text-00001-OF-00002": "t5xxl_fp16", "flux2_vae": "ae"} {
		sparse(t, filepath.Join(s.dir, name+".safetensors"), partTensors[of]...)
	}
	s.scan(t.Context())
	if usable := s.Usable(); len(usable) != 0 {
		t.Errorf("%+v", usable)
	}
	for _, m := range s.Library.Library().Models {
		if want := map[bool]string{true: "the file is a piece", false: "the file is a VAE"}[strings.Contains(m.Name, "0")]; m.Part != model.NoPart || !strings.HasPrefix(m.Problem, want) {
			t.Errorf("%s: %q, %q", m.Name, m.Part, m.Problem)
		}
	}
}

// A model of several files can be used as soon as all are there, wherever they stand, and says until then what is missing.
func TestModelIsCompletedByItsParts(t *testing.T) {
	t.Parallel()
	s := newShelf(t, nil)
	put := func(under ...string) {
		name := under[len(under)-1]
		sparse(t, filepath.Join(append([]string{s.dir}, under...)...)+".safetensors", partTensors[name]...)
		s.scan(t.Context())
	}
	flux := func() (model.Model, *Model) {
		t.Helper()
		all := s.Library.Library().Models
		at := slices.IndexFunc(all, func(m model.Model) bool { return m.Name == "flux1-dev" })
		if at < 0 {
			t.Fatalf("it is not listed: %v", all)
		}
		for _, m := range s.Usable() {
			if m.Name == "flux1-dev" {
				return all[at], &m
			}
		}
		return all[at], nil
	}
	put("flux1-dev")
	m, usable := flux()
	if len(m.Missing) != 3 || !strings.Contains(m.Missing[0], "a T5-XXL text encoder (t5xxl_fp16.safetensors)") || len(usable.Parts) != 0 {
		t.Fatalf("%+v", m)
	}
	before := m.VRAMBytes
	put("text_encoders", "t5xxl_fp8_scaled")
	put("Text_Encoders", "t5xxl_fp16") // the plain one is read by every generator
	put("clip", "clip_l")
	put("loras", "ae") // no folder of parts
	if m, _ := flux(); len(m.Missing) != 1 || !strings.Contains(m.Missing[0], "the FLUX VAE") || strings.Join(m.With, " ") != "t5xxl_fp16 clip_l" {
		t.Fatalf("missing %q with %q", m.Missing, m.With)
	}
	put("ae") // beside the models
	m, usable = flux()
	if len(m.Missing) != 0 || strings.Join(m.With, " ") != "t5xxl_fp16 clip_l ae" || len(usable.Parts) != 3 || usable.Parts[0].Part != model.T5 ||
		filepath.Base(usable.Parts[0].Path) != "t5xxl_fp16.safetensors" || usable.Parts[0].Bytes < 200<<20 {
		t.Errorf("missing %q with %q, %+v", m.Missing, m.With, usable.Parts)
	}
	if vae := uint64(usable.Parts[2].Bytes); m.VRAMBytes != before+vae || m.VRAMBytes > before+gpu.GiB {
		t.Errorf("needs %d, before %d: the VAE counts, text encoders do not", m.VRAMBytes, before)
	}
	for _, other := range s.Usable() {
		if other.Name == "ae" {
			t.Error("a VAE is offered as a model")
		}
	}
	if !s.Barred("ae") {
		t.Error("a generator's own copy of a part would be offered as a model")
	}
	if err := os.Remove(filepath.Join(s.dir, "clip", "clip_l.safetensors")); err != nil {
		t.Fatal(err)
	}
	s.scan(t.Context())
	if m, usable := flux(); len(m.Missing) != 1 || usable.Parts != nil {
		t.Errorf("without CLIP-L: missing %q, %+v", m.Missing, usable)
	}
}

func TestOnlyWhatIsMissingIsNeeded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"sd3.5_large", "sdxl_unet", "clip_l", "clip_g", "t5xxl_fp16"} {
		sparse(t, filepath.Join(dir, name+".safetensors"), partTensors[name]...)
	}
	usable, err := Look(dir)
	if err != nil || len(usable) != 2 {
		t.Fatalf("%+v, %v", usable, err)
	}
	if sd3 := usable[0]; len(sd3.Parts) != 3 || len(sd3.Missing) != 0 {
		t.Errorf("its VAE is inside: %+v", sd3)
	}
	if unet := usable[1]; unet.Parts != nil || unet.Missing != nil || !unet.Partial {
		t.Errorf("nothing is known to complete it: %+v", unet)
	}
}

// A model of the catalogue brings the parts that are not there, and comes last.
func TestCatalogueBringsParts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var mu sync.Mutex
		var asked []string
		begin := make(chan struct{})
		w.host("hub.test", func(out http.ResponseWriter, in *http.Request) {
			<-begin // what fails at once is asked for anew
			mu.Lock()
			defer mu.Unlock()
			for _, repo := range []string{"leejet", "unsloth", "Comfy-Org"} {
				if strings.Contains(in.URL.Path, repo) && !slices.Contains(asked, repo) {
					asked = append(asked, repo)
				}
			}
			http.NotFound(out, in)
		})
		s := newShelf(t, w)
		q, ok := CatalogueRequest("z-image-turbo")
		if !ok {
			t.Fatal("it is not in the catalogue")
		}
		sparse(t, filepath.Join(s.dir, "vae", "mine.safetensors"), partTensors["ae"]...)
		s.scan(t.Context())
		in := s.ask(q)
		if again := s.ask(q); again.ID != in.ID {
			t.Errorf("asked twice it is %s and %s", in.ID, again.ID)
		}
		close(begin)
		s.ended(in.ID)
		installs := s.Library.Library().Installs
		if len(installs) != 2 || installs[0].ID != in.ID || installs[1].Name != "Qwen3-4B-Instruct-2507-Q4_K_M" {
			t.Errorf("%+v", installs)
		}
		mu.Lock()
		defer mu.Unlock()
		if strings.Join(asked, " ") != "unsloth leejet" {
			t.Errorf("asked for %q", asked)
		}
	})
}

// zImage puts the catalogue's Z-Image into the folder, with its text encoder.
func zImage(t *testing.T, s *shelf) Request {
	t.Helper()
	sparse(t, filepath.Join(s.dir, "z_image_turbo-Q8_0.safetensors"), one("noise_refiner.0.attention.qkv.weight", 4), one("cap_embedder.1.weight", 3840, 1))
	sparse(t, filepath.Join(s.dir, "text_encoders", "qwen.safetensors"), partTensors["Qwen3-4B"]...)
	s.scan(t.Context())
	q, ok := CatalogueRequest("z-image-turbo")
	if !ok {
		t.Fatal("it is not in the catalogue")
	}
	return q
}

// Where a model of the catalogue lacks a part, asking for it brings that part, which goes on where it failed.
func TestMissingPartsComeForAModelThatIsHere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, vae := newWorld(t), safetensors(one("decoder.conv_in.weight", 2, 16, 1, 1), one("encoder.down.0.block.0.conv1.weight", 1<<20))
		var mu sync.Mutex
		var ranges []string
		mended := false
		w.host("hub.test", func(out http.ResponseWriter, in *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case strings.Contains(in.URL.Path, "/tree/"):
				_, _ = out.Write([]byte(hubTree(map[string][]byte{"split_files/vae/ae.safetensors": vae})))
				return
			case mended:
				ranges = append(ranges, in.Header.Get("Range"))
				serveFile(vae, `"a"`)(out, in)
				return
			case in.Header.Get("Range") != "":
				http.NotFound(out, in)
				return
			}
			out.Header().Set("ETag", `"a"`)
			out.Header().Set("Content-Length", strconv.Itoa(len(vae)))
			_, _ = out.Write(vae[:1<<20])
			out.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
		s := newShelf(t, w)
		q := zImage(t, s)
		installed := func() bool {
			all := Recommend(nil, s.Library.Library())
			return all[slices.IndexFunc(all, func(r model.Recommendation) bool { return r.Name == "z-image-turbo" })].Installed
		}
		in := s.ended(s.ask(q).ID)
		if in.Name != "ae" || in.State != model.Failed || installed() {
			t.Fatalf("%+v; installed: %v", in, installed())
		}
		mu.Lock()
		mended = true
		mu.Unlock()
		again := s.ask(q)
		if now := s.ended(again.ID); again.ID != in.ID || now.State != model.Installed {
			t.Fatalf("%+v after %+v", now, in)
		}
		s.scan(t.Context())
		if all := s.Library.Library(); len(all.Installs) != 1 || !installed() {
			t.Errorf("%+v; installed: %v", all.Installs, installed())
		}
		mu.Lock()
		defer mu.Unlock()
		if want := fmt.Sprintf("bytes=%d-", 1<<20); len(ranges) != 1 || ranges[0] != want {
			t.Errorf("asked for %q, want %q", ranges, want)
		}
		if _, err := s.Install(t.Context(), q); !errors.Is(err, ErrExists) {
			t.Errorf("with nothing missing: %v", err)
		}
	})
}

// A model and its parts are taken all or none: they count as many as they are, and a name that is taken by something else is said.
func TestPartsAreTakenAllOrNone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host("files.test", func(_ http.ResponseWriter, in *http.Request) { <-in.Context().Done() })
		s := newShelf(t, w)
		for i := range maxWaiting - 2 {
			s.ask(Request{URL: fmt.Sprintf("https://files.test/m/%d.gguf", i)})
		}
		q, _ := CatalogueRequest("z-image-turbo") // of three files
		if _, err := s.Install(t.Context(), q); !errors.Is(err, ErrFull) {
			t.Errorf("with room for two: %v", err)
		}
		sparse(t, filepath.Join(s.dir, "vae", "mine.safetensors"), partTensors["ae"]...)
		s.scan(t.Context())
		s.ask(q)
		if got := len(s.Library.Library().Installs); got != maxWaiting {
			t.Errorf("%d installations", got)
		}
	})
	s := newShelf(t, nil)
	q := zImage(t, s)
	sparse(t, filepath.Join(s.dir, "ae.safetensors"), partTensors["t5xxl_fp16"]...)
	s.scan(t.Context())
	if _, err := s.Install(t.Context(), q); !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), `z_image_turbo-Q8_0 needs the FLUX VAE, and "ae" in the models folder is none`) {
		t.Errorf("%v", err)
	}
	if got := s.Library.Library().Installs; len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

// A part is not taken away from a model that is loaded; from any other it is, which then says what it lacks.
func TestPartOfALoadedModelStays(t *testing.T) {
	t.Parallel()
	var loaded atomic.Bool
	s := newShelf(t, nil, func(c *Config) {
		c.Loaded = func(name string) []gpu.Ref {
			if name == "flux1-dev" && loaded.Load() {
				return []gpu.Ref{0, 3}
			}
			return nil
		}
	})
	for _, name := range []string{"flux1-dev", "t5xxl_fp16", "clip_l", "ae", "sd3_vae"} {
		sparse(t, filepath.Join(s.dir, name+".safetensors"), partTensors[name]...)
	}
	s.scan(t.Context())
	loaded.Store(true)
	err := s.Remove(t.Context(), "ae")
	if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "flux1-dev, which is loaded on Device 0, Device 3, needs it; unload that first: muster devices drain 0 3") {
		t.Errorf("%v", err)
	}
	if err := s.Remove(t.Context(), "sd3_vae"); err != nil {
		t.Errorf("one that it does not need: %v", err)
	}
	loaded.Store(false)
	if err := s.Remove(t.Context(), "ae"); err != nil {
		t.Error(err)
	}
	s.scan(t.Context()) // one that was under way may have seen it still
	if usable := s.Usable(); len(usable) != 1 || len(usable[0].Missing) != 1 || usable[0].Parts != nil {
		t.Errorf("%+v", usable)
	}
}

// sd-server widens weights of 8 bits to 16: what it needs is twice the file.
func TestWeightsOfEightBitsTakeTwiceTheirFile(t *testing.T) {
	t.Parallel()
	for dtype, want := range map[string]uint64{"F8_E4M3": 256, "F16": 128} {
		text := `{"double_blocks.0.img_attn.norm.key_norm.scale":{"dtype":"` + dtype + `","shape":[` + map[string]string{"F8_E4M3": "128", "F16": "64"}[dtype] + `],"data_offsets":[0,128]}}`
		content := raw(text, 128)
		if found, err := inspect(bytes.NewReader(content), int64(len(content)), formatSafetensors); err != nil || found.weights != want {
			t.Errorf("%s: %d bytes, want %d, %v", dtype, found.weights, want, err)
		}
	}
}
