package server

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"muster/shared/job"
)

// streamQuiet is how long a stream says nothing. Then it sends a comment, for proxies give up what is silent.
const streamQuiet = 15 * time.Second

// openAIEvents is an answer of server-sent events (WHATWG HTML 9.2). Nothing is sent before the first, so that what fails until
// then has a status of its own.
type openAIEvents struct {
	to    steady
	out   *bufio.Writer
	begun bool
}

func newOpenAIEvents(w http.ResponseWriter) *openAIEvents {
	to := newSteady(w)
	return &openAIEvents{to: to, out: bufio.NewWriterSize(to, 32<<10)}
}

func (e *openAIEvents) begin() {
	if e.begun {
		return
	}
	e.begun = true
	h := e.to.w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would keep the images back
	e.to.w.WriteHeader(http.StatusOK)
}

// send ends an event and sends it. Its error means that the client is gone.
func (e *openAIEvents) send() error {
	io.WriteString(e.out, "\n\n")
	if e.out.Flush() != nil {
		return errAnswered
	}
	e.to.flush()
	return nil
}

func (e *openAIEvents) idle() error {
	e.begin()
	io.WriteString(e.out, ": waiting")
	return e.send()
}

// fail tells of an error, which ends a stream; before the first event it is the answer.
func (e *openAIEvents) fail(refused *refusal) error {
	if !e.begun {
		return refused
	}
	text, err := json.Marshal(struct {
		Type  string      `json:"type"`
		Error openAIError `json:"error"`
	}{"error", refused.openAI()})
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "event: error\ndata: %s", text)
	return e.send()
}

// openAIStream sends each image as soon as it is there. Clients stop reading at an error, so those that failed are told of last.
func (s *Server) openAIStream(w http.ResponseWriter, r *http.Request, ask openAIAsk, jobs []job.Job, keep bool) error {
	events := newOpenAIEvents(w)
	var lost []unmade
	err := s.each(r, jobs, wait{keep: keep, quiet: streamQuiet, idle: events.idle, done: func(_ int, j job.Job) error {
		pictures, failed := s.openPictures([]job.Job{j})
		defer closeAll(pictures)
		lost = append(lost, failed...)
		if len(pictures) == 0 {
			return nil
		}
		return s.sendOpenAI(events, r, ask, pictures[0])
	}})
	switch {
	case errors.Is(err, errAnswered):
		if events.begun {
			panic(http.ErrAbortHandler) // a stream that is cut must not look like a whole one
		}
		return err
	case err != nil:
		return events.fail(refusalOf(err))
	case len(lost) == len(jobs):
		return events.fail(errAllFailed(lost))
	case len(lost) > 0:
		failed := errAllFailed(lost)
		failed.message = fmt.Sprintf("%d of %d images could not be made: %s", len(lost), len(jobs), lost[0].why)
		return events.fail(failed)
	}
	return nil
}

// sendOpenAI sends one finished image. An image that turns out to be unreadable in the middle of its event cuts the connection.
func (s *Server) sendOpenAI(events *openAIEvents, r *http.Request, ask openAIAsk, p imageFile) error {
	events.begin()
	common := s.openAICommon(ask, p)
	io.WriteString(events.out, "event: image_generation.completed\ndata: {\"type\":\"image_generation.completed\",\"b64_json\":\"")
	if err := s.writePicture(r.Context(), events.out, p, ask.encoding); err != nil {
		if r.Context().Err() == nil {
			s.log.Warn("write image", "job", p.job.ID, "error", err)
		}
		return errAnswered
	}
	fmt.Fprintf(events.out, `","created_at":%d`, time.Now().Unix())
	for _, part := range []any{common, madeOf(p.job)} {
		if err := writeRest(events.out, part); err != nil {
			return err
		}
	}
	events.out.WriteByte('}')
	return events.send()
}
