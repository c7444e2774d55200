package comfyui

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a workflow that is read.
const (
	maxWorkflow = 1 << 20 // bytes
	maxNodes    = 500
)

// Node is one node of a graph in API format.
type Node struct {
	Class  string
	Inputs map[string]any // as JSON has them, numbers as json.Number
	Title  string         // what a person called it; "" for nothing
}

// Graph is a prompt in API format: nodes by their ids.
type Graph map[string]*Node

// nodeJSON is a node as ComfyUI writes it.
type nodeJSON struct {
	Class  string         `json:"class_type"`
	Inputs map[string]any `json:"inputs"`
	Meta   *metaJSON      `json:"_meta,omitempty"`
}

type metaJSON struct {
	Title string `json:"title"`
}

// MarshalJSON writes the node as ComfyUI does.
func (n *Node) MarshalJSON() ([]byte, error) {
	out := nodeJSON{Class: n.Class, Inputs: n.Inputs}
	if n.Title != "" {
		out.Meta = &metaJSON{n.Title}
	}
	return json.Marshal(out)
}

// link is what an input is connected to.
type link struct {
	node   string
	output int
}

// linkOf reads ["4", 0]; false for every other value.
func linkOf(value any) (link, bool) {
	pair, ok := value.([]any)
	if !ok || len(pair) != 2 {
		return link{}, false
	}
	id, isText := pair[0].(string)
	number, isNumber := pair[1].(json.Number)
	if !isText || !isNumber {
		return link{}, false
	}
	output, err := strconv.Atoi(number.String())
	return link{id, output}, err == nil
}

// follow gives the node that an input is linked to; nil when it is not.
func (g Graph) follow(n *Node, input string) *Node {
	to, ok := linkOf(n.Inputs[input])
	if !ok {
		return nil
	}
	return g[to.node]
}

// ids gives the nodes' ids, numbers in their order before others.
func (g Graph) ids() []string {
	return slices.SortedFunc(maps.Keys(g), func(a, b string) int {
		if len(a) != len(b) && isDigits(a) && isDigits(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
}

func isDigits(text string) bool { return text != "" && strings.Trim(text, "0123456789") == "" }

// clone copies nodes and their inputs; values that are lists or objects are shared, and never changed.
func (g Graph) clone() Graph {
	copied := make(Graph, len(g))
	for id, n := range g {
		one := *n
		one.Inputs = maps.Clone(n.Inputs)
		copied[id] = &one
	}
	return copied
}

// errNotAPI is wrapped when a file is JSON, but no workflow in API format.
var errNotAPI = errors.New("it is not in API format: in ComfyUI choose Workflow, Export (API)")

// parseGraph reads a graph in API format and checks its links.
func parseGraph(text []byte) (Graph, error) {
	if len(text) > maxWorkflow {
		return nil, fmt.Errorf("it has %d bytes, more than the %d that are allowed", len(text), maxWorkflow)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var nodes map[string]json.RawMessage
	if err := d.Decode(&nodes); err != nil {
		return nil, fmt.Errorf("it is no JSON object: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows its end")
	}
	_, hasNodes := nodes["nodes"]
	_, hasLinks := nodes["links"]
	switch {
	case hasNodes && hasLinks:
		return nil, fmt.Errorf("it was saved for ComfyUI's own page: %w", errNotAPI)
	case len(nodes) == 0:
		return nil, errors.New("it has no nodes")
	case len(nodes) > maxNodes:
		return nil, fmt.Errorf("it has %d nodes, more than the %d that are allowed", len(nodes), maxNodes)
	}
	g := make(Graph, len(nodes))
	for id, raw := range nodes {
		n, err := parseNode(raw)
		if err != nil {
			return nil, fmt.Errorf("node %q: %w", shorten(id), err)
		}
		g[id] = n
	}
	return g, g.checkLinks()
}

func parseNode(raw json.RawMessage) (*Node, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var n nodeJSON
	if err := d.Decode(&n); err != nil || n.Class == "" {
		return nil, fmt.Errorf("it has no class_type: %w", errNotAPI)
	}
	if n.Inputs == nil {
		n.Inputs = map[string]any{}
	}
	node := &Node{Class: n.Class, Inputs: n.Inputs}
	if n.Meta != nil {
		node.Title = n.Meta.Title
	}
	return node, nil
}

// checkLinks says whether every link leads to a node.
func (g Graph) checkLinks() error {
	for _, id := range g.ids() {
		for _, input := range slices.Sorted(maps.Keys(g[id].Inputs)) {
			to, ok := linkOf(g[id].Inputs[input])
			if ok && g[to.node] == nil {
				return fmt.Errorf("input %s of node %q is linked to node %q, which is not there", shorten(input), shorten(id), shorten(to.node))
			}
		}
	}
	return nil
}

// shorten bounds a name of a file that people see.
func shorten(text string) string {
	const most = 60
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
