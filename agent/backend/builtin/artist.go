package builtin

import (
	"math"
	"math/rand/v2"
)

// artist composes a drawing from traits. All chance comes from random, in a fixed order.
type artist struct {
	traits
	random *rand.Rand
	d      *drawing
	light  vec // where the light comes from

	tilt, turn  float64 // of the head: radians, and −1 to 1
	width, jaw  float64 // of the face, relative
	skinShape   *outline
	faceLayer   int
	torsoLayer  int
	hairLayers  []int
	detail      float64 // more strokes with more steps
	mirror      float64 // 1 or −1: the side of the parting
	hairOutline *outline
}

// compose draws the person that a prompt and seed stand for, in a picture of that shape. detail scales the number of strokes.
func compose(prompt, negative string, seed int64, half vec, detail float64) *drawing {
	t, random := read(prompt, negative, seed)
	a := &artist{traits: t, random: random, detail: detail, mirror: 1}
	a.d = &drawing{seed: random.Uint32(), half: half}
	if a.chance(0.5) {
		a.mirror = -1
	}
	a.light = vec{-0.75 * a.mirror, -0.66}
	a.tilt, a.turn = a.spread(0.07), a.spread(0.8)
	a.width = 1.0 + a.spread(0.05) - 0.03*a.feminine
	a.jaw = mix(1.14, 0.86, a.feminine) + a.spread(0.07)
	inks := []rgb{hex(0x332a2c), hex(0x2c2f42), hex(0x43302a), hex(0x2f3534)}
	a.d.ink = inks[random.IntN(len(inks))]
	a.d.backdrop = a.scenery()
	a.hairBehind()
	a.body()
	a.face()
	a.features()
	a.hairInFront()
	a.extras()
	a.d.settle()
	return a.d
}

func (a *artist) chance(p float64) bool         { return a.random.Float64() < p }
func (a *artist) spread(size float64) float64   { return size * (2*a.random.Float64() - 1) }
func (a *artist) span(from, to float64) float64 { return mix(from, to, a.random.Float64()) }
func (a *artist) count(n float64) int           { return int(n * a.detail) }

// head places a point of the face: x from −0.3 to 0.3 (ear to ear), y from −0.45 (crown) over 0 (eyes) to 0.42 (chin).
func (a *artist) head(x, y float64) vec {
	sin, cos := math.Sincos(a.tilt)
	y -= 0.42
	return vec{0.95*(x*cos-y*sin) + 0.02*a.turn, 0.95*(x*sin+y*cos) + 0.235}
}

// inner is head for what lies on the front of the face and moves with the turn.
func (a *artist) inner(x, y float64) vec {
	return a.head(x*a.width*(1-0.10*math.Abs(a.turn)*between(0, 0.2, x*a.turn))+0.038*a.turn, y)
}

func (a *artist) heads(points ...vec) []vec {
	out := make([]vec, len(points))
	for i, p := range points {
		out[i] = a.head(p.x, p.y)
	}
	return out
}

// mirrored completes the right half of a shape, given from top to bottom, with its left half.
func mirrored(right ...vec) []vec {
	points := append([]vec{}, right...)
	for i := len(right) - 1; i >= 0; i-- {
		if p := right[i]; p.x != 0 {
			points = append(points, vec{-p.x, p.y})
		}
	}
	return points
}

// add lays a layer and gives its position.
func (a *artist) add(l layer) int {
	a.d.layers = append(a.d.layers, l)
	return len(a.d.layers) - 1
}

func (a *artist) solid(shape *outline, c rgb) int {
	return a.add(layer{shape: shape, paint: a.wash(c, 0.5, 0.06)})
}

// tint darkens softly what is below: a shadow, a blush.
func (a *artist) tint(shape *outline, c rgb, soft, strength float64, clip *outline) int {
	return a.add(layer{shape: shape, soft: soft, multiply: true, clip: clip,
		paint: func(vec, float64, vec) rgb { return rgb{1, 1, 1}.mix(c, strength) }})
}

// wash is watercolour: it pools at its edge, flows unevenly, and darkens away from the light.
func (a *artist) wash(c rgb, shade, width float64) func(vec, float64, vec) rgb {
	seed := a.random.Uint32()
	return func(p vec, depth float64, inwards vec) rgb {
		facing := -inwards.dot(a.light)
		form := math.Exp(-depth / width)
		v := c
		if facing < 0 {
			v = v.dark(-facing * form * shade)
		} else {
			v = v.light(0.35 * facing * form * shade)
		}
		return pigment(v, p, depth, seed)
	}
}

// pigment is what water does to a colour.
func pigment(c rgb, p vec, depth float64, seed uint32) rgb {
	flow := clouds(4.2*p.x, 4.2*p.y, seed) - 0.5
	if flow > 0 {
		c = c.dark(0.42 * flow)
	} else {
		c = c.light(-0.40 * flow)
	}
	return c.dark(0.34 * math.Exp(-math.Abs(depth)/0.0055))
}

// line adds a pencil stroke above a layer.
func (a *artist) line(points []vec, width, dark float64, above int, clip *outline) {
	a.d.strokes = append(a.d.strokes, stroke{points: points, width: width, dark: dark, above: above, clip: clip})
}

// trace follows an outline with a few pencil strokes that do not quite meet, heavier in the shadow.
func (a *artist) trace(o *outline, width, dark float64, above int) {
	n := len(o.edges)
	for i := 0; i < n; {
		length := 8 + a.random.IntN(18)
		var points []vec
		off := vec{a.spread(0.0025), a.spread(0.0025)}
		weight := 0.0
		for k := i - 1; k <= i+length; k++ {
			e := o.edges[((k%n)+n)%n]
			points = append(points, e.a.add(off))
			weight += clamp(0.55 + 0.55*vec{-e.d.y, e.d.x}.times(1/max(1e-9, e.d.length())).dot(a.light)*a.winding(o))
		}
		weight /= float64(length + 2)
		a.line(points, width*mix(0.7, 1.35, weight), dark*mix(0.55, 1, weight), above, nil)
		i += length - a.random.IntN(4)
	}
}

// winding is 1 when the edges run clockwise as seen, else −1.
func (a *artist) winding(o *outline) float64 {
	area := 0.0
	for _, e := range o.edges {
		area += e.a.x*e.d.y - e.a.y*e.d.x
	}
	if area > 0 {
		return -1
	}
	return 1
}

// hatch fills the shadow side of a shape with short pencil strokes.
func (a *artist) hatch(o *outline, n float64, reach, dark float64, above int) {
	along := vec{-a.light.y, a.light.x}
	for range a.count(n) {
		p := vec{a.span(o.lo.x, o.hi.x), a.span(o.lo.y, min(o.hi.y, a.d.half.y))}
		if !o.contains(p) {
			continue
		}
		depth, inwards := o.distance(p)
		tone := clamp(inwards.dot(a.light)) * math.Exp(-depth/reach)
		if a.random.Float64() > tone {
			continue
		}
		length := a.span(0.02, 0.05)
		bend := vec{a.light.x, a.light.y}.times(a.span(0.05, 0.25) * length)
		dir := along.add(vec{a.spread(0.15), a.spread(0.15)})
		a.line(curve(p.sub(dir.times(length)), p.add(bend), p.add(dir.times(length))), a.span(0.0022, 0.0036), dark*mix(0.5, 1, tone), above, o)
	}
}
