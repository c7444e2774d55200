package models

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"muster/shared/model"
)

const fileURL = "https://files.test/m/tiny.safetensors"

func TestInstallFromAnAddress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, content := newWorld(t), sd1(3<<20)
		w.host("files.test", serveFile(content, `"a"`))
		s := newShelf(t, w)
		in := s.ask(Request{URL: fileURL + "?token=secret", SHA256: strings.ToUpper(sha(content))})
		if in.State.Ended() || in.Name != "tiny" || in.From != "files.test/m/tiny.safetensors" {
			t.Errorf("%+v: want it to wait, and the query to be kept to itself", in)
		}
		wantInstalled(t, s, s.ended(in.ID), "tiny.safetensors", content)
		got := s.Library.Library()
		if len(got.Models) != 1 || got.Models[0].Family != model.SD1 || got.Models[0].VRAMBytes == 0 || got.FreeBytes == nil {
			t.Errorf("%+v", got)
		}
		if again, err := s.Install(t.Context(), Request{URL: "https://files.test/other/tiny.gguf"}); !errors.Is(err, ErrExists) {
			t.Errorf("a second model of the same name: %+v, %v", again, err)
		}
	})
}

func TestInstallFromTheHub(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, content := newWorld(t), sd1(1<<20)
		var seen []string
		w.host("hub.test", func(out http.ResponseWriter, r *http.Request) {
			seen = append(seen, r.URL.RequestURI()+" "+r.Header.Get("Authorization"))
			switch r.URL.EscapedPath() {
			case "/base/api/models/some.one/a_model/tree/refs%2Fpr%2F1/sub%20folder":
				if r.URL.Query().Get("page") == "" {
					out.Header().Set("Link", `<https://hub.test`+r.URL.EscapedPath()+`?page=2>; rel="next"`)
					io.WriteString(out, `[{"type":"directory","path":"sub folder/x","size":0},{"type":"file","path":"sub folder/other.gguf","size":7,"lfs":null}]`)
					return
				}
				_, _ = io.WriteString(out, hubTree(map[string][]byte{"sub folder/tiny.safetensors": content}))
			case "/base/some.one/a_model/resolve/refs%2Fpr%2F1/sub%20folder/tiny.safetensors":
				http.Redirect(out, r, "https://cdn.test/blob?signature=s", http.StatusFound)
			default:
				http.NotFound(out, r)
			}
		})
		var leaked atomic.Bool
		w.host("cdn.test", func(out http.ResponseWriter, r *http.Request) {
			leaked.Store(r.Header.Get("Authorization") != "" || r.Header.Get("Referer") != "")
			serveFile(content, `"blob"`)(out, r)
		})
		s := newShelf(t, w, func(c *Config) { c.Token = "hub-token" })
		in := s.ended(s.ask(Request{Repo: "some.one/a_model", File: "sub folder/tiny.safetensors", Revision: "refs/pr/1", Name: "mine"}).ID)
		wantInstalled(t, s, in, "mine.safetensors", content)
		if in.From != "hub.test/some.one/a_model/sub folder/tiny.safetensors at refs/pr/1" {
			t.Errorf("from %q", in.From)
		}
		if leaked.Load() {
			t.Error("the token of the hub went to another host")
		}
		for _, request := range seen {
			if !strings.HasSuffix(request, " Bearer hub-token") {
				t.Errorf("the hub was asked without its token: %s", request)
			}
		}
	})
}

