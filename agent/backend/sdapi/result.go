package sdapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/answer"
	"muster/agent/backend/attach"
	"muster/agent/backend/exchange"
	"muster/agent/backend/prompt"
)

// result is what txt2img answers.
type result struct {
	Images []answer.Picture `json:"images"`
	Info   string           `json:"info"` // JSON in a text; "" when the program says nothing
}

// info is what a program says of an image; nil and "" where it does not.
type info struct {
	Seed      *int64 `json:"seed"`
	Width     *int   `json:"width"`
	Height    *int   `json:"height"`
	Steps     *int   `json:"steps"`
	Model     string `json:"sd_model_name"`
	Hash      string `json:"sd_model_hash"`
	Version   string `json:"version"`
	Timestamp string `json:"job_timestamp"`
	First     int    `json:"index_of_first_image"`
}

// parseResult takes an answer apart.
func parseResult(text []byte) (result, info, error) {
	var r result
	var i info
	if err := json.Unmarshal(text, &r); err != nil {
		return r, i, err
	}
	if r.Info != "" {
		if err := json.Unmarshal([]byte(r.Info), &i); err != nil {
			return r, i, err
		}
	}
	return r, i, nil
}

// file is the image that was asked for; nil when there is none.
func (r result) file(i info) []byte {
	at := 0
	if i.First > 0 && i.First < len(r.Images) {
		at = i.First
	}
	if at >= len(r.Images) || len(r.Images[at]) == 0 {
		return nil
	}
	return r.Images[at]
}

// finish takes the image of an exchange that has ended. Its errors are those of Generate.
func (g *Generator) finish(ctx context.Context, c *call) ([]byte, error) {
	if c.sent.Err != nil {
		return nil, g.explainCall(ctx, c, c.sent.Err)
	}
	name := g.Server.Name()
	r, i, err := parseResult(c.sent.Text)
	if err != nil {
		return nil, fmt.Errorf("%s answered nonsense: %w", name, backend.ErrUnavailable)
	}
	file := r.file(i)
	if err := g.whole(ctx, c, i, file != nil); err != nil {
		return nil, err
	}
	if file == nil {
		return nil, g.empty(ctx, c)
	}
	g.saidVersion(c.program, i.Version)
	if stamp, _, _ := strings.Cut(c.eye.theirs, " "); stamp != "" && stamp == i.Timestamp && c.eye.mark != "" {
		g.markless = true // the run was ours, and did not show its mark
	}
	if err := g.same(c, i); err != nil {
		return nil, err
	}
	if file, err = answer.PNG(file, c.order.Width, c.order.Height); err != nil {
		return nil, g.unsuitable(c, i, err)
	}
	return file, nil
}

// saidVersion keeps the version of a web UI, which only its images tell. sd-server gives its name there.
func (g *Generator) saidVersion(p program, version string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if version != "" && p.web && len(version) < 60 {
		g.version = exchange.Clean(version)
	}
}

// whole says whether an image was made to its end. An interrupted one comes back half made as if nothing had happened: what the
// program still says of the job that ended last tells, and when it works on the next one already, what the looks have shown.
func (g *Generator) whole(ctx context.Context, c *call, i info, made bool) error {
	p := c.program
	if !p.web {
		return nil
	}
	interrupted := c.marred
	looking, cancel := context.WithTimeout(ctx, g.limits.look)
	defer cancel()
	a, err := g.progress(looking, false)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil && (a.State.Timestamp == i.Timestamp && i.Timestamp != "" || a.idle() && i.Timestamp == ""):
		interrupted = interrupted || a.State.Interrupted || a.State.Skipped
	case made && !c.pace.begun.IsZero() && !c.pace.enough(c.req.Steps, time.Now()):
		return fmt.Errorf("%s gave the image back at step %d of %d, as after somebody's interrupt: %w: %w", g.Server.Name(), c.pace.step, c.req.Steps,
			attach.ErrNotItsFault, backend.ErrUnavailable)
	}
	if interrupted && p.counts && g.allocationFailed(ctx) { // SD.Next says so of its own failures
		return g.outOfMemory("")
	}
	if interrupted {
		return fmt.Errorf("somebody else interrupted the image at %s: %w: %w", g.Server.Name(), attach.ErrNotItsFault, backend.ErrUnavailable)
	}
	return nil
}

// empty explains an answer without an image.
func (g *Generator) empty(ctx context.Context, c *call) error {
	if c.program.counts && g.allocationFailed(ctx) {
		return g.outOfMemory("")
	}
	words := "no image"
	if said := prompt.Scrub(complaint(c.sent.Text), c.req.Prompt, c.req.NegativePrompt); said != "" {
		words = said
	}
	return fmt.Errorf("%s answered with %s: %w", g.Server.Name(), words, backend.ErrUnavailable)
}

// same says whether an image is the one that was asked for, by what the program says of it.
func (g *Generator) same(c *call, i info) error {
	name := g.Server.Name()
	if i.Seed != nil && *i.Seed != c.order.Seed {
		return fmt.Errorf("%s gave back the image of another seed: %w", name, backend.ErrUnavailable)
	}
	if i.Steps != nil && *i.Steps != c.order.Steps {
		return fmt.Errorf("%s made %d steps instead of %d", name, *i.Steps, c.order.Steps)
	}
	if i.Model != "" && !c.isModel(i.Model) {
		g.Server.Look() // its list is out of date
		return fmt.Errorf("%s has no model %q any more: it used %s", name, c.req.Model, stem(i.Model))
	}
	if wanted := hashOf(c.model.Path); i.Model == "" && i.Hash != "" && wanted != "" && !strings.HasPrefix(i.Hash, wanted) && !strings.HasPrefix(wanted, i.Hash) {
		g.Server.Look()
		return fmt.Errorf("%s has no model %q any more: it used another one", name, c.req.Model)
	}
	return nil
}

// isModel compares the model that a program says it used with the one that was asked for, by their files.
func (c *call) isModel(used string) bool {
	title, _, _ := strings.Cut(c.model.Path, " [")
	return stem(used) == stem(title) || used == c.model.Path
}

// hashOf gives the hash in a title, as in "sd_xl_base_1.0.safetensors [31e35c80fc]"; "" when there is none.
func hashOf(title string) string {
	_, rest, ok := strings.Cut(title, " [")
	if !ok {
		return ""
	}
	return strings.TrimSuffix(rest, "]")
}

// unsuitable explains an image that can't be used.
func (g *Generator) unsuitable(c *call, i info, err error) error {
	name := g.Server.Name()
	switch {
	case errors.Is(err, answer.ErrForm):
		return fmt.Errorf("%s is set to a form of images that is not read here: set samples_format to png in its settings", name)
	case errors.Is(err, answer.ErrSize) && i.Width != nil && i.Height != nil && (*i.Width != c.order.Width || *i.Height != c.order.Height):
		return fmt.Errorf("%s makes %dx%d of the size that was asked for, %dx%d: ask for that", name, *i.Width, *i.Height, c.req.Width, c.req.Height)
	case errors.Is(err, answer.ErrSize) && i.Width == nil && i.Seed == nil:
		return fmt.Errorf("%s: %w: it has a limit", name, err)
	}
	return fmt.Errorf("%s: %w: %w", name, err, backend.ErrUnavailable)
}
