package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"
)

// serve answers every request of a test with h, and gives a client of it.
func serve(t *testing.T, h http.HandlerFunc, change func(*Config)) *Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	config := Config{Name: "the fake", Base: server.URL}
	if change != nil {
		change(&config)
	}
	client := New(config)
	t.Cleanup(client.Close)
	return client
}

func TestJSONBothWays(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, `{"method":%q,"path":%q,"sent":%q,"length":%d,"origin":%q,"auth":%q}`,
			r.Method, r.URL.RequestURI(), body, r.ContentLength, r.Header.Get("Origin"), r.Header.Get("Authorization"))
	}, func(c *Config) { c.User, c.Password = "me", "secret" })
	var got struct {
		Method, Path, Sent, Origin, Auth string
		Length                           int64
	}
	err := c.JSON(t.Context(), Call{Method: "POST", Path: "/a?b=c", Body: map[string]int{"n": 1}}, &got)
	if err != nil || got.Method != "POST" || got.Path != "/a?b=c" || got.Sent != `{"n":1}` || got.Length != 7 || got.Origin != "" {
		t.Errorf("%+v, %v", got, err)
	}
	if got.Auth != "Basic bWU6c2VjcmV0" {
		t.Errorf("authorization %q", got.Auth)
	}
}

// Whatever a generator does, an exchange ends within its bounds and says what went wrong.
func TestFaults(t *testing.T) {
	t.Parallel()
	drip := func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := w.Write([]byte(" ")); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	flood := func(length int64) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if length > 0 {
				w.Header().Set("Content-Length", fmt.Sprint(length))
			}
			chunk := make([]byte, 1<<20)
			for {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}
	}
	for _, tt := range []struct {
		name  string
		serve http.HandlerFunc
		want  error  // wrapped; nil: any
		words string // in the error
	}{
		{"garbage", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }, ErrBroken, "the fake answered nonsense"},
		{"half a JSON", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"a":`) }, ErrBroken, "nonsense"},
		{"a connection that breaks off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, `{"a":`)
		}, nil, "can't be reached"},
		{"10 GB announced", flood(10 << 30), ErrBroken, "more than 1 MiB"},
		{"a flood without end", flood(0), ErrBroken, "more than 1 MiB"},
		{"a byte now and then", drip, ErrSlow, "did not answer in time"},
		{"nothing", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, ErrSlow, "did not answer in time"},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, nil, "answered 302"},
		{"no content", func(http.ResponseWriter, *http.Request) {}, ErrBroken, "nonsense"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, tt.serve, func(c *Config) { c.Answer, c.Limit = 300*time.Millisecond, 1<<20 })
			if tt.want == ErrBroken {
				c.config.Answer = 30 * time.Second // floods of a busy machine are slow
			}
			var out map[string]any
			err := c.JSON(t.Context(), Call{Method: "GET", Path: "/"}, &out)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("got %v; want %q", err, tt.words)
			}
		})
	}
}

func TestStatusIsExplained(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, `{"error":{"message":"the model loads"}}`)
	}, nil)
	err := c.JSON(t.Context(), Call{Method: "GET", Path: "/"}, nil)
	var status *StatusError
	if !errors.As(err, &status) || status.Status != 503 || status.Retry != 7*time.Second || err.Error() != "the fake answered 503: the model loads" {
		t.Errorf("%#v", err)
	}
}

func TestOnlyTheWantedStatusIsNoError(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }, nil)
	if err := c.JSON(t.Context(), Call{Method: "GET", Path: "/", Want: 202}, nil); err != nil {
		t.Error(err)
	}
	if err := c.JSON(t.Context(), Call{Method: "GET", Path: "/"}, nil); err != nil {
		t.Error(err)
	}
	if err := c.JSON(t.Context(), Call{Method: "GET", Path: "/", Want: 200}, nil); err == nil {
		t.Error("202 was taken for 200")
	}
}

// A patient call outlasts the client's own limit, and ends with its context's cause.
func TestPatience(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
			io.WriteString(w, "{}")
		case <-r.Context().Done():
		}
	}, func(c *Config) { c.Answer = 50 * time.Millisecond })
	time.AfterFunc(200*time.Millisecond, func() { close(release) })
	if err := c.JSON(t.Context(), Call{Method: "GET", Path: "/", Wait: Patient, Read: time.Minute}, nil); err != nil {
		t.Error(err)
	}
	mine := errors.New("given up")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(mine)
	if err := c.JSON(ctx, Call{Method: "GET", Path: "/", Wait: Patient}, nil); !errors.Is(err, mine) {
		t.Errorf("got %v; want the context's cause", err)
	}
}

func TestOnlyLoopbackIsDialled(t *testing.T) {
	t.Parallel()
	c := New(Config{Name: "the fake", Base: "http://192.0.2.1:9"})
	err := c.JSON(t.Context(), Call{Method: "GET", Path: "/"}, nil)
	if err == nil || !strings.Contains(err.Error(), "loopback only") {
		t.Errorf("got %v", err)
	}
}

// An answer whose size is told is held once.
// https in place of http, and a certificate that nobody knows, are common slips: the error says what to write.
func TestSlipsWithTLS(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	for base, want := range map[string]string{
		strings.Replace(plain.URL, "http:", "https:", 1): "it speaks http, so write http:// in its address",
		secure.URL: "have it speak http, which on this machine nobody can listen to, and write http:// in its address",
	} {
		c := New(Config{Name: "the fake", Base: base, Answer: 10 * time.Second})
		if _, err := c.Bytes(t.Context(), Call{Method: http.MethodGet, Path: "/"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", base, err, want)
		}
	}
}

func TestAnswerIsHeldOnce(t *testing.T) {
	const size = 8 << 20
	answer := make([]byte, size)
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = w.Write(answer)
	}, nil)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	body, err := c.Bytes(t.Context(), Call{Method: "GET", Path: "/"})
	runtime.ReadMemStats(&after)
	if err != nil || len(body) != size {
		t.Fatalf("%d bytes, %v", len(body), err)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > size+size/8 {
		t.Errorf("an answer of %d bytes took %d", size, took)
	}
}

func TestComplaint(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ body, want string }{
		{``, ""},
		{`<html>`, ""},
		{`[1]`, ""},
		{`{"error":"job queue is full"}`, "job queue is full"},
		{`{"error":"invalid json","message":"line 1"}`, "invalid json: line 1"},
		{`{"error":{"message":"no such model","type":"x"}}`, "no such model"},
		{`{"error":"HTTPException","detail":"Sampler not found","body":"a prompt","errors":""}`, "HTTPException: Sampler not found"},
		{`{"detail":[{"type":"int","loc":["body","steps"],"msg":"not a number","input":"a prompt"}]}`, "steps: not a number"},
		{`{"detail":[{"loc":[],"msg":"m"}]}`, "m"},
		{"{\"error\":\"a\\u001b[31mb\"}", "a[31mb"},
	} {
		if got := Complaint([]byte(tt.body)); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.body, got, tt.want)
		}
	}
}

func FuzzComplaint(f *testing.F) {
	f.Add([]byte(`{"error":{"message":"x"}}`))
	f.Add([]byte(`{"detail":[{"loc":["a",1],"msg":"x"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if words := Complaint(body); len(words) > maxWords+len("…") {
			t.Errorf("%d bytes", len(words))
		}
	})
}

func TestStatusOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want int
	}{{nil, 0}, {ErrSlow, 0}, {&StatusError{Status: 404}, 404}, {fmt.Errorf("%w: %w", ErrBroken, &StatusError{Status: 500}), 500}} {
		if got := StatusOf(tt.err); got != tt.want {
			t.Errorf("%v: got %d, want %d", tt.err, got, tt.want)
		}
	}
}
