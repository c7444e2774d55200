package comfyui

import (
	"fmt"
	"log/slog"
	"testing"
)

// What the messages of a prompt's life say, in ComfyUI's own words.
func TestMessages(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want string // kind, prompt, node, done, progress
	}{
		{`{"type":"execution_start","data":{"prompt_id":"p","timestamp":1}}`, "execution_start p - false map[]"},
		{`{"type":"execution_cached","data":{"nodes":["4","5"],"prompt_id":"p"}}`, "execution_cached p - false map[]"},
		{`{"type":"executing","data":{"node":"3","display_node":"3","prompt_id":"p"}}`, "executing p 3 false map[]"},
		{`{"type":"executing","data":{"node":"3"}}`, "executing  3 false map[]"},
		{`{"type":"executing","data":{"node":null,"prompt_id":"p"}}`, "executing p - true map[]"},
		{`{"type":"progress","data":{"value":3,"max":20,"prompt_id":"p","node":"3"}}`, "progress p 3 false map[3:0.15]"},
		{`{"type":"progress_state","data":{"prompt_id":"p","nodes":{"3":{"value":5,"max":20,"state":"running","node_id":"3","parent_node_id":null},"4":{"value":1,"max":1,"state":"finished"}}}}`,
			"progress_state p - false map[3:0.25 4:1]"},
		{`{"type":"executed","data":{"node":"9","display_node":"9","output":{"images":[{"filename":"a"}]},"prompt_id":"p"}}`, "executed p 9 false map[]"},
		{`{"type":"execution_error","data":{"prompt_id":"p","node_id":"3","executed":["4"],"current_inputs":{"seed":[1]}}}`, "execution_error p - false map[]"},
		{`{"type":"status","data":{"status":{"exec_info":{"queue_remaining":1}},"sid":"x"}}`, "  - false map[]"},
		{`{"type":"crystools.monitor","data":{"cpu":1}}`, "  - false map[]"},
		{`{"type":"progress","data":[1]}`, "  - false map[]"},
	} {
		m := parseMessage([]byte(tt.text))
		shares := map[string]float64{}
		for id, p := range m.nodes {
			shares[id] = p.share()
		}
		node := m.node
		if node == "" {
			node = "-"
		}
		if got := fmt.Sprintf("%s %s %s %v %v", m.kind, m.prompt, node, m.done, shares); got != tt.want {
			t.Errorf("%s\n got %s\nwant %s", tt.text, got, tt.want)
		}
	}
}

// The steps of several samplers are shares of one work, the nodes around them are none of it, and it never goes back.
func TestProgressOfSeveralSamplers(t *testing.T) {
	t.Parallel()
	w := newWatch(api{}, slog.New(slog.DiscardHandler), "c", []string{"3", "11"}, false)
	w.call("p")
	for _, tt := range []struct {
		node         string
		value, share float64
	}{{"8", 9, 0}, {"3", 5, 0.25}, {"3", 10, 0.5}, {"8", 1, 0.5}, {"11", 2, 0.6}, {"3", 1, 0.6}, {"11", 10, 1}} {
		w.take(parseMessage(fmt.Appendf(nil, `{"type":"progress","data":{"value":%v,"max":10,"prompt_id":"p","node":%q}}`, tt.value, tt.node)))
		if got := w.look().share; got != tt.share {
			t.Errorf("after %v of node %s: %v; want %v", tt.value, tt.node, got, tt.share)
		}
	}
}
