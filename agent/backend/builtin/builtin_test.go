package builtin

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/job"
)

func request(prompt string, seed int64, width, height, steps int) backend.Request {
	return backend.Request{JobID: "j", Attempt: 1, Prompt: prompt, Model: ModelName, Seed: seed, Width: width, Height: height, Steps: steps}
}

func sketchOn(t testing.TB, dev gpu.Device, req backend.Request) []byte {
	t.Helper()
	image, err := New(Config{}).Generate(t.Context(), dev, req, func(job.Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	return image.PNG
}

func TestGenerateEverySize(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                 string
		prompt               string
		width, height, steps int
	}{
		{"smallest", "portrait of a queen", 64, 64, 1},
		{"most steps", "a knight", 16, 16, 200},
		{"odd", "a fox", 97, 131, 3},
		{"hardly a prompt", ".", 64, 64, 2},
		{"no letters", "🦊 — 42", 64, 64, 2},
		{"very long", strings.Repeat("old wizard, ", 600), 64, 64, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, dev := range []gpu.Device{backend.CPU(), {ID: "sim-0", Simulated: true}} {
				config, err := png.DecodeConfig(bytes.NewReader(sketchOn(t, dev, request(tt.prompt, 5, tt.width, tt.height, tt.steps))))
				if err != nil {
					t.Fatal(err)
				}
				if config.Width != tt.width || config.Height != tt.height {
					t.Errorf("image is %dx%d: want %dx%d", config.Width, config.Height, tt.width, tt.height)
				}
			}
		})
	}
}

func TestTheSameRequestGivesTheSameBytes(t *testing.T) {
	t.Parallel()
	first := sketchOn(t, backend.CPU(), request("smiling woman with red hair", 11, 96, 96, 3))
	if again := sketchOn(t, backend.CPU(), request("smiling woman with red hair", 11, 96, 96, 3)); !bytes.Equal(first, again) {
		t.Error("the same request gave another image")
	}
	for name, other := range map[string]backend.Request{
		"seed":   request("smiling woman with red hair", 12, 96, 96, 3),
		"prompt": request("smiling woman with blue hair", 11, 96, 96, 3),
		"steps":  request("smiling woman with red hair", 11, 96, 96, 4),
	} {
		if bytes.Equal(first, sketchOn(t, backend.CPU(), other)) {
			t.Errorf("another %s gave the same image", name)
		}
	}
}

// The extreme shapes are drawn with few samples only, on a simulated device: there a row is as long, and the drawing as tall.
func TestGenerateExtremeShapes(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{64, 4096}, {4096, 64}} {
		c := newCanvas(compose("a pirate at sea", "", 1, shape(size[0], size[1]), 0.3), size[0], size[1], 1)
		for y := 0; y < size[1]; y += max(1, size[1]/16) {
			if err := c.sample(t.Context(), y, 0); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range c.d.strokes {
			if err := c.draw(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		file, err := encode(t.Context(), size[0], size[1], c.row)
		if err != nil {
			t.Fatal(err)
		}
		if config, err := png.DecodeConfig(bytes.NewReader(file)); err != nil || config.Width != size[0] || config.Height != size[1] {
			t.Errorf("%v gave %+v, %v", size, config, err)
		}
	}
}

// Pictures of neighbouring seeds must look different, not only differ in some bits.
func TestSeedsLookDifferent(t *testing.T) {
	t.Parallel()
	var before []float64
	for seed := range int64(6) {
		decoded, err := png.Decode(bytes.NewReader(sketchOn(t, backend.CPU(), request("portrait", seed, 64, 64, 2))))
		if err != nil {
			t.Fatal(err)
		}
		var values []float64
		for y := range 64 {
			for x := range 64 {
				r, g, b, _ := decoded.At(x, y).RGBA()
				values = append(values, float64(r)/65535, float64(g)/65535, float64(b)/65535)
			}
		}
		difference := 0.0
		for i := range before {
			difference += max(values[i]-before[i], before[i]-values[i]) / float64(len(before))
		}
		if before != nil && difference < 0.03 {
			t.Errorf("seeds %d and %d differ by only %.3f on average", seed-1, seed, difference)
		}
		before = values
	}
}

func TestImageSaysWhatMadeItAndNothingOfThePrompt(t *testing.T) {
	t.Parallel()
	file := sketchOn(t, backend.CPU(), request("xyzzysecret portrait", 1, 64, 64, 1))
	if !bytes.Contains(file, []byte("tEXtSoftware\x00built-in sketch renderer, no AI model")) {
		t.Error("no tEXt chunk says that no AI model made it")
	}
	if bytes.Contains(file, []byte("xyzzysecret")) {
		t.Error("the file repeats the prompt")
	}
}

func TestProgressCountsEveryStep(t *testing.T) {
	t.Parallel()
	var got []job.Progress
	_, err := New(Config{}).Generate(t.Context(), backend.CPU(), request("a man", 1, 64, 64, 5), func(p job.Progress) { got = append(got, p) })
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range got {
		if p.Step != i+1 || p.Steps != 5 {
			t.Errorf("report %d is %+v", i, p)
		}
	}
	if len(got) != 5 {
		t.Errorf("%d reports: want 5", len(got))
	}
}

func TestCancelEndsWithItsCause(t *testing.T) {
	t.Parallel()
	reason := errors.New("enough")
	for _, dev := range []gpu.Device{backend.CPU(), {ID: "sim-0", Simulated: true}} {
		ctx, cancel := context.WithCancelCause(t.Context())
		reports := 0
		_, err := New(Config{}).Generate(ctx, dev, request("a man", 1, 64, 64, 50), func(job.Progress) {
			reports++
			cancel(reason)
		})
		if !errors.Is(err, reason) {
			t.Errorf("%s: error is %v: want the cause", dev.ID, err)
		}
		if reports != 1 {
			t.Errorf("%s: %d steps were made after the cancel", dev.ID, reports-1)
		}
	}
}

// Whatever Generate does when the cancel comes, it looks at the context within a few thousand pixels or one stroke.
func TestContextIsAskedOften(t *testing.T) {
	t.Parallel()
	d := compose("a queen", "", 3, shape(4096, 64), 1)
	c := newCanvas(d, 4096, 64, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.sample(ctx, 0, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("a row of samples: %v", err)
	}
	if err := c.draw(ctx, d.strokes[0]); !errors.Is(err, context.Canceled) {
		t.Errorf("a stroke: %v", err)
	}
	if _, err := encode(ctx, 4096, 64, c.row); !errors.Is(err, context.Canceled) {
		t.Errorf("encoding: %v", err)
	}
}

func TestSimulatedDeviceTakesItsTime(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		width, height int
		steps         int
		pace          float64
		want          time.Duration
	}{
		{"a quarter of the side", 128, 128, 32, 1, 2 * time.Second},
		{"pace of 4", 128, 64, 32, 4, 250 * time.Millisecond},
		{"no pace", 64, 64, 2, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var busy []string
				r := New(Config{
					Pace: func(dev gpu.Device) float64 { return tt.pace },
					Busy: func(id string, vram uint64) func() {
						if vram < 1<<30 {
							t.Errorf("busy with %d bytes", vram)
						}
						busy = append(busy, "begin "+id)
						return func() { busy = append(busy, "end "+id) }
					},
				})
				begun := time.Now()
				if _, err := r.Generate(t.Context(), gpu.Device{ID: "sim-7", Simulated: true}, request("a woman", 1, tt.width, tt.height, tt.steps), func(job.Progress) {}); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begun); took != tt.want {
					t.Errorf("took %v of simulated time: want %v", took, tt.want)
				}
				if got := strings.Join(busy, ", "); got != "begin sim-7, end sim-7" {
					t.Errorf("busy calls: %s", got)
				}
			})
		})
	}
}

