package builtin

import "math"

// hash mixes two lattice coordinates and a seed into 32 well-spread bits.
func hash(x, y int32, seed uint32) uint32 {
	h := uint32(x)*0x8da6b343 ^ uint32(y)*0xd8163841 ^ seed*0xcb1ab31f
	h ^= h >> 15
	h *= 0x2c1b3c6d
	h ^= h >> 12
	h *= 0x297a2d39
	return h ^ h>>15
}

// lattice is a value from 0 to 1 at a lattice point.
func lattice(x, y int32, seed uint32) float64 { return float64(hash(x, y, seed)) / math.MaxUint32 }

// noise is smooth value noise, 0 to 1, with one bump per unit.
func noise(x, y float64, seed uint32) float64 {
	fx, fy := math.Floor(x), math.Floor(y)
	ix, iy := int32(int64(fx)), int32(int64(fy))
	u, v := ease(x-fx), ease(y-fy)
	top := mix(lattice(ix, iy, seed), lattice(ix+1, iy, seed), u)
	bottom := mix(lattice(ix, iy+1, seed), lattice(ix+1, iy+1, seed), u)
	return mix(top, bottom, v)
}

// clouds is noise of three octaves, 0 to 1.
func clouds(x, y float64, seed uint32) float64 {
	return 0.57*noise(x, y, seed) + 0.29*noise(2.03*x, 2.03*y, seed+1) + 0.14*noise(4.1*x, 4.1*y, seed+2)
}

func ease(t float64) float64 { return t * t * (3 - 2*t) }

func mix(a, b, t float64) float64 { return a + (b-a)*t }

func clamp(v float64) float64 { return min(1, max(0, v)) }

// between rises smoothly from 0 at a to 1 at b.
func between(a, b, v float64) float64 { return ease(clamp((v - a) / (b - a))) }

// rgb is a colour, each channel 0 to 1 as in sRGB.
type rgb [3]float64

func hex(code uint32) rgb {
	return rgb{float64(code>>16&255) / 255, float64(code>>8&255) / 255, float64(code&255) / 255}
}

func (c rgb) mix(o rgb, t float64) rgb {
	return rgb{mix(c[0], o[0], t), mix(c[1], o[1], t), mix(c[2], o[2], t)}
}

func (c rgb) times(f float64) rgb { return rgb{c[0] * f, c[1] * f, c[2] * f} }

// dark is the colour as it is in shadow: darker, a little cooler and richer.
func (c rgb) dark(t float64) rgb {
	return c.mix(rgb{c[0] * c[0] * 0.62, c[1] * c[1] * 0.60, c[2]*c[2]*0.66 + 0.05}, t)
}

func (c rgb) light(t float64) rgb { return c.mix(rgb{1, 0.985, 0.95}, t) }
