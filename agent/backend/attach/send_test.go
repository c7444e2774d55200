package attach

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"muster/agent/backend/exchange"
)

// An order goes on whatever becomes of its call, and ends with the answer, the connection or the server's life.
func TestSend(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		do   func(s *Server, sent *Sent, answer func())
		text string
		err  error // nil: it is answered
	}{
		"an answer":          {func(_ *Server, _ *Sent, answer func()) { answer() }, `{"prompt":"x"}`, nil},
		"closed":             {func(_ *Server, sent *Sent, _ func()) { sent.Close() }, "", context.Canceled},
		"the end of the run": {func(s *Server, _ *Sent, _ func()) { s.Life.End() }, "", context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reached, answer := make(chan struct{}), make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				close(reached)
				select {
				case <-answer:
				case <-r.Context().Done():
					return
				}
				if r.Method != http.MethodPost || r.URL.Path != "/make" {
					http.NotFound(w, r)
				}
				_, _ = w.Write(body)
			}))
			defer server.Close()
			client := exchange.New(exchange.Config{Name: "server", Base: server.URL, Answer: time.Minute})
			s := New(comfy("0"), seeing(mixed()), sdxl().probe, nil)
			sent := s.Send(client, "/make", map[string]string{"prompt": "x"}, time.Minute)
			<-reached
			select {
			case <-sent.Done:
				t.Fatal("it ended before its answer")
			default:
			}
			tt.do(s, sent, func() { close(answer) })
			<-sent.Done
			if string(sent.Text) != tt.text || !errors.Is(sent.Err, tt.err) || time.Since(sent.Begun) > time.Minute {
				t.Errorf("got %q, %v after %v", sent.Text, sent.Err, time.Since(sent.Begun))
			}
			sent.Close()
		})
	}
}
