// Package mask says which environment variable shows a process exactly one device. It is a leaf of the backends.
package mask

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"muster/shared/gpu"
)

// Variables pin a process to devices, one per driver or library. Setting two of them may leave none: HIP_VISIBLE_DEVICES counts
// within what ROCR_VISIBLE_DEVICES leaves.
var Variables = []string{"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES", "SD_VK_DEVICE"}

// Set says whether an assignment, "NAME=value", sets one of Variables.
func Set(assignment string) bool {
	name, _, _ := strings.Cut(assignment, "=")
	return slices.Contains(Variables, name)
}

// Refuse gives an error for an environment that is meant for every child of a program, and sets one of Variables.
func Refuse(program string, env []string) error {
	for _, variable := range env {
		if name, _, _ := strings.Cut(variable, "="); Set(variable) {
			return fmt.Errorf("environment of %s: %s is set per device by muster; leave it out", program, name)
		}
	}
	return nil
}

// CUDA prefers the UUID: CUDA's own numbering is by speed, not by PCI address, unless it is told otherwise.
func CUDA(dev gpu.Device) ([]string, error) {
	switch {
	case strings.HasPrefix(dev.ID, "GPU-") || strings.HasPrefix(dev.ID, "MIG-"):
		return []string{"CUDA_VISIBLE_DEVICES=" + dev.ID}, nil
	case dev.VendorIndex != nil:
		return []string{"CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES=" + strconv.Itoa(*dev.VendorIndex)}, nil
	}
	return nil, fmt.Errorf("%s has neither a UUID nor an NVIDIA index, so no generator can be tied to it: check the driver with nvidia-smi -L", dev.Index.Label())
}

var amdUnique = regexp.MustCompile(`^GPU-[0-9a-f]{16}$`)

// ROCm sets ROCR_VISIBLE_DEVICES alone: HIP_VISIBLE_DEVICES would count within what that one leaves.
func ROCm(dev gpu.Device) ([]string, error) {
	switch {
	case amdUnique.MatchString(dev.ID):
		return []string{"ROCR_VISIBLE_DEVICES=" + dev.ID}, nil
	case dev.VendorIndex != nil:
		return []string{"ROCR_VISIBLE_DEVICES=" + strconv.Itoa(*dev.VendorIndex)}, nil
	}
	return nil, fmt.Errorf("%s has neither a unique id nor a place in the KFD topology, so no generator can be tied to it: check that /sys/class/kfd is readable", dev.Index.Label())
}
