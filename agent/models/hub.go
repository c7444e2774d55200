package models

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// DefaultHub is where repositories are looked for when nothing else is said.
const DefaultHub = "https://huggingface.co"

// ParseHub checks the base address of a hub; "" is DefaultHub.
func ParseHub(base string) (*url.URL, error) {
	if base == "" {
		base = DefaultHub
	}
	hub, err := parseHTTPS(base)
	if err == nil && (hub.RawQuery != "" || hub.ForceQuery) {
		err = errors.New("want an address without a query")
	}
	if err != nil {
		return nil, fmt.Errorf("%.100q: %w", base, err)
	}
	hub.Path = strings.TrimRight(hub.Path, "/")
	return hub, nil
}

// The forms of names on the hub. They are stricter than the hub's own, so that none can lead elsewhere in an address.
var (
	repoForm     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$`)
	revisionForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$`)
)

const (
	defaultRevision = "main"
	maxFilePath     = 512
)

// place is a file on the hub.
type place struct{ repo, file, revision string }

// check gives a FieldError for what is no name.
func (p place) check() error {
	if !repoForm.MatchString(p.repo) || strings.Contains(p.repo, "..") {
		return fieldf("repo", "is %q; want owner/name", cut(p.repo))
	}
	if !revisionForm.MatchString(p.revision) || strings.Contains(p.revision, "..") || strings.Contains(p.revision, "//") {
		return fieldf("revision", "is %q; want a branch, a tag or a commit", cut(p.revision))
	}
	if len(p.file) > maxFilePath || !utf8.ValidString(p.file) || strings.ContainsFunc(p.file, unicode.IsControl) || strings.ContainsAny(p.file, `\?#`) {
		return fieldf("file", "is %q; want a path in the repository, such as model.safetensors", cut(p.file))
	}
	for segment := range strings.SplitSeq(p.file, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return fieldf("file", "is %q; want a path in the repository, such as model.safetensors", cut(p.file))
		}
	}
	return nil
}

// url gives an address below the hub; each element is escaped by itself, so a slash in it stays inside.
func (w *web) url(elements ...string) string {
	address := w.hub.Scheme + "://" + w.hub.Host + w.hub.EscapedPath()
	for _, element := range elements {
		address += "/" + url.PathEscape(element)
	}
	return address
}

func (w *web) fileURL(p place) string {
	owner, name, _ := strings.Cut(p.repo, "/")
	return w.url(append([]string{owner, name, "resolve", p.revision}, strings.Split(p.file, "/")...)...)
}

// Bounds of the hub's answers: a folder of 20,000 files fits.
const (
	maxTreeBytes = 8 << 20
	maxTreePages = 20
	treeTimeout  = 2 * time.Minute
)

// treeEntry is what the hub tells of a file (GET /api/models/REPO/tree/REVISION/FOLDER): the size and, of files in its large file
// storage, the SHA-256.
type treeEntry struct {
	Type string `json:"type"`
	Path string `json:"path"`
	Size int64  `json:"size"`
	LFS  *struct {
		OID  string `json:"oid"`
		Size int64  `json:"size"`
	} `json:"lfs"`
}

// find asks the hub what it knows of a file: its size, and its SHA-256 or "".
func (w *web) find(ctx context.Context, p place) (size int64, sha string, err error) {
	ctx, cancel := context.WithTimeout(ctx, treeTimeout)
	defer cancel()
	owner, name, _ := strings.Cut(p.repo, "/")
	elements := []string{"api", "models", owner, name, "tree", p.revision}
	if folder := path.Dir(p.file); folder != "." {
		elements = append(elements, strings.Split(folder, "/")...)
	}
	address := w.url(elements...) + "?recursive=false&expand=false"
	for range maxTreePages {
		found, next, err := w.page(ctx, address, p)
		if err != nil {
			return 0, "", err
		}
		if found != nil {
			return found.known()
		}
		if next == "" {
			return 0, "", &permanentError{fmt.Sprintf("%s has no file %s in %s at %s: look at %s", w.hub.Host, cut(p.file), p.repo, p.revision, w.url(owner, name))}
		}
		address = next
	}
	return 0, "", &permanentError{fmt.Sprintf("%s lists more files beside %s than are looked through: install it by its address", w.hub.Host, cut(p.file))}
}

// known gives size and SHA-256 of an entry.
func (e *treeEntry) known() (int64, string, error) {
	if e.LFS == nil {
		return e.Size, "", nil
	}
	if !shaForm.MatchString(e.LFS.OID) || e.LFS.Size < 0 {
		return 0, "", &permanentError{"the hub's answer about the file makes no sense: its SHA-256 is " + cut(fmt.Sprintf("%q", e.LFS.OID))}
	}
	return e.LFS.Size, e.LFS.OID, nil
}

// page reads one page of a folder; next is where it goes on, "" after the last.
func (w *web) page(ctx context.Context, address string, p place) (found *treeEntry, next string, err error) {
	response, err := w.get(ctx, address, http.Header{"Accept": {"application/json"}})
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, "", w.explainStatus(response, "the repository "+p.repo+" at "+p.revision, time.Now())
	}
	found, err = findEntry(io.LimitReader(response.Body, maxTreeBytes), p.file)
	if err != nil && ctx.Err() != nil {
		return nil, "", err
	}
	if err != nil {
		return nil, "", &permanentError{fmt.Sprintf("what %s answers is no list of files: %s; is --hub right?", response.Request.URL.Host, cut(err.Error()))}
	}
	return found, nextPage(response), nil
}

// findEntry reads a JSON array of entries up to the one with that path; nil when there is none.
func findEntry(from io.Reader, file string) (*treeEntry, error) {
	decoder := json.NewDecoder(from)
	if token, err := decoder.Token(); err != nil || token != json.Delim('[') {
		return nil, fmt.Errorf("not a JSON array (%w)", cmpErr(err))
	}
	for decoder.More() {
		var e treeEntry
		if err := decoder.Decode(&e); err != nil {
			return nil, err
		}
		if e.Type == "file" && e.Path == file {
			return &e, nil
		}
	}
	_, err := decoder.Token()
	return nil, err
}

var errOtherJSON = errors.New("something else")

func cmpErr(err error) error {
	if err == nil {
		return errOtherJSON
	}
	return err
}

// linkForm is one of the links of a header: <ADDRESS>; PARAMETERS. A parameter in quotes may hold a comma, an address too.
var linkForm = regexp.MustCompile(`<([^<>]*)>((?:[^",<]|"[^"]*")*)`)

// nextForm is the parameter that marks the next page, alone or among others (RFC 8288, 3.3).
var nextForm = regexp.MustCompile(`(?i);\s*rel\s*=\s*(?:next\s*(?:;|$)|"(?:[^"]*\s)?next(?:\s[^"]*)?")`)

// nextPage reads the header Link, whose address must be the same host's; "" when there is none.
func nextPage(response *http.Response) string {
	for _, header := range response.Header.Values("Link") {
		for _, link := range linkForm.FindAllStringSubmatch(header, -1) {
			if !nextForm.MatchString(link[2]) {
				continue
			}
			next, err := response.Request.URL.Parse(link[1])
			if err == nil && next.Scheme == "https" && next.Host == response.Request.URL.Host {
				return next.String()
			}
		}
	}
	return ""
}
