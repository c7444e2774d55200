package comfyui

import (
	"bytes"
	"slices"
	"testing"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/shared/job"
)

// slow is a model whose steps can be watched.
func slow(milliseconds int, faults ...backendtest.Fault) map[string]backendtest.Scenario {
	return map[string]backendtest.Scenario{"model": {StepMilliseconds: milliseconds, Faults: faults}}
}

// steps makes an image and gives the steps that were told, which never go back.
func (b *attachedBench) steps(t *testing.T, req backend.Request) (told []int, file []byte) {
	t.Helper()
	file, err := b.make(t, req, func(p job.Progress) {
		told = append(told, p.Step)
		if p.Steps != req.Steps || p.ETASeconds != nil && *p.ETASeconds < 0 {
			t.Errorf("progress %+v", p)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(told) || len(told) < 2 || told[0] != 0 || told[len(told)-1] != req.Steps || len(slices.Compact(slices.Clone(told))) != len(told) {
		t.Errorf("steps %v; want 0 to %d, each once", told, req.Steps)
	}
	return told, file
}

func TestEveryStepIsTold(t *testing.T) {
	t.Parallel()
	b := newAttached(t, attachedSetup{models: slow(30)})
	if told, _ := b.steps(t, request("model")); len(told) < 4 {
		t.Errorf("steps %v; want 0 to 5, hardly one left out", told)
	}
}

// The socket breaks in the middle: the image is fetched all the same, and progress goes on behind it. The fake forgets the new socket
// when it notices the end of the old one, as ComfyUI does.
func TestLostSocket(t *testing.T) {
	t.Parallel()
	b := newAttached(t, attachedSetup{models: slow(60, backendtest.Fault{Do: backendtest.DropSocket, Job: 1, Step: 3})})
	req := request("model")
	req.Steps = 30
	told, _ := b.steps(t, req)
	if before := slices.IndexFunc(told, func(step int) bool { return step > 4 }); before < 0 || len(told)-before < 4 {
		t.Errorf("steps %v; want some behind the loss of the socket", told)
	}
}

// A socket that breaks with every step, and never says that the prompt has ended.
func TestSocketThatBreaksAgainAndAgain(t *testing.T) {
	t.Parallel()
	var faults []backendtest.Fault
	for step := 1; step <= 5; step++ {
		faults = append(faults, backendtest.Fault{Do: backendtest.DropSocket, Job: 1, Step: step})
	}
	b := newAttached(t, attachedSetup{models: slow(20, faults...)})
	b.steps(t, request("model"))
}

func TestWithoutSockets(t *testing.T) {
	t.Parallel()
	b := newAttached(t, attachedSetup{settings: backendtest.ComfySettings{NoSocket: true}, models: slow(10)})
	if told, _ := b.steps(t, request("model")); !slices.Equal(told, []int{0, 5}) {
		t.Errorf("steps %v; want the first and the last", told)
	}
}

func TestPreviews(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		settings backendtest.ComfySettings
		kind     string // "" for none
	}{
		"JPEG with its prompt":        {backendtest.ComfySettings{}, "image/jpeg"},
		"PNG with its prompt":         {backendtest.ComfySettings{PreviewPNG: true}, "image/png"},
		"of a server without those":   {backendtest.ComfySettings{Ancient: true}, "image/jpeg"},
		"PNG of one":                  {backendtest.ComfySettings{Ancient: true, PreviewPNG: true}, "image/png"},
		"just small enough":           {backendtest.ComfySettings{PreviewBytes: backend.MaxPreviewBytes}, "image/jpeg"},
		"too large":                   {backendtest.ComfySettings{PreviewBytes: backend.MaxPreviewBytes + 1}, ""},
		"larger than any message":     {backendtest.ComfySettings{PreviewBytes: 5 << 20}, ""},
		"larger, and with no prompts": {backendtest.ComfySettings{PreviewBytes: 5 << 20, Ancient: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newAttached(t, attachedSetup{settings: tt.settings, models: slow(150)})
			seen := 0
			req := request("model")
			req.Preview = func(p backend.Preview) {
				seen++
				if p.Type != tt.kind || len(p.Data) > backend.MaxPreviewBytes || len(p.Data) < 50 {
					t.Errorf("a preview of %d bytes, %s; want %q", len(p.Data), p.Type, tt.kind)
				}
			}
			if told, _ := b.steps(t, req); len(told) < 4 {
				t.Errorf("steps %v: previews keep them away", told)
			}
			if seen > 5 || seen == 0 && tt.kind != "" || seen > 0 && tt.kind == "" {
				t.Errorf("%d previews", seen)
			}
		})
	}
}

// Nonsense on the socket, another prompt's events, texts of many megabytes: none of it is taken for this prompt's.
func TestEventsThatAreNotOurs(t *testing.T) {
	t.Parallel()
	for _, fault := range []backendtest.Action{backendtest.GarbageEvents, backendtest.ForeignEvents, backendtest.HugeEvent} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			b := newAttached(t, attachedSetup{models: slow(150, backendtest.Fault{Do: fault, Step: 2})})
			req, previews := request("model"), 0
			req.Steps = 15 // what is told behind megabytes of nonsense comes late
			req.Preview = func(backend.Preview) { previews++ }
			if told, _ := b.steps(t, req); len(told) < 4 {
				t.Errorf("steps %v", told)
			}
			if previews > req.Steps {
				t.Errorf("%d previews of %d steps", previews, req.Steps)
			}
		})
	}
}

// What ComfyUI has in its cache it does not make again: no step is told, and the image is the same.
func TestCachedGraph(t *testing.T) {
	t.Parallel()
	b := newAttached(t, attachedSetup{models: slow(20)})
	_, first := b.steps(t, request("model"))
	told, second := b.steps(t, request("model"))
	if !slices.Equal(told, []int{0, 5}) || !bytes.Equal(first, second) {
		t.Errorf("steps %v, equal images %v; want the first and the last step, and the same image", told, bytes.Equal(first, second))
	}
}
