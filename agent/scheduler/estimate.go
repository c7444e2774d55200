package scheduler

import "muster/agent/backend"

// Priors of what is learned, used until something was measured.
const (
	priorStepSeconds   = 1.0       // one step of referencePixels at speed 1
	priorSpeed         = 3.0       // of a slot that does not tell
	priorTailSteps     = 0.5       // what is neither step nor loading (text, decoding), in steps
	priorLoadSeconds   = 2.0       // of any model, plus
	priorLoadRate      = 2e9       // bytes/s from a cold disk
	referencePixels    = 512 * 512 // steps of other sizes are scaled by pixels
	scalablePixels     = 256 * 256 // below, a step's fixed costs and chance outweigh its pixels: it tells nothing of other sizes
	learningRate       = 0.4       // weight of a new measurement in the exponential average
	memoryPerMegapixel = 0.15      // share of a model's memory that each megapixel above the first adds
)

// pace is what a measured speed belongs to.
type pace struct {
	slot, model string
	pixels      int
}

// observation is what one attempt that succeeded took. Times are seconds.
type observation struct {
	step   float64 // one step
	tail   float64 // what was neither step nor loading
	load   float64 // of the model; 0 when it was resident
	loaded bool    // the model was loaded by this attempt
	share  float64 // of the device that other programs left meanwhile; 0 counts as 1
}

// estimates learns what an image costs on each slot. It has no clock; only the scheduler's loop uses it.
type estimates struct {
	steps  map[pace]float64      // seconds a step with the device to itself
	tails  map[pace]float64      // seconds
	sizes  map[[2]string]int     // by slot and model: the pixels measured last
	loads  map[[2]string]float64 // seconds, by slot and model
	models map[string]float64    // by model: seconds a step of referencePixels at speed 1
	skills map[string]float64    // by slot: measured speed ÷ prior
	slots  map[string]bool       // on which anything was measured
}

func newEstimates() *estimates {
	return &estimates{
		steps: map[pace]float64{}, tails: map[pace]float64{}, sizes: map[[2]string]int{}, loads: map[[2]string]float64{},
		models: map[string]float64{}, skills: map[string]float64{}, slots: map[string]bool{},
	}
}

// learn takes what an attempt took on a slot of that prior speed. It says whether that was the first of its kind: what was predicted
// before was guessed.
func (e *estimates) learn(at pace, speed float64, o observation) (first bool) {
	_, pacedBefore := e.steps[at]
	_, loadedBefore := e.loads[[2]string{at.slot, at.model}]
	first = !pacedBefore && o.step > 0 || !loadedBefore && o.loaded
	share := o.share
	if share <= 0 {
		share = 1
	}
	if o.loaded {
		blend(e.loads, [2]string{at.slot, at.model}, o.load)
	}
	if o.step <= 0 || at.pixels <= 0 {
		return first
	}
	e.slots[at.slot] = true
	step := o.step * share
	blend(e.steps, at, step)
	blend(e.tails, at, o.tail*share)
	if at.pixels < scalablePixels {
		return first
	}
	e.sizes[[2]string{at.slot, at.model}] = at.pixels
	normal := step * referencePixels / float64(at.pixels) * prior(speed)
	if known, ok := e.models[at.model]; ok {
		blend(e.skills, at.slot, known/normal)
	}
	blend(e.models, at.model, normal*e.skill(at.slot))
	return first
}

func blend[K comparable](averages map[K]float64, key K, value float64) {
	if old, ok := averages[key]; ok {
		value = old + learningRate*(value-old)
	}
	averages[key] = value
}

func prior(speed float64) float64 {
	if speed <= 0 {
		return priorSpeed
	}
	return speed
}

func (e *estimates) skill(slot string) float64 {
	if s, ok := e.skills[slot]; ok {
		return s
	}
	return 1
}

// step is the seconds of one step with the device to itself: measured, else scaled from another size on the same slot, else
// from what other slots took and the prior speeds.
func (e *estimates) step(at pace, speed float64) float64 {
	if s, ok := e.steps[at]; ok {
		return s
	}
	if pixels, ok := e.sizes[[2]string{at.slot, at.model}]; ok {
		return e.steps[pace{at.slot, at.model, pixels}] * float64(at.pixels) / float64(pixels)
	}
	normal, ok := e.models[at.model]
	if !ok {
		normal = priorStepSeconds
	}
	return normal * float64(at.pixels) / referencePixels / (prior(speed) * e.skill(at.slot))
}

// exploring is how much faster than its prior speed says a slot is believed to be that never made an image while others made many: so
// that it is tried once, for priors can be far off.
const exploring = 10

// tried says whether anything was measured on a slot.
func (e *estimates) tried(slot string) bool { return e.slots[slot] }

// measured says whether any slot has made an image with the model; before that, times are guesses.
func (e *estimates) measured(model string) bool {
	_, ok := e.models[model]
	return ok
}

// work is the seconds of one image with the device to itself and the model loaded.
func (e *estimates) work(at pace, speed float64, steps int) float64 {
	step := e.step(at, speed)
	tail, ok := e.tails[at]
	if !ok {
		tail = priorTailSteps * step
	}
	return float64(steps)*step + tail
}

// load is the seconds of loading a model on a slot; 0 for one without a file.
func (e *estimates) load(slot string, model backend.Model) float64 {
	if s, ok := e.loads[[2]string{slot, model.Name}]; ok {
		return s
	}
	if model.Bytes == 0 {
		return 0
	}
	return priorLoadSeconds + float64(model.Bytes)/priorLoadRate
}

// needs is the device memory of an image: the model's figure up to one megapixel, more above.
func needs(model backend.Model, pixels int) uint64 {
	beyond := max(0, float64(pixels)/(1<<20)-1)
	return uint64(float64(model.VRAMBytes) * (1 + memoryPerMegapixel*beyond))
}
