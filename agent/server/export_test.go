package server

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"muster/shared/job"
)

func idsOf(t *testing.T, body []byte) (ids []string) {
	t.Helper()
	for line := range bytes.Lines(body) {
		var j job.Job
		if err := json.Unmarshal(line, &j); err != nil || j.Prompt == "" {
			t.Fatalf("%q: %v", line, err)
		}
		ids = append(ids, j.ID)
	}
	return ids
}

func TestExport(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	if r := a.ask("GET", "/api/v1/jobs/export", ""); r.status != 200 || len(r.body) != 0 || r.header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("of nothing: %d %v %s", r.status, r.header, r.body)
	}
	var all []string
	for range 80 { // more than one page, more than one buffer
		for _, j := range a.submitJobs(16) {
			all = append(all, j.ID)
		}
	}
	failed, err := a.queue.Job(t.Context(), all[3])
	if err != nil {
		t.Fatal(err)
	}
	a.finish(t.Context(), failed, "out of memory")
	for target, want := range map[string][]string{
		"": all, "?state=failed": {all[3]}, "?state=running": nil, "?set_id=" + failed.SetID: all[:16], "?after=" + all[99]: all[100:], "?state=queued&after=" + all[2]: all[4:],
	} {
		r := a.ask("GET", "/api/v1/jobs/export"+target, "")
		if r.status != 200 || !slices.Equal(idsOf(t, r.body), want) {
			t.Errorf("%s: %d, %d lines, want %d", target, r.status, bytes.Count(r.body, []byte("\n")), len(want))
		}
	}
	one := a.ask("GET", "/api/v1/jobs/"+all[3], "").body
	if r := a.ask("GET", "/api/v1/jobs/export?state=failed", ""); !bytes.Equal(r.body, one) {
		t.Errorf("%s differs from %s", r.body, one)
	}
	if r := a.ask("HEAD", "/api/v1/jobs/export", ""); r.status != 200 || len(r.body) != 0 {
		t.Errorf("HEAD: %d, %d bytes", r.status, len(r.body))
	}
	for target, want := range map[string]string{"?state=x": "state", "?limit=5": "limit", "?order=newest": "order", "?after=x": "after", "?format=csv": "format"} {
		if r := a.ask("GET", "/api/v1/jobs/export"+target, ""); r.status != 400 || !strings.Contains(r.message(), want) {
			t.Errorf("%s: %d %s", target, r.status, r.body)
		}
	}
}

func TestExportsAreFew(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	if !a.server.exports.TryAcquire(maxExports) {
		t.Fatal("exports are under way")
	}
	if r := a.ask("GET", "/api/v1/jobs/export", ""); r.status != 503 || r.header.Get("Retry-After") == "" || r.header.Get("Content-Type") != "application/json" {
		t.Errorf("%d %v %s", r.status, r.header, r.body)
	}
	a.server.exports.Release(maxExports)
	if r := a.ask("GET", "/api/v1/jobs/export", ""); r.status != 200 {
		t.Errorf("afterwards: %d", r.status)
	}
}

// Who does not read is cut off, and holds nothing after that.
func TestExportToWhoDoesNotRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, conn := exporting(t)
		defer conn.Close()
		began := time.Now()
		if err := a.server.exports.Acquire(t.Context(), maxExports); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < exportTimeout/2 || took > 2*exportTimeout {
			t.Errorf("it was held for %s, want about %s", took, exportTimeout)
		}
	})
}

// An agent that stops breaks the answer off, so that nobody takes it for whole.
func TestExportWhileTheAgentStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, conn := exporting(t)
		defer conn.Close()
		a.server.stop()
		synctest.Wait()
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return // not even a beginning
		}
		defer r.Body.Close()
		if n, err := io.Copy(io.Discard, r.Body); err == nil {
			t.Errorf("%d bytes that look whole", n)
		} else if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
	})
}

// exporting is an agent whose export waits for somebody to read it.
func exporting(t *testing.T) (*served, net.Conn) {
	l := pipes{make(chan net.Conn), make(chan struct{})}
	a := serveOn(t, l)
	for range 30 {
		a.submitJobs(16)
	}
	conn, other := net.Pipe()
	l.conns <- other
	fmt.Fprintf(conn, "GET /api/v1/jobs/export HTTP/1.1\r\nAuthorization: Bearer %s\r\nHost: %s\r\n\r\n", testToken, a.addr)
	synctest.Wait()
	if a.server.exports.TryAcquire(maxExports) {
		t.Fatal("no export is under way")
	}
	return a, conn
}
