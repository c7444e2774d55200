package e2e

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"muster/agent/backend/backendtest"
	"muster/agent/fixture"
	"muster/e2e/harness"
	"muster/shared/gpu"
	"muster/shared/job"
)

// deathSpec is one image, with a seed of its own so that it can be made a second time.
func deathSpec(model string, steps int) job.Spec {
	seed := int64(4711)
	return job.Spec{Prompt: "a lighthouse keeper", Model: model, Width: 64, Height: 64, Steps: steps, Seed: &seed}
}

// order asks for one image and gives its job.
func order(t *testing.T, agent *harness.Agent, spec job.Spec) job.Job {
	t.Helper()
	var set struct {
		Jobs []job.Job `json:"jobs"`
	}
	eventually(t, "a device can generate", func() bool {
		status, err := agent.Do(t.Context(), "POST", "/api/v1/jobs", spec, &set)
		if err != nil && status != http.StatusServiceUnavailable {
			t.Fatal(err)
		}
		return err == nil
	})
	return set.Jobs[0]
}

// reaches waits until a job is as it should be, and gives it.
func reaches(t *testing.T, agent *harness.Agent, id string, what string, ok func(job.Job) bool) (j job.Job) {
	t.Helper()
	eventually(t, what, func() bool {
		get(t, agent, "/api/v1/jobs/"+id, &j)
		return ok(j)
	})
	return j
}

func ended(j job.Job) bool { return j.State.Terminal() }

// madeElsewhere fails the test unless the image was made in the second attempt, with its seed, and is the one that nothing
// disturbs.
func madeElsewhere(t *testing.T, agent *harness.Agent, id string, spec job.Spec) job.Job {
	t.Helper()
	j := reaches(t, agent, id, "the image is made", ended)
	if j.State != job.Succeeded || j.Attempt != 2 || j.Failures != 1 || j.Seed != *spec.Seed {
		t.Errorf("job is %s at attempt %d after %d failures, seed %d: %s", j.State, j.Attempt, j.Failures, j.Seed, j.Error)
	}
	again := reaches(t, agent, order(t, agent, spec).ID, "the image is made a second time", ended)
	if again.ImageID != j.ImageID || j.ImageID == "" {
		t.Errorf("after a death its image is %.12q, at rest %.12q (%s)", j.ImageID, again.ImageID, again.Error)
	}
	return j
}

// servers is an agent on the eight captured cards with the fake sd-server and some models.
func servers(t *testing.T, scenarios map[string]backendtest.Scenario) (agent *harness.Agent, program, models string) {
	t.Helper()
	program = backendtest.BuildFakeSDServer(t, backendtest.MI25x8())
	models = t.TempDir()
	for name, scenario := range scenarios {
		backendtest.WriteModel(t, models, name, scenario)
	}
	return start(t, "--sysroot", fixture.Root(t, "amd-mi25x8"), "--sd-server", program, "--models", models), program, models
}

// A generator that dies, hangs up or talks nonsense at any point of an image costs one attempt: the image is made on another
// device with the same seed, and is the same image.
func TestGeneratorDeathAtAnyPointOfAnImage(t *testing.T) {
	t.Parallel()
	const steps = 3
	faults := map[string]backendtest.Fault{
		"dies while loading":             {Do: backendtest.LoadCrashes},
		"has no room while loading":      {Do: backendtest.LoadOutOfMemory},
		"dies before the first step":     {Do: backendtest.Crash, Step: 1},
		"dies at the second step":        {Do: backendtest.Crash, Step: 2},
		"dies after the last step":       {Do: backendtest.Crash, Step: steps + 1},
		"aborts":                         {Do: backendtest.Abort, Step: 2, Text: "ggml-cuda.cu:88: CUDA error: an illegal memory access was encountered"},
		"has no room for the image":      {Do: backendtest.OutOfMemory, Step: 1},
		"fails when it is asked":         {Do: backendtest.ServerError, Text: "std::bad_alloc"},
		"answers nonsense":               {Do: backendtest.Garbage},
		"gives the image of another job": {Do: backendtest.WrongID},
		"has lost the job":               {Do: backendtest.Lost},
		"gives half an image":            {Do: backendtest.CutPNG},
		"gives a damaged image":          {Do: backendtest.DamagedPNG},
		"gives no image":                 {Do: backendtest.NoImage},
		"fails when it is asked for it":  {Do: backendtest.AnswerFails},
	}
	scenarios, models := map[string]backendtest.Scenario{}, map[string]string{}
	for name, fault := range faults {
		fault.Start = 1
		models[name] = fmt.Sprintf("m%02d", len(models))
		scenarios[models[name]] = backendtest.Scenario{Faults: []backendtest.Fault{fault}}
	}
	agent, program, folder := servers(t, scenarios)
	// Three at a time: a device that failed rests a little, and where all but one rest, that one is tried again.
	for names := range slices.Chunk(slices.Sorted(maps.Keys(faults)), 3) {
		ids := map[string]string{}
		for _, name := range names {
			ids[name] = order(t, agent, deathSpec(models[name], steps)).ID
		}
		for _, name := range names {
			t.Run(name, func(t *testing.T) {
				j := madeElsewhere(t, agent, ids[name], deathSpec(models[name], steps))
				first := firstStart(t, program, filepath.Join(folder, models[name]+".safetensors"))
				if first.Device == j.DeviceKey {
					t.Errorf("the second attempt was made on %s again: %s", j.DeviceKey, j.Reason)
				}
			})
		}
	}
}

