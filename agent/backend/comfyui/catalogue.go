package comfyui

import (
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"muster/agent/backend"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/sampler"
)

// Folders of ComfyUI's models.
const (
	folderCheckpoints = "checkpoints"
	folderDiffusion   = "diffusion_models"
	folderEncoders    = "text_encoders"
	folderVAE         = "vae"
)

// maxFiles bounds a list of files, and maxFileName a name of one in bytes.
const (
	maxFiles    = 10_000
	maxFileName = 1000
)

// catalogue is what a ComfyUI has: files by folder, as it names them, and what its sampler knows. Nobody changes it once it is made.
type catalogue struct {
	files    map[string][]string
	samplers *sampler.List // nil when it does not tell
}

// entry is a model that can be asked for.
type entry struct {
	name, title  string
	folder, file string // of ComfyUI; "" for a workflow
	template     *template
	workflow     *Workflow // an imported one; nil for a template's
	family       model.Family
}

// model is the entry as others see it; c is the catalogue that it stands in.
func (e entry) model(c catalogue) backend.Model {
	return backend.Model{Name: e.name, Title: e.title, Family: e.family, Grid: e.grid(), Samplers: e.choice(c)}
}

// anyGrid is what every family of models can make whole multiples of.
const anyGrid = 16

// grid is what both sides of an image are whole multiples of; 0 of a workflow that can't be told a size.
func (e entry) grid() int {
	switch {
	case e.template != nil:
		return e.template.multiple
	case e.workflow.has(SlotWidth) || e.workflow.has(SlotHeight):
		return anyGrid
	}
	return 0
}

// side is what becomes of a width or height: the next whole multiple.
func (e entry) side(pixels int) int {
	grid := max(1, e.grid())
	return (pixels + grid - 1) / grid * grid
}

// choice gives the samplers that it can be told to use: none of a workflow without a place for one.
func (e entry) choice(c catalogue) *sampler.List {
	if e.workflow != nil && !e.workflow.has(SlotSampler) {
		return &sampler.List{}
	}
	return c.samplers
}

// usableFile says whether a name that a server lists may be taken: it goes back into a prompt and is shown to people.
func usableFile(file string) bool {
	return strings.Trim(file, `/\`) == file && file != "" && len(file) <= maxFileName && utf8.ValidString(file) && !strings.ContainsFunc(file, func(r rune) bool { return r < ' ' || r == utf8.RuneError })
}

// split gives a file's folder within ComfyUI's folder, "" for none, and its name without extension.
func split(file string) (dir, stem string) {
	file = strings.ReplaceAll(file, `\`, "/")
	dir, base := path.Split(file)
	return strings.Trim(dir, "/"), strings.TrimSuffix(base, path.Ext(base))
}

// entries gives the models of a catalogue, and the imported workflows. Two files of one name get their folder in front. family tells
// what the library knows of a name; nil, or Unknown, goes by the file's name.
func (c catalogue) entries(family func(name string) model.Family, workflows map[string]*Workflow) []entry {
	var found []entry
	for _, folder := range []string{folderCheckpoints, folderDiffusion} {
		for _, file := range c.files[folder] {
			_, stem := split(file)
			known := model.Unknown
			if family != nil {
				known = family(stem)
			}
			if known == model.Unknown {
				known = model.FamilyOfName(file)
			}
			t := templateOf(folder, known)
			if t == nil || folder == folderDiffusion && editing(file) {
				continue
			}
			found = append(found, entry{name: stem, title: stem, folder: folder, file: file, template: t,
				family: known})
		}
	}
	found = distinguish(found)
	for name, w := range workflows {
		if !slices.ContainsFunc(found, func(e entry) bool { return e.name == name }) {
			found = append(found, entry{name: name, title: name + " (workflow)", workflow: w})
		}
	}
	slices.SortFunc(found, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return found
}

// distinguish gives files that share a name longer ones: "folder: name", and where that is not enough, with their extension. Names
// that are too long for a job are left out.
func distinguish(found []entry) []entry {
	longer := []func(e entry) string{
		func(e entry) string {
			dir, stem := split(e.file)
			if dir == "" {
				dir = e.folder
			}
			return strings.ReplaceAll(dir, "/", " ") + ": " + stem
		},
		func(e entry) string {
			dir, _ := split(e.file)
			return strings.ReplaceAll(strings.Trim(e.folder+" "+dir, " "), "/", " ") + ": " + path.Base(strings.ReplaceAll(e.file, `\`, "/"))
		},
	}
	for _, name := range longer {
		count := map[string]int{}
		for _, e := range found {
			count[e.name]++
		}
		for i, e := range found {
			if count[e.name] > 1 {
				found[i].name = name(e)
				found[i].title = found[i].name
			}
		}
	}
	return slices.DeleteFunc(found, func(e entry) bool { return e.name == "" || len(e.name) > job.MaxNameBytes })
}
