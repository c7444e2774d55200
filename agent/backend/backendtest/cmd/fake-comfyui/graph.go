package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// node is one of a prompt's.
type node struct {
	Class  string         `json:"class_type"`
	Inputs map[string]any `json:"inputs"`
}

type graph map[string]*node

func (g graph) ids() []string {
	var ids []string
	for id := range g {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// linked gives the node and the output that a value is linked to.
func linked(value any) (id string, output int, ok bool) {
	pair, isList := value.([]any)
	if !isList || len(pair) != 2 {
		return "", 0, false
	}
	id, ok = pair[0].(string)
	n, isNumber := pair[1].(json.Number)
	at, err := strconv.Atoi(n.String())
	return id, at, ok && isNumber && err == nil
}

// complaint is an error of validate_prompt or validate_inputs.
func complaint(kind, message, details string, extra map[string]any) map[string]any {
	if extra == nil {
		extra = map[string]any{}
	}
	return map[string]any{"type": kind, "message": message, "details": details, "extra_info": extra}
}

// parseGraph reads the prompt of a body; else the error that validate_prompt gives.
func parseGraph(raw any) (graph, map[string]any) {
	object, ok := raw.(map[string]any)
	if !ok {
		return nil, complaint("invalid_prompt", "Cannot execute because a node is missing the class_type property.", "Node ID '#0'", nil)
	}
	g := graph{}
	for id, value := range object {
		fields, _ := value.(map[string]any)
		kind, ok := fields["class_type"].(string)
		if !ok {
			return nil, complaint("invalid_prompt", "Cannot execute because a node is missing the class_type property.", "Node ID '#"+id+"'", nil)
		}
		if _, known := classes[kind]; !known {
			return nil, complaint("invalid_prompt", "Cannot execute because node "+kind+" does not exist.", "Node ID '#"+id+"'", nil)
		}
		inputs, _ := fields["inputs"].(map[string]any)
		g[id] = &node{kind, inputs}
	}
	return g, nil
}

// validate is validate_prompt: the outputs that can be made; else the error, with those of the nodes.
func (s *server) validate(g graph) (outputs []string, problem map[string]any, nodeErrors map[string]any) {
	nodeErrors = map[string]any{}
	var details []string
	asked := false
	for _, id := range g.ids() {
		if !classes[g[id].Class].shows {
			continue
		}
		asked = true
		wrong := map[string][]any{}
		s.check(g, id, wrong, map[string]bool{})
		if len(wrong) == 0 {
			outputs = append(outputs, id)
			continue
		}
		for at, errs := range wrong {
			nodeErrors[at] = map[string]any{"errors": errs, "dependent_outputs": []string{id}, "class_type": g[at].Class}
			for _, e := range errs {
				fields := e.(map[string]any)
				if at == id {
					details = append(details, fmt.Sprintf("%s: %s", fields["message"], fields["details"]))
				}
			}
		}
	}
	switch {
	case !asked:
		return nil, complaint("prompt_no_outputs", "Prompt has no outputs", "", nil), map[string]any{}
	case len(outputs) == 0:
		return nil, complaint("prompt_outputs_failed_validation", "Prompt outputs failed validation", strings.Join(details, "\n"), nil), nodeErrors
	}
	return outputs, nil, nodeErrors
}

// check is validate_inputs of a node and of what it is linked to.
func (s *server) check(g graph, id string, wrong map[string][]any, seen map[string]bool) {
	if seen[id] {
		return
	}
	seen[id] = true
	n := g[id]
	for _, in := range classes[n.Class].inputs {
		value, ok := n.Inputs[in.name]
		if !ok {
			if !in.optional {
				wrong[id] = append(wrong[id], complaint("required_input_missing", "Required input is missing", in.name, map[string]any{"input_name": in.name}))
			}
			continue
		}
		if from, output, ok := linked(value); ok {
			if g[from] == nil {
				wrong[id] = append(wrong[id], complaint("exception_during_validation", "Exception when validating node", "'"+from+"'", nil))
				continue
			}
			kinds := classes[g[from].Class].outputs
			if output >= len(kinds) || kinds[output] != in.kind {
				wrong[id] = append(wrong[id], complaint("return_type_mismatch", "Return type mismatch between linked nodes", in.name, map[string]any{"input_name": in.name}))
				continue
			}
			s.check(g, from, wrong, seen)
			continue
		}
		if e := s.literal(in, value); e != nil {
			wrong[id] = append(wrong[id], e)
		}
	}
}

// literal checks a value that is no link.
func (s *server) literal(in input, value any) map[string]any {
	extra := map[string]any{"input_name": in.name, "received_value": value}
	switch in.kind {
	case "STRING":
		return nil
	case "INT", "FLOAT":
		n, ok := value.(json.Number)
		number, err := strconv.ParseFloat(n.String(), 64)
		switch {
		case !ok || err != nil:
			return complaint("invalid_input_type", "Failed to convert an input value to a "+in.kind+" value", fmt.Sprintf("%s, %v, invalid literal", in.name, value), extra)
		case number < in.least:
			return complaint("value_smaller_than_min", fmt.Sprintf("Value %v smaller than min of %v", value, in.least), in.name, extra)
		case in.most > 0 && number > in.most:
			return complaint("value_bigger_than_max", fmt.Sprintf("Value %v bigger than max of %v", value, in.most), in.name, extra)
		}
	case "COMBO":
		if text, ok := value.(string); !ok || !in.has(s, text) {
			list := "['" + strings.Join(in.options(s), "', '") + "']"
			if len(in.options(s)) > 20 {
				list = fmt.Sprintf("(list of length %d)", len(in.options(s)))
			}
			return complaint("value_not_in_list", "Value not in list", fmt.Sprintf("%s: '%v' not in %s", in.name, value, list), extra)
		}
	default:
		return complaint("bad_linked_input", "Bad linked input, must be a length-2 list of [node_id, slot_index]", in.name, extra)
	}
	return nil
}
