package server

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// appRoutes are the paths of the app: the same page answers all of them, and the app shows what belongs there.
var appRoutes = []string{"/", "/ai-models-setup"}

const (
	indexName = "index.html"
	// rawLengthHeader tells the page's loader how long the WebAssembly is unpacked (go-app's WasmContentLengthHeader): of a
	// compressed answer a browser tells only the compressed length.
	rawLengthHeader = "X-Uncompressed-Content-Length"
	forever         = "public, max-age=31536000, immutable"
	revalidate      = "no-cache"
)

// types are the media types of what a site can hold. They are fixed: the machine's own tables differ.
var types = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8",
	".json": "application/json", ".webmanifest": "application/manifest+json", ".wasm": "application/wasm", ".svg": "image/svg+xml",
	".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp", ".ico": "image/x-icon", ".woff2": "font/woff2",
	".txt": "text/plain; charset=utf-8", ".map": "application/json",
}

// encodings are the compressed siblings of a file, the smaller first.
var encodings = []struct{ name, suffix string }{{"br", ".br"}, {"gzip", ".gz"}}

// versioned matches names that change with their content: a hash of at least 8 hex digits between punctuation.
var versioned = regexp.MustCompile(`(^|[-._/])[0-9a-f]{8,64}[-._/]`)

// site serves the built page from a file system: every file under its own name, precompressed where the client takes that. It is
// not go-app's handler, which fetches some paths from whatever Host says. There are no directory listings.
type site struct {
	files map[string]*file // by path without the leading slash; not changed after newSite
}

// file is one file of the site, with its compressed siblings. The file itself may be missing when a gzip sibling is there.
type file struct {
	system  fs.FS
	name    string
	present map[string]bool // by encoding; "" is the file itself

	once    sync.Once // hashing megabytes is for the first who asks, not for the agent's start
	err     error
	hash    string         // of the file itself, hex
	lengths map[string]int // by encoding, "" always
}

// newSite looks at what there is. A nil file system has nothing.
func newSite(system fs.FS) (*site, error) {
	s := &site{files: map[string]*file{}}
	if system == nil {
		return s, nil
	}
	err := fs.WalkDir(system, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasPrefix(path.Base(name), ".") {
			return err
		}
		original, encoding := name, ""
		for _, e := range encodings {
			if base, ok := strings.CutSuffix(name, e.suffix); ok {
				original, encoding = base, e.name
			}
		}
		if s.files[original] == nil {
			s.files[original] = &file{system: system, name: original, present: map[string]bool{}}
		}
		s.files[original].present[encoding] = true
		return nil
	})
	for name, f := range s.files {
		if !f.present[""] && !f.present["gzip"] { // it could be served to some clients only
			delete(s.files, name)
		}
	}
	return s, err
}

// serve answers GET and HEAD of the page and its files.
func (s *site) serve(w http.ResponseWriter, r *http.Request) error {
	name := strings.TrimPrefix(r.URL.Path, "/")
	for _, route := range appRoutes {
		switch r.URL.Path {
		case route:
			name = indexName
		case route + "/": // typed so; the path is one of ours, so nobody is sent elsewhere
			http.Redirect(w, r, route, http.StatusPermanentRedirect)
			return nil
		}
	}
	if s.files[indexName] == nil && name == indexName {
		return notBuilt(w)
	}
	f := s.files[name]
	if f == nil {
		return &refusal{status: http.StatusNotFound, code: "not_found", message: "nothing is here; the page is at /"}
	}
	f.once.Do(f.load)
	if f.err != nil {
		return fmt.Errorf("site: %w", f.err)
	}
	return f.write(w, r)
}

func notBuilt(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, "<!doctype html><html lang=\"en\"><title>muster</title><h1>The page is not built</h1>"+
		"<p>This agent was compiled without its page. Run <code>make build</code> and start it again. The API works all the same.</p></html>\n")
	return errAnswered
}

