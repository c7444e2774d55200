package models

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"muster/agent/durable"
	"muster/shared/gpu"
	"muster/shared/model"
)

// memory is what outlives the agent. Files are known by their own names, for a model's name may change when another comes beside it.
type memory struct {
	Version   int               `json:"version"`
	Disabled  map[string]bool   `json:"disabled"`
	Installed map[string]origin `json:"installed"`
	Installs  []*record         `json:"installs"` // newest first
}

// origin is where an installed file came from. It holds only as long as the file is the same.
type origin struct {
	SHA256   string    `json:"sha256"`
	From     string    `json:"from"`
	Bytes    int64     `json:"bytes"`
	Modified time.Time `json:"modified"`
}

// record is an installation. Guarded by the library's lock, but for what says otherwise.
type record struct {
	ID       string `json:"id"`
	FileName string `json:"file_name"`
	// Where it comes from: an address, or a file on the hub.
	URL      string `json:"url,omitempty"`
	Repo     string `json:"repo,omitempty"`
	File     string `json:"file,omitempty"`
	Revision string `json:"revision,omitempty"`

	Wanted string             `json:"wanted,omitempty"` // SHA-256 that was asked for
	SHA    string             `json:"sha256,omitempty"` // that it must have by all that is known, or has
	Total  int64              `json:"total,omitempty"`
	ETag   string             `json:"etag,omitempty"` // strong, of what is in the part
	Kept   int64              `json:"kept,omitempty"` // bytes of the part that are on the disk for certain
	Device *gpu.Ref           `json:"device_id,omitempty"`
	State  model.InstallState `json:"state"`
	// Placing says that the whole, verified part may have its name already.
	Placing bool      `json:"placing,omitempty"`
	Error   string    `json:"error,omitempty"`
	Ended   time.Time `json:"ended,omitzero"`

	// What only lives as long as the agent.
	here, speed int64
	trouble     string // that is being tried again
	stop        context.CancelCauseFunc
}

func (r *record) place() place { return place{r.Repo, r.File, r.Revision} }

// from is the source for people: never a query, which may hold a key.
func (r *record) from(w *web) string {
	if r.Repo != "" {
		text := w.hub.Host + "/" + r.Repo + "/" + r.File
		if r.Revision != defaultRevision {
			text += " at " + r.Revision
		}
		return text
	}
	target, err := parseHTTPS(r.URL)
	if err != nil {
		return ""
	}
	return target.Host + target.Path
}

func (r *record) view(w *web) model.Install {
	in := model.Install{
		ID: r.ID, Name: stem(r.FileName), From: r.from(w), State: r.State, Bytes: r.here, Total: r.Total, Speed: r.speed, Error: r.Error, SHA: r.SHA, Device: r.Device,
	}
	if in.Error == "" {
		in.Error = r.trouble
	}
	if r.State.Ended() && !r.Ended.IsZero() {
		in.Ended = new(r.Ended)
	}
	if r.State == model.Installed || r.State == model.Loading {
		in.Bytes = r.Total
	}
	return in
}

const (
	memoryVersion  = 1
	maxMemoryBytes = 4 << 20
)

func newMemory() memory {
	return memory{Version: memoryVersion, Disabled: map[string]bool{}, Installed: map[string]origin{}}
}

// load reads what is remembered. What can't be read is put aside, and problem says so.
func load(path string) (m memory, problem string, err error) {
	raw, err := readBounded(path, maxMemoryBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return newMemory(), "", nil
	}
	if err == nil {
		m = newMemory()
		if err = json.Unmarshal(raw, &m); err == nil && m.Version != memoryVersion {
			err = fmt.Errorf("it is of version %d", m.Version)
		}
		if err == nil {
			return m.sound(), "", nil
		}
	}
	aside := fmt.Sprintf("%s.damaged-%d", path, time.Now().UnixNano())
	if err := os.Rename(path, aside); err != nil {
		return memory{}, "", fmt.Errorf("what is known of models (%s) can't be read, nor put aside: %w", path, err)
	}
	return newMemory(), fmt.Sprintf("what was known of models could not be read and was put aside as %s: models that were disabled are enabled again, and installations that had not finished are gone", filepath.Base(aside)), nil
}

// sound leaves out what can't be right.
func (m memory) sound() memory {
	var kept []*record
	for _, r := range m.Installs {
		if r != nil && idForm.MatchString(r.ID) && listed(r.FileName) && checkFileName(r.FileName) == nil && len(kept) < maxRecords {
			kept = append(kept, r)
		}
	}
	m.Installs = kept
	if m.Disabled == nil {
		m.Disabled = map[string]bool{}
	}
	if m.Installed == nil {
		m.Installed = map[string]origin{}
	}
	return m
}

func readBounded(path string, most int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(raw)) > most {
		err = fmt.Errorf("it has more than %d bytes", most)
	}
	return raw, err
}

// keep makes what is remembered durable; when it returns nil, it is. A disk that does not answer costs the caller no more than ctx.
func (l *Library) keep(ctx context.Context) error {
	return within(ctx, func() error {
		if err := l.save(); err != nil {
			return fmt.Errorf("%w: %w", ErrDisk, err)
		}
		return nil
	})
}

// within waits for what asks the disk, but no longer than ctx.
func within(ctx context.Context, ask func() error) error {
	done := make(chan error, 1)
	go func() { done <- ask() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// save writes the newest that is known: whoever comes later has the newer one.
func (l *Library) save() error {
	l.saving.Lock()
	defer l.saving.Unlock()
	l.mu.Lock()
	raw, err := json.MarshalIndent(l.memory, "", " ")
	l.mu.Unlock()
	if err != nil {
		return err
	}
	return durable.Replace(l.config.State, raw)
}
