package sdapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"image/png"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/agent/backend/backendtest/fakesdapi"
	"muster/shared/job"
)

// Steps are told as they come, at most as often as is looked, and pictures at most once in their time.
func TestProgressAndPreviews(t *testing.T) {
	t.Parallel()
	for _, flavour := range append(webUIs, fakesdapi.KoboldNew) {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			l := quick()
			l.preview = 100 * time.Millisecond
			b := newBench(t, fakesdapi.Config{Flavour: flavour, Step: 20 * time.Millisecond}, l)
			var mu sync.Mutex
			var steps []int
			pictures := 0
			req := request()
			req.Steps = 30
			req.Preview = func(p backend.Preview) {
				mu.Lock()
				defer mu.Unlock()
				pictures++
				if _, err := png.DecodeConfig(bytes.NewReader(p.Data)); err != nil || p.Type != "image/png" {
					t.Errorf("a preview of type %s: %v", p.Type, err)
				}
			}
			begun := time.Now()
			_, err := b.Generate(t.Context(), backend.CPU(), req, func(p job.Progress) {
				mu.Lock()
				defer mu.Unlock()
				steps = append(steps, p.Step)
				if p.Step > 0 && p.ETASeconds == nil {
					t.Error("no time left is told")
				}
			})
			took := time.Since(begun)
			if err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(steps) < 5 || steps[len(steps)-1] != 30 {
				t.Errorf("steps %v", steps)
			}
			if most := int(took/l.preview) + 1; pictures < 1 || pictures > most {
				t.Errorf("%d previews in %v; want 1 to %d", pictures, took, most)
			}
		})
	}
}

// Nobody asks for pictures that nobody wants: they cost the generator time.
func TestNoPreviewsUnasked(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakesdapi.Config{Flavour: fakesdapi.A1111, Step: 20 * time.Millisecond}, quick())
	if _, err := b.make(t, request()); err != nil {
		t.Fatal(err)
	}
	var asked struct {
		Preview bool `json:"live_preview"`
	}
	if err := json.Unmarshal(b.fake.Body("/internal/progress"), &asked); err != nil || asked.Preview {
		t.Errorf("asked for a picture: %v, %v", asked.Preview, err)
	}
}

func TestPreview(t *testing.T) {
	t.Parallel()
	file := backendtest.Paint(backendtest.Picture{Width: 64, Height: 64})
	whole := base64.StdEncoding.EncodeToString(file)
	for text, want := range map[string]bool{
		whole: true, "data:image/png;base64," + whole: true, "": false, "data:": false, "data:image/png;base64,": false, "%%%": false,
		base64.StdEncoding.EncodeToString([]byte("RIFF....WEBP")):                                 false,
		base64.StdEncoding.EncodeToString(backendtest.SpoilPNG(file, backendtest.Bomb)):           false,
		strings.Repeat("A", maxLook+1):                                                            false,
		base64.StdEncoding.EncodeToString(append(file, make([]byte, backend.MaxPreviewBytes)...)): false,
	} {
		if _, ok := preview(text); ok != want {
			t.Errorf("%.40s…: %v", text, ok)
		}
	}
}
