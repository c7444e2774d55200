package models

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"muster/shared/gpu"
)

// find gives the file of a model.
func (l *Library) find(name string) (seenFile, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		if f.Name == name {
			return f, nil
		}
	}
	return seenFile{}, fmt.Errorf("%w: %q is not in the models folder", ErrNotFound, cut(name))
}

// Enable lets a model be generated with, or keeps it from that. When it returns nil, the decision is durable. Errors: ErrNotFound,
// ErrDisk, the context's.
func (l *Library) Enable(ctx context.Context, name string, enabled bool) error {
	file, err := l.find(name)
	if err != nil {
		return err
	}
	l.mu.Lock()
	if enabled {
		delete(l.memory.Disabled, file.fileName())
	} else {
		l.memory.Disabled[file.fileName()] = true
	}
	l.mu.Unlock()
	l.reckon()
	return l.keep(ctx)
}

// Remove deletes a model's file for good. Errors: ErrNotFound, ErrBusy while a device holds it or a model that it is a part of, or while
// it is no file of the folder's own, ErrDisk, the context's.
func (l *Library) Remove(ctx context.Context, name string) error {
	file, err := l.find(name)
	if err != nil {
		return err
	}
	if err := l.unheld(file); err != nil {
		return err
	}
	if err := within(ctx, func() error { return removeFrom(l.config.Dir, file.fileName()) }); err != nil {
		return err
	}
	l.mu.Lock()
	l.files = slices.DeleteFunc(slices.Clone(l.files), func(f seenFile) bool { return f.fileName() == file.fileName() })
	delete(l.memory.Disabled, file.fileName())
	delete(l.memory.Installed, file.fileName())
	l.mu.Unlock()
	l.reckon()
	wakeUp(l.look)
	return l.keep(ctx)
}

// unheld gives an error while a device holds a file: as a model, or as a part of one.
func (l *Library) unheld(file seenFile) error {
	if l.config.Loaded == nil {
		return nil
	}
	if held := l.config.Loaded(file.Name); len(held) > 0 {
		return fmt.Errorf("%w: it is loaded on %s; unload it first: muster devices drain %s, and muster devices resume %s afterwards", ErrBusy, labels(held), numbers(held), numbers(held))
	}
	for _, m := range l.Usable() {
		if !slices.ContainsFunc(m.Parts, func(p PartFile) bool { return p.Path == file.Path }) {
			continue
		}
		if held := l.config.Loaded(m.Name); len(held) > 0 {
			return fmt.Errorf("%w: %s, which is loaded on %s, needs it; unload that first: muster devices drain %s, and muster devices resume %s afterwards", ErrBusy, m.Name, labels(held), numbers(held), numbers(held))
		}
	}
	return nil
}

// removeFrom deletes a regular file that lies directly in dir. Links are left to who made them: what they lead to is not ours.
func removeFrom(dir, fileName string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDisk, err)
	}
	defer root.Close()
	info, err := root.Lstat(fileName)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is a link, and what it leads to is not muster's to delete: remove the link by hand, or disable the model", ErrBusy, fileName)
	}
	if err == nil {
		err = root.Remove(fileName)
	}
	if err == nil {
		err = syncFolder(root, ".")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDisk, err)
	}
	return nil
}

func labels(devices []gpu.Ref) string {
	var names []string
	for _, d := range devices {
		names = append(names, d.Label())
	}
	return strings.Join(names, ", ")
}

func numbers(devices []gpu.Ref) string {
	var names []string
	for _, d := range devices {
		names = append(names, d.String())
	}
	return strings.Join(names, " ")
}
