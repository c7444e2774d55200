package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/queue"
	"muster/shared/job"
	"muster/shared/wire"
)

// atDoors runs a test at both doors. body asks for count images; refused checks an error.
func atDoors(t *testing.T, test func(t *testing.T, path string, body func(count int, more string) string, refused func(r answer, status int, code, word string))) {
	t.Run("openai", func(t *testing.T) {
		t.Parallel()
		test(t, imagesPath, func(count int, more string) string { return fmt.Sprintf(`{"prompt":"x","n":%d%s}`, count, more) },
			func(r answer, status int, code, word string) {
				t.Helper()
				kind, param := "server_error", ""
				if status < 500 {
					kind = "invalid_request_error"
				}
				if strings.Contains(code, ":") {
					code, param, _ = strings.Cut(code, ":")
				}
				r.refusedAs(t, "", status, kind, code, param, word)
			})
	})
	t.Run("sdapi", func(t *testing.T) {
		t.Parallel()
		test(t, txt2imgPath, func(count int, more string) string {
			return fmt.Sprintf(`{"prompt":"x","batch_size":%d%s}`, count, more)
		},
			func(r answer, status int, code, word string) {
				t.Helper()
				kind := "HTTPException"
				if status >= 500 {
					kind = "RuntimeError"
				}
				r.refusedAsSdapi(t, code, status, kind, word)
			})
	})
}

func TestDoorsWhenTheQueueIsFull(t *testing.T) {
	t.Parallel()
	atDoors(t, func(t *testing.T, path string, body func(int, string) string, refused func(answer, int, string, string)) {
		a := newAgentWith(t, queue.Options{MaxQueued: 3})
		r := a.ask("POST", path, body(4, ""))
		refused(r, 503, "queue_full", "full")
		if r.header.Get("Retry-After") == "" {
			t.Errorf("%v", r.header)
		}
	})
}

func TestDoorsWhenTheDiskIsFull(t *testing.T) {
	t.Parallel()
	atDoors(t, func(t *testing.T, path string, body func(int, string) string, refused func(answer, int, string, string)) {
		a := newAgentWith(t, queue.Options{Free: func(string) (uint64, uint64, error) { return 1 << 20, 1 << 41, nil }})
		refused(a.ask("POST", path, body(1, "")), 507, "disk_full", "delete something")
	})
}

func TestDoorsWhenNothingCanMakeIt(t *testing.T) {
	t.Parallel()
	atDoors(t, func(t *testing.T, path string, body func(int, string) string, refused func(answer, int, string, string)) {
		a := newAgent(t)
		slots := a.nowCapacity().Slots
		for _, test := range []struct {
			name   string
			slots  []wire.Slot
			more   string
			status int
			code   string
			word   string
		}{
			{"nothing", nil, "", 503, "no_backend", "no backend"},
			{"all broken", []wire.Slot{{Device: 0, Models: []string{"sketch"}, Problem: "sd-server is missing"}}, "", 503, "no_backend", "Device 0: sd-server is missing"},
			{"the model's only device is paused", []wire.Slot{{Device: 0, Models: []string{"sketch"}, Paused: true}, {Device: 1, Models: []string{"sd15"}}}, "", 503, "no_backend", "Device 0 is paused"},
			{"the pinned one is paused", []wire.Slot{slots[0], {Device: 1, Models: []string{"sketch"}, Paused: true}}, `,"device_id":1`, 400, "no_backend:device_id", "Device 1 is paused"},
		} {
			a.set(func() { a.capacity.Slots = test.slots })
			r := a.ask("POST", path, body(2, test.more))
			refused(r, test.status, test.code, test.word)
			if (r.header.Get("Retry-After") != "") != (test.status == 503) {
				t.Errorf("%s: %v", test.name, r.header)
			}
		}
		if n := len(a.queue.Active()); n != 0 {
			t.Errorf("%d jobs were accepted", n)
		}
	})
}

func TestDoorsOfAStoppingAgent(t *testing.T) {
	t.Parallel()
	atDoors(t, func(t *testing.T, path string, body func(int, string) string, refused func(answer, int, string, string)) {
		a := newAgent(t)
		answered := a.asking("POST", path, body(3, ""))
		a.waitFor(func(jobs []job.Job) bool { return len(jobs) == 3 })
		a.startAll(a.queue.Active()[:1])
		a.server.stop()
		refused(<-answered, 503, "stopping", "stopping")
		a.waitFor(func(jobs []job.Job) bool { return inState(jobs, job.Cancelled) == 2 && inState(jobs, job.Running) == 1 })
	})
}

