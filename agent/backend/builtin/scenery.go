package builtin

import "math"

var paper = hex(0xf6f1e6)

// skies are the colours of the scenery: above, at the horizon, and of what stands there.
var skies = map[place][][3]uint32{
	studio:    {{0xcfd9d6, 0xe9e0cf, 0xb9a98f}, {0xe3cdb9, 0xf0e3d0, 0xb98f77}, {0xc6cbe0, 0xe6dfe4, 0x8f8fae}, {0xd8dcc0, 0xefe9d2, 0x99a077}},
	mountains: {{0x9fc0d6, 0xf1d9bd, 0x6d8aa8}, {0xe8a97f, 0xf6dfae, 0x8b6f95}, {0xb7cbd8, 0xe9e6da, 0x7c9590}},
	forest:    {{0xcfe0c6, 0xeef0d4, 0x56785c}, {0xd9dfc0, 0xf3e7c2, 0x7d7d49}, {0xb4cfc9, 0xe2ead9, 0x456b66}},
	sea:       {{0x9ccbe0, 0xf3e6cc, 0x4f8fae}, {0xf0b48c, 0xf8e2b8, 0x5f86a6}, {0xb9cdd6, 0xe6e6df, 0x648c96}},
	city:      {{0xc7cbdc, 0xf0dccb, 0x7b7f9c}, {0xf0bb93, 0xf7e1bd, 0x8a6a80}, {0xb9c8cf, 0xe4e2d8, 0x6f8088}},
	stars:     {{0x27305c, 0x6a5b8f, 0x3b3a66}, {0x1f3a56, 0x4f7d91, 0x2c4a66}, {0x38295a, 0x94618f, 0x4a3566}},
	garden:    {{0xd5e6cf, 0xf4efcf, 0x86a864}, {0xdce8e6, 0xf6e8da, 0x8fae78}, {0xf3dcd6, 0xf7efd9, 0x9cab70}},
}

// scenery is the painted ground behind the person: a patch of watercolour on paper.
func (a *artist) scenery() func(vec) rgb {
	choice := skies[a.place][a.random.IntN(len(skies[a.place]))]
	high, low, stand := hex(choice[0]), hex(choice[1]), hex(choice[2])
	if a.night && a.place != stars {
		night := hex(0x2c3358)
		high, low, stand = high.mix(night, 0.82), low.mix(night, 0.55), stand.mix(night, 0.62)
	}
	seed, half := a.random.Uint32(), a.d.half
	motif := a.motif(stand, low, seed)
	return func(p vec) rgb {
		// The patch ends before the paper does, with a ragged edge.
		r := math.Pow(math.Pow(math.Abs(p.x)/half.x, 5)+math.Pow(math.Abs(p.y)/half.y, 5), 0.2)
		r += 0.11*(clouds(3*p.x, 3*p.y, seed+1)-0.5) + 0.02*(noise(23*p.x, 23*p.y, seed+4)-0.5)
		within := 1 - between(0.885, 0.905, r)
		if within <= 0 {
			return paper
		}
		t := clamp((p.y/half.y+0.95)/1.5 + 0.25*(clouds(1.7*p.x, 1.7*p.y, seed+5)-0.5))
		c := motif(p, high.mix(low, t))
		c = pigment(c, p, 0.9-r, seed+6)
		bloom := clouds(2.1*p.x+7, 2.1*p.y, seed+9)
		c = c.light(0.35 * between(0.58, 0.72, bloom))
		return paper.mix(c, within)
	}
}

