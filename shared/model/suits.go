package model

import (
	"path"
	"strings"
)

// names tell a family by a part of a file's path in lower case, "/" between folders. The first that fits counts: "flux" would fit
// Chroma's files too.
var names = []struct {
	part   string
	family Family
}{
	{"chroma", Chroma}, {"qwen_image", QwenImage}, {"qwen-image", QwenImage}, {"qwenimage", QwenImage},
	{"z_image", ZImage}, {"z-image", ZImage}, {"zimage", ZImage},
	{"flux2", Unknown}, {"flux.2", Unknown}, {"flux-2", Unknown}, {"flux", Flux},
	{"sd3", SD3}, {"stable-diffusion-3", SD3}, {"sd_3", SD3}, {"sd-3", SD3},
	{"sd_xl", SDXL}, {"sdxl", SDXL}, {"-xl", SDXL}, {"_xl", SDXL}, {"xl_", SDXL}, {"xl-", SDXL}, {"xl/", SDXL},
	{"pony", SDXL}, {"illustrious", SDXL}, {"noobai", SDXL}, {"animagine", SDXL},
	{"v2-1", SD2}, {"v2-0", SD2}, {"sd2", SD2}, {"sd_2", SD2}, {"sd_turbo", SD2}, {"sd-turbo", SD2}, {"768-v", SD2},
	{"v1-5", SD1}, {"v1-4", SD1}, {"sd15", SD1}, {"sd1.5", SD1}, {"sd_1", SD1}, {"sd-v1", SD1},
}

// FamilyOfName guesses a model's family by its name, or by its file's with folders; Unknown when it does not know.
func FamilyOfName(file string) Family {
	file = strings.ToLower(strings.ReplaceAll(file, `\`, "/"))
	for _, n := range names {
		if strings.Contains(file, n.part) {
			return n.family
		}
	}
	return Unknown
}

// Suits is what a model makes good images with, for commands that leave it open.
type Suits struct {
	Side     int     // pixels, of a square image
	Steps    int     // sampling steps
	Guidance float64 // guidance scale: classifier-free, or what a distilled model has in its place
}

// families give what their authors' model cards and the generators' own examples use; Unknown is what muster always had.
var families = map[Family]Suits{
	Unknown: {512, 20, 7}, SD1: {512, 20, 7}, SD2: {768, 20, 7}, SDXL: {1024, 20, 7}, SD3: {1024, 28, 4.5}, Flux: {1024, 20, 3.5},
	Chroma: {1024, 26, 4}, QwenImage: {1024, 20, 2.5}, ZImage: {1024, 28, 5},
}

// few are parts of names of models that were distilled to few steps; 0 guidance leaves the family's. The first that fits counts.
var few = []struct {
	part     string
	steps    int
	guidance float64
}{
	{"schnell", 4, 0}, {"lightning", 4, 1}, {"hyper", 8, 1}, {"dmd2", 4, 1}, {"lcm", 6, 1.5}, {"turbo", 4, 1},
}

// SuitsOf gives what suits a model of a family, by its name.
func SuitsOf(f Family, name string) Suits {
	suits, known := families[f]
	if !known {
		suits = families[Unknown]
	}
	name = strings.ToLower(path.Base(strings.ReplaceAll(name, `\`, "/")))
	for _, n := range few {
		if !strings.Contains(name, n.part) {
			continue
		}
		suits.Steps = n.steps
		if n.guidance != 0 {
			suits.Guidance = n.guidance
		}
		break
	}
	switch turbo := strings.Contains(name, "turbo"); {
	case turbo && f == ZImage:
		suits.Steps = 8
	case turbo && (f == SDXL || f == SD2 || f == SD1):
		suits.Side = 512
	}
	return suits
}

// OwnGuidance says that a model takes its guidance as a number of its own, beside the classifier-free scale, which must be 1: any other
// makes it twice as slow and its images garish.
func (f Family) OwnGuidance() bool { return f == Flux }

// Unguided says that a model knows no guidance: it is made with a scale of 1, whatever is asked for.
func Unguided(f Family, name string) bool {
	return f == ZImage && strings.Contains(strings.ToLower(name), "turbo")
}
