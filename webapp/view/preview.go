package view

import (
	"strconv"
	"time"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/job"
	"muster/webapp/state"
)

// previewPause is the time between two pictures of one unfinished image: each is a request.
const previewPause = 500 * time.Millisecond

// preview is the picture of an unfinished image that is on the page.
type preview struct {
	attempt  int // of the job: another attempt begins anew
	revision int
	at       time.Time // when it was put there
}

// previewAddress gives the address of the newest picture of an unfinished image that the page may show now: "" when there is none. It
// changes every previewPause at most, and not while the agent is away.
func (p *Page) previewAddress(j *job.Job, now time.Time) string {
	if j.State != job.Running || j.Progress.Preview == 0 {
		return ""
	}
	shown := p.previews[j.ID]
	same := shown.attempt == j.Attempt && shown.revision != 0
	switch {
	case p.state.Link != state.Connected && !same:
		return ""
	case p.state.Link == state.Connected && (!same || shown.revision != j.Progress.Preview && now.Sub(shown.at) >= previewPause):
		shown = preview{j.Attempt, j.Progress.Preview, now}
		if p.previews == nil {
			p.previews = map[string]preview{}
		}
		p.previews[j.ID] = shown
	}
	return "/api/v1/jobs/" + j.ID + "/preview?n=" + strconv.Itoa(shown.attempt) + "-" + strconv.Itoa(shown.revision)
}

// forgetPreviews drops those of jobs that do not run any more.
func (p *Page) forgetPreviews() {
	for id := range p.previews {
		if j := p.state.Job(id); j == nil || j.State != job.Running {
			delete(p.previews, id)
		}
	}
}

// renderPreview is the place of an image that is being made, with its newest picture where the generator gives any. The finished
// image stands in the same place afterwards.
func (p *Page) renderPreview(j *job.Job, name string) app.UI {
	address := p.previewAddress(j, time.Now())
	if address == "" {
		return el("span", "job-thumb unfinished", at{"aria-hidden", "true"}, icon(iconPicture))
	}
	return el("span", "job-thumb unfinished", nil,
		void("img", "", at{"id", "j" + j.ID + "-preview", "src", address, "alt", "Unfinished " + name + " of " + shorten(j.Prompt, 80), "width", "56", "height", "56", "decoding", "sync"},
			on("error", imageBroken), on("load", imageLoaded)))
}

// paintPreviews shows newer pictures of what is being made.
func (p *Page) paintPreviews(now time.Time) {
	for _, j := range p.working {
		if address := p.previewAddress(j, now); address != "" {
			p.steps.attribute("j"+j.ID+"-preview", "src", address)
		}
	}
}
