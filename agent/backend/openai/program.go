package openai

// dialect is how a program takes what the images API has no field for.
type dialect int

const (
	fields dialect = iota // seed, num_inference_steps, guidance_scale, negative_prompt: vLLM-Omni, SGLang; others ignore what they don't know
	local                 // LocalAI: seed, step, "positive|negative"
	extra                 // sd-server: JSON between tags within the prompt
)

// program is one of those that speak the images API, by what it does unlike the others.
type program struct {
	name     string // for people
	dialect  dialect
	grid     int   // it makes sizes of whole multiples of so many pixels; 1 is any
	maxSteps int   // it clamps or refuses more
	maxSeed  int64 // larger ones are not what they seem; 0 for none
	// stays says that it makes an image to its end though nobody waits: the connection is kept to know when.
	stays bool
}

// The programs.
var (
	localAI   = program{name: "LocalAI", dialect: local, grid: 64, maxSteps: 1000, maxSeed: 1<<31 - 1}
	vllm      = program{name: "vLLM-Omni", dialect: fields, grid: 16, maxSteps: 200}
	sglang    = program{name: "SGLang", dialect: fields, grid: 16, maxSteps: 1000}
	llamaSwap = program{name: "llama-swap", dialect: fields, grid: 64, maxSteps: 1000}
	sdserver  = program{name: "sd-server", dialect: extra, grid: 64, maxSteps: 100, stays: true}
	unnamed   = program{name: "images API", dialect: fields, grid: 1, maxSteps: 1000}
)

func (p program) known() bool { return p.name != "" }

// side is what is asked for in place of a width or height.
func (p program) side(pixels int) int { return (pixels + p.grid - 1) / p.grid * p.grid }

// seed is the one that is sent for a job's. LocalAI has 31 bits for it, and 0 may mean any: the last takes its place.
func (p program) seed(seed int64) int64 {
	switch {
	case p.maxSeed == 0:
		return seed
	case seed&p.maxSeed == 0:
		return p.maxSeed
	}
	return seed & p.maxSeed
}
