package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"muster/agent/queue"
	"muster/shared/job"
	"muster/shared/wire"
)

// countedBody is a body that says when its first byte is read.
type countedBody struct {
	io.Reader
	began func()
	once  sync.Once
}

func (b *countedBody) Read(p []byte) (int, error) {
	b.once.Do(b.began)
	return b.Reader.Read(p)
}

// With ten thousand submissions at once, exactly as many are taken as may wait; the others are told to come again. However many
// there are, the bodies in memory are few.
func TestTenThousandSubmissionsAtOnce(t *testing.T) {
	t.Parallel()
	const submissions, room = 10_000, 300
	a := newAgentWith(t, queue.Options{MaxQueued: room})
	padding := strings.Repeat(" ", maxBodyBytes-100)
	var held, most atomic.Int64
	var mu sync.Mutex
	answers := map[int]int{}
	notKnown := 0 // a machine that is much too slow does not answer all in time
	submit := func(i int) {
		text := fmt.Sprintf(`{"prompt":"fox %d"`, i)
		body := &countedBody{Reader: io.MultiReader(strings.NewReader(text), strings.NewReader("}"))}
		size := int64(len(text) + 1)
		if i%10 == 0 {
			body.Reader = io.MultiReader(strings.NewReader(text), strings.NewReader(padding), strings.NewReader("}"))
			size += int64(len(padding))
		}
		body.began = func() {
			for now := held.Add(size); ; {
				if before := most.Load(); now <= before || most.CompareAndSwap(before, now) {
					return
				}
			}
		}
		r := httptest.NewRequest("POST", "/api/v1/jobs", body)
		r.Host, r.ContentLength = testAddr, size
		if i%20 == 0 {
			r.ContentLength = -1 // it does not say
		}
		r.Header.Set("Authorization", "Bearer "+testToken)
		w := httptest.NewRecorder()
		a.server.Handler().ServeHTTP(w, r)
		held.Add(-size)
		if w.Code == http.StatusServiceUnavailable && w.Header().Get("Retry-After") == "" || w.Code != http.StatusServiceUnavailable && w.Code != http.StatusAccepted {
			t.Errorf("submission %d: %d %s", i, w.Code, w.Body)
		}
		mu.Lock()
		if answers[w.Code]++; strings.Contains(w.Body.String(), errNotKnown.message) {
			notKnown++
		}
		mu.Unlock()
	}
	var all sync.WaitGroup
	start := make(chan struct{})
	var next atomic.Int64
	for range min(submissions, mostAtOnce) {
		all.Go(func() {
			<-start
			for i := next.Add(1); i <= submissions; i = next.Add(1) {
				submit(int(i))
			}
		})
	}
	close(start)
	all.Wait()
	taken := answers[http.StatusAccepted]
	if taken > room || taken+notKnown < room || taken+answers[http.StatusServiceUnavailable] != submissions || len(a.queue.Active()) != room {
		t.Errorf("answers %v, of %d it is not known, %d jobs are queued, want %d taken", answers, notKnown, len(a.queue.Active()), room)
	}
	if most.Load() > maxHeldBytes || most.Load() == 0 {
		t.Errorf("%d bytes of bodies were held at once, want at most %d", most.Load(), maxHeldBytes)
	}
	t.Logf("%v; %d KiB of bodies at most", answers, most.Load()>>10)
	jobs := a.queue.Active()
	a.ask("DELETE", "/api/v1/jobs/"+jobs[0].ID, "")
	if r := a.ask("POST", "/api/v1/jobs", `{"prompt":"x"}`); r.status != http.StatusAccepted {
		t.Errorf("once there is room: %d %s", r.status, r.body)
	}
}

