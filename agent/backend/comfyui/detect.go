package comfyui

import (
	"fmt"
	"slices"
	"strings"
)

// samplerClasses are the nodes that make steps.
var samplerClasses = []string{"KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced"}

// samplers gives the ids of the nodes that make steps.
func (g Graph) samplers() []string {
	var found []string
	for _, id := range g.ids() {
		if slices.Contains(samplerClasses, g[id].Class) {
			found = append(found, id)
		}
	}
	return found
}

// detect finds slots by well-known classes of nodes, for those that no title names.
func (g Graph) detect(named map[Slot][]place, output string) map[Slot][]place {
	found := map[Slot][]place{}
	take := func(slot Slot, places []place) {
		if len(named[slot]) > 0 {
			found[slot] = named[slot]
		} else if len(places) > 0 {
			found[slot] = places
		}
	}
	for slot := range named {
		take(slot, nil)
	}
	take(SlotPrompt, g.encoders("positive", "conditioning"))
	take(SlotNegative, unless(g.encoders("negative"), found[SlotPrompt]))
	take(SlotSeed, g.feeding(SlotSeed, "seed", "noise_seed", "noise"))
	take(SlotSteps, only(g.feeding(SlotSteps, "steps", "sigmas")))
	take(SlotCFG, only(append(g.feeding(SlotCFG, "cfg", "guider"), g.ofClass(SlotCFG, "FluxGuidance")...)))
	take(SlotSampler, only(g.feeding(SlotSampler, "sampler_name", "sampler")))
	take(SlotScheduler, only(g.feeding(SlotScheduler, "scheduler", "sigmas")))
	take(SlotWidth, only(g.latents(SlotWidth)))
	take(SlotHeight, only(g.latents(SlotHeight)))
	if g[output].Class == "SaveImage" {
		take(SlotPrefix, g.ofClass(SlotPrefix, "SaveImage"))
	}
	return found
}

// only gives places when there is one: of several it is not known which is meant.
func only(places []place) []place {
	if len(places) == 1 {
		return places
	}
	return nil
}

// unless leaves out places that another slot has: a workflow whose negative prompt is its positive one has none of its own.
func unless(places, taken []place) []place {
	return slices.DeleteFunc(places, func(p place) bool { return slices.Contains(taken, p) })
}

// encoders finds the texts behind inputs of the samplers, or of the guiders before them: through conditioning nodes of any class to
// the nodes that encode a text, and through links to the node that holds it.
func (g Graph) encoders(inputs ...string) []place {
	var found []place
	for _, id := range g.samplers() {
		from := []*Node{g[id], g.follow(g[id], "guider")}
		for _, n := range from {
			if n == nil {
				continue
			}
			for _, input := range inputs {
				if to, ok := linkOf(n.Inputs[input]); ok {
					g.texts(to.node, input, map[string]bool{}, &found)
				}
			}
		}
	}
	return found
}

// conditioningInputs are those by which conditioning goes on towards the text of a prompt.
var conditioningInputs = []string{"conditioning", "conditioning_1", "conditioning_2", "conditioning_to", "conditioning_from", "positive"}

// texts walks from a conditioning node to the literal texts behind it. side is the input that was followed from the sampler: a node
// that has both a positive and a negative input (a ControlNet) goes on by the same one.
func (g Graph) texts(id, side string, seen map[string]bool, found *[]place) {
	n := g[id]
	if seen[id] || n.Class == "ConditioningZeroOut" {
		return
	}
	seen[id] = true
	if strings.HasPrefix(n.Class, "CLIPTextEncode") || n.Inputs["text"] != nil {
		if at, ok := g.literal(id, map[string]bool{}); ok && !slices.Contains(*found, at) {
			*found = append(*found, at)
		}
		return
	}
	inputs := conditioningInputs
	if side == "negative" {
		inputs = append([]string{"negative"}, conditioningInputs[:len(conditioningInputs)-1]...)
	}
	for _, input := range inputs {
		if to, ok := linkOf(n.Inputs[input]); ok {
			g.texts(to.node, side, seen, found)
		}
	}
}

// literal finds the text that a node encodes: its own, or that of a node which it is linked to.
func (g Graph) literal(id string, seen map[string]bool) (place, bool) {
	if seen[id] {
		return place{}, false
	}
	seen[id] = true
	for _, input := range slots[SlotPrompt].inputs {
		switch value := g[id].Inputs[input].(type) {
		case string:
			return place{id, input}, true
		case []any:
			if to, ok := linkOf(value); ok {
				return g.literal(to.node, seen)
			}
		}
	}
	return place{}, false
}

// feeding finds a slot's literal in the samplers, or in the node that an input of theirs is linked to.
func (g Graph) feeding(slot Slot, inputs ...string) []place {
	var found []place
	for _, id := range g.samplers() {
		if at, err := g.place(id, slot); err == nil {
			found = append(found, at)
			continue
		}
		for _, input := range inputs {
			to, ok := linkOf(g[id].Inputs[input])
			if !ok {
				continue
			}
			if at, err := g.place(to.node, slot); err == nil && !slices.Contains(found, at) {
				found = append(found, at)
			}
			break
		}
	}
	return found
}

// ofClass finds a slot in all nodes of a class.
func (g Graph) ofClass(slot Slot, class string) []place {
	var found []place
	for _, id := range g.ids() {
		if g[id].Class == class {
			if at, err := g.place(id, slot); err == nil {
				found = append(found, at)
			}
		}
	}
	return found
}

// latents finds a slot in the nodes that make empty latent images.
func (g Graph) latents(slot Slot) []place {
	var found []place
	for _, id := range g.ids() {
		if class := g[id].Class; strings.HasPrefix(class, "Empty") && strings.Contains(class, "Latent") {
			if at, err := g.place(id, slot); err == nil {
				found = append(found, at)
			}
		}
	}
	return found
}

// findOutput finds the node whose image is taken, where no title names it.
func (g Graph) findOutput() (string, error) {
	for _, class := range []string{"SaveImage", "PreviewImage"} {
		var found []string
		for _, id := range g.ids() {
			if g[id].Class == class {
				found = append(found, id)
			}
		}
		switch len(found) {
		case 0:
		case 1:
			return found[0], nil
		default:
			return "", fmt.Errorf("it has %d nodes of the class %s: give the one whose image is wanted the title muster:output", len(found), class)
		}
	}
	return "", fmt.Errorf("it has no node that saves an image: end it in a SaveImage node, or give the node that does the title muster:output")
}
