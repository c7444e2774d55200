package sdapi

// program is one of those that speak /sdapi/v1, by what it does unlike the others.
type program struct {
	name string // for people
	// grid is what it makes of a width or height: a multiple of so many pixels.
	grid      int
	maxSteps  int   // it clamps more without a word; 0 for none
	maxSeed   int64 // larger ones become random; 0 for none
	web       bool  // one of the web UIs: options, progress, interrupt, memory
	switches  bool  // its options load a model at once, and a setting for one image loads the former one again afterwards
	lazy      bool  // it loads a model with the first image that needs it
	tasks     bool  // it may tell of single calls
	progress  bool  // it tells how far whatever runs is
	counts    bool  // its errors do not tell of memory, but its counter of failed allocations does
	drops     bool  // it may give up what nobody waits for any more: the connection is closed to cancel
	distilled bool  // distilled_cfg_scale is the guidance that a model has of its own
	pipelines bool  // cfg_scale is whatever guidance a model has, or there are no models with one of their own
	mark      bool  // options show the settings of the running image, the mark's among them (see mark)
}

// The programs. Their own names for sizes and steps are bounded before they are sent, because all of them clamp silently.
var (
	a1111     = program{name: "AUTOMATIC1111's web UI", grid: 8, web: true, tasks: true, progress: true, pipelines: true}
	forge     = program{name: "Forge", grid: 8, web: true, tasks: true, progress: true, lazy: true, counts: true, distilled: true}
	sdnext    = program{name: "SD.Next", grid: 8, web: true, switches: true, progress: true, counts: true, mark: true, pipelines: true}
	koboldcpp = program{name: "koboldcpp", grid: 64, maxSteps: 80, maxSeed: 1<<31 - 1, drops: true, progress: true}
	sdserver  = program{name: "sd-server", grid: 64, maxSteps: 100, lazy: true}
)

func (p program) known() bool { return p.name != "" }

// side is what the program makes of a width or height.
func (p program) side(pixels int) int { return (pixels + p.grid - 1) / p.grid * p.grid }

// seed is the one that is sent for a job's: some programs take those above 31 bits, and 0, for "any". The last takes the place of 0.
func (p program) seed(seed int64) int64 {
	switch {
	case p.maxSeed == 0:
		return seed
	case seed&p.maxSeed == 0:
		return p.maxSeed
	}
	return seed & p.maxSeed
}
