package sim

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"muster/shared/gpu"
)

// Bounds of a trace, so that none eats memory or time without end.
const (
	maxTraceBytes  = 16 << 20
	maxModels      = 64
	maxImages      = 20_000
	maxPerSet      = 1000
	maxEventsTrace = 10_000
	maxAt          = 2e6 // seconds
	maxWork        = 5e6 // seconds of all images, one after the other, on the slowest device
	maxStale       = 600 // seconds
)

// ParseTrace reads a trace. What is left out is as in the benchmark, without noise and with right priors. left says which sets are
// left out because their model fits no device of the box, and whether fields are not known. Its error names the field and says what is allowed.
func ParseTrace(in io.Reader) (w *World, left []string, err error) {
	raw, err := io.ReadAll(io.LimitReader(in, maxTraceBytes+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read trace: %w", err)
	}
	if len(raw) > maxTraceBytes {
		return nil, nil, fmt.Errorf("trace is larger than %d MiB", maxTraceBytes>>20)
	}
	file, strange, err := decodeTrace(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("trace: %w", err)
	}
	w, left, err = file.world()
	if err != nil {
		return nil, nil, fmt.Errorf("trace: %w", err)
	}
	if strange != nil {
		left = append(left, fmt.Sprintf("not every field of the trace is known, and what is not was left out: %v", strange))
	}
	return w, left, nil
}

// reader takes values with their defaults and bounds, and keeps the first error.
type reader struct{ err error }

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// number gives a value within least and most; nil is the default, which is NaN when there is none.
func (r *reader) number(field string, value *float64, usual, least, most float64) float64 {
	switch {
	case value == nil && math.IsNaN(usual):
		r.fail("%s is missing", field)
		return least
	case value == nil:
		return usual
	case !(*value >= least && *value <= most):
		r.fail("%s is %g: allowed is %g to %g", field, *value, least, most)
		return least
	}
	return *value
}

var required = math.NaN()

func (f *traceFile) world() (*World, []string, error) {
	r := &reader{}
	w := &World{
		Box: f.box(r), Warm: none, Seed: 1,
		Noise:      r.number("noise", f.Noise, 0, 0, 2),
		Stale:      r.number("stale_s", f.StaleS, telemetryLate, 0, maxStale),
		PriorError: r.number("prior_error", f.PriorError, 1, 0.001, 1000),
	}
	if f.Seed != nil {
		w.Seed = *f.Seed
	}
	names := f.models(r, w)
	f.events(r, w)
	left := f.sets(r, w, names)
	f.warm(r, w, names)
	if r.err == nil {
		checkWork(r, w)
	}
	return w, left, r.err
}

func (f *traceFile) box(r *reader) Box {
	b := Box{
		Name:       "trace",
		LoadBase:   r.number("box.load_base_s", f.Box.LoadBaseS, loadBase, 0, 1e4),
		ColdRate:   1e9 * r.number("box.disk_gbps", f.Box.DiskGBps, coldRate/1e9, 1e-3, 1e6),
		CachedRate: 1e9 * r.number("box.cached_gbps", f.Box.CachedGBps, cachedRate/1e9, 1e-3, 1e6),
	}
	if n := len(f.Box.Devices); n == 0 || n > maxDevices {
		r.fail("box.devices has %d: allowed is 1 to %d", n, maxDevices)
		return b
	}
	for i, d := range f.Box.Devices {
		field := fmt.Sprintf("box.devices[%d]", i)
		b.Devices = append(b.Devices, device(r.number(field+".speed", d.Speed, required, 1e-3, 1e3), r.number(field+".vram_gib", d.VRAMGiB, required, 0, 1e5)))
	}
	return b
}

// models fills in the models, by name; without any they are those of the benchmark.
func (f *traceFile) models(r *reader, w *World) (names []string) {
	if f.Models == nil {
		w.Models = Models
		for _, m := range Models {
			names = append(names, m.Name)
		}
		return names
	}
	if len(f.Models) > maxModels {
		r.fail("models has %d: allowed are %d", len(f.Models), maxModels)
		return nil
	}
	names = slices.Sorted(maps.Keys(f.Models))
	for _, name := range names {
		m, field := f.Models[name], fmt.Sprintf("models[%.40q]", name)
		w.Models = append(w.Models, Model{
			Name:    name,
			File:    1e9 * r.number(field+".file_gb", m.FileGB, 0, 0, 1e5),
			Memory:  uint64(gpu.GiB * r.number(field+".vram_gib", m.VRAMGiB, 0, 0, 1e5)),
			Seconds: r.number(field+".seconds", m.Seconds, required, 1e-3, 1e4),
		})
	}
	return names
}

func (f *traceFile) sets(r *reader, w *World, names []string) (left []string) {
	images := 0
	for i, s := range f.Sets {
		field := fmt.Sprintf("sets[%d]", i)
		at := r.number(field+".t", &s.T, 0, 0, maxAt)
		model := slices.Index(names, s.Model)
		count := 1
		if s.Count != nil {
			count = *s.Count
		}
		switch {
		case model < 0:
			r.fail("%s.model is %.40q, which is not among the models", field, s.Model)
		case count < 1 || count > maxPerSet:
			r.fail("%s.count is %d: allowed is 1 to %d", field, count, maxPerSet)
		case images+count > maxImages:
			r.fail("sets have more than %d images together", maxImages)
		}
		if r.err != nil {
			return nil
		}
		if len(w.Box.fits(w.Models[model])) == 0 {
			left = append(left, fmt.Sprintf("%s is left out: %s fits no device", field, s.Model))
			continue
		}
		images += count
		w.Sets = append(w.Sets, Set{At: at, Model: model, Count: count})
	}
	if len(w.Sets) == 0 && r.err == nil {
		r.fail("there is no set that fits the box")
	}
	slices.SortStableFunc(w.Sets, func(a, b Set) int { return compare(a.At, b.At) })
	return left
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (f *traceFile) events(r *reader, w *World) {
	if len(f.Events) > maxEventsTrace {
		r.fail("events has %d: allowed are %d", len(f.Events), maxEventsTrace)
		return
	}
	for i, e := range f.Events {
		field := fmt.Sprintf("events[%d]", i)
		x := Disturbance{At: r.number(field+".t", &e.T, 0, 0, maxAt), Kind: e.Kind}
		if e.Device == nil || *e.Device < 0 || *e.Device >= len(w.Box.Devices) {
			r.fail("%s.device is missing or no device of the box", field)
			return
		}
		x.Device = *e.Device
		usual := busyOn
		switch e.Kind {
		case Dead:
			usual = deathRepair
		case Busy:
			x.Compute = r.number(field+".compute", e.Compute, busyCompute, 0, 1)
			x.Memory = r.number(field+".vram", e.VRAM, busyMemory, 0, 1)
		case Hot:
			usual = hotFor
			x.Speed = r.number(field+".speed", e.Speed, hotSpeed, 0.01, 10)
		default:
			r.fail("%s.kind is %.40q: allowed are %s, %s and %s", field, e.Kind, Dead, Busy, Hot)
		}
		if e.Kind != Busy && (e.Compute != nil || e.VRAM != nil) || e.Kind != Hot && e.Speed != nil {
			r.fail("%s has a field that kind %s does not know", field, e.Kind)
		}
		x.For = r.number(field+".for_s", e.ForS, usual, 0, maxAt)
		w.Disturbances = append(w.Disturbances, x)
	}
	slices.SortStableFunc(w.Disturbances, func(a, b Disturbance) int { return compare(a.At, b.At) })
}

func (f *traceFile) warm(r *reader, w *World, names []string) {
	name := f.Warm
	if name == "" {
		name = f.Box.Warm
	}
	if name == "" {
		return
	}
	if w.Warm = slices.Index(names, name); w.Warm < 0 {
		r.fail("warm is %.40q, which is not among the models", name)
	}
}

// checkWork refuses what would take too long to simulate.
func checkWork(r *reader, w *World) {
	if sum := w.longest(); sum > maxWork {
		r.fail("the images would take %.3g s one after the other on the slowest device: allowed are %g", sum, maxWork)
	}
}

// longest is the seconds of all images, each loading its model, one after the other on the slowest device.
func (w *World) longest() float64 {
	sum := 0.0
	for _, s := range w.Sets {
		slowest := never
		for _, d := range w.Box.fits(w.Models[s.Model]) {
			slowest = min(slowest, w.Box.Devices[d].Speed)
		}
		sum += float64(s.Count) * (w.Models[s.Model].Seconds/slowest + w.Box.load(w.Models[s.Model], false))
	}
	return sum
}