// A connection that is cut again and again goes on where it was; the file is the same in the end.
func TestCutDownloadGoesOn(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		etag   string
		ranges bool
		sha    bool
		starts int // requests that began at the first byte
	}{
		"with a validator":                  {`"a"`, true, false, 1},
		"with a hash alone":                 {"", true, true, 1},
		"with neither: from the beginning":  {"", true, false, 4},
		"with a weak one: from the first":   {`W/"a"`, true, false, 4},
		"a server that knows no ranges":     {`"a"`, false, false, 4},
		"a server that knows none, by hash": {"", false, true, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, content := newWorld(t), sd1(5<<20)
				var asked, starts int
				w.host("files.test", func(out http.ResponseWriter, r *http.Request) {
					if asked++; asked > 3 {
						if !test.ranges {
							r.Header.Del("Range")
						}
						if r.Header.Get("Range") == "" {
							starts++
						}
						serveFile(content, test.etag)(out, r)
						return
					}
					from := 0
					if span := r.Header.Get("Range"); span != "" && test.ranges {
						fmt.Sscanf(span, "bytes=%d-", &from)
						out.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(content)-1, len(content)))
					} else {
						starts++
					}
					if test.etag != "" {
						out.Header().Set("ETag", test.etag)
					}
					out.Header().Set("Content-Length", fmt.Sprint(len(content)-from))
					if from > 0 {
						out.WriteHeader(http.StatusPartialContent)
					}
					out.Write(content[from : from+asked*(1<<20)+asked*100])
					panic(http.ErrAbortHandler)
				})
				s := newShelf(t, w)
				q := Request{URL: fileURL}
				if test.sha {
					q.SHA256 = sha(content)
				}
				in := s.ask(q)
				s.until(in.ID, func(in model.Install) bool {
					return strings.Contains(in.Error, "tried again in") && in.State == model.Downloading
				})
				wantInstalled(t, s, s.ended(in.ID), "tiny.safetensors", content)
				if asked != 4 || starts != test.starts {
					t.Errorf("%d requests, %d of them from the first byte: want 4 and %d", asked, starts, test.starts)
				}
			})
		})
	}
}

func TestAFileThatChangesMeanwhileBeginsAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, before, after := newWorld(t), sd1(5<<20), sd1(4<<20)
		asked := 0
		w.host("files.test", func(out http.ResponseWriter, r *http.Request) {
			if asked++; asked == 1 {
				out.Header().Set("ETag", `"before"`)
				out.Header().Set("Content-Length", fmt.Sprint(len(before)))
				out.Write(before[:2<<20])
				panic(http.ErrAbortHandler)
			}
			serveFile(after, `"after"`)(out, r)
		})
		s := newShelf(t, w)
		wantInstalled(t, s, s.ended(s.ask(Request{URL: fileURL}).ID), "tiny.safetensors", after)
	})
}

// A server that ignores If-Range and sends the rest of another file is found out.
func TestTheRestOfAnotherFileIsNotTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, before, after := newWorld(t), sd1(5<<20), sd1(4<<20)
		asked := 0
		w.host("files.test", func(out http.ResponseWriter, r *http.Request) {
			if asked++; asked == 1 {
				out.Header().Set("ETag", `"before"`)
				out.Header().Set("Content-Length", fmt.Sprint(len(before)))
				out.Write(before[:2<<20])
				panic(http.ErrAbortHandler)
			}
			r.Header.Del("If-Range")
			serveFile(after, `"after"`)(out, r)
		})
		s := newShelf(t, w)
		wantInstalled(t, s, s.ended(s.ask(Request{URL: fileURL}).ID), "tiny.safetensors", after)
		if asked != 3 {
			t.Errorf("%d requests", asked)
		}
	})
}

// What begins anew is not said to be on the disk, neither here nor there: after a power cut it would be taken for whole.
func TestWhatBeginsAnewIsNotKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, before, after := newWorld(t), sd1(5<<20), sd1(4<<20)
		asked := 0
		w.host("files.test", func(out http.ResponseWriter, r *http.Request) {
			if asked++; asked == 1 {
				out.Header().Set("ETag", `"before"`)
				out.Header().Set("Content-Length", fmt.Sprint(len(before)))
				out.Write(before[:3<<20])
				panic(http.ErrAbortHandler)
			}
			out.Header().Set("ETag", `"after"`)
			out.Header().Set("Content-Length", fmt.Sprint(len(after)))
			out.Write(after[:1<<20])
			out.(http.Flusher).Flush()
			<-r.Context().Done()
		})
		s := newShelf(t, w)
		in := s.ask(Request{URL: fileURL})
		s.until(in.ID, func(in model.Install) bool { return in.Bytes == 3<<20 })
		s.until(in.ID, func(in model.Install) bool { return in.Bytes == 1<<20 })
		s.mu.Lock()
		kept := s.record(in.ID).Kept
		s.mu.Unlock()
		var m memory
		must(t, json.Unmarshal(must1(os.ReadFile(s.state)), &m))
		if kept != 0 || m.Installs[0].Kept != 0 {
			t.Errorf("%d bytes are kept here, %d there: none of it is synced", kept, m.Installs[0].Kept)
		}
	})
}

