package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"muster/agent/queue"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/wire"
)

// served is a test agent that listens.
type served struct {
	*testAgent
	addr string
	stop func() error // ends Serve and gives its result; may be called again
	http *http.Client // nil: the default one
}

func serveAgent(t testing.TB, change ...func(*Config)) *served {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, listener, change...)
}

func serveOn(t testing.TB, listener net.Listener, change ...func(*Config)) *served {
	t.Helper()
	addr := listener.Addr().String()
	if _, _, err := net.SplitHostPort(addr); err != nil {
		addr = testAddr
	}
	s := &served{testAgent: newAgent(t, append([]func(*Config){func(c *Config) { c.Addr = addr }}, change...)...), addr: addr}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	result := make(chan error, 1)
	go func() { result <- s.server.Serve(ctx, listener) }()
	s.stop = func() error {
		cancel()
		err := <-result
		result <- err
		return err
	}
	t.Cleanup(func() { _ = s.stop() })
	return s
}

// client is the other end of a socket.
type client struct {
	t      testing.TB
	conn   *websocket.Conn
	format wire.Format
}

func (s *served) dial(format wire.Format, query string, headers ...string) (*client, *http.Response, error) {
	s.t.Helper()
	return s.dialWith(&websocket.DialOptions{}, format, query, headers...)
}

func (s *served) dialWith(options *websocket.DialOptions, format wire.Format, query string, headers ...string) (*client, *http.Response, error) {
	s.t.Helper()
	protocol := wire.SubprotocolJSON
	if format == wire.Binary {
		protocol = wire.SubprotocolBinary
	}
	h := http.Header{"Authorization": {"Bearer " + testToken}}
	if len(headers) > 0 {
		h = http.Header{}
	}
	for i := 0; i+1 < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	options.Subprotocols, options.HTTPHeader, options.HTTPClient = []string{protocol}, h, s.http
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	conn, response, err := websocket.Dial(ctx, "ws://"+s.addr+"/api/v1/events"+query, options)
	if err != nil {
		return nil, response, err
	}
	s.t.Cleanup(func() { _ = conn.CloseNow() })
	conn.SetReadLimit(1 << 20)
	return &client{s.t, conn, format}, response, nil
}

func (s *served) connect(format wire.Format, query string, headers ...string) *client {
	s.t.Helper()
	c, _, err := s.dial(format, query, headers...)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (c *client) read() (wire.Event, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Hour) // a test's own time may be virtual
	defer cancel()
	kind, frame, err := c.conn.Read(ctx)
	if err != nil {
		return wire.Event{}, err
	}
	if (kind == websocket.MessageBinary) != (c.format == wire.Binary) {
		return wire.Event{}, fmt.Errorf("frame of type %v in format %d", kind, c.format)
	}
	return wire.Decode(c.format, frame)
}

func (c *client) next() wire.Event {
	c.t.Helper()
	e, err := c.read()
	if err != nil {
		c.t.Fatal(err)
	}
	return e
}

// until reads on to the first event that fits.
func (c *client) until(fits func(wire.Event) bool) wire.Event {
	c.t.Helper()
	for {
		if e := c.next(); fits(e) {
			return e
		}
	}
}

func (c *client) send(command string) {
	c.t.Helper()
	if err := c.conn.Write(c.t.Context(), websocket.MessageText, []byte(command)); err != nil {
		c.t.Fatal(err)
	}
}

func (a *testAgent) submitJobs(count int) []job.Job {
	a.t.Helper()
	asked := job.Spec{Prompt: "a fox", Model: "sketch", Count: count}.WithDefaults()
	jobs, _, err := a.queue.Submit(a.t.Context(), "", asked, asked)
	if err != nil {
		a.t.Fatal(err)
	}
	return jobs
}

// published waits until the feed has told everything of these jobs.
func (a *testAgent) published(jobs []job.Job) {
	s := a.feed.Subscribe(wire.JSON)
	defer s.Close()
	for a.feed.Published() < jobs[len(jobs)-1].Seq {
		<-s.Wake()
		s.Take()
	}
}

