package models

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// What a server may answer instead of the file, and what a person is told.
func TestAnswersThatAreNoFile(t *testing.T) {
	t.Parallel()
	content := sd1(1 << 20)
	for name, test := range map[string]struct {
		serve http.HandlerFunc
		sha   string
		want  []string
	}{
		"unauthorized":                     {status(401), "", []string{"files.test refuses", "401"}},
		"forbidden":                        {status(403), "", []string{"refuses", "403"}},
		"not found":                        {status(404), "", []string{"does not have the file", "404"}},
		"gone":                             {status(410), "", []string{"does not have the file"}},
		"a fault that stays":               {status(500), "", []string{"given up after 8 attempts", "has a fault", "500"}},
		"a range that is refused for ever": {status(416), "", []string{"given up after 8 attempts", "changed"}},
		"no status of ours":                {status(418), "", []string{"does not give the file", "418"}},
		"busy for an hour":                 {busy("3600"), "", []string{"asks to wait 1h0m0s", "429"}},
		"a web page":                       {text("text/html; charset=utf-8", "<html>log in</html>"), "", []string{"web page"}},
		"garbage":                          {text("application/octet-stream", strings.Repeat("garbage", 100)), "", []string{"no safetensors file"}},
		"nothing":                          {text("application/octet-stream", ""), "", []string{"0 bytes"}},
		"seven bytes":                      {text("application/octet-stream", "1234567"), "", []string{"7 bytes"}},
		"words for a terminal in its status": {func(w http.ResponseWriter, r *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			io.WriteString(conn, "HTTP/1.1 418 \x1b]0;evil\x07\x1b[2Jpot\r\nContent-Length: 0\r\n\r\n")
			conn.Close()
		}, "", []string{"does not give the file (418 I'm a teapot)"}},
		"words for a terminal in a header": {func(w http.ResponseWriter, r *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Encoding: \xc2\x9b2J\u202egz\r\n\r\n", len(content))
			conn.Close()
		}, "", []string{"packed (\ufffd2J\ufffdgz)"}},
		"packed": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(content)
		}, "", []string{"packed", "gzip"}},
		"another hash":           {serveFile(content, `"a"`), strings.Repeat("0123456789abcdef", 4), []string{sha(content), strings.Repeat("0123456789abcdef", 4), "removed"}},
		"a LoRA":                 {serveFile(safetensors(tensor{name: "lora_unet_down.lora_up.weight", shape: []uint64{4}}), `"a"`), "", []string{"is a LoRA", "removed"}},
		"a file that is cut off": {serveFile(content[:len(content)-1000], `"a"`), "", []string{"cut short: 1000 bytes are missing", "removed"}},
		"300 GB":                 {func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Length", "300000000000") }, "", []string{"300.00 GB", "at most 214.75 GB"}},
		"no http": {func(w http.ResponseWriter, r *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			io.WriteString(conn, "220 smtp ready\r\n")
			conn.Close()
		}, "", []string{"given up after 8 attempts"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.host("files.test", test.serve)
				s := newShelf(t, w)
				wantFailed(t, s.ended(s.ask(Request{URL: fileURL, SHA256: test.sha}).ID), test.want...)
				if got := s.Library.Library().Models; len(got) > 0 {
					t.Errorf("it is in the library: %+v", got)
				}
				if files, _ := os.ReadDir(s.dir); len(files) > 1 {
					t.Errorf("files are left: %v", files)
				}
			})
		})
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(code) }
}

func busy(after string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", after)
		w.WriteHeader(http.StatusTooManyRequests)
	}
}

func text(kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		io.WriteString(w, body)
	}
}

func TestForeignTextIsCut(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"gzip": "gzip", "größe x": "größe x", "\x1b[31mred\x00\r\n\t": "\ufffd[31mred\ufffd\ufffd\ufffd\ufffd", "\xff": "\ufffd",
		strings.Repeat("é", maxQuoted+1): strings.Repeat("é", maxQuoted) + "…",
	} {
		if got := cut(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestABusyServerIsAskedLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, content := newWorld(t), sd1(1<<20)
		var first, second time.Time
		w.host("files.test", func(out http.ResponseWriter, r *http.Request) {
			if first.IsZero() {
				first = time.Now()
				busy("90")(out, r)
				return
			}
			second = time.Now()
			serveFile(content, `"a"`)(out, r)
		})
		s := newShelf(t, w)
		wantInstalled(t, s, s.ended(s.ask(Request{URL: fileURL}).ID), "tiny.safetensors", content)
		if waited := second.Sub(first); waited < 90*time.Second || waited > 100*time.Second {
			t.Errorf("asked again after %s: want the 90 s that were asked for", waited)
		}
	})
}