// firstStart gives the first start of the program with that model.
func firstStart(t *testing.T, program, model string) backendtest.Start {
	t.Helper()
	starts := backendtest.Serving(t, program)
	i := slices.IndexFunc(starts, func(s backendtest.Start) bool { return s.Model == model })
	if i < 0 {
		t.Fatalf("sd-server was never started with %s", model)
	}
	return starts[i]
}

// Somebody ends the generator, as the kernel does when memory is short.
func TestGeneratorKilledFromOutside(t *testing.T) {
	t.Parallel()
	agent, program, models := servers(t, map[string]backendtest.Scenario{"sd15": {StepMilliseconds: 50}})
	spec := deathSpec("sd15", 40)
	id := order(t, agent, spec).ID
	reaches(t, agent, id, "the image is being made", func(j job.Job) bool { return j.Progress.Step > 2 })
	killed := firstStart(t, program, filepath.Join(models, "sd15.safetensors"))
	if err := syscall.Kill(killed.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if j := madeElsewhere(t, agent, id, spec); j.DeviceKey == killed.Device {
		t.Errorf("the second attempt was made on %s again", j.DeviceKey)
	}
}

// An image whose generator hangs can be cancelled, and its device makes the next one.
func TestHungGeneratorIsCancelled(t *testing.T) {
	t.Parallel()
	agent, _, _ := servers(t, map[string]backendtest.Scenario{"sd15": {Faults: []backendtest.Fault{{Start: 1, Do: backendtest.Hang, Step: 2}}}})
	device := gpu.Ref(3)
	spec := deathSpec("sd15", 4)
	spec.DeviceID = &device
	id := order(t, agent, spec).ID
	reaches(t, agent, id, "the image is being made", func(j job.Job) bool { return j.State == job.Running && j.Progress.Step > 0 })
	if _, err := agent.Do(t.Context(), "DELETE", "/api/v1/jobs/"+id, nil, nil); err != nil {
		t.Error(err)
	}
	if j := reaches(t, agent, id, "the job has ended", ended); j.State != job.Cancelled || j.Attempt != 1 {
		t.Errorf("job is %s at attempt %d", j.State, j.Attempt)
	}
	if j := reaches(t, agent, order(t, agent, spec).ID, "the next image is made", ended); j.State != job.Succeeded || *j.DeviceID != device {
		t.Errorf("the next job is %s on %v: %s", j.State, j.DeviceID, j.Error)
	}
}

// A device that falls off the bus in the middle of an image: it is made elsewhere, and is the same image.
func TestDeviceLostDuringAnImage(t *testing.T) {
	t.Parallel()
	program := backendtest.BuildFakeSDServer(t, h100x8())
	models := t.TempDir()
	backendtest.WriteModel(t, models, "sd15", backendtest.Scenario{StepMilliseconds: 200})
	f := startFakeNVIDIA(t, "--sd-server", program, "--models", models)
	eventually(t, "all GPUs are read", func() bool { return f.are(-1, "") })
	spec := deathSpec("sd15", 100)
	id := order(t, f.Agent, spec).ID
	j := reaches(t, f.Agent, id, "the image is being made", func(j job.Job) bool { return j.Progress.Step > 2 })
	lost := j.DeviceKey
	f.Set(fmt.Sprintf("%d.lost=1", *j.DeviceID))
	eventually(t, "the device is lost", func() bool { return f.newest().states[lost].State == gpu.StateLost })
	backendtest.WriteModel(t, models, "sd15", backendtest.Scenario{}) // who loads it from now on is fast
	if j := madeElsewhere(t, f.Agent, id, spec); j.DeviceKey == lost {
		t.Errorf("it was made on %s, which is lost", lost)
	}
	eventually(t, "no generator is left on the lost device", func() bool {
		for _, s := range backendtest.Serving(t, program) {
			if s.Device == lost && !errors.Is(syscall.Kill(s.PID, 0), syscall.ESRCH) {
				return false
			}
		}
		return true
	})
}

// h100x8 are the eight GPUs of the fake driver as a CUDA build lists them.
func h100x8() backendtest.Settings {
	var s backendtest.Settings
	for i := range 8 {
		s.Devices = append(s.Devices, backendtest.Device{Name: fmt.Sprintf("CUDA%d", i), Description: "NVIDIA H100 80GB HBM3", ID: nvidia(i)})
	}
	return s
}