func TestBeginningOfASocket(t *testing.T) {
	t.Parallel()
	a := serveAgent(t)
	a.feed.Inventory(a.inventory)
	a.feed.Capacity(p(a.nowCapacity()))
	a.feed.Library(&model.Library{Dir: "/models"})
	a.feed.Snapshot(a.snapshot)
	jobs := a.submitJobs(3)
	a.published(jobs)
	for _, format := range wire.Formats {
		c := a.connect(format, "?history=60")
		hello := c.next().Hello
		if hello == nil || hello.Version != wire.Version || hello.Build != "test" || hello.Instance != "i1" || hello.IntervalMilliseconds != 1000 || !hello.Complete || hello.Resume != jobs[2].Seq {
			t.Fatalf("hello: %+v", hello)
		}
		if e := c.next(); e.Inventory == nil || len(e.Inventory.Devices) != 2 {
			t.Errorf("inventory: %+v", e)
		}
		if e := c.next(); e.Capacity == nil || e.Capacity.DefaultModel != "sketch" {
			t.Errorf("capacity: %+v", e)
		}
		if e := c.next(); e.Library == nil || e.Library.Dir != "/models" {
			t.Errorf("library: %+v", e)
		}
		e := c.next()
		if e.History == nil || e.History.Devices[0].ID != "1m0s 300" || !math.IsNaN(e.History.Devices[0].UtilizationPercent[1]) {
			t.Errorf("history: %+v", e)
		}
		for i := range jobs {
			if e := c.next(); e.Job == nil || e.Job.ID != jobs[i].ID || e.Job.Seq != jobs[i].Seq {
				t.Errorf("job %d: %+v", i, e.Job)
			}
		}
		if e := c.next(); e.Snapshot == nil || e.Snapshot.Seq != 9 {
			t.Errorf("snapshot: %+v", e)
		}
		a.feed.Snapshot(&gpu.Snapshot{Seq: 10})
		if e := c.next(); e.Snapshot == nil || e.Snapshot.Seq != 10 {
			t.Errorf("the next snapshot: %+v", e)
		}
		a.feed.Library(&model.Library{Dir: "/other"})
		if e := c.next(); e.Library == nil || e.Library.Dir != "/other" {
			t.Errorf("a library that changed: %+v", e)
		}
		a.feed.Library(&model.Library{Dir: "/models"})
		a.feed.Snapshot(a.snapshot)
	}
}

func TestNoSubprotocolIsJSON(t *testing.T) {
	t.Parallel()
	a := serveAgent(t)
	conn, _, err := websocket.Dial(t.Context(), "ws://"+a.addr+"/api/v1/events", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + testToken}}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	kind, frame, err := conn.Read(t.Context())
	if err != nil || kind != websocket.MessageText || !strings.HasPrefix(string(frame), `{"hello":{`) {
		t.Errorf("%v %s %v", kind, frame, err)
	}
}

func TestResume(t *testing.T) {
	t.Parallel()
	a := serveAgent(t)
	jobs := a.submitJobs(4)
	ended, err := a.queue.Cancel(t.Context(), jobs[1].ID)
	if err != nil {
		t.Fatal(err)
	}
	a.published([]job.Job{ended})
	for _, test := range []struct {
		after    uint64
		complete bool
		want     int // jobs: the active ones always, the cancelled one when it changed after
	}{{jobs[3].Seq, false, 4}, {ended.Seq, false, 3}, {0, true, 4}, {ended.Seq + 1000, true, 4}} {
		c := a.connect(wire.JSON, fmt.Sprintf("?after=%d", test.after))
		if hello := c.next().Hello; hello.Complete != test.complete || hello.Resume != ended.Seq {
			t.Errorf("after %d: %+v", test.after, hello)
		}
		a.feed.Snapshot(&gpu.Snapshot{Seq: test.after + 1}) // what ends the replay
		got := map[string]job.State{}
		for e := c.next(); e.Snapshot == nil; e = c.next() {
			if e.Job != nil {
				got[e.Job.ID] = e.Job.State
			}
		}
		if len(got) != test.want {
			t.Errorf("after %d: %v, want %d jobs", test.after, got, test.want)
		}
	}
}