// Whatever the file was said to have, no byte beyond it is written.
func TestMoreThanWasSaidIsCut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, content := newWorld(t), sd1(1<<20)
		w.host("hub.test", func(out http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/api/") {
				_, _ = io.WriteString(out, hubTree(map[string][]byte{"tiny.safetensors": content}))
				return
			}
			out.Write(content) // in chunks, without a length
			for range 4096 {
				if _, err := out.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
			t.Error("256 MiB too much were taken")
		})
		s := newShelf(t, w)
		in := s.ended(s.ask(Request{Repo: "a/b", File: "tiny.safetensors"}).ID)
		wantFailed(t, in, "sends more than the 1052190 bytes")
		if info, err := os.Stat(filepath.Join(s.dir, partName(in.ID))); err != nil || info.Size() > int64(len(content)) {
			t.Errorf("%v, %v", info, err)
		}
	})
}

func TestTheHubAndTheFileDiffer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, content := newWorld(t), sd1(1<<20)
		w.host("hub.test", func(out http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/api/") {
				_, _ = io.WriteString(out, hubTree(map[string][]byte{"tiny.safetensors": content}))
				return
			}
			serveFile(sd1(2<<20), `"a"`)(out, r)
		})
		s := newShelf(t, w)
		wantFailed(t, s.ended(s.ask(Request{Repo: "a/b", File: "tiny.safetensors"}).ID), "the hub told of")
		wantFailed(t, s.ended(s.ask(Request{Repo: "a/b", File: "tiny.safetensors", Name: "two", SHA256: strings.Repeat("ab", 32)}).ID), sha(content), strings.Repeat("ab", 32))
	})
}

// One byte a second, and none at all, end.
func TestSlowServersAreGivenUp(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		every time.Duration // between two bytes; 0: none comes
		want  string
		most  time.Duration
	}{
		"one byte a second":    {time.Second, "sends less than", 20 * time.Minute},
		"nothing":              {0, "nothing came from files.test for 1m0s", 20 * time.Minute},
		"headers that drip on": {-1, "given up after 8 attempts", 20 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, content := newWorld(t), sd1(1<<20)
				w.host("files.test", func(out http.ResponseWriter, r *http.Request) {
					if test.every < 0 {
						conn, _, _ := out.(http.Hijacker).Hijack()
						defer conn.Close()
						for io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: "); ; {
							time.Sleep(time.Second)
							if _, err := io.WriteString(conn, "x"); err != nil {
								return
							}
						}
					}
					out.Header().Set("Content-Length", fmt.Sprint(len(content)))
					for at := 0; ; at++ {
						out.(http.Flusher).Flush()
						if test.every == 0 {
							<-r.Context().Done()
							return
						}
						time.Sleep(test.every)
						if _, err := out.Write(content[at : at+1]); err != nil {
							return
						}
					}
				})
				s := newShelf(t, w)
				began := time.Now()
				wantFailed(t, s.ended(s.ask(Request{URL: fileURL}).ID), test.want, "given up after 8 attempts")
				if took := time.Since(began); took > test.most {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

func TestDiskThatIsFull(t *testing.T) {
	t.Parallel()
	content := sd1(4 << 20)
	var free atomic.Uint64
	fill := func(c *Config) {
		c.Free = func(string) (uint64, uint64, error) { return free.Load(), 100e9, nil } // 2 GB are kept
	}
	t.Run("before", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w, asked := newWorld(t), 0
			w.host("hub.test", func(out http.ResponseWriter, r *http.Request) {
				asked++
				_, _ = io.WriteString(out, hubTree(map[string][]byte{"tiny.safetensors": content}))
			})
			s := newShelf(t, w, func(c *Config) { c.Free = func(string) (uint64, uint64, error) { return 2e9 + 4e6, 100e9, nil } })
			wantFailed(t, s.ended(s.ask(Request{Repo: "a/b", File: "tiny.safetensors"}).ID), "not enough room", "2.00 GB are kept free", s.dir)
			if asked != 1 {
				t.Errorf("%d requests: the file itself must not be asked for", asked)
			}
		})
	})
	t.Run("meanwhile, with a size that nobody said; then it goes on", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w, asked := newWorld(t), 0
			free.Store(50e9)
			w.host("files.test", func(out http.ResponseWriter, r *http.Request) {
				if asked++; asked > 1 {
					serveFile(content, `"a"`)(out, r)
					return
				}
				out.Header().Set("ETag", `"a"`)
				out.Write(content[:2<<20])
				out.(http.Flusher).Flush()
				free.Store(1e9)
				<-r.Context().Done()
			})
			s := newShelf(t, w, fill)
			failed := s.ended(s.ask(Request{URL: fileURL}).ID)
			wantFailed(t, failed, "not enough room", "1.00 GB left")
			free.Store(50e9)
			again := s.ask(Request{URL: fileURL})
			if again.ID != failed.ID {
				t.Errorf("another installation: %+v", again)
			}
			wantInstalled(t, s, s.ended(again.ID), "tiny.safetensors", content)
		})
	})
}

func TestDiskErrorsAreToldApart(t *testing.T) {
	t.Parallel()
	if words := onDisk(&os.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}).Error(); !strings.Contains(words, "disk of the models folder is full") {
		t.Error(words)
	}
	if tryAgain(fmt.Errorf("x: %w", onDisk(io.ErrShortWrite))) || onDisk(nil) != nil {
		t.Error("a disk's error is tried again")
	}
}

// The hub may answer anything.
func TestHubAnswers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		serve http.HandlerFunc
		token string
		want  []string
	}{
		"a web page":            {text("text/html", "<!doctype html><html>"), "", []string{"no list of files", "--hub"}},
		"an object":             {text("application/json", `{"error":"x"}`), "", []string{"no list of files"}},
		"half a list":           {text("application/json", `[{"type":"file","path":"other","size":1},{"ty`), "", []string{"no list of files"}},
		"numbers where none go": {text("application/json", `[{"type":"file","path":"tiny.safetensors","size":"big"}]`), "", []string{"no list of files"}},
		"a hash that is none":   {text("application/json", `[{"type":"file","path":"tiny.safetensors","size":1,"lfs":{"oid":"../../x","size":1}}]`), "", []string{"makes no sense"}},
		"nothing of it":         {text("application/json", `[]`), "", []string{"has no file tiny.safetensors in a/b at main", "hub.test/base/a/b"}},
		"a folder of that name": {text("application/json", `[{"type":"directory","path":"tiny.safetensors","size":0}]`), "", []string{"has no file"}},
		"a huge list": {func(w http.ResponseWriter, r *http.Request) {
			for io.WriteString(w, "["); ; {
				if _, err := io.WriteString(w, `{"type":"file","path":"`+strings.Repeat("x", 1<<16)+`","size":1},`); err != nil {
					return
				}
			}
		}, "", []string{"no list of files"}},
		"pages without end": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", `<https://hub.test/more>; rel="next"`)
			io.WriteString(w, "[]")
		}, "", []string{"more files"}},
		"a next page elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", `<https://evil.test/more>; rel="next"`)
			io.WriteString(w, "[]")
		}, "", []string{"has no file"}},
		"401 without a token": {status(401), "", []string{"MUSTER_HUB_TOKEN", "licence"}},
		"401 with a token":    {status(401), "t", []string{"account of MUSTER_HUB_TOKEN"}},
		"403":                 {status(403), "t", []string{"accept the model's licence"}},
		"404":                 {status(404), "", []string{"does not have the repository a/b at main"}},
		"500 for ever":        {status(500), "", []string{"has a fault"}},
		"a file of 300 GB":    {text("application/json", `[{"type":"file","path":"tiny.safetensors","size":300000000000}]`), "", []string{"300.00 GB", "at most"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.host("hub.test", test.serve)
				s := newShelf(t, w, func(c *Config) { c.Token = test.token })
				wantFailed(t, s.ended(s.ask(Request{Repo: "a/b", File: "tiny.safetensors"}).ID), test.want...)
			})
		})
	}
}
