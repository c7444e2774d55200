package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"muster/agent/images"
	"muster/agent/models"
	"muster/agent/queue"
	"muster/shared/job"
	"muster/shared/pool"
	"muster/shared/wire"
)

// refusal is an error as a client sees it: a status, a code for programs, a message for people.
type refusal struct {
	status  int
	code    string
	message string
	field   string        // of the request; "" when no single one is wrong
	retry   time.Duration // sent as Retry-After; 0 for none
	allow   string        // sent as Allow; "" for none
	cause   error         // for the log only; nil when the refusal says it all
}

func (r *refusal) Error() string {
	if r.field != "" {
		return r.field + ": " + r.message
	}
	return r.message
}

func (r *refusal) Unwrap() error { return r.cause }

// invalid refuses a field of a request; the message says what is allowed.
func invalid(field, format string, args ...any) *refusal {
	return &refusal{status: http.StatusBadRequest, code: "invalid", field: field, message: fmt.Sprintf(format, args...)}
}

var errStopping = &refusal{status: http.StatusServiceUnavailable, code: "stopping", message: "the agent is stopping", retry: 5 * time.Second}

// refusalOf is the one place where errors become status codes.
func refusalOf(err error) *refusal {
	var known *refusal
	var field *job.FieldError
	var decision *pool.FieldError
	var source *models.FieldError
	var long *http.MaxBytesError
	plain := func(status int, code string, retry time.Duration) *refusal {
		return &refusal{status: status, code: code, message: err.Error(), retry: retry}
	}
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &field):
		return invalid(field.Field, "%s", field.Message)
	case errors.As(err, &decision):
		return invalid(decision.Field, "%s", decision.Message)
	case errors.As(err, &source):
		return invalid(source.Field, "%s", source.Message)
	case errors.Is(err, models.ErrNotFound):
		return plain(http.StatusNotFound, "not_found", 0)
	case errors.Is(err, models.ErrExists):
		return plain(http.StatusConflict, "exists", 0)
	case errors.Is(err, models.ErrBusy):
		return plain(http.StatusConflict, "busy", 0)
	case errors.Is(err, models.ErrFull):
		return plain(http.StatusServiceUnavailable, "too_many_installs", time.Minute)
	case errors.Is(err, models.ErrDisk):
		return &refusal{status: http.StatusServiceUnavailable, code: "disk", retry: 30 * time.Second, cause: err,
			message: "the disk is read-only or fails, so it was not kept: see the agent's log"}
	case errors.As(err, &long):
		return &refusal{status: http.StatusRequestEntityTooLarge, code: "too_large", message: fmt.Sprintf("the body is too long: at most %d bytes are allowed", long.Limit)}
	case errors.Is(err, queue.ErrNotFound), errors.Is(err, images.ErrNotFound):
		return plain(http.StatusNotFound, "not_found", 0)
	case errors.Is(err, queue.ErrKeyReused):
		return plain(http.StatusConflict, "key_reused", 0)
	case errors.Is(err, job.ErrTransition):
		return &refusal{status: http.StatusConflict, code: "ended", message: "the job has ended already"}
	case errors.Is(err, queue.ErrFull):
		return plain(http.StatusServiceUnavailable, "queue_full", 5*time.Second)
	case errors.Is(err, queue.ErrDiskFull):
		return plain(http.StatusInsufficientStorage, "disk_full", 0)
	case errors.Is(err, queue.ErrDisk):
		return &refusal{status: http.StatusServiceUnavailable, code: "disk", retry: 30 * time.Second, cause: err,
			message: "the disk of the agent's data folder is read-only or fails: nothing was changed; see the agent's log"}
	case errors.Is(err, queue.ErrClosed):
		return errStopping
	case errors.Is(err, queue.ErrCorrupt):
		return &refusal{status: http.StatusInternalServerError, code: "store", message: "the job database is damaged: run muster doctor", cause: err}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &refusal{status: http.StatusServiceUnavailable, code: "timeout", message: "no answer in time: try again", retry: 2 * time.Second}
	default:
		// The text may name files of this machine: it goes to the log.
		return &refusal{status: http.StatusInternalServerError, code: "internal", message: "internal error: see the agent's log", cause: err}
	}
}

// event answers a command on the socket.
func (r *refusal) event(id string) wire.Event {
	return wire.Event{Error: &wire.Error{ID: id, Code: r.code, Message: r.message, Field: r.field}}
}

// write answers a request. Routes of the earlier system (legacy) keep its form, {"detail"}.
func (r *refusal) write(w http.ResponseWriter, legacy bool) {
	r.headers(w.Header())
	if legacy {
		writeJSON(w, r.status, legacyError{r.Error()})
		return
	}
	writeJSON(w, r.status, apiError{errorContent{r.code, r.message, r.field}})
}

// apiError is an error of muster's own routes.
type apiError struct {
	Error errorContent `json:"error"`
}

type errorContent struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Field   string `json:"field,omitempty"`
}

// legacyError is one of the earlier system's routes.
type legacyError struct {
	Detail string `json:"detail"`
}

// headers sets what an error says beside its body.
func (r *refusal) headers(h http.Header) {
	if r.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(r.retry.Seconds()))))
	}
	if r.allow != "" {
		h.Set("Allow", r.allow)
	}
}

// writeJSON answers with a value that can always be encoded. Answers of the API are never stored by caches.
func writeJSON(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":{"code":"internal","message":"the answer can't be written as JSON"}}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that is gone needs no answer
}
