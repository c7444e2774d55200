package attach

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/wire"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text  string
		want  Config
		words string // of the error; "" when it is well
	}{
		{"http://127.0.0.1:8188", Config{Base: "http://127.0.0.1:8188"}, ""},
		{" 127.0.0.1:8188/ ", Config{Base: "http://127.0.0.1:8188"}, ""},
		{"localhost:7860#1", Config{Base: "http://localhost:7860", Device: "1"}, ""},
		{"http://[::1]:7860#cpu", Config{Base: "http://[::1]:7860", Device: "cpu"}, ""},
		{"https://me:s%40crete@127.0.0.1#GPU-00112233", Config{Base: "https://127.0.0.1", User: "me", Password: "s@crete", Device: "GPU-00112233"}, ""},
		{"http://127.0.0.1:8080?model=flux&model=sd%203#2", Config{Base: "http://127.0.0.1:8080", Device: "2", Models: []string{"flux", "sd 3"}}, ""},
		{"", Config{}, "no host"},
		{"http://", Config{}, "no host"},
		{"ftp://127.0.0.1", Config{}, "no scheme"},
		{"http://192.168.0.7:8188", Config{}, "192.168.0.7 is another machine"},
		{"http://192.168.0.7", Config{}, "192.168.0.7 is another machine"},
		{"gpu-box:8188", Config{}, "gpu-box is another machine, or another name of this one"},
		{"foo", Config{}, `"foo" is no address; want an address such as http://127.0.0.1:8188`},
		{"8188", Config{}, `"8188" is no address; want an address such as http://127.0.0.1:8188`},
		{"http://localhost.example.org:8188", Config{}, "another machine"},
		{"http://127.0.0.1:8188/api", Config{}, "is a path"},
		{"http://127.0.0.1:99999", Config{}, "port 99999"},
		{"http://127.0.0.1:81x8", Config{}, "no address"},
		{"http://127.0.0.1:1?modl=x", Config{}, "modl"},
		{"http://127.0.0.1:1?model=", Config{}, "without a name"},
		{"http://127.0.0.1:1#-1", Config{}, "no device"},
		{"http://u:hunter2@192.168.0.7", Config{}, "another machine"},
		{"http://u:hunter2@127.0.0.1:x", Config{}, "no address"},
	} {
		got, err := Parse("comfyui", tt.text)
		switch {
		case tt.words != "":
			if err == nil || !strings.Contains(err.Error(), tt.words) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q: got %v; want an error with %q and without a password", tt.text, err, tt.words)
			}
		case err != nil:
			t.Errorf("%q: %v", tt.text, err)
		default:
			tt.want.Kind = "comfyui"
			if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", tt.want) {
				t.Errorf("%q: got %+v, want %+v", tt.text, got, tt.want)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"http://127.0.0.1:8188#0", "a:b@localhost?model=x", "http://[::1%25lo]:1", "#", "::"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("sdapi", text)
		if err != nil {
			return
		}
		if again, err := Parse("sdapi", c.Base); err != nil || again.Base != c.Base {
			t.Errorf("%q gives %q, which gives %q, %v", text, c.Base, again.Base, err)
		}
		if port := c.port(); port < 1 || port > 65535 {
			t.Errorf("%q: port %d", text, port)
		}
	})
}

const gib = 1 << 30