func TestBadQueriesOfASocket(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for query, want := range map[string]string{"after=-1": "whole number", "after=x": "whole number", "after=99999999999999999999": "whole number", "history=601": "0 to 600", "history=x": "0 to 600", "since=1": "allowed are after, history", "after=1&after=2": "given 2 times"} {
		if r := a.ask("GET", "/api/v1/events?"+query, "", "Upgrade", "websocket"); r.status != 400 || !strings.Contains(r.message(), want) {
			t.Errorf("%s: %d %s, want %q", query, r.status, r.body, want)
		}
	}
	if r := a.ask("GET", "/api/v1/events", ""); r.status != http.StatusUpgradeRequired || !strings.Contains(r.message(), "WebSocket") {
		t.Errorf("no upgrade: %d %s", r.status, r.body)
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	a := serveAgent(t)
	for _, format := range wire.Formats {
		c := a.connect(format, "")
		key := fmt.Sprint("cmd-", format)
		submit := fmt.Sprintf(`{"submit":{"id":%q,"spec":{"prompt":"a fox","count":2,"seed":5}}}`, key)
		c.send(submit)
		first := c.until(func(e wire.Event) bool { return e.Job != nil && e.Job.Key == key }).Job
		second := c.until(func(e wire.Event) bool { return e.Job != nil && e.Job.Key == key && e.Job.ID != first.ID }).Job
		if first.Seed != 5 || second.Seed != 6 || first.SetID != second.SetID || first.Model != "sketch" {
			t.Errorf("%+v, %+v", first, second)
		}
		// The same command again changes nothing, and is answered all the same.
		c.send(submit)
		again := c.until(func(e wire.Event) bool { return e.Job != nil && e.Job.ID == first.ID }).Job
		if again.Seq != first.Seq {
			t.Errorf("again: %+v", again)
		}
		for range 2 {
			c.send(fmt.Sprintf(`{"cancel":{"id":"c","job_id":%q}}`, first.ID))
			c.until(func(e wire.Event) bool { return e.Job != nil && e.Job.ID == first.ID && e.Job.State == job.Cancelled })
		}
	}
	if n := len(a.queue.Active()); n != 2 {
		t.Errorf("%d active jobs, want one of each format", n)
	}
}

func TestRefusedCommands(t *testing.T) {
	t.Parallel()
	a := serveAgent(t)
	jobs := a.submitJobs(1)
	a.finish(t.Context(), jobs[0], "")
	c := a.connect(wire.Binary, "")
	for _, test := range []struct{ command, id, code, field, message string }{
		{``, "", "invalid_json", "", "nothing was sent"},
		{`{`, "", "invalid_json", "", "ends in the middle"},
		{`{}`, "", "invalid_json", "", "exactly one"},
		{`{"submit":{"id":"a","spec":{}},"cancel":{"id":"b","job_id":"x"}}`, "a", "invalid_json", "", "exactly one"},
		{`{"submit":{"id":"a","spec":{"prompt":"x"}}} {}`, "", "invalid_json", "", "follows"},
		{`{"submit":{"id":"a","spec":{"prompt":"x","stepz":1}}}`, "a", "invalid", "stepz", "not a field"},
		{`{"submit":{"id":"a","spec":{"prompt":"x","steps":"1"}}}`, "a", "invalid", "steps", "whole number"},
		{`{"submit":{"id":7,"spec":{"prompt":"x"}}}`, "", "invalid", "id", "must be a string"},
		{`{"cancel":{"id":"b","job_id":"x","why":1}}`, "b", "invalid", "why", "submit, cancel, id, spec, job_id, prompt"},
		{`{"submit":{"id":"a","spec":{"prompt":"x","count":0}}}`, "a", "invalid", "count", "is 0; allowed is 1 to 16"},
		{`{"submit":{"id":"a","spec":{"prompt":"x","Width":0}}}`, "a", "invalid", "width", "is 0; allowed is 64 to 4096"},
		{`{"submit":{"spec":{"prompt":"x"}}}`, "", "invalid", "id", "1 to 200"},
		{`{"submit":{"id":"` + strings.Repeat("x", 201) + `","spec":{"prompt":"x"}}}`, strings.Repeat("x", maxQuoted) + "…", "invalid", "id", "1 to 200"},
		{`{"submit":{"id":"a","spec":{"prompt":""}}}`, "a", "invalid", "prompt", "empty"},
		{`{"submit":{"id":"a","spec":{"prompt":"x","width":1}}}`, "a", "invalid", "width", "64 to 4096"},
		{`{"submit":{"id":"a","spec":{"prompt":"x","model":"no"}}}`, "a", "invalid", "model", "allowed are"},
		{`{"cancel":{"id":"b"}}`, "b", "invalid", "job_id", "must name"},
		{`{"cancel":{"id":"b","job_id":"nope"}}`, "b", "not_found", "", "no such job"},
		{`{"cancel":{"id":"b","job_id":"` + jobs[0].ID + `"}}`, "b", "ended", "", "ended already"},
	} {
		c.send(test.command)
		e := c.until(func(e wire.Event) bool { return e.Error != nil }).Error
		if e.ID != test.id || e.Code != test.code || e.Field != test.field || !strings.Contains(e.Message, test.message) {
			t.Errorf("%.60s: %+v", test.command, e)
		}
	}
	if err := c.conn.Write(t.Context(), websocket.MessageBinary, []byte(`{"cancel":{"id":"b","job_id":"x"}}`)); err != nil {
		t.Fatal(err)
	}
	if e := c.until(func(e wire.Event) bool { return e.Error != nil }).Error; !strings.Contains(e.Message, "JSON text") {
		t.Errorf("%+v", e)
	}
	// Text frames that are not UTF-8 are for the command to refuse: the library lets them through.
	if err := c.conn.Write(t.Context(), websocket.MessageText, []byte("{\"submit\":{\"id\":\"a\",\"spec\":{\"prompt\":\"\xff\"}}}")); err != nil {
		t.Fatal(err)
	}
	if e := c.until(func(e wire.Event) bool { return e.Error != nil }).Error; e.ID != "a" || !strings.Contains(e.Message, "UTF-8") {
		t.Errorf("%+v", e)
	}
	// The longest prompts fit, as many libraries write them: in escapes.
	longest := strings.Repeat(`\u00e9`, job.MaxPrompt/len("é"))
	c.send(fmt.Sprintf(`{"submit":{"id":"longest","spec":{"prompt":"%s","negative_prompt":"%s"}}}`, longest, longest))
	c.until(func(e wire.Event) bool { return e.Job != nil && e.Job.Key == "longest" })
	c.send(strings.Repeat("x", maxCommandBytes+1))
	for {
		if _, err := c.read(); err != nil {
			if websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
				t.Errorf("a long frame: %v", err)
			}
			break
		}
	}
}

