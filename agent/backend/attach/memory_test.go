package attach

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/sampler"
	"muster/shared/wire"
)

// journal is a log that a test reads.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (j *journal) log() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

// remembering is a machine whose servers are remembered in a file, as after a start of the agent. end stops it, as the agent's end does.
func remembering(t *testing.T, path string, inventory gpu.Inventory) (m *Machine, end func()) {
	m = seeing(inventory)
	m.Memory = Remember(path, nil)
	return m, keeping(t, m.Memory)
}

func keeping(t *testing.T, m *Memory) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func dreams() Facts {
	return Facts{Title: "ComfyUI 0.3.62", DeviceName: "RTX 4090", Models: []backend.Model{{Name: "dreams", Title: "Dreams", Path: "dreams.safetensors", Bytes: 7}}}
}

// What a server had is known after a start while it is away, and is neither a promise nor a device.
func TestServerIsRememberedWhileItIsAway(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "generators.json")
	synctest.Test(t, func(t *testing.T) {
		machine, end := remembering(t, path, mixed())
		f := &fake{facts: dreams()}
		s := New(comfy(""), machine, f.probe, nil)
		run(t, s)
		seen := time.Now()
		if dev, ok := s.Device(); !ok || dev.ID != "GPU-c" || s.Status().Seen != nil || s.Was() != "" {
			t.Fatalf("on %q, %+v", dev.ID, s.Status())
		}
		end()

		after(time.Minute) // the agent is not there
		machine, end = remembering(t, path, mixed())
		defer end()
		f = &fake{err: errors.New("connection refused")}
		s = New(comfy(""), machine, f.probe, nil)
		if got := s.Status(); got.State != wire.GeneratorStarting || got.Models != 1 || got.Title != "ComfyUI 0.3.62" {
			t.Errorf("before it was asked: %+v", got)
		}
		run(t, s)
		got := s.Status()
		if got.State != wire.GeneratorUnreachable || got.Models != 1 || got.Device != nil || got.Seen == nil || !got.Seen.Equal(seen.UTC().Truncate(time.Second)) {
			t.Errorf("while it is away: %+v", got)
		}
		if _, known := s.Device(); known || s.Was() != "GPU-c" || s.Problem() == nil || s.Models()[0].Name != "dreams" {
			t.Errorf("known %v, was on %q, %v, %v", known, s.Was(), s.Problem(), s.Models())
		}
		other := dreams()
		other.DeviceName, other.Models = "", []backend.Model{{Name: "nightmares"}}
		other.CPU = true
		f.says(other, nil)
		after(probeLongest)
		if dev, ok := s.Device(); !ok || dev.Index != gpu.CPU || s.Was() != "" || s.Problem() != nil || s.Models()[0].Name != "nightmares" || s.Status().Seen != nil {
			t.Errorf("on another device with another model: %q, was %q, %v, %v", dev.ID, s.Was(), s.Problem(), s.Models())
		}
		f.says(Facts{}, errors.New("connection refused"))
		after(probeLongest)
		if s.Was() != "" || s.Status().Seen == nil {
			t.Errorf("away again, its device is known: %q, %+v", s.Was(), s.Status())
		}
	})
}

// A server that is used for some of its models alone is remembered with all of them: the settings may be others at the next start.
func TestSettingsCountForWhatIsRemembered(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "generators.json")
	facts := Facts{Models: []backend.Model{{Name: "one"}, {Name: "two", Path: "b.safetensors"}}}
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			models []string
			fault  error
			want   string
		}{
			{[]string{"one"}, nil, "one"},
			{[]string{"b.safetensors"}, errors.New("away"), "two"},
			{nil, errors.New("away"), "one two"},
		} {
			machine, end := remembering(t, path, mixed())
			config := comfy("0")
			config.Models = tt.models
			s := New(config, machine, (&fake{facts: facts, err: tt.fault}).probe, nil)
			run(t, s)
			var names []string
			for _, m := range s.Models() {
				names = append(names, m.Name)
			}
			if got := strings.Join(names, " "); got != tt.want {
				t.Errorf("used for %q: %s, want %s", tt.models, got, tt.want)
			}
			end()
		}
	})
}

