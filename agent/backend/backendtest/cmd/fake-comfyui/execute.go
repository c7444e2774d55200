package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"syscall"
	"time"

	"muster/agent/backend/backendtest"
)

// run is one execution of a prompt.
type run struct {
	*server
	p      *prompt
	values map[string]any    // what nodes gave, by id
	signs  map[string]string // signatures of nodes, by id
	state  map[string]any    // of progress_state
}

// failure ends an execution: the type and text of an exception, or an interruption.
type failure struct {
	kind, text  string
	interrupted bool
}

// tell adds a message to the prompt's status, and sends it.
func (r *run) tell(kind string, data map[string]any) {
	data["prompt_id"], data["timestamp"] = r.p.id, time.Now().UnixMilli()
	r.p.messages = append(r.p.messages, []any{kind, data})
	if r.client != "" {
		r.send(kind, data, r.client)
	}
}

// execute is execute_async: what earlier prompts gave is taken from the cache.
func (s *server) execute(p *prompt) {
	r := &run{server: s, p: p, values: map[string]any{}, signs: map[string]string{}, state: map[string]any{}}
	p.shown, p.status, p.messages = map[string]any{}, "success", nil
	r.tell("execution_start", map[string]any{})
	cached := []string{}
	cache, shown := map[string]any{}, map[string]any{}
	s.mu.Lock()
	for _, id := range p.graph.ids() {
		sign := r.sign(id)
		if value, ok := s.cache[sign]; ok {
			cached = append(cached, id)
			cache[sign], r.values[id] = value, value
		}
		if value, ok := s.shownUI[sign]; ok {
			shown[sign], p.shown[id] = value, value
		}
	}
	s.cache, s.shownUI = cache, shown
	s.mu.Unlock()
	r.tell("execution_cached", map[string]any{"nodes": cached})
	for _, id := range p.outputs {
		if wrong := r.make(id); wrong != nil {
			p.status = "error"
			r.fail(id, wrong)
			return
		}
	}
	r.tell("execution_success", map[string]any{})
}

func (r *run) fail(id string, wrong *failure) {
	data := map[string]any{"node_id": id, "node_type": r.p.graph[id].Class, "executed": []string{}}
	if wrong.interrupted {
		r.tell("execution_interrupted", data)
		return
	}
	maps.Copy(data, map[string]any{
		"exception_message": wrong.text, "exception_type": wrong.kind, "traceback": []string{"  File \"execution.py\", line 496, in execute\n"},
		"current_inputs": map[string]any{"seed": []any{1}}, "current_outputs": []string{},
	})
	r.tell("execution_error", data)
}

// sign is a node's signature: its class and inputs, with what it is linked to.
func (r *run) sign(id string) string {
	if sign, ok := r.signs[id]; ok {
		return sign
	}
	n := r.p.graph[id]
	var b strings.Builder
	b.WriteString(n.Class)
	for _, in := range classes[n.Class].inputs {
		value := n.Inputs[in.name]
		if from, output, ok := linked(value); ok {
			fmt.Fprintf(&b, "|%s=(%s)%d", in.name, r.sign(from), output)
			continue
		}
		text, _ := json.Marshal(value)
		fmt.Fprintf(&b, "|%s=%s", in.name, text)
	}
	r.signs[id] = b.String()
	return r.signs[id]
}

// make executes a node after those that it is linked to.
func (r *run) make(id string) *failure {
	n := r.p.graph[id]
	if _, done := r.values[id]; done {
		if shown, ok := r.p.shown[id]; ok {
			r.send("executed", map[string]any{"node": id, "display_node": id, "output": shown, "prompt_id": r.p.id}, r.client)
		}
		return nil
	}
	for _, in := range classes[n.Class].inputs {
		if from, _, ok := linked(n.Inputs[in.name]); ok {
			if wrong := r.make(from); wrong != nil {
				return wrong
			}
		}
	}
	if r.stopped() {
		return &failure{interrupted: true}
	}
	r.mu.Lock()
	r.lastNode = id
	r.mu.Unlock()
	r.progress(id, 0, 1, "running")
	r.send("executing", map[string]any{"node": id, "display_node": id, "prompt_id": r.p.id}, r.client)
	value, wrong := r.evaluate(id, n)
	if wrong != nil {
		return wrong
	}
	r.values[id] = value
	r.mu.Lock()
	r.cache[r.sign(id)] = value
	if shown, ok := r.p.shown[id]; ok {
		r.shownUI[r.sign(id)] = shown
	}
	r.mu.Unlock()
	r.finished(id)
	return nil
}

