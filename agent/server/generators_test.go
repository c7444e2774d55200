package server

import (
	"bytes"
	"image"
	"image/jpeg"
	"net/http"
	"strings"
	"testing"

	"muster/agent/images"
	"muster/shared/gpu"
	"muster/shared/wire"
)

func TestGeneratorsAreListed(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	if answer := a.ask("GET", "/api/v1/generators", ""); answer.status != http.StatusOK || strings.TrimSpace(string(answer.body)) != `{"generators":[]}` {
		t.Errorf("without any: %d %s", answer.status, answer.body)
	}
	a.set(func() {
		a.capacity.Generators = []wire.Generator{{ID: "comfyui 127.0.0.1:8188", Kind: "comfyui", Title: "ComfyUI 1", Attached: true, Device: new(gpu.Ref(1)), State: wire.GeneratorReady}}
	})
	want := `{"generators":[{"id":"comfyui 127.0.0.1:8188","kind":"comfyui","title":"ComfyUI 1","attached":true,"device_id":1,"state":"ready","models":0}]}`
	if answer := a.ask("GET", "/api/v1/generators", ""); strings.TrimSpace(string(answer.body)) != want {
		t.Errorf("got %s\nwant %s", answer.body, want)
	}
}

func TestPreviewOfAJob(t *testing.T) {
	t.Parallel()
	var previews images.Previews
	a := newAgent(t, func(c *Config) { c.Previews = &previews })
	if answer := a.ask("GET", "/api/v1/jobs/01J/preview", ""); answer.status != http.StatusNotFound {
		t.Errorf("without one: %d", answer.status)
	}
	var file bytes.Buffer
	if err := jpeg.Encode(&file, image.NewGray(image.Rect(0, 0, 8, 8)), nil); err != nil {
		t.Fatal(err)
	}
	previews.Put("01J", images.Preview{Data: file.Bytes(), Type: "image/jpeg"})
	answer := a.ask("GET", "/api/v1/jobs/01J/preview", "")
	h := answer.header
	if answer.status != http.StatusOK || !bytes.Equal(answer.body, file.Bytes()) || h.Get("Content-Type") != "image/jpeg" ||
		h.Get("Cache-Control") != "no-store" || !strings.Contains(h.Get("Content-Security-Policy"), "sandbox") || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d, %d bytes, %v", answer.status, len(answer.body), h)
	}
}
