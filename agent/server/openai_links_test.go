package server

import (
	"bytes"
	"fmt"
	"image/jpeg"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"muster/shared/job"
)

// link gives the path of a link to a new image.
func (a *testAgent) link(as encoding) (path, id string) {
	a.t.Helper()
	return a.linkTo(picture(a.t, 8, 7), as)
}

func (a *testAgent) linkTo(image []byte, as encoding) (path, id string) {
	a.t.Helper()
	id, err := a.images.Put(a.t.Context(), image)
	if err != nil {
		a.t.Fatal(err)
	}
	r := httptest.NewRequest("POST", imagesPath, nil)
	r.Host = testAddr
	path, ok := strings.CutPrefix(a.server.links.url(r, id, as, time.Now()), "http://"+testAddr)
	if !ok {
		a.t.Fatalf("link %q", path)
	}
	return path, id
}

func TestLinksNeedNoKey(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	path, _ := a.link(encoding{})
	for _, method := range []string{"GET", "HEAD"} {
		r := a.send(method, path, "", "Sec-Fetch-Site", "cross-site") // a page elsewhere shows it
		if r.status != 200 || r.header.Get("Content-Type") != "image/png" || (method == "GET") != bytes.Equal(r.body, picture(t, 8, 7)) {
			t.Errorf("%s: %d %v, %d bytes", method, r.status, r.header, len(r.body))
		}
		for name, want := range map[string]string{
			"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox",
			"Cross-Origin-Resource-Policy": "cross-origin", "Access-Control-Allow-Origin": "", "Referrer-Policy": "no-referrer",
		} {
			if got := r.header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
	}
	for _, method := range []string{"POST", "DELETE", "PUT"} {
		if r := a.ask(method, path, ""); r.status != 405 {
			t.Errorf("%s: %d", method, r.status)
		}
	}
	if r := a.send("GET", path, "", "Host", "evil.example:8000"); r.status != 403 {
		t.Errorf("another host: %d", r.status)
	}
	if r := a.send("GET", path, "", "Range", "bytes=0-3"); r.status != 206 || string(r.body) != "\x89PNG" {
		t.Errorf("a part: %d %q", r.status, r.body)
	}
}

func TestLinksToJPEG(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	path, _ := a.link(encoding{jpeg: true, quality: 80})
	r := a.send("GET", path, "")
	config, err := jpeg.DecodeConfig(bytes.NewReader(r.body))
	if r.status != 200 || r.header.Get("Content-Type") != "image/jpeg" || err != nil || config.Width != 8 || !strings.HasSuffix(path, ".q80.jpg") {
		t.Errorf("%s: %d %v, %v", path, r.status, r.header, err)
	}
	a.generate(func(job.Job) string { return "" })
	var got openAIResponse
	a.ask("POST", imagesPath, `{"prompt":"x","response_format":"url","output_format":"jpeg"}`).into(t, &got)
	if url := *got.Data[0].URL; !strings.HasSuffix(url, ".q100.jpg") {
		t.Errorf("%s", url)
	}
}

// Clients that do not read keep nobody else from a JPEG, at no door.
func TestLinksToJPEGThatNobodyReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := pipes{make(chan net.Conn), make(chan struct{})}
		a := serveOn(t, l)
		path, _ := a.linkTo(noise(t, 256), encoding{jpeg: true, quality: 90})
		for range 3 * maxJPEGs {
			conn, other := net.Pipe()
			defer conn.Close()
			l.conns <- other
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, a.addr)
		}
		synctest.Wait()
		began := time.Now()
		if r := a.send("GET", path, ""); r.status != 200 || time.Since(began) > 0 {
			t.Errorf("one that reads: %d after %s", r.status, time.Since(began))
		}
		if !a.server.jpegs.TryAcquire(maxJPEGs) {
			t.Error("links hold what is the doors'")
		}
		time.Sleep(linkTimeout + time.Second)
		synctest.Wait()
		if !a.server.linked.TryAcquire(linkMemory) {
			t.Errorf("memory is held after %s", linkTimeout)
		}
	})
}

// Where too much is under way a link is told so; what needs no JPEG is answered.
func TestLinksToJPEGWhenThereIsNoRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAgent(t)
		path, id := a.link(encoding{jpeg: true, quality: 80})
		tag := fmt.Sprintf(`"%s-q80"`, id)
		if r := a.send("GET", path, ""); r.status != 200 || r.header.Get("ETag") != tag {
			t.Errorf("%d %v", r.status, r.header)
		}
		if !a.server.linked.TryAcquire(linkMemory) {
			t.Fatal("something is held")
		}
		began := time.Now()
		for _, ask := range []struct {
			method, given string
			status        int
		}{{"HEAD", "", 200}, {"GET", tag, 304}, {"GET", `"x", W/` + tag, 304}, {"GET", "*", 304}, {"HEAD", tag, 304}} {
			r := a.send(ask.method, path, "", "If-None-Match", ask.given)
			if r.status != ask.status || len(r.body) > 0 || r.header.Get("ETag") != tag || r.header.Get("Cache-Control") != "private, max-age=3600" || time.Since(began) > 0 {
				t.Errorf("%+v: %d %v, %d bytes, after %s", ask, r.status, r.header, len(r.body), time.Since(began))
			}
		}
		r := a.send("GET", path, "", "If-None-Match", `"x"`)
		if r.status != 503 || r.header.Get("Retry-After") != "5" || !strings.Contains(string(r.body), "busy") || time.Since(began) != linkWait {
			t.Errorf("%d %v %s after %s", r.status, r.header, r.body, time.Since(began))
		}
		a.server.linked.Release(linkMemory)
		if r := a.send("GET", path, ""); r.status != 200 {
			t.Errorf("afterwards: %d", r.status)
		}
	})
}

