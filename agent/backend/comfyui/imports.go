package comfyui

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"muster/shared/job"
	"muster/shared/wire"
)

// ErrWorkflow is wrapped by the errors of Import and Remove that are of the workflow or its name: their words are for people.
var ErrWorkflow = errors.New("the workflow can't be used")

// maxWorkflows bounds how many files of a folder are read.
const maxWorkflows = 200

// Workflows are the workflows that the administrator imported: a folder of NAME.json files in API format. Each is a model of that
// name on every ComfyUI. The folder is looked at again when it is asked for, so a file can be put there, changed or taken away at any
// time. A nil *Workflows has none.
type Workflows struct {
	dir string
	log *slog.Logger

	mu     sync.Mutex
	looked time.Time
	files  map[string]workflowFile // by name
}

// workflowFile is a file of the folder as it was read.
type workflowFile struct {
	size     int64
	modified time.Time
	workflow *Workflow // nil with an error
	err      error
}

// OpenWorkflows gives the workflows of a folder, which need not be there yet.
func OpenWorkflows(dir string, log *slog.Logger) *Workflows {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Workflows{dir: dir, log: log, files: map[string]workflowFile{}}
}

// All gives the workflows that can be used, by name. Nobody changes them.
func (w *Workflows) All() map[string]*Workflow {
	found := map[string]*Workflow{}
	for name, f := range w.look() {
		if f.workflow != nil {
			found[name] = f.workflow
		}
	}
	return found
}

// Problems says of the files that can't be used why not, in words for people, by name.
func (w *Workflows) Problems() map[string]error {
	found := map[string]error{}
	for name, f := range w.look() {
		if f.err != nil {
			found[name] = f.err
		}
	}
	return found
}

// List tells of every file of the folder in words for people, by name.
func (w *Workflows) List() []wire.Workflow {
	list := []wire.Workflow{}
	for name, f := range w.look() {
		one := wire.Workflow{Name: name, Slots: []string{}}
		if f.err != nil {
			one.Problem = f.err.Error()
		} else {
			one.Slots = f.workflow.Slots()
		}
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b wire.Workflow) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// lookEvery is how often the folder is looked at.
const lookEvery = time.Second

// look reads what has changed in the folder.
func (w *Workflows) look() map[string]workflowFile {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.looked) < lookEvery {
		return w.files
	}
	w.looked = time.Now()
	root, err := os.OpenRoot(w.dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) && len(w.files) > 0 {
			w.log.Warn("the folder of workflows can't be read", "error", err)
		}
		w.files = map[string]workflowFile{}
		return w.files
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		w.log.Warn("the folder of workflows can't be read", "error", err)
		return w.files
	}
	found := map[string]workflowFile{}
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), ".json")
		if !ok || strings.HasPrefix(name, ".") || len(found) == maxWorkflows {
			continue
		}
		found[name] = w.read(root, name)
	}
	w.files = found
	return maps.Clone(found)
}

// read reads a file, unless it is as it was before.
func (w *Workflows) read(root *os.Root, name string) workflowFile {
	info, err := root.Stat(name + ".json")
	if err != nil {
		return workflowFile{err: fmt.Errorf("read workflow %s: %w", name, err)}
	}
	before, known := w.files[name]
	if known && before.size == info.Size() && before.modified.Equal(info.ModTime()) {
		return before
	}
	f := workflowFile{size: info.Size(), modified: info.ModTime()}
	if f.err = checkName(name); f.err == nil {
		f.workflow, f.err = readWorkflow(root, name)
	}
	if f.err != nil {
		w.log.Warn("a workflow can't be used", "workflow", name, "error", f.err)
	}
	return f
}

func readWorkflow(root *os.Root, name string) (*Workflow, error) {
	file, err := root.Open(name + ".json")
	if err != nil {
		return nil, fmt.Errorf("read workflow: %w", err)
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("it is no file")
	}
	text, err := io.ReadAll(io.LimitReader(file, maxWorkflow+1))
	if err != nil {
		return nil, fmt.Errorf("read workflow: %w", err)
	}
	return ParseWorkflow(text)
}

// checkName says whether a workflow may be called so.
func checkName(name string) error {
	switch {
	case name == "" || strings.HasPrefix(name, ".") || strings.ContainsAny(name, `/\`) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }):
		return fmt.Errorf("%q is no name for a workflow: want letters, digits and spaces", shorten(name))
	case len(name) > job.MaxNameBytes || !utf8.ValidString(name):
		return fmt.Errorf("a workflow's name has at most %d bytes of text", job.MaxNameBytes)
	}
	return nil
}

// Import checks a workflow and puts it into the folder under a name; one of that name stays, unless replace says that it goes. Its error
// wraps ErrWorkflow, or fs.ErrExist when there is one, or says why it can't be written.
func (w *Workflows) Import(name string, text []byte, replace bool) (*Workflow, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWorkflow, err)
	}
	workflow, err := ParseWorkflow(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWorkflow, err)
	}
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of workflows: %w", err)
	}
	root, err := os.OpenRoot(w.dir)
	if err != nil {
		return nil, fmt.Errorf("open the folder of workflows: %w", err)
	}
	defer root.Close()
	part := "." + name + ".json.part"
	if len(part) > 255 {
		part = ".import.part"
	}
	if err := root.WriteFile(part, text, 0o600); err != nil {
		return nil, fmt.Errorf("write workflow %s: %w", name, err)
	}
	put := root.Rename
	if !replace {
		defer root.Remove(part)
		put = func(part, name string) error { return linkNew(root, part, name) }
	}
	if err := put(part, name+".json"); err != nil {
		return nil, fmt.Errorf("write workflow %s: %w", name, err)
	}
	w.forget()
	return workflow, nil
}

// linkNew gives a file a further name, and fails with fs.ErrExist when that is taken. Where the file system knows no links, it is renamed
// after a look.
func linkNew(root *os.Root, from, to string) error {
	err := root.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	if _, err := root.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return cmp.Or(err, fs.ErrExist)
	}
	return root.Rename(from, to)
}

// Remove takes a workflow out of the folder. Its error wraps ErrWorkflow for a name that can't be one, fs.ErrNotExist when there is
// none.
func (w *Workflows) Remove(name string) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("%w: %w", ErrWorkflow, err)
	}
	root, err := os.OpenRoot(w.dir)
	if err != nil {
		return fmt.Errorf("open the folder of workflows: %w", err)
	}
	defer root.Close()
	if err := root.Remove(name + ".json"); err != nil {
		return fmt.Errorf("remove workflow %s: %w", name, err)
	}
	w.forget()
	return nil
}

// forget has the folder looked at the next time it is asked for.
func (w *Workflows) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looked = time.Time{}
}

// Dir is the folder, for people.
func (w *Workflows) Dir() string { return filepath.Clean(w.dir) }
