// Package models is the library of model files of one folder: it lists and inspects them by their headers, installs further ones
// from the web, and enables, disables and removes them. It is a leaf and knows no generator: who generates asks it for the models
// that can be used.
//
// Files that others made are only ever read in bounds, and names are never paths: everything that is written or removed goes
// through os.Root. Downloads are the administrator's: https only, and never from an address of a private network (address.go).
package models

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"muster/shared/job"
)

// File is one model file.
type File struct {
	// Name is the file's name without extension, unique in its list and never a path. Of two files that differ only by
	// their extension both keep it: "sdxl.gguf" and "sdxl.safetensors".
	Name string
	// Path is where a generator opens it: the listed folder joined with the file's own name, links not resolved.
	Path     string
	Bytes    int64     // size of the file, links resolved
	Modified time.Time // of the file, links resolved
}

// fileName is the file's own name in the folder.
func (f File) fileName() string { return filepath.Base(f.Path) }

// maxFiles bounds a list; a folder that holds more is none of models.
const maxFiles = 2000

// extensions are the formats that can't carry code. Pickled ones (.ckpt, .pt) are never listed.
var extensions = []string{".safetensors", ".gguf"}

// List gives the model files that lie directly in dir, in order of their names. Sub-folders are not searched: they hold LoRAs,
// VAEs and upscalers in the usual layouts. Hidden, empty and irregular files are left out, and so are names that no job may
// carry (see job.MaxNameBytes).
//
// Model folders are often farms of links. A link that stays inside dir is followed. One that leaves dir is followed only when
// the link itself belongs to this process's user or to root: then whoever owns the agent put it there. In a folder that others
// may write to, nobody else can so make the agent open a file of their choosing.
func List(dir string) ([]File, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("models folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("models folder %s can't be opened: %w: create it, or name another with --models", dir, err)
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("models folder %s can't be read: %w", dir, err)
	}
	var files []File
	for _, entry := range entries {
		if !listed(entry.Name()) {
			continue
		}
		info, err := stat(root, dir, entry)
		if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
			continue // dangling, foreign or no file: nothing that could be generated with
		}
		files = append(files, File{Name: stem(entry.Name()), Path: filepath.Join(dir, entry.Name()), Bytes: info.Size(), Modified: info.ModTime()})
		if len(files) == maxFiles {
			break
		}
	}
	disambiguate(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return files, nil
}

// listed says whether a file of that name may be a model whose name a job can carry.
func listed(name string) bool {
	return !strings.HasPrefix(name, ".") && len(name) <= job.MaxNameBytes && utf8.ValidString(name) &&
		!strings.ContainsFunc(name, unicode.IsControl) && stem(name) != name
}

// stem cuts one of the known extensions, in any case; a name without one comes back whole.
func stem(name string) string {
	for _, ext := range extensions {
		if cut := len(name) - len(ext); cut > 0 && strings.EqualFold(name[cut:], ext) {
			return name[:cut]
		}
	}
	return name
}

// stat describes what the entry leads to, or says why it must not be followed.
func stat(root *os.Root, dir string, entry fs.DirEntry) (fs.FileInfo, error) {
	info, err := root.Stat(entry.Name())
	if err == nil || entry.Type()&fs.ModeSymlink == 0 {
		return info, err
	}
	link, err := root.Lstat(entry.Name())
	if err != nil {
		return nil, err
	}
	owner, ok := link.Sys().(*syscall.Stat_t)
	if !ok || !trusted(owner.Uid) {
		return nil, errors.New("the link leaves the folder and belongs to another user")
	}
	return os.Stat(filepath.Join(dir, entry.Name()))
}

func trusted(uid uint32) bool { return uid == 0 || int64(uid) == int64(os.Geteuid()) }

// disambiguate gives every file whose stem occurs twice its whole file name: both of them, so that adding a second file never
// makes an old name mean another model.
func disambiguate(files []File) {
	count := map[string]int{}
	for _, f := range files {
		count[f.Name]++
	}
	taken := map[string]bool{}
	for i := range files {
		if count[files[i].Name] > 1 {
			files[i].Name = filepath.Base(files[i].Path)
		}
		// "a.gguf.safetensors" beside "a.gguf" and "a.safetensors"
		for base, n := files[i].Name, 2; taken[files[i].Name]; n++ {
			files[i].Name = base + " " + strconv.Itoa(n)
		}
		taken[files[i].Name] = true
	}
}
