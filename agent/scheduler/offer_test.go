package scheduler

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/sampler"
)

func TestOffer(t *testing.T) {
	t.Parallel()
	one := &sampler.List{Samplers: sampler.Named("euler", "euler_a")}
	two := &sampler.List{Samplers: sampler.Named("Euler", "DDIM")}
	s := New(Config{})
	slot := func(device gpu.Ref, fallback bool, models ...backend.Model) Slot {
		return Slot{Device: gpu.Device{Index: device}, Models: models, Fallback: fallback}
	}
	s.slots = []Slot{
		slot(0, false, backend.Model{Name: "a", Grid: 8, Samplers: one}, backend.Model{Name: "b", Grid: 48, Samplers: one}),
		slot(1, false, backend.Model{Name: "a", Family: model.Flux, Grid: 64, Samplers: two}, backend.Model{Name: "b", Grid: 64}),
		slot(2, false, backend.Model{Name: "a", Samplers: one}, backend.Model{Name: "c", Samplers: &sampler.List{}}),
		slot(gpu.CPU, true, backend.Model{Name: "d", Grid: 1000}),
	}
	s.awaited = []Awaited{{"comfyui x", []backend.Model{{Name: "f", Grid: 16, Samplers: one}, {Name: "c", Grid: 8, Samplers: one}}}}
	for _, tt := range []struct {
		model    string
		device   *gpu.Ref
		grid     int
		samplers string // of each list; "?" is not known
	}{
		{"a", nil, 64, "Euler,Euler a|Euler,DDIM"}, {"a", new(gpu.Ref(0)), 8, "Euler,Euler a"}, {"a", new(gpu.Ref(1)), 64, "Euler,DDIM"}, {"a", new(gpu.Ref(2)), 1, "Euler,Euler a"},
		{"b", nil, 192, "Euler,Euler a|?"}, {"b", new(gpu.Ref(1)), 64, "?"}, {"c", nil, 8, "none|Euler,Euler a"}, {"c", new(gpu.Ref(2)), 1, "none"}, {"f", nil, 16, "Euler,Euler a"}, {"f", new(gpu.Ref(0)), 1, ""}, {"c", new(gpu.Ref(0)), 1, ""}, {"d", nil, 1, ""}, {"e", nil, 1, ""},
	} {
		offer := s.Offer(tt.model, tt.device)
		var got []string
		for _, list := range offer.Samplers {
			switch {
			case list == nil:
				got = append(got, "?")
			case len(list.Samplers) == 0:
				got = append(got, "none")
			default:
				got = append(got, strings.Join(list.Titles(), ","))
			}
		}
		if words := strings.Join(got, "|"); offer.Grid != tt.grid || words != tt.samplers {
			t.Errorf("%s on %v: %d %s, want %d %s", tt.model, tt.device, offer.Grid, words, tt.grid, tt.samplers)
		}
	}
	if offer := s.Offer("a", nil); offer.Family != model.Flux {
		t.Errorf("family %q", offer.Family)
	}
}

// An image goes where its sampler is known, and where it is not known what there is; never elsewhere, and fails when that is nowhere.
func TestSamplerChoosesTheDevice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, Predicted)
		known := []*sampler.List{
			{Samplers: sampler.Named("euler")}, {Samplers: sampler.Named("dpmpp_2m"), Schedules: sampler.Named("karras")}, {},
		}
		slots := r.config.Slots
		r.config.Slots = func(inventory gpu.Inventory) []Slot {
			all := slots(inventory)
			for i := range all {
				all[i].Models = []backend.Model{{Name: "sdxl", Samplers: known[i]}}
			}
			return all
		}
		r.run()
		here := r.jobs.add(2, func(j *job.Job) { j.Sampler = "DPM++ 2M Karras" })
		nowhere := r.jobs.add(1, func(j *job.Job) { j.Sampler = "Restart" })
		pass(time.Second)
		if j := r.expect(here[0], job.Running); *j.DeviceID != 1 {
			t.Errorf("on %s", *j.DeviceID)
		}
		r.expect(here[1], job.Queued)
		const want = `no device has a generator for model "sdxl" with the sampler "Restart" now`
		if j := r.expect(nowhere[0], job.Queued); !strings.Contains(j.Reason, want) {
			t.Errorf("reason is %q", j.Reason)
		}
		pass(missingAfter + time.Second)
		if j := r.expect(nowhere[0], job.Failed); !strings.Contains(j.Error, "Restart") {
			t.Errorf("error is %q", j.Error)
		}
		r.end()
	})
}

// The default model does not change by itself: not when its generator is away for a while, and it is none that could not be loaded.
func TestDefaultModelStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, Predicted)
		var first Slot // what is said of the first device
		first.Models = []backend.Model{{Name: "broken", Refused: true}, {Name: "dreams"}}
		slots := r.config.Slots
		r.config.Slots = func(inventory gpu.Inventory) []Slot {
			all := slots(inventory)
			all[0].Models, all[0].Problem = first.Models, first.Problem
			all[1].Models = []backend.Model{{Name: "flux"}}
			return all
		}
		r.run()
		check := func(when, want string) {
			t.Helper()
			r.Wake()
			pass(2 * time.Second)
			if got := r.Capacity().DefaultModel; got != want {
				t.Errorf("%s it is %q, want %q", when, got, want)
			}
		}
		check("beside a broken one", "dreams")
		first.Problem = "does not answer"
		check("while its generator is away", "dreams")
		first.Problem, first.Models = "", []backend.Model{{Name: "another"}, {Name: "dreams"}}
		check("when another comes first", "dreams")
		first.Models = first.Models[:1]
		check("when it is gone", "another")
		first.Models, first.Problem = []backend.Model{{Name: "another", Refused: true}}, ""
		check("when it could not be loaded", "flux")
		r.end()
	})
}