// mixed is a machine with two equal cards, a third of another kind, and one that is simulated.
func mixed() gpu.Inventory {
	return gpu.Inventory{Revision: 1, Devices: []gpu.Device{
		{ID: "GPU-a", Index: 0, Name: "AMD Instinct MI25", MemoryBytes: new(uint64(16 * gib))},
		{ID: "GPU-b", Index: 1, Name: "AMD Instinct MI25", MemoryBytes: new(uint64(16 * gib))},
		{ID: "GPU-c", Index: 2, Name: "NVIDIA GeForce RTX 4090", MemoryBytes: new(uint64(24 * gib))},
		{ID: "sim-d", Index: 3, Name: "NVIDIA H100", MemoryBytes: new(uint64(80 * gib)), Simulated: true},
	}}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	one := gpu.Inventory{Devices: mixed().Devices[:1]}
	for _, tt := range []struct {
		name  string
		in    gpu.Inventory
		e     evidence
		want  string // ID; "" for none
		words string // of the error
	}{
		{"as a person said", mixed(), evidence{wanted: &wish{ref: 1}}, "GPU-b", ""},
		{"by stable ID", mixed(), evidence{wanted: &wish{id: "GPU-c"}}, "GPU-c", ""},
		{"the processor", mixed(), evidence{wanted: &wish{ref: gpu.CPU}}, "cpu", ""},
		{"said and seen", mixed(), evidence{wanted: &wish{ref: 1}, holders: []string{"GPU-a", "GPU-b"}}, "GPU-b", ""},
		{"said, but seen elsewhere", mixed(), evidence{wanted: &wish{ref: 1}, holders: []string{"GPU-a"}}, "", "its process uses Device 0"},
		{"said processor, but seen on a device", mixed(), evidence{wanted: &wish{ref: gpu.CPU}, holders: []string{"GPU-a"}}, "", "uses Device 0"},
		{"said device, but it says processor", mixed(), evidence{wanted: &wish{ref: 0}, facts: Facts{CPU: true}}, "", "uses the processor"},
		{"a device that is not there", mixed(), evidence{wanted: &wish{ref: 9}}, "", "Device 9, which is not in this machine"},
		{"an ID that is not there", mixed(), evidence{wanted: &wish{id: "GPU-z"}}, "", "GPU-z"},
		{"a simulated device", mixed(), evidence{wanted: &wish{ref: 3}}, "", "simulated"},
		{"by its process", mixed(), evidence{holders: []string{"GPU-b"}}, "GPU-b", ""},
		{"its process on two", mixed(), evidence{holders: []string{"GPU-a", "GPU-b"}}, "", "Device 0 and Device 1"},
		{"by a name that only one has", mixed(), evidence{facts: Facts{DeviceName: "cuda:0 NVIDIA GeForce RTX 4090 : cudaMallocAsync"}}, "GPU-c", ""},
		{"by a name that two have", mixed(), evidence{facts: Facts{DeviceName: "cuda:0 AMD Instinct MI25 : native"}}, "", "which of 2 devices"},
		{"by a name, though memory is counted otherwise", mixed(), evidence{facts: Facts{DeviceName: "RTX 4090", MemoryBytes: 20 * gib}}, "GPU-c", ""},
		{"by memory that only one has", mixed(), evidence{facts: Facts{MemoryBytes: 24*gib - 300<<20}}, "GPU-c", ""},
		{"by a name that none has", mixed(), evidence{facts: Facts{DeviceName: "cuda:0 Tesla T4"}}, "", "no device here is called"},
		{"nothing is told of several", mixed(), evidence{}, "", "does not say"},
		{"nothing is told of the only one", one, evidence{}, "", "does not say"}, // it may use the processor
		{"a name of the only one", one, evidence{facts: Facts{DeviceName: "MI25"}}, "GPU-a", ""},
		{"it says processor", mixed(), evidence{facts: Facts{CPU: true}}, "cpu", ""},
		{"no device at all", gpu.Inventory{}, evidence{}, "", "no GPU"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dev, err := place(tt.in, tt.e)
			if dev.ID != tt.want || (err == nil) != (tt.words == "") || err != nil && !strings.Contains(err.Error(), tt.words) {
				t.Errorf("got %q, %v; want %q, %q", dev.ID, err, tt.want, tt.words)
			}
		})
	}
}

// fake is a server that says what the test lets it say.
type fake struct {
	mu    sync.Mutex
	facts Facts
	err   error
	asked int
}

func (f *fake) probe(context.Context) (Facts, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return f.facts, f.err
}

// says is what it answers from now on.
func (f *fake) says(facts Facts, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.facts, f.err = facts, err
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

func comfy(device string) Config {
	return Config{Kind: "comfyui", Base: "http://127.0.0.1:1", Device: device} // nothing listens on port 1
}

func seeing(inventory gpu.Inventory) *Machine {
	m := &Machine{}
	m.See(&inventory, nil)
	return m
}

// run runs a server in a synctest bubble.
func run(t *testing.T, s *Server) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
}

func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestServerComesGoesAndComesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{err: errors.New("connection refused")}
		s := New(comfy("1"), seeing(mixed()), f.probe, nil)
		if got := s.Status(); got.State != wire.GeneratorStarting || got.ID != "comfyui 127.0.0.1:1" || !got.Attached || *got.Device != 1 {
			t.Errorf("before it was asked: %+v", got)
		}
		run(t, s)
		if got := s.Status(); got.State != wire.GeneratorUnreachable || !strings.Contains(got.Problem, "is not there: connection refused") {
			t.Errorf("not there: %+v", got)
		}
		f.says(Facts{Title: "ComfyUI 1.2", Models: []backend.Model{{Name: "sdxl"}}}, nil)
		after(probeLongest)
		if got := s.Status(); got.State != wire.GeneratorReady || got.Problem != "" || *got.Device != 1 || got.Models != 1 || got.Title != "ComfyUI 1.2" {
			t.Errorf("there: %+v", got)
		}
		f.says(Facts{}, errors.New("connection refused"))
		after(probeEvery)
		if got := s.Status(); got.State != wire.GeneratorUnreachable || *got.Device != 1 || got.Models != 1 || !strings.Contains(got.Problem, "does not answer any more") {
			t.Errorf("gone: %+v", got)
		}
		asked := f.count()
		after(time.Hour)
		if n := f.count() - asked; n < 200 || n > 300 {
			t.Errorf("asked %d times in an hour of silence", n)
		}
		f.says(Facts{}, fmt.Errorf("it wants a password: %w", ErrUnusable))
		after(probeLongest)
		if got := s.Status(); got.State != wire.GeneratorUnusable {
			t.Errorf("with a password: %+v", got)
		}
	})
}

