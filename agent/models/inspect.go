package models

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"muster/shared/model"
)

// inspection is what a file's header says of it. The weights themselves are never read.
type inspection struct {
	family  model.Family
	partial bool // text encoders or the VAE are not inside
	// What is inside, besides a diffusion model; only of models.
	encoders, vae bool
	// part is what the file is a part of models as; NoPart for a model.
	part    model.Part
	scaled  bool   // weights of 8 bits with scales beside them that sd-server leaves out
	weights uint64 // bytes of the tensors in the memory of a generator; 0 when not known
	problem string // why it is no model that can be used, as "the file" would continue; "" when it may be one
}

// Bounds of a header. The largest that are published have some ten thousand tensors and a few MB.
const (
	maxHeaderBytes = 32 << 20
	maxTensors     = 1 << 17
	maxDimensions  = 8
)

// The formats, as model.Model names them.
const (
	formatSafetensors = "safetensors"
	formatGGUF        = "gguf"
)

// formatOf gives the format that a file name's extension promises.
func formatOf(fileName string) string {
	return strings.ToLower(strings.TrimPrefix(filepath.Ext(fileName), "."))
}

// inspect reads the header of a file of so many bytes. What is wrong with the file stands in the result; an error is the disk's.
func inspect(file io.ReaderAt, size int64, format string) (inspection, error) {
	var seen traits
	var err error
	if format == formatGGUF {
		err = readGGUF(file, size, &seen)
	} else {
		err = readSafetensors(file, size, &seen)
	}
	var wrong flaw
	if errors.As(err, &wrong) {
		return inspection{problem: string(wrong)}, nil
	}
	if err != nil {
		return inspection{}, err
	}
	return seen.judge(), nil
}

// flaw is what is wrong with a file, as "the file" would continue.
type flaw string

func (f flaw) Error() string { return "the file " + string(f) }

func flawf(format string, args ...any) error { return flaw(fmt.Sprintf(format, args...)) }

// again is how most flaws end.
const again = "install it again"

func cutShort(missing uint64) error {
	return flawf("is cut short: %s are missing, %s", sizeWords(missing), again)
}

// sizeWords gives bytes as people read them: "6.94 GB", "12 MB", "713 bytes".
func sizeWords[T int64 | uint64](bytes T) string {
	switch b := float64(bytes); {
	case b >= 1e9:
		return fmt.Sprintf("%.2f GB", b/1e9)
	case b >= 1e7:
		return fmt.Sprintf("%.0f MB", b/1e6)
	default:
		return fmt.Sprintf("%d bytes", bytes)
	}
}

// tensor is one entry of a header.
type tensor struct {
	name  string
	dtype string   // as safetensors name it; "" in a gguf file
	shape []uint64 // outermost first, as PyTorch has it
	bytes uint64   // 0 when its type is not known
}

// span is where a tensor's bytes lie in the data.
type span struct{ from, to uint64 }

// beginsWell says whether the first bytes of a file, at least signatureBytes of them, can be those of its format. It finds out what
// is no model at all before the rest of it is downloaded.
func beginsWell(head []byte, format string) bool {
	if format == formatGGUF {
		return string(head[:4]) == ggufMagic
	}
	length := uint64(0)
	for i := range 8 {
		length |= uint64(head[i]) << (8 * i)
	}
	return length >= 2 && length <= maxHeaderBytes && head[8] == '{'
}

const signatureBytes = 9
