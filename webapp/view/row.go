package view

import (
	"strconv"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/job"
)

// renderJob is one image on the list.
func (l *jobs) renderJob(j *job.Job, of int) app.UI {
	id, number := "j"+j.ID, strconv.Itoa(j.Ordinal+1)
	return el("li", "job", at{"data-job", j.ID, "data-state", string(j.State)},
		el("span", "job-number", at{"aria-hidden", "true"}, text(number)),
		el("div", "job-body", nil,
			el("p", "job-head", nil,
				el("span", "visually-hidden", nil, text("Image "+number+" of "+strconv.Itoa(of)+": ")),
				el("strong", "", nil, text(l.Page.where(j))),
				l.Page.renderPin(j),
				el("span", "job-words", at{"id", id + "-words"}, text(jobWords(j)))),
			progress(id+"-bar", "job-bar", "Progress of image "+number, j),
			l.Page.renderWhy(j)),
		l.renderEnd(j, "image "+number))
}

// where names the device of a job, and says if it is simulated.
func (p *Page) where(j *job.Job) string {
	switch {
	case j.DeviceID != nil && j.State != job.Queued:
		if j.Simulated {
			return j.DeviceID.Label() + " (simulated)"
		}
		return j.DeviceID.Label()
	case j.PinnedTo != nil || j.PinnedKey != "":
		return p.pinLabel(j)
	case j.State.Terminal():
		return "no device"
	default:
		return "any device"
	}
}

// pinLabel names the device that a job is pinned to by its number of now; numbers may have changed since it was asked for.
func (p *Page) pinLabel(j *job.Job) string {
	if ref, ok := p.refByID(j.PinnedKey); ok {
		return ref.Label()
	}
	if j.PinnedTo != nil && j.PinnedKey == "" {
		return j.PinnedTo.Label()
	}
	return "a device that is not here now"
}

// renderPin marks a job that must be made on one device, until it has ended.
func (p *Page) renderPin(j *job.Job) app.UI {
	if j.PinnedTo == nil && j.PinnedKey == "" || j.State.Terminal() {
		return nothing()
	}
	return el("span", "badge pin", at{"title", "It was asked for on " + p.pinLabel(j) + ", and no other device makes it."}, text("pinned"))
}

// jobWords says where a job is in its life.
func jobWords(j *job.Job) string {
	switch j.State {
	case job.Running:
		if j.Expected != nil {
			return stepsDone(j) // the time left stands below
		}
		return stepWords(j)
	case job.Queued:
		if j.Attempt > 0 {
			return "queued again after attempt " + strconv.Itoa(j.Attempt)
		}
		return "queued"
	case job.Succeeded:
		if j.Started != nil && j.Finished != nil {
			return "ready after " + span(j.Finished.Sub(*j.Started))
		}
		return "ready"
	default:
		return string(j.State)
	}
}

// renderWhy shows why the job is where it is, when it is expected, and what went wrong. The first two are painted.
func (p *Page) renderWhy(j *job.Job) app.UI {
	wrong, said := "", outlook{reason: j.Reason}
	if j.State != job.Succeeded {
		wrong = j.Error
	}
	switch {
	case !j.State.Terminal():
		said = p.outlook(j)
	case j.State != job.Succeeded:
		said.reason = ""
	}
	id := "j" + j.ID
	return el("div", "why", nil,
		el("p", "job-error", nil, text(wrong)),
		el("p", "reason", at{"id", id + "-reason"}, text(said.reason)),
		el("p", "when", at{"id", id + "-when"}, text(said.when)))
}

func (l *jobs) renderEnd(j *job.Job, name string) app.UI {
	switch {
	case j.ImageID != "":
		return el("button", "job-thumb", at{"type", "button", "data-picture", j.ID, "aria-label", "Open " + name},
			picture(at{"src", thumbURL(j.ImageID), "alt", name, "width", "40", "height", "40", "loading", "lazy"}), on("click", l.Page.openPicture))
	case j.State.Terminal():
		return nothing()
	case l.cancelling(j.ID):
		return el("span", "job-cancelling", nil, text("cancelling…"))
	default:
		cancel := iconButton("Cancel "+name, iconCross, at{"data-cancel", j.ID}, on("click", l.cancel))
		if j.State != job.Running {
			return cancel
		}
		return el("div", "job-end", nil, l.Page.renderPreview(j, name), cancel)
	}
}
