package backendtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
)

// Picture is everything that the image of a generator depends on.
type Picture struct {
	Prompt, Negative, Sampler, Model string
	Seed                             int64
	Width, Height, Steps             int // pixels; steps that were made
	Guidance                         float64
	// Grain makes it a picture of noise whose file is about as large as its pixels; else it has plain squares.
	Grain bool
}

// Paint gives a PNG that is the same for the same picture, and another for any other.
func Paint(p Picture) []byte {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00%d\x00%d\x00%d\x00%d\x00%g\x00%s", p.Prompt, p.Negative, p.Sampler, p.Seed, p.Width, p.Height, p.Steps, p.Guidance, p.Model)
	random := rand.New(rand.NewPCG(h.Sum64(), 1))
	if p.Grain {
		return encodePNG(noise(random, p.Width, p.Height), png.NoCompression)
	}
	palette := make(color.Palette, 16)
	for i := range palette {
		palette[i] = color.RGBA{uint8(random.UintN(256)), uint8(random.UintN(256)), uint8(random.UintN(256)), 255}
	}
	const side = 8
	img := image.NewPaletted(image.Rect(0, 0, p.Width, p.Height), palette)
	for y := 0; y < p.Height; y += side {
		for x := 0; x < p.Width; x += side {
			shade := uint8(random.UintN(16))
			for dy := range min(side, p.Height-y) {
				row := img.Pix[(y+dy)*img.Stride+x:]
				for dx := range min(side, p.Width-x) {
					row[dx] = shade
				}
			}
		}
	}
	return encodePNG(img, png.BestSpeed)
}

func noise(random *rand.Rand, width, height int) image.Image {
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for i := 0; i < len(img.Pix); i += 4 {
		binary.LittleEndian.PutUint32(img.Pix[i:], random.Uint32()|0xff000000) // opaque
	}
	return img
}

func encodePNG(img image.Image, level png.CompressionLevel) []byte {
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: level}).Encode(&out, img); err != nil {
		panic(err) // a picture in memory always has an encoding
	}
	return out.Bytes()
}