// evaluate does a node's work. What it gives is a text that tells everything its result depends on.
func (r *run) evaluate(id string, n *node) (any, *failure) {
	switch n.Class {
	case "KSampler":
		if wrong := r.sample(id, n); wrong != nil {
			return nil, wrong
		}
	case "VAEDecode":
		if wrong := r.stepFault(r.steps(n)+1, id); wrong != nil {
			return nil, wrong
		}
		time.Sleep(time.Duration(r.scenario(r.p.graph).DecodeMilliseconds) * time.Millisecond)
	case "SaveImage", "PreviewImage":
		images, err := r.save(n)
		if err != nil {
			return nil, &failure{kind: "OSError", text: err.Error()}
		}
		r.p.shown[id] = map[string]any{"images": images}
		r.send("executed", map[string]any{"node": id, "display_node": id, "output": r.p.shown[id], "prompt_id": r.p.id}, r.client)
	}
	return r.sign(id), nil
}

// steps are those of the sampler that a decoder follows.
func (r *run) steps(decoder *node) int {
	if from, _, ok := linked(decoder.Inputs["samples"]); ok {
		return int(number(r.p.graph[from].Inputs["steps"]))
	}
	return 0
}

func number(value any) float64 {
	n, _ := value.(json.Number)
	f, _ := n.Float64()
	return f
}

// sample makes the steps, after loading what is not in device memory.
func (r *run) sample(id string, n *node) *failure {
	scenario := r.scenario(r.p.graph)
	r.load(scenario)
	steps := int(number(n.Inputs["steps"]))
	for step := 1; step <= steps; step++ {
		r.spoil(r.p, step)
		if wrong := r.stepFault(step, id); wrong != nil {
			return wrong
		}
		if r.stopped() {
			return &failure{interrupted: true}
		}
		time.Sleep(time.Duration(r.slower() * float64(max(1, scenario.StepMilliseconds)) * float64(time.Millisecond)))
		r.send("progress", map[string]any{"value": step, "max": steps, "prompt_id": r.p.id, "node": id}, r.client)
		r.progress(id, float64(step), float64(steps), "running")
		if r.options.previews != "none" {
			r.preview(r.p.id, id)
		}
	}
	return nil
}

func (r *run) slower() float64 {
	if f := r.shown[0].Slower; f > 0 {
		return f
	}
	return 1
}

// load puts the models of the graph into device memory.
func (r *run) load(scenario backendtest.Scenario) {
	names := map[string]bool{}
	for _, n := range r.p.graph {
		for _, input := range []string{"ckpt_name", "unet_name"} {
			if name, ok := n.Inputs[input].(string); ok {
				names[name] = true
			}
		}
	}
	r.mu.Lock()
	missing := false
	for name := range names {
		missing = missing || !r.resident[name]
	}
	r.mu.Unlock()
	if missing {
		time.Sleep(time.Duration(r.slower() * float64(scenario.LoadMilliseconds) * float64(time.Millisecond)))
	}
	r.mu.Lock()
	r.resident = names
	r.mu.Unlock()
}

func (r *run) stopped() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.interrupted
}

func (r *run) progress(id string, value, most float64, state string) {
	r.state[id] = map[string]any{"value": value, "max": most, "state": state, "node_id": id, "prompt_id": r.p.id, "display_node_id": id, "parent_node_id": nil, "real_node_id": id}
	r.send("progress_state", map[string]any{"prompt_id": r.p.id, "nodes": maps.Clone(r.state)}, r.client)
}

func (r *run) finished(id string) {
	most := 1.0
	if at, ok := r.state[id].(map[string]any); ok {
		most, _ = at["max"].(float64)
	}
	r.progress(id, most, most, "finished")
}

// stepFault does what goes wrong before a step.
func (r *run) stepFault(step int, id string) *failure {
	f, ok := r.fault(r.p, step, backendtest.Crash, backendtest.Abort, backendtest.Hang, backendtest.Fail, backendtest.OutOfMemory, backendtest.Interrupted, backendtest.Forget)
	if !ok {
		return nil
	}
	switch f.Do {
	case backendtest.Crash:
		die(syscall.SIGSEGV)
	case backendtest.Abort:
		logf("%s", f.Text)
		die(syscall.SIGABRT)
	case backendtest.Hang:
		hang()
	case backendtest.Interrupted:
		return &failure{interrupted: true}
	case backendtest.Forget:
		r.mu.Lock()
		r.running, r.pending, r.history, r.order = nil, nil, map[string]*prompt{}, nil
		r.mu.Unlock()
		return nil
	case backendtest.OutOfMemory:
		return &failure{kind: "torch.OutOfMemoryError", text: "Allocation on device 0 would exceed allowed memory. (out of memory)\nCurrently allocated     : 7.11 GiB\nThis error means you ran out of memory on your GPU.\n\nTIPS: If the workflow worked before you might have accidentally set the batch_size to a large number."}
	}
	return &failure{kind: "RuntimeError", text: f.Text + "\n"}
}
