package view

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/webapp/state"
)

func TestSparkline(t *testing.T) {
	t.Parallel()
	nan := float32(math.NaN())
	for _, test := range []struct {
		name       string
		in         []float32
		line, area string
	}{
		{"nothing", nil, "M0 0", "M0 0"},
		{"only absent", []float32{nan, nan}, "M0 0", "M0 0"},
		{"the newest is at the right", []float32{0, 100}, "M148 40.0L149 40.0L150 1.0", "M148 40.0L148 40.0L149 40.0L150 1.0L150 40.0Z"},
		{"a gap is a gap", []float32{0, nan, 100}, "M147 40.0L148 40.0M149 1.0L150 1.0", "M147 40.0L147 40.0L148 40.0L148 40.0ZM149 40.0L149 1.0L150 1.0L150 40.0Z"},
		{"out of range stays in the box", []float32{-50, 250}, "M148 40.0L149 40.0L150 1.0", "M148 40.0L148 40.0L149 40.0L150 1.0L150 40.0Z"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			line, area := sparkline(test.in, scale{0, 100})
			if line != test.line || area != test.area {
				t.Errorf("line %s, area %s; want %s, %s", line, area, test.line, test.area)
			}
		})
	}
	if line, _ := sparkline(make([]float32, 1000), scale{0, 100}); strings.Count(line, "L") != trendWidth {
		t.Errorf("%d points of 1000, want %d", strings.Count(line, "L"), trendWidth)
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		gib(17163091968): "15.98", gib(5097 << 30): "5,097.00", grouped(1240.4): "1,240", grouped(999): "999", grouped(1234567): "1,234,567",
		span(0): "0 s", span(8400 * time.Millisecond): "8 s", span(-time.Second): "0 s", span(12*time.Minute + 34*time.Second): "13 min",
		span(2*time.Hour + 5*time.Minute): "2 h 5 min", span(3 * time.Hour): "3 h", span(96 * time.Hour): "4 d",
		shorten("heron", 5): "heron", shorten("heröns", 5): "herön…", plural(1, "image", "images"): "1 image", plural(0, "image", "images"): "0 images",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestScale(t *testing.T) {
	t.Parallel()
	limit := 220.0
	for m, want := range map[state.Metric]scale{state.Utilization: {0, 100}, state.Memory: {0, 100}, state.Heat: {20, 100}, state.Power: {0, 220}} {
		if got := scaleOf(m, &limit); got != want {
			t.Errorf("metric %d: %v, want %v", m, got, want)
		}
	}
}

func TestReadSpec(t *testing.T) {
	t.Parallel()
	whole := map[string]string{"prompt": " a heron ", "negative": "text", "count": "4", "size": "832x1216", "quality": "50", "model": "auto", "device": "auto", "seed": ""}
	with := func(field, value string) map[string]string {
		m := map[string]string{}
		for k, v := range whole {
			m[k] = v
		}
		m[field] = value
		return m
	}
	base := job.Spec{Prompt: "a heron", NegativePrompt: "text", Count: 4, Width: 832, Height: 1216, Steps: 50}
	change := func(f func(*job.Spec)) job.Spec { s := base; f(&s); return s }
	for _, test := range []struct {
		name  string
		in    map[string]string
		want  job.Spec
		field string // that is wrong; "" for none
	}{
		{"all", whole, base, ""},
		{"a device", with("device", "3"), change(func(s *job.Spec) { s.DeviceID = ptr(gpu.Ref(3)) }), ""},
		{"the processor", with("device", "cpu"), change(func(s *job.Spec) { s.DeviceID = ptr(gpu.CPU) }), ""},
		{"a size that suits the model", with("size", "auto"), change(func(s *job.Spec) { s.Width, s.Height = 0, 0 }), ""},
		{"steps that suit the model", with("quality", "auto"), change(func(s *job.Spec) { s.Steps = 0 }), ""},
		{"steps that are none", with("quality", ""), job.Spec{}, "steps"},
		{"a model", with("model", "sdxl"), change(func(s *job.Spec) { s.Model = "sdxl" }), ""},
		{"a seed", with("seed", "42"), change(func(s *job.Spec) { s.Seed = ptr(int64(42)) }), ""},
		{"no prompt", with("prompt", "  "), job.Spec{}, "prompt"},
		{"no count", with("count", ""), job.Spec{}, "count"},
		{"count zero is not the default", with("count", "0"), job.Spec{}, "count"},
		{"too many", with("count", "17"), job.Spec{}, "count"},
		{"a seed that is none", with("seed", "4.5"), job.Spec{}, "seed"},
		{"a negative seed", with("seed", "-1"), job.Spec{}, "seed"},
		{"a prompt that is too long", with("prompt", strings.Repeat("x", job.MaxPrompt+1)), job.Spec{}, "prompt"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := readSpec(func(id string) string { return test.in[id] })
			if err == nil {
				err = got.WithDefaults().Validate()
			}
			var wrong *job.FieldError
			if errors.As(err, &wrong) != (test.field != "") || wrong != nil && wrong.Field != test.field {
				t.Fatalf("error %v, want one about %q", err, test.field)
			}
			if test.field != "" {
				if fieldIDs[wrong.Field] == "" {
					t.Errorf("no input shows an error about %s", wrong.Field)
				}
				return
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
