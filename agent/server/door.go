package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
)

// door is an API of other programs that the agent speaks, so that their clients need another address and nothing else.
type door int

const (
	ownDoor    door = iota // the agent's own API and its page
	openAIDoor             // OpenAI's images
	sdapiDoor              // the API of stable-diffusion-webui, of which Forge, SD.Next and others speak the same
)

// doorOf goes by the path alone, so that every error below it has the form that its clients read: those of the guard too, and
// those of paths that are not there.
func doorOf(path string) door {
	switch {
	case strings.HasPrefix(path, "/v1/"):
		return openAIDoor
	case strings.HasPrefix(path, "/sdapi/"), strings.HasPrefix(path, "/internal/"), path == gradioStatus:
		return sdapiDoor
	}
	return ownDoor
}

// maxDiscard is how much of a body is read past that nobody wants. Most programs read no answer before all of theirs is sent, so
// to close at once would give them a broken connection in place of the reason.
const maxDiscard = 32 << 20

// discard reads past a body, through a small buffer and within bodyTimeout. Who waits for 100 Continue has not sent it yet.
func discard(r *http.Request) {
	if r.Header.Get("Expect") == "" {
		_, _ = io.CopyN(io.Discard, r.Body, maxDiscard)
	}
}

var errImageBody = &refusal{status: http.StatusRequestEntityTooLarge, code: "too_large",
	message: fmt.Sprintf("the body is too long: at most %d bytes are allowed; images as input are not taken here", maxBodyBytes)}

// readDoor reads a whole body, whatever its Content-Type says: curl -d calls JSON a form.
func (s *Server) readDoor(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > maxBodyBytes {
		discard(r)
		return nil, errImageBody
	}
	body, err := s.readHeld(w, r)
	if long := new(http.MaxBytesError); errors.As(err, &long) {
		discard(r)
		return nil, errImageBody
	}
	return body, err
}

// clientOf names who asks through a door: a user that the request names, else the door's programs together. A page of the agent's
// own keeps the name of its session.
func clientOf(r *http.Request, door, user string) string {
	if user == "" {
		user = strings.ToValidUTF8(r.Header.Get("X-OpenWebUI-User-Id"), "") // Open WebUI sends it where it is told to
	}
	switch {
	case user == "" && !callerOf(r).bearer:
		return ""
	case user == "":
		return door
	case len(door)+1+len(user) > job.MaxNameBytes:
		sum := sha256.Sum256([]byte(user))
		return fmt.Sprintf("%s %x", door, sum[:16])
	}
	return door + " " + user
}

// order submits a set whose images somebody waits for. keep says that the client may come for it again, with the same key.
func (s *Server) order(r *http.Request, spec job.Spec, adapt adapter) (jobs []job.Job, keep bool, err error) {
	if err := canMake(s.capacity(r.Context()), spec); err != nil {
		return nil, false, err
	}
	keys := r.Header.Values("Idempotency-Key")
	if len(keys) > 1 {
		return nil, false, invalid("Idempotency-Key", "is given %d times: once is enough", len(keys))
	}
	key := strings.Join(keys, "")
	jobs, _, err = s.submit(r.Context(), callerOf(r), key, spec, adapt)
	return jobs, key != "", err
}

// canMake says why waiting for the set would not end: what has the model is paused, or broken.
func canMake(capacity wire.Capacity, spec job.Spec) error {
	if !capacity.TakesOrders() {
		return errNoBackend
	}
	name := modelFor(spec.Model, capacity, spec.DeviceID)
	able := capacity
	able.Slots = slices.DeleteFunc(slices.Clone(capacity.Slots), func(slot wire.Slot) bool { return !slices.Contains(slot.Models, name) })
	if len(able.Slots) == 0 {
		return absent(capacity, name)
	}
	err := canGenerate(able, spec.DeviceID)
	if err == nil {
		return nil
	}
	refused := *refusalOf(err)
	if spec.DeviceID != nil {
		refused.field = "device_id"
		return &refused
	}
	refused.status, refused.retry = http.StatusServiceUnavailable, errNoBackend.retry
	return &refused
}

// absent refuses a model that only a generator has which is away; nil when it is none: submit says which are.
func absent(capacity wire.Capacity, name string) error {
	for _, m := range capacity.Models {
		if m.Name != name || m.Away == "" {
			continue
		}
		for _, g := range capacity.Generators {
			if g.ID == m.Away {
				return &refusal{status: http.StatusServiceUnavailable, code: "no_backend", retry: errNoBackend.retry,
					message: "no backend can generate images with " + cut(name) + " now: " + g.Problem}
			}
		}
	}
	return nil
}

// modelFor gives the model that a command with this name is made with; "" when nothing can generate.
func modelFor(name string, capacity wire.Capacity, device *gpu.Ref) string {
	if name != "" || len(capacity.Models) == 0 {
		return name
	}
	return defaultModel(capacity, device)
}

// wait is how a door waits for its set.
type wait struct {
	keep  bool                         // a client that goes away may come again: nothing is cancelled for it
	done  func(i int, j job.Job) error // gets each job as it ends; its error means that the client is gone
	quiet time.Duration                // after so long without a job idle is called; 0 for never
	idle  func() error
}

// each waits for the jobs and hands them on in the order in which they end. A client that goes away cancels what has not started,
// and gives errAnswered; so does an agent that stops, with errStopping: the client asks again, and nobody would come for these.
func (s *Server) each(r *http.Request, jobs []job.Job, how wait) error {
	ctx, stop := s.untilStop(r.Context())
	defer stop()
	type end struct {
		i   int
		job job.Job
		err error
	}
	ends := make(chan end, len(jobs))
	for i, j := range jobs {
		go func() {
			ended, err := s.config.Queue.Wait(ctx, j.ID)
			ends <- end{i, ended, err}
		}()
	}
	tick := make(<-chan time.Time)
	if how.quiet > 0 {
		ticker := time.NewTicker(how.quiet)
		defer ticker.Stop()
		tick = ticker.C
	}
	for left := len(jobs); left > 0; {
		var gone error
		select {
		case <-tick:
			gone = how.idle()
		case e := <-ends:
			left--
			if gone = s.lost(ctx, e.err); e.err == nil {
				gone = how.done(e.i, e.job)
			}
		}
		if gone == nil {
			continue
		}
		if (errors.Is(gone, errAnswered) || errors.Is(gone, errStopping)) && !how.keep {
			s.cancelUnstarted(jobs)
		}
		return gone
	}
	return nil
}

// lost tells why waiting for a job ended without it.
func (s *Server) lost(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(ctx), errStopping):
		return errStopping
	case ctx.Err() != nil:
		return errAnswered // nobody is there to read one
	}
	return err
}

// renamed calls a field of a command by the name that it has at a door.
func renamed(err error, names map[string]string) error {
	if err == nil || errors.Is(err, errAnswered) {
		return err
	}
	refused := *refusalOf(err)
	name, ok := names[refused.field]
	if !ok {
		return err
	}
	refused.field = name
	return &refused
}
