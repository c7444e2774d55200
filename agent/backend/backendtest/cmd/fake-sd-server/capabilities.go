package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

var (
	formats     = []string{"png", "jpeg", "webp"}
	samplers    = strings.Fields("euler euler_a heun dpm2 dpm++2s_a dpm++2m dpm++2mv2 ipndm ipndm_v lcm ddim_trailing tcd res_multistep res_2s er_sde euler_cfg_pp euler_a_cfg_pp euler_ge dpm++2m_sde dpm++2m_sde_bt lms")
	schedulers  = strings.Fields("discrete normal karras exponential ays gits sgm_uniform simple smoothstep kl_optimal lcm bong_tangent ltx2 logit_normal flux2 flux beta")
	latentModes = []string{"Latent", "Latent (nearest)", "Latent (nearest-exact)", "Latent (antialiased)", "Latent (bicubic)", "Latent (bicubic antialiased)"}
)

// float writes a number with at least one decimal, as nlohmann's library writes its floats.
func float(f float64) json.Number {
	text := strconv.FormatFloat(f, 'g', -1, 64)
	if f == math.Trunc(f) && !strings.ContainsAny(text, "e.") {
		text += ".0"
	}
	return json.Number(text)
}

// single is a number that went through a 32-bit float.
func single(f float32) json.Number { return float(float64(f)) }

func named(names []string) []any {
	list := []any{}
	for _, name := range names {
		list = append(list, map[string]any{"name": name})
	}
	return list
}

func sdapiSamplers() []any {
	list := []any{}
	for _, name := range append([]string{"default"}, samplers...) {
		list = append(list, map[string]any{"aliases": []string{name}, "name": name, "options": map[string]any{}})
	}
	return list
}

func sdapiSchedulers() []any {
	list := []any{}
	for _, name := range append([]string{"default"}, schedulers...) {
		list = append(list, map[string]any{"label": name, "name": name})
	}
	return list
}

func sdapiUpscalers() []any {
	list := []any{}
	for _, name := range []string{"None", "Lanczos", "Nearest"} {
		list = append(list, map[string]any{"model_name": nil, "model_path": nil, "model_url": nil, "name": name, "scale": 4})
	}
	return list
}

// loras walks the LoRA folder, by default the working folder, as the real one does with every request.
func (s *server) loras() []any {
	dir := s.options.loras
	if dir == "" {
		dir = "."
	}
	list := []any{}
	_ = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		ext := filepath.Ext(path)
		if err == nil && entry.Type().IsRegular() && (ext == ".safetensors" || ext == ".gguf") {
			if relative, err := filepath.Rel(dir, path); err == nil {
				list = append(list, map[string]any{"name": stem(path), "path": relative})
			}
		}
		return nil
	})
	return list
}

func (s *server) capabilities() map[string]any {
	defaults := s.defaults()
	features := map[string]any{}
	for _, name := range strings.Fields("cache cancel_queued control_image hires init_image ip_adapter_image lora mask_image ref_images vae_tiling") {
		features[name] = true
	}
	features["cancel_generating"] = false
	return map[string]any{
		"current_mode": "img_gen", "supported_modes": []string{"img_gen"},
		"defaults": defaults, "defaults_by_mode": map[string]any{"img_gen": defaults},
		"features": features, "features_by_mode": map[string]any{"img_gen": features},
		"limits":         map[string]any{"max_batch_count": 8, "max_height": 4096, "max_queue_size": maxPending, "max_width": 4096, "min_height": 64, "min_width": 64},
		"loras":          s.loras(),
		"model":          map[string]any{"name": filepath.Base(s.options.model), "path": s.options.model, "stem": stem(s.options.model)},
		"output_formats": formats, "output_formats_by_mode": map[string]any{"img_gen": formats},
		"samplers": samplers, "schedulers": schedulers,
		"upscalers": named(append([]string{"None", "Lanczos", "Nearest"}, latentModes...)),
	}
}

func (s *server) defaults() map[string]any {
	o := s.options
	return map[string]any{
		"auto_resize_ref_image": true, "batch_count": 1, "cache_mode": "", "cache_option": "", "clip_skip": -1,
		"control_strength": single(0.9), "height": o.height,
		"hires": map[string]any{"custom_sigmas": []any{}, "denoising_strength": single(0.7), "enabled": false, "scale": float(2), "steps": 0,
			"target_height": 0, "target_width": 0, "upscale_tile_size": 128, "upscaler": "Latent"},
		"increase_ref_index": false, "ip_adapter_strength": float(1), "negative_prompt": "", "output_compression": 100, "output_format": "png",
		"prompt": "", "qwen_image_layers": 3,
		"sample_params": map[string]any{"eta": nil, "flow_shift": nil,
			"guidance": map[string]any{"distilled_guidance": float(3.5), "img_cfg": nil, "txt_cfg": float(o.guidance),
				"slg": map[string]any{"layer_end": single(0.2), "layer_start": single(0.01), "layers": []int{7, 8, 9}, "scale": float(0)}},
			"sample_method": "default", "sample_steps": o.steps, "scheduler": "default", "shifted_timestep": 0},
		"scm_mask": "", "scm_policy_dynamic": true, "seed": o.seed, "strength": float(0.75),
		"vae_tiling_params": map[string]any{"enabled": false, "extra_tiling_args": "", "rel_size_x": float(0), "rel_size_y": float(0),
			"target_overlap": float(0.5), "temporal_tiling": false, "tile_size_x": 0, "tile_size_y": 0},
		"width": o.width,
	}
}
