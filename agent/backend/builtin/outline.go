package builtin

import "math"

// vec is a point of the drawing: x to the right, y down, the shorter side of the image from −1 to 1.
type vec struct{ x, y float64 }

func (a vec) add(b vec) vec            { return vec{a.x + b.x, a.y + b.y} }
func (a vec) sub(b vec) vec            { return vec{a.x - b.x, a.y - b.y} }
func (a vec) times(f float64) vec      { return vec{a.x * f, a.y * f} }
func (a vec) dot(b vec) float64        { return a.x*b.x + a.y*b.y }
func (a vec) length() float64          { return math.Hypot(a.x, a.y) }
func (a vec) mix(b vec, t float64) vec { return vec{mix(a.x, b.x, t), mix(a.y, b.y, t)} }

// outline is a closed smooth shape, flattened to a polygon.
type outline struct {
	edges  []edge
	lo, hi vec // bounds
}

type edge struct {
	a, d    vec     // start and direction
	inverse float64 // 1 ÷ squared length
}

// curveSteps is how many straight pieces stand for the curve between two points.
const curveSteps = 6

// smooth is the closed Catmull-Rom curve through the points.
func smooth(points []vec) *outline {
	n := len(points)
	var flat []vec
	for i := range points {
		p0, p1, p2, p3 := points[(i+n-1)%n], points[i], points[(i+1)%n], points[(i+2)%n]
		for k := range curveSteps {
			flat = append(flat, catmull(p0, p1, p2, p3, float64(k)/curveSteps))
		}
	}
	return polygon(flat)
}

func catmull(p0, p1, p2, p3 vec, t float64) vec {
	at := func(a, b, c, d float64) float64 {
		return 0.5 * (2*b + (c-a)*t + (2*a-5*b+4*c-d)*t*t + (3*b-a-3*c+d)*t*t*t)
	}
	return vec{at(p0.x, p1.x, p2.x, p3.x), at(p0.y, p1.y, p2.y, p3.y)}
}

// curve is the open Catmull-Rom curve through the points.
func curve(points ...vec) []vec {
	n := len(points)
	var flat []vec
	for i := range n - 1 {
		p0, p3 := points[max(0, i-1)], points[min(n-1, i+2)]
		for k := range curveSteps {
			flat = append(flat, catmull(p0, points[i], points[i+1], p3, float64(k)/curveSteps))
		}
	}
	return append(flat, points[n-1])
}

func polygon(points []vec) *outline {
	o := &outline{lo: points[0], hi: points[0]}
	for i, a := range points {
		d := points[(i+1)%len(points)].sub(a)
		if squared := d.dot(d); squared > 1e-12 {
			o.edges = append(o.edges, edge{a, d, 1 / squared})
		}
		o.lo = vec{min(o.lo.x, a.x), min(o.lo.y, a.y)}
		o.hi = vec{max(o.hi.x, a.x), max(o.hi.y, a.y)}
	}
	return o
}

// near says whether p is within the bounds, widened by margin.
func (o *outline) near(p vec, margin float64) bool {
	return p.x > o.lo.x-margin && p.x < o.hi.x+margin && p.y > o.lo.y-margin && p.y < o.hi.y+margin
}

// distance gives how deep p lies inside (negative outside), and the direction inwards from the nearest point of the edge.
func (o *outline) distance(p vec) (depth float64, inwards vec) {
	best := math.Inf(1)
	var nearest vec
	inside := false
	for i := range o.edges {
		e := &o.edges[i]
		wx, wy := p.x-e.a.x, p.y-e.a.y
		t := (wx*e.d.x + wy*e.d.y) * e.inverse
		if t < 0 {
			t = 0
		} else if t > 1 {
			t = 1
		}
		vx, vy := wx-e.d.x*t, wy-e.d.y*t
		if d := vx*vx + vy*vy; d < best {
			best, nearest = d, vec{vx, vy}
		}
		// A ray to the right crosses this edge.
		if (e.a.y > p.y) != (e.a.y+e.d.y > p.y) && wx < e.d.x*wy/e.d.y {
			inside = !inside
		}
	}
	depth = math.Sqrt(best)
	if depth > 0 {
		inwards = nearest.times(1 / depth)
	}
	if !inside {
		return -depth, inwards.times(-1)
	}
	return depth, inwards
}

// contains is distance for callers that need only the side.
func (o *outline) contains(p vec) bool {
	if !o.near(p, 0) {
		return false
	}
	inside := false
	for i := range o.edges {
		e := &o.edges[i]
		wy := p.y - e.a.y
		if (e.a.y > p.y) != (e.a.y+e.d.y > p.y) && p.x-e.a.x < e.d.x*wy/e.d.y {
			inside = !inside
		}
	}
	return inside
}

// ring gives the points of an ellipse.
func ring(center vec, rx, ry float64, n int) []vec {
	points := make([]vec, n)
	for i := range points {
		sin, cos := math.Sincos(2 * math.Pi * float64(i) / float64(n))
		points[i] = vec{center.x + rx*cos, center.y + ry*sin}
	}
	return points
}
