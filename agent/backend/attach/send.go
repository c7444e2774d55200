package attach

import (
	"context"
	"net/http"
	"time"

	"muster/agent/backend/exchange"
)

// Sent is an order on its way through a server that answers when the image is made. It does not end with the context of the call that
// sent it: a server that nobody listens to goes on all the same, and its answer is the only sure sign that it is free again.
type Sent struct {
	Begun time.Time
	Done  <-chan struct{}    // closed when it has ended
	Close context.CancelFunc // the connection, which ends it

	// Once Done is closed.
	Text []byte
	Err  error
}

// Send posts an order by a goroutine of its own. It ends with the server's life at the latest. read is the time for an answer from its
// first byte to its last.
func (s *Server) Send(client *exchange.Client, path string, order any, read time.Duration) *Sent {
	ctx, cancel := s.Life.Context()
	done := make(chan struct{})
	sent := &Sent{Begun: time.Now(), Done: done, Close: cancel}
	go func() {
		defer cancel()
		defer close(done)
		sent.Text, sent.Err = client.Bytes(ctx, exchange.Call{
			Method: http.MethodPost, Path: path, Body: order, Want: http.StatusOK, Wait: exchange.Patient, Read: read,
		})
	}()
	return sent
}
