package models

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
)

// Request says what to install: an address, or a file of a repository on the hub.
type Request struct {
	URL      string
	Repo     string // "owner/name"
	File     string // path in the repository
	Revision string // branch, tag or commit; "" is the main branch
	// Name is the name that the model shall have; "" is that of the file. An extension may be left out.
	Name   string
	SHA256 string   // that the file must have, in hex; "" is what the hub says, if it says it
	Device *gpu.Ref // where to load it when it is here; nil for nowhere
}

var (
	idForm  = regexp.MustCompile(`^[0-9a-f]{16}$`)
	shaForm = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// parse checks a request by itself.
func (l *Library) parse(q Request) (*record, error) {
	r := &record{URL: q.URL, Repo: q.Repo, File: q.File, Revision: q.Revision, Wanted: strings.ToLower(q.SHA256), Device: q.Device, State: model.Waiting}
	if r.Wanted != "" && !shaForm.MatchString(r.Wanted) {
		return nil, fieldf("sha256", "is %q; want 64 hex digits", cut(q.SHA256))
	}
	var err error
	var source string
	switch {
	case q.URL != "" && (q.Repo != "" || q.File != "" || q.Revision != ""):
		return nil, fieldf("url", "and repo are two sources: give one of them")
	case q.URL != "":
		source, err = checkURL(q.URL)
	case q.Repo == "":
		return nil, fieldf("url", "is missing: give url, or repo and file")
	default:
		if r.Revision == "" {
			r.Revision = defaultRevision
		}
		source, err = path.Base(q.File), r.place().check()
	}
	if err != nil {
		return nil, err
	}
	if r.FileName, err = fileNameFor(q.Name, source); err != nil {
		return nil, err
	}
	r.SHA = r.Wanted
	return r, nil
}

// checkURL gives the last element of the address's path.
func checkURL(address string) (string, error) {
	if len(address) > maxURL {
		return "", fieldf("url", "is %d bytes long; at most %d are allowed", len(address), maxURL)
	}
	parsed, err := parseHTTPS(address)
	if err != nil {
		return "", fieldf("url", "%s", err)
	}
	return path.Base(parsed.Path), nil
}

// fileNameFor gives the file's name in the models folder. The extension, which says the format, is that of the source where the name
// has none.
func fileNameFor(asked, source string) (string, error) {
	if asked == "" {
		if ext := path.Ext(source); stem(source) == source && ext != "" {
			return "", fieldf("name", "would be %q; installed are .safetensors and .gguf alone, the formats that can't carry code", cut(source))
		} else if stem(source) == source {
			return "", fieldf("name", "is missing: the address does not end in a file's name; give one that ends in .safetensors or .gguf")
		}
		if err := checkFileName(source); err != nil {
			return "", err
		}
		return source, nil
	}
	if stem(asked) == asked {
		if stem(source) == source {
			return "", fieldf("name", "is %q; it must end in .safetensors or .gguf, the formats that can't carry code", cut(asked))
		}
		asked += strings.ToLower(path.Ext(source))
	}
	if err := checkFileName(asked); err != nil {
		return "", err
	}
	return asked, nil
}

// reserved are names that are routes beside those of models.
var reserved = []string{"install", "installs", "recommendations"}

// checkFileName refuses what is no plain name of a model file.
func checkFileName(fileName string) error {
	if slices.Contains(reserved, stem(fileName)) {
		return fieldf("name", "is %q, which no model may be called; give another", stem(fileName))
	}
	if strings.ContainsAny(fileName, `/\:`) || !listed(fileName) || strings.TrimSpace(fileName) != fileName || len(fileName) > 200 {
		return fieldf("name", "%q is no name for a model: want up to %d bytes without / \\ : and control characters, not beginning with a dot, ending in .safetensors or .gguf", cut(fileName), min(200, job.MaxNameBytes))
	}
	return nil
}
