package backendtest

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"sync"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/job"
)

// Subject is what a backend is exercised with.
type Subject struct {
	Devices []gpu.Device // at least one that it serves; calls run on all of them at once
	Model   string
	// AnyModel says that the backend draws one way whatever model is named.
	AnyModel bool
	// Width and Height are those of the images: ones that the backend makes exactly. 0 is 64.
	Width, Height int
	Steps         int // 0 is 4
	// Long is a number of steps that takes a second or more; a call of so many is cancelled. 0 is 100.
	Long int
	// Silent says that the backend can't tell of single steps: a call is cancelled after its first report.
	Silent bool
	// Keeps says that the generator holds its model as long as it runs: Unload is an error that says so.
	Keeps bool
	// Models gives what the backend is said to have; nil asks its own method.
	Models func(b backend.Backend) []backend.Model
	// Resident says whether the backend holds anything on a device; nil for one that holds nothing between images.
	Resident func(b backend.Backend, dev gpu.Device) bool
}

// patience is how long the suite waits for what must happen; it is reached only by a failure.
const patience = 30 * time.Second

// errGivenUp is the cause with which the suite cancels.
var errGivenUp = errors.New("the test gave it up")

// Exercise checks what every backend promises. newBackend gives a fresh one for each test.
func Exercise(t *testing.T, newBackend func(t *testing.T) backend.Backend, s Subject) {
	if s.Width == 0 {
		s.Width, s.Height = 64, 64
	}
	if s.Steps == 0 {
		s.Steps = 4
	}
	if s.Long == 0 {
		s.Long = 100
	}
	if s.Models == nil {
		s.Models = func(b backend.Backend) []backend.Model { return b.(interface{ Models() []backend.Model }).Models() }
	}
	for name, test := range map[string]func(*testing.T, backend.Backend, Subject){
		"an image of the right size, with progress up to its last step": testImage,
		"the same request gives the same bytes":                         testSame,
		"another seed gives another image":                              testDiffers,
		"cancelling returns at once with its cause":                     testCancel,
		"an ended context makes nothing":                                testEnded,
		"devices work side by side":                                     testSideBySide,
		"an unknown model is final":                                     testUnknownModel,
		"sizes and samplers are as the model tells":                     testOffer,
		"loading comes before the first image":                          testLoad,
		"unloading frees the device, and the next image loads again":    testUnload,
		"unloading ends what was given up":                              testUnloadGivenUp,
		"unloading ends with its context":                               testUnloadEnded,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newBackend(t), s)
		})
	}
}

func (s Subject) request(seed int64) backend.Request {
	return backend.Request{
		JobID: "01JEXERCISE", Attempt: 1, Prompt: "a violinist on a roof", NegativePrompt: "rain", Model: s.Model, Seed: seed,
		Width: s.Width, Height: s.Height, Steps: s.Steps, Guidance: 7,
	}
}

// generate makes an image that must succeed.
func generate(t *testing.T, b backend.Backend, dev gpu.Device, req backend.Request, report func(job.Progress)) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if report == nil {
		report = func(job.Progress) {}
	}
	image, err := b.Generate(ctx, dev, req, report)
	if err != nil {
		t.Fatalf("generate on %s: %v", dev.ID, err)
	}
	return image.PNG
}

func testImage(t *testing.T, b backend.Backend, s Subject) {
	if b.Name() == "" {
		t.Error("the backend has no name")
	}
	var mu sync.Mutex
	var seen []job.Progress
	returned := false
	file := generate(t, b, s.Devices[0], s.request(1), func(p job.Progress) {
		mu.Lock()
		defer mu.Unlock()
		if returned {
			t.Error("progress was reported after Generate had returned")
		}
		seen = append(seen, p)
	})
	mu.Lock()
	returned = true
	mu.Unlock()
	img, err := png.Decode(bytes.NewReader(file))
	if err != nil {
		t.Fatalf("the image is no PNG: %v", err)
	}
	if size := img.Bounds().Size(); size.X != s.Width || size.Y != s.Height {
		t.Errorf("the image is %v; want %dx%d", size, s.Width, s.Height)
	}
	if len(seen) == 0 {
		t.Fatal("no progress was reported")
	}
	for i, p := range seen {
		if p.Steps != s.Steps {
			t.Errorf("report %d tells of %d steps; want %d", i, p.Steps, s.Steps)
		}
		if i > 0 && p.Step < seen[i-1].Step {
			t.Errorf("progress went back from step %d to %d", seen[i-1].Step, p.Step)
		}
	}
	if last := seen[len(seen)-1]; last.Step != s.Steps {
		t.Errorf("the last report is of step %d; want %d", last.Step, s.Steps)
	}
}

