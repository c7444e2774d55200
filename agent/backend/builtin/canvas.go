package builtin

import (
	"context"
	"math"
)

// canvas is a picture in the making, 8 bytes a pixel.
type canvas struct {
	d             *drawing
	width, height int
	pixel         float64  // size of a pixel in the drawing
	passes        int      // samples that each pixel will get
	washes        []uint16 // sum of samples, 3 a pixel; each sample counts up to 65535/passes
	pencil        []uint8  // coverage
	gouache       []uint8
}

func newCanvas(d *drawing, width, height, passes int) *canvas {
	n := width * height
	return &canvas{
		d: d, width: width, height: height, passes: passes, pixel: 2 / float64(min(width, height)),
		washes: make([]uint16, 3*n), pencil: make([]uint8, n), gouache: make([]uint8, n),
	}
}

// shape gives the middle-to-edge distances of a picture of that size.
func shape(width, height int) vec {
	side := float64(min(width, height))
	return vec{float64(width) / side, float64(height) / side}
}

// point is the place in the drawing of a position in pixels.
func (c *canvas) point(x, y float64) vec {
	return vec{(x - float64(c.width)/2) * c.pixel, (y - float64(c.height)/2) * c.pixel}
}

// sample adds one sample to every pixel of a row. Where in the pixel it is taken differs by pass (R2 sequence) and pixel.
func (c *canvas) sample(ctx context.Context, y, pass int) error {
	scale := math.MaxUint16 / float64(c.passes)
	jx, jy := float64(pass)*0.7548776662466927, float64(pass)*0.5698402909980532
	out := c.washes[3*y*c.width:]
	for x := range c.width {
		if x&1023 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		dx, dy := 0.5, 0.5
		if c.passes > 1 {
			h := hash(int32(x), int32(y), c.d.seed)
			_, dx = math.Modf(jx + float64(h&0xffff)/65536)
			_, dy = math.Modf(jy + float64(h>>16)/65536)
		}
		colour := c.d.at(c.point(float64(x)+dx, float64(y)+dy), c.pixel)
		for k := range 3 {
			out[3*x+k] += uint16(clamp(colour[k]) * scale)
		}
	}
	return nil
}

// draw lays a stroke. A pencil leaves the hollows of the paper white.
func (c *canvas) draw(ctx context.Context, s stroke) error {
	target := c.pencil
	if s.white {
		target = c.gouache
	}
	for i := 1; i < len(s.points); i++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if s.press[i-1] > 0 && s.press[i] > 0 {
			c.segment(target, s, i)
		}
	}
	return nil
}

func (c *canvas) segment(target []uint8, s stroke, i int) {
	ax, ay := c.pixels(s.points[i-1])
	bx, by := c.pixels(s.points[i])
	dx, dy := bx-ax, by-ay
	squared := dx*dx + dy*dy
	if squared == 0 {
		return
	}
	radius := max(0.35, s.width/c.pixel/2)
	thin := min(1, s.width/c.pixel/0.7) // thinner than a pixel: paler instead
	x0, x1 := max(0, int(min(ax, bx)-radius-1)), min(c.width-1, int(max(ax, bx)+radius+1))
	y0, y1 := max(0, int(min(ay, by)-radius-1)), min(c.height-1, int(max(ay, by)+radius+1))
	for y := y0; y <= y1; y++ {
		for x := x0; x <= x1; x++ {
			px, py := float64(x)+0.5-ax, float64(y)+0.5-ay
			t := (px*dx + py*dy) / squared
			if t < 0 || t >= 1 { // the neighbouring segments take the rest
				continue
			}
			off := math.Abs(px*dy-py*dx) / math.Sqrt(squared)
			press := mix(s.press[i-1], s.press[i], t)
			cover := clamp(radius*math.Sqrt(press)+0.5-off) * press * thin
			if cover <= 0 {
				continue
			}
			p := c.point(float64(x), float64(y))
			cover *= 0.62 + 0.55*noise(150*p.x, 150*p.y, c.d.seed+51)
			at := y*c.width + x
			old := float64(target[at]) / 255
			target[at] = uint8(255 * (old + (1-old)*clamp(cover)))
		}
	}
}

func (c *canvas) pixels(p vec) (x, y float64) {
	return p.x/c.pixel + float64(c.width)/2, p.y/c.pixel + float64(c.height)/2
}

// row mixes washes, pencil and gouache of one row, 3 bytes a pixel.
func (c *canvas) row(y int, rgb []byte) {
	for x := range c.width {
		at := y*c.width + x
		pencil, white := 0.92*float64(c.pencil[at])/255, float64(c.gouache[at])/255
		for k := range 3 {
			v := float64(c.washes[3*at+k]) / math.MaxUint16
			v = mix(v, c.d.ink[k], pencil)
			v = mix(v, 1, white)
			rgb[3*x+k] = uint8(v*255 + 0.5)
		}
	}
}
