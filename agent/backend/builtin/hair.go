package builtin

import "math"

// volume is how far hair stands off the head, by style.
func (a *artist) volume() float64 {
	switch a.style {
	case bald:
		return 0.97
	case cropped, bun:
		return 1.02
	case wavy:
		return 1.12
	}
	return 1.06
}

// hairBehind draws what hangs behind neck and shoulders.
func (a *artist) hairBehind() {
	v := a.volume()
	var right []vec
	switch a.style {
	case bob:
		right = []vec{{0, -0.50}, {0.22, -0.47}, {0.345, -0.32}, {0.385, -0.08}, {0.40, 0.14}, {0.405, 0.31}, {0.33, 0.40}, {0.2, 0.37}, {0, 0.36}}
	case long:
		right = []vec{{0, -0.50}, {0.22, -0.47}, {0.345, -0.32}, {0.385, -0.06}, {0.405, 0.22}, {0.44, 0.52}, {0.45, 0.80}, {0.33, 0.96}, {0.15, 0.90}, {0, 0.90}}
	case wavy:
		right = []vec{{0, -0.50}, {0.22, -0.47}, {0.35, -0.31}, {0.37, -0.12}, {0.43, 0.03}, {0.40, 0.20}, {0.46, 0.36}, {0.42, 0.52}, {0.46, 0.68}, {0.34, 0.78}, {0.2, 0.72}, {0, 0.75}}
	case curls:
		a.hairOutline = smooth(a.bumps(vec{0, -0.13}, 0.465, 0.46, 19, 0.05))
		a.backHair(a.hairOutline)
		return
	case bun:
		knot := smooth(a.heads(ring(vec{0.05 * a.mirror, -0.60}, 0.145, 0.125, 12)...))
		l := a.backHair(knot)
		for i := range 5 {
			r := 0.03 + 0.022*float64(i)
			a.line(curve(a.heads(vec{0.05*a.mirror - r, -0.56}, vec{0.05 * a.mirror, -0.60 - r}, vec{0.05*a.mirror + r, -0.57})...), 0.004, 0.6, l, knot)
		}
		return
	default:
		return
	}
	for i := range right {
		right[i].x *= v
	}
	points := mirrored(right...)
	for i := range points {
		points[i] = points[i].add(vec{a.spread(0.012), a.spread(0.012)})
	}
	a.hairOutline = smooth(a.heads(points...))
	l := a.backHair(a.hairOutline)
	for range a.count(230) { // hanging strands
		side := 1.0
		if a.chance(0.5) {
			side = -1
		}
		x, sway := side*a.span(0.2, 0.44)*v, a.spread(0.03)
		wave := 0.0
		if a.style == wavy {
			wave = 0.035
		}
		a.line(curve(a.heads(vec{x * 0.75, -0.36}, vec{x * 0.98, -0.08}, vec{x + wave, 0.18}, vec{x - wave + sway, 0.42}, vec{x*1.03 + wave + sway, 0.66}, vec{x*0.95 + sway, 0.92})...), a.span(0.003, 0.0055), a.span(0.3, 0.75), l, a.hairOutline)
	}
}

func (a *artist) backHair(o *outline) int {
	l := a.add(layer{shape: o, paint: a.wash(a.hair.dark(0.38), 0.6, 0.10)})
	a.trace(o, 0.0055, 0.85, l)
	return l
}

// bumps is a ring with n curls around it.
func (a *artist) bumps(c vec, rx, ry float64, n int, size float64) []vec {
	profile := [4]float64{-0.25, 0.7, 1, 0.7}
	points := make([]vec, 4*n)
	out := 0.0
	for i := range points {
		if i%4 == 0 {
			out = size * a.span(0.7, 1.3)
		}
		sin, cos := math.Sincos(2 * math.Pi * float64(i) / float64(4*n))
		r := out * profile[i%4]
		points[i] = a.head(c.x+(rx+r)*cos, c.y+(ry+r)*sin)
	}
	return points
}

// hairInFront draws the hair over forehead and temples, and its strands and shine.
func (a *artist) hairInFront() {
	if a.style == bald {
		a.bare()
		return
	}
	v, m := a.volume(), a.mirror
	temple := 0.02
	var inner []vec // from the right temple to the left, for a parting on the right
	part := vec{0.09, -0.505}
	switch a.style {
	case cropped:
		inner = []vec{{0.283, 0.0}, {0.268, -0.15}, {0.20, -0.275}, {0.08, -0.315}, {-0.05, -0.312}, {-0.18, -0.27}, {-0.268, -0.15}, {-0.283, 0.0}}
		part = vec{0.05, -0.50}
	case swept:
		inner = []vec{{0.283, 0.01}, {0.270, -0.15}, {0.215, -0.27}, {0.14, -0.325}, {0.0, -0.255}, {-0.13, -0.205}, {-0.245, -0.12}, {-0.283, 0.0}}
		part = vec{0.17, -0.45}
	case bob:
		temple = 0.30
		inner = []vec{{0.300, 0.30}, {0.272, 0.08}, {0.262, -0.095}, {0.15, -0.135}, {0.05, -0.125}, {-0.06, -0.132}, {-0.16, -0.128}, {-0.262, -0.095}, {-0.272, 0.08}, {-0.300, 0.30}}
		part = vec{0, -0.51}
	case curls:
		temple = 0.10
		inner = []vec{{0.300, 0.10}, {0.262, 0.0}, {0.275, -0.10}, {0.215, -0.17}, {0.19, -0.26}, {0.10, -0.25}, {0.03, -0.30}, {-0.06, -0.25}, {-0.13, -0.28}, {-0.19, -0.20}, {-0.268, -0.15}, {-0.255, -0.04}, {-0.300, 0.10}}
	case bun:
		inner = []vec{{0.286, 0.04}, {0.272, -0.13}, {0.21, -0.265}, {0.09, -0.335}, {-0.03, -0.335}, {-0.16, -0.30}, {-0.272, -0.13}, {-0.286, 0.04}}
		part = vec{0.04, -0.50}
	default: // long, wavy
		temple = 0.42
		inner = []vec{{0.318, 0.42}, {0.288, 0.16}, {0.268, -0.04}, {0.225, -0.20}, {0.115, -0.385}, {-0.02, -0.30}, {-0.16, -0.19}, {-0.258, -0.04}, {-0.290, 0.16}, {-0.322, 0.42}}
		part = vec{0.11, -0.48}
	}
	top := -0.515
	if a.style == swept {
		top = -0.555
	}
	outer := []vec{{-0.330 * v, temple}, {-0.338 * v, -0.12}, {-0.300 * v, -0.335}, {-0.175 * v, -0.478}, {0, top}, {0.175 * v, -0.478}, {0.300 * v, -0.335}, {0.338 * v, -0.12}, {0.330 * v, temple}}
	points := append(outer, inner...)
	for i := range points {
		points[i].x *= m
		points[i] = points[i].add(vec{a.spread(0.007), a.spread(0.007)})
		if i >= len(outer) {
			points[i].x *= a.width
		}
	}
	if a.style == curls {
		points = nil
		for i, p := range append(outer, inner...) {
			if i < len(outer) {
				p = p.times(1.08 + 0.06*float64(i%2))
			}
			points = append(points, vec{p.x * m, p.y})
		}
	}
	shape := smooth(a.heads(points...))
	shade := smooth(a.heads(shift(points, 0.0, 0.035)...))
	a.tint(shade, hex(0x8c6058), 0.03, 0.6, a.skinShape)
	l := a.add(layer{shape: shape, paint: a.hairPaint()})
	a.hairLayers = append(a.hairLayers, l)
	a.trace(shape, 0.0055, 0.9, l)
	a.strands(shape, l, vec{part.x * m, part.y}, outer, inner)
}

func shift(points []vec, dx, dy float64) []vec {
	out := make([]vec, len(points))
	for i, p := range points {
		out[i] = vec{p.x + dx, p.y + dy}
	}
	return out
}

// hairPaint is a wash with the band of light that lies across smooth hair.
func (a *artist) hairPaint() func(vec, float64, vec) rgb {
	wash := a.wash(a.hair, 0.8, 0.09)
	middle := a.head(0, -0.08)
	seed := a.random.Uint32()
	strength := 0.30
	if a.style == curls {
		strength = 0.12
	}
	return func(p vec, depth float64, inwards vec) rgb {
		c := wash(p, depth, inwards)
		d := p.sub(middle)
		ring := d.length() + 0.05*(noise(26*math.Atan2(d.y, d.x), 2, seed)-0.5)
		facing := clamp(0.35 + 0.9*d.times(1/max(0.01, d.length())).dot(a.light))
		return c.light(strength * facing * math.Exp(-math.Pow((ring-0.345)/0.035, 2)))
	}
}

