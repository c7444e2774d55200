package models

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"muster/shared/gpu"
	"muster/shared/model"
)

// names gives the models that can be used.
func (s *shelf) names() string {
	var names []string
	for _, m := range s.Usable() {
		names = append(names, m.Name)
	}
	return strings.Join(names, " ")
}

func TestEnableDisableRemove(t *testing.T) {
	t.Parallel()
	var changed atomic.Int32
	held := map[string][]gpu.Ref{"b": {0, 2}}
	s := newShelf(t, nil, func(c *Config) {
		c.Changed = func() { changed.Add(1) }
		c.Loaded = func(name string) []gpu.Ref { return held[name] }
	})
	s.stop()
	for _, name := range []string{"a", "b", "c"} {
		write(t, filepath.Join(s.dir, name+".safetensors"), string(sd1(10)))
	}
	must(t, os.Symlink("a.safetensors", filepath.Join(s.dir, "link.safetensors")))
	s.scan(t.Context())
	before := changed.Load()
	must(t, s.Enable(t.Context(), "a", false))
	must(t, s.Enable(t.Context(), "a", false))
	if got := s.names(); got != "b c link" || changed.Load() != before+1 {
		t.Errorf("usable are %s, told %d times", got, changed.Load()-before)
	}
	if err := s.Enable(t.Context(), "../a", true); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if err := s.Remove(t.Context(), "b"); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "it is loaded on Device 0, Device 2") || !strings.Contains(err.Error(), "muster devices drain 0 2") {
		t.Errorf("one that is loaded: %v", err)
	}
	if err := s.Remove(t.Context(), "link"); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "is a link") {
		t.Errorf("a link: %v", err)
	}
	for _, name := range []string{"../models.json", "c.safetensors", "", "nothing", "/etc/passwd"} {
		if err := s.Remove(t.Context(), name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	must(t, s.Remove(t.Context(), "c"))
	if _, err := os.Stat(filepath.Join(s.dir, "c.safetensors")); !errors.Is(err, os.ErrNotExist) || s.names() != "b link" {
		t.Errorf("%v; usable are %s", err, s.names())
	}
	s.start()
	if got := s.names(); got != "b link" {
		t.Errorf("after a restart usable are %s: what was disabled stays so", got)
	}
	must(t, s.Enable(t.Context(), "a", true))
	if got := s.names(); got != "a b link" {
		t.Error(got)
	}
}

// What is remembered can't be read: it is put aside, and said.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"garbage": "garbage", "half": `{"version":1,"disabled":{"a.safet`, "empty": "", "of the future": `{"version":99}`, "an array": `[]`,
		"huge": `{"version":1,"disabled":{"` + strings.Repeat("x", maxMemoryBytes) + `":true}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t, nil)
			s.stop()
			write(t, s.state, content)
			s.start()
			if got := s.Library.Library(); !strings.Contains(got.Problem, "models.json.damaged-") {
				t.Errorf("%+v", got)
			}
			aside, _ := filepath.Glob(s.state + ".damaged-*")
			if len(aside) != 1 {
				t.Fatalf("put aside: %v", aside)
			}
			if kept := must1(os.ReadFile(aside[0])); string(kept) != content {
				t.Error("what was put aside is not what was there")
			}
			s.ask(Request{URL: "https://127.0.0.1/a.gguf"})
			if !json.Valid(must1(os.ReadFile(s.state))) {
				t.Error("the new state is no JSON")
			}
		})
	}
}

// Records that nobody could have made lead nowhere.
func TestStateWithPathsIsNotFollowed(t *testing.T) {
	t.Parallel()
	s := newShelf(t, nil)
	s.stop()
	write(t, s.state, `{"version":1,"installs":[null,{"id":"../../x","file_name":"a.gguf","state":"waiting"},{"id":"0123456789abcdef","file_name":"../a.gguf","state":"waiting"}]}`)
	s.start()
	if got := s.Library.Library(); len(got.Installs) != 0 || got.Problem != "" {
		t.Errorf("%+v", got)
	}
}

func TestStateThatCanNotBeWritten(t *testing.T) {
	t.Parallel()
	s := newShelf(t, nil)
	s.stop()
	write(t, filepath.Join(s.dir, "a.safetensors"), string(sd1(10)))
	s.scan(t.Context())
	must(t, os.Mkdir(s.state+".tmp", 0o700)) // root writes everywhere but there
	if _, err := s.Install(t.Context(), Request{URL: "https://files.test/b.gguf"}); !errors.Is(err, ErrDisk) {
		t.Errorf("installing: %v", err)
	}
	if got := s.Library.Library().Installs; len(got) != 0 {
		t.Errorf("what was refused is there: %+v", got)
	}
	if err := s.Enable(t.Context(), "a", false); !errors.Is(err, ErrDisk) {
		t.Errorf("disabling: %v", err)
	}
}

// Installations that ended are shown for a day; then the part of one that failed goes too. So do parts of which nothing is known.
func TestOldInstallationsGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, content := newWorld(t), sd1(3<<20)
		w.host("files.test", func(out http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				out.WriteHeader(403)
				return
			}
			out.Header().Set("ETag", `"a"`)
			out.Header().Set("Content-Length", "9000000")
			_, _ = out.Write(content)
		})
		s := newShelf(t, w)
		in := s.ended(s.ask(Request{URL: fileURL}).ID)
		wantFailed(t, in, "403")
		if got := s.parts(); len(got) != 1 {
			t.Errorf("the part is kept for a while: %v", got)
		}
		s.stop()
		write(t, filepath.Join(s.dir, partsDir, "ffffffffffffffff.part"), "left over")
		s.start()
		synctest.Wait()
		if got := s.parts(); len(got) != 1 || got[0] != in.ID+".part" {
			t.Errorf("after a restart: %v", got)
		}
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		if got, left := s.Library.Library().Installs, s.parts(); len(got) != 0 || len(left) != 0 {
			t.Errorf("a day later: %+v, %v", got, left)
		}
	})
}

// A folder on a disk that hangs costs a few seconds at the start, and one goroutine.
// One that is dropped because there are too many takes its part along.
func TestPartsOfDroppedInstallationsGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host("files.test", serveFile(sd1(1<<20), `"a"`))
		s := newShelf(t, w)
		s.stop()
		m, part := newMemory(), filepath.Join(s.dir, partsDir)
		must(t, os.MkdirAll(part, 0o755))
		for i := range maxRecords { // newest first
			id := fmt.Sprintf("%016x", i)
			m.Installs = append(m.Installs, &record{ID: id, FileName: fmt.Sprintf("x%d.safetensors", i), URL: fmt.Sprint(fileURL, "?", i), Kept: 4, State: model.Failed, Ended: time.Now()})
			write(t, filepath.Join(part, id+".part"), "part")
		}
		must(t, os.WriteFile(s.state, must1(json.Marshal(m)), 0o600))
		s.start()
		synctest.Wait()
		if got := s.parts(); len(got) != maxRecords {
			t.Fatalf("%d parts are kept of what failed", len(got))
		}
		s.ended(s.ask(Request{URL: fileURL}).ID)
		if got := s.parts(); len(got) != maxRecords-1 || slices.Contains(got, fmt.Sprintf("%016x.part", maxRecords-1)) {
			t.Errorf("%d parts are left: %v", len(got), got)
		}
	})
}

func TestFolderThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release, looks := make(chan struct{}), atomic.Int32{}
		began := time.Now()
		s := newShelf(t, nil, func(c *Config) {
			c.Free = func(string) (uint64, uint64, error) {
				looks.Add(1)
				<-release
				return 1 << 40, 1 << 41, nil
			}
		})
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("the start took %s", took)
		}
		time.Sleep(time.Minute)
		if got := s.Library.Library(); !strings.Contains(got.Problem, "does not answer") || looks.Load() != 1 {
			t.Errorf("%+v after %d looks", got, looks.Load())
		}
		close(release)
		time.Sleep(10 * time.Second)
		if got := s.Library.Library(); got.Problem != "" {
			t.Errorf("%+v", got)
		}
	})
}

// Run ends although a generator does not.
func TestRunEndsWithoutTheGenerator(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host("files.test", serveFile(sd1(10), `"a"`))
		release, loading := make(chan struct{}), make(chan struct{})
		s := newShelf(t, w, func(c *Config) {
			c.Load = func(context.Context, string, gpu.Ref) error { close(loading); <-release; return nil }
		})
		in := s.ask(Request{URL: fileURL, Device: device(0)})
		<-loading
		began := time.Now()
		s.stop()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %s", took)
		}
		close(release)
		s.config.Load = func(context.Context, string, gpu.Ref) error { return nil }
		s.start()
		if got := s.ended(in.ID); got.State != model.Installed || got.Error != "" {
			t.Errorf("after the restart it is loaded again: %+v", got)
		}
	})
}
