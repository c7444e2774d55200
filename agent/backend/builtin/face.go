package builtin

import "math"

// body draws neck, clothes and what is seen at the collar.
func (a *artist) body() {
	bottom := a.d.half.y + 0.4
	broad := mix(1.10, 0.90, a.feminine)
	neck := mix(0.150, 0.112, a.feminine)
	neckShape := smooth(mirrored(vec{0, 0.02}, vec{neck, 0.04}, vec{neck * 0.97, 0.22}, vec{neck * 1.12, 0.38}, vec{neck * 1.9, 0.47}, vec{neck * 1.2, 0.62}, vec{0, 0.70}))
	torso := smooth(mirrored(vec{0, 0.53}, vec{0.15, 0.47}, vec{0.20 * broad, 0.445}, vec{0.42 * broad, 0.52}, vec{0.63 * broad, 0.62}, vec{0.76 * broad, 0.80}, vec{0.83 * broad, 1.12}, vec{0.86 * broad, bottom}, vec{0, bottom + 0.1}))
	cloth := a.fabric(torso)
	switch a.collar {
	case turtleneck, scarf:
		n := a.solid(neckShape, a.skin)
		a.tint(smooth(ring(a.head(0, 0.40), 0.23, 0.15, 14)), hex(0x8a5c58), 0.10, 0.75, neckShape)
		a.torsoLayer = a.add(layer{shape: torso, paint: cloth})
		a.trace(neckShape, 0.0045, 0.7, n)
		a.wrap()
	default:
		a.torsoLayer = a.add(layer{shape: torso, paint: cloth})
		a.opening(neckShape)
	}
	a.trace(torso, 0.0058, 0.85, a.torsoLayer)
	a.hatch(torso, 2600, 0.30, 0.55, a.torsoLayer)
	for side := -1.0; side <= 1; side += 2 { // folds
		for range 3 {
			x, y := side*a.span(0.35, 0.6)*broad, a.span(0.66, 0.9)
			a.line(curve(vec{x, y}, vec{x - side*0.04, y + 0.09}, vec{x - side*0.03, y + 0.22}), 0.005, 0.55, a.torsoLayer, torso)
		}
	}
}

// fabric is the wash of the clothes, striped or plain, that runs out towards the bottom as sketches do.
func (a *artist) fabric(torso *outline) func(vec, float64, vec) rgb {
	plain := a.wash(a.cloth, 0.75, 0.16)
	band := a.cloth.light(0.62)
	if luminance(a.cloth) > 0.7 {
		band = a.accent
	}
	stripes := a.stripes && a.collar != suit
	return func(p vec, depth float64, inwards vec) rgb {
		c := plain(p, depth, inwards)
		if stripes {
			wave := p.y + 0.10*p.x*p.x + 0.006*math.Sin(9*p.x)
			c = c.mix(band.mix(c, 0.15), between(0.42, 0.5, math.Abs(wave*11-math.Floor(wave*11)-0.5)+0.2))
		}
		return c
	}
}

func luminance(c rgb) float64 { return 0.3*c[0] + 0.59*c[1] + 0.11*c[2] }

