package models

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/shared/model"
)

// raw builds a safetensors file of any header and so many bytes of data.
func raw(header string, data int) []byte {
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(file, header...), make([]byte, data)...)
}

// gguf builds a file of version 3 with an architecture and F16 tensors.
func gguf(architecture string, tensors ...tensor) []byte {
	u32, u64 := binary.LittleEndian.AppendUint32, binary.LittleEndian.AppendUint64
	text := func(b []byte, s string) []byte { return append(u64(b, uint64(len(s))), s...) }
	b := u64(u64(u32([]byte(ggufMagic), 3), uint64(len(tensors))), 3)
	b = text(u32(text(b, "general.architecture"), ggufString), architecture)
	b = u64(u32(u32(text(b, "some.list"), ggufArray), ggufString), 2) // two strings
	b = text(text(b, "one"), "two")
	b = append(u32(text(b, "some.flag"), 7), 1)
	at := uint64(0)
	for _, one := range tensors {
		b = u32(text(b, one.name), uint32(len(one.shape)))
		for i := len(one.shape) - 1; i >= 0; i-- {
			b = u64(b, one.shape[i])
		}
		b = u64(u32(b, 1), at)
		size, _ := product(2, one.shape)
		at += (size + 31) / 32 * 32
	}
	b = append(b, make([]byte, (32-len(b)%32)%32)...)
	return append(b, make([]byte, at)...)
}

func one(name string, shape ...uint64) tensor { return tensor{name: name, shape: shape} }