// strands follow the hair from the parting to its ends.
func (a *artist) strands(shape *outline, above int, part vec, outer, inner []vec) {
	if a.style == curls {
		a.curls(shape, above)
		return
	}
	for range a.count(420) {
		side := 1.0
		if a.chance(0.5) {
			side = -1
		}
		t := a.random.Float64()
		// Between the outer contour and the hairline of one side, by t.
		from := part.add(vec{a.spread(0.02), a.span(-0.01, 0.05)})
		knee := vec{side * mix(0.10, 0.325, t) * a.volume(), mix(-0.34, -0.33, t) + a.spread(0.02)}
		end := vec{side * mix(0.262, 0.33, t) * a.volume(), mix(-0.06, 0.06, t) + a.spread(0.03)}
		switch a.style {
		case long, wavy, bob:
			end.y += 0.34 * a.random.Float64()
			if a.style == bob && t < 0.65 { // the fringe
				knee = vec{side * mix(0.01, 0.2, t), -0.36}
				end = vec{side * mix(0.005, 0.26, t/0.65) * a.width, -0.12}
			}
		case cropped:
			if t < 0.6 {
				knee, end = vec{side * mix(0, 0.2, t), -0.42}, vec{side*mix(0.0, 0.24, t/0.6) + 0.03, -0.29 + 0.08*t}
			}
		case swept:
			if t < 0.6 {
				knee, end = vec{mix(0.1, -0.26, a.random.Float64()) * a.mirror, -0.42}, vec{mix(-0.02, -0.27, a.random.Float64()) * a.mirror, -0.18}
			}
		case bun:
			from, end = end.add(vec{0, -0.03}), vec{0.05*a.mirror + a.spread(0.06), -0.51}
		}
		points := curve(a.heads(from, from.mix(knee, 0.55).add(vec{0, -0.02}), knee, end)...)
		a.line(points, a.span(0.0028, 0.0055), a.span(0.25, 0.8), above, shape)
		if a.chance(0.12) {
			k := len(points)
			a.gleam(points[k/4:k*2/3], 0.0034, 0.34*clamp(1.3-luminance(a.hair)), above)
		}
	}
}

// curls are small loops.
func (a *artist) curls(shape *outline, above int) {
	whole := a.hairOutline
	for range a.count(760) {
		p := vec{a.span(whole.lo.x, whole.hi.x), a.span(whole.lo.y, whole.hi.y)}
		layer := above
		if !shape.contains(p) {
			if !whole.contains(p) {
				continue
			}
			layer = 0
		}
		r, turn := a.span(0.012, 0.030), a.span(0, 2*math.Pi)
		var loop []vec
		for k := range 9 {
			sin, cos := math.Sincos(turn + float64(k)*0.62)
			loop = append(loop, p.add(vec{cos * r, sin * r}.times(1-0.06*float64(k))))
		}
		if a.chance(0.16) {
			a.gleam(loop[1:6], 0.0034, 0.4*clamp(1.2-luminance(a.hair)), layer)
			continue
		}
		a.line(loop, a.span(0.003, 0.0052), a.span(0.35, 0.85), layer, nil)
	}
}

// bare is the shine of a head without hair, and a fringe at its sides.
func (a *artist) bare() {
	p := a.inner(a.light.x*0.13, -0.33)
	a.gleam(curve(p.add(vec{-0.06, 0.01}), p.add(vec{0, -0.014}), p.add(vec{0.06, 0.008})), 0.02, 0.4, a.faceLayer)
	for side := -1.0; side <= 1; side += 2 {
		for range a.count(60) {
			from := a.head(side*a.span(0.265, 0.298), a.span(-0.16, 0.04))
			a.line([]vec{from, from.add(vec{side * 0.004, 0.016}), from.add(vec{side * 0.003, 0.035})}, 0.0038, 0.6, a.faceLayer, nil)
		}
	}
}