// The rest comes from another server behind the same name, which tells no validator: nothing but a hash would find out.
func TestTheRestOfNobodyKnowsWhatIsNotTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, before := newWorld(t), sd1(5<<20)
		after := append([]byte{}, before...)
		for i := len(after) - 1<<20; i < len(after); i++ {
			after[i] = ^after[i]
		}
		asked := 0
		w.host("files.test", func(out http.ResponseWriter, r *http.Request) {
			if asked++; asked == 1 {
				out.Header().Set("ETag", `"before"`)
				out.Header().Set("Content-Length", fmt.Sprint(len(before)))
				out.Write(before[:2<<20])
				panic(http.ErrAbortHandler)
			}
			r.Header.Del("If-Range")
			serveFile(after, "")(out, r)
		})
		s := newShelf(t, w)
		wantInstalled(t, s, s.ended(s.ask(Request{URL: fileURL}).ID), "tiny.safetensors", after)
		if asked != 3 {
			t.Errorf("%d requests", asked)
		}
	})
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	s := newShelf(t, nil)
	s.stop()
	hub := func(repo, file, revision string) Request { return Request{Repo: repo, File: file, Revision: revision} }
	for _, test := range []struct {
		q     Request
		field string
	}{
		{Request{}, "url"}, {Request{URL: fileURL, Repo: "a/b"}, "url"}, {Request{URL: "http://files.test/a.gguf"}, "url"}, {Request{URL: "ftp://files.test/a.gguf"}, "url"}, {Request{URL: "files.test/a.gguf"}, "url"},
		{Request{URL: "https:///a.gguf"}, "url"}, {Request{URL: "https://u:p@files.test/a.gguf"}, "url"}, {Request{URL: "https://files.test/" + strings.Repeat("a", 5000) + ".gguf"}, "url"}, {Request{URL: "https://files.test/%zz.gguf"}, "url"},
		{Request{URL: "https://files.test/download/7"}, "name"}, {Request{URL: "https://files.test/"}, "name"}, {Request{URL: "https://files.test/a.ckpt"}, "name"}, {Request{URL: "https://files.test/a.ckpt", Name: "a"}, "name"},
		{Request{URL: "https://files.test/.gguf"}, "name"}, {Request{URL: "https://files.test/..%2f..%2fa.gguf", Name: ""}, ""}, {Request{URL: "https://files.test/a%5cb.gguf"}, "name"}, {Request{URL: "https://files.test/a%0ab.gguf"}, "name"},
		{Request{URL: fileURL, Name: "../a.gguf"}, "name"}, {Request{URL: fileURL, Name: "/a.gguf"}, "name"}, {Request{URL: fileURL, Name: "a/b"}, "name"}, {Request{URL: fileURL, Name: `a\b`}, "name"}, {Request{URL: fileURL, Name: ".hidden.gguf"}, "name"},
		{Request{URL: fileURL, Name: "C:evil"}, "name"}, {Request{URL: fileURL, Name: strings.Repeat("n", 300)}, "name"}, {Request{URL: fileURL, Name: "a\x00b"}, "name"}, {Request{URL: fileURL, Name: "\xff"}, "name"}, {Request{URL: fileURL, Name: " a.gguf"}, "name"},
		{Request{URL: fileURL, SHA256: "abc"}, "sha256"}, {Request{URL: fileURL, SHA256: strings.Repeat("g", 64)}, "sha256"},
		{hub("", "a.gguf", ""), "url"}, {hub("a", "a.gguf", ""), "repo"}, {hub("../b", "a.gguf", ""), "repo"}, {hub("a/..", "a.gguf", ""), "repo"}, {hub("a/b/c", "a.gguf", ""), "repo"}, {hub("a/b?x", "a.gguf", ""), "repo"}, {hub("a/b#", "a.gguf", ""), "repo"}, {hub("a/b@evil", "a.gguf", ""), "repo"},
		{hub("a/b", "", ""), "file"}, {hub("a/b", "../a.gguf", ""), "file"}, {hub("a/b", "x/../a.gguf", ""), "file"}, {hub("a/b", "/a.gguf", ""), "file"}, {hub("a/b", "x//a.gguf", ""), "file"}, {hub("a/b", "a.gguf?x", ""), "file"}, {hub("a/b", `x\a.gguf`, ""), "file"}, {hub("a/b", "a\n.gguf", ""), "file"}, {hub("a/b", strings.Repeat("x/", 300)+"a.gguf", ""), "file"},
		{hub("a/b", "a.bin", ""), "name"}, {hub("a/b", "a.gguf", "../main"), "revision"}, {hub("a/b", "a.gguf", "ma in"), "revision"}, {hub("a/b", "a.gguf", "-x"), "revision"}, {hub("a/b", "a.gguf", "a//b"), "revision"},
	} {
		_, err := s.Install(t.Context(), test.q)
		var wrong *FieldError
		if test.field == "" { // the last element of the path alone counts
			if err != nil {
				t.Errorf("%+v: %v", test.q, err)
			}
			continue
		}
		if !errors.As(err, &wrong) || wrong.Field != test.field {
			t.Errorf("%+v: %v; want an error about %s", test.q, err, test.field)
		}
	}
}

func TestOneAfterTheOtherAndStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, content := newWorld(t), sd1(1<<20)
		var going, most atomic.Int32
		hold := make(chan struct{})
		w.host("files.test", func(out http.ResponseWriter, r *http.Request) {
			most.Store(max(most.Load(), going.Add(1)))
			defer going.Add(-1)
			out.Header().Set("Content-Length", fmt.Sprint(len(content)))
			out.Write(content[:100_000])
			out.(http.Flusher).Flush()
			select {
			case <-hold:
				out.Write(content[100_000:])
			case <-r.Context().Done():
			}
		})
		s := newShelf(t, w)
		first, second, third := s.ask(Request{URL: "https://files.test/1.safetensors"}), s.ask(Request{URL: "https://files.test/2.safetensors"}), s.ask(Request{URL: "https://files.test/3.safetensors"})
		again := s.ask(Request{URL: "https://files.test/1.safetensors"})
		if again.ID != first.ID {
			t.Errorf("asked twice, two installations: %+v", again)
		}
		if _, err := s.Install(t.Context(), Request{URL: "https://files.test/other/1.gguf"}); !errors.Is(err, ErrExists) {
			t.Errorf("two of one name under way: %v", err)
		}
		s.until(first.ID, func(in model.Install) bool { return in.Bytes > 0 })
		if in := s.until(second.ID, func(model.Install) bool { return true }); in.State != model.Waiting {
			t.Errorf("the second is %s", in.State)
		}
		stopped, err := s.Stop(t.Context(), first.ID)
		if err != nil || stopped.State != model.Stopped || stopped.Ended == nil || first.Ended != nil {
			t.Errorf("%+v, %v", stopped, err)
		}
		if stopped, err = s.Stop(t.Context(), third.ID); err != nil || stopped.State != model.Stopped {
			t.Errorf("one that waits: %+v, %v", stopped, err)
		}
		s.until(second.ID, func(in model.Install) bool { return in.Bytes > 0 })
		close(hold)
		wantInstalled(t, s, s.ended(second.ID), "2.safetensors", content)
		if most.Load() != 1 {
			t.Errorf("%d downloads at once", most.Load())
		}
		if _, err := s.Stop(t.Context(), "0000"); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		if in, err := s.Stop(t.Context(), second.ID); err != nil || in.State != model.Installed {
			t.Errorf("stop of one that is installed: %+v, %v", in, err)
		}
	})
}

func TestProgressIsToldTwiceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, content := newWorld(t), sd1(4<<20)
		w.host("files.test", func(out http.ResponseWriter, r *http.Request) {
			out.Header().Set("Content-Length", fmt.Sprint(len(content)))
			for at := 0; at < len(content); at += 10_000 { // about 1 MB/s
				out.Write(content[at:min(at+10_000, len(content))])
				out.(http.Flusher).Flush()
				time.Sleep(10 * time.Millisecond)
			}
		})
		s := newShelf(t, w)
		began := time.Now()
		in := s.ask(Request{URL: fileURL})
		s.until(in.ID, func(in model.Install) bool { return in.Bytes > 2<<20 })
		told := len(s.told)
		took := time.Since(began).Seconds()
		got := s.until(in.ID, func(in model.Install) bool { return in.Bytes > 3<<20 })
		if got.Speed < 900_000 || got.Speed > 1_100_000 || got.Total != int64(len(content)) {
			t.Errorf("%+v: want about a megabyte a second", got)
		}
		if told > int(2*took)+4 {
			t.Errorf("told %d times in %.1f s", told, took)
		}
		s.ended(in.ID)
	})
}

func TestManyThatWaitAreRefused(t *testing.T) {
	t.Parallel()
	s := newShelf(t, nil)
	s.stop()
	for i := range maxWaiting {
		s.ask(Request{URL: fmt.Sprintf("https://files.test/%d.gguf", i)})
	}
	if _, err := s.Install(t.Context(), Request{URL: "https://files.test/more.gguf"}); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
}