func testSame(t *testing.T, b backend.Backend, s Subject) {
	one := s.request(7)
	two := one
	two.JobID, two.Attempt = "01JANOTHER", 2
	last := s.Devices[len(s.Devices)-1]
	if !bytes.Equal(generate(t, b, s.Devices[0], one, nil), generate(t, b, last, two, nil)) {
		t.Error("a retry on another device gave another image")
	}
}

func testDiffers(t *testing.T, b backend.Backend, s Subject) {
	first := generate(t, b, s.Devices[0], s.request(7), nil)
	if bytes.Equal(first, generate(t, b, s.Devices[0], s.request(8), nil)) {
		t.Error("two seeds gave the same image")
	}
	other := s.request(7)
	other.Prompt = "a drummer in a cellar"
	if bytes.Equal(first, generate(t, b, s.Devices[0], other, nil)) {
		t.Error("two prompts gave the same image")
	}
}

func testCancel(t *testing.T, b backend.Backend, s Subject) {
	giveUp(t, b, s)
	generate(t, b, s.Devices[0], s.request(4), nil) // the device can be used again
}

// giveUp begins a long image on the first device and cancels it after a step.
func giveUp(t *testing.T, b backend.Backend, s Subject) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	req := s.request(3)
	req.Steps = s.Long
	working, done := make(chan struct{}), make(chan error, 1)
	var once sync.Once
	go func() {
		_, err := b.Generate(ctx, s.Devices[0], req, func(p job.Progress) {
			if p.Step > 0 || s.Silent {
				once.Do(func() { close(working) })
			}
		})
		done <- err
	}()
	select {
	case <-working:
	case err := <-done:
		t.Fatalf("it ended before its first step: %v", err)
	case <-time.After(patience):
		t.Fatal("no step was reported")
	}
	cancel(errGivenUp)
	select {
	case err := <-done:
		if !errors.Is(err, errGivenUp) {
			t.Errorf("a cancelled call returned %v; want its cause", err)
		}
	case <-time.After(patience):
		t.Fatal("a cancelled call did not return")
	}
}

func testEnded(t *testing.T, b backend.Backend, s Subject) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errGivenUp)
	image, err := b.Generate(ctx, s.Devices[0], s.request(5), func(job.Progress) {})
	if !errors.Is(err, errGivenUp) || image.PNG != nil {
		t.Errorf("with an ended context it returned %d bytes and %v; want nothing and the cause", len(image.PNG), err)
	}
}

// testSideBySide holds every call in its first report until all have made one: only calls that run at once get further.
func testSideBySide(t *testing.T, b backend.Backend, s Subject) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	images, failures := make([][]byte, len(s.Devices)), make([]error, len(s.Devices))
	var arrived, ended sync.WaitGroup
	arrived.Add(len(s.Devices))
	all := make(chan struct{})
	go func() {
		arrived.Wait()
		close(all)
	}()
	for i, dev := range s.Devices {
		ended.Go(func() {
			var once sync.Once
			image, err := b.Generate(ctx, dev, s.request(int64(100+i)), func(job.Progress) {
				once.Do(arrived.Done)
				select {
				case <-all:
				case <-ctx.Done():
				}
			})
			images[i], failures[i] = image.PNG, err
		})
	}
	ended.Wait()
	for i, dev := range s.Devices {
		if failures[i] != nil {
			t.Errorf("%s: %v", dev.ID, failures[i])
		}
		for j := range i {
			if bytes.Equal(images[i], images[j]) {
				t.Errorf("%s and %s made the same image of different seeds", s.Devices[j].ID, dev.ID)
			}
		}
	}
}

func testUnknownModel(t *testing.T, b backend.Backend, s Subject) {
	if s.AnyModel {
		return
	}
	req := s.request(6)
	req.Model = "no such model"
	testFinal(t, b, s.Devices[0], req)
}
