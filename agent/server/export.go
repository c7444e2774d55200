package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"muster/agent/queue"
	"muster/shared/job"
)

// Limits of exports.
const (
	maxExports    = 4
	exportBuffer  = 32 << 10
	exportTimeout = 20 * time.Second // for a buffer to be taken by the client
)

var errExports = &refusal{status: http.StatusServiceUnavailable, code: "busy", message: "other exports are under way: try again when one is done", retry: 10 * time.Second}

// exportJobs answers GET /api/v1/jobs/export?state=&set_id=&after=: every job in order of its id, as JSON, one a line. The answer
// is whole only when it ends in order: a client that is cut off, or does not read, gets an answer that breaks off.
func (s *Server) exportJobs(w http.ResponseWriter, r *http.Request) error {
	filter, err := jobFilter(r, "state", "set_id", "after")
	if err != nil {
		return err
	}
	if !s.exports.TryAcquire(1) {
		return errExports
	}
	defer s.exports.Release(1)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return nil
	}
	ctx, stop := s.untilStop(r.Context())
	defer stop()
	sent := &pacedWriter{w: w, control: http.NewResponseController(w)}
	if err := s.export(ctx, filter, sent); err != nil {
		if !sent.began {
			return err
		}
		s.log.Warn("export of jobs broke off", "error", err)
		panic(http.ErrAbortHandler) // half an answer must not look like a whole one
	}
	sent.lift()
	return nil
}

func (s *Server) export(ctx context.Context, filter queue.Filter, to *pacedWriter) error {
	out := bufio.NewWriterSize(to, exportBuffer)
	lines := json.NewEncoder(out)
	if err := s.config.Queue.Export(ctx, filter, func(j job.Job) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return lines.Encode(j)
	}); err != nil {
		return err
	}
	return out.Flush()
}

// pacedWriter gives each write exportTimeout.
type pacedWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	began   bool
}

func (p *pacedWriter) Write(b []byte) (int, error) {
	p.began = true
	if err := p.control.SetWriteDeadline(time.Now().Add(exportTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return p.w.Write(b)
}

// lift ends the deadline, which is the connection's: the next request on it has its own.
func (p *pacedWriter) lift() {
	if p.began {
		_ = p.control.SetWriteDeadline(time.Time{}) // recorders of tests know no deadlines
	}
}

// untilStop ends with ctx, and with errStopping as its cause when the agent stops.
func (s *Server) untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-s.stopping:
			stop(errStopping)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { stop(nil) }
}