// A server that works is not asked: a late answer would look like its death.
func TestServerIsLeftAloneWhileItWorks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{facts: Facts{Models: []backend.Model{{Name: "sdxl"}}}}
		s := New(comfy("0"), seeing(mixed()), f.probe, nil)
		run(t, s)
		s.begin()
		asked := f.count()
		f.says(Facts{}, errors.New("timeout"))
		after(10 * time.Minute)
		if n := f.count() - asked; n != 0 || s.Problem() != nil {
			t.Errorf("asked %d times while it worked; problem %v", n, s.Problem())
		}
		s.end(nil)
		after(probeEvery)
		if s.Problem() == nil {
			t.Error("its silence was not noticed afterwards")
		}
	})
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{facts: Facts{Models: []backend.Model{{Name: "sdxl"}}}}
		s := New(comfy("0"), seeing(mixed()), f.probe, nil)
		run(t, s)
		died := fmt.Errorf("it died: %w", backend.ErrUnavailable)
		for range 2 {
			s.begin()
			after(10 * time.Minute) // as hangs take
			s.end(died)
		}
		s.begin()
		s.end(errors.New("the job was cancelled")) // by its caller: nobody's failure
		s.begin()
		s.end(fmt.Errorf("somebody interrupted it, %w: %w", ErrNotItsFault, backend.ErrUnavailable))
		s.begin()
		s.end(errors.New("unknown sampler")) // the request's
		if err := s.Problem(); err != nil {
			t.Errorf("after two failures: %v", err)
		}
		s.begin()
		s.end(died)
		got := s.Status()
		if got.State != wire.GeneratorResting || got.Failures != 3 || got.RetryAt == nil || !strings.Contains(got.Problem, "it died") {
			t.Errorf("after three: %+v", got)
		}
		after(time.Minute)
		if err := s.Problem(); err != nil {
			t.Errorf("after its rest: %v", err)
		}
		s.begin()
		s.end(nil)
		if got := s.Status(); got.Failures != 0 || got.State != wire.GeneratorReady {
			t.Errorf("after a success: %+v", got)
		}
	})
}

func TestPlacedServerStaysWhileItIsIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{facts: Facts{DeviceName: "cuda:0 NVIDIA GeForce RTX 4090", Models: []backend.Model{{Name: "sdxl"}}}}
		s := New(comfy(""), seeing(mixed()), f.probe, nil)
		run(t, s)
		if dev, ok := s.Device(); !ok || dev.ID != "GPU-c" {
			t.Fatalf("%+v, %t", dev, ok)
		}
		f.says(Facts{Models: []backend.Model{{Name: "sdxl"}}}, nil)
		after(probeEvery)
		if dev, _ := s.Device(); dev.ID != "GPU-c" || s.Problem() != nil {
			t.Errorf("%+v, %v", dev, s.Problem())
		}
	})
}

func TestUnplacedServerAsksAPerson(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{facts: Facts{Models: []backend.Model{{Name: "sdxl"}}}}
		s := New(comfy(""), seeing(mixed()), f.probe, nil)
		run(t, s)
		if got := s.Status(); got.State != wire.GeneratorUnplaced || got.Device != nil || !strings.Contains(got.Problem, "as in #0") {
			t.Errorf("%+v", got)
		}
		if _, placed := s.Device(); placed {
			t.Error("it has a device")
		}
	})
}

func TestConfiguredModels(t *testing.T) {
	t.Parallel()
	s := New(Config{Base: "http://127.0.0.1:1", Models: []string{"flux", "mine"}}, &Machine{}, nil, nil)
	got := s.restrict(Facts{Models: []backend.Model{{Name: "llama"}, {Name: "flux", Title: "FLUX"}}})
	names := []string{}
	for _, m := range got.Models {
		names = append(names, m.Name+"/"+m.Title)
	}
	if !slices.Equal(names, []string{"flux/FLUX", "mine/mine"}) {
		t.Errorf("%v", names)
	}
}

// A probe that began before a call, and fails during it, says nothing: the server answers late because it works.
func TestProbeThatFailsDuringACall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{facts: Facts{Title: "A1111", Models: []backend.Model{{Name: "sdxl"}}}}
		slow := make(chan struct{})
		s := New(comfy("0"), seeing(mixed()), func(ctx context.Context) (Facts, error) {
			if f.count() > 0 {
				<-slow
			}
			return f.probe(ctx)
		}, nil)
		run(t, s)
		after(probeEvery) // the second probe hangs
		s.begin()
		f.says(Facts{}, errors.New("503"))
		close(slow)
		synctest.Wait()
		if err := s.Problem(); err != nil || s.Facts().Title != "A1111" {
			t.Errorf("%v, %+v", err, s.Facts())
		}
		s.end(nil)
	})
}

