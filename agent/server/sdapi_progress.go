package server

import (
	"context"
	"encoding/base64"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"muster/agent/images"
	"muster/shared/job"
)

// sdapiProgress is how far some requests together are.
type sdapiProgress struct {
	Progress     float64    `json:"progress"`     // 0 to 1; 0 when there are none
	ETARelative  float64    `json:"eta_relative"` // seconds
	State        sdapiState `json:"state"`
	CurrentImage *string    `json:"current_image"` // base64; null when there is none
	TextInfo     *string    `json:"textinfo"`
}

type sdapiState struct {
	Skipped            bool   `json:"skipped"`
	Interrupted        bool   `json:"interrupted"`
	StoppingGeneration bool   `json:"stopping_generation"`
	Job                string `json:"job"`
	JobCount           int    `json:"job_count"` // images
	JobTimestamp       string `json:"job_timestamp"`
	JobNo              int    `json:"job_no"` // images that have ended
	SamplingStep       int    `json:"sampling_step"`
	SamplingSteps      int    `json:"sampling_steps"`
}

// leastProgress is that of a request that was just taken: 0 would mean that nothing is done.
const leastProgress = 0.01

// sdapiProgressOf puts runs together with what the queue knows of their jobs. shown is the job that runs and was asked for first: it
// stands for all. nil when none runs.
func (s *Server) sdapiProgressOf(ctx context.Context, runs []sdapiView) (p sdapiProgress, shown *job.Job) {
	if len(runs) == 0 {
		p.State.JobTimestamp = "0"
		return p, nil
	}
	p.State.Job, p.State.JobTimestamp = "scripts_txt2img", sdapiTime(runs[0].began)
	var waiting []job.Job
	for _, run := range runs {
		p.State.Interrupted = p.State.Interrupted || run.stopped && !run.skipped
		p.State.Skipped = p.State.Skipped || run.skipped
		p.State.JobCount += run.count
		p.State.JobNo += run.done()
		for _, id := range run.waiting {
			if j, err := s.config.Queue.Job(ctx, id); err == nil { // in memory, unless it has ended this instant
				waiting = append(waiting, j)
			}
		}
	}
	done := float64(p.State.JobNo) // images, with parts of them
	for i, j := range waiting {
		if j.State != job.Running {
			continue
		}
		steps := j.Progress.Steps
		if steps == 0 {
			steps = j.Steps
		}
		done += math.Min(1, float64(j.Progress.Step)/float64(max(1, steps)))
		if shown == nil {
			shown = &waiting[i]
			p.State.SamplingStep, p.State.SamplingSteps = j.Progress.Step, steps
		}
	}
	p.Progress = math.Min(1, math.Max(leastProgress, done/float64(max(1, p.State.JobCount))))
	p.ETARelative = remaining(waiting, p.Progress, time.Since(runs[0].began))
	p.TextInfo = new(fmt.Sprintf("%d of %d images", p.State.JobNo, p.State.JobCount))
	return p, shown
}

// remaining is the time until the last job ends, in seconds: as the scheduler expects it, else as it went until now.
func remaining(waiting []job.Job, progress float64, elapsed time.Duration) float64 {
	if expected := job.SetExpected(waiting); expected != nil {
		return math.Max(0, time.Until(expected.At).Seconds())
	}
	if len(waiting) == 0 {
		return 0
	}
	return elapsed.Seconds()/progress - elapsed.Seconds()
}

// sdapiGetProgress answers GET /sdapi/v1/progress: all requests at this door together.
func (s *Server) sdapiGetProgress(w http.ResponseWriter, r *http.Request) error {
	p, shown := s.sdapiProgressOf(r.Context(), s.sdapi.views(""))
	if skip, _ := strconv.ParseBool(r.URL.Query().Get("skip_current_image")); !skip && shown != nil {
		if preview, ok := s.config.Previews.Get(shown.ID); ok {
			p.CurrentImage = new(base64.StdEncoding.EncodeToString(preview.Data))
		}
	}
	writeJSON(w, http.StatusOK, p)
	return nil
}

// sdapiTask is how far one request is, by the id that its client gave it.
type sdapiTask struct {
	Active        bool     `json:"active"`
	Queued        bool     `json:"queued"`
	Paused        bool     `json:"paused"`
	Completed     bool     `json:"completed"`
	Progress      *float64 `json:"progress"`
	ETA           *float64 `json:"eta"`
	LivePreview   *string  `json:"live_preview"`
	IDLivePreview int      `json:"id_live_preview"`
	TextInfo      *string  `json:"textinfo"`
}

// sdapiTaskProgress answers POST /internal/progress.
func (s *Server) sdapiTaskProgress(w http.ResponseWriter, r *http.Request) error {
	body, err := s.readDoor(w, r)
	if err != nil {
		return err
	}
	f, err := parseFields(body, true)
	if err != nil {
		return err
	}
	id := f.text("id_task")
	if id == "" {
		f.fail("id_task", "is missing: give the force_task_id of a request")
	}
	if f.err != nil {
		return f.err
	}
	task := sdapiTask{IDLivePreview: -1, TextInfo: new("Waiting..."), Completed: s.sdapi.hasEnded(id)}
	if runs := s.sdapi.views(id); len(runs) > 0 {
		p, shown := s.sdapiProgressOf(r.Context(), runs)
		task.Completed = false
		task.Active = shown != nil || p.State.JobNo > 0
		task.Queued = !task.Active
		if task.Queued {
			task.TextInfo = new("Queued...")
		} else {
			task.Progress, task.ETA, task.TextInfo = &p.Progress, &p.ETARelative, p.TextInfo
		}
		if f.flag("live_preview", true) {
			task.show(shown, s.config.Previews, f.whole("id_live_preview"))
		}
	}
	writeJSON(w, http.StatusOK, task)
	return nil
}

// show adds the newest picture, unless the client has it already.
func (t *sdapiTask) show(j *job.Job, previews *images.Previews, seen *int64) {
	if j == nil {
		return
	}
	preview, ok := previews.Get(j.ID)
	if !ok {
		return
	}
	const perImage = 1 << 16 // pictures: more than any image has steps
	t.IDLivePreview = j.Ordinal*perImage + j.Progress.Preview
	if seen == nil || *seen != int64(t.IDLivePreview) {
		t.LivePreview = new("data:" + preview.Type + ";base64," + base64.StdEncoding.EncodeToString(preview.Data))
	}
}