// Another program that begins and ends during an image slows down those steps that it meets.
func TestPaceIsThatOfEachStep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		r := New(Config{Pace: func(gpu.Device) float64 {
			if passed := time.Since(begun); passed >= 2*time.Second && passed < 6*time.Second {
				return 0.5
			}
			return 1
		}})
		var at []time.Duration
		_, err := r.Generate(t.Context(), gpu.Device{ID: "sim", Simulated: true}, request("a woman", 1, 512, 512, 6), func(job.Progress) { at = append(at, time.Since(begun)) })
		want := []time.Duration{1 * time.Second, 2 * time.Second, 4 * time.Second, 6 * time.Second, 7 * time.Second, 8 * time.Second}
		if err != nil || !slices.Equal(at, want) {
			t.Errorf("steps at %v, %v: want %v", at, err, want)
		}
	})
}

func TestCancelInterruptsSimulatedTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		begun := time.Now()
		r := New(Config{Pace: func(gpu.Device) float64 { return 0.0001 }})
		_, err := r.Generate(ctx, gpu.Device{ID: "sim", Simulated: true}, request("a woman", 1, 64, 64, 2), func(job.Progress) {})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 30*time.Second {
			t.Errorf("returned %v after %v", err, time.Since(begun))
		}
	})
}

func FuzzGenerate(f *testing.F) {
	f.Add("portrait of a fox in the forest", "glasses", int64(4), uint8(64), uint8(64), uint8(2))
	f.Add("", "", int64(-1), uint8(0), uint8(255), uint8(0))
	f.Add("queen crown beret hood old bald afro striped scarf suit night sea", "night", int64(1)<<62, uint8(70), uint8(9), uint8(1))
	f.Fuzz(func(t *testing.T, prompt, negative string, seed int64, width, height, steps uint8) {
		req := request(prompt, seed, 8+int(width)%24, 8+int(height)%24, int(steps)%4)
		req.NegativePrompt = negative
		if _, err := png.Decode(bytes.NewReader(sketchOn(t, gpu.Device{ID: "sim", Simulated: true}, req))); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkStep512(b *testing.B) {
	d := compose("portrait of a young woman with red hair in a forest", "", 1, shape(512, 512), 1)
	c := newCanvas(d, 512, 512, 65535)
	pass := 0
	for b.Loop() {
		for y := range 512 {
			if err := c.sample(b.Context(), y, pass); err != nil {
				b.Fatal(err)
			}
		}
		pass++
	}
}

func BenchmarkCompose(b *testing.B) {
	for b.Loop() {
		compose("portrait of an old wizard with a long beard", "", 1, shape(512, 512), 1.4)
	}
}
