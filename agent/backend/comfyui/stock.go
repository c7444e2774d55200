package comfyui

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"muster/agent/backend"
)

// listing is what the models folders of a fleet hold.
type listing struct {
	catalogue
	extra []extraFolder
	cut   string // a folder that has too many files to see them all; "" for none
}

// stock is what a fleet can make images with. Nobody changes one that was published.
type stock struct {
	listing
	listed  bool    // the folders were looked at, ever
	entries []entry // of the folders, and of what the child has that answered last, which may know more folders
	models  []backend.Model
	problem error // why the folders were not seen, or not all of them; nil when they were
}

// keepLooking looks at the models folders again and again until ctx ends.
func (f *Fleet) keepLooking(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(f.limits.scan):
			f.look(ctx)
		}
	}
}

// errScan says that the models folders can't be looked at.
var errScan = errors.New("the models folders of ComfyUI do not answer: their disk or network may hang; what was seen there before is used")

// look has the models folders looked at by a goroutine, and waits for it for a while. One that does not return is waited for again the
// next time: a folder that hangs costs one goroutine, however long it does.
func (f *Fleet) look(ctx context.Context) {
	if f.scanning == nil {
		scanned := make(chan listing, 1)
		f.scanning = scanned
		go func() { scanned <- f.cfg.scan() }()
	}
	patience := time.NewTimer(f.limits.scanned)
	defer patience.Stop()
	select {
	case found := <-f.scanning:
		f.scanning = nil
		f.restock(func(s *stock) { s.listing, s.listed, s.problem = found, true, found.problem() })
	case <-patience.C:
		f.restock(func(s *stock) { s.problem = errScan })
	case <-ctx.Done():
	}
}

func (l listing) problem() error {
	if l.cut == "" {
		return nil
	}
	return fmt.Errorf("%s has more than %d files and folders, and not all models of it are seen: move what is no model elsewhere", l.cut, maxVisited)
}

// restock changes what is known of the folders, and publishes what there is now.
func (f *Fleet) restock(change func(*stock)) {
	f.stocking.Lock()
	defer f.stocking.Unlock()
	before := f.stock.Load()
	next := *before
	change(&next)
	all := f.known(next.catalogue)
	next.entries = f.entries(all, next.extra)
	next.models = nil
	for _, e := range next.entries {
		next.models = append(next.models, e.model(all))
	}
	if next.problem != nil && (before.problem == nil || before.problem.Error() != next.problem.Error()) {
		f.cfg.Log.Warn("models of ComfyUI", "problem", next.problem)
	}
	f.stock.Store(&next)
}

// known adds to what the folders have what the child said that answered last.
func (f *Fleet) known(folders catalogue) catalogue {
	told := f.catalogue.Load()
	if told == nil {
		return folders
	}
	all := catalogue{files: map[string][]string{}, samplers: told.samplers}
	for _, folder := range []string{folderCheckpoints, folderDiffusion, folderEncoders, folderVAE} {
		all.files[folder] = slices.Compact(slices.Sorted(slices.Values(slices.Concat(folders.files[folder], told.files[folder]))))
	}
	return all
}

// entries are the models of a catalogue, without muster's own folders of other files within its models folder, which are extra.
func (f *Fleet) entries(c catalogue, extra []extraFolder) []entry {
	own := catalogue{files: map[string][]string{}, samplers: c.samplers}
	maps.Copy(own.files, c.files)
	own.files[folderCheckpoints] = slices.DeleteFunc(slices.Clone(c.files[folderCheckpoints]), func(file string) bool {
		dir, _, nested := strings.Cut(filepath.ToSlash(file), "/")
		return nested && slices.ContainsFunc(extra, func(e extraFolder) bool { return e.folder == dir })
	})
	return f.cfg.entries(own)
}

// find gives one of entries by its name.
func find(entries []entry, name string) (entry, error) {
	for _, e := range entries {
		if e.name == name {
			return e, nil
		}
	}
	return entry{}, fmt.Errorf("model %q is not in ComfyUI's models folders: choose one of those listed", name)
}
