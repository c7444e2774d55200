package backend

import (
	"testing"

	"muster/shared/model"
)

func TestGuidance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		m     Model
		scale float64
		own   bool
	}{
		{Model{}, 5, false}, {Model{Family: model.SDXL, Name: "sdxl_turbo"}, 5, false}, {Model{Family: model.Flux}, 1, true},
		{Model{Family: model.ZImage, Name: "z_image_turbo"}, 1, false}, {Model{Family: model.ZImage, Name: "z_image"}, 5, false},
	} {
		if scale, own := tt.m.Guidance(5); scale != tt.scale || (own != nil) != tt.own || own != nil && *own != 5 {
			t.Errorf("%+v: %g %v", tt.m, scale, own)
		}
	}
}
