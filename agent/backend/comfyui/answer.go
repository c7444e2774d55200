package comfyui

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"muster/agent/backend/exchange"
)

// stats is what /system_stats says, as far as it is needed.
type stats struct {
	System struct {
		Version string `json:"comfyui_version"`
	} `json:"system"`
	// Devices are those that it sees, the one that it works on first. Their index counts behind a mask.
	Devices []struct {
		Name       string  `json:"name"` // "cuda:0 NVIDIA GeForce RTX 4090 : cudaMallocAsync"
		Type       string  `json:"type"` // "cuda", also for ROCm; "xpu", "mps", "cpu", "privateuseone" (DirectML)
		VRAMTotal  float64 `json:"vram_total"`
		TorchTotal float64 `json:"torch_vram_total"` // what PyTorch holds, in bytes
		TorchFree  float64 `json:"torch_vram_free"`
	} `json:"devices"`
}

func (s stats) title() string { return "ComfyUI " + exchange.Clean(s.System.Version) }

// onCPU says that it computes on the processor.
func (s stats) onCPU() bool { return len(s.Devices) > 0 && s.Devices[0].Type == "cpu" }

// held is the device memory that models and caches take, in bytes.
func (s stats) held() float64 {
	if len(s.Devices) == 0 {
		return 0
	}
	return s.Devices[0].TorchTotal - s.Devices[0].TorchFree
}

// record is a prompt's entry in history.
type record struct {
	Status  *recordStatus              `json:"status"`
	Outputs map[string]json.RawMessage `json:"outputs"` // by node; of those of other nodes anything may be in them
}

type recordStatus struct {
	Status   string            `json:"status_str"` // "success" or "error"
	Messages []json.RawMessage `json:"messages"`   // [kind, data]
}

// images are those that a node has shown.
func (r *record) images(node string) []file {
	var shown struct {
		Images []file `json:"images"`
	}
	if json.Unmarshal(r.Outputs[node], &shown) != nil {
		return nil
	}
	return shown.Images
}

// file is an image on the server's disk.
type file struct {
	Filename  string `json:"filename"`
	Subfolder string `json:"subfolder"`
	Type      string `json:"type"` // "output" or "temp"
}