// Nothing of a link can be another one's.
func TestForgedLinks(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	path, id := a.link(encoding{})
	other, err := a.images.Put(t.Context(), picture(t, 8, 9))
	if err != nil {
		t.Fatal(err)
	}
	at := strings.LastIndex(path, "/")
	folder, last := path[:at+1], path[at+1:]
	expiry, mac, _ := strings.Cut(strings.TrimSuffix(last, ".png"), ".")
	later := fmt.Sprint(time.Now().Add(24 * time.Hour).Unix())
	flipped := []byte(mac)
	flipped[0] ^= 1
	for name, forged := range map[string]string{
		"of another image": strings.Replace(path, id, other, 1), "that lasts longer": folder + later + "." + mac + ".png", "as a JPEG": folder + expiry + "." + mac + ".q80.jpg",
		"without a proof": folder + expiry + "..png", "with a shorter proof": folder + expiry + "." + mac[:20] + ".png", "with another proof": folder + expiry + "." + string(flipped) + ".png",
		"with zeros before": folder + "0" + last, "with a sign": folder + "+" + last, "without an ending": folder + expiry + "." + mac, "with another ending": folder + expiry + "." + mac + ".gif",
		"with more behind": path + ".png", "with padding": folder + expiry + "." + mac + "=.png", "of nothing": folder + ".png", "of no image": "/v1/images/files/x/" + last,
		"of another agent": a.foreignLink(t, id),
	} {
		if r := a.send("GET", forged, ""); r.status != 404 {
			t.Errorf("a link %s: %d %.100s", name, r.status, r.body)
		}
	}
	if r := a.send("GET", path, ""); r.status != 200 {
		t.Errorf("the right one: %d", r.status)
	}
}

// foreignLink is signed by an agent with another token.
func (a *testAgent) foreignLink(t *testing.T, id string) string {
	key, err := newLinkKey("another token")
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", imagesPath, nil)
	r.Host = testAddr
	return strings.TrimPrefix(key.url(r, id, encoding{}, time.Now()), "http://"+testAddr)
}

func TestLinksExpire(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	synctest.Test(t, func(t *testing.T) {
		path, _ := a.link(encoding{})
		time.Sleep(linkLife - time.Second)
		if r := a.send("GET", path, ""); r.status != 200 || r.header.Get("Cache-Control") != "private, max-age=1" {
			t.Errorf("before its end: %d, %s", r.status, r.header.Get("Cache-Control"))
		}
		time.Sleep(time.Second)
		if r := a.send("GET", path, ""); r.status != 404 {
			t.Errorf("after its end: %d", r.status)
		}
	})
}

// Links are made for the address that the client used, and outlive the agent.
func TestLinksAreWhereTheClientIs(t *testing.T) {
	t.Parallel()
	a := newAgent(t, func(c *Config) { c.AllowHosts = []string{"box.example:443"} })
	r := httptest.NewRequest("POST", imagesPath, nil)
	r.Host = "box.example"
	r.Header.Set("X-Forwarded-Proto", "https")
	if url := a.server.links.url(r, "x", encoding{}, time.Now()); !strings.HasPrefix(url, "https://box.example/v1/images/files/x/") {
		t.Error(url)
	}
	again, err := newLinkKey(testToken)
	if err != nil || again != a.server.links {
		t.Errorf("another key after a restart: %v", err)
	}
}

func FuzzTicket(f *testing.F) {
	key, err := newLinkKey(testToken)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	id := strings.Repeat("ab", 32)
	for _, as := range []encoding{{}, {jpeg: true, quality: 1}, {jpeg: true, quality: 100}} {
		t := ticket{expires: now.Unix() + 60, as: as}
		t.mac = key.sign(id, t)
		f.Add(t.String())
	}
	f.Add("-1.AAAAAAAAAAAAAAAAAAAAAA.png")
	f.Add("9223372036854775808..q0.jpg")
	f.Add("1.AAAAAAAAAAAAAAAAAAAAAB.q007.jpg")
	f.Fuzz(func(t *testing.T, text string) {
		parsed, ok := parseTicket(text)
		if ok && parsed.String() != text {
			t.Errorf("%q is read as %q", text, parsed)
		}
		if ok && parsed.as.jpeg && (parsed.as.quality < 1 || parsed.as.quality > 100) {
			t.Errorf("%q has quality %d", text, parsed.as.quality)
		}
		if got, ok := key.allows(id, text, now); ok && !bytes.Equal(got.mac, key.sign(id, got)) {
			t.Errorf("%q is allowed", text)
		}
	})
}
