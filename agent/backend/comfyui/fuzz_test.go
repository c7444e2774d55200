package comfyui

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"muster/agent/backend"
)

// FuzzMessage: whatever a socket says, progress stays between nothing and all, and never goes back.
func FuzzMessage(f *testing.F) {
	for _, text := range []string{
		`{"type":"progress","data":{"value":3,"max":20,"prompt_id":"p","node":"3"}}`,
		`{"type":"progress","data":{"value":-3,"max":0,"prompt_id":"p","node":"3"}}`,
		`{"type":"progress_state","data":{"prompt_id":"p","nodes":{"3":{"value":1e308,"max":1e-308,"state":"running"}}}}`,
		`{"type":"executing","data":{"node":null,"prompt_id":"p"}}`,
		`{"type":"executing","data":{"node":"3"}}`,
		`{"type":"execution_success","data":{"prompt_id":"p"}}`,
		`{"type":"execution_cached","data":{"nodes":["4","5"],"prompt_id":"p"}}`,
		`{"type":"status","data":{"status":{"exec_info":{"queue_remaining":1}},"sid":"x"}}`,
		`{"type":"executed","data":{"node":"9","output":{"images":[{"filename":"a"}]},"prompt_id":"p"}}`,
		`{"type":`, `[]`, `null`,
	} {
		f.Add([]byte(text), []byte(text))
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		w := newWatch(api{}, slog.New(slog.DiscardHandler), "c", []string{"3"}, true)
		w.call("p")
		last := 0.0
		for _, text := range [][]byte{one, two, one} {
			m := parseMessage(text)
			w.take(m)
			at := w.look()
			if math.IsNaN(at.share) || at.share < last || at.share > 1 {
				t.Fatalf("share %v after %v", at.share, last)
			}
			if m.prompt != "p" && at.running && !bytes.Contains(one, []byte(`p`)) && !bytes.Contains(two, []byte(`p`)) {
				t.Fatal("another prompt's message is taken for ours")
			}
			last = at.share
		}
	})
}

// FuzzBinary: what is taken for a preview is a JPEG or PNG of a bounded size, and part of the message.
func FuzzBinary(f *testing.F) {
	frame := func(kind uint32, parts ...[]byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, kind), bytes.Join(parts, nil)...)
	}
	png := []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x10\x00\x00\x00\x10\x08\x00\x00\x00\x00:\x98\xa0\xbd")
	about := []byte(`{"prompt_id":"p","image_type":"image/png"}`)
	f.Add(frame(1, []byte{0, 0, 0, 2}, png))
	f.Add(frame(4, binary.BigEndian.AppendUint32(nil, uint32(len(about))), about, png))
	f.Add(frame(4, []byte{255, 255, 255, 255}, png))
	f.Add(frame(3, []byte{0, 0, 0, 1}, []byte("3text")))
	f.Add([]byte{0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		p, _, err := parseBinary(data)
		if err != nil {
			if p.Data != nil {
				t.Fatal("a preview with an error")
			}
			return
		}
		if p.Type != "image/jpeg" && p.Type != "image/png" || len(p.Data) > backend.MaxPreviewBytes || !bytes.HasSuffix(data, p.Data) {
			t.Fatalf("%d bytes of %s", len(p.Data), p.Type)
		}
	})
}

// FuzzHistory: an entry is that of the prompt that was asked for, and a file that is asked for is a plain name.
func FuzzHistory(f *testing.F) {
	const id = "11111111-1111-1111-1111-111111111111"
	for _, text := range []string{
		`{}`, `{"` + id + `":{"outputs":{"9":{"images":[{"filename":"a_00001_.png","subfolder":"muster","type":"output"}]}},"status":{"status_str":"success","completed":true,"messages":[]}}}`,
		`{"` + id + `":{"status":{"status_str":"error","messages":[["execution_error",{"exception_type":"torch.OutOfMemoryError","exception_message":"x","node_type":"KSampler"}]]}}}`,
		`{"` + id + `":{"status":{"status_str":"error","messages":[["execution_interrupted",{}],7,[],["a"],[1,2]]}}}`,
		`{"` + id + `":null}`, `{"other":{}}`, `{"` + id + `":{"outputs":{"9":{"images":[{"filename":"../x","type":"input"}]}}}}`, `[]`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseHistory(text, id)
		if err != nil && r != nil {
			t.Fatal("a record with an error")
		}
		if r == nil {
			return
		}
		_ = r.problem()
		for node := range r.Outputs {
			for _, image := range r.images(node) {
				if image.safe() == nil && (strings.ContainsAny(image.Filename, "/\\\x00") || strings.Contains(image.Filename+image.Subfolder, "..") || image.Type == "input") {
					t.Fatalf("%+v is taken for safe", image)
				}
			}
		}
	})
}

