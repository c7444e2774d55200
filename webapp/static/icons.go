package static

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
)

// icons are the sign of muster as PNG, for those who can't use the SVG.
type icons struct{ plain192, plain512, maskable512, apple180 []byte }

var (
	iconGround = color.NRGBA{0x11, 0x16, 0x15, 0xff}
	iconCell   = color.NRGBA{0x3d, 0x4b, 0x48, 0xff}
	iconLit    = color.NRGBA{0x62, 0xd8, 0xc0, 0xff}
)

// litCell is the one of the eight that is at work: the third of the upper row.
const litCell = 2

func drawIcons() (icons, error) {
	var out icons
	for _, want := range []struct {
		at     *[]byte
		side   int
		margin float64 // share of the side that the sign stays away from the edge
		round  float64 // radius of the ground's corners, as a share of the side
	}{
		{&out.plain192, 192, 0.16, 0.22},
		{&out.plain512, 512, 0.16, 0.22},
		{&out.maskable512, 512, 0.24, 0},
		{&out.apple180, 180, 0.18, 0},
	} {
		var b bytes.Buffer
		if err := png.Encode(&b, drawIcon(want.side, want.margin, want.round)); err != nil {
			return icons{}, fmt.Errorf("icon of %d px: %w", want.side, err)
		}
		*want.at = b.Bytes()
	}
	return out, nil
}

// box is a rectangle with round corners, in shares of the side.
type box struct{ x, y, w, h, r float64 }

// covers says whether a point is inside of the box.
func (b box) covers(x, y float64) bool {
	if x < b.x || x > b.x+b.w || y < b.y || y > b.y+b.h {
		return false
	}
	dx, dy := max(b.x+b.r-x, x-(b.x+b.w-b.r), 0), max(b.y+b.r-y, y-(b.y+b.h-b.r), 0)
	return dx*dx+dy*dy <= b.r*b.r || b.r == 0
}

// drawIcon draws eight devices in two rows, one of them lit, with 16 samples a pixel.
func drawIcon(side int, margin, round float64) *image.NRGBA {
	ground := box{0, 0, 1, 1, round}
	var cells []box
	unit := (1 - 2*margin) / 26 // four cells of 5 and three gaps of 2
	for row := range 2 {
		for column := range 4 {
			cells = append(cells, box{margin + float64(column)*7*unit, 0.5 + (float64(row)*10.5-9.25)*unit, 5 * unit, 8 * unit, 1.5 * unit})
		}
	}
	img := image.NewNRGBA(image.Rect(0, 0, side, side))
	for y := range side {
		for x := range side {
			img.SetNRGBA(x, y, samplePixel(x, y, side, ground, cells))
		}
	}
	return img
}

// touches says whether any of the box lies within a pixel's width of the point.
func (b box) touches(x, y, pixel float64) bool {
	return x > b.x-pixel && x < b.x+b.w+pixel && y > b.y-pixel && y < b.y+b.h+pixel
}

func samplePixel(x, y, side int, ground box, cells []box) color.NRGBA {
	const grid = 4
	pixel := 1 / float64(side)
	near := -1
	for n, cell := range cells {
		if cell.touches((float64(x)+0.5)*pixel, (float64(y)+0.5)*pixel, pixel) {
			near = n
		}
	}
	var r, g, b, inside int
	for i := range grid * grid {
		px := (float64(x) + (float64(i%grid)+0.5)/grid) * pixel
		py := (float64(y) + (float64(i/grid)+0.5)/grid) * pixel
		if !ground.covers(px, py) {
			continue
		}
		c := iconGround
		if near >= 0 && cells[near].covers(px, py) {
			c = iconCell
			if near == litCell {
				c = iconLit
			}
		}
		r, g, b, inside = r+int(c.R), g+int(c.G), b+int(c.B), inside+1
	}
	if inside == 0 {
		return color.NRGBA{}
	}
	return color.NRGBA{uint8(r / inside), uint8(g / inside), uint8(b / inside), uint8(255 * inside / (grid * grid))}
}