// load measures the file. Its content is not kept: the file system of a built agent lies in the program's own pages.
func (f *file) load() {
	f.lengths = map[string]int{}
	for _, e := range encodings {
		if f.present[e.name] {
			info, err := fs.Stat(f.system, f.name+e.suffix)
			if err != nil {
				f.err = err
				return
			}
			f.lengths[e.name] = int(info.Size())
		}
	}
	raw, err := f.open("")
	if err != nil {
		f.err = err
		return
	}
	sum := sha256.New()
	length, err := io.Copy(sum, raw)
	f.lengths[""], f.err = int(length), errors.Join(err, raw.Close())
	f.hash = hex.EncodeToString(sum.Sum(nil))
}

// open reads one form of the file; the plain one is unpacked when only its gzip sibling is there.
func (f *file) open(encoding string) (io.ReadCloser, error) {
	if f.present[encoding] {
		return f.system.Open(f.name + suffixOf(encoding))
	}
	packed, err := f.system.Open(f.name + suffixOf("gzip"))
	if err != nil {
		return nil, err
	}
	raw, err := gzip.NewReader(packed)
	if err != nil {
		return nil, errors.Join(err, packed.Close())
	}
	return unpacked{raw, packed}, nil
}

// unpacked closes what it reads from.
type unpacked struct {
	*gzip.Reader
	packed fs.File
}

func (u unpacked) Close() error { return errors.Join(u.Reader.Close(), u.packed.Close()) }

func suffixOf(encoding string) string {
	for _, e := range encodings {
		if e.name == encoding {
			return e.suffix
		}
	}
	return ""
}

func (f *file) write(w http.ResponseWriter, r *http.Request) error {
	encoding := f.choose(r.Header.Values("Accept-Encoding"))
	h := w.Header()
	h.Set("Content-Type", f.mediaType())
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", f.caching(r.URL.Query().Get("v")))
	tag := `"` + f.hash[:32] + `"`
	if encoding != "" {
		h.Set("Content-Encoding", encoding)
		tag = `"` + f.hash[:32] + "-" + encoding + `"`
	}
	h.Set("ETag", tag)
	if path.Ext(f.name) == ".wasm" {
		h.Set(rawLengthHeader, strconv.Itoa(f.lengths[""]))
	}
	if matches(r.Header.Values("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	body, err := f.open(encoding)
	if err != nil {
		return fmt.Errorf("site: %w", err)
	}
	defer body.Close()
	h.Set("Content-Length", strconv.Itoa(f.lengths[encoding]))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = io.Copy(w, body) // who breaks off has what it wanted
	}
	return nil
}

func (f *file) mediaType() string {
	extension := path.Ext(f.name)
	if known := types[extension]; known != "" {
		return known
	}
	if known := mime.TypeByExtension(extension); known != "" {
		return known
	}
	return "application/octet-stream"
}

// caching lets a browser keep for ever what never changes under its name, or under its name with ?v= and its hash; of the rest
// it must ask whether it changed.
func (f *file) caching(version string) string {
	if versioned.MatchString(f.name) || len(version) >= 8 && strings.HasPrefix(f.hash, version) {
		return forever
	}
	return revalidate
}

// choose gives the smallest form that the client takes; "" is the file as it is.
func (f *file) choose(accepted []string) string {
	for _, e := range encodings {
		if f.present[e.name] && accepts(accepted, e.name) {
			return e.name
		}
	}
	return ""
}

// accepts reads Accept-Encoding (RFC 9110, 12.5.3) as far as it matters here: a name counts unless its weight is 0.
func accepts(accepted []string, encoding string) bool {
	for _, item := range strings.Split(strings.Join(accepted, ","), ",") {
		name, weight, _ := strings.Cut(item, ";")
		if !strings.EqualFold(strings.TrimSpace(name), encoding) {
			continue
		}
		_, q, found := strings.Cut(strings.ReplaceAll(weight, " ", ""), "q=")
		value, err := strconv.ParseFloat(q, 64)
		return !found || err == nil && value > 0
	}
	return false
}

// matches reads If-None-Match: any of the tags, weak or not, or "*".
func matches(headers []string, tag string) bool {
	for _, item := range strings.Split(strings.Join(headers, ","), ",") {
		item = strings.TrimPrefix(strings.TrimSpace(item), "W/")
		if item == tag || item == "*" {
			return true
		}
	}
	return false
}
