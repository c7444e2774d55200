package view

import (
	"strconv"

	"muster/shared/job"
)

// painter writes what changes with every tick straight into the page: a card's numbers, bars and trend. Rendering a component
// for each of them costs ten times as much (BENCHMARKS.md 3 allows 6 % of the main thread for eight devices at 10 Hz).
//
// Components render the same values from the same state, and the page repaints everything after each rendering, so the two
// never disagree for longer than one frame. Owned by the UI goroutine.
type painter struct {
	on    surface
	nodes map[spot]*node
}

// surface is where the painter finds elements by id: the browser's document, or a record in tests.
type surface interface {
	find(id string) target // nil when there is none
}

// target is one element: attribute "" is its first text, "value" its property.
type target interface {
	set(attribute, value string)
}

// spot is an element's text or one of its attributes.
type spot struct{ id, attribute string }

type node struct {
	target target
	last   string
}

// reset forgets which elements there are. The next painting finds them again and writes everything.
func (p *painter) reset() { clear(p.nodes) }

func (p *painter) text(id, v string) { p.attribute(id, "", v) }

// value paints a text, and as its title why it is absent.
func (p *painter) value(id string, v value) {
	p.attribute(id, "", v.text)
	p.attribute(id, "title", v.why)
}

// progress paints how far a running image is.
func (p *painter) progress(id string, j *job.Job) {
	p.attribute(id, "max", strconv.Itoa(max(1, j.Progress.Steps)))
	p.attribute(id, "value", strconv.Itoa(j.Progress.Step))
}

func (p *painter) attribute(id, name, v string) {
	if p.nodes == nil {
		p.nodes = map[spot]*node{}
	}
	at := spot{id, name}
	n, known := p.nodes[at]
	if !known {
		n = &node{target: p.on.find(id)}
		p.nodes[at] = n
	} else if n.last == v {
		return
	}
	n.last = v
	if n.target != nil {
		n.target.set(name, v)
	}
}