// Who sent a key comes again with it, and finds what he asked for.
func TestDoorsOfAStoppingAgentKeepWhatHasAKey(t *testing.T) {
	t.Parallel()
	atDoors(t, func(t *testing.T, path string, body func(int, string) string, refused func(answer, int, string, string)) {
		a := newAgent(t)
		answered := a.asking("POST", path, body(3, ""), "Idempotency-Key", "k1")
		a.waitFor(func(jobs []job.Job) bool { return len(jobs) == 3 })
		a.server.stop()
		refused(<-answered, 503, "stopping", "stopping")
		a.waitFor(func(jobs []job.Job) bool { return inState(jobs, job.Queued) == 3 })
	})
}

// leave sends a request whose client goes away once its jobs are there and one of them runs.
func (a *testAgent) leave(path, body string, headers ...string) (ran job.Job) {
	a.t.Helper()
	ctx, leave := context.WithCancel(a.t.Context())
	defer leave()
	r := httptest.NewRequestWithContext(ctx, "POST", path, strings.NewReader(body))
	r.Host = testAddr
	r.Header.Set("Authorization", "Bearer "+testToken)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.server.Handler().ServeHTTP(httptest.NewRecorder(), r)
	}()
	a.waitFor(func(jobs []job.Job) bool { return len(jobs) == 3 })
	ran = a.queue.Active()[0]
	a.startAll([]job.Job{ran})
	leave()
	<-done
	return ran
}

func TestDoorsWhoseClientGoesAway(t *testing.T) {
	t.Parallel()
	atDoors(t, func(t *testing.T, path string, body func(int, string) string, _ func(answer, int, string, string)) {
		a := newAgent(t)
		a.leave(path, body(3, ""))
		a.waitFor(func(jobs []job.Job) bool { return inState(jobs, job.Cancelled) == 2 && inState(jobs, job.Running) == 1 })
	})
}

// Who sends a key may come again for what he has asked for: then the same images are his.
func TestDoorsWhoseClientComesAgain(t *testing.T) {
	t.Parallel()
	atDoors(t, func(t *testing.T, path string, body func(int, string) string, refused func(answer, int, string, string)) {
		a := newAgent(t)
		a.leave(path, body(3, ""), "Idempotency-Key", "k1")
		a.waitFor(func(jobs []job.Job) bool { return inState(jobs, job.Queued) == 2 && inState(jobs, job.Running) == 1 })
		jobs := a.queue.Active()
		a.generate(func(job.Job) string { return "" })
		id, err := a.images.Put(t.Context(), picture(t, 8, 0))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.queue.Succeed(t.Context(), jobs[0].ID, 1, id); err != nil {
			t.Fatal(err)
		}
		if r := a.ask("POST", path, body(3, ""), "Idempotency-Key", "k1"); r.status != 200 || !strings.Contains(string(r.body), jobs[2].ID) {
			t.Errorf("%d %.300s", r.status, r.body)
		}
		refused(a.ask("POST", path, body(2, ""), "Idempotency-Key", "k1"), 409, "key_reused", "key")
	})
}

// A long body is refused with words that arrive, and is never in memory.
func TestDoorsRefuseImagesAsInput(t *testing.T) {
	t.Parallel()
	a := serveAgent(t)
	const long = 20 << 20
	for _, test := range []struct {
		path   string
		status int
		word   string
	}{
		{"/sdapi/v1/img2img", 400, "only made from text"}, {"/sdapi/v1/extra-single-image", 400, "only made from text"}, {"/sdapi/v1/unknown", 404, "Not Found"}, {txt2imgPath, 413, "images as input are not taken"},
		{"/v1/images/edits", 400, "only made from text"}, {imagesPath, 413, "images as input are not taken"}, {"/v1/chat/completions", 404, "unknown request URL"},
	} {
		for _, chunked := range []bool{false, true} {
			body := io.LimitReader(endless{}, long)
			r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+a.addr+test.path, body)
			if err != nil {
				t.Fatal(err)
			}
			if !chunked {
				r.ContentLength = long
			}
			r.SetBasicAuth("user", testToken)
			// Most programs read nothing before all is sent.
			status, text, err := sendAllThenRead(a.addr, r)
			if err != nil || status != test.status || !strings.Contains(text, test.word) {
				t.Errorf("%s, chunked %v: %d %.200s, %v", test.path, chunked, status, text, err)
			}
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'A'
	}
	return len(p), nil
}

