package model

// Part is a file that a model needs beside its own: a text encoder, or a VAE.
type Part string

// The parts that muster tells apart by what is in the file.
const (
	NoPart  Part = ""           // it is none
	T5      Part = "t5-xxl"     // T5 1.1 XXL, the encoder alone
	CLIPL   Part = "clip-l"     // CLIP ViT-L/14, the text model
	CLIPG   Part = "clip-g"     // OpenCLIP ViT-bigG/14, the text model
	Qwen25  Part = "qwen2.5-vl" // Qwen2.5-VL 7B
	Qwen3   Part = "qwen3-4b"   // Qwen3 4B
	FluxVAE Part = "flux-vae"   // of FLUX.1, and of what took it over
	SD3VAE  Part = "sd3-vae"
	QwenVAE Part = "qwen-vae" // of Qwen-Image
)

// Title names a part in a sentence.
func (p Part) Title() string {
	switch p {
	case T5:
		return "a T5-XXL text encoder"
	case CLIPL:
		return "the CLIP-L text encoder"
	case CLIPG:
		return "the CLIP-G text encoder"
	case Qwen25:
		return "the Qwen2.5-VL 7B text encoder"
	case Qwen3:
		return "the Qwen3 4B text encoder"
	case FluxVAE:
		return "the FLUX VAE"
	case SD3VAE:
		return "the SD3 VAE"
	case QwenVAE:
		return "the Qwen image VAE"
	}
	return "no part"
}

// Sample is how a file of it is usually called.
func (p Part) Sample() string {
	switch p {
	case T5:
		return "t5xxl_fp16.safetensors"
	case CLIPL:
		return "clip_l.safetensors"
	case CLIPG:
		return "clip_g.safetensors"
	case Qwen25:
		return "qwen_2.5_vl_7b.safetensors"
	case Qwen3:
		return "qwen_3_4b.safetensors"
	case FluxVAE:
		return "ae.safetensors"
	case SD3VAE:
		return "sd3_vae.safetensors"
	case QwenVAE:
		return "qwen_image_vae.safetensors"
	}
	return ""
}

// VAE says whether it is a VAE; any other part is a text encoder.
func (p Part) VAE() bool { return p == FluxVAE || p == SD3VAE || p == QwenVAE }

// Parts are what a model of the family needs beside its diffusion model; nil for a family that is published whole, or that is not
// known.
func (f Family) Parts() []Part {
	switch f {
	case Flux:
		return []Part{T5, CLIPL, FluxVAE}
	case Chroma:
		return []Part{T5, FluxVAE}
	case SD3:
		return []Part{CLIPL, CLIPG, T5, SD3VAE}
	case QwenImage:
		return []Part{Qwen25, QwenVAE}
	case ZImage:
		return []Part{Qwen3, FluxVAE}
	}
	return nil
}
