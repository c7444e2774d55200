package models

import (
	"strings"

	"muster/shared/model"
)

// traits collects what tells models apart: names and shapes of a few tensors. stable-diffusion.cpp and ComfyUI know them by the
// same ones (leejet/stable-diffusion.cpp src/model_loader.cpp, Comfy-Org/ComfyUI comfy/model_detection.py).
type traits struct {
	architecture string // what a gguf file says of itself; "" when it does not

	tensors, lora int
	weights       uint64 // bytes in memory, without copies of the weights that only training needs

	// What is inside.
	textEncoder, vae                                                     bool
	controlNet, upscaler, visionEncoder, adapter, embedding, motion, llm bool

	// The diffusion model's own marks.
	unet, fluxBlocks, fluxDiffusers, distilled, laterFlux, sd3, qwen, captions, refiner, video bool

	contextWidth uint64 // what the UNet's cross attention takes; 0 when there is none
	textWidth    uint64 // what txt_in takes
	imageWidth   uint64 // what img_in takes
	captionWidth uint64 // what cap_embedder gives

	// The marks of parts, see parts.go; 0 where there are none.
	clipWidth, words, wordWidth, latentChannels, filmChannels uint64
	sees                                                      bool // a language model that is shown images too

	// The marks of weights with scales beside them, see scaled.go.
	oldScales, scales, packed, configured bool
}

// see takes one tensor into account.
func (t *traits) see(one tensor) {
	t.tensors++
	if strings.HasPrefix(one.name, "model_ema.") {
		return // a copy for training, which generators leave on the disk
	}
	t.weights += one.bytes
	if strings.HasPrefix(one.dtype, "F8_") {
		t.weights += one.bytes // sd-server has 16 bits for each (src/model_io/safetensors_io.cpp); ComfyUI would keep 8
	}
	t.seeScales(one)
	t.seeEncoder(one)
	if anyIn(one.name, ".lora_", ".lora.", "_lora.", "lora_unet_", "lora_te", ".hada_w", ".lokr_w", ".oft_", ".boft_") {
		t.lora++
		return
	}
	name, inside := strings.CutPrefix(one.name, "model.diffusion_model.")
	if !inside {
		if t.seePart(one.name) {
			return
		}
		for _, prefix := range []string{"diffusion_model.", "unet.", "net."} {
			if cut, ok := strings.CutPrefix(name, prefix); ok {
				name = cut
				break
			}
		}
	}
	t.seeDiffusion(name, one.shape)
}

// parts are the beginnings of names by which everything but the diffusion model is known, inside a checkpoint or as a file of its
// own.
var parts = []struct {
	mark     func(*traits) *bool
	prefixes []string
}{
	{func(t *traits) *bool { return &t.controlNet }, []string{"control_model.", "controlnet_", "controlnet.", "input_hint_block.", "zero_convs."}},
	{func(t *traits) *bool { return &t.adapter }, []string{"ip_adapter.", "image_proj.", "image_proj_model."}},
	{func(t *traits) *bool { return &t.embedding }, []string{"emb_params", "string_to_param"}},
	{func(t *traits) *bool { return &t.textEncoder }, []string{
		"cond_stage_model.", "conditioner.", "text_encoders.", "text_encoder.", "text_encoder_2.", "text_encoder_3.", "te.", "te1.", "te2.",
		"text_model.", "transformer.resblocks.", "encoder.block.", "enc.blk.", "shared.weight", "text_projection",
	}},
	{func(t *traits) *bool { return &t.vae }, []string{
		"first_stage_model.", "vae.", "decoder.conv_in.", "decoder.up.", "decoder.up_blocks.", "decoder.mid", "encoder.conv_in.", "encoder.down",
		"decoder.upsamples.", "encoder.downsamples.", "decoder.layers.", "encoder.layers.", "post_quant_conv.", "quant_conv.",
	}},
	{func(t *traits) *bool { return &t.upscaler }, []string{"model.0.", "model.1.sub.", "RRDB_trunk.", "conv_first.", "upconv1.", "conv_up1.", "body.0."}},
	{func(t *traits) *bool { return &t.visionEncoder }, []string{"vision_model.", "visual.blocks.", "visual.transformer."}},
	{func(t *traits) *bool { return &t.llm }, []string{"model.layers.", "model.embed_tokens.", "token_embd.", "blk.0.", "language_model."}},
}

func (t *traits) seePart(name string) bool {
	if strings.Contains(name, "motion_modules.") {
		t.motion = true
		return true
	}
	for _, part := range parts {
		for _, prefix := range part.prefixes {
			if strings.HasPrefix(name, prefix) {
				*part.mark(t) = true
				return true
			}
		}
	}
	return false
}

