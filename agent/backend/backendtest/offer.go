package backendtest

import (
	"bytes"
	"errors"
	"image/png"
	"slices"
	"testing"

	"muster/agent/backend"
	"muster/shared/gpu"
	"muster/shared/job"
)

// testOffer asks for sizes and samplers, and gets what the model tells before.
func testOffer(t *testing.T, b backend.Backend, s Subject) {
	dev := s.Devices[0]
	plain := generate(t, b, dev, s.request(11), nil) // some tell once they have run
	models := s.Models(b)
	at := slices.IndexFunc(models, func(m backend.Model) bool { return m.Name == s.Model })
	if at < 0 {
		t.Fatalf("%s is not among its models %v", s.Model, models)
	}
	m := models[at]
	odd := s.request(11)
	odd.Width, odd.Height = 70, 130
	if width, height := sides(t, generate(t, b, dev, odd, nil)); width != next(70, m.Grid) || height != next(130, m.Grid) {
		t.Errorf("70x130 became %dx%d; the model tells of multiples of %d", width, height, m.Grid)
	}
	if m.Samplers == nil {
		return
	}
	unknown := s.request(11)
	unknown.Sampler = "no such sampler"
	testFinal(t, b, dev, unknown)
	titles := m.Samplers.Titles()
	if len(titles) < 2 {
		return
	}
	images := [][]byte{plain}
	wanted := []string{titles[len(titles)-1], titles[len(titles)-2]}
	if schedules := m.Samplers.ScheduleTitles(); len(schedules) > 0 {
		wanted = append(wanted, titles[len(titles)-1]+" "+schedules[len(schedules)-1])
	}
	for _, name := range wanted {
		req := s.request(11)
		req.Sampler = name
		image := generate(t, b, dev, req, nil)
		if slices.ContainsFunc(images[1:], func(other []byte) bool { return bytes.Equal(other, image) }) {
			t.Errorf("%q gave the image of another sampler", name)
		}
		images = append(images, image)
	}
}

// testFinal has a request refused for good.
func testFinal(t *testing.T, b backend.Backend, dev gpu.Device, req backend.Request) {
	t.Helper()
	_, err := b.Generate(t.Context(), dev, req, func(job.Progress) {})
	switch {
	case err == nil:
		t.Errorf("it made an image with the sampler %q and the model %q", req.Sampler, req.Model)
	case errors.Is(err, backend.ErrUnavailable) || errors.Is(err, backend.ErrOutOfMemory):
		t.Errorf("what can't be made is not final, but tried again elsewhere: %v", err)
	}
}

// next is the smallest multiple of grid that is not below side; 0 is any size.
func next(side, grid int) int {
	grid = max(1, grid)
	return (side + grid - 1) / grid * grid
}

func sides(t *testing.T, file []byte) (width, height int) {
	t.Helper()
	config, err := png.DecodeConfig(bytes.NewReader(file))
	if err != nil {
		t.Fatalf("the image is no PNG: %v", err)
	}
	return config.Width, config.Height
}