// pairAt is pair for the address that is listened on.
func (s *served) pairAt() string {
	s.t.Helper()
	r := s.send("POST", "/api/v1/session", fmt.Sprintf(`{"code":%q}`, codeOf(s.server.NewLink())), "Host", s.addr, "Origin", "http://"+s.addr)
	if r.status != 200 {
		s.t.Fatalf("pair: %d %s", r.status, r.body)
	}
	cookie, _, _ := strings.Cut(r.header.Get("Set-Cookie"), ";")
	return cookie
}

func TestForeignPagesGetNoSocket(t *testing.T) {
	t.Parallel()
	a := serveAgent(t)
	cookie := a.pairAt()
	for name, headers := range map[string][]string{
		"foreign page":  {"Cookie", cookie, "Origin", "http://evil.example"},
		"sandboxed":     {"Cookie", cookie, "Origin", "null"},
		"no origin":     {"Cookie", cookie},
		"rebound":       {"Cookie", cookie, "Origin", "http://evil.example:8000", "Host", "evil.example:8000"},
		"nobody":        {"Origin", "http://" + a.addr},
		"query is none": {"X-Token", testToken},
	} {
		if _, r, err := a.dial(wire.JSON, "", headers...); err == nil || r == nil || r.StatusCode != 401 && r.StatusCode != 403 {
			t.Errorf("%s: %v %v", name, r, err)
		}
	}
	c := a.connect(wire.JSON, "", "Cookie", cookie, "Origin", "http://"+a.addr)
	if c.next().Hello == nil {
		t.Error("the own page gets one")
	}
}

func TestMostSockets(t *testing.T) {
	t.Parallel()
	a := serveAgent(t, func(c *Config) { c.MaxClients, c.MaxClientsPerSession = 3, 1 })
	browser := []string{"Cookie", a.pairAt(), "Origin", "http://" + a.addr}
	mine := a.connect(wire.JSON, "", browser...)
	if _, r, err := a.dial(wire.JSON, "", browser...); err == nil || r.StatusCode != 503 || r.Header.Get("Retry-After") == "" {
		t.Errorf("a second one of the session: %v", r)
	}
	a.connect(wire.JSON, "")
	a.connect(wire.JSON, "")
	if _, r, err := a.dial(wire.JSON, ""); err == nil || r.StatusCode != 503 {
		t.Errorf("a fourth: %v", r)
	}
	if err := mine.conn.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Fatal(err)
	}
	for { // its place is free when the server has seen it go
		c, _, err := a.dial(wire.JSON, "", browser...)
		if err == nil {
			c.next()
			return
		}
	}
}