// motif gives what stands in the scenery, painted over the sky.
func (a *artist) motif(stand, low rgb, seed uint32) func(p vec, sky rgb) rgb {
	sun := vec{a.mirror * -a.span(0.45, 0.7), -a.span(0.45, 0.66)}
	size := a.span(0.10, 0.16)
	horizon := a.span(0.05, 0.25)
	disc := func(p vec, sky, c rgb) rgb {
		d := p.sub(sun).length()
		sky = sky.mix(c, 0.5*math.Exp(-math.Pow(max(0, d-size)/0.12, 2)))
		return sky.mix(c, 1-between(size-0.008, size+0.004, d))
	}
	switch a.place {
	case mountains:
		return func(p vec, sky rgb) rgb {
			c := disc(p, sky, hex(0xf9dba0))
			for i := range 3 {
				k := float64(i)
				ridge := horizon - 0.52 + 0.26*k + 0.36*(0.5-clouds(1.3*p.x+9*k, 3.7*k, seed+uint32(i)))*2 + 0.05*(noise(9*p.x, k, seed)-0.5)
				c = c.mix(stand.mix(low, 0.66-0.30*k).light(0.20*clamp(1-(p.y-ridge)*4)), between(0, 0.012, p.y-ridge))
			}
			return c
		}
	case forest:
		return func(p vec, sky rgb) rgb {
			c := disc(p, sky, hex(0xf7eab8))
			for i := range 3 {
				k := float64(i)
				pitch := 0.20 + 0.05*k
				x := p.x/pitch + 0.37*k
				cell := math.Floor(x)
				tall := 0.55 + 0.5*lattice(int32(cell), int32(i), seed)
				tip := 0.35 + 0.12*k - tall
				across := math.Abs(x - cell - 0.5)
				down := p.y - tip
				branch := 0.5 * clamp(down/tall) * (0.62 + 0.38*math.Abs(math.Mod(down*9+3, 1)))
				c = c.mix(stand.mix(low, 0.62-0.27*k), between(-0.03, 0.03, branch-across)*between(0, 0.02, down))
			}
			return c
		}
	case sea:
		return func(p vec, sky rgb) rgb {
			c := disc(p, sky, hex(0xfbe0a6))
			depth := p.y - horizon
			wave := noise(5*p.x/(0.25+math.Abs(depth)), 34*math.Sqrt(math.Abs(depth)+0.01), seed)
			water := stand.light(0.45*between(0.5, 0.75, wave)).mix(low, 0.4*math.Exp(-max(0, depth)*6))
			glitter := math.Exp(-math.Pow((p.x-sun.x)/0.13, 2)) * between(0.52, 0.7, wave)
			return c.mix(water.mix(hex(0xfdeec8), 0.7*glitter), between(-0.004, 0.006, depth))
		}
	case city:
		return func(p vec, sky rgb) rgb {
			c := disc(p, sky, hex(0xf8e3b4))
			for i := range 2 {
				k := float64(i)
				pitch := 0.17 + 0.07*k
				x := p.x/pitch + 0.3*k
				cell := math.Floor(x)
				roof := 0.10 + 0.1*k - 0.85*lattice(int32(cell), int32(i)+5, seed)*(1-0.3*k)
				if p.y < roof {
					continue
				}
				wall := stand.mix(low, 0.55-0.38*k)
				wx, wy := math.Mod((x-cell)*4.0, 1), math.Mod((p.y-roof)*15+100, 1)
				pane := between(0.18, 0.28, wx) * (1 - between(0.72, 0.82, wx)) * between(0.3, 0.4, wy) * (1 - between(0.75, 0.85, wy))
				lit := lattice(int32(cell)*4+int32((x-cell)*4), int32((p.y-roof)*15), seed+uint32(i))
				if lit > 0.55 {
					wall = wall.mix(hex(0xf6d987), 0.75*pane)
				} else {
					wall = wall.mix(low, 0.25*pane)
				}
				c = wall
			}
			return c
		}
	case stars:
		return func(p vec, sky rgb) rgb {
			sky = sky.mix(hex(0xb58fc0), 0.55*between(0.5, 0.85, clouds(1.6*p.x+0.9*p.y, 2.2*p.y-p.x, seed+3)))
			c := disc(p, sky, hex(0xf3ead2))
			if d := p.sub(sun.add(vec{size * 0.42 * a.mirror, -size * 0.1})).length(); d < size { // a crescent
				c = c.mix(sky, 1-between(size*0.86, size*0.92, d))
			}
			for i := range 2 {
				grid := 11.0 + 12*float64(i)
				gx, gy := math.Floor(p.x*grid), math.Floor(p.y*grid)
				at := vec{(gx + 0.2 + 0.6*lattice(int32(gx), int32(gy), seed+31)) / grid, (gy + 0.2 + 0.6*lattice(int32(gx), int32(gy), seed+32)) / grid}
				bright := lattice(int32(gx), int32(gy), seed+33)
				if bright > 0.5 {
					c = c.mix(hex(0xfffbe8), 0.95*math.Exp(-math.Pow(p.sub(at).length()/(0.004+0.006*(bright-0.5)), 2)))
				}
			}
			return c
		}
	case garden:
		return func(p vec, sky rgb) rgb {
			hills := horizon + 0.10*(noise(2*p.x, 3, seed)-0.5)
			c := sky.mix(stand.light(0.45), between(-0.05, 0.08, p.y-hills))
			for i := range 3 {
				k := float64(i)
				grid := 7.5 - 1.6*k
				gx, gy := math.Floor(p.x*grid+0.5*k), math.Floor(p.y*grid)
				at := vec{(gx - 0.5*k + 0.25 + 0.5*lattice(int32(gx), int32(gy), seed+41+uint32(i))) / grid, (gy + 0.25 + 0.5*lattice(int32(gx), int32(gy), seed+44+uint32(i))) / grid}
				kind := lattice(int32(gx), int32(gy), seed+47+uint32(i))
				d := p.sub(at)
				petals := (0.20 + 0.06*math.Sin(5*math.Atan2(d.y, d.x)+6*kind)) / grid
				bloom := [3]rgb{a.accent.light(0.35), a.cloth.light(0.45), hex(0xf6f0e0)}[int(kind*2.999)]
				if kind < 0.12 {
					bloom = stand
				}
				open := 1 - between(petals*0.88, petals, d.length())
				c = c.mix(bloom, 0.85*open).mix(hex(0xe6c052), 0.9*open*(1-between(0.05/grid, 0.07/grid, d.length())))
			}
			return c
		}
	}
	return func(p vec, sky rgb) rgb { // a halo of loose brushwork
		ring := p.sub(vec{0, -0.18}).length()
		sweep := noise(3*math.Atan2(p.y+0.18, p.x), 7*ring, seed)
		return sky.mix(stand, 0.30*between(0.45, 0.7, sweep)*between(0.2, 0.5, ring)*(1-between(0.9, 1.5, ring)))
	}
}