// opening is the collar: skin, or shirt and tie, within the clothes.
func (a *artist) opening(neckShape *outline) {
	var cut *outline
	switch a.collar {
	case vneck:
		cut = smooth([]vec{{-0.20, 0.40}, {0, 0.43}, {0.20, 0.40}, {0.13, 0.58}, {0, 0.75}, {-0.13, 0.58}})
	case suit:
		cut = smooth([]vec{{-0.19, 0.41}, {0, 0.44}, {0.19, 0.41}, {0.15, 0.62}, {0.02, 1.02}, {-0.02, 1.02}, {-0.15, 0.62}})
	default:
		cut = smooth(ring(vec{0, 0.44}, 0.19, 0.10, 16))
	}
	inside := a.skin
	if a.collar == suit {
		inside = hex(0xeeeae2)
	}
	c := a.solid(cut, inside)
	n := a.solid(within(neckShape, a.collar), a.skin)
	a.tint(smooth(ring(a.head(0, 0.42), 0.22, 0.14, 14)), hex(0x8a5c58), 0.10, 0.8, neckShape)
	a.trace(cut, 0.0050, 0.8, c)
	a.line(curve(vec{-0.05, 0.50}, vec{-0.10, 0.47}, vec{-0.17, 0.465}), 0.004, 0.45, n, nil)
	a.line(curve(vec{0.05, 0.50}, vec{0.10, 0.47}, vec{0.17, 0.465}), 0.004, 0.45, n, nil)
	if a.collar != suit {
		return
	}
	tie := a.solid(smooth([]vec{{-0.035, 0.55}, {0.035, 0.55}, {0.028, 0.62}, {0.055, 0.90}, {0, 1.0}, {-0.055, 0.90}, {-0.028, 0.62}}), a.accent)
	for side := -1.0; side <= 1; side += 2 {
		flap := smooth([]vec{{side * 0.135, 0.40}, {side * 0.21, 0.47}, {side * 0.10, 0.60}, {side * 0.015, 0.55}})
		f := a.solid(flap, hex(0xf3f0ea))
		a.trace(flap, 0.0048, 0.8, f)
		lapel := smooth([]vec{{side * 0.20, 0.43}, {side * 0.29, 0.52}, {side * 0.30, 0.66}, {side * 0.24, 0.68}, {side * 0.03, 1.04}, {side * 0.13, 0.68}})
		l := a.solid(lapel, a.cloth.dark(0.35))
		a.trace(lapel, 0.0055, 0.9, l)
	}
	a.trace(a.d.layers[tie].shape, 0.0045, 0.8, tie)
}

// within keeps the neck inside the collar.
func within(neck *outline, c collar) *outline {
	switch c {
	case vneck:
		return neck
	case crew:
		half := (neck.hi.x - neck.lo.x) / 4
		return smooth(mirrored(vec{0, 0.02}, vec{half * 1.04, 0.04}, vec{half, 0.22}, vec{half * 1.1, 0.38}, vec{half * 1.2, 0.46}, vec{half * 0.6, 0.51}, vec{0, 0.52}))
	}
	return smooth(mirrored(vec{0, 0.02}, vec{0.125, 0.04}, vec{0.122, 0.25}, vec{0.125, 0.42}, vec{0.05, 0.53}, vec{0, 0.56}))
}

// wrap is a turtleneck or a scarf around the neck.
func (a *artist) wrap() {
	if a.collar == turtleneck {
		roll := smooth(mirrored(vec{0, 0.345}, vec{0.12, 0.315}, vec{0.155, 0.34}, vec{0.175, 0.42}, vec{0.19, 0.50}, vec{0.1, 0.535}, vec{0, 0.545}))
		l := a.solid(roll, a.cloth.dark(0.12))
		a.trace(roll, 0.005, 0.85, l)
		for range 16 {
			x := a.spread(0.16)
			a.line(curve(vec{x, 0.35}, vec{x * 1.06, 0.43}, vec{x * 1.14, 0.52}), 0.003, 0.35, l, roll)
		}
		return
	}
	end := smooth([]vec{{a.mirror * 0.05, 0.50}, {a.mirror * 0.17, 0.48}, {a.mirror * 0.24, 0.75}, {a.mirror * 0.25, 0.98}, {a.mirror * 0.09, 1.0}, {a.mirror * 0.07, 0.72}})
	e := a.solid(end, a.accent)
	a.trace(end, 0.0052, 0.85, e)
	loop := smooth(mirrored(vec{0, 0.36}, vec{0.13, 0.325}, vec{0.21, 0.35}, vec{0.25, 0.44}, vec{0.22, 0.54}, vec{0.11, 0.59}, vec{0, 0.605}))
	l := a.solid(loop, a.accent)
	a.trace(loop, 0.0052, 0.9, l)
	for range 9 {
		y := a.span(0.37, 0.57)
		a.line(curve(vec{-0.22, y - 0.05}, vec{-0.05, y + 0.02}, vec{0.1, y + 0.015}, vec{0.23, y - 0.06}), 0.0042, 0.5, l, loop)
	}
	a.hatch(loop, 500, 0.1, 0.5, l)
}