// files of every kind, by the names of their tensors as they are published.
func kinds() map[string]struct {
	tensors []tensor
	family  model.Family
	partial bool
	problem string
} {
	type kind = struct {
		tensors []tensor
		family  model.Family
		partial bool
		problem string
	}
	const unet = "model.diffusion_model."
	clip, vae := one("cond_stage_model.transformer.text_model.embeddings.token_embedding.weight", 2, 768), one("first_stage_model.decoder.conv_in.weight", 4)
	cross := func(prefix string, width uint64) []tensor {
		return []tensor{one(prefix+"input_blocks.0.0.weight", 2, 4, 3, 3), one(prefix+"input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", 2, width)}
	}
	with := func(tensors []tensor, more ...tensor) []tensor {
		return append(append([]tensor{}, tensors...), more...)
	}
	flux := []tensor{one("double_blocks.0.img_attn.norm.key_norm.scale", 128), one("img_in.weight", 1, 64), one("txt_in.weight", 1, 4096)}
	return map[string]kind{
		"sd1":                   {with(cross(unet, 768), clip, vae), model.SD1, false, ""},
		"sd1 without VAE":       {with(cross(unet, 768), clip), model.SD1, true, ""},
		"sd1 UNet alone":        {cross("", 768), model.SD1, true, ""},
		"sd1 of diffusers":      {[]tensor{one("down_blocks.0.resnets.0.conv1.weight", 320), one("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", 2, 768)}, model.SD1, true, ""},
		"sd2":                   {with(cross(unet, 1024), one("cond_stage_model.model.token_embedding.weight", 2, 1024), vae), model.SD2, false, ""},
		"sdxl":                  {with(cross(unet, 2048), one("conditioner.embedders.1.model.token_embedding.weight", 2, 1280), vae), model.SDXL, false, ""},
		"sdxl UNet alone":       {cross("diffusion_model.", 2048), model.SDXL, true, ""},
		"sdxl refiner":          {with(cross(unet, 1280), one("conditioner.embedders.0.model.token_embedding.weight", 2, 1280), vae), model.Unknown, false, ""},
		"sd3 with encoders":     {[]tensor{one(unet+"joint_blocks.0.context_block.attn.qkv.weight", 4), one("text_encoders.clip_l.transformer.text_model.embeddings.token_embedding.weight", 4), vae}, model.SD3, false, ""},
		"sd3 without":           {[]tensor{one(unet+"joint_blocks.0.context_block.attn.qkv.weight", 4), vae}, model.SD3, true, ""},
		"flux alone":            {flux, model.Flux, true, ""},
		"flux with everything":  {[]tensor{one(unet+"double_blocks.0.img_attn.norm.key_norm.scale", 128), one(unet+"txt_in.weight", 1, 4096), one("text_encoders.t5xxl.transformer.shared.weight", 4), one("vae.decoder.conv_in.weight", 4)}, model.Flux, false, ""},
		"flux of diffusers":     {[]tensor{one("single_transformer_blocks.0.attn.to_q.weight", 4), one("transformer_blocks.0.attn.to_q.weight", 4)}, model.Flux, true, ""},
		"flux 2":                {with(flux, one("double_stream_modulation_img.lin.weight", 4)), model.Unknown, true, ""},
		"longcat":               {[]tensor{flux[0], one("txt_in.weight", 1, 3584)}, model.Unknown, true, ""},
		"chroma":                {with(flux, one("distilled_guidance_layer.norms.0.scale", 4)), model.Chroma, true, ""},
		"chroma radiance":       {with(flux, one("distilled_guidance_layer.norms.0.scale", 4), one("nerf_blocks.0.norm.scale", 4)), model.Unknown, true, ""},
		"qwen image":            {[]tensor{one("transformer_blocks.0.img_mod.1.weight", 4), one("img_in.weight", 1, 64)}, model.QwenImage, true, ""},
		"mage flow":             {[]tensor{one("transformer_blocks.0.img_mod.1.weight", 4), one("img_in.weight", 1, 128)}, model.Unknown, true, ""},
		"z-image":               {[]tensor{one("noise_refiner.0.attention.k_norm.weight", 4), one("cap_embedder.1.weight", 3840, 1)}, model.ZImage, true, ""},
		"lumina 2":              {[]tensor{one("noise_refiner.0.attention.k_norm.weight", 4), one("cap_embedder.1.weight", 2304, 1)}, model.Unknown, true, ""},
		"svd":                   {with(cross(unet, 1024), one(unet+"input_blocks.1.1.time_stack.0.attn1.to_q.weight", 4), one("conditioner.embedders.0.x", 4), vae), model.Unknown, false, ""},
		"something new":         {[]tensor{one("blocks.7.magic.weight", 4)}, model.Unknown, true, ""},
		"LoRA of kohya":         {[]tensor{one("lora_unet_down_blocks_0.lora_up.weight", 4), one("lora_unet_down_blocks_0.lora_down.weight", 4), one("lora_unet_down_blocks_0.alpha", 1)}, "", false, "is a LoRA"},
		"LoRA of diffusers":     {[]tensor{one("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight", 4), one("unet.down_blocks.0.lora.up.weight", 4)}, "", false, "is a LoRA"},
		"LoRA of a flux":        {[]tensor{one("diffusion_model.double_blocks.0.img_attn.proj.lora_A.weight", 4), one("diffusion_model.double_blocks.0.img_attn.proj.lora_B.weight", 4)}, "", false, "is a LoRA"},
		"LoKr":                  {[]tensor{one("lycoris_x.lokr_w1", 4), one("lycoris_x.lokr_w2", 4)}, "", false, "is a LoRA"},
		"VAE":                   {[]tensor{one("decoder.up.0.block.0.conv1.weight", 4), one("encoder.down.0.block.0.conv1.weight", 4)}, "", false, "is a VAE"},
		"VAE of a checkpoint":   {[]tensor{vae}, "", false, "is a VAE"},
		"text encoders and VAE": {[]tensor{vae, clip}, "", false, "no diffusion model"},
		"CLIP":                  {[]tensor{one("text_model.embeddings.token_embedding.weight", 2, 768)}, "", false, "is a text encoder"},
		"T5":                    {[]tensor{one("encoder.block.0.layer.0.SelfAttention.k.weight", 4), one("shared.weight", 4)}, "", false, "is a text encoder"},
		"language model":        {[]tensor{one("model.layers.0.self_attn.q_proj.weight", 4)}, "", false, "language model"},
		"upscaler":              {[]tensor{one("model.0.weight", 4), one("model.1.sub.0.RDB1.conv1.0.weight", 4)}, "", false, "is an upscaler"},
		"ControlNet":            {[]tensor{one("control_model.input_blocks.0.0.weight", 4)}, "", false, "is a ControlNet"},
		"ControlNet, diffusers": {[]tensor{one("controlnet_cond_embedding.conv_in.weight", 4), one("down_blocks.0.resnets.0.conv1.weight", 4)}, "", false, "is a ControlNet"},
		"IP adapter":            {[]tensor{one("image_proj.proj.weight", 4), one("ip_adapter.1.to_k_ip.weight", 4)}, "", false, "is an image adapter"},
		"embedding":             {[]tensor{one("emb_params", 8, 768)}, "", false, "is an embedding"},
		"CLIP vision":           {[]tensor{one("vision_model.embeddings.class_embedding", 4)}, "", false, "is an image encoder"},
		"motion module":         {[]tensor{one("down_blocks.0.motion_modules.0.temporal_transformer.norm.weight", 4)}, "", false, "is a motion module"},
		"nothing":               {nil, "", false, "holds no weights"},
	}
}