func sendAllThenRead(addr string, r *http.Request) (status int, body string, err error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	if err := r.Write(conn); err != nil {
		return 0, "", err
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

// What waits to be told that it may send is told at once that it may not.
func TestDoorsAnswerBeforeTheyAreSentImages(t *testing.T) {
	t.Parallel()
	a := serveAgent(t)
	conn, err := net.Dial("tcp", a.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /sdapi/v1/img2img HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nExpect: 100-continue\r\nContent-Length: 20000000\r\n\r\n", a.addr, testToken)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || answer.StatusCode != 400 {
		t.Errorf("%+v, %v", answer, err)
	}
}

// A body counts by what it is, whatever its type is said to be: curl -d says form.
func TestDoorsAskForNoContentType(t *testing.T) {
	t.Parallel()
	atDoors(t, func(t *testing.T, path string, body func(int, string) string, refused func(answer, int, string, string)) {
		a := newAgent(t)
		a.generate(func(job.Job) string { return "" })
		for _, kind := range []string{"", "application/x-www-form-urlencoded", "application/json; charset=utf-8", "text/plain"} {
			if r := a.ask("POST", path, body(1, ""), "Content-Type", kind); r.status != 200 {
				t.Errorf("%q: %d %.200s", kind, r.status, r.body)
			}
		}
		refused(a.ask("POST", path, strings.Repeat("x", 100), "Content-Type", "multipart/form-data; boundary=x"), map[bool]int{true: 400, false: 422}[path == imagesPath], "invalid_json", "not JSON")
	})
}

// An image that is gone from the disk is one that could not be made; so is a folder in its place.
func TestDoorsWithoutTheFile(t *testing.T) {
	t.Parallel()
	atDoors(t, func(t *testing.T, path string, body func(int, string) string, refused func(answer, int, string, string)) {
		a := newAgent(t)
		answered := a.asking("POST", path, body(1, ""))
		a.waitFor(func(jobs []job.Job) bool { return len(jobs) == 1 })
		j := a.queue.Active()[0]
		a.startAll([]job.Job{j})
		if _, err := a.queue.Succeed(t.Context(), j.ID, 1, strings.Repeat("0", 64)); err != nil {
			t.Fatal(err)
		}
		refused(<-answered, 500, "generation_failed", "the image can't be read")
	})
}

// Who shares the machine: each user that a request names, else the door.
func TestClientsOfDoors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, user string
		caller     caller
		headers    []string
		want       string
	}{
		{"nobody named", "", caller{bearer: true}, nil, "openai"},
		{"a user", "anna", caller{bearer: true}, nil, "openai anna"},
		{"Open WebUI's", "", caller{bearer: true}, []string{"X-OpenWebUI-User-Id", "u-1"}, "openai u-1"},
		{"a user before Open WebUI's", "anna", caller{bearer: true}, []string{"X-OpenWebUI-User-Id", "u-1"}, "openai anna"},
		{"bytes that are no text", "", caller{bearer: true}, []string{"X-OpenWebUI-User-Id", "a\xffb"}, "openai ab"},
		{"the page", "", caller{}, nil, ""},
		{"the page for a user", "anna", caller{}, nil, "openai anna"},
		{"a long name", strings.Repeat("x", 300), caller{bearer: true}, nil, "openai 0d4e2ca9e9cbced7a7a5380eb29e1a37"},
	} {
		r := httptest.NewRequest("POST", imagesPath, nil)
		r = r.WithContext(context.WithValue(r.Context(), callerKey{}, test.caller))
		for i := 0; i < len(test.headers); i += 2 {
			r.Header.Set(test.headers[i], test.headers[i+1])
		}
		if got := clientOf(r, "openai", test.user); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// A client that stops reading loses its connection; its request does not stay for ever.
func TestDoorsWhoseClientStopsReading(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string][2]string{
		"openai": {imagesPath, `{"prompt":"x"}`}, "stream": {imagesPath, `{"prompt":"x","stream":true}`}, "sdapi": {txt2imgPath, `{"prompt":"x"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := pipes{make(chan net.Conn), make(chan struct{})}
				a := serveOn(t, l)
				conn, other := net.Pipe()
				defer conn.Close()
				l.conns <- other
				fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", ask[0], a.addr, testToken, len(ask[1]), ask[1])
				a.waitFor(func(jobs []job.Job) bool { return len(jobs) == 1 })
				a.finish(t.Context(), a.queue.Active()[0], "")
				time.Sleep(pieceTimeout + time.Second)
				synctest.Wait()
				// What is not read is not sent on a pipe: as long as it waits there, reading gives it.
				if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
					t.Errorf("%d bytes still wait: %v", n, err)
				}
			})
		})
	}
}

// A stream says something when there is nothing to say.
func TestStreamSpeaksWhileItWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := pipes{make(chan net.Conn), make(chan struct{})}
		a := serveOn(t, l)
		conn, other := net.Pipe()
		defer conn.Close()
		l.conns <- other
		const body = `{"prompt":"x","stream":true}`
		go fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", imagesPath, a.addr, testToken, len(body), body)
		began := time.Now()
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(answer.Body)
		lines.Buffer(nil, 1<<20)
		if !lines.Scan() || lines.Text() != ": waiting" || time.Since(began) != streamQuiet || answer.Header.Get("Content-Type") != "text/event-stream; charset=utf-8" || answer.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%q after %s, %v", lines.Text(), time.Since(began), answer.Header)
		}
		lines.Scan() // which is empty
		if !lines.Scan() || lines.Text() != ": waiting" || time.Since(began) != 2*streamQuiet {
			t.Errorf("%q after %s", lines.Text(), time.Since(began))
		}
		go a.server.stop()
		rest, _ := io.ReadAll(answer.Body)
		var text bytes.Buffer
		for lines.Scan() {
			text.WriteString(lines.Text() + "\n")
		}
		text.Write(rest)
		if !strings.Contains(text.String(), `{"type":"error","error":{"message":"the agent is stopping","type":"server_error","param":null,"code":"stopping"}}`) {
			t.Errorf("at the end: %q", text.String())
		}
	})
}

// A client that takes a JPEG in drops keeps the others waiting no longer than one that takes none.
func TestDoorsWhoseClientReadsInDrops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAgent(t)
		id, err := a.images.Put(t.Context(), noise(t, 512))
		if err != nil {
			t.Fatal(err)
		}
		w := &drops{drain: drain{header: http.Header{}}}
		out, began := newReply(w), time.Now()
		err = a.server.writePicture(t.Context(), out, imageFile{job: job.Job{ImageID: id}}, encoding{jpeg: true, quality: 100})
		if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took > jpegTimeout+w.pause() {
			t.Errorf("%v after %s, %d bytes", err, took, w.bytes)
		}
		if !a.server.jpegs.TryAcquire(maxJPEGs) {
			t.Error("its place is held")
		}
		if !out.to.until.IsZero() {
			t.Error("what follows has no time of its own")
		}
	})
}

// drops is a client that takes each piece just in time.
type drops struct {
	drain
	end time.Time
}

func (d *drops) pause() time.Duration                 { return pieceTimeout - time.Second }
func (d *drops) SetWriteDeadline(end time.Time) error { d.end = end; return nil }
func (d *drops) Write(p []byte) (int, error) {
	time.Sleep(d.pause())
	if time.Now().After(d.end) {
		return 0, os.ErrDeadlineExceeded
	}
	return d.drain.Write(p)
}

// A file that ends early must not look like a whole answer.
func TestDoorsCutWhatIsHalf(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	w := failingWriter{httptest.NewRecorder()}
	file, err := os.Create(filepath.Join(t.TempDir(), "x.png"))
	if err != nil {
		t.Fatal(err)
	}
	file.Close() // reading fails
	out := newReply(w)
	err = a.server.writePicture(t.Context(), out, imageFile{job: job.Job{Width: 9, Height: 7}, file: file}, encoding{})
	if !errors.Is(err, os.ErrClosed) {
		t.Errorf("%v", err)
	}
	if width, height := (imageFile{job: job.Job{Width: 9, Height: 7}, file: file}).sides(); width != 9 || height != 7 {
		t.Errorf("%d x %d", width, height)
	}
	if err := a.server.writePicture(t.Context(), out, imageFile{job: job.Job{ImageID: "x"}}, encoding{jpeg: true, quality: 90}); err == nil {
		t.Error("no such image as JPEG")
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.server.jpegs.Acquire(t.Context(), maxJPEGs); err != nil {
		t.Fatal(err)
	}
	if err := a.server.writePicture(gone, out, imageFile{}, encoding{jpeg: true, quality: 90}); !errors.Is(err, context.Canceled) {
		t.Errorf("while others are sent: %v", err)
	}
}

type failingWriter struct{ http.ResponseWriter }

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }
