package comfyui

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Slot is a place of a workflow that a request fills in.
type Slot string

// The slots. A node's title names those that it holds: "muster:prompt", or "muster:seed,steps".
const (
	SlotPrompt    Slot = "prompt"
	SlotNegative  Slot = "negative"
	SlotSeed      Slot = "seed"
	SlotSteps     Slot = "steps"
	SlotCFG       Slot = "cfg"
	SlotWidth     Slot = "width"
	SlotHeight    Slot = "height"
	SlotModel     Slot = "model"
	SlotSampler   Slot = "sampler"
	SlotScheduler Slot = "scheduler"
	SlotEncoder   Slot = "encoder"  // a text encoder's file
	SlotEncoder2  Slot = "encoder2" // a second one's
	SlotVAE       Slot = "vae"
	SlotPrefix    Slot = "prefix" // of the file that the image is saved as
	SlotOutput    Slot = "output" // the node that saves the image
)

// kind is what belongs into a slot.
type kind int

const (
	text kind = iota
	whole
	decimal
)

func (k kind) String() string { return [...]string{"text", "a whole number", "a number"}[k] }

// slots says what belongs into each, and which input of a node holds it, the likeliest first.
var slots = map[Slot]struct {
	kind   kind
	inputs []string
}{
	SlotPrompt:    {text, []string{"text", "prompt", "value", "string", "text_g", "clip_l", "t5xxl"}},
	SlotNegative:  {text, []string{"text", "prompt", "value", "string", "text_g", "clip_l", "t5xxl"}},
	SlotSeed:      {whole, []string{"seed", "noise_seed", "value", "int"}},
	SlotSteps:     {whole, []string{"steps", "value", "int"}},
	SlotCFG:       {decimal, []string{"cfg", "guidance", "value", "float"}},
	SlotWidth:     {whole, []string{"width", "value", "int"}},
	SlotHeight:    {whole, []string{"height", "value", "int"}},
	SlotModel:     {text, []string{"ckpt_name", "unet_name", "model_name", "value"}},
	SlotSampler:   {text, []string{"sampler_name", "value"}},
	SlotScheduler: {text, []string{"scheduler", "value"}},
	SlotEncoder:   {text, []string{"clip_name", "clip_name1"}},
	SlotEncoder2:  {text, []string{"clip_name2"}},
	SlotVAE:       {text, []string{"vae_name"}},
	SlotPrefix:    {text, []string{"filename_prefix"}},
}

// place is an input that a slot's value goes into.
type place struct{ node, input string }

var titled = regexp.MustCompile(`muster:([a-z0-9]+(?:,[a-z0-9]+)*)`)

// titles finds the slots that titles name. output is the node that one names as the output, "" for none.
func (g Graph) titles() (found map[Slot][]place, output string, err error) {
	found = map[Slot][]place{}
	for _, id := range g.ids() {
		m := titled.FindStringSubmatch(g[id].Title)
		if m == nil {
			continue
		}
		for name := range strings.SplitSeq(m[1], ",") {
			if Slot(name) == SlotOutput {
				if output != "" {
					return nil, "", fmt.Errorf("nodes %q and %q are both titled muster:output: only one image is taken", output, id)
				}
				output = id
				continue
			}
			at, err := g.place(id, Slot(name))
			if err != nil {
				return nil, "", err
			}
			found[Slot(name)] = append(found[Slot(name)], at)
		}
	}
	return found, output, nil
}

// place finds the input of a node that a slot's value belongs into.
func (g Graph) place(id string, slot Slot) (place, error) {
	spec, ok := slots[slot]
	if !ok {
		return place{}, fmt.Errorf("node %q is titled muster:%s, which is no slot: there are %s", shorten(id), shorten(string(slot)), slotNames())
	}
	n := g[id]
	for _, input := range spec.inputs {
		value, has := n.Inputs[input]
		if !has {
			continue
		}
		if _, isLink := linkOf(value); isLink {
			continue
		}
		return place{id, input}, spec.kind.fits(id, input, value)
	}
	return place{}, fmt.Errorf("node %q (%s) is titled muster:%s, but has no input for that: one of %s", shorten(id), shorten(n.Class), slot, strings.Join(spec.inputs, ", "))
}

// fits says whether a value that stands in a workflow is of the kind.
func (k kind) fits(id, input string, value any) error {
	ok := false
	switch v := value.(type) {
	case string:
		ok = k == text
	case json.Number:
		_, err := v.Int64()
		ok = k == decimal || k == whole && (err == nil || isDigits(v.String()))
	}
	if !ok {
		return fmt.Errorf("input %s of node %q is not %s", input, shorten(id), k)
	}
	return nil
}

func slotNames() string {
	names := []string{string(SlotOutput)}
	for slot := range slots {
		names = append(names, string(slot))
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// fill gives a copy of the graph with the values in their slots. Values are strings, whole numbers (int64) and float64, as the slots
// want; a slot that the workflow does not have takes nothing.
func (w *Workflow) fill(values map[Slot]any) Graph {
	g := w.graph.clone()
	for slot, value := range values {
		for _, at := range w.slots[slot] {
			g[at.node].Inputs[at.input] = value
		}
	}
	return g
}

// has says whether the workflow has the slot.
func (w *Workflow) has(slot Slot) bool { return len(w.slots[slot]) > 0 }

// Slots are the names of those that a request can fill, in the order in which people think of them.
func (w *Workflow) Slots() []string {
	found := []string{}
	for _, slot := range []Slot{SlotPrompt, SlotNegative, SlotSeed, SlotSteps, SlotCFG, SlotWidth, SlotHeight, SlotSampler, SlotScheduler} {
		if w.has(slot) {
			found = append(found, string(slot))
		}
	}
	return found
}

// Explain tells in words for people what was found in the workflow, slot by slot.
func (w *Workflow) Explain() []string {
	var lines []string
	for _, slot := range slices.Sorted(maps.Keys(w.slots)) {
		for _, at := range w.slots[slot] {
			lines = append(lines, fmt.Sprintf("%s: input %s of node %q (%s)", slot, at.input, shorten(at.node), shorten(w.graph[at.node].Class)))
		}
	}
	lines = append(lines, fmt.Sprintf("image: node %q (%s)", shorten(w.output), shorten(w.graph[w.output].Class)))
	for _, slot := range []Slot{SlotNegative, SlotSeed, SlotSteps, SlotCFG, SlotWidth, SlotHeight} {
		if !w.has(slot) {
			lines = append(lines, fmt.Sprintf("%s: stays as the workflow has it; title a node muster:%s to set it", slot, slot))
		}
	}
	return lines
}
