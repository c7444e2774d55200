package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"muster/agent/queue"
	"muster/shared/job"
)

// sdapiTxt2img answers POST /sdapi/v1/txt2img. All images of a request are one set: batch_size times n_iter of them, with seeds that
// follow each other. As many requests at once as anybody likes.
func (s *Server) sdapiTxt2img(w http.ResponseWriter, r *http.Request) error {
	body, err := s.readDoor(w, r)
	if err != nil {
		return err
	}
	ask, err := parseSdapi(body)
	if err != nil {
		return err
	}
	model, err := s.sdapiChoose(r.Context(), ask.model)
	if err != nil {
		return err
	}
	spec, err := ask.spec(model)
	if err != nil {
		return err
	}
	spec.ClientID = sdapiClient(r, ask.user)
	run := s.sdapi.begin(sdapiCaller(r, ask.user), ask.task, spec.Count)
	defer s.sdapi.end(run)
	jobs, keep, err := s.order(r, spec, ask.adapt)
	if err != nil {
		return renamed(err, sdapiNames)
	}
	if s.sdapi.submitted(run, jobs) {
		if err := s.cancelAll(r.Context(), jobs); err != nil {
			return err
		}
	}
	err = s.each(r, jobs, wait{keep: keep, done: func(i int, j job.Job) error {
		jobs[i] = j
		s.sdapi.finished(run, j.ID)
		return nil
	}})
	if err != nil {
		return err
	}
	return s.sdapiAnswer(w, r, ask, run, jobs)
}

// sdapiClient names who asks: by the request, or by the name beside the token.
func sdapiClient(r *http.Request, user string) string {
	if name, _, ok := r.BasicAuth(); ok && user == "" {
		user = strings.ToValidUTF8(name, "") // old clients send Latin-1
	}
	return clientOf(r, "sdapi", user)
}

// sdapiCaller names who may interrupt what: clients without a name of their own are one.
func sdapiCaller(r *http.Request, user string) string {
	return cmp.Or(sdapiClient(r, user), callerOf(r).client())
}

// sdapiChoose gives the model for a request: the one it names, or the one that is chosen in the options.
func (s *Server) sdapiChoose(ctx context.Context, name string) (string, error) {
	capacity := s.capacity(ctx)
	if len(capacity.Models) == 0 {
		return "", errNoBackend
	}
	if name == "" {
		return s.sdapiChosen(ctx, capacity)
	}
	found, ok := sdapiModel(name, capacity)
	if !ok {
		return "", noSdapiModel(sdapiNames["model"], name, capacity)
	}
	return found, nil
}

// sdapiAnswer writes the images that there are. None are an answer too once somebody has interrupted it, unless one failed by itself.
func (s *Server) sdapiAnswer(w http.ResponseWriter, r *http.Request, ask sdapiAsk, run *sdapiRun, jobs []job.Job) error {
	pictures, lost := s.openPictures(jobs)
	defer closeAll(pictures)
	if len(pictures) == 0 {
		failed := slices.IndexFunc(lost, func(l unmade) bool { return l.job.State != job.Cancelled })
		if failed >= 0 || !s.sdapi.wasStopped(run) {
			return errAllFailed(lost[max(0, failed):])
		}
	}
	info, err := json.Marshal(s.sdapiInfo(ask, jobs, pictures, lost))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	out := newReply(w)
	if err := s.writeSdapi(out, r, ask, jobs, pictures, string(info)); err != nil {
		s.log.Warn("write images", "error", err)
		panic(http.ErrAbortHandler) // half an answer must not look like a whole one
	}
	return nil
}

func (s *Server) writeSdapi(out reply, r *http.Request, ask sdapiAsk, jobs []job.Job, pictures []imageFile, info string) error {
	io.WriteString(out, `{"images":[`)
	if !ask.sendImages {
		pictures = nil
	}
	for i, p := range pictures {
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteByte('"')
		if err := s.writePicture(r.Context(), out, p, encoding{}); err != nil {
			return err
		}
		out.WriteByte('"')
	}
	out.WriteByte(']')
	if err := writeRest(out, sdapiRest{ask.parameters(jobs[0]), info}); err != nil {
		return err
	}
	io.WriteString(out, "}\n")
	return out.Flush() // a bufio.Writer keeps its first error for this
}

// sdapiRest is what stands behind the images of an answer.
type sdapiRest struct {
	Parameters sdapiParameters `json:"parameters"`
	Info       string          `json:"info"` // a JSON object as text
}

// sdapiInterrupt answers POST /sdapi/v1/interrupt: every request of this client at this door ends with what it has. Jobs of others go
// on. Who named a user in the body of its request names it here too.
func (s *Server) sdapiInterrupt(w http.ResponseWriter, r *http.Request) error {
	return s.sdapiStop(w, r, false)
}

// sdapiSkip answers POST /sdapi/v1/skip: the images that are being made are given up, those that wait are made.
func (s *Server) sdapiSkip(w http.ResponseWriter, r *http.Request) error {
	return s.sdapiStop(w, r, true)
}

func (s *Server) sdapiStop(w http.ResponseWriter, r *http.Request, skip bool) error {
	body, err := s.readDoor(w, r)
	if err != nil {
		return err
	}
	user := ""
	if f, err := parseFields(body, true); err == nil { // none is needed, and clients send what they like
		user = f.text("user")
	}
	var meant []job.Job
	for _, id := range s.sdapi.stop(sdapiCaller(r, user), skip) {
		now, err := s.config.Queue.Job(r.Context(), id)
		switch {
		case errors.Is(err, queue.ErrNotFound): // it has ended, and was dropped since
		case err != nil:
			return err
		case !skip || now.State == job.Running:
			meant = append(meant, now)
		}
	}
	if err := s.cancelAll(r.Context(), meant); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, struct{}{})
	return nil
}
