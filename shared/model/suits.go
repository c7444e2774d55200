package model

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// sign is a part of a name by which a family is known.
type sign struct {
	family Family
	parts  []string // in lower case; "^" before one wants it at the beginning, "$" behind one at the end
}

// signs tell a family by a name in lower case. The first that fits counts: what people mix and train has the names of several
// families, and such a model is most often one of SDXL.
var signs = []sign{
	{QwenImage, []string{"qwen_image", "qwen-image", "qwenimage"}},
	{ZImage, []string{"z_image", "z-image", "zimage"}},
	{SD3, []string{"sd3", "sd_3", "sd-3", "stable-diffusion-3"}},
	{SDXL, []string{"sdxl", "sd_xl", "_xl", "-xl", "xl_", "xl-", "xl$", "pony", "illustrious", "noobai", "animagine"}},
	{Unknown, []string{"flux2", "flux.2", "flux-2", "flux_2"}},
	{Chroma, []string{"^chroma", "-chroma", "_chroma"}},
	{Flux, []string{"flux"}},
	{SD2, []string{"^v2-1_", "^v2-0_", "^768-v", "^512-base", "sd2", "sd_2", "sd-2", "sd-v2", "stable-diffusion-2", "sd_turbo", "sd-turbo"}},
	{SD1, []string{"^v1-5", "^v1-4", "sd15", "sd1.5", "sd_1", "sd-1", "sd-v1", "stable-diffusion-v1"}},
}

func (s sign) fits(name string) bool {
	return slices.ContainsFunc(s.parts, func(part string) bool {
		if begins, ok := strings.CutPrefix(part, "^"); ok {
			return strings.HasPrefix(name, begins)
		}
		if ends, ok := strings.CutSuffix(part, "$"); ok {
			return strings.HasSuffix(name, ends)
		}
		return strings.Contains(name, part)
	})
}

// FamilyOfName guesses a model's family by its name, or by its file's: by that itself, else by the folders that it stands in, the nearest
// first. It is Unknown when it does not know.
func FamilyOfName(file string) Family {
	file = strings.ToLower(strings.ReplaceAll(file, `\`, "/"))
	parts := strings.Split(file, "/")
	slices.Reverse(parts)
	if extension := path.Ext(parts[0]); slices.Contains(weights, extension) {
		parts[0] = strings.TrimSuffix(parts[0], extension)
	}
	for _, part := range parts {
		for _, s := range signs {
			if s.fits(part) {
				return s.family
			}
		}
	}
	return Unknown
}

var weights = []string{".safetensors", ".gguf", ".ckpt", ".pt", ".pth", ".bin", ".sft"}

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

// few tells a model that was distilled to few steps by a word of its name.
type few struct {
	word     string
	steps    int
	guidance float64 // classifier-free
}

// fews are those words. The first that fits counts. "turbo" may stand within a word, as in TurboVisionXL; the others are words by
// themselves: hyperrealistic models are made in as many steps as any.
var fews = []few{{"schnell", 4, 1}, {"lightning", 4, 1}, {"hyper", 8, 1}, {"hypersd", 8, 1}, {"dmd", 4, 1}, {"lcm", 6, 1.5}, {"turbo", 6, 2}}

// stability are the models that Stability AI itself made for images of 512 pixels in 1 to 4 steps.
var stability = []string{"sd_xl_turbo", "sdxl-turbo", "sdxl_turbo", "sd_turbo", "sd-turbo"}

var (
	notLetters = regexp.MustCompile(`[^a-z]+`)
	stepCount  = regexp.MustCompile(`([1-9][0-9]?)[ _-]?steps?`)
)

// SuitsOf gives what suits a model of a family, by its name.
func SuitsOf(f Family, name string) Suits {
	suits, known := families[f]
	if !known {
		suits = families[Unknown]
	}
	name = strings.ToLower(path.Base(strings.ReplaceAll(name, `\`, "/")))
	suits.hurry(f, name)
	switch {
	case slices.ContainsFunc(stability, func(part string) bool { return strings.Contains(name, part) }):
		suits = Suits{512, 4, 1}
	case f == SD2 && strings.Contains(name, "512"):
		suits.Side = 512
	}
	return suits
}

// hurry takes fewer steps where the name says that the model needs no more.
func (s *Suits) hurry(f Family, name string) {
	words := notLetters.Split(name, -1)
	at := slices.IndexFunc(fews, func(one few) bool {
		return slices.Contains(words, one.word) || one.word == "turbo" && strings.Contains(name, one.word)
	})
	if at < 0 {
		return
	}
	s.Steps = fews[at].steps
	if !f.OwnGuidance() {
		s.Guidance = fews[at].guidance
	}
	if fews[at].word == "turbo" && (f == ZImage || f == Flux) {
		s.Steps = 8
	}
	if Unguided(f, name) || f == SD3 && fews[at].word == "turbo" {
		s.Guidance = 1
	}
	if said := stepCount.FindStringSubmatch(name); said != nil {
		s.Steps, _ = strconv.Atoi(said[1]) // at most two digits
	}
}

// OwnGuidance says that a model takes its guidance as a number of its own, beside the classifier-free scale, which must be 1: any other
// makes it twice as slow and its images garish.
func (f Family) OwnGuidance() bool { return f == Flux }

// Unguided says that a model knows no guidance: it is made with a scale of 1, whatever is asked for.
func Unguided(f Family, name string) bool {
	return f == ZImage && strings.Contains(strings.ToLower(name), "turbo")
}