// face draws ears and the face itself, lit like the round thing it is.
func (a *artist) face() {
	for side := -1.0; side <= 1; side += 2 {
		if side*a.turn > 0.55 {
			continue // turned away
		}
		x := side*0.292*a.width - 0.02*a.turn
		ear := smooth(a.heads(vec{x - side*0.02, -0.06}, vec{x + side*0.035, -0.085}, vec{x + side*0.058, -0.03}, vec{x + side*0.042, 0.05}, vec{x + side*0.015, 0.10}, vec{x - side*0.02, 0.08}))
		l := a.solid(ear, a.skin.mix(hex(0xc97f68), 0.12))
		a.trace(ear, 0.0045, 0.75, l)
		a.line(curve(a.heads(vec{x + side*0.012, -0.045}, vec{x + side*0.036, -0.03}, vec{x + side*0.022, 0.02}, vec{x + side*0.012, 0.05})...), 0.0035, 0.5, l, nil)
	}
	w, j := a.width, a.jaw
	full := mirrored(vec{0, -0.44}, vec{0.165, -0.41}, vec{0.262, -0.28}, vec{0.293, -0.10}, vec{0.284, 0.07}, vec{0.250 * mix(1, j, 0.5), 0.205}, vec{0.172 * j, 0.325}, vec{0.082 * j, 0.402}, vec{0, 0.425})
	for i := range full {
		full[i].x *= w * (1 - 0.07*a.turn*math.Copysign(1, full[i].x))
	}
	a.skinShape = smooth(a.heads(full...))
	seed := a.random.Uint32()
	middle := a.inner(0, 0.02)
	a.faceLayer = a.add(layer{shape: a.skinShape, paint: func(p vec, depth float64, inwards vec) rgb {
		n := vec{(p.x - middle.x) / 0.30, (p.y - middle.y) / 0.44}
		lit := n.dot(a.light)
		c := a.skin.light(0.30 * between(0, 0.9, lit))
		c = c.dark(0.62 * math.Pow(clamp(-lit), 1.6))
		return pigment(c, p, depth, seed)
	}})
	a.trace(a.skinShape, 0.0055, 0.85, a.faceLayer)
	a.hatch(a.skinShape, 2400, 0.075, 0.42, a.faceLayer)
	for side := -1.0; side <= 1; side += 2 { // cheeks
		a.tint(smooth(ring(a.inner(side*0.165, 0.125), 0.098, 0.078, 12)), hex(0xd8705e), 0.085, mix(0.22, 0.42, a.feminine), a.skinShape)
		a.tint(smooth(ring(a.inner(side*0.125, -0.02), 0.088, 0.066, 12)), hex(0x9b6a62), 0.07, 0.34, a.skinShape)
	}
	if a.freckles {
		for range a.count(70) {
			p := a.inner(a.spread(0.2), 0.10+a.spread(0.06))
			a.line([]vec{p, p.add(vec{0.002, 0.001}), p.add(vec{0.004, 0.002})}, 0.007, 0.34, a.faceLayer, a.skinShape)
		}
	}
}

// features draws eyes, brows, nose, mouth and beard.
func (a *artist) features() {
	size := mix(0.92, 1.12, a.feminine) * (1.0 + a.spread(0.06)) * mix(1.08, 0.94, a.age)
	apart := 0.127 + a.spread(0.007)
	gaze := a.turn*0.009 + a.spread(0.005)
	for side := -1.0; side <= 1; side += 2 {
		a.eye(side, side*apart, size, gaze)
		a.brow(side, side*apart)
	}
	a.nose()
	a.mouth()
	a.whiskers()
	if a.age > 0.7 {
		a.wrinkles()
	}
}