// The file is written when there is something new to say, and now and then that a server still answers.
func TestMemoryIsWrittenWhenItChanges(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "generators.json")
	written := func() bool { // since it was asked last
		err := os.Remove(path)
		return err == nil
	}
	synctest.Test(t, func(t *testing.T) {
		m := Remember(path, nil)
		end := keeping(t, m)
		m.gone("a")
		after(seenEvery)
		if written() {
			t.Error("written for a server of which nothing is known")
		}
		here := past{Models: dreams().Models}
		here.Models[0].Samplers = &sampler.List{Samplers: sampler.Named("euler")}
		answers := func() {
			here.Seen = time.Now()
			m.note("a", here)
			synctest.Wait()
		}
		answers()
		if !written() {
			t.Error("not written for a new server")
		}
		after(seenEvery / 2)
		here.Models[0].Samplers.Knows("euler") // what was asked is the same still
		answers()
		here.Models[0].Samplers = &sampler.List{Samplers: sampler.Named("euler")}
		answers()
		if written() {
			t.Error("written though nothing is new")
		}
		after(seenEvery)
		if !written() {
			t.Error("that a server answers is not written any more")
		}
		here.Models = append(here.Models, backend.Model{Name: "nightmares"})
		answers()
		if !written() {
			t.Error("not written for another model")
		}
		m.gone("a")
		synctest.Wait()
		if !written() {
			t.Error("when it was seen last is not written")
		}
		m.gone("a")
		after(2 * seenEvery)
		if written() {
			t.Error("written for a server that is away")
		}
		answers()
		if !written() {
			t.Error("not written for a server that is back")
		}
		end()
	})
}

func TestServerOutOfTheSettingsIsForgotten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "generators.json")
	known := map[string]past{"comfyui 127.0.0.1:1": {Title: "kept"}, "sdapi 127.0.0.1:2": {Title: "left out"}}
	if err := writeMemory(path, known); err != nil {
		t.Fatal(err)
	}
	m := Remember(path, nil)
	if _, found := m.recall("comfyui 127.0.0.1:1"); !found {
		t.Fatal("nothing is remembered")
	}
	if left, err := readMemory(path); err != nil || len(left) != 2 {
		t.Fatalf("a look changed the file: %v, %v", left, err) // muster doctor only looks
	}
	keeping(t, m)()
	if left, err := readMemory(path); err != nil || len(left) != 1 || left["comfyui 127.0.0.1:1"].Title != "kept" {
		t.Errorf("%v, %v", left, err)
	}
}

// Whatever stands where the file should be is as if there were none, and the log says so.
func TestMemoryThatCanNotBeRead(t *testing.T) {
	t.Parallel()
	file := func(content string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		name string
		put  func(t *testing.T, path string)
		want string // in the log; "" for no line
	}{
		{"nothing", func(*testing.T, string) {}, ""},
		{"cut short", file(`{"version":1,"generators":{"comfyui 127.0.0.1:1":{"models":[{"Na`), "damaged"},
		{"of another program", file(`{"name":"comfyui","models":["a"]}`), "version 0"},
		{"of a later agent", file(`{"version":2,"generators":{}}`), "version 2"},
		{"no JSON", file("\x00\x01"), "damaged"},
		{"empty", file(""), "damaged"},
		{"too big", file(strings.Repeat(" ", maxMemoryBytes+1)), "more than"},
		{"a folder", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "no ordinary file"},
		{"a pipe without a writer", func(t *testing.T, path string) {
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "no ordinary file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path, j := filepath.Join(t.TempDir(), "generators.json"), &journal{}
			tt.put(t, path)
			m := Remember(path, j.log())
			if _, known := m.recall("comfyui 127.0.0.1:1"); known {
				t.Error("something is remembered")
			}
			if said := j.String(); (said == "") != (tt.want == "") || !strings.Contains(said, tt.want) {
				t.Errorf("the log says %q, want %q", said, tt.want)
			}
			m.note("comfyui 127.0.0.1:1", past{Title: "new"})
			keeping(t, m)()
			if now, err := readMemory(path); tt.name != "a folder" && (err != nil || now["comfyui 127.0.0.1:1"].Title != "new") {
				t.Errorf("afterwards: %v, %v", now, err)
			}
		})
	}
}