// A submission that can't be read yet is told to come again, and gives back what it waited for.
func TestSubmissionsWaitForBodies(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	if err := a.server.bodies.Acquire(t.Context(), maxHeldBytes); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/api/v1/jobs", samplesPath, "/api/v1/personas/random"} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		r := httptest.NewRequestWithContext(ctx, "POST", path, strings.NewReader(`{"prompt":"x"}`))
		r.Host = testAddr
		r.Header.Set("Authorization", "Bearer "+testToken)
		w := httptest.NewRecorder()
		if a.server.Handler().ServeHTTP(w, r); w.Code != 503 || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		cancel()
	}
	a.server.bodies.Release(maxHeldBytes)
	if r := a.ask("POST", "/api/v1/jobs", `{"prompt":"x"}`); r.status != http.StatusAccepted {
		t.Errorf("afterwards: %d %s", r.status, r.body)
	}
	if !a.server.bodies.TryAcquire(maxHeldBytes) {
		t.Error("something is held that nobody waits for")
	}
}

func TestAThousandCancelsAtOnce(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	var jobs []job.Job
	for range 1000 / job.MaxCount {
		jobs = append(jobs, a.submitJobs(job.MaxCount)...)
	}
	jobs = append(jobs, a.submitJobs(1000-len(jobs))...)
	running, done := jobs[1], jobs[2]
	if _, err := a.queue.Start(t.Context(), running.ID, 0, queue.Placement{Device: 0, DeviceKey: "GPU-0"}); err != nil {
		t.Fatal(err)
	}
	a.finish(t.Context(), done, "")
	var all sync.WaitGroup
	cancel := func(method, path string, want int) {
		all.Go(func() {
			r := a.ask(method, path, "")
			for r.status == http.StatusServiceUnavailable && strings.Contains(r.message(), "timeout") { // a slow machine
				r = a.ask(method, path, "")
			}
			if r.status != want {
				t.Errorf("%s: %d %s, want %d", path, r.status, r.body, want)
			}
		})
	}
	for _, j := range jobs {
		want := http.StatusOK
		if j.ID == done.ID {
			want = http.StatusConflict
		}
		cancel("DELETE", "/api/v1/jobs/"+j.ID, want)
	}
	for i := range 200 { // the same one again and again, and its whole set
		cancel("DELETE", "/api/v1/jobs/"+jobs[0].ID, http.StatusOK)
		if i%10 == 0 {
			cancel("DELETE", "/api/v1/sets/"+jobs[0].SetID, http.StatusOK)
		}
	}
	all.Wait()
	if n := len(a.queue.Active()); n != 0 {
		t.Errorf("%d jobs are active", n)
	}
	cancelled, _, err := a.queue.List(t.Context(), queue.Filter{State: job.Cancelled, Limit: 1000})
	if err != nil || len(cancelled) != 999 {
		t.Errorf("%d are cancelled, %v: want 999", len(cancelled), err)
	}
	// One event for each change, whatever was asked for how often: 1000 of birth, 1 start, 2 of the one that was made, 999 of ends.
	if _, seq, _, err := a.queue.Since(t.Context(), 0, 1); err != nil || seq != 1000+1+2+999 {
		t.Errorf("%d events, %v", seq, err)
	}
}

// One key at the same instant over HTTP and over sockets is one set.
func TestOneKeyByBothDoorsAtOnce(t *testing.T) {
	t.Parallel()
	a := serveAgent(t)
	const askers = 8
	var sockets []*client
	for range askers {
		sockets = append(sockets, a.connect(wire.JSON, ""))
	}
	var all sync.WaitGroup
	var created atomic.Int64
	for i := range askers {
		all.Go(func() {
			r := a.ask("POST", "/api/v1/jobs", `{"prompt":"x","count":3}`, "Idempotency-Key", "one", "Host", a.addr)
			if r.status == http.StatusAccepted {
				created.Add(1)
			} else if r.status != http.StatusOK {
				t.Errorf("%d %s", r.status, r.body)
			}
		})
		all.Go(func() {
			if err := sockets[i].conn.Write(t.Context(), websocket.MessageText, []byte(`{"submit":{"id":"one","spec":{"prompt":"x","count":3}}}`)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, c := range sockets {
		seen := map[string]bool{}
		for len(seen) < 3 {
			if e := c.next(); e.Error != nil {
				t.Fatalf("%+v", e.Error)
			} else if e.Job != nil {
				seen[e.Job.ID] = true
			}
		}
	}
	if n := len(a.queue.Active()); n != 3 || created.Load() > 1 {
		t.Errorf("%d jobs, made by HTTP %d times", n, created.Load())
	}
}