func (a *artist) eye(side, x, size, gaze float64) {
	w, h := 0.071*size, 0.037*size*mix(1.06, 0.86, clamp(a.smile))
	point := func(dx, dy float64) vec { return a.inner(x+side*dx*w, dy*h-0.1*side*dx*h*0.6) }
	lids := smooth([]vec{point(-1, 0.25), point(-0.6, -0.62), point(-0.05, -1), point(0.55, -0.78), point(1, -0.1), point(0.55, 0.55), point(0, 0.78), point(-0.6, 0.62)})
	a.add(layer{shape: lids, paint: a.wash(hex(0xf4efe8), 0.5, 0.02)})
	middle := a.inner(x+gaze, -0.07*h)
	radius := 0.0375 * size
	iris := smooth(ring(middle, radius*0.95, radius, 14))
	eyes := a.traits.eyes
	a.add(layer{shape: iris, clip: lids, paint: func(p vec, depth float64, _ vec) rgb {
		d := p.sub(middle)
		spokes := 0.5 + 0.5*math.Sin(math.Atan2(d.y, d.x)*17+6*noise(60*d.x, 60*d.y, a.d.seed))
		c := eyes.light(0.45*between(-0.2, 1, d.y/radius) + 0.16*spokes)
		return c.dark(0.9*math.Exp(-depth/0.006) + 0.5*between(0.1, 1, -d.y/radius))
	}})
	a.add(layer{shape: smooth(ring(middle, radius*0.46, radius*0.48, 10)), clip: lids, paint: func(vec, float64, vec) rgb { return hex(0x1c1820) }})
	a.add(layer{shape: smooth(ring(middle.add(vec{a.light.x * radius * 0.42, a.light.y * radius * 0.45}), radius*0.26, radius*0.24, 8)), clip: lids, paint: func(vec, float64, vec) rgb { return rgb{1, 1, 1} }})
	top := a.add(layer{shape: lids, multiply: true, paint: func(p vec, _ float64, _ vec) rgb { // the lid's shadow
		return rgb{1, 1, 1}.mix(hex(0x8a7682), 0.75*(1-between(-1.0, -0.15, (p.y-middle.y)/h)))
	}})
	for i := range 3 { // lid, drawn three times as a hand does
		off := float64(i) * 0.0016
		a.line(curve(point(-1.04, 0.32).add(vec{0, off}), point(-0.6, -0.66), point(-0.05, -1.04), point(0.58, -0.82), point(1.08, -0.16)), 0.0085, 0.95, top, nil)
	}
	a.line(curve(point(0.9, 0.1), point(0.5, 0.6), point(0, 0.82), point(-0.5, 0.68)), 0.0036, 0.55, top, nil)
	a.line(curve(point(-0.75, -1.15), point(-0.1, -1.62), point(0.6, -1.38), point(1.05, -0.75)), 0.0042, 0.6, top, nil)
	for i := range int(mix(3, 8, a.feminine)) { // lashes
		t := 0.1 + 0.9*float64(i)/7
		from := point(mix(0.1, 1.02, t), mix(-1, -0.2, t*t))
		a.line(curve(from, from.add(vec{side * 0.008 * t, -0.010}), from.add(vec{side * 0.022 * t, -0.018 * (1.1 - 0.4*t)})), 0.0042, 0.9, top, nil)
	}
}

func (a *artist) brow(side, x float64) {
	y := -0.088 - 0.006*a.smile + a.spread(0.004)
	inner, arch, outer := vec{x - side*0.068, y + 0.012 + 0.016*min(0, a.smile)*-1}, vec{x + side*0.022, y - 0.022}, vec{x + side*0.088, y + 0.006}
	thick := mix(0.019, 0.011, a.feminine)
	dark := clamp(1.15 - luminance(a.hair)*0.7)
	for range 34 + a.count(26) {
		t := a.random.Float64()
		base := inner.mix(arch, t*2)
		if t > 0.5 {
			base = arch.mix(outer, t*2-1)
		}
		base.y += a.spread(thick*0.5) * (1 - 0.75*t)
		p := a.inner(base.x, base.y)
		a.line(curve(p, p.add(vec{side * 0.012, -0.007 + 0.012*t}), p.add(vec{side * 0.027, -0.008 + 0.024*t})), 0.0052, 0.8*dark, a.faceLayer, nil)
	}
}

func (a *artist) nose() {
	long := 0.150 + a.spread(0.012)
	w := mix(0.056, 0.044, a.feminine) + a.spread(0.005)
	side := -math.Copysign(1, a.light.x) // in shadow
	bridge := smooth([]vec{a.inner(side*0.022, -0.06), a.inner(side*0.050, 0.0), a.inner(side*(w+0.014), long-0.01), a.inner(side*0.02, long+0.016), a.inner(side*0.012, 0.05)})
	a.tint(bridge, hex(0xa8705f), 0.03, 0.75, a.skinShape)
	a.tint(smooth(ring(a.inner(0, long+0.004), w*1.15, 0.028, 12)), hex(0xc46f5c), 0.03, 0.5, a.skinShape)
	tip := a.tint(smooth(ring(a.inner(side*0.01, long+0.040), w*0.95, 0.016, 12)), hex(0x8d5a50), 0.018, 0.62, a.skinShape)
	a.line(curve(a.inner(side*0.030, -0.05), a.inner(side*0.024, 0.03), a.inner(side*0.030, long-0.05)), 0.0038, 0.38, tip, nil)
	for s := -1.0; s <= 1; s += 2 {
		a.line(curve(a.inner(s*0.012, long+0.026), a.inner(s*0.026, long+0.016), a.inner(s*0.036, long+0.024)), 0.0068, 0.85, tip, nil)
		a.line(curve(a.inner(s*(w-0.002), long-0.018), a.inner(s*(w+0.007), long+0.004), a.inner(s*(w-0.008), long+0.023)), 0.0045, 0.6, tip, nil)
	}
	a.line(curve(a.inner(-0.014, long+0.031), a.inner(0, long+0.036), a.inner(0.014, long+0.031)), 0.004, 0.5, tip, nil)
	p := a.inner(-side*0.008, long-0.012)
	a.gleam(curve(p, p.add(vec{0.002, 0.008}), p.add(vec{0.001, 0.015})), 0.010, 0.55, tip)
}

// gleam is a touch of white.
func (a *artist) gleam(points []vec, width, strength float64, above int) {
	a.d.strokes = append(a.d.strokes, stroke{points: points, width: width, dark: strength, white: true, above: above})
}

func (a *artist) mouth() {
	w := mix(0.086, 0.080, a.feminine) + a.spread(0.006) + 0.012*max(0, a.smile)
	y := 0.262 + a.spread(0.006)
	lift := 0.022 * a.smile
	full := mix(0.8, 1.18, a.feminine)
	lip := a.skin.mix(hex(0xb04a4c), mix(0.42, 0.68, a.feminine)).dark(0.10)
	upper := smooth([]vec{a.inner(-w, y-lift), a.inner(-0.045, y-0.018*full-0.2*lift), a.inner(-0.014, y-0.027*full), a.inner(0, y-0.020*full), a.inner(0.014, y-0.027*full), a.inner(0.045, y-0.018*full-0.2*lift), a.inner(w, y-lift), a.inner(0.035, y+0.004+0.3*lift), a.inner(0, y+0.005+0.45*lift), a.inner(-0.035, y+0.004+0.3*lift)})
	lower := smooth([]vec{a.inner(-w*0.93, y-lift*0.9+0.002), a.inner(-0.035, y+0.004+0.3*lift), a.inner(0, y+0.005+0.45*lift), a.inner(0.035, y+0.004+0.3*lift), a.inner(w*0.93, y-lift*0.9+0.002), a.inner(0.045, y+0.033*full+0.4*lift), a.inner(0, y+0.043*full+0.5*lift), a.inner(-0.045, y+0.033*full+0.4*lift)})
	a.solid(lower, lip.light(0.16))
	l := a.solid(upper, lip.dark(0.22))
	for range 2 {
		a.line(curve(a.inner(-w*1.04, y-lift*1.15), a.inner(-0.038, y+0.004+0.3*lift), a.inner(0, y+0.006+0.45*lift), a.inner(0.038, y+0.004+0.3*lift), a.inner(w*1.04, y-lift*1.15)), 0.0066, 0.85, l, nil)
	}
	a.line(curve(a.inner(-0.034, y+0.054*full+0.5*lift), a.inner(0, y+0.060*full+0.5*lift), a.inner(0.034, y+0.054*full+0.5*lift)), 0.005, 0.45, l, nil)
	for s := -1.0; s <= 1; s += 2 {
		a.line(curve(a.inner(s*(w+0.008), y-lift-0.010), a.inner(s*(w+0.014), y-lift), a.inner(s*(w+0.010), y-lift+0.010)), 0.0045, 0.5, l, nil)
	}
	p := a.inner(a.light.x*0.02, y+0.020*full+0.4*lift)
	a.gleam(curve(p.sub(vec{0.018, 0}), p, p.add(vec{0.016, 0.001})), 0.007, 0.5, l)
}

