package comfyui

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Workflow is a graph with the places that a request fills in. It is never changed.
type Workflow struct {
	graph    Graph
	slots    map[Slot][]place
	output   string   // the node whose image is taken
	samplers []string // nodes whose progress counts
}

// ParseWorkflow reads a workflow in API format, as ComfyUI's "Export (API)" writes it, and finds its slots: by titles such as
// "muster:prompt", else by well-known classes of nodes. Its error says in words for people what is wrong and what helps. Which classes
// of nodes a workflow has is the administrator's own choice: any are allowed.
func ParseWorkflow(text []byte) (*Workflow, error) {
	g, err := parseGraph(text)
	if err != nil {
		return nil, err
	}
	named, output, err := g.titles()
	if err != nil {
		return nil, err
	}
	if output == "" {
		if output, err = g.findOutput(); err != nil {
			return nil, err
		}
	}
	if g[output].Class == "SaveImageWebsocket" {
		return nil, errors.New("its image is only sent on a socket, where it is lost with the socket: end it in a SaveImage node")
	}
	w := &Workflow{graph: g, output: output, samplers: g.samplers(), slots: g.detect(named, output)}
	switch prompts := w.slots[SlotPrompt]; {
	case len(prompts) == 0:
		return nil, errors.New("it has no prompt: give the node that holds it the title muster:prompt")
	case len(prompts) > 1 && len(named[SlotPrompt]) == 0:
		return nil, fmt.Errorf("its prompt could be in %s: give the right one the title muster:prompt", nodesOf(prompts))
	}
	if len(w.slots[SlotNegative]) > 1 && len(named[SlotNegative]) == 0 {
		delete(w.slots, SlotNegative) // which one is meant is not known: all stay as they are
	}
	return w, nil
}

func nodesOf(places []place) string {
	var names []string
	for _, p := range places {
		names = append(names, fmt.Sprintf("node %q", shorten(p.node)))
	}
	return strings.Join(slices.Compact(names), " or ")
}