func TestKindsOfFiles(t *testing.T) {
	t.Parallel()
	for name, test := range kinds() {
		for format, content := range map[string][]byte{formatSafetensors: safetensors(test.tensors...), formatGGUF: gguf("", test.tensors...)} {
			got, err := inspect(bytes.NewReader(content), int64(len(content)), format)
			if err != nil {
				t.Errorf("%s as %s: %v", name, format, err)
			}
			if got.family != test.family || got.partial != test.partial || (test.problem == "") != (got.problem == "") || !strings.Contains(got.problem, test.problem) {
				t.Errorf("%s as %s: %+v", name, format, got)
			}
		}
	}
	content := gguf("qwen2vl", one("x.weight", 4))
	if got, _ := inspect(bytes.NewReader(content), int64(len(content)), formatGGUF); !strings.Contains(got.problem, "language model") {
		t.Errorf("a language model by what it says of itself: %+v", got)
	}
}

// Weights that only training needs are not loaded, and are not counted.
func TestWeightsThatCount(t *testing.T) {
	t.Parallel()
	content := safetensors(one("model.diffusion_model.input_blocks.0.0.weight", 1000), one("model_ema.input_blocks00weight", 5000))
	got, err := inspect(bytes.NewReader(content), int64(len(content)), formatSafetensors)
	if err != nil || got.weights != 2000 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestDamagedSafetensors(t *testing.T) {
	t.Parallel()
	whole := sd1(1000)
	for name, test := range map[string]struct {
		content []byte
		want    string
	}{
		"empty":                   {nil, "cut short"},
		"seven bytes":             {whole[:7], "cut short: only 7 bytes"},
		"within the header":       {whole[:100], "cut short"},
		"within the weights":      {whole[:len(whole)-1234], "cut short: 1234 bytes are missing, install it again"},
		"more after the weights":  {append(bytes.Clone(whole), 1, 2, 3), "3 bytes follow its last tensor"},
		"a huge header":           {raw("{}", 0)[:0:0], "cut short"},
		"a header of 2^63":        {binary.LittleEndian.AppendUint64(nil, 1<<63), "no safetensors file"},
		"a header of 33 MiB":      {binary.LittleEndian.AppendUint64(nil, 33<<20), "no safetensors file"},
		"no JSON":                 {raw("garbage!", 0), "no safetensors file"},
		"an array":                {raw("[1,2]", 0), "no safetensors file"},
		"half an object":          {raw(`{"a":{"dtype":"F16"`, 0), "no safetensors file"},
		"two objects":             {raw(`{"__metadata__":{}}{}`, 0), "something after its header"},
		"a name twice":            {raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), `"a" twice`},
		"metadata twice":          {raw(`{"__metadata__":{},"__metadata__":{}}`, 0), "twice"},
		"overlap":                 {raw(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3), "overlap"},
		"a hole":                  {raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, 3), "holes"},
		"offsets that are turned": {raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}`, 1), "damaged at its tensor"},
		"one offset":              {raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1]}}`, 1), "damaged at its tensor"},
		"offsets outside":         {raw(`{"a":{"dtype":"Q9","shape":[1],"data_offsets":[0,18446744073709551615]}}`, 1), "cut short"},
		"another size":            {raw(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, 4), "another size"},
		"a shape that overflows":  {raw(`{"a":{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,4]}}`, 4), "another size"},
		"a negative shape":        {raw(`{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}`, 4), "no safetensors file"},
		"too many dimensions":     {raw(`{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}`, 4), "damaged at its tensor"},
		"no tensors":              {raw(`{"__metadata__":{}}`, 0), "holds no weights"},
	} {
		got, err := inspect(bytes.NewReader(test.content), int64(len(test.content)), formatSafetensors)
		if err != nil || !strings.Contains(got.problem, test.want) {
			t.Errorf("%s: %q, %v; want %q", name, got.problem, err, test.want)
		}
	}
	if got, err := inspect(bytes.NewReader(whole), int64(len(whole)), formatSafetensors); err != nil || got.problem != "" {
		t.Errorf("a whole one: %+v, %v", got, err)
	}
}

