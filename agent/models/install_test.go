package models

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"muster/shared/gpu"
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

// The rule of addresses holds after names were resolved, and at every redirect.
func TestRedirectsAreJudgedAgain(t *testing.T) {
	t.Parallel()
	content := sd1(1 << 20)
	for name, test := range map[string]struct {
		location string
		want     []string
	}{
		"to a private address":       {"https://192.168.1.10/tiny.safetensors", []string{"192.168.1.10", "private network"}},
		"to this machine":            {"https://[::1]:8000/tiny.safetensors", []string{"this machine"}},
		"to a name that leads there": {"https://inside.test/tiny.safetensors", []string{"inside.test", "169.254.169.254"}},
		"to http":                    {"http://files.test/tiny.safetensors", []string{"https"}},
		"to a file":                  {"file:///etc/passwd", []string{"https"}},
		"to nowhere":                 {"", []string{"nowhere"}},
		"with a password":            {"https://a:b@files.test/x.gguf", []string{"password"}},
		"round and round":            {fileURL, []string{"more than 10 times"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.names["inside.test"] = netip.MustParseAddr("169.254.169.254")
				w.host("files.test", func(out http.ResponseWriter, r *http.Request) {
					out.Header().Set("Location", test.location)
					out.WriteHeader(http.StatusTemporaryRedirect)
				})
				s := newShelf(t, w)
				wantFailed(t, s.ended(s.ask(Request{URL: fileURL}).ID), test.want...)
				if len(w.refused) > 0 {
					t.Errorf("dialed %v", w.refused)
				}
			})
		})
	}
	t.Run("ten of them", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w, hops := newWorld(t), 0
			w.host("files.test", func(out http.ResponseWriter, r *http.Request) {
				if hops++; hops <= 10 {
					out.Header().Set("Location", "next") // relative
					out.WriteHeader(http.StatusFound)
					return
				}
				serveFile(content, `"a"`)(out, r)
			})
			s := newShelf(t, w)
			wantInstalled(t, s, s.ended(s.ask(Request{URL: fileURL}).ID), "tiny.safetensors", content)
		})
	})
}

// The default refuses this machine: by its address, by a name, and where a name leads. No test double stands in between.
func TestTheDefaultRefusesPrivateAddresses(t *testing.T) {
	t.Parallel()
	hub := must1(url.Parse(DefaultHub))
	for _, host := range []string{"127.0.0.1", "[::1]", "localhost", "10.1.2.3", "[::ffff:127.0.0.1]", "0.0.0.0", "[fe80::1]", "[64:ff9b::7f00:1]"} {
		_, err := newWeb(Network{}, hub, "").get(t.Context(), "https://"+host+":9/x.gguf", nil)
		var refused *addressError
		if !errors.As(err, &refused) {
			t.Errorf("%s: %v", host, err)
		}
		if tryAgain(err) {
			t.Errorf("%s would be tried again", host)
		}
	}
	rebinding := Network{Resolve: func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}}
	_, err := newWeb(rebinding, hub, "").get(t.Context(), "https://public.example/x.gguf", nil)
	if err == nil || !strings.Contains(err.Error(), "public.example is not downloaded from") {
		t.Errorf("%v", err)
	}
	// The last look is where the kernel takes the address.
	if _, err := (Network{Allow: PublicOnly}).dial(t.Context(), netip.MustParseAddrPort("127.0.0.1:9")); err == nil || !strings.Contains(err.Error(), "this machine") {
		t.Errorf("%v", err)
	}
}