// A disk that fails costs no more than what would be known at the next start; the log says it once, and it is tried again.
func TestMemoryThatCanNotBeWritten(t *testing.T) {
	t.Parallel()
	folder, j := filepath.Join(t.TempDir(), "later"), &journal{}
	synctest.Test(t, func(t *testing.T) {
		m := Remember(filepath.Join(folder, "generators.json"), j.log())
		end := keeping(t, m)
		for i := range 5 {
			m.note("a", past{Title: fmt.Sprint(i)})
			after(writeAgain)
		}
		if n := strings.Count(j.String(), "could not be kept"); n != 1 {
			t.Errorf("told %d times: %s", n, j)
		}
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		after(writeAgain)
		if known, err := readMemory(filepath.Join(folder, "generators.json")); err != nil || known["a"].Title != "4" {
			t.Errorf("%v, %v", known, err)
		}
		end()
	})
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	var many []backend.Model
	for i := range 3 * maxPastModels {
		many = append(many, backend.Model{Name: fmt.Sprint("model ", i)})
	}
	many[1].Title = strings.Repeat("x", maxPastText)
	kept := rememberable(many)
	if len(kept) != maxPastModels || kept[1].Name != "model 2" || many[1].Name != "model 1" {
		t.Errorf("%d models, the second %.20s", len(kept), kept[1].Name)
	}
	servers := map[string]past{}
	for i := range 9 {
		long := past{}
		for n := range maxPastModels {
			long.Models = append(long.Models, backend.Model{Name: fmt.Sprint(n, strings.Repeat("y", maxPastText-10))})
		}
		servers[fmt.Sprint(i)] = long
	}
	path := filepath.Join(t.TempDir(), "generators.json")
	if err := writeMemory(path, servers); err == nil || !strings.Contains(err.Error(), "so many models") {
		t.Errorf("a file that would not be read again: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("it was written")
	}
}

// Every field of a model outlives the agent.
func TestModelsAreRememberedWhole(t *testing.T) {
	t.Parallel()
	var m backend.Model
	fill(reflect.ValueOf(&m).Elem())
	same, without := m, m
	without.Samplers = nil
	want := []backend.Model{m, same, without}
	raw, err := encodeMemory(map[string]past{"a": {Models: want}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parseMemory(raw); err != nil || !reflect.DeepEqual(got["a"].Models, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if n := strings.Count(string(raw), "Aliases"); n != 2 { // of a sampler and a schedule
		t.Errorf("lists of samplers are written %d times: %s", n, raw)
	}
}

// fill puts something into every field.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i))
			}
		}
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint64:
		v.SetUint(7)
	case reflect.Float64:
		v.SetFloat(7)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	default:
		panic("a field of kind " + v.Kind().String())
	}
}

func FuzzParseMemory(f *testing.F) {
	for _, text := range []string{`{"version":1,"generators":{"a":{"seen":"2026-01-02T03:04:05Z","title":"t","device":"GPU-a","models":[{"Name":"m","Bytes":7}]}}}`,
		`{"version":1,"generators":{"a":null,"":{"models":null}}}`, `{"version":1}`, `[]`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		servers, err := parseMemory(raw)
		if err != nil {
			return
		}
		again, err := encodeMemory(servers)
		if err != nil {
			return // more than is kept
		}
		back, err := parseMemory(again)
		if err != nil {
			t.Fatal(err)
		}
		one, _ := json.Marshal(servers)
		if two, _ := json.Marshal(back); !bytes.Equal(one, two) {
			t.Errorf("%s became %s", one, two)
		}
	})
}

// What a person named behind an address is there before the server was ever seen, unless it may go by another name then.
func TestNamedModelsAreThereAtOnce(t *testing.T) {
	t.Parallel()
	config := comfy("1")
	config.Models = []string{"flux.1-schnell", "Qwen/Qwen-Image"}
	s := New(config, seeing(mixed()), nil, nil)
	if got := s.Models(); len(got) != 1 || got[0].Name != "flux.1-schnell" || s.Problem() == nil {
		t.Errorf("%+v, problem %v", got, s.Problem())
	}
	if got := New(comfy("1"), seeing(mixed()), nil, nil).Models(); len(got) != 0 {
		t.Errorf("%+v of a server of which nothing is known", got)
	}
}