// What a header costs does not grow with what one value of it holds. It is not parallel: it counts what the process allocates.
func TestLongValuesOfSafetensorsCostLittle(t *testing.T) {
	const entry = `{"dtype":"U8","shape":[1],"data_offsets":[0,1]}`
	long := strings.Repeat("1,", 12<<20)
	for name, header := range map[string]string{
		"a shape":       `{"a":{"dtype":"U8","shape":[` + long + `1],"data_offsets":[0,1]}}`,
		"offsets":       `{"a":{"dtype":"U8","shape":[1],"data_offsets":[` + long + `1]}}`,
		"a name":        `{"` + long + `":` + entry + `}`,
		"metadata":      `{"__metadata__":{"x":"` + long + `"},"a":` + entry + `}`,
		"another field": `{"a":{"x":"` + long + `","dtype":"U8","shape":[1],"data_offsets":[0,1]}}`,
		"spaces":        `{"a":` + entry + `}` + strings.Repeat(" ", 24<<20),
	} {
		content := raw(header, 1)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := inspect(bytes.NewReader(content), int64(len(content)), formatSafetensors)
		runtime.ReadMemStats(&after)
		if err != nil || !strings.Contains(got.problem, "no entry of it is so long") {
			t.Errorf("%s: %q, %v", name, got.problem, err)
		}
		if spent := after.TotalAlloc - before.TotalAlloc; spent > 24<<20 {
			t.Errorf("%s: %d MiB were allocated for a header of %d", name, spent>>20, len(header)>>20)
		}
	}
	for name, header := range map[string]string{
		"much metadata": `{"__metadata__":{"x":"` + strings.Repeat("1", 3<<20) + `"},"a":` + entry + `}`,
		"padded":        `{"a":` + entry + `}` + strings.Repeat(" ", 1000),
	} {
		content := raw(header, 1)
		if got, err := inspect(bytes.NewReader(content), int64(len(content)), formatSafetensors); err != nil || strings.Contains(got.problem, "header") {
			t.Errorf("%s: %q, %v", name, got.problem, err)
		}
	}
}