func TestPublicOnly(t *testing.T) {
	t.Parallel()
	for address, public := range map[string]bool{
		"93.184.216.34": true, "1.1.1.1": true, "2606:2800:220:1::1": true, "2a00:1450:4001::8a": true, "64:ff9b::5db8:d822": true, "2002:5db8:d822::1": true, "::ffff:93.184.216.34": true,
		"127.0.0.1": false, "127.255.0.1": false, "0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "172.16.0.1": false, "172.31.255.255": false, "172.32.0.1": true,
		"192.168.0.1": false, "100.64.0.1": false, "100.127.255.255": false, "100.128.0.1": true, "169.254.169.254": false, "224.0.0.1": false, "255.255.255.255": false, "240.0.0.1": false,
		"192.0.0.8": false, "192.0.2.1": false, "198.18.0.1": false, "198.51.100.1": false, "203.0.113.1": false, "192.88.99.1": false,
		"::": false, "::1": false, "fe80::1": false, "fe80::1%eth0": false, "2606:2800:220:1::1%eth0": false, "fc00::1": false, "fd12::1": false, "ff02::1": false, "2001:db8::1": false, "2001::1": false, "3fff::1": false,
		"::ffff:10.0.0.1": false, "64:ff9b::a00:1": false, "64:ff9b:1::1": false, "2002:a00:1::1": false, "2002:7f00:1::": false, "::10.0.0.1": false, "::93.184.216.34": false, "100::1": false, "fec0::1": false, "5f00::1": false,
	} {
		if err := PublicOnly(netip.MustParseAddr(address)); (err == nil) != public {
			t.Errorf("%s: %v", address, err)
		}
	}
	if PublicOnly(netip.Addr{}) == nil {
		t.Error("no address counts as public")
	}
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

func TestUnknownHostsAndBadCertificates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host("files.test", serveFile(sd1(1), `"a"`))
		w.names["other.test"] = w.names["files.test"] // its certificate is for another name
		s := newShelf(t, w)
		wantFailed(t, s.ended(s.ask(Request{URL: "https://nowhere.test/a.gguf"}).ID), "there is no host nowhere.test")
		wantFailed(t, s.ended(s.ask(Request{URL: "https://other.test/b.gguf"}).ID), "certificate")
		w.names["dead.test"] = netip.MustParseAddr("93.184.216.200")
		wantFailed(t, s.ended(s.ask(Request{URL: "https://dead.test/c.gguf"}).ID), "given up after 8 attempts", "connection refused")
	})
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
		if err != nil || stopped.State != model.Stopped {
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

// The agent stops in the middle, or is killed, and the next one goes on.
func TestRestartInTheMiddle(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]int{"in order": 0, "with a tail that a power cut took": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, content := newWorld(t), sd1(4<<20)
				var mu sync.Mutex
				var ranges []string
				w.host("files.test", func(out http.ResponseWriter, r *http.Request) {
					mu.Lock()
					ranges = append(ranges, r.Header.Get("Range"))
					first := len(ranges) == 1
					mu.Unlock()
					if !first {
						serveFile(content, `"a"`)(out, r)
						return
					}
					out.Header().Set("ETag", `"a"`)
					out.Header().Set("Content-Length", fmt.Sprint(len(content)))
					out.Write(content[:3<<20])
					out.(http.Flusher).Flush()
					<-r.Context().Done()
				})
				s := newShelf(t, w)
				in := s.ask(Request{URL: fileURL})
				s.until(in.ID, func(in model.Install) bool { return in.Bytes == 3<<20 })
				s.stop()
				if lost > 0 { // what was not synced may be anything
					part := filepath.Join(s.dir, partName(in.ID))
					raw := must1(os.ReadFile(part))
					must(t, os.WriteFile(part, append(raw, make([]byte, 500)...), 0o600))
				}
				s.start()
				wantInstalled(t, s, s.ended(in.ID), "tiny.safetensors", content)
				if fmt.Sprint(ranges) != fmt.Sprintf("[ bytes=%d-]", 3<<20) {
					t.Errorf("asked for %v", ranges)
				}
			})
		})
	}
}

