package sdserver

import (
	"runtime"
	"testing"

	"muster/agent/backend/backendtest"
	"muster/shared/job"
)

// An image costs its own bytes and little more beyond the generator's answer, which holds it as base64.
func TestAnImageIsHeldOnce(t *testing.T) {
	b := newBench(t, setup{models: map[string]backendtest.Scenario{"model": {Grain: true}}})
	req := b.request("model")
	req.Width, req.Height, req.Steps = 1024, 1024, 4
	if err := b.makeAs(t, req, nil); err != nil { // starts the child
		t.Fatal(err)
	}
	req.Seed = 2
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	image, err := b.Backend().Generate(t.Context(), b.devices[0], req, func(job.Progress) {})
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	size, took := uint64(len(image.PNG)), after.TotalAlloc-before.TotalAlloc
	answer := (size + 2) / 3 * 4
	t.Logf("image %d bytes, its answer %d, allocated in all %d: %.2f times the image beyond the answer", size, answer, took, float64(took-answer)/float64(size))
	if took > answer+size*3/2 {
		t.Errorf("an image of %d bytes took %d beyond the answer of %d", size, took-answer, answer)
	}
}