// whiskers draws a beard, hair by hair, or an animal's.
func (a *artist) whiskers() {
	if a.animal {
		nose := a.solid(smooth(a.around(0, 0.165, 0.034, 0.022)), hex(0x3b2d30))
		for side := -1.0; side <= 1; side += 2 {
			for i := range 4 {
				p := a.inner(side*0.07, 0.205+0.014*float64(i))
				a.line(curve(p, p.add(vec{side * 0.12, -0.03 + 0.022*float64(i)}), p.add(vec{side * 0.25, -0.03 + 0.045*float64(i)})), 0.004, 0.8, nose, nil)
			}
		}
		return
	}
	if a.beard < 0.3 {
		return
	}
	j := a.jaw * a.width
	area := smooth(a.heads(vec{-0.275 * a.width, 0.06}, vec{-0.22 * a.width, 0.17}, vec{-0.10, 0.205}, vec{0, 0.222}, vec{0.10, 0.205}, vec{0.22 * a.width, 0.17}, vec{0.275 * a.width, 0.06},
		vec{0.258 * a.width, 0.21}, vec{0.18 * j, 0.345 + 0.04*a.beard}, vec{0.07 * j, 0.43 + 0.05*a.beard}, vec{-0.07 * j, 0.43 + 0.05*a.beard}, vec{-0.18 * j, 0.345 + 0.04*a.beard}, vec{-0.258 * a.width, 0.21}))
	mouth := a.inner(0, 0.268)
	cover := mix(0.35, 0.97, between(0.35, 0.9, a.beard))
	paint := a.wash(a.hair, 0.5, 0.05)
	l := a.add(layer{shape: area, paint: paint, soft: 0.035, alpha: func(p vec) float64 {
		return cover * between(0.75, 1.15, math.Hypot((p.x-mouth.x)/0.085, (p.y-mouth.y)/0.042))
	}})
	for range a.count(1500 * a.beard) {
		p := vec{a.span(area.lo.x, area.hi.x), a.span(area.lo.y, area.hi.y)}
		if math.Hypot((p.x-mouth.x)/0.085, (p.y-mouth.y)/0.042) < 1 || !area.contains(p) {
			continue
		}
		d := vec{(p.x - mouth.x) * 0.16, 0.03 + 0.02*a.random.Float64()}
		hair := curve(p, p.add(d.times(0.5)).add(vec{a.spread(0.004), 0}), p.add(d))
		if luminance(a.hair) < 0.25 && a.chance(0.25) {
			a.gleam(hair, 0.0036, 0.17, l)
			continue
		}
		a.line(hair, 0.0036, 0.55, l, nil)
	}
}

func (a *artist) around(x, y, rx, ry float64) []vec { return ring(a.inner(x, y), rx, ry, 12) }

func (a *artist) wrinkles() {
	for side := -1.0; side <= 1; side += 2 {
		a.line(curve(a.inner(side*0.062, 0.165), a.inner(side*0.098, 0.20), a.inner(side*0.112, 0.255)), 0.0042, 0.5, a.faceLayer, nil)
		a.line(curve(a.inner(side*0.085, 0.052), a.inner(side*0.13, 0.066), a.inner(side*0.175, 0.052)), 0.0036, 0.4, a.faceLayer, nil)
		for i := range 3 {
			p := a.inner(side*0.215, 0.002+0.014*float64(i))
			a.line(curve(p, p.add(vec{side * 0.014, 0.004 * float64(i-1)}), p.add(vec{side * 0.03, 0.010 * float64(i-1)})), 0.003, 0.4, a.faceLayer, nil)
		}
	}
	for i := range 3 {
		y := -0.17 - 0.036*float64(i)
		a.line(curve(a.inner(-0.12, y+a.spread(0.006)), a.inner(0, y-0.010), a.inner(0.12, y+a.spread(0.006))), 0.0034, 0.36, a.faceLayer, a.skinShape)
	}
}
