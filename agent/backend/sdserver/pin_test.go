package sdserver

import (
	"strings"
	"testing"

	"muster/agent/backend/mask"
	"muster/shared/gpu"
)

func TestPin(t *testing.T) {
	t.Parallel()
	two := 2
	flags := map[string]bool{"--list-devices": true}
	cuda := build{flags: flags, devices: parseDevices("CUDA0\tNVIDIA GeForce RTX 4090\nVulkan0\tNVIDIA GeForce RTX 4090\nCPU\tx\n")}
	rocm := build{flags: flags, devices: parseDevices("ROCm0\tAMD Radeon Instinct MI25\nCPU\tx\n")}
	vulkan := build{flags: flags, devices: parseDevices("Vulkan0\tIntel(R) Arc(tm) A770 Graphics (DG2)\nVulkan1\tAMD Radeon RX 6900 XT (RADV NAVI21)\nVulkan2\tNVIDIA GeForce RTX 4090\n")}
	equal := build{flags: flags, devices: parseDevices("Vulkan0\tAMD Radeon Instinct MI25 (RADV VEGA10)\nVulkan1\tAMD Radeon Instinct MI25 (RADV VEGA10)\n")}
	told := build{flags: flags, devices: parseDevices("Vulkan0\tAMD Radeon Instinct MI25 (0000:1A:00.0)\nVulkan1\tAMD Radeon Instinct MI25 (0000:1D:00.0)\n")}
	cpuOnly := build{flags: flags, devices: parseDevices("CPU\tAMD EPYC\n")}
	old := build{version: "master-611-0123456", flags: map[string]bool{}}

	nvidia := gpu.Device{ID: "GPU-5a2b1c3d-0000-1111-2222-333344445555", Vendor: gpu.NVIDIA, Name: "NVIDIA GeForce RTX 4090"}
	mig := gpu.Device{ID: "MIG-5a2b1c3d-0000-1111-2222-333344445555", Vendor: gpu.NVIDIA, Name: "NVIDIA H100 MIG 1g.10gb"}
	nameless := gpu.Device{ID: "pci-0000:01:00.0", Vendor: gpu.NVIDIA, VendorIndex: &two, Name: "NVIDIA GeForce RTX 4090"}
	mi25 := gpu.Device{ID: "GPU-c34f1a2b00000004", Vendor: gpu.AMD, VendorIndex: &two, Name: "AMD Radeon Instinct MI25", PCIAddress: "0000:1d:00.0"}
	radeon := gpu.Device{ID: "pci-0000:03:00.0", Vendor: gpu.AMD, VendorIndex: &two, Name: "AMD Radeon RX 6900 XT", PCIAddress: "0000:03:00.0"}
	lost := gpu.Device{ID: "pci-0000:03:00.0", Vendor: gpu.AMD, Name: "AMD Radeon RX 6900 XT"}
	cpu := gpu.Device{ID: "cpu", Index: gpu.CPU, Name: "CPU"}

	for _, tt := range []struct {
		name     string
		build    build
		dev      gpu.Device
		override string
		env      string
		backend  string
		problem  string
	}{
		{"NVIDIA by UUID", cuda, nvidia, "", "CUDA_VISIBLE_DEVICES=" + nvidia.ID, "cuda0", ""},
		{"MIG by UUID", cuda, mig, "", "CUDA_VISIBLE_DEVICES=" + mig.ID, "cuda0", ""},
		{"NVIDIA without UUID", cuda, nameless, "", "CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=2", "cuda0", ""},
		{"AMD by unique id", rocm, mi25, "", "ROCR_VISIBLE_DEVICES=GPU-c34f1a2b00000004", "rocm0", ""},
		{"AMD by rank", rocm, radeon, "", "ROCR_VISIBLE_DEVICES=2", "rocm0", ""},
		{"AMD without either", rocm, lost, "", "", "", "neither a unique id"},
		{"AMD on a CUDA build", cuda, mi25, "", "", "", "Vulkan build of sd-server lists no device called"},
		{"NVIDIA on a ROCm build", rocm, nvidia, "", "", "", "lists no CUDA or Vulkan device (it lists rocm, cpu)"},
		{"Vulkan by name", vulkan, radeon, "", "GGML_VK_VISIBLE_DEVICES=1", "vulkan0", ""},
		{"Vulkan for NVIDIA", vulkan, nvidia, "", "GGML_VK_VISIBLE_DEVICES=2", "vulkan0", ""},
		{"equal cards on Vulkan", equal, mi25, "", "", "", "use a ROCm or CUDA build"},
		{"equal cards with addresses", told, mi25, "", "GGML_VK_VISIBLE_DEVICES=1", "vulkan0", ""},
		{"a build for the CPU only", cpuOnly, mi25, "", "", "", "lists no ROCm or Vulkan device"},
		{"the CPU", cpuOnly, cpu, "", "", "cpu", ""},
		{"no list", old, mi25, "", "", "", "--sd-backend"},
		{"no list, but configured", old, mi25, "rocm0", "ROCR_VISIBLE_DEVICES=GPU-c34f1a2b00000004", "rocm0", ""},
		{"configured for another vendor", cuda, mi25, "cuda0", "", "", "can't drive"},
		{"a vendor without generator", cuda, gpu.Device{ID: "x", Vendor: "other"}, "", "", "", "no usable device"},
		{"simulated", rocm, gpu.Device{ID: "sim-0", Vendor: gpu.AMD, Simulated: true}, "", "", "", "simulated"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := tt.build.pin(tt.dev, tt.override)
			if tt.problem != "" {
				if err == nil || !strings.Contains(err.Error(), tt.problem) {
					t.Errorf("got %v, %v; want a problem with %q", p, err, tt.problem)
				}
				return
			}
			if got := strings.Join(p.env, " "); err != nil || got != tt.env || p.backend != tt.backend {
				t.Errorf("got %s, %s, %v; want %s, %s", got, p.backend, err, tt.env, tt.backend)
			}
			masks := 0
			for _, variable := range p.env {
				if mask.Set(variable) {
					masks++
				}
			}
			if want := 1; masks != want && tt.backend != "cpu" {
				t.Errorf("%d masks in %v", masks, p.env)
			}
		})
	}
}
