package builtin

import "math"

// extras draws what is put on: glasses, earrings, flower, ears of an animal, a hat.
func (a *artist) extras() {
	if a.earrings && a.style != long && a.style != wavy {
		for side := -1.0; side <= 1; side += 2 {
			if side*a.turn > 0.55 {
				continue
			}
			drop := smooth(a.heads(ring(vec{side*0.312*a.width - 0.02*a.turn, 0.145}, 0.017, 0.03, 10)...))
			l := a.solid(drop, hex(0xd3a645))
			a.trace(drop, 0.004, 0.9, l)
		}
	}
	if a.glasses {
		a.spectacles()
	}
	if a.animal {
		a.ears()
	}
	if a.flower {
		a.blossom(a.head(-0.27*a.mirror, -0.26), 0.07, a.accent.light(0.25))
	}
	switch a.traits.hat {
	case beret:
		a.beret()
	case brim:
		a.brim()
	case crown:
		a.crown()
	case hood:
		a.hood()
	}
}

func (a *artist) spectacles() {
	above := len(a.d.layers) - 1
	for side := -1.0; side <= 1; side += 2 {
		x := side * 0.128
		glass := smooth(ring(a.inner(x, 0.008), 0.098, 0.084, 14))
		above = a.add(layer{shape: glass, multiply: true, paint: func(vec, float64, vec) rgb { return rgb{0.955, 0.975, 0.985} }})
		for range 2 {
			a.trace(glass, 0.0082, 0.95, above)
		}
		p := a.inner(x-0.035, -0.035)
		a.gleam(curve(p.add(vec{-0.012, 0.028}), p, p.add(vec{0.024, -0.022})), 0.007, 0.5, above)
		a.line(curve(a.inner(x+side*0.096, -0.006), a.inner(x+side*0.13, -0.022), a.head(side*0.295*a.width, -0.028)), 0.0078, 0.9, above, nil)
	}
	a.line(curve(a.inner(-0.033, -0.004), a.inner(0, -0.022), a.inner(0.033, -0.004)), 0.0082, 0.95, above, nil)
}

func (a *artist) ears() {
	for side := -1.0; side <= 1; side += 2 {
		ear := smooth(a.heads(vec{side * 0.10, -0.47}, vec{side * 0.17, -0.62}, vec{side * 0.285, -0.755}, vec{side * 0.325, -0.58}, vec{side * 0.318, -0.36}, vec{side * 0.21, -0.40}))
		l := a.solid(ear, a.hair)
		a.trace(ear, 0.0058, 0.9, l)
		a.hatch(ear, 260, 0.12, 0.6, l)
		inner := smooth(a.heads(vec{side * 0.175, -0.48}, vec{side * 0.215, -0.60}, vec{side * 0.272, -0.68}, vec{side * 0.292, -0.56}, vec{side * 0.275, -0.43}))
		k := a.solid(inner, hex(0xe3b7a4))
		for range a.count(40) {
			p := a.head(side*a.span(0.19, 0.28), -0.43)
			a.line(curve(p, p.add(vec{side * 0.01, -0.05}), p.add(vec{side * 0.03, -0.12})), 0.0034, 0.5, k, inner)
		}
	}
}

// blossom is a flower of five petals.
func (a *artist) blossom(c vec, size float64, colour rgb) {
	turn := a.span(0, 1)
	for i := range 5 {
		sin, cos := math.Sincos(2*math.Pi*float64(i)/5 + turn)
		petal := smooth([]vec{c, c.add(vec{cos - 0.55*sin, sin + 0.55*cos}.times(0.6 * size)), c.add(vec{cos, sin}.times(1.05 * size)), c.add(vec{cos + 0.55*sin, sin - 0.55*cos}.times(0.6 * size))})
		l := a.solid(petal, colour)
		a.trace(petal, 0.004, 0.7, l)
	}
	heart := smooth(ring(c, size*0.24, size*0.24, 8))
	a.trace(heart, 0.004, 0.8, a.solid(heart, hex(0xe2b33f)))
}

