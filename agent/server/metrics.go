package server

import (
	"log/slog"
	"net/http"

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
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	})
}

// metrics answers GET /metrics.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	s.scrape.ServeHTTP(w, r)
	return nil
}
