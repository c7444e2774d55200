package models

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"muster/shared/model"

	"golang.org/x/sys/unix"
)

// seenFile is a file of the folder with what its header says.
type seenFile struct {
	File
	inspection
}

// same says whether a file is as it was when it was inspected.
func (f File) same(other File) bool {
	return f.Path == other.Path && f.Bytes == other.Bytes && f.Modified.Equal(other.Modified)
}

// model is the file as people and programs see it.
func (f *seenFile) model(m *memory) model.Model {
	out := model.Model{
		Name: f.Name, Title: f.Name, Family: f.family, Format: formatOf(f.fileName()), Bytes: f.Bytes,
		Disabled: m.Disabled[f.fileName()], Partial: f.partial, Part: partOf(f), Scaled: f.scaled,
	}
	if problem := f.fault(); problem != "" {
		out.Problem = "the file " + problem
	}
	if f.weights > 0 {
		out.VRAMBytes = model.EstimateVRAM(f.family, f.weights)
	}
	if from, ok := m.Installed[f.fileName()]; ok && from.Bytes == f.Bytes && from.Modified.Equal(f.Modified) {
		out.SHA256 = from.SHA256
	}
	return out
}

// fault is why the file can't be used, as "the file" would continue; "" when nothing is known against it.
func (f *seenFile) fault() string {
	switch {
	case f.problem != "":
		return f.problem
	case f.isShard():
		return "is a piece of one that was published in several, and generators open a single one: look for it in one piece"
	case f.part != model.NoPart && partOf(f) == model.NoPart:
		return "is a VAE, one part of models that generators here load from a folder of their own"
	}
	return ""
}

// modelWith is the same, with what completes it among the parts that are there.
func (f *seenFile) modelWith(m *memory, parts []seenFile) (model.Model, []PartFile) {
	out := f.model(m)
	if !f.partial {
		return out, nil
	}
	files, missing := complete(&f.inspection, parts)
	out.Missing = missing
	for _, file := range files {
		out.With = append(out.With, stem(filepath.Base(file.Path)))
		if file.Part.VAE() && out.VRAMBytes > 0 {
			out.VRAMBytes += uint64(max(0, file.Bytes)) // text encoders can stay in the machine's memory
		}
	}
	if len(missing) > 0 {
		return out, nil
	}
	return out, files
}

// scanned is what one look at the folder found.
type scanned struct {
	files   []seenFile
	parts   []seenFile // of the folders beside the models
	free    *uint64
	problem string
}

// scan looks at the folder, for as long as the limits say. A look that does not return is left alone, and no second one is begun
// beside it: its folder is on a disk that hangs.
func (l *Library) scan(ctx context.Context) {
	l.looking.Lock()
	defer l.looking.Unlock()
	if l.scanning == nil {
		l.mu.Lock()
		known := slices.Concat(l.files, l.parts)
		l.mu.Unlock()
		done := make(chan scanned, 1)
		go func() { done <- l.lookAt(known) }()
		l.scanning = done
	}
	patience := time.NewTimer(l.limits.patience)
	defer patience.Stop()
	select {
	case found := <-l.scanning:
		l.scanning = nil
		l.mu.Lock()
		l.files, l.parts, l.free, l.problems.dir = found.files, found.parts, found.free, found.problem
		l.mu.Unlock()
	case <-patience.C:
		l.mu.Lock()
		l.problems.dir = fmt.Sprintf("the models folder %s does not answer: check the disk that it is on", l.config.Dir)
		l.mu.Unlock()
	case <-ctx.Done():
		return
	}
	l.reckon()
}

// lookAt lists the folder and inspects what is new in it or was changed.
func (l *Library) lookAt(known []seenFile) (found scanned) {
	files, err := List(l.config.Dir)
	if err != nil {
		found.problem = err.Error()
		return found
	}
	found.files, found.parts = inspectAll(files, known), inspectAll(listParts(l.config.Dir), known)
	if free, _, err := l.config.Free(l.config.Dir); err == nil {
		found.free = new(free / freeStep * freeStep)
	}
	return found
}

// inspectAll inspects what is not known yet as it is.
func inspectAll(files []File, known []seenFile) (seen []seenFile) {
	for _, file := range files {
		at := slices.IndexFunc(known, func(k seenFile) bool { return k.same(file) })
		if at >= 0 {
			seen = append(seen, seenFile{file, known[at].inspection})
			continue
		}
		seen = append(seen, seenFile{file, inspectFile(file)})
	}
	return seen
}

// freeStep is how exactly the free space is told, so that it does not change all the time.
const freeStep = 100_000_000

// inspectFile inspects a file of the list. One that can't be read says so as its problem.
func inspectFile(file File) inspection {
	opened, err := os.OpenFile(file.Path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe that took the file's place must not block
	if err != nil {
		return inspection{problem: "can't be read: " + reason(err)}
	}
	defer opened.Close()
	info, err := opened.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		return inspection{problem: "can't be read: " + reason(err)}
	}
	found, err := inspect(opened, info.Size(), formatOf(file.fileName()))
	if err != nil {
		return inspection{problem: "can't be read: " + reason(err)}
	}
	return found
}

// reason leaves the path out of an error of the file system.
func reason(err error) string {
	var of *os.PathError
	if errors.As(err, &of) {
		return of.Err.Error()
	}
	return err.Error()
}

// Look lists the models of a folder that generators can use, as Library.Usable does, for who has no library. It takes as long as the
// disk takes.
func Look(dir string) ([]Model, error) {
	files, err := List(dir)
	if err != nil {
		return nil, err
	}
	none := newMemory()
	usable, _ := usableOf(inspectAll(files, nil), inspectAll(listParts(dir), nil), &none)
	return usable, nil
}
