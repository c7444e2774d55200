package view

import (
	"strconv"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
	"muster/shared/model"
	"muster/webapp/live"
)

// loads are the row's loads of that state, oldest first.
func (r *modelRow) loads(state model.LoadState) (list []model.Load) {
	for _, l := range r.Model.Loads {
		if l.State == state {
			list = append(list, l)
		}
	}
	return list
}

// loading says where the model is being loaded, and where that waits: "is being loaded on Device 1".
func (r *modelRow) loading() string {
	words := ""
	var on []gpu.Ref
	for _, l := range r.loads(model.LoadRuns) {
		on = append(on, l.Device)
	}
	if len(on) > 0 {
		words = "is being loaded on " + devicesText(on)
	}
	for _, l := range r.loads(model.LoadWaits) {
		words = listed(words, "is to be loaded on "+l.Device.Label()+": "+l.Words)
	}
	if now := r.Page.asking(modelKey(r.Model.Name)); words == "" && now.busy && now.what == string(live.LoadModel) {
		return "is being loaded" // the agent has not told yet
	}
	return words
}

// shownFailures is how many failed loads of a model are told in full.
const shownFailures = 2

// renderFailedLoads says where the model could not be loaded and why, newest first: also to a page that was opened since. What has just
// been answered to a person stands there alone.
func (r *modelRow) renderFailedLoads(now *deciding) app.UI {
	failed := r.loads(model.LoadFailed)
	if len(failed) == 0 || now.refusal != "" {
		return nothing()
	}
	var told []app.UI
	for i := len(failed) - 1; i >= max(0, len(failed)-shownFailures); i-- {
		l := &failed[i]
		told = append(told, el("p", "entry-problem", at{"data-load", string(l.State), "data-on", l.Device.String()},
			text("Was not loaded on "+l.Device.Label()+" at "+hourOr(l.Asked, r.Page.now())+": "+endSentence(l.Words))))
	}
	if more := len(failed) - len(told); more > 0 {
		told = append(told, el("p", "entry-meta", nil, text("and on "+strconv.Itoa(more)+" more")))
	}
	return el("div", "failed-loads", at{"role", "status"}, told...)
}

// endSentence puts a full stop where there is none.
func endSentence(words string) string {
	if words == "" {
		return ""
	}
	if last := words[len(words)-1]; last != '.' && last != '!' && last != '?' {
		words += "."
	}
	return words
}
