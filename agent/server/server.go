// Package server is the agent's edge: the page, the HTTP API, and the socket of events and commands.
//
// Every request passes guard.go first, which stands outside the mux: exact Host, exact Origin, token or session. What a route
// needs is said in the one table of routes.go. The package decides nothing: it takes commands to the queue, and shows what the
// feed, the store and the function fields of Config give it. It imports the packages queue, feed and images beside it.
package server

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"time"

	"muster/agent/feed"
	"muster/agent/images"
	"muster/agent/queue"
	"muster/shared/gpu"
	"muster/shared/wire"
)

// TemperaturePoint is one measured temperature of a device.
type TemperaturePoint struct {
	Time    time.Time
	Celsius float64
}

// Config is what the server shows and where it hands commands to. Token, Addr, Queue, Images, Feed and the functions without
// "nil" in their comment are required.
type Config struct {
	Build, Instance string
	// Interval is the time between snapshots, for hello.
	Interval time.Duration
	// Addr is the address that is listened on, host:port.
	Addr string
	// AllowHosts are further exact values of the Host header that are served, name:port.
	AllowHosts []string
	// Token is what programs send as Bearer.
	Token string
	// ModelsDir is shown in the setup status.
	ModelsDir string
	// MaxClients bounds open sockets; 0 is DefaultMaxClients. MaxClientsPerSession bounds those of one browser; 0 is
	// DefaultMaxClientsPerSession.
	MaxClients, MaxClientsPerSession int

	Queue  *queue.Queue
	Images *images.Store
	Feed   *feed.Feed

	Inventory    func() *gpu.Inventory                   // nil result: not looked yet
	Snapshot     func() *gpu.Snapshot                    // nil result: not measured yet
	History      func(time.Duration, int) wire.History   // window and most points
	Temperatures func(gpu.Ref) []TemperaturePoint        // oldest first
	Capacity     func() wire.Capacity                    // what can generate
	Pause        func(device gpu.Ref, paused bool) error // error: no such device
	Ready        func() error                            // nil: always ready; an error says what is missing
	Site         fs.FS                                   // the built page; nil or empty answers 503
	Log          *slog.Logger                            // nil discards
}

// Bounds of open sockets when Config does not say.
const (
	DefaultMaxClients           = 256
	DefaultMaxClientsPerSession = 8
)

// Server is the edge of one agent.
type Server struct{ config Config }

// New checks the configuration.
func New(c Config) (*Server, error) {
	if c.Token == "" {
		return nil, errors.New("server: a token is required")
	}
	return &Server{config: c}, nil
}

// Handler serves everything, guard included.
func (s *Server) Handler() http.Handler { return http.NotFoundHandler() }

// NewLink gives a link that lets one browser in, once, within 5 minutes.
func (s *Server) NewLink() string { return "http://" + s.config.Addr + "/#pair=" }

// Serve answers on the listener until ctx ends, then stops in order: sockets are closed with 1001, requests get a short grace.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	<-ctx.Done()
	return listener.Close()
}
