package comfyui

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"muster/agent/backend/exchange"
)

// lackTimeout bounds the questions about all nodes of one workflow.
const lackTimeout = 5 * time.Second

// Lacks says in words for people what the server lacks to make images with a workflow: classes of nodes, and files that nodes load. None
// when it has all. It fails when the server does not answer.
func (g *Generator) Lacks(ctx context.Context, w *Workflow) (lacks []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, lackTimeout)
	defer cancel()
	known := map[string]json.RawMessage{} // what the server tells of a class; nil when it does not say
	for _, id := range w.graph.ids() {
		node := w.graph[id]
		info, asked := known[node.Class]
		if !asked && !strings.ContainsAny(node.Class, "/\\") { // which can't be asked for by a path
			text, has, err := g.server.api.class(ctx, node.Class)
			if err != nil {
				return nil, err
			}
			if !has {
				lacks = append(lacks, fmt.Sprintf("the node %q", shorten(node.Class)))
			} else {
				info = text
			}
		}
		known[node.Class] = info
		for _, file := range node.missing(info) {
			if !slices.Contains(lacks, file) {
				lacks = append(lacks, file)
			}
		}
	}
	return lacks, nil
}

// class gives what the server tells of a class of nodes; false when it has none.
func (a api) class(ctx context.Context, class string) (text json.RawMessage, has bool, err error) {
	text, err = a.Bytes(ctx, exchange.Call{Method: http.MethodGet, Path: "/object_info/" + url.PathEscape(class), Limit: maxInfo})
	if err != nil {
		return nil, false, err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, false, fmt.Errorf("%s %w: %s", a.Name(), exchange.ErrBroken, exchange.Clean(err.Error()))
	}
	return text, all[class] != nil, nil
}

// missing names the values of a node that are none of those that its class takes, as /object_info tells them; nil is not known.
func (n *Node) missing(info json.RawMessage) (lacks []string) {
	if info == nil {
		return nil
	}
	for _, input := range slices.Sorted(maps.Keys(n.Inputs)) {
		value, isText := n.Inputs[input].(string)
		if !isText || !usableFile(value) {
			continue
		}
		if values, err := parseOptions(info, n.Class, input); err == nil && len(values) > 0 && !slices.Contains(values, value) {
			lacks = append(lacks, fmt.Sprintf("%s %q", input, shorten(value)))
		}
	}
	return lacks
}