// A server that was away may have come back on another card: where it was before is no sign then.
func TestServerThatComesBackElsewhere(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, before, after, want string }{
		{"on one of two equal cards", "NVIDIA GeForce RTX 4090", "AMD Instinct MI25", ""},
		{"on the same one", "NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 4090", "GPU-c"},
		{"saying nothing any more", "NVIDIA GeForce RTX 4090", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				models := []backend.Model{{Name: "sdxl"}}
				f := &fake{facts: Facts{DeviceName: tt.before, Models: models}}
				s := New(comfy(""), seeing(mixed()), f.probe, nil)
				run(t, s)
				f.says(Facts{}, errors.New("connection refused"))
				after(probeEvery)
				f.says(Facts{DeviceName: tt.after, Models: models}, nil)
				after(probeLongest)
				dev, placed := s.Device()
				if got := s.Problem() == nil; placed != (tt.want != "") || placed && dev.ID != tt.want || got != placed {
					t.Errorf("device %q (%t), problem %v; want %q", dev.ID, placed, s.Problem(), tt.want)
				}
			})
		})
	}
}

// A server that says of itself that it uses another card than before is not credited to the old one.
func TestServerThatSaysAnotherDevice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		models := []backend.Model{{Name: "sdxl"}}
		f := &fake{facts: Facts{DeviceName: "NVIDIA GeForce RTX 4090", Models: models}}
		s := New(comfy(""), seeing(mixed()), f.probe, nil)
		run(t, s)
		f.says(Facts{DeviceName: "AMD Instinct MI25", Models: models}, nil)
		after(probeEvery)
		if s.Problem() == nil {
			dev, _ := s.Device()
			t.Errorf("it is still credited to %s", dev.ID)
		}
	})
}

// A server that refuses a connection in a call is away at once, whatever else goes on there, and is used again when it answers.
func TestServerThatDiesDuringACall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		models := []backend.Model{{Name: "sdxl"}}
		f := &fake{facts: Facts{Models: models}}
		s := New(comfy("0"), seeing(mixed()), f.probe, nil)
		run(t, s)
		s.begin() // what is left of a call goes on
		f.says(Facts{}, errors.New("connection refused"))
		for range 3 {
			s.begin()
			s.end(fmt.Errorf("dial: %w: %w", syscall.ECONNREFUSED, backend.ErrUnavailable))
		}
		if got := s.Status(); got.State != wire.GeneratorUnreachable || got.Failures != 0 {
			t.Errorf("when it has died: %+v", got)
		}
		after(time.Minute)
		f.says(Facts{Models: models}, nil)
		after(probeLongest)
		if got := s.Status(); got.State != wire.GeneratorReady {
			t.Errorf("when it is back: %+v", got)
		}
	})
}

// What a server did before it was started anew is not held against it.
func TestBreakerForgetsWhoHasGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		models := []backend.Model{{Name: "sdxl"}}
		f := &fake{facts: Facts{Models: models}}
		s := New(comfy("0"), seeing(mixed()), f.probe, nil)
		run(t, s)
		for range 3 {
			s.begin()
			s.end(fmt.Errorf("it hangs: %w", backend.ErrUnavailable))
		}
		f.says(Facts{}, errors.New("connection refused"))
		after(probeEvery)
		f.says(Facts{Models: models}, nil)
		after(2 * time.Second)
		if got := s.Status(); got.State != wire.GeneratorReady || got.Failures != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// What a server works on is known as soon as the machine's devices are, without asking it again.
func TestDevicesThatAreFoundAfterTheServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{facts: Facts{Models: []backend.Model{{Name: "sdxl"}}}}
		m := &Machine{}
		s := New(comfy("1"), m, f.probe, nil)
		run(t, s)
		if got := s.Status(); got.State != wire.GeneratorStarting {
			t.Errorf("before the devices are known: %+v", got)
		}
		inventory := mixed()
		m.See(&inventory, nil)
		if dev, ok := s.Device(); !ok || dev.ID != "GPU-b" || s.Problem() != nil || f.count() != 1 {
			t.Errorf("%+v %t, %v, asked %d times", dev, ok, s.Problem(), f.count())
		}
		smaller := inventory
		smaller.Revision, smaller.Devices = 2, inventory.Devices[:1]
		m.See(&smaller, nil)
		if err := s.Problem(); err == nil || !strings.Contains(err.Error(), "not in this machine") {
			t.Errorf("after its device has left: %v", err)
		}
	})
}
