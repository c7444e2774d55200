package models

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"muster/shared/gpu"
	"muster/shared/model"
)

// The agent stops in the middle, or is killed, and the next one goes on.
func TestRestartInTheMiddle(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]int{"in order": 0, "with a tail that a power cut took": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, content := newWorld(t), sd1(4<<20)
				var mu sync.Mutex
				var ranges []string
				w.host("files.test", func(out http.ResponseWriter, r *http.Request) {
					mu.Lock()
					ranges = append(ranges, r.Header.Get("Range"))
					first := len(ranges) == 1
					mu.Unlock()
					if !first {
						serveFile(content, `"a"`)(out, r)
						return
					}
					out.Header().Set("ETag", `"a"`)
					out.Header().Set("Content-Length", fmt.Sprint(len(content)))
					out.Write(content[:3<<20])
					out.(http.Flusher).Flush()
					<-r.Context().Done()
				})
				s := newShelf(t, w)
				in := s.ask(Request{URL: fileURL})
				s.until(in.ID, func(in model.Install) bool { return in.Bytes == 3<<20 })
				s.stop()
				if lost > 0 { // what was not synced may be anything
					part := filepath.Join(s.dir, partName(in.ID))
					raw := must1(os.ReadFile(part))
					must(t, os.WriteFile(part, append(raw, make([]byte, 500)...), 0o600))
				}
				s.start()
				wantInstalled(t, s, s.ended(in.ID), "tiny.safetensors", content)
				if fmt.Sprint(ranges) != fmt.Sprintf("[ bytes=%d-]", 3<<20) {
					t.Errorf("asked for %v", ranges)
				}
			})
		})
	}
}

// A crash between the rename and the state: the next start finds the file and knows it.
func TestCrashWhileItGetsItsName(t *testing.T) {
	t.Parallel()
	content, foreign := sd1(1<<20), sd1(2<<20)
	for name, test := range map[string]struct {
		file, part []byte // nil: not there
		want       model.InstallState
		words      string
		linked     bool // the part has the file's name too
	}{
		"between the link and the part's end":  {nil, content, model.Installed, "", true},
		"after the rename":                     {content, nil, model.Installed, "", false},
		"before the rename":                    {nil, content, model.Installed, "", false},
		"a foreign file came first":            {foreign, content, model.Failed, "came into the models folder meanwhile", false},
		"a foreign file, and the part is gone": {foreign, nil, model.Failed, "came into the models folder meanwhile", false},
		"both are gone":                        {nil, nil, model.Installed, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.host("files.test", serveFile(content, `"a"`))
				s := newShelf(t, w)
				s.stop()
				const id = "0123456789abcdef"
				m := newMemory()
				m.Installs = []*record{{ID: id, FileName: "tiny.safetensors", URL: fileURL, SHA: sha(content), Total: int64(len(content)), Kept: int64(len(content)), State: model.Verifying, Placing: true}}
				must(t, os.WriteFile(s.state, must1(json.Marshal(m)), 0o600))
				must(t, os.MkdirAll(filepath.Join(s.dir, partsDir), 0o755))
				for path, bytes := range map[string][]byte{"tiny.safetensors": test.file, partName(id): test.part} {
					if bytes != nil {
						must(t, os.WriteFile(filepath.Join(s.dir, path), bytes, 0o600))
					}
				}
				if test.linked {
					must(t, os.Link(filepath.Join(s.dir, partName(id)), filepath.Join(s.dir, "tiny.safetensors")))
				}
				s.start()
				in := s.ended(id)
				if test.want == model.Installed {
					wantInstalled(t, s, in, "tiny.safetensors", content)
					return
				}
				wantFailed(t, in, test.words)
				if got := must1(os.ReadFile(filepath.Join(s.dir, "tiny.safetensors"))); sha(got) != sha(foreign) {
					t.Error("the foreign file was replaced")
				}
			})
		})
	}
}

// A file of that name that somebody puts there while it is downloaded stays as it is.
func TestNeverOverwrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, content, theirs := newWorld(t), sd1(1<<20), []byte("theirs")
		var s *shelf
		w.host("files.test", func(out http.ResponseWriter, r *http.Request) {
			must(t, os.WriteFile(filepath.Join(s.dir, "tiny.safetensors"), theirs, 0o600))
			serveFile(content, `"a"`)(out, r)
		})
		s = newShelf(t, w)
		wantFailed(t, s.ended(s.ask(Request{URL: fileURL}).ID), "not replaced")
		if got := must1(os.ReadFile(filepath.Join(s.dir, "tiny.safetensors"))); string(got) != "theirs" {
			t.Error("it was")
		}
	})
}

// However a file system lets a file get its name, one that is there is not replaced.
func TestNoWayToANameReplaces(t *testing.T) {
	t.Parallel()
	for name, give := range map[string]func(*os.Root, string, string) error{"rename": giveName, "link": linkName, "claim": claimName} {
		dir := t.TempDir()
		root := must1(os.OpenRoot(dir))
		defer root.Close()
		must(t, root.Mkdir(partsDir, 0o755))
		part := partName("0123456789abcdef")
		write(t, filepath.Join(dir, part), "ours")
		write(t, filepath.Join(dir, "theirs.gguf"), "theirs")
		if err := give(root, part, "theirs.gguf"); !errors.Is(err, os.ErrExist) {
			t.Errorf("%s: %v", name, err)
		}
		if got := must1(root.ReadFile("theirs.gguf")); string(got) != "theirs" {
			t.Errorf("%s: replaced by %q", name, got)
		}
		if err := give(root, part, "ours.gguf"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := root.ReadFile("ours.gguf"); err != nil || string(got) != "ours" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if _, err := root.Lstat(part); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the part is left: %v", name, err)
		}
		if err := give(root, part, "nothing.gguf"); err == nil {
			t.Errorf("%s: of nothing", name)
		}
		if _, err := root.Lstat("nothing.gguf"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a name of nothing is left: %v", name, err)
		}
	}
}

func TestLoadAfterInstalling(t *testing.T) {
	t.Parallel()
	content := sd1(1 << 20)
	for name, test := range map[string]struct {
		load func(context.Context, string, gpu.Ref) error
		want string
	}{
		"loaded":       {func(context.Context, string, gpu.Ref) error { return nil }, ""},
		"no room":      {func(context.Context, string, gpu.Ref) error { return errors.New("no room on the device") }, "it is installed, but was not loaded on Device 1: no room on the device"},
		"nobody loads": {nil, "no generator of this agent can load"},
		"it hangs":     {func(ctx context.Context, _ string, _ gpu.Ref) error { <-ctx.Done(); return ctx.Err() }, "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.host("files.test", serveFile(content, `"a"`))
				var s *shelf
				loading := false
				s = newShelf(t, w, func(c *Config) {
					if test.load != nil {
						c.Load = func(ctx context.Context, name string, on gpu.Ref) error {
							in := s.Library.Library().Installs[0]
							loading = name == "tiny" && on == 1 && in.State == model.Loading && len(s.Usable()) == 1
							return test.load(ctx, name, on)
						}
					}
				})
				in := s.ended(s.ask(Request{URL: fileURL, Device: device(1)}).ID)
				if in.State != model.Installed || (test.want == "") != (in.Error == "") || !strings.Contains(in.Error, test.want) || loading != (test.load != nil) {
					t.Errorf("%+v, asked while loading and usable: %v", in, loading)
				}
			})
		})
	}
}
