package models

import "strings"

// Scaled weights: 8 or 4 bits each, and beside them the scales by which they are to be multiplied. Without those they are off by orders
// of magnitude, and the images noise or white. ComfyUI knows all kinds (comfy/ops.py, comfy/quant_ops.py). sd-server, up to
// stable-diffusion.cpp's build 827 at least, applies them to whole numbers alone that a "comfy_quant" tensor describes, and takes all
// others for weights without scales (docs/int8_convrot.md; src/model_io/safetensors_io.cpp; class Linear of src/core/ggml_extend.hpp).
// Floating-point weights of 8 bits without scales it reads right.

// seeScales takes a tensor into account that is a scale, or may have one.
func (t *traits) seeScales(one tensor) {
	name := one.name
	switch {
	case strings.HasSuffix(name, ".scale_weight"), name == "scaled_fp8", strings.HasSuffix(name, ".scaled_fp8"):
		t.oldScales = true
	case strings.HasSuffix(name, ".weight_scale"), strings.HasSuffix(name, ".weight_scale_2"), strings.HasSuffix(name, ".weight_scale_inv"):
		t.scales = true
	case strings.HasSuffix(name, ".comfy_quant"):
		t.configured = true
	case strings.HasSuffix(name, ".weight") && (strings.HasPrefix(one.dtype, "F8_") || one.dtype == "U8"):
		t.packed = true
	}
}

// scaled says whether there are scales that sd-server does not apply.
func (t *traits) scaled() bool {
	return t.oldScales || t.scales && (t.packed || !t.configured)
}