func (a *artist) beret() {
	m := a.mirror
	top := smooth(a.heads(vec{-0.31 * m, -0.30}, vec{-0.40 * m, -0.42}, vec{-0.33 * m, -0.58}, vec{-0.06 * m, -0.66}, vec{0.24 * m, -0.62}, vec{0.44 * m, -0.48}, vec{0.43 * m, -0.36}, vec{0.28 * m, -0.33}, vec{0, -0.37}))
	l := a.solid(top, a.accent)
	a.trace(top, 0.0058, 0.9, l)
	a.hatch(top, 700, 0.14, 0.55, l)
	a.line(curve(a.heads(vec{-0.30 * m, -0.32}, vec{0, -0.385}, vec{0.29 * m, -0.345})...), 0.006, 0.6, l, nil)
	a.line(curve(a.heads(vec{0.02 * m, -0.655}, vec{0.03 * m, -0.69}, vec{0.045 * m, -0.70})...), 0.010, 0.9, l, nil)
}

func (a *artist) brim() {
	crown := smooth(a.heads(vec{-0.30, -0.34}, vec{-0.285, -0.55}, vec{-0.20, -0.70}, vec{-0.05, -0.69}, vec{0.07, -0.69}, vec{0.20, -0.70}, vec{0.285, -0.55}, vec{0.30, -0.34}, vec{0, -0.30}))
	l := a.solid(crown, a.accent)
	a.trace(crown, 0.0058, 0.9, l)
	a.hatch(crown, 700, 0.16, 0.55, l)
	band := smooth(a.heads(vec{-0.302, -0.42}, vec{0, -0.385}, vec{0.302, -0.42}, vec{0.305, -0.33}, vec{0, -0.29}, vec{-0.305, -0.33}))
	a.trace(band, 0.004, 0.7, a.solid(band, a.cloth.dark(0.3)))
	edge := smooth(a.heads(vec{-0.62, -0.40}, vec{-0.45, -0.365}, vec{-0.22, -0.345}, vec{0, -0.335}, vec{0.22, -0.345}, vec{0.45, -0.365}, vec{0.62, -0.40}, vec{0.50, -0.285}, vec{0.25, -0.225}, vec{0, -0.21}, vec{-0.25, -0.225}, vec{-0.50, -0.285}))
	k := a.solid(edge, a.accent.dark(0.1))
	a.trace(edge, 0.006, 0.95, k)
	a.hatch(edge, 500, 0.06, 0.5, k)
}

func (a *artist) crown() {
	points := a.heads(vec{-0.285, -0.36}, vec{-0.32, -0.60}, vec{-0.20, -0.49}, vec{-0.13, -0.66}, vec{-0.055, -0.50}, vec{0, -0.70}, vec{0.055, -0.50}, vec{0.13, -0.66}, vec{0.20, -0.49}, vec{0.32, -0.60}, vec{0.285, -0.36}, vec{0.15, -0.33}, vec{0, -0.32}, vec{-0.15, -0.33})
	shape := polygon(points)
	l := a.solid(shape, hex(0xd8ab44))
	a.trace(shape, 0.005, 0.9, l)
	a.hatch(shape, 500, 0.12, 0.6, l)
	for _, x := range []float64{-0.19, 0, 0.19} {
		gem := smooth(a.heads(ring(vec{x, -0.40 - 0.15*x*x}, 0.026, 0.030, 8)...))
		a.trace(gem, 0.004, 0.9, a.solid(gem, a.accent.mix(hex(0xb02a45), 0.4)))
	}
}

func (a *artist) hood() {
	inner := []vec{{-0.24, 0.44}, {-0.315, 0.22}, {-0.335, 0.0}, {-0.318, -0.20}, {-0.235, -0.38}, {0, -0.475}, {0.235, -0.38}, {0.318, -0.20}, {0.335, 0.0}, {0.315, 0.22}, {0.24, 0.44}}
	// One shape like a horseshoe: up the left outside, over, down the right, and back along the inside.
	shoe := []vec{{-0.34, 0.47}, vec{-0.43, 0.32}, vec{-0.46, 0.08}, vec{-0.45, -0.20}, vec{-0.36, -0.46}, vec{-0.20, -0.61}, vec{0, -0.66}, vec{0.20, -0.61}, vec{0.36, -0.46}, vec{0.45, -0.20}, vec{0.46, 0.08}, vec{0.43, 0.32}, vec{0.34, 0.47}}
	for i := len(inner) - 1; i >= 0; i-- {
		shoe = append(shoe, inner[i])
	}
	shape := smooth(a.heads(shoe...))
	a.tint(smooth(a.heads(shift(shoe, 0, 0.04)...)), hex(0x6a5560), 0.05, 0.7, a.skinShape)
	l := a.solid(shape, a.cloth.dark(0.12))
	a.trace(shape, 0.006, 0.95, l)
	a.hatch(shape, 900, 0.12, 0.6, l)
}
