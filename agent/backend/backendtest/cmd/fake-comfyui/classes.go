package main

import (
	"slices"
	"strings"
)

// input is what a node takes.
type input struct {
	name, kind string // "MODEL", "STRING", "INT", "FLOAT", or "COMBO" for one of options
	options    func(s *server) []string
	least      float64
	most       float64 // 0: no bounds
	optional   bool
}

// class is a type of node.
type class struct {
	inputs  []input
	outputs []string
	shows   bool // an output node
}

func combo(name string, options ...string) input {
	return input{name: name, kind: "COMBO", options: func(*server) []string { return options }}
}

func files(name, folder string) input {
	return input{name: name, kind: "COMBO", options: func(s *server) []string {
		list := s.list(folder)
		if folder == "vae" {
			list = append(list, "pixel_space")
		}
		return list
	}}
}

func link(name, kind string) input { return input{name: name, kind: kind} }

func integer(name string, least, most float64) input {
	return input{name: name, kind: "INT", least: least, most: most}
}

func float(name string, least, most float64) input {
	return input{name: name, kind: "FLOAT", least: least, most: most}
}

func either(in input) input {
	in.optional = true
	return in
}

var (
	samplers = strings.Fields("euler euler_cfg_pp euler_ancestral euler_ancestral_cfg_pp heun heunpp2 dpm_2 dpm_2_ancestral lms dpm_fast dpm_adaptive " +
		"dpmpp_2s_ancestral dpmpp_2s_ancestral_cfg_pp dpmpp_sde dpmpp_sde_gpu dpmpp_2m dpmpp_2m_cfg_pp dpmpp_2m_sde dpmpp_2m_sde_gpu dpmpp_2m_sde_heun " +
		"dpmpp_2m_sde_heun_gpu dpmpp_3m_sde dpmpp_3m_sde_gpu ddpm lcm ipndm ipndm_v deis res_multistep res_multistep_cfg_pp res_multistep_ancestral " +
		"gradient_estimation er_sde seeds_2 seeds_3 sa_solver ddim uni_pc uni_pc_bh2")
	schedulers = strings.Fields("simple sgm_uniform karras exponential ddim_uniform beta normal linear_quadratic kl_optimal")
	clipTypes  = strings.Fields("stable_diffusion stable_cascade sd3 stable_audio mochi ltxv pixart cosmos lumina2 wan hidream chroma ace omnigen2 qwen_image hunyuan_image")
)

const maxSide, maxSeed = 16384, 18446744073709551615

// classes are the nodes that this server has.
var classes = map[string]class{
	"CheckpointLoaderSimple": {inputs: []input{files("ckpt_name", "checkpoints")}, outputs: []string{"MODEL", "CLIP", "VAE"}},
	"UNETLoader": {inputs: []input{files("unet_name", "diffusion_models"), combo("weight_dtype", "default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2")},
		outputs: []string{"MODEL"}},
	"CLIPLoader": {inputs: []input{files("clip_name", "text_encoders"), combo("type", clipTypes...), either(combo("device", "default", "cpu"))}, outputs: []string{"CLIP"}},
	"DualCLIPLoader": {inputs: []input{files("clip_name1", "text_encoders"), files("clip_name2", "text_encoders"),
		combo("type", "sdxl", "sd3", "flux", "hunyuan_video", "hidream", "hunyuan_image"), either(combo("device", "default", "cpu"))}, outputs: []string{"CLIP"}},
	"VAELoader":             {inputs: []input{files("vae_name", "vae")}, outputs: []string{"VAE"}},
	"CLIPTextEncode":        {inputs: []input{{name: "text", kind: "STRING"}, link("clip", "CLIP")}, outputs: []string{"CONDITIONING"}},
	"PrimitiveString":       {inputs: []input{{name: "value", kind: "STRING"}}, outputs: []string{"STRING"}},
	"ConditioningZeroOut":   {inputs: []input{link("conditioning", "CONDITIONING")}, outputs: []string{"CONDITIONING"}},
	"FluxGuidance":          {inputs: []input{link("conditioning", "CONDITIONING"), float("guidance", 0, 100)}, outputs: []string{"CONDITIONING"}},
	"EmptyLatentImage":      {inputs: []input{integer("width", 16, maxSide), integer("height", 16, maxSide), integer("batch_size", 1, 4096)}, outputs: []string{"LATENT"}},
	"EmptySD3LatentImage":   {inputs: []input{integer("width", 16, maxSide), integer("height", 16, maxSide), integer("batch_size", 1, 4096)}, outputs: []string{"LATENT"}},
	"ModelSamplingAuraFlow": {inputs: []input{link("model", "MODEL"), float("shift", 0, 100)}, outputs: []string{"MODEL"}},
	"KSampler": {inputs: []input{link("model", "MODEL"), integer("seed", 0, maxSeed), integer("steps", 1, 10000), float("cfg", 0, 100), combo("sampler_name", samplers...),
		combo("scheduler", schedulers...), link("positive", "CONDITIONING"), link("negative", "CONDITIONING"), link("latent_image", "LATENT"), float("denoise", 0, 1)},
		outputs: []string{"LATENT"}},
	"VAEDecode":    {inputs: []input{link("samples", "LATENT"), link("vae", "VAE")}, outputs: []string{"IMAGE"}},
	"SaveImage":    {inputs: []input{link("images", "IMAGE"), {name: "filename_prefix", kind: "STRING"}}, shows: true},
	"PreviewImage": {inputs: []input{link("images", "IMAGE")}, shows: true},
}

// objectInfo is node_info of a class.
func (s *server) objectInfo(name string) map[string]any {
	c := classes[name]
	required, optional, order := map[string]any{}, map[string]any{}, []string{}
	for _, in := range c.inputs {
		info := []any{in.kind, map[string]any{}}
		if in.kind == "COMBO" {
			info[0] = in.options(s)
			if !s.settings.Older && name == "KSampler" { // nodes of the newer kind tell their options so
				info = []any{"COMBO", map[string]any{"options": in.options(s)}}
			}
		}
		if in.optional {
			optional[in.name] = info
			continue
		}
		required[in.name] = info
		order = append(order, in.name)
	}
	lists := make([]bool, len(c.outputs))
	return map[string]any{
		"input": map[string]any{"required": required, "optional": optional}, "input_order": map[string]any{"required": order}, "output": c.outputs,
		"output_is_list": lists, "output_name": c.outputs, "name": name, "display_name": name, "description": "", "python_module": "nodes", "category": "sd",
		"output_node": c.shows,
	}
}

func (in input) has(s *server, value string) bool { return slices.Contains(in.options(s), value) }
