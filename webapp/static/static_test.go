package static

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"image/png"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
)

func build(t *testing.T, wasm string) *Site {
	t.Helper()
	s, err := Build([]byte(wasm), []byte("class Go {}"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestNothingInline: the Content-Security-Policy allows no inline script or style, and nothing from another host.
func TestNothingInline(t *testing.T) {
	t.Parallel()
	s := build(t, "wasm")
	inline := []struct {
		what string
		is   *regexp.Regexp
	}{
		{"script with content", regexp.MustCompile(`(?is)<script[^>]*>\s*[^<\s]`)},
		{"style element", regexp.MustCompile(`(?i)<style`)},
		{"style attribute", regexp.MustCompile(`(?i)\sstyle\s*=`)},
		{"event attribute", regexp.MustCompile(`(?i)\son[a-z]+\s*=`)},
		{"javascript address", regexp.MustCompile(`(?i)javascript:`)},
	}
	for _, bad := range inline {
		if found := bad.is.Find(s.Files["index.html"]); found != nil {
			t.Errorf("index.html: %s: %s", bad.what, found)
		}
	}
	for _, tag := range regexp.MustCompile(`(?i)<script[^>]*>`).FindAllString(string(s.Files["index.html"]), -1) {
		if !strings.Contains(tag, ` src="/assets/`) {
			t.Errorf("script without an address of ours: %s", tag)
		}
	}
	remote := regexp.MustCompile(`(?i)(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s"']*`)
	for name, content := range s.Files {
		if strings.HasSuffix(name, ".png") || strings.Contains(name, "wasm") {
			continue
		}
		text := strings.ReplaceAll(string(content), "http://www.w3.org/2000/svg", "") // a name, not an address
		if found := remote.FindString(text); found != "" {
			t.Errorf("%s names another host: %s", name, found)
		}
	}
	for _, forbidden := range []string{"eval(", "new Function", "innerHTML", ".style."} {
		for name, content := range s.Files {
			if strings.HasSuffix(name, ".js") && bytes.Contains(content, []byte(forbidden)) {
				t.Errorf("%s contains %s", name, forbidden)
			}
		}
	}
}

// TestEveryAddressIsThere: what page, manifest and service worker name exists in the site.
func TestEveryAddressIsThere(t *testing.T) {
	t.Parallel()
	s := build(t, "wasm")
	address := regexp.MustCompile(`"(/(?:assets/)?[a-z0-9._-]+\.[a-z]+)"`)
	seen := 0
	for _, name := range []string{"index.html", "manifest.webmanifest", "sw.js"} {
		for _, m := range address.FindAllStringSubmatch(string(s.Files[name]), -1) {
			seen++
			if _, ok := s.Files[strings.TrimPrefix(m[1], "/")]; !ok {
				t.Errorf("%s names %s, which is not there", name, m[1])
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d addresses found", seen)
	}
}

func TestVersionFollowsEveryAsset(t *testing.T) {
	t.Parallel()
	a, same, b := build(t, "one"), build(t, "one"), build(t, "two")
	if a.Version != same.Version {
		t.Error("the same inputs gave two versions")
	}
	if a.Version == b.Version {
		t.Error("another program gave the same version")
	}
	if !bytes.Contains(b.Files["sw.js"], []byte(b.Version)) || bytes.Equal(a.Files["sw.js"], b.Files["sw.js"]) {
		t.Error("the service worker does not change with the version")
	}
	if !regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(a.Version) {
		t.Errorf("version %q", a.Version)
	}
}

func TestManifest(t *testing.T) {
	t.Parallel()
	s := build(t, "wasm")
	var m struct {
		Name, Display string
		StartURL      string `json:"start_url"`
		Icons         []struct{ Src, Sizes, Type, Purpose string }
	}
	if err := json.Unmarshal(s.Files["manifest.webmanifest"], &m); err != nil {
		t.Fatal(err)
	}
	if m.Name != "muster" || m.Display != "standalone" || m.StartURL != "/" {
		t.Errorf("manifest %+v", m)
	}
	for _, i := range m.Icons {
		if i.Type != "image/png" {
			continue
		}
		img, err := png.Decode(bytes.NewReader(s.Files[strings.TrimPrefix(i.Src, "/")]))
		if err != nil {
			t.Fatalf("%s: %v", i.Src, err)
		}
		side := strings.Split(i.Sizes, "x")[0]
		if got := img.Bounds(); got.Dx() != got.Dy() || side != map[int]string{192: "192", 512: "512"}[got.Dx()] {
			t.Errorf("%s is %v, the manifest says %s", i.Src, got, i.Sizes)
		}
		_, _, _, corner := img.At(0, 0).RGBA()
		if maskable := i.Purpose == "maskable"; maskable != (corner == 0xffff) {
			t.Errorf("%s (%s): alpha of the corner %x", i.Src, i.Purpose, corner)
		}
	}
}

func TestWriteReplacesAndCompresses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, stale := range []string{".gitkeep", "old.html", "assets/app-0000000000000000.wasm"} {
		if err := os.MkdirAll(filepath.Join(dir, "assets"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, stale), []byte("stale"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := build(t, strings.Repeat("wasm ", 1000))
	first, err := s.Write(dir, 5)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Write(dir, 5)
	if err != nil {
		t.Fatal(err)
	}
	if first != again || first.Brotli == 0 || first.Gzip == 0 {
		t.Errorf("sizes %+v, then %+v", first, again)
	}
	expect(t, dir, s)
}

// expect compares what is on disk with the site, decompressing the siblings.
func expect(t *testing.T, dir string, s *Site) {
	t.Helper()
	siblings := 0
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path == ".gitkeep" {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			return err
		}
		name := path
		switch filepath.Ext(path) {
		case ".br":
			name, siblings = strings.TrimSuffix(path, ".br"), siblings+1
			b, err = io.ReadAll(brotli.NewReader(bytes.NewReader(b)))
		case ".gz":
			name, siblings = strings.TrimSuffix(path, ".gz"), siblings+1
			var r *gzip.Reader
			if r, err = gzip.NewReader(bytes.NewReader(b)); err == nil {
				b, err = io.ReadAll(r)
			}
		}
		if err != nil {
			return err
		}
		if want, ok := s.Files[name]; !ok || !bytes.Equal(want, b) {
			t.Errorf("%s is not what the site has (%v)", path, ok)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if siblings < 8 {
		t.Errorf("only %d compressed siblings", siblings)
	}
	for name := range s.Files {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}
