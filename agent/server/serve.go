package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits of the HTTP server. There is no write timeout: a set of sample images takes minutes, and a socket stays for days. The
// time of a body is bounded where it is read.
const (
	readHeaderTimeout = 5 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
	shutdownGrace     = 3 * time.Second
)

// Serve answers on the listener until ctx ends, and closes it. Then it stops in order: sockets are closed with 1001, requests that
// wait for images are told that the agent stops (what has not started of them is given up, unless they have a key to come again with), others get a short grace. When it returns, everything
// that it started is gone. It can be called once.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	web := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- web.Serve(listener) }()
	select {
	case err := <-served:
		s.stop()
		s.sockets.wait(shutdownGrace)
		return errors.Join(err, web.Close())
	case <-ctx.Done():
	}
	s.stop()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	err := web.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = web.Close()
	}
	s.sockets.wait(shutdownGrace)
	<-served
	return err
}
