package server

import (
	"bytes"
	"image"
	"image/png"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"muster/shared/job"
)

// drain is an answer of which only the length is kept.
type drain struct {
	header http.Header
	status int
	bytes  int
}

func (d *drain) Header() http.Header    { return d.header }
func (d *drain) WriteHeader(status int) { d.status = status }
func (d *drain) Write(p []byte) (int, error) {
	d.bytes += len(p)
	return len(p), nil
}

// noise is a PNG that does not shrink.
func noise(t *testing.T, side int) []byte {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, side, side))
	source := rand.NewChaCha8([32]byte{1})
	if _, err := source.Read(img.Pix); err != nil {
		t.Fatal(err)
	}
	for i := 3; i < len(img.Pix); i += 4 {
		img.Pix[i] = 255
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// However many large images an answer has, and however often it is asked for, none is ever in memory. It is not parallel: it counts
// what the process allocates.
func TestDoorsHoldNoImages(t *testing.T) {
	a := newAgent(t)
	large := noise(t, 1024)
	id, err := a.images.Put(t.Context(), large)
	if err != nil {
		t.Fatal(err)
	}
	for _, ask := range [][2]string{{imagesPath, `{"prompt":"x","n":16}`}, {imagesPath, `{"prompt":"x","n":16,"stream":true}`}, {txt2imgPath, `{"prompt":"x","batch_size":16}`}} {
		r := httptest.NewRequest("POST", ask[0], strings.NewReader(ask[1]))
		r.Host = testAddr
		r.Header.Set("Authorization", "Bearer "+testToken)
		w := &drain{header: http.Header{}, status: 200}
		done := make(chan struct{})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		go func() {
			defer close(done)
			a.server.Handler().ServeHTTP(w, r)
		}()
		a.waitFor(func(jobs []job.Job) bool { return inState(jobs, job.Queued) == 16 })
		waiting := a.queue.Active()
		a.startAll(waiting)
		for _, j := range waiting {
			if _, err := a.queue.Succeed(t.Context(), j.ID, 1, id); err != nil {
				t.Fatal(err)
			}
		}
		<-done
		runtime.ReadMemStats(&after)
		if w.status != 200 || w.bytes < 16*len(large)*4/3 {
			t.Errorf("%s: %d, %d bytes", ask, w.status, w.bytes)
		}
		t.Logf("%s: %d bytes answered, %d allocated", ask, w.bytes, after.TotalAlloc-before.TotalAlloc)
		if spent := after.TotalAlloc - before.TotalAlloc; spent > uint64(len(large)) {
			t.Errorf("%s: %d bytes were allocated for an answer of %d, of images of %d each", ask, spent, w.bytes, len(large))
		}
	}
}