func TestDamagedGGUF(t *testing.T) {
	t.Parallel()
	whole := gguf("sd1", one("model.diffusion_model.input_blocks.0.0.weight", 100), one("model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", 1, 768))
	change := func(at int, with ...byte) []byte {
		changed := bytes.Clone(whole)
		copy(changed[at:], with)
		return changed
	}
	for name, test := range map[string]struct {
		content []byte
		want    string
	}{
		"empty":             {nil, "cut short"},
		"another magic":     {[]byte("GGML...................."), "no gguf file"},
		"version 1":         {change(4, 1), "version 1"},
		"big-endian":        {change(4, 0, 0, 0, 3), "version 50331648"},
		"2^63 tensors":      {change(8, 0, 0, 0, 0, 0, 0, 0, 0x80), "damaged"},
		"2^63 keys":         {change(16, 0, 0, 0, 0, 0, 0, 0, 0x80), "damaged"},
		"a key of 2^63":     {change(24, 0, 0, 0, 0, 0, 0, 0, 0x80), "damaged"},
		"within its header": {whole[:90], "cut short inside its header"},
		"within its data":   {whole[:len(whole)-100], "cut short: 100 bytes are missing"},
	} {
		got, err := inspect(bytes.NewReader(test.content), int64(len(test.content)), formatGGUF)
		if err != nil || !strings.Contains(got.problem, test.want) {
			t.Errorf("%s: %q, %v; want %q", name, got.problem, err, test.want)
		}
	}
	if got, err := inspect(bytes.NewReader(whole), int64(len(whole)), formatGGUF); err != nil || got.problem != "" || got.family != model.SD1 {
		t.Errorf("a whole one: %+v, %v", got, err)
	}
}