func (t *traits) seeDiffusion(name string, shape []uint64) {
	has := strings.HasPrefix
	switch {
	case has(name, "input_blocks."), has(name, "down_blocks."):
		t.unet = true
	case has(name, "double_blocks.0.img_mlp.gate_proj."), has(name, "double_stream_modulation_img."), has(name, "nerf_"):
		t.laterFlux = true // Ovis, FLUX.2, Chroma Radiance: of the same build, and asked for in other ways
	case has(name, "double_blocks.0.img_attn."):
		t.fluxBlocks = true
	case has(name, "single_transformer_blocks."):
		t.fluxDiffusers = true
	case has(name, "distilled_guidance_layer."):
		t.distilled = true
	case has(name, "joint_blocks.0."):
		t.sd3 = true
	case has(name, "transformer_blocks.0.img_mod."):
		t.qwen = true
	case has(name, "noise_refiner.0."):
		t.refiner = true
	case has(name, "txt_in.individual_token_refiner."), has(name, "blocks.0.cross_attn.norm_k."), has(name, "adaln_single."):
		t.video = true // Hunyuan Video, Wan, LTX
	}
	if anyIn(name, ".time_stack.", ".time_mixer.", ".temporal_") {
		t.video = true
	}
	width := func(at int) uint64 {
		if at < len(shape) {
			return shape[at]
		}
		return 0
	}
	switch {
	case strings.HasSuffix(name, ".attn2.to_k.weight") && t.contextWidth == 0:
		t.contextWidth = width(1)
	case name == "txt_in.weight", name == "context_embedder.weight":
		t.textWidth = width(1)
	case name == "img_in.weight":
		t.imageWidth = width(1)
	case name == "cap_embedder.1.weight":
		t.captions, t.captionWidth = true, width(0)
	}
}

// judge says what the file is.
func (t *traits) judge() inspection {
	family, diffusion := t.family()
	if problem := t.noModel(diffusion); problem != "" {
		if part := t.part(); part != model.NoPart {
			return inspection{part: part, scaled: t.scaled(), weights: t.weights}
		}
		return inspection{problem: problem}
	}
	return inspection{family: family, partial: !t.textEncoder || !t.vae, encoders: t.textEncoder, vae: t.vae, scaled: t.scaled(), weights: t.weights}
}

// What the widths stand for: a text encoder's vectors.
const (
	clipL, openCLIP, bothCLIPs = 768, 1024, 2048
	longCatText                = 3584 // LongCat-Image is built as FLUX.1 is
	mageImage                  = 128  // Mage-Flow as Qwen-Image is
	zImageWidth                = 3840 // Lumina 2, of the same build, has 2304
)

// family gives the family, and whether there is a diffusion model at all.
func (t *traits) family() (f model.Family, diffusion bool) {
	flux := t.fluxBlocks || t.fluxDiffusers
	diffusion = t.unet || flux || t.laterFlux || t.sd3 || t.qwen || t.refiner || t.video
	switch {
	case t.video, t.laterFlux:
	case flux && t.distilled:
		f = model.Chroma
	case flux && t.textWidth != longCatText:
		f = model.Flux
	case t.sd3:
		f = model.SD3
	case t.qwen && t.imageWidth != mageImage:
		f = model.QwenImage
	case t.refiner && t.captions && t.captionWidth == zImageWidth:
		f = model.ZImage
	case t.unet && t.contextWidth == clipL:
		f = model.SD1
	case t.unet && t.contextWidth == openCLIP:
		f = model.SD2
	case t.unet && t.contextWidth == bothCLIPs:
		f = model.SDXL
	}
	return f, diffusion
}

// noModel says what a file is that is no model of its own; "" when it may be one.
func (t *traits) noModel(diffusion bool) string {
	beside := ": generators load it beside a model, from a folder of its own"
	switch {
	case t.tensors == 0:
		return "holds no weights: " + again
	case t.lora*3 >= t.tensors:
		return "is a LoRA, which changes a model and is none" + beside
	case t.controlNet:
		return "is a ControlNet, which guides a model and is none" + beside
	case t.motion:
		return "is a motion module, which animates a model and is none" + beside
	case t.adapter:
		return "is an image adapter, which guides a model and is none" + beside
	case diffusion:
		return ""
	case t.embedding:
		return "is an embedding, which stands for words in a prompt" + beside
	case t.vae && t.textEncoder:
		return "holds text encoders and a VAE but no diffusion model: it can't make images"
	case t.vae:
		return "is a VAE, one part of a model" + beside
	case t.textEncoder, t.llm, textArchitectures[t.architecture]:
		return "is a text encoder or a language model, one part of a model" + beside
	case t.visionEncoder:
		return "is an image encoder" + beside
	case t.upscaler:
		return "is an upscaler, which enlarges images" + beside
	}
	return ""
}

// textArchitectures are what gguf files of text encoders and language models say of themselves.
var textArchitectures = map[string]bool{
	"t5": true, "t5encoder": true, "clip": true, "llama": true, "qwen2": true, "qwen2vl": true, "qwen3": true, "qwen3vl": true,
	"gemma2": true, "gemma3": true, "mistral3": true, "phi3": true,
}

func anyIn(name string, pieces ...string) bool {
	for _, piece := range pieces {
		if strings.Contains(name, piece) {
			return true
		}
	}
	return false
}