func TestLogoutEndsSockets(t *testing.T) {
	t.Parallel()
	a := serveAgent(t)
	origin := "http://" + a.addr
	cookie, other := a.pairAt(), a.pairAt()
	c, stays := a.connect(wire.JSON, "", "Cookie", cookie, "Origin", origin), a.connect(wire.JSON, "", "Cookie", other, "Origin", origin)
	c.next()
	stays.next()
	if r := a.send("DELETE", "/api/v1/session", "", "Cookie", cookie, "Origin", origin, "Host", a.addr); r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if _, err := c.read(); websocket.CloseStatus(err) != statusSessionEnded {
		t.Errorf("%v", err)
	}
	a.feed.Snapshot(&gpu.Snapshot{Seq: 1})
	if stays.next().Snapshot == nil {
		t.Error("another session's socket ended too")
	}
}

func TestShutdownSaysGoingAway(t *testing.T) {
	t.Parallel()
	a := serveAgent(t)
	var clients []*client
	for range 5 {
		c := a.connect(wire.Binary, "")
		c.next()
		clients = append(clients, c)
	}
	closed := make(chan error)
	for _, c := range clients {
		go func() {
			for {
				if _, err := c.read(); err != nil {
					closed <- err
					return
				}
			}
		}()
	}
	if err := a.stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	for range clients {
		if err := <-closed; websocket.CloseStatus(err) != websocket.StatusGoingAway {
			t.Errorf("%v", err)
		}
	}
	a.server.sockets.mu.Lock()
	defer a.server.sockets.mu.Unlock()
	if len(a.server.sockets.open) != 0 || a.server.sockets.total != 0 {
		t.Errorf("%d sockets are left", a.server.sockets.total)
	}
}

func TestServeEndsWithItsListener(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := newAgent(t)
	listener.Close()
	if err := a.server.Serve(t.Context(), listener); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// Jobs that change while sockets open and the queue is busy: each client ends with the newest version of every job, and never
// sees an older version after a newer one.
func TestNoJobChangeIsLost(t *testing.T) {
	t.Parallel()
	a := serveAgent(t)
	const sets = 30
	submitted := make(chan struct{})
	go func() {
		defer close(submitted)
		for range sets {
			jobs := a.submitJobs(2)
			if _, err := a.queue.Start(t.Context(), jobs[0].ID, 0, queue.Placement{Device: 0}); err != nil {
				t.Error(err)
			}
			if _, err := a.queue.Cancel(t.Context(), jobs[1].ID); err != nil {
				t.Error(err)
			}
		}
	}()
	type result struct {
		seen map[string]job.Job
		err  error
	}
	results := make(chan result)
	for i := range 8 {
		c := a.connect(wire.Formats[i%2], "")
		go func() {
			seen := map[string]job.Job{}
			for {
				e, err := c.read()
				if err == nil && e.Job != nil {
					if before, ok := seen[e.Job.ID]; ok && before.Seq > e.Job.Seq {
						err = fmt.Errorf("version %d of %s after %d", e.Job.Seq, e.Job.ID, before.Seq)
					}
					seen[e.Job.ID] = *e.Job
				}
				if err != nil || e.Snapshot != nil && e.Snapshot.Seq == 77 {
					results <- result{seen, err}
					return
				}
			}
		}()
	}
	<-submitted
	all, _, err := a.queue.List(t.Context(), queue.Filter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	newest := all[0]
	for _, j := range all {
		if j.Seq > newest.Seq {
			newest = j
		}
	}
	a.published([]job.Job{newest})
	a.feed.Snapshot(&gpu.Snapshot{Seq: 77})
	for range 8 {
		r := <-results
		if r.err != nil {
			t.Error(r.err)
		}
		for _, j := range all {
			if got := r.seen[j.ID]; got.Seq != j.Seq || got.State != j.State {
				t.Errorf("job %s: client has %s %d, the queue %s %d", j.ID, got.State, got.Seq, j.State, j.Seq)
			}
		}
	}
}
