package backend

import (
	"testing"

	"muster/shared/model"
)

func TestGuidance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		m          Model
		scale, own float64
	}{
		{Model{}, 5, 0}, {Model{Family: model.SDXL, Name: "sdxl_turbo"}, 5, 0}, {Model{Family: model.Flux}, 1, 5},
		{Model{Family: model.ZImage, Name: "z_image_turbo"}, 1, 0}, {Model{Family: model.ZImage, Name: "z_image"}, 5, 0},
	} {
		if scale, own := tt.m.Guidance(5); scale != tt.scale || own != tt.own {
			t.Errorf("%+v: %g %g, want %g %g", tt.m, scale, own, tt.scale, tt.own)
		}
	}
}