// Whatever a header says, what is read of it is bounded.
func TestNestedArraysEnd(t *testing.T) {
	t.Parallel()
	u32, u64 := binary.LittleEndian.AppendUint32, binary.LittleEndian.AppendUint64
	b := u64(u64(u32([]byte(ggufMagic), 3), 0), 1)
	b = append(u64(b, 1), 'k')
	b = u32(b, ggufArray)
	for range 1000 {
		b = u64(u32(b, ggufArray), 1)
	}
	got, err := inspect(bytes.NewReader(b), int64(len(b)), formatGGUF)
	if err != nil || !strings.Contains(got.problem, "unknown type") {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzSafetensors(f *testing.F) {
	f.Add(sd1(10))
	f.Add(raw(`{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}`, 2))
	f.Fuzz(func(t *testing.T, content []byte) { sane(t, content, formatSafetensors) })
}

func FuzzGGUF(f *testing.F) {
	f.Add(gguf("flux", one("double_blocks.0.img_attn.norm.key_norm.scale", 128)))
	f.Fuzz(func(t *testing.T, content []byte) { sane(t, content, formatGGUF) })
}

func sane(t *testing.T, content []byte, format string) {
	got, err := inspect(bytes.NewReader(content), int64(len(content)), format)
	if err != nil {
		t.Fatalf("memory can't fail: %v", err)
	}
	if got.problem == "" && format == formatSafetensors && got.weights > uint64(len(content)) {
		t.Errorf("%d bytes of weights in %d bytes", got.weights, len(content))
	}
	if got.problem != "" && (got.family != "" || got.weights != 0) {
		t.Errorf("%+v", got)
	}
	if len(got.problem) > 400 {
		t.Errorf("a problem of %d bytes", len(got.problem))
	}
}

func TestNextPage(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		"": "", `<https://hub.test/b?cursor=1>; rel="next"`: "https://hub.test/b?cursor=1",
		`<https://hub.test/a>; rel="prev", <https://hub.test/c>; rel="next"`:           "https://hub.test/c",
		`<https://hub.test/c>; rel="next", <https://hub.test/a>; rel="prev"`:           "https://hub.test/c",
		`</api/c?d=1,2>; title="a, <b>; x"; rel=next, </api/a>; rel=prev`:              "https://hub.test/api/c?d=1,2",
		`<https://hub.test/a>; rel="prev first",<https://hub.test/c>; REL="last next"`: "https://hub.test/c",
		`<https://hub.test/a>; rel="nextish"`:                                          "", `<https://hub.test/a>; rel=next-archive`: "", `https://hub.test/a; rel="next"`: "",
		`<https://evil.test/a>; rel="next"`: "", `<http://hub.test/a>; rel="next"`: "", `<https://hub.test/a`: "", `rel="next"`: "",
	} {
		response := &http.Response{Header: http.Header{"Link": {header}}, Request: &http.Request{URL: must1(url.Parse("https://hub.test/api/models"))}}
		if got := nextPage(response); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
}

func FuzzHubTree(f *testing.F) {
	f.Add(`[{"type":"file","path":"a.gguf","size":1,"lfs":{"oid":"x","size":1}}]`, "a.gguf")
	f.Fuzz(func(t *testing.T, body, file string) {
		found, err := findEntry(strings.NewReader(body), file)
		if err == nil && found != nil && found.Path != file {
			t.Errorf("asked for %q, found %q", file, found.Path)
		}
	})
}

// A file is inspected once, and again when it has changed.
func TestScan(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newShelf(t, nil, func(c *Config) { c.Dir = dir })
	s.stop()
	write(t, filepath.Join(dir, "whole.safetensors"), string(sd1(100)))
	write(t, filepath.Join(dir, "lora.safetensors"), string(safetensors(one("lora_unet_x.lora_up.weight", 4))))
	write(t, filepath.Join(dir, "garbage.gguf"), "no model")
	write(t, filepath.Join(dir, "growing.safetensors"), string(sd1(1000)[:len(sd1(1000))-500]))
	must(t, os.Symlink(filepath.Join(dir, "whole.safetensors"), filepath.Join(dir, "link.safetensors")))
	s.scan(t.Context())
	var got []string
	for _, m := range s.Library.Library().Models {
		got = append(got, fmt.Sprintf("%s %s %q", m.Name, m.Family, m.Problem))
	}
	want := []string{
		`garbage  "the file is no gguf file: it does not begin as one"`,
		`growing  "the file is cut short: 500 bytes are missing, install it again"`,
		`link sd1 ""`,
		`lora  "the file is a LoRA, which changes a model and is none: generators load it beside a model, from a folder of its own"`,
		`whole sd1 ""`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if usable := s.Usable(); len(usable) != 2 {
		t.Errorf("usable: %+v", usable)
	}
	// The inspection is kept: a file that looks the same is not opened again.
	must(t, os.Chmod(filepath.Join(dir, "whole.safetensors"), 0))
	s.mu.Lock()
	for i := range s.files {
		if s.files[i].Name == "whole" {
			s.files[i].family = model.Chroma
		}
	}
	s.mu.Unlock()
	write(t, filepath.Join(dir, "growing.safetensors"), string(sd1(1000)))
	s.scan(t.Context())
	for _, m := range s.Library.Library().Models {
		if m.Name == "whole" && m.Family != model.Chroma || m.Name == "growing" && m.Problem != "" {
			t.Errorf("%+v", m)
		}
	}
}

func TestMissingFolder(t *testing.T) {
	t.Parallel()
	s := newShelf(t, nil, func(c *Config) { c.Dir, c.Make = filepath.Join(c.Dir, "none"), false })
	if got := s.Library.Library(); !strings.Contains(got.Problem, "create it, or name another with --models") || len(got.Models) > 0 {
		t.Errorf("%+v", got)
	}
	must(t, os.MkdirAll(s.config.Dir, 0o700))
	s.scan(t.Context())
	if got := s.Library.Library(); got.Problem != "" {
		t.Errorf("once it is there: %+v", got)
	}
}

// header of a whole file stays readable for whoever builds one by these helpers.
func TestHelpers(t *testing.T) {
	t.Parallel()
	content := sd1(10)
	length := binary.LittleEndian.Uint64(content)
	if !json.Valid(content[8 : 8+length]) {
		t.Error("no JSON")
	}
}
