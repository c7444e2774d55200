package comfyui

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// holdable is a scan that hangs while it is held.
type holdable struct {
	begun atomic.Int64
	hold  atomic.Pointer[chan struct{}] // nil does not
	names atomic.Pointer[[]string]
}

func (h *holdable) scan() listing {
	h.begun.Add(1)
	if hold := h.hold.Load(); hold != nil {
		<-*hold
	}
	return listing{catalogue: catalogue{files: map[string][]string{folderCheckpoints: *h.names.Load()}}}
}

// A models folder that hangs, as one on a network does, keeps nobody: what was seen before is used, people are told, one goroutine
// waits, and Run ends.
func TestModelsFolderThatHangs(t *testing.T) {
	t.Parallel()
	l := quick()
	l.scan, l.scanned = 10*time.Millisecond, 50*time.Millisecond
	for name, before := range map[string]bool{"from the beginning": false, "later": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			held, scans := make(chan struct{}), &holdable{}
			scans.names.Store(&[]string{"model.safetensors"})
			if !before {
				scans.hold.Store(&held)
			}
			b := newFleetBench(t, fleetSetup{limits: l, change: func(c *Config) { c.scan = scans.scan }}) // its cleanup sees Run end
			scans.hold.Store(&held)
			await(t, "words on it", func() bool {
				return strings.Contains(b.Generators(b.devices)[0].Problem, "models folders of ComfyUI do not answer")
			})
			if got := len(b.Models()); got != map[bool]int{true: 1}[before] {
				t.Errorf("%d models", got)
			}
			if err := b.Serves(b.devices[0]); (err == nil) != before {
				t.Errorf("it serves with what it knows: %v", err)
			}
			if before {
				if err := b.make(t, request("model"), nil); err != nil {
					t.Error(err)
				}
			}
			begun, since := scans.begun.Load(), time.Now()
			await(t, "a second look's patience", func() bool { return time.Since(since) > 10*l.scanned })
			if more := scans.begun.Load() - begun; more != 0 {
				t.Errorf("%d more scans began while one hung", more)
			}
			scans.names.Store(&[]string{"model.safetensors", "other.safetensors"})
			if name == "later" {
				return // it hangs for ever: Run ends all the same
			}
			scans.hold.Store(nil)
			close(held)
			await(t, "both models", func() bool { return len(b.Models()) == 2 && b.Generators(b.devices)[0].Problem == "" })
		})
	}
}

// A folder of very many files costs a bounded look, and people are told what it leaves out.
func TestFolderOfTooManyFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		for _, name := range []string{fmt.Sprintf("sub/m%02d.safetensors", i), fmt.Sprintf("%02d.txt", i)} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for visits, want := range map[int]int{61: 30, 60: 29, 41: 10, 5: 0} { // 30 texts, the folder sub, 30 models
		if files, all := listFiles(dir, visits); len(files) != want || all != (visits == 61) {
			t.Errorf("%d visits: %d files, all %v; want %d", visits, len(files), all, want)
		}
	}
	scans := func() listing { return listing{catalogue: catalogue{}, cut: "/models/checkpoints"} }
	b := newFleetBench(t, fleetSetup{change: func(c *Config) { c.scan = scans }})
	if g := b.Generators(b.devices)[0]; !strings.Contains(g.Problem, "/models/checkpoints has more than 50000 files") {
		t.Errorf("%+v", g)
	}
	if err := b.Serves(b.devices[0]); err != nil {
		t.Errorf("what is seen is used: %v", err)
	}
}

// What there is costs next to nothing to ask for: the scheduler does, often.
func BenchmarkModels(b *testing.B) {
	files := make([]string, 1000)
	for i := range files {
		files[i] = fmt.Sprintf("model-%03d.safetensors", i)
	}
	f := &Fleet{}
	f.stock.Store(&stock{})
	f.restock(func(s *stock) { s.files = map[string][]string{folderCheckpoints: files} })
	b.ReportAllocs()
	for b.Loop() {
		if len(f.Models()) != len(files) {
			b.Fatal("models are missing")
		}
	}
}

// ComfyUI's own folder that hangs keeps nobody either: the agent starts, people are told, one goroutine waits, and it is used when it is
// there.
func TestComfyUIFolderThatHangs(t *testing.T) {
	t.Parallel()
	l := quick()
	l.scanned = 50 * time.Millisecond
	held, begun := make(chan struct{}), atomic.Int32{}
	b := newFleetBench(t, fleetSetup{limits: l, change: func(c *Config) {
		folder := &Fleet{cfg: *c}
		c.examine = func() premises {
			begun.Add(1)
			<-held
			return folder.examine()
		}
	}})
	if err := b.Serves(b.devices[0]); err == nil || !strings.Contains(err.Error(), "does not answer: its disk or network may hang") {
		t.Errorf("it serves: %v", err)
	}
	if problem := b.Generators(b.devices)[0].Problem; !strings.Contains(problem, "the folder of ComfyUI") {
		t.Errorf("people are told %q", problem)
	}
	if n := begun.Load(); n != 1 {
		t.Errorf("%d looks", n)
	}
	close(held)
	await(t, "ComfyUI is found", func() bool { return b.Serves(b.devices[0]) == nil })
	if i := b.install.Load(); i.python == "" || len(i.flags) == 0 || begun.Load() != 1 {
		t.Errorf("%+v after %d looks", i, begun.Load())
	}
}

// What is wrong with the folder ends the agent's start, with what to do.
func TestFolderWithoutComfyUI(t *testing.T) {
	t.Parallel()
	for folder, words := range map[string]string{t.TempDir(): "there is no main.py", "/dev/null": "there is no main.py"} {
		if _, err := NewFleet(Config{Folder: folder, Dir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", folder, err)
		}
	}
}
