package comfyui

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"image"
	_ "image/jpeg" // for the head of a preview
	_ "image/png"
	"math"

	"muster/agent/backend"
)

// message is what the socket says of a prompt, as far as it is needed.
type message struct {
	kind   string // "progress", "executing", …; "" for nothing of interest
	prompt string // "" for whichever runs
	node   string // "" for none
	done   bool   // nothing runs any more
	nodes  map[string]progress
}

// progress is how far a node is.
type progress struct {
	value, most float64
	finished    bool
}

// share is the part of a node's work that is done, 0 to 1.
func (p progress) share() float64 {
	if p.most <= 0 || math.IsNaN(p.value) || math.IsNaN(p.most) {
		return 0
	}
	return min(max(p.value/p.most, 0), 1)
}

// parseMessage reads a text message. What it does not understand is nothing of interest: servers and their extensions send many more.
func parseMessage(text []byte) message {
	var m struct {
		Type string          `json:"type"`
		Data json.RawMessage `json:"data"`
	}
	if json.Unmarshal(text, &m) != nil {
		return message{}
	}
	var d struct {
		Prompt string          `json:"prompt_id"`
		Node   *string         `json:"node"`
		Value  float64         `json:"value"`
		Max    float64         `json:"max"`
		Nodes  json.RawMessage `json:"nodes"` // of execution_cached a list of ids
	}
	switch m.Type {
	case "execution_start", "execution_cached", "executing", "progress", "progress_state", "executed", "execution_success", "execution_error", "execution_interrupted":
	default:
		return message{}
	}
	if json.Unmarshal(m.Data, &d) != nil {
		return message{}
	}
	out := message{kind: m.Type, prompt: d.Prompt}
	if d.Node != nil {
		out.node = *d.Node
	}
	switch m.Type {
	case "executing":
		out.done = d.Node == nil && d.Prompt != ""
	case "progress":
		out.nodes = map[string]progress{out.node: {value: d.Value, most: d.Max}}
	case "progress_state":
		out.nodes = parseNodes(d.Nodes)
	}
	return out
}

// parseNodes reads the nodes of a progress_state.
func parseNodes(text []byte) map[string]progress {
	var told map[string]struct {
		Value float64 `json:"value"`
		Max   float64 `json:"max"`
		State string  `json:"state"`
	}
	if json.Unmarshal(text, &told) != nil {
		return nil
	}
	nodes := make(map[string]progress, len(told))
	for id, n := range told {
		nodes[id] = progress{value: n.Value, most: n.Max, finished: n.State == "finished"}
	}
	return nodes
}

// Kinds of binary messages (protocol.py).
const (
	previewImage         = 1
	previewImageWithMeta = 4
)

// errNoPreview says that a binary message is no preview that can be shown.
var errNoPreview = errors.New("no preview")

// maxPreviewSide bounds a preview's sides in pixels: the head alone is read here, but a browser unpacks it.
const maxPreviewSide = 4096

// parseBinary reads a binary message: a preview, with the prompt that it is of where the server tells, else "". The preview's bytes are
// those of the message.
func parseBinary(data []byte) (p backend.Preview, prompt string, err error) {
	if len(data) < 8 {
		return p, "", errNoPreview
	}
	kind, head, rest := binary.BigEndian.Uint32(data), binary.BigEndian.Uint32(data[4:]), data[8:]
	switch kind {
	case previewImage:
	case previewImageWithMeta:
		if uint64(head) > uint64(len(rest)) {
			return p, "", errNoPreview
		}
		var about struct {
			Prompt string `json:"prompt_id"`
		}
		if json.Unmarshal(rest[:head], &about) != nil {
			return p, "", errNoPreview
		}
		prompt, rest = about.Prompt, rest[head:]
	default:
		return p, "", errNoPreview
	}
	if len(rest) > backend.MaxPreviewBytes {
		return p, prompt, errNoPreview
	}
	config, format, err := image.DecodeConfig(byteReader(rest))
	if err != nil || config.Width > maxPreviewSide || config.Height > maxPreviewSide || format != "jpeg" && format != "png" {
		return p, prompt, errNoPreview
	}
	return backend.Preview{Data: rest, Type: "image/" + format}, prompt, nil
}
