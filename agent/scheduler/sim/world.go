// Package sim measures how well a scheduler spreads images: a discrete-event simulator of a machine with several GPUs, on which
// the real scheduler (scheduler.Core) and the policies of other programs do the same work. What is simulated, and what is good
// enough, stands in the design's BENCHMARKS.md, part 1.
//
// It has a virtual clock, no goroutine and no sleep: the same World gives the same Result to the last bit, but for how long
// deciding took. Policies see what their program would see (Machine): never the noise of an image, nor what comes.
package sim

import (
	"math"
	"math/rand/v2"

	"muster/shared/gpu"
)

// Device is one GPU of a box.
type Device struct {
	Speed  float64 // images take Model.Seconds ÷ Speed
	Memory uint64  // bytes
}

// Box is a machine.
type Box struct {
	Name       string
	Devices    []Device
	LoadBase   float64 // seconds of loading any model, beside reading its file
	ColdRate   float64 // bytes/s of a file that no device has loaded yet
	CachedRate float64 // bytes/s of one that some device has
}

// Rates of loading where a trace does not tell.
const (
	loadBase   = 2.0
	coldRate   = 2e9
	cachedRate = 6e9
)

func box(name string, devices ...Device) Box {
	return Box{Name: name, Devices: devices, LoadBase: loadBase, ColdRate: coldRate, CachedRate: cachedRate}
}

func device(speed, gib float64) Device { return Device{Speed: speed, Memory: uint64(gib * gpu.GiB)} }

// Boxes are the machines of the benchmark.
var Boxes = []Box{
	box("het4", device(1, 24), device(.6, 24), device(.55, 24), device(.25, 12)),
	box("hom4", device(1, 24), device(1, 24), device(1, 24), device(1, 24)),
	box("two", device(1, 12), device(.3, 8)),
	box("het8", device(1, 24), device(1, 24), device(.6, 24), device(.6, 24), device(.6, 24), device(.25, 12), device(.25, 12), device(.25, 12)),
}

// speed is the sum of the devices'.
func (b *Box) speed() float64 {
	sum := 0.0
	for _, d := range b.Devices {
		sum += d.Speed
	}
	return sum
}

// fits gives the devices whose memory is enough for the model when nothing else is on them.
func (b *Box) fits(m Model) []int {
	var fits []int
	for d := range b.Devices {
		if m.Memory <= b.Devices[d].Memory {
			fits = append(fits, d)
		}
	}
	return fits
}

// load is the seconds of loading a model.
func (b *Box) load(m Model, cached bool) float64 {
	if cached {
		return b.LoadBase + m.File/b.CachedRate
	}
	return b.LoadBase + m.File/b.ColdRate
}

// Model is what images are made with.
type Model struct {
	Name    string
	File    float64 // bytes
	Memory  uint64  // bytes of device memory
	Seconds float64 // of one image at speed 1
}

// Models are those of the benchmark, and Shares how often each is asked for.
var (
	Models = []Model{
		{"sd15", 2.1e9, 35 * gpu.GiB / 10, 1.5},
		{"sdxl", 6.9e9, 95 * gpu.GiB / 10, 6},
		{"flux-q8", 12.7e9, 16 * gpu.GiB, 20},
	}
	Shares = []float64{.2, .6, .2}
)

// Set is one command: Count images of one model.
type Set struct {
	At    float64 // seconds
	Model int     // position in World.Models
	Count int
}

// Kind is what befalls a device.
type Kind string

// The kinds of disturbances.
const (
	Dead Kind = "dead" // it is gone: the running image and the loaded model are lost
	Busy Kind = "busy" // another program takes Compute of its speed and Memory of its memory
	Hot  Kind = "hot"  // it runs at Speed of its speed
)

// Disturbance befalls a device for a while.
type Disturbance struct {
	At, For float64 // seconds
	Device  int
	Kind    Kind
	Compute float64 // share
	Memory  float64 // share
	Speed   float64 // share
}

// Telemetry is how what was measured reaches the policies.
type Telemetry string

// The ways of telemetry.
const (
	Live   Telemetry = ""       // every second, World.Stale late
	Frozen Telemetry = "frozen" // nothing new after frozenAt
	Absent Telemetry = "absent" // never
)

// World is all that happens to a machine. Nobody changes it once it runs.
type World struct {
	Box          Box
	Models       []Model
	Sets         []Set // by At
	Disturbances []Disturbance
	Noise        float64 // of an image's seconds: the deviation of their logarithm
	Seed         uint64
	Stale        float64 // seconds that telemetry is late
	PriorError   float64 // what predicted is told of each device's speed is wrong by this factor, up or down; 1 is right
	Warm         int     // model that every device holds at first where it fits; −1 for none
	Telemetry    Telemetry
}

// Streams of random numbers, so that none depends on how many another has used.
const (
	noiseStream = iota + 1
	priorStream
	policyStream
	trafficStream
	disturbanceStream
)

func random(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }

func (w *World) images() int {
	n := 0
	for _, s := range w.Sets {
		n += s.Count
	}
	return n
}

// works gives the seconds that each image takes at speed 1, set after set.
func (w *World) works() []float64 {
	works := make([]float64, 0, w.images())
	r := random(w.Seed, noiseStream)
	for _, s := range w.Sets {
		for range s.Count {
			noise := 1.0
			if w.Noise > 0 {
				noise = math.Exp(w.Noise*r.NormFloat64() - w.Noise*w.Noise/2) // 1 on average
			}
			works = append(works, w.Models[s.Model].Seconds*noise)
		}
	}
	return works
}

// priors gives the speeds that predicted is told at first.
func (w *World) priors() []float64 {
	r := random(w.Seed, priorStream)
	priors := make([]float64, len(w.Box.Devices))
	for d := range priors {
		priors[d] = w.Box.Devices[d].Speed
		if w.PriorError > 0 && w.PriorError != 1 {
			if r.IntN(2) == 0 {
				priors[d] *= w.PriorError
			} else {
				priors[d] /= w.PriorError
			}
		}
	}
	return priors
}