// FuzzQueue: a prompt is found only where its id stands.
func FuzzQueue(f *testing.F) {
	f.Add([]byte(`{"queue_running":[[0,"p",{},{},["9"]]],"queue_pending":[[1,"q",{},{},[]]]}`))
	f.Add([]byte(`{"queue_running":[[]],"queue_pending":[]}`))
	f.Add([]byte(`{"queue_running":null,"queue_pending":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		where, _, err := parseQueue(text, "an-id-of-ours")
		if where != absent && (err != nil || !bytes.Contains(text, []byte("-"))) && !bytes.Contains(text, []byte(`\u`)) {
			t.Fatalf("found at %v, %v", where, err)
		}
	})
}

// FuzzLists: names that servers list are bounded text without control characters.
func FuzzLists(f *testing.F) {
	f.Add([]byte(`["a.safetensors","b/c.ckpt"]`))
	f.Add([]byte(`{"KSampler":{"input":{"required":{"sampler_name":[["euler","heun"],{}]}}}}`))
	f.Add([]byte(`{"KSampler":{"input":{"required":{"sampler_name":["COMBO",{"options":["euler"]}]}}}}`))
	f.Add([]byte(`{"KSampler":{"input":{"required":{"sampler_name":[]}}}}`))
	f.Add([]byte("[\"\\u0000\",\"\\ud800\"]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		files, _ := parseFiles(text)
		options, _ := parseOptions(text, "KSampler", "sampler_name")
		for _, name := range slices.Concat(files, options) {
			if name == "" || len(name) > maxFileName || !utf8.ValidString(name) || strings.ContainsAny(name, "\x00\n\r\t") {
				t.Fatalf("%q is taken for a name", name)
			}
		}
		for _, e := range (catalogue{files: map[string][]string{folderCheckpoints: files, folderDiffusion: options}}).entries(nil, nil) {
			if e.name == "" || strings.ContainsAny(e.name, `/\`) {
				t.Fatalf("model %q of %q", e.name, e.file)
			}
		}
	})
}

// FuzzRefusal: what a 400 says is bounded.
func FuzzRefusal(f *testing.F) {
	f.Add([]byte(`{"error":{"type":"prompt_outputs_failed_validation","message":"m","details":"d","extra_info":{}},"node_errors":{"4":{"errors":[{"type":"value_not_in_list","message":"m","details":"d","extra_info":{"input_name":"ckpt_name"}}],"class_type":"CheckpointLoaderSimple"}}}`))
	f.Add([]byte(`{"error":"text"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, ok := parseRefusal(text); ok && (len(r.Error.Message) > 1000 || r.Error.Type == "") {
			t.Fatalf("%+v", r)
		}
	})
}

// FuzzWorkflow: what is taken as a workflow has a prompt and an output, can be filled, and is read again as the same.
func FuzzWorkflow(f *testing.F) {
	for _, text := range []string{twoTexts, advanced, hires, `{"nodes":[],"links":[]}`, `{"1":{"class_type":"SaveImage","inputs":{"images":["1",0]}}}`, `{}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		w, err := ParseWorkflow(text)
		if err != nil {
			return
		}
		if !w.has(SlotPrompt) || w.graph[w.output] == nil || len(w.Explain()) == 0 {
			t.Fatal("a workflow without prompt or output")
		}
		req := backend.Request{Prompt: "a prompt of ours", Width: 64, Height: 64, Steps: 3}
		o, err := newOrder(entry{name: "w", workflow: w}, catalogue{}, req, 0)
		if err != nil {
			t.Fatalf("it can't be filled: %v", err)
		}
		for _, at := range w.slots[SlotPrompt] {
			if o.graph[at.node].Inputs[at.input] != req.Prompt {
				t.Fatal("the prompt is not in its slot")
			}
			if w.graph[at.node].Inputs[at.input] == req.Prompt && !bytes.Contains(text, []byte(req.Prompt)) {
				t.Fatal("the workflow itself was changed")
			}
		}
		again, err := json.Marshal(o.graph)
		if err != nil {
			t.Fatal(err)
		}
		if len(again) <= maxWorkflow {
			if _, err := parseGraph(again); err != nil {
				t.Fatalf("what is sent can't be read: %v", err)
			}
		}
	})
}