// safe says whether a file may be asked for: a server's names are no paths that lead elsewhere.
func (f file) safe() error {
	switch {
	case f.Filename == "" || len(f.Filename) > maxFileName || strings.ContainsAny(f.Filename, `/\`+"\x00") || strings.Contains(f.Filename, ".."):
		return errors.New("an image whose file has no usable name")
	case len(f.Subfolder) > maxFileName || strings.Contains(f.Subfolder, "..") || strings.ContainsRune(f.Subfolder, 0) || strings.HasPrefix(f.Subfolder, "/"):
		return errors.New("an image in a folder that can't be named")
	case f.Type != "output" && f.Type != "temp":
		return errors.New("an image that is neither output nor temporary")
	}
	return nil
}

// parseHistory reads /history/ID: {} for a prompt that has not ended; nil then.
func parseHistory(text []byte, id string) (*record, error) {
	var all map[string]*record
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, errors.New(exchange.Clean(err.Error()))
	}
	r, ok := all[id]
	switch {
	case len(all) == 0:
		return nil, nil
	case !ok || r == nil:
		return nil, errors.New("another prompt's history")
	}
	return r, nil
}

// failure is why a prompt ended without an image.
type failure struct {
	interrupted bool
	node        string // its class
	kind        string // of the exception: "torch.OutOfMemoryError"
	text        string
}

// failure finds it in the messages of a record; the zero value when they do not tell.
func (r *record) failure() failure {
	var f failure
	if r.Status == nil {
		return f
	}
	for _, raw := range r.Status.Messages {
		var pair []json.RawMessage
		var kind string
		if json.Unmarshal(raw, &pair) != nil || len(pair) != 2 || json.Unmarshal(pair[0], &kind) != nil {
			continue
		}
		switch kind {
		case "execution_interrupted":
			f.interrupted = true
		case "execution_error":
			var said struct {
				Node string `json:"node_type"`
				Kind string `json:"exception_type"`
				Text string `json:"exception_message"`
			}
			if json.Unmarshal(pair[1], &said) == nil {
				f = failure{node: exchange.Clean(said.Node), kind: exchange.Clean(said.Kind), text: firstLines(said.Text)}
			}
		}
	}
	return f
}

// firstLines is what an exception says, without the tips behind it.
func firstLines(text string) string {
	text = strings.TrimSpace(text)
	if before, _, ok := strings.Cut(text, "\n\n"); ok {
		text = before
	}
	return exchange.Clean(strings.ReplaceAll(text, "\n", " "))
}

// parseQueue says where a prompt is, and whether others are there, from /queue: lists of [number, id, …].
func parseQueue(text []byte, id string) (at whereabouts, others bool, err error) {
	var q struct {
		Running *[]queueItem `json:"queue_running"`
		Pending *[]queueItem `json:"queue_pending"`
	}
	if err := json.Unmarshal(text, &q); err != nil {
		return absent, false, errors.New(exchange.Clean(err.Error()))
	}
	if q.Running == nil || q.Pending == nil {
		return absent, false, errors.New("no queue")
	}
	ours := queueItem{id}
	switch {
	case slices.Contains(*q.Running, ours):
		at = running
	case slices.Contains(*q.Pending, ours):
		at = waiting
	}
	another := func(item queueItem) bool { return item != ours }
	return at, slices.ContainsFunc(*q.Running, another) || slices.ContainsFunc(*q.Pending, another), nil
}

// queueItem is a prompt of the queue, of which its id alone is read.
type queueItem struct{ id string }

// UnmarshalJSON reads [number, id, graph, …].
func (q *queueItem) UnmarshalJSON(text []byte) error {
	var fields []json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return err
	}
	if len(fields) < 2 {
		return errors.New("a prompt of the queue without an id")
	}
	return json.Unmarshal(fields[1], &q.id)
}

// parseFiles reads the list of a folder.
func parseFiles(text []byte) ([]string, error) {
	var files []string
	if err := json.Unmarshal(text, &files); err != nil {
		return nil, errors.New(exchange.Clean(err.Error()))
	}
	return usable(files)
}

// usable leaves out names that can't be taken, and refuses a list without end.
func usable(files []string) ([]string, error) {
	if len(files) > maxFiles {
		return nil, fmt.Errorf("a list of %d files", len(files))
	}
	kept := make([]string, 0, len(files))
	for _, file := range files {
		if usableFile(file) {
			kept = append(kept, file)
		}
	}
	return kept, nil
}

// parseOptions reads the values of an input from /object_info/CLASS: a list in place of a type, or in newer nodes "COMBO" with the
// list in its options. None when the class or the input is not there.
func parseOptions(text []byte, class, input string) ([]string, error) {
	var all map[string]struct {
		Input struct {
			Required map[string][]json.RawMessage `json:"required"`
		} `json:"input"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, errors.New(exchange.Clean(err.Error()))
	}
	info := all[class].Input.Required[input]
	if len(info) == 0 {
		return nil, nil
	}
	var values []string
	if json.Unmarshal(info[0], &values) == nil {
		return usable(values)
	}
	var more struct{ Options []string }
	if len(info) < 2 || json.Unmarshal(info[1], &more) != nil {
		return nil, nil
	}
	return usable(more.Options)
}

// refusal is why POST /prompt refused a graph.
type refusal struct {
	Error struct {
		Type, Message, Details string
	} `json:"error"`
	Nodes map[string]struct {
		Class  string `json:"class_type"`
		Errors []struct {
			Type, Message, Details string
			Extra                  struct {
				Input string `json:"input_name"`
			} `json:"extra_info"`
		} `json:"errors"`
	} `json:"node_errors"`
}

// parseRefusal reads the body of a 400; false for one that is not ComfyUI's.
func parseRefusal(text []byte) (refusal, bool) {
	var r refusal
	if json.Unmarshal(text, &r) != nil || r.Error.Type == "" {
		return refusal{}, false
	}
	r.Error.Message, r.Error.Details = exchange.Clean(r.Error.Message), exchange.Clean(r.Error.Details)
	return r, utf8.ValidString(r.Error.Message)
}