// A crash between the rename and the state: the next start finds the file and knows it.
func TestCrashWhileItGetsItsName(t *testing.T) {
	t.Parallel()
	content, foreign := sd1(1<<20), sd1(2<<20)
	for name, test := range map[string]struct {
		file, part []byte // nil: not there
		want       model.InstallState
		words      string
	}{
		"after the rename":                     {content, nil, model.Installed, ""},
		"before the rename":                    {nil, content, model.Installed, ""},
		"a foreign file came first":            {foreign, content, model.Failed, "came into the models folder meanwhile"},
		"a foreign file, and the part is gone": {foreign, nil, model.Failed, "came into the models folder meanwhile"},
		"both are gone":                        {nil, nil, model.Installed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.host("files.test", serveFile(content, `"a"`))
				s := newShelf(t, w)
				s.stop()
				const id = "0123456789abcdef"
				m := newMemory()
				m.Installs = []*record{{ID: id, FileName: "tiny.safetensors", URL: fileURL, SHA: sha(content), Total: int64(len(content)), Kept: int64(len(content)), State: model.Verifying, Placing: true}}
				must(t, os.WriteFile(s.state, must1(json.Marshal(m)), 0o600))
				must(t, os.MkdirAll(filepath.Join(s.dir, partsDir), 0o755))
				for path, bytes := range map[string][]byte{"tiny.safetensors": test.file, partName(id): test.part} {
					if bytes != nil {
						must(t, os.WriteFile(filepath.Join(s.dir, path), bytes, 0o600))
					}
				}
				s.start()
				in := s.ended(id)
				if test.want == model.Installed {
					wantInstalled(t, s, in, "tiny.safetensors", content)
					return
				}
				wantFailed(t, in, test.words)
				if got := must1(os.ReadFile(filepath.Join(s.dir, "tiny.safetensors"))); sha(got) != sha(foreign) {
					t.Error("the foreign file was replaced")
				}
			})
		})
	}
}

// A file of that name that somebody puts there while it is downloaded stays as it is.
func TestNeverOverwrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, content, theirs := newWorld(t), sd1(1<<20), []byte("theirs")
		var s *shelf
		w.host("files.test", func(out http.ResponseWriter, r *http.Request) {
			must(t, os.WriteFile(filepath.Join(s.dir, "tiny.safetensors"), theirs, 0o600))
			serveFile(content, `"a"`)(out, r)
		})
		s = newShelf(t, w)
		wantFailed(t, s.ended(s.ask(Request{URL: fileURL}).ID), "not replaced")
		if got := must1(os.ReadFile(filepath.Join(s.dir, "tiny.safetensors"))); string(got) != "theirs" {
			t.Error("it was")
		}
	})
}

func TestLoadAfterInstalling(t *testing.T) {
	t.Parallel()
	content := sd1(1 << 20)
	for name, test := range map[string]struct {
		load func(context.Context, string, gpu.Ref) error
		want string
	}{
		"loaded":       {func(context.Context, string, gpu.Ref) error { return nil }, ""},
		"no room":      {func(context.Context, string, gpu.Ref) error { return errors.New("no room on the device") }, "it is installed, but was not loaded on Device 1: no room on the device"},
		"nobody loads": {nil, "no generator of this agent can load"},
		"it hangs":     {func(ctx context.Context, _ string, _ gpu.Ref) error { <-ctx.Done(); return ctx.Err() }, "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.host("files.test", serveFile(content, `"a"`))
				var s *shelf
				loading := false
				s = newShelf(t, w, func(c *Config) {
					if test.load != nil {
						c.Load = func(ctx context.Context, name string, on gpu.Ref) error {
							in := s.Library.Library().Installs[0]
							loading = name == "tiny" && on == 1 && in.State == model.Loading && len(s.Usable()) == 1
							return test.load(ctx, name, on)
						}
					}
				})
				in := s.ended(s.ask(Request{URL: fileURL, Device: device(1)}).ID)
				if in.State != model.Installed || (test.want == "") != (in.Error == "") || !strings.Contains(in.Error, test.want) || loading != (test.load != nil) {
					t.Errorf("%+v, asked while loading and usable: %v", in, loading)
				}
			})
		})
	}
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
