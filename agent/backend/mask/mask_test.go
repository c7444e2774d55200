package mask

import (
	"strings"
	"testing"

	"muster/shared/gpu"
)

func TestOneMaskByUUIDElseByNumber(t *testing.T) {
	t.Parallel()
	two := 2
	for _, tt := range []struct {
		name    string
		mask    func(gpu.Device) ([]string, error)
		dev     gpu.Device
		want    string
		problem string
	}{
		{"NVIDIA", CUDA, gpu.Device{ID: "GPU-5a2b1c3d-0000-1111-2222-333344445555"}, "CUDA_VISIBLE_DEVICES=GPU-5a2b1c3d-0000-1111-2222-333344445555", ""},
		{"MIG", CUDA, gpu.Device{ID: "MIG-5a2b1c3d-0000-1111-2222-333344445555"}, "CUDA_VISIBLE_DEVICES=MIG-5a2b1c3d-0000-1111-2222-333344445555", ""},
		{"NVIDIA by number", CUDA, gpu.Device{ID: "pci-0000:01:00.0", VendorIndex: &two}, "CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=2", ""},
		{"NVIDIA by nothing", CUDA, gpu.Device{ID: "pci-0000:01:00.0"}, "", "nvidia-smi"},
		{"AMD", ROCm, gpu.Device{ID: "GPU-c34f1a2b00000004", VendorIndex: &two}, "ROCR_VISIBLE_DEVICES=GPU-c34f1a2b00000004", ""},
		{"AMD by number", ROCm, gpu.Device{ID: "pci-0000:03:00.0", VendorIndex: &two}, "ROCR_VISIBLE_DEVICES=2", ""},
		{"AMD by nothing", ROCm, gpu.Device{ID: "pci-0000:03:00.0"}, "", "kfd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			env, err := tt.mask(tt.dev)
			if tt.problem != "" {
				if err == nil || !strings.Contains(err.Error(), tt.problem) {
					t.Errorf("got %v, %v; want a problem with %q", env, err, tt.problem)
				}
				return
			}
			masks := 0
			for _, variable := range env {
				if Set(variable) {
					masks++
				}
			}
			if got := strings.Join(env, " "); err != nil || got != tt.want || masks != 1 {
				t.Errorf("got %s with %d masks, %v; want %s", got, masks, err, tt.want)
			}
		})
	}
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	if err := Refuse("ComfyUI", []string{"LD_LIBRARY_PATH=/opt", "MY_CUDA_VISIBLE_DEVICES=1"}); err != nil {
		t.Error(err)
	}
	for _, name := range Variables {
		err := Refuse("ComfyUI", []string{"A=1", name + "=1"})
		if err == nil || !strings.Contains(err.Error(), "environment of ComfyUI: "+name+" is set per device") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
