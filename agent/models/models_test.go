package models

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestList(t *testing.T) {
	t.Parallel()
	elsewhere := t.TempDir()
	write(t, filepath.Join(elsewhere, "blob"), "0123456789")
	for _, tt := range []struct {
		name  string
		build func(t *testing.T, dir string)
		want  []string // names
	}{
		{"empty folder", func(*testing.T, string) {}, nil},
		{"known formats only", func(t *testing.T, dir string) {
			for _, name := range []string{"b.safetensors", "a.gguf", "pickle.ckpt", "notes.txt", "C.SafeTensors", ".hidden.gguf", ".gguf", "safetensors"} {
				write(t, filepath.Join(dir, name), "x")
			}
		}, []string{"C", "a", "b"}},
		{"names with dots", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "v1-5.pruned.gguf"), "x") }, []string{"v1-5.pruned"}},
		{"empty files, folders and pipes are no models", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "empty.gguf"), "")
			must(t, os.Mkdir(filepath.Join(dir, "folder.gguf"), 0o700))
			must(t, os.Symlink("/dev/zero", filepath.Join(dir, "zero.gguf")))
		}, nil},
		{"sub-folders are not searched", func(t *testing.T, dir string) {
			must(t, os.Mkdir(filepath.Join(dir, "loras"), 0o700))
			write(t, filepath.Join(dir, "loras", "detail.safetensors"), "x")
		}, nil},
		{"the same stem twice", func(t *testing.T, dir string) {
			for _, name := range []string{"a.gguf", "a.safetensors", "b.gguf"} {
				write(t, filepath.Join(dir, name), "x")
			}
		}, []string{"a.gguf", "a.safetensors", "b"}},
		{"a stem that looks like another's whole name", func(t *testing.T, dir string) {
			for _, name := range []string{"a.gguf", "a.gguf.safetensors", "a.safetensors"} {
				write(t, filepath.Join(dir, name), "x")
			}
		}, []string{"a.gguf", "a.gguf 2", "a.safetensors"}},
		{"names that no job may carry", func(t *testing.T, dir string) {
			for _, name := range []string{"\xff.gguf", "new\nline.gguf", strings.Repeat("x", 220) + ".gguf"} {
				write(t, filepath.Join(dir, name), "x")
			}
		}, nil},
		{"links inside the folder", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "blob"), "x")
			must(t, os.Symlink("blob", filepath.Join(dir, "inside.gguf")))
		}, []string{"inside"}},
		{"links of the agent's own user out of the folder", func(t *testing.T, dir string) {
			must(t, os.Symlink(filepath.Join(elsewhere, "blob"), filepath.Join(dir, "outside.safetensors")))
		}, []string{"outside"}},
		{"links to nothing", func(t *testing.T, dir string) {
			must(t, os.Symlink("/nowhere/at/all", filepath.Join(dir, "dangling.gguf")))
			must(t, os.Symlink("loop.gguf", filepath.Join(dir, "loop.gguf")))
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			tt.build(t, dir)
			files, err := List(dir)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, f := range files {
				names = append(names, f.Name)
				if info, err := os.Stat(f.Path); err != nil || info.Size() != f.Bytes || filepath.Dir(f.Path) != dir {
					t.Errorf("%+v: %v", f, err)
				}
			}
			if !slices.Equal(names, tt.want) {
				t.Errorf("got %q; want %q", names, tt.want)
			}
		})
	}
}

// A link that another user put into a shared folder leads nowhere. Only root can give a link away, to try it.
func TestForeignLinkIsNotFollowed(t *testing.T) {
	t.Parallel()
	for uid, want := range map[uint32]bool{0: true, uint32(os.Geteuid()): true, uint32(os.Geteuid()) + 1: false, 1<<32 - 1: false} {
		if trusted(uid) != want {
			t.Errorf("the link of user %d: trusted %v", uid, !want)
		}
	}
	dir, target := t.TempDir(), filepath.Join(t.TempDir(), "target")
	write(t, target, "x")
	link := filepath.Join(dir, "planted.gguf")
	must(t, os.Symlink(target, link))
	if err := os.Lchown(link, 12345, 12345); err != nil {
		return // not root: the rule itself was tried above
	}
	if files, err := List(dir); err != nil || len(files) != 0 {
		t.Errorf("listed %v, %v", files, err)
	}
}

func TestFolderThatCannotBeRead(t *testing.T) {
	t.Parallel()
	if _, err := List(filepath.Join(t.TempDir(), "missing")); err == nil || !strings.Contains(err.Error(), "--models") {
		t.Errorf("got %v; want an error that says what to do", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "x")
	if _, err := List(file); err == nil {
		t.Error("a file was listed as a folder")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
