package server

import (
	"bytes"
	"compress/gzip"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
)

func packed(t string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(t))
	_ = w.Close()
	return b.Bytes()
}

const wasmName = "assets/app-0123456789abcdef.wasm"

func siteFiles() fs.FS {
	return fstest.MapFS{
		"index.html":              {Data: []byte("<!doctype html>page")},
		"index.html.br":           {Data: []byte("br of page")},
		"index.html.gz":           {Data: packed("<!doctype html>page")},
		"sw.js":                   {Data: []byte("worker")},
		"manifest.webmanifest":    {Data: []byte("{}")},
		"version.txt":             {Data: []byte("v\n")},
		wasmName:                  {Data: []byte("raw wasm, long")},
		wasmName + ".br":          {Data: []byte("br wasm")},
		wasmName + ".gz":          {Data: packed("raw wasm, long")},
		"assets/only.css.gz":      {Data: packed("body{}")},
		"assets/only-br.css.br":   {Data: []byte("nobody could read it plain")},
		"assets/odd.unheardof":    {Data: []byte("?")},
		".gitkeep":                {Data: nil},
		"assets/deep/picture.png": {Data: []byte("png")},
	}
}

func TestSite(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for _, test := range []struct {
		name, path, accept        string
		status                    int
		body, media, coded, cache string
	}{
		{"page", "/", "", 200, "<!doctype html>page", "text/html; charset=utf-8", "", "no-cache"},
		{"client route", "/ai-models-setup", "gzip, deflate, br", 200, "br of page", "text/html; charset=utf-8", "br", "no-cache"},
		{"gzip", "/index.html", "gzip", 200, string(packed("<!doctype html>page")), "text/html; charset=utf-8", "gzip", "no-cache"},
		{"br refused", "/", "br;q=0, gzip;q=0.5", 200, string(packed("<!doctype html>page")), "text/html; charset=utf-8", "gzip", "no-cache"},
		{"all refused", "/", "br; q=0.0, gzip;q=0", 200, "<!doctype html>page", "text/html; charset=utf-8", "", "no-cache"},
		{"worker", "/sw.js", "br", 200, "worker", "text/javascript; charset=utf-8", "", "no-cache"},
		{"manifest", "/manifest.webmanifest", "", 200, "{}", "application/manifest+json", "", "no-cache"},
		{"versioned", "/" + wasmName, "br", 200, "br wasm", "application/wasm", "br", "public, max-age=31536000, immutable"},
		{"only gzip, plain client", "/assets/only.css", "", 200, "body{}", "text/css; charset=utf-8", "", "no-cache"},
		{"only gzip", "/assets/only.css", "gzip", 200, string(packed("body{}")), "text/css; charset=utf-8", "gzip", "no-cache"},
		{"only br is not served", "/assets/only-br.css", "br", 404, "", "", "", ""},
		{"unknown type", "/assets/odd.unheardof", "", 200, "?", "application/octet-stream", "", "no-cache"},
		{"unknown", "/nothing", "", 404, "", "", "", ""},
		{"no listing", "/assets/", "", 404, "", "", "", ""},
		{"no listing of a folder", "/assets/deep", "", 404, "", "", "", ""},
		{"no dot files", "/.gitkeep", "", 404, "", "", "", ""},
		{"siblings have no name of their own", "/index.html.gz", "", 404, "", "", "", ""},
		{"old clients' proxies", "/robots.txt", "", 404, "", "", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := a.send("GET", test.path, "", "Accept-Encoding", test.accept)
			if r.status != test.status {
				t.Fatalf("status %d, want %d: %s", r.status, test.status, r.body)
			}
			if test.status != 200 {
				return
			}
			h := r.header
			if string(r.body) != test.body || h.Get("Content-Type") != test.media || h.Get("Content-Encoding") != test.coded || h.Get("Cache-Control") != test.cache {
				t.Errorf("got %q %v", r.body, h)
			}
			if h.Get("Vary") != "Accept-Encoding" || h.Get("ETag") == "" {
				t.Errorf("Vary %q, ETag %q", h.Get("Vary"), h.Get("ETag"))
			}
			head := a.send("HEAD", test.path, "", "Accept-Encoding", test.accept)
			if head.status != 200 || len(head.body) != 0 || head.header.Get("Content-Length") != h.Get("Content-Length") {
				t.Errorf("HEAD: %d, %d bytes, %v", head.status, len(head.body), head.header)
			}
			again := a.send("GET", test.path, "", "Accept-Encoding", test.accept, "If-None-Match", `"other", W/`+h.Get("ETag"))
			if again.status != http.StatusNotModified || len(again.body) != 0 {
				t.Errorf("If-None-Match: %d", again.status)
			}
		})
	}
}

func TestSlashAfterARouteOfTheAppIsNoError(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	if r := a.send("GET", "/ai-models-setup/", ""); r.status != http.StatusPermanentRedirect || r.header.Get("Location") != "/ai-models-setup" {
		t.Errorf("%d %v", r.status, r.header)
	}
	if r := a.send("GET", "/elsewhere/", ""); r.status != http.StatusNotFound {
		t.Errorf("%d %v", r.status, r.header)
	}
}

func TestSiteTagsDifferByEncoding(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	plain := a.send("GET", "/", "").header.Get("ETag")
	coded := a.send("GET", "/", "", "Accept-Encoding", "br").header.Get("ETag")
	if plain == coded {
		t.Error("one ETag for two forms")
	}
	if r := a.send("GET", "/", "", "Accept-Encoding", "br", "If-None-Match", plain); r.status != 200 {
		t.Errorf("a tag of the plain form answered %d for the coded one", r.status)
	}
}

func TestRawLengthOfWasm(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for _, accept := range []string{"", "br", "gzip"} {
		if got := a.send("GET", "/"+wasmName, "", "Accept-Encoding", accept).header.Get("X-Uncompressed-Content-Length"); got != "14" {
			t.Errorf("%q: %q, want 14", accept, got)
		}
	}
}

func TestVersionInQueryCachesForEver(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	tag := strings.Trim(a.send("GET", "/sw.js", "").header.Get("ETag"), `"`)
	if got := a.send("GET", "/sw.js?v="+tag[:8], "").header.Get("Cache-Control"); got != forever {
		t.Errorf("the right version: %q", got)
	}
	for _, wrong := range []string{"", tag[:7], "00000000"} {
		if got := a.send("GET", "/sw.js?v="+wrong, "").header.Get("Cache-Control"); got != revalidate {
			t.Errorf("version %q: %q", wrong, got)
		}
	}
}

func TestSiteNotBuilt(t *testing.T) {
	t.Parallel()
	for name, site := range map[string]fs.FS{"nil": nil, "empty": fstest.MapFS{".gitkeep": {}}} {
		a := newAgent(t, func(c *Config) { c.Site = site })
		r := a.send("GET", "/ai-models-setup", "")
		if r.status != http.StatusServiceUnavailable || !strings.Contains(string(r.body), "make build") {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
		if r := a.send("GET", "/favicon.ico", ""); r.status != 404 {
			t.Errorf("%s: another file: %d", name, r.status)
		}
	}
}
