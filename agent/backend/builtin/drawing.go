package builtin

import "math"

// layer is one wash of colour. Layers are laid one over the other, the first at the back.
type layer struct {
	shape    *outline
	paint    func(p vec, depth float64, inwards vec) rgb
	alpha    func(p vec) float64 // nil is opaque
	soft     float64             // how far the edge fades, inwards
	multiply bool                // it tints what is below and does not cover it
	clip     *outline            // only inside this one; nil for everywhere
}

// drawing is everything that a picture shows, independent of its size in pixels.
type drawing struct {
	backdrop func(p vec) rgb
	layers   []layer
	strokes  []stroke
	ink      rgb
	seed     uint32
	half     vec // from the middle to the edges
}

// at is the colour of the washes at a point; pixel is the width of a pixel, over which edges are smoothed.
func (d *drawing) at(p vec, pixel float64) rgb {
	// A hand's edge is never straight.
	q := vec{
		p.x + 0.009*(noise(13*p.x, 13*p.y, d.seed+11)-0.5),
		p.y + 0.009*(noise(13*p.x, 13*p.y, d.seed+13)-0.5),
	}
	through := rgb{1, 1, 1} // of what lies below reaches the eye
	var sum rgb
	for i := len(d.layers) - 1; i >= 0; i-- {
		l := &d.layers[i]
		if !l.shape.near(q, pixel) {
			continue
		}
		cover, colour := l.at(q, pixel)
		if cover <= 0 {
			continue
		}
		for c := range sum {
			if l.multiply {
				through[c] *= 1 - cover*(1-colour[c])
				continue
			}
			sum[c] += through[c] * cover * colour[c]
			through[c] *= 1 - cover
		}
		if through[0]+through[1]+through[2] < 0.003 {
			return d.grain(sum, p)
		}
	}
	back := d.backdrop(p)
	for c := range sum {
		sum[c] += through[c] * back[c]
	}
	return d.grain(sum, p)
}

func (l *layer) at(p vec, pixel float64) (cover float64, colour rgb) {
	depth, inwards := l.shape.distance(p)
	cover = clamp(depth/pixel + 0.5)
	if l.soft > 0 {
		cover = between(0, l.soft, depth)
	}
	if cover > 0 && l.clip != nil {
		if !l.clip.near(p, pixel) {
			return 0, colour
		}
		within, _ := l.clip.distance(p)
		cover *= clamp(within/pixel + 0.5)
	}
	if cover > 0 && l.alpha != nil {
		cover *= l.alpha(p)
	}
	if cover <= 0 {
		return 0, colour
	}
	return cover, l.paint(p, depth, inwards)
}

// grain is the tooth of the paper, which holds more pigment in its hollows.
func (d *drawing) grain(c rgb, p vec) rgb {
	g := noise(190*p.x, 190*p.y, d.seed+21) - 0.5 + 0.6*(noise(83*p.x, 83*p.y, d.seed+22)-0.5)
	dark := 1 - (c[0]+c[1]+c[2])/3
	return c.times(1 + g*(0.035+0.10*dark*(1-dark)))
}

// hidden says whether an opaque layer above this one covers p.
func (d *drawing) hidden(above int, p vec) bool {
	for i := above + 1; i < len(d.layers); i++ {
		l := &d.layers[i]
		if !l.multiply && l.alpha == nil && l.soft == 0 && l.clip == nil && l.shape.contains(p) {
			return true
		}
	}
	return false
}

// stroke is one line of the pencil, or of the white gouache.
type stroke struct {
	points []vec
	width  float64
	dark   float64 // 0 to 1
	white  bool
	above  int      // the layer that it is drawn on: opaque layers after it hide it
	clip   *outline // only inside this one; nil for everywhere

	press []float64 // at each point, 0 to 1; 0 where it is hidden
}

// settle finds out what is seen of the strokes, when all layers are there. Strokes are thin at their ends.
func (d *drawing) settle() {
	for k := range d.strokes {
		s := &d.strokes[k]
		s.press = make([]float64, len(s.points))
		for i, p := range s.points {
			if s.clip != nil && !s.clip.contains(p) || d.hidden(s.above, p) {
				continue
			}
			t := float64(i) / float64(max(1, len(s.points)-1))
			s.press[i] = s.dark * math.Pow(math.Sin(math.Pi*(0.06+0.88*t)), 0.6)
		}
	}
}
