package models

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"muster/shared/model"
)

// PartFile is a file that completes a model.
type PartFile struct {
	Part  model.Part
	Path  string // where a generator opens it; never shown
	Bytes int64
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
	qwenVocabulary  = 150_000 // at least: builds of one model have padded it differently
	fluxVAEChannels = 16
)

// seeEncoder takes a tensor of a part into account: the table of a text encoder's words, or a VAE's first layer.
func (t *traits) seeEncoder(one tensor) {
	if strings.HasSuffix(one.name, ".scale_weight") || one.name == "scaled_fp8" {
		t.scaled = true
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
	case t.wordWidth == qwen25Width && t.words >= qwenVocabulary:
		return model.Qwen25
	case t.wordWidth == qwen3Width && t.words >= qwenVocabulary:
		return model.Qwen3
	case t.vae && t.filmChannels == fluxVAEChannels:
		return model.QwenVAE
	case t.vae && t.latentChannels == fluxVAEChannels:
		return model.FluxVAE
	}
	return model.NoPart
}

// partOf corrects by its name what a file's header can't tell: the VAEs of SD3 and FLUX.1 are built alike, and so are those of
// Qwen-Image and of Wan, which makes films.
func partOf(f *seenFile) model.Part {
	name := strings.ToLower(f.Name)
	switch {
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

// complete finds what a model needs among the files that are there: for each part one that every generator can read, the smallest of
// several. missing says in words what is not there.
func complete(i *inspection, there []seenFile) (files []PartFile, missing []string) {
	for _, p := range i.needs() {
		var best *seenFile
		for n := range there {
			f := &there[n]
			if partOf(f) == p && f.problem == "" && (best == nil || better(f, best)) {
				best = f
			}
		}
		if best == nil {
			missing = append(missing, fmt.Sprintf("%s (%s)", p.Title(), p.Sample()))
			continue
		}
		files = append(files, PartFile{p, best.Path, best.Bytes})
	}
	return files, missing
}

// better prefers weights without scales beside them, which not every generator knows, then the smaller file.
func better(f, than *seenFile) bool {
	if f.scaled != than.scaled {
		return than.scaled
	}
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
