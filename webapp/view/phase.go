package view

import (
	"strings"
	"time"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
	"muster/shared/pool"
	"muster/shared/wire"
)

// phaseNames say in a word or two what a device does about what people decided.
var phaseNames = map[wire.Phase]string{
	wire.PhasePaused: "Paused", wire.PhaseDraining: "Draining", wire.PhaseDrained: "Drained", wire.PhaseReserved: "Reserved",
	wire.PhaseYielding: "Gives way", wire.PhaseLimited: "Limited",
}

// phaseName gives the name of a device's phase; "" of one that takes work. One that is reserved is called so from the start.
func phaseName(s *wire.Steered) string {
	if s.Phase == wire.PhaseDraining && s.Control.Mode == pool.Reserved {
		return phaseNames[wire.PhaseReserved]
	}
	return phaseNames[s.Phase]
}

// steered gives what a device does about what people decided, and whether that keeps work away.
func (p *Page) steered(ref gpu.Ref) (wire.Steered, bool) {
	s := p.state.Steered(ref)
	return s, phaseNames[s.Phase] != ""
}

// phaseWords say what stands behind a phase's name: "until 18:00", "1 image left", "to blender". working says that the device
// makes an image.
func (p *Page) phaseWords(s *wire.Steered, working bool) string {
	until := p.until(s)
	reserved := until
	if until == "" {
		reserved = "for other programs"
	}
	switch s.Phase {
	case wire.PhasePaused:
		if working {
			until += separated(until, ", ") + "1 image is being finished"
		}
		return until
	case wire.PhaseDraining:
		switch {
		case s.Control.Mode == pool.Reserved:
			return reserved + ", it is being freed"
		case working:
			return "1 image left"
		default:
			return "its memory is being freed"
		}
	case wire.PhaseDrained:
		return until + separated(until, ", ") + "nothing runs, no model is loaded"
	case wire.PhaseReserved:
		return reserved
	case wire.PhaseYielding:
		return strings.TrimPrefix(s.Words, "gives way ")
	default:
		return s.Words
	}
}

// until says when a decision ends by itself; "" when a person must end it.
func (p *Page) until(s *wire.Steered) string {
	if s.Control.Until == nil {
		return ""
	}
	return "until " + hourOr(*s.Control.Until, p.now())
}

// hourOr writes the time of day where the reader is, HH:MM, with the date where it is not that of now. A zero now is today.
func hourOr(t, now time.Time) string {
	if now.IsZero() {
		now = time.Now()
	}
	t, now = t.Local(), now.Local()
	if t.YearDay() != now.YearDay() || t.Year() != now.Year() {
		return t.Format("2 Jan 15:04")
	}
	return t.Format("15:04")
}

// phaseSentence puts a phase's name and words together: "Reserved until 18:00", "Draining: 1 image left".
func (p *Page) phaseSentence(s *wire.Steered) (name, rest string) {
	name = phaseName(s)
	words := p.phaseWords(s, p.running[s.Device] != nil)
	for _, joined := range []string{"until ", "to ", "for "} {
		if strings.HasPrefix(words, joined) {
			return name, " " + words
		}
	}
	return name, separated(words, ": ") + words
}

// renderPhase is the line on a card that takes no work because of what people decided; nothing on others.
func (p *Page) renderPhase(ref gpu.Ref) app.UI {
	s, is := p.steered(ref)
	if !is {
		return nothing()
	}
	name, rest := p.phaseSentence(&s)
	return el("p", "phase", at{"data-phase", string(s.Phase), "title", name + rest}, el("strong", "", nil, text(name)), text(rest))
}
