package models

import (
	"cmp"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"muster/shared/model"
)

// PartFile is a file that completes a model.
type PartFile struct {
	Part  model.Part
	Path  string // where a generator opens it; never shown
	Bytes int64  // in memory
}

// partFolders are where text encoders and VAEs stand, within the models folder and besides it itself: ComfyUI's names, and those of
// stable-diffusion-webui and Forge, in lower case.
var partFolders = []string{"clip", "text_encoder", "text_encoders", "vae"}

// What tells parts apart: the widths of a text encoder's vectors and its vocabulary, and the channels of a VAE's latent image.
const (
	clipVocabulary  = 49408
	clipGWidth      = 1280
	t5Width         = 4096
	t5Vocabulary    = 32128
	qwen25Width     = 3584
	qwen3Width      = 2560
	qwenFewest      = 150_000 // words: builds of one model have padded them differently
	qwenMost        = 155_000
	fluxVAEChannels = 16
)

// seeEncoder takes a tensor of a part into account: the table of a text encoder's words, or a VAE's first layer.
func (t *traits) seeEncoder(one tensor) {
	if strings.HasPrefix(one.name, "visual.") || strings.HasPrefix(one.name, "model.visual.") {
		t.sees = true
	}
	if len(one.shape) < 2 {
		return
	}
	rows, width := one.shape[0], one.shape[1]
	switch name := one.name; {
	case name == "text_model.embeddings.token_embedding.weight" && rows == clipVocabulary:
		t.clipWidth = width
	case name == "shared.weight", name == "encoder.embed_tokens.weight", name == "token_embd.weight", name == "model.embed_tokens.weight",
		name == "model.language_model.embed_tokens.weight":
		t.words, t.wordWidth = rows, width
	case name == "decoder.conv_in.weight":
		t.latentChannels = width
	case name == "decoder.conv1.weight" && len(one.shape) == 5:
		t.filmChannels = width
	}
}

// part says which part a file is that is no model: NoPart for any other.
func (t *traits) part() model.Part {
	switch {
	case t.textEncoder && t.clipWidth == clipL:
		return model.CLIPL
	case t.textEncoder && t.clipWidth == clipGWidth:
		return model.CLIPG
	case t.wordWidth == t5Width && t.words == t5Vocabulary:
		return model.T5
	case t.wordWidth == qwen25Width && t.qwenWords() && (t.architecture == "qwen2vl" || t.architecture == "" && t.sees):
		return model.Qwen25
	case t.wordWidth == qwen3Width && t.qwenWords() && (t.architecture == "qwen3" || t.architecture == "" && !t.sees):
		return model.Qwen3
	case t.vae && t.filmChannels == fluxVAEChannels:
		return model.QwenVAE
	case t.vae && t.latentChannels == fluxVAEChannels:
		return model.FluxVAE
	}
	return model.NoPart
}

// qwenWords says whether the vocabulary is Qwen's. Others have models of the same widths: Gemma's has more than 250,000 words.
//
// Qwen2.5 7B, which only reads, is built as the text half of Qwen2.5-VL 7B, and sd-server would load it; but its weights are others than
// those that Qwen-Image was trained with. The same goes for Qwen3-VL 4B and Qwen3 4B.
func (t *traits) qwenWords() bool { return t.words >= qwenFewest && t.words <= qwenMost }

// shard is how a piece of a file is called that was published in several.
var shard = regexp.MustCompile(`(?i)-\d{5}-of-\d{5}$`)

func (f *seenFile) isShard() bool { return shard.MatchString(stem(f.fileName())) }

// partOf corrects by its name what a file's header can't tell: that it is not whole, and that the VAEs of SD3 and FLUX.1 are built
// alike, and so are those of Qwen-Image and of Wan, which makes films.
func partOf(f *seenFile) model.Part {
	name := strings.ToLower(f.Name)
	switch {
	case f.isShard():
		return model.NoPart
	case f.part == model.FluxVAE && strings.Contains(name, "sd3"):
		return model.SD3VAE
	case f.part == model.FluxVAE && strings.Contains(name, "flux2"), f.part == model.QwenVAE && strings.Contains(name, "wan"):
		return model.NoPart
	}
	return f.part
}

// needs are the parts that a model's file does not hold; nil for a whole one, and for one that nothing is known to complete.
func (i *inspection) needs() (parts []model.Part) {
	for _, p := range i.family.Parts() {
		if i.partial && (p.VAE() && !i.vae || !p.VAE() && !i.encoders) {
			parts = append(parts, p)
		}
	}
	return parts
}

// serves says whether a file is the part, and one that sd-server can read.
func (f *seenFile) serves(p model.Part) bool { return partOf(f) == p && f.problem == "" && !f.scaled }

// complete finds what a model needs among the files that are there, the smallest of several. missing says in words what is not there.
func complete(i *inspection, there []seenFile) (files []PartFile, missing []string) {
	for _, p := range i.needs() {
		var best *seenFile
		for n := range there {
			if f := &there[n]; f.serves(p) && (best == nil || smaller(f, best)) {
				best = f
			}
		}
		if best == nil {
			missing = append(missing, lackOf(p, there))
			continue
		}
		files = append(files, PartFile{p, best.Path, max(best.Bytes, int64(min(best.weights, math.MaxInt64)))})
	}
	return files, missing
}

// lackOf names a part that is missing, and the file that looks like it but is of no use.
func lackOf(p model.Part, there []seenFile) string {
	at := slices.IndexFunc(there, func(f seenFile) bool { return partOf(&f) == p && f.problem == "" && f.scaled })
	if at < 0 {
		return fmt.Sprintf("%s (%s)", p.Title(), p.Sample())
	}
	return fmt.Sprintf("%s (%s; %s is there, but sd-server can't read its scaled 8-bit weights)", p.Title(), p.Sample(), stem(there[at].fileName()))
}

func smaller(f, than *seenFile) bool {
	return cmp.Or(cmp.Compare(f.Bytes, than.Bytes), cmp.Compare(f.Path, than.Path)) < 0
}

// listParts lists the files of the folders beside the models. One that is not there, or can't be read, has none.
func listParts(dir string) (files []File) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil
	}
	for _, entry := range entries {
		if !slices.Contains(partFolders, strings.ToLower(entry.Name())) {
			continue
		}
		if info, err := stat(root, dir, entry); err != nil || !info.IsDir() {
			continue
		}
		found, _ := List(filepath.Join(dir, entry.Name()))
		files = append(files, found...)
	}
	return files
}
