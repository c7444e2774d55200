package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"muster/agent/images"
	"muster/shared/job"
)

// streamQuiet is how long a stream says nothing. Then it sends a comment, for proxies give up what is silent.
const streamQuiet = 15 * time.Second

// openAIEvents is an answer of server-sent events (WHATWG HTML 9.2). Nothing is sent before the first, so that what fails until
// then has a status of its own.
type openAIEvents struct {
	out   reply
	begun bool
	last  time.Time // when something was sent
}

func newOpenAIEvents(w http.ResponseWriter) *openAIEvents {
	return &openAIEvents{out: newReply(w), last: time.Now()}
}

func (e *openAIEvents) begin() {
	if e.begun {
		return
	}
	e.begun = true
	h := e.out.to.w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would keep the images back
	e.out.to.w.WriteHeader(http.StatusOK)
}

// send ends an event and sends it. Its error means that the client is gone.
func (e *openAIEvents) send() error {
	e.last = time.Now()
	io.WriteString(e.out, "\n\n")
	if e.out.Flush() != nil {
		return errAnswered
	}
	e.out.to.flush()
	return nil
}

// comment says that there is nothing to say, when that was so for long enough.
func (e *openAIEvents) comment() error {
	if time.Since(e.last) < streamQuiet {
		return nil
	}
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
	how := wait{keep: keep, quiet: streamQuiet, idle: events.comment}
	if ask.partials > 0 {
		how.quiet, how.idle = partialPoll, s.openAIPartials(events, r, ask, jobs)
	}
	var lost []unmade
	how.done = func(_ int, j job.Job) error {
		pictures, failed := s.openPictures([]job.Job{j})
		defer closeAll(pictures)
		lost = append(lost, failed...)
		if len(pictures) == 0 {
			return nil
		}
		return s.sendOpenAI(events, r, ask, pictures[0])
	}
	err := s.each(r, jobs, how)
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
	ask.encoding = ask.encoding.suited(p)
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

// partialPoll is how often it is looked whether there is a picture of an unfinished image.
const partialPoll = 250 * time.Millisecond

// openAIPartials gives what sends the pictures that there are: as many as were asked for, evenly over the steps of each image.
// Generators that make none send none, as OpenAI may.
func (s *Server) openAIPartials(events *openAIEvents, r *http.Request, ask openAIAsk, jobs []job.Job) func() error {
	sent := map[string]int{}
	return func() error {
		for _, j := range jobs {
			now, err := s.config.Queue.Job(r.Context(), j.ID)
			if err != nil || now.State != job.Running {
				continue
			}
			preview, ok := s.config.Previews.Get(j.ID)
			due := now.Progress.Step * (ask.partials + 1) / max(1, now.Progress.Steps)
			if !ok || sent[j.ID] >= min(due, ask.partials) {
				continue
			}
			if err := events.partial(ask, now, preview, sent[j.ID]); err != nil {
				return err
			}
			sent[j.ID]++
		}
		return events.comment()
	}
}

// partial sends a picture of an unfinished image, in the format in which the generator made it.
func (e *openAIEvents) partial(ask openAIAsk, j job.Job, preview images.Preview, number int) error {
	e.begin()
	io.WriteString(e.out, "event: image_generation.partial_image\ndata: {\"type\":\"image_generation.partial_image\",\"b64_json\":\"")
	if err := writeBase64(e.out, bytes.NewReader(preview.Data)); err != nil {
		return errAnswered
	}
	fmt.Fprintf(e.out, `","created_at":%d,"partial_image_index":%d`, time.Now().Unix(), number)
	common := openAIPicture{
		Background: "opaque", OutputFormat: strings.TrimPrefix(preview.Type, "image/"), Quality: ask.quality, Size: fmt.Sprintf("%dx%d", j.Width, j.Height),
	}
	for _, part := range []any{common, madeOf(j)} {
		if err := writeRest(e.out, part); err != nil {
			return err
		}
	}
	e.out.WriteByte('}')
	return e.send()
}
