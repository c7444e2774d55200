package model

import "testing"

func TestFamilyOfName(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]Family{
		"v1-5-pruned-emaonly.safetensors": SD1, "v2-1_768-ema.safetensors": SD2, "sd_xl_base_1.0.safetensors": SDXL, "ponyDiffusionV6XL.safetensors": SDXL,
		"SDXL/juggernaut.safetensors": SDXL, `SDXL\juggernaut.safetensors`: SDXL, "sd3.5_medium.safetensors": SD3, "flux1-dev-fp8.safetensors": Flux, "FLUX/dev.sft": Flux,
		"chroma-unlocked-v47.safetensors": Chroma, "Chroma1-HD-flash.safetensors": Chroma, "qwen_image_fp8_e4m3fn.safetensors": QwenImage, "z_image_turbo_bf16.safetensors": ZImage,
		"flux2-dev.safetensors": Unknown, "wan2.1_t2v.safetensors": Unknown, "dreamshaper_8.safetensors": Unknown, "": Unknown,
		// What people mix has the names of several families.
		"sdxlFluxStyle_v1": SDXL, "fluxtapoz-sdxl": SDXL, "flux/juggernautXL_v9.safetensors": SDXL, "monochromaXL_v2": SDXL, "monochrome": Unknown, "cyberrealistic_v1-5xl": SDXL,
		"anything-v2-1": Unknown, "dreamshaperXL.safetensors": SDXL, "v2-1_512-ema-pruned": SD2, "sd_turbo": SD2, "sdxl/flux1-dev.gguf": Flux, "black-forest-labs/FLUX.1-dev": Flux,
		"sd_xl_base_1.0.safetensors [31e35c80fc]": SDXL,
	} {
		if got := FamilyOfName(file); got != want {
			t.Errorf("%s is taken for %q; want %q", file, got, want)
		}
	}
}

func TestSuitsOf(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Suits{
		"sketch": {512, 20, 7}, "v1-5-pruned": {512, 20, 7}, "sd_xl_base_1.0": {1024, 20, 7}, "sd_xl_turbo_1.0_fp16": {512, 4, 1}, "sd_turbo": {512, 4, 1},
		"sdxl_lightning_4step": {1024, 4, 1}, "sdxl_lightning_8step": {1024, 8, 1}, "flux1-dev-fp8": {1024, 20, 3.5}, "flux1-schnell-fp8": {1024, 4, 3.5}, "z_image_turbo-Q3_K": {1024, 8, 1},
		"z_image_bf16": {1024, 28, 5}, "turbo/dreamshaper": {512, 20, 7}, "sd3.5_large_turbo": {1024, 6, 1}, "Qwen-Image-Lightning": {1024, 4, 1}, "v2-1_512-ema-pruned": {512, 20, 7},
		"hyperRealism_v3": {512, 20, 7}, "sdxl_hyperdetail": {1024, 20, 7}, "dreamshaperXL_v21TurboDPMSDE": {1024, 6, 2}, "TurboVisionXL": {1024, 6, 2}, "Hyper-SDXL-8steps": {1024, 8, 1},
		"flux1-dev-hyper8": {1024, 8, 3.5}, "FLUX.1-dev-Turbo": {1024, 8, 3.5}, "lcm-sd15": {512, 6, 1.5}, "juggernautXL_v9_20steps": {1024, 20, 7},
	} {
		if got := SuitsOf(FamilyOfName(name), name); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	if got := SuitsOf("no such family", "x"); got != families[Unknown] {
		t.Errorf("%+v", got)
	}
}

func TestUnguided(t *testing.T) {
	t.Parallel()
	if !Unguided(ZImage, "Z_Image_Turbo") || Unguided(ZImage, "z_image") || Unguided(SDXL, "sdxl_turbo") || !Flux.OwnGuidance() || Chroma.OwnGuidance() {
		t.Error("only Z-Image Turbo knows no guidance, and only FLUX.1 has one of its own")
	}
}
