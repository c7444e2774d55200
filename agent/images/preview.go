package images

import (
	"bytes"
	"image"
	_ "image/jpeg" // to tell a picture's size
	_ "image/png"
	"sync"
)

const (
	maxPreviews    = 256  // jobs whose pictures are kept, should one never be told to have ended
	maxPreviewSide = 2048 // pixels: a browser unpacks what is handed on
)

// Preview is a picture of an unfinished image.
type Preview struct {
	Data []byte // a whole file; nobody changes it
	Type string // "image/jpeg" or "image/png"
}

// Previews keeps the newest picture of each image that is being made, in memory alone. The zero value is empty. Its methods may be
// called from any goroutine.
type Previews struct {
	mu    sync.Mutex
	byJob map[string]Preview
}

// Put keeps a picture in place of the one before; empty data drops it. What is no JPEG or PNG, as its type says, or is too large is
// left out: it comes from a generator.
func (p *Previews) Put(jobID string, preview Preview) {
	if len(preview.Data) > 0 && !sound(preview) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(preview.Data) == 0 {
		delete(p.byJob, jobID)
		return
	}
	if p.byJob == nil {
		p.byJob = map[string]Preview{}
	}
	if _, known := p.byJob[jobID]; !known && len(p.byJob) >= maxPreviews {
		return
	}
	p.byJob[jobID] = preview
}

func sound(preview Preview) bool {
	config, format, err := image.DecodeConfig(bytes.NewReader(preview.Data))
	return err == nil && "image/"+format == preview.Type && config.Width <= maxPreviewSide && config.Height <= maxPreviewSide
}

// Get gives the newest picture of a job; false when there is none.
func (p *Previews) Get(jobID string) (Preview, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	preview, ok := p.byJob[jobID]
	return preview, ok
}
