package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxScrapes bounds the scrapes that are answered at once; further ones get 503.
const maxScrapes = 4

// newMetrics makes what answers GET /metrics: the text format of Prometheus, or OpenMetrics for who asks for it. Each scrape
// shows one snapshot.
func newMetrics(s *Server) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{s})
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes, ErrorLog: scrapeLog{s.log},
	})
}

// scrapeLog takes what promhttp has to say, without that a client went away in the middle, which it says for every metric left.
type scrapeLog struct{ log *slog.Logger }

// Println is promhttp's.
func (l scrapeLog) Println(said ...any) {
	for _, v := range said {
		if err, ok := v.(error); ok && (errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, net.ErrClosed)) {
			return
		}
	}
	l.log.Warn("metrics", "error", strings.TrimSpace(fmt.Sprintln(said...)))
}

// metrics answers GET /metrics.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	s.scrape.ServeHTTP(w, r)
	return nil
}
