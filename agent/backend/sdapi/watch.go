package sdapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"

	"muster/agent/backend"
	"muster/agent/backend/exchange"
)

// markOption is the setting that carries a mark: the colour behind transparent pictures that an image is made from. It changes
// nothing about an image made from text, and every web UI has it. See options.Mark.
const markOption = "img2img_background_color"

// newMark gives a colour that nobody else has chosen. It is sent as a setting for one image alone; the program shows the settings of
// the image that it makes, so the mark among them proves that the image is ours, where the program has no other proof.
func newMark() string { return "#" + randomHex(3) }

// newTask gives a fresh id for one call.
func newTask() string { return "task(muster-" + randomHex(12) + ")" }

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// taskAnswer is /internal/progress: of one call.
type taskAnswer struct {
	Active    bool
	Queued    bool
	Completed bool
	Progress  *float64
	Preview   string `json:"live_preview"` // a data URL
	PreviewID int    `json:"id_live_preview"`
}

// progressAnswer is /sdapi/v1/progress: of whatever runs.
type progressAnswer struct {
	ID    any // of SD.Next: changes with every job
	State struct {
		Skipped, Interrupted bool
		Job                  string
		JobCount             int    `json:"job_count"`
		Timestamp            string `json:"job_timestamp"`
		JobNo                int    `json:"job_no"`
		Step                 int    `json:"sampling_step"`
		Steps                int    `json:"sampling_steps"`
	}
	Progress float64
	Preview  string `json:"current_image"` // base64
}

// idle says that nothing runs.
func (a progressAnswer) idle() bool { return a.State.JobCount == 0 }

// run tells one job from the next.
func (a progressAnswer) run() string {
	id, _ := a.ID.(string)
	return a.State.Timestamp + " " + id
}

// share is how much of the whole job is done, from 0 to 1.
func (a progressAnswer) share() float64 {
	s := a.State
	if s.Steps <= 0 || s.JobCount <= 0 {
		return 0
	}
	return (float64(s.JobNo) + float64(s.Step)/float64(s.Steps)) / float64(s.JobCount)
}

// sight is what one look has shown.
type sight struct {
	err     error // nothing was seen
	ours    bool  // our job runs, and share is of it
	others  bool  // somebody else's runs, or ours waits
	share   float64
	preview *backend.Preview
	id      int // of the preview
	// interrupted says that somebody interrupted our job.
	interrupted bool
}

// eye looks at one call. Its fields are the looking goroutine's.
type eye struct {
	g       *Generator
	program program // as it was when the call began
	task    string
	mark    string // "" when none was sent
	perTask knowledge
	idle    bool   // nothing ran before the call was sent
	ours    string // run that is proven to be ours; "" for none
	theirs  string // run that is proven to be somebody else's
	told    int    // looks at the call itself that told nothing
	shown   int    // id of the last preview; -1 before
}

// patience is how many looks at a call may tell nothing until the program is believed to know no calls.
const patience = 3

// look asks how far our job is. picture asks for one of the unfinished image.
func (e *eye) look(ctx context.Context, picture bool) sight {
	ctx, cancel := context.WithTimeout(ctx, e.g.limits.look)
	defer cancel()
	p := e.program
	if p.tasks && e.perTask != no {
		seen, told := e.lookAtTask(ctx, picture)
		if told || seen.err != nil || e.perTask == yes {
			return seen
		}
		if e.told++; e.told < patience {
			return sight{}
		}
	}
	if !p.progress {
		return sight{}
	}
	return e.lookAtAll(ctx, picture)
}

// maxLook bounds an answer about progress in bytes, with a picture in base64.
const maxLook = backend.MaxPreviewBytes/3*4 + 64<<10

// lookAtTask asks the program about our call; told is false when it does not know it, or not yet.
func (e *eye) lookAtTask(ctx context.Context, picture bool) (s sight, told bool) {
	var a taskAnswer
	body := map[string]any{"id_task": e.task, "id_live_preview": e.shown, "live_preview": picture}
	s.err = e.g.client.JSON(ctx, exchange.Call{Method: http.MethodPost, Path: "/internal/progress", Body: body, Limit: maxLook}, &a)
	if exchange.StatusOf(s.err) != 0 {
		e.perTask = no // its page may be switched off
		return sight{}, false
	}
	if s.err != nil {
		return s, false
	}
	if !a.Active && !a.Queued && !a.Completed {
		return s, false
	}
	e.perTask = yes
	s.others = a.Queued
	if a.Active {
		s.ours = true
		if a.Progress != nil {
			s.share = *a.Progress
		}
		s.take(a.Preview, a.PreviewID)
		e.shown = max(e.shown, s.id)
	}
	return s, true
}

// lookAtAll asks what runs, and tells of it when it is ours.
func (e *eye) lookAtAll(ctx context.Context, picture bool) (s sight) {
	a, err := e.g.progress(ctx, picture)
	switch {
	case err != nil:
		return sight{err: err}
	case a.idle():
		return sight{}
	case a.run() != e.ours && a.run() != e.theirs:
		e.judge(ctx, a)
		return sight{others: a.run() == e.theirs} // the next look is of the run that was judged, or it is judged again
	case a.run() == e.theirs:
		return sight{others: true}
	}
	s = sight{ours: true, share: a.share(), interrupted: a.State.Interrupted || a.State.Skipped}
	s.take(a.Preview, 0)
	return s
}

func (g *Generator) progress(ctx context.Context, picture bool) (a progressAnswer, err error) {
	path := "/sdapi/v1/progress?skip_current_image=true"
	if picture {
		path = "/sdapi/v1/progress?skip_current_image=false"
	}
	return a, g.client.JSON(ctx, exchange.Call{Method: http.MethodGet, Path: path, Limit: maxLook}, &a)
}

// judge says whose the run is that goes on now.
func (e *eye) judge(ctx context.Context, a progressAnswer) {
	ours := e.idle && e.ours == "" && e.theirs == "" // good enough to show its progress, not to interrupt it
	if e.mark != "" {
		proven, err := e.g.marked(ctx, e.mark)
		if err != nil {
			return
		}
		ours = proven
	}
	if ours {
		e.ours = a.run()
	} else {
		e.theirs = a.run()
	}
}

// marked says whether the image that is made now carries the mark.
func (g *Generator) marked(ctx context.Context, mark string) (bool, error) {
	var o options
	err := g.get(ctx, "/sdapi/v1/options", &o)
	return err == nil && o.Mark == mark, err
}

// errNotOurs says that it is not certain whose job runs.
var errNotOurs = errors.New("what runs is not proven to be ours")

// canProve says whether the program can tell at all that a job is ours.
func (e *eye) canProve() bool { return e.mark != "" || e.program.tasks && e.perTask != no }

// interrupt stops our job, if it is proven that it is ours that runs now. The program then ends it with its next step.
func (e *eye) interrupt(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, e.g.limits.look)
	defer cancel()
	if !e.program.web {
		return errNotOurs
	}
	ours := false
	if e.perTask != no && e.program.tasks {
		s, _ := e.lookAtTask(ctx, false)
		ours = s.ours
	}
	if !ours && e.mark != "" {
		ours, _ = e.g.marked(ctx, e.mark)
	}
	if !ours {
		return errNotOurs
	}
	return e.g.client.JSON(ctx, exchange.Call{Method: http.MethodPost, Path: "/sdapi/v1/interrupt", Body: struct{}{}}, nil)
}

// take keeps a picture of the unfinished image, if it is one.
func (s *sight) take(text string, id int) {
	if p, ok := preview(text); ok {
		s.preview, s.id = &p, id
	}
}
