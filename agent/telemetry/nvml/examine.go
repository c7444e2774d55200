//go:build cgo

package nvml

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"muster/agent/telemetry"
	"muster/agent/telemetry/kernel"
)

// Examine says what there is of NVIDIA's driver, what is missing, what that costs and what mends it. It calls only functions that
// ask no device. On machines without a sign of NVIDIA it says nothing.
func (r *Reader) Examine(context.Context) []telemetry.Finding {
	cards := served(r.scanBus(new(kernel.Names)))
	d := &r.driver
	d.mu.Lock()
	lib, devices, problems, phase := d.lib, d.devices, d.found.Problems, d.manners.phase
	d.mu.Unlock()
	if lib == nil && len(cards) == 0 && !Worth(r.tree.Path("/"), "") {
		return nil
	}
	var findings []telemetry.Finding
	switch {
	case lib == nil && len(problems) == 0:
		findings = append(findings, fault("NVIDIA driver", whyNot(libraryNotFound), mendLibrary))
	case len(problems) > 0:
		findings = append(findings, fault("NVIDIA driver", problems[0], r.mend(problems[0])))
	case !lib.connected() && phase == open:
		findings = append(findings, telemetry.Finding{Level: telemetry.LevelNote, Subject: "NVIDIA driver", Text: "the library is there, but its kernel module is not loaded",
			Costs: "every value of NVIDIA GPUs, if there are any", Mend: r.mend(whyNot(driverNotLoaded))})
	case !lib.connected():
		findings = append(findings, telemetry.Finding{Level: telemetry.LevelOK, Subject: "NVIDIA driver", Text: "not asked, so that the cards can sleep"})
	default:
		h := versions(lib)
		findings = append(findings, telemetry.Finding{Level: telemetry.LevelOK, Subject: "NVIDIA driver",
			Text: fmt.Sprintf("driver %s, CUDA %s, NVML %s from %s", orUnknown(h.NVIDIADriver), orUnknown(h.CUDAVersion), orUnknown(h.NVMLVersion), mappedLibrary())})
		findings = append(findings, missing(lib)...)
	}
	findings = append(findings, r.examineNodes(cards)...)
	return append(findings, examinePersistence(devices)...)
}

const mendLibrary = "install the NVIDIA driver; in a container: docker run --gpus all …"

func fault(subject, text, mend string) telemetry.Finding {
	return telemetry.Finding{Level: telemetry.LevelFault, Subject: subject, Text: text, Costs: "every value of NVIDIA GPUs", Mend: mend}
}

// mend gives the command for a problem of the connection.
func (r *Reader) mend(problem string) string {
	switch problem {
	case whyNot(libraryNotFound):
		return mendLibrary
	case whyNot(driverNotLoaded):
		return "sudo modprobe nvidia"
	case whyNot(versionMismatch):
		if loaded := moduleVersion(r.tree.Word(r.tree.Path("proc/driver/nvidia"), "version")); loaded != "" {
			return "sudo reboot (the module that is loaded is " + loaded + ")"
		}
		return "sudo reboot"
	case whyNot(noPermission):
		return "ls -l /dev/nvidia*"
	default:
		return "sudo dmesg | grep -i -e NVRM -e Xid"
	}
}

// moduleVersion reads /proc/driver/nvidia/version: "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat …"; "" when
// it isn't there.
func moduleVersion(text string) string {
	_, rest, _ := strings.Cut(text, "NVRM version:")
	line, _, _ := strings.Cut(rest, "\n")
	for field := range strings.FieldsSeq(line) {
		if major, _, ok := strings.Cut(field, "."); ok {
			if _, err := strconv.Atoi(major); err == nil {
				return field
			}
		}
	}
	return ""
}

func orUnknown(text string) string {
	if text == "" {
		return "(not reported)"
	}
	return text
}

// mappedLibrary gives the file from which this process has the library; "" when that can't be told.
func mappedLibrary() string {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(maps)) {
		if i := strings.Index(line, "/"); i >= 0 && strings.Contains(line, "libnvidia-ml") {
			return strings.TrimSpace(line[i:])
		}
	}
	return ""
}

// missing names the functions that the library lacks, with the fields that this costs.
func missing(lib *library) (findings []telemetry.Finding) {
	costs := map[string][]string{}
	note := func(functions, fields []string) {
		if !lib.has(functions...) {
			costs[functions[0]] = append(costs[functions[0]], fields...)
		}
	}
	for _, step := range slices.Concat(tickSteps, detailSteps) {
		note(step.functions, step.fields)
	}
	for field, functions := range identityFunctions {
		note(functions, []string{field})
	}
	for field, function := range limitFunctions {
		note([]string{function}, []string{field})
	}
	note([]string{"nvmlEventSetWait_v2", "nvmlEventSetWait"}, []string{"faults"})
	if !lib.has("nvmlDeviceGetMemoryInfo_v2") {
		note([]string{"nvmlDeviceGetMemoryInfo_v2"}, []string{"memory_reserved_bytes"})
	}
	for function, fields := range costs {
		slices.Sort(fields)
		findings = append(findings, telemetry.Finding{Level: telemetry.LevelNote, Subject: function, Text: "this driver's library does not have it",
			Costs: strings.Join(slices.Compact(fields), ", "), Mend: "update the NVIDIA driver"})
	}
	if lib.longProcesses() {
		findings = append(findings, telemetry.Finding{Level: telemetry.LevelNote, Subject: "processes",
			Text:  "this driver writes its list of processes in a layout of its own, as 535.43 to 535.86 do: muster does not ask for it",
			Costs: "processes", Mend: "update the NVIDIA driver to 535.98 or newer"})
	}
	slices.SortFunc(findings, func(a, b telemetry.Finding) int { return strings.Compare(a.Subject, b.Subject) })
	return findings
}

// examineNodes looks at the device nodes, by their modes alone: opening one would wake its card.
func (r *Reader) examineNodes(cards []busCard) (findings []telemetry.Finding) {
	nodes, _ := filepath.Glob(r.tree.Path("dev/nvidia[0-9]*")) // the pattern is good
	if control := r.tree.Path("dev/nvidiactl"); exists(control) {
		nodes = append(nodes, control)
	}
	if len(nodes) == 0 && len(cards) > 0 {
		return []telemetry.Finding{{Level: telemetry.LevelFault, Subject: "/dev/nvidia*", Text: "there are no device nodes of NVIDIA's driver",
			Costs: "every value of NVIDIA GPUs", Mend: "sudo nvidia-modprobe -c 0 -u; in a container: docker run --gpus all …"}}
	}
	for _, node := range nodes {
		name := "/dev/" + filepath.Base(node)
		const readAndWrite = 6
		if err := syscall.Access(node, readAndWrite); err != nil {
			findings = append(findings, telemetry.Finding{Level: telemetry.LevelFault, Subject: name, Text: "this user may not use it",
				Costs: "every value of the card", Mend: mendNode(node, name)})
		}
	}
	if len(nodes) > 0 && len(findings) == 0 {
		findings = append(findings, telemetry.Finding{Level: telemetry.LevelOK, Subject: "/dev/nvidia*", Text: fmt.Sprintf("%d device nodes, each usable", len(nodes))})
	}
	return findings
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// mendNode names the group that may use a node, or the option of the driver that makes it usable for all.
func mendNode(path, name string) string {
	info, err := os.Stat(path)
	if err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().Perm()&0o060 == 0o060 && stat.Gid != 0 {
			group := strconv.Itoa(int(stat.Gid))
			if g, err := user.LookupGroupId(group); err == nil {
				group = g.Name
			}
			return fmt.Sprintf("sudo usermod -aG %s \"$USER\", then log in again", group)
		}
	}
	return "sudo chmod 0666 " + name + ", and options nvidia NVreg_DeviceFileMode=0666 in /etc/modprobe.d/nvidia.conf"
}

// examinePersistence tells of cards whose driver is unloaded when nobody uses them, where they aren't meant to sleep.
func examinePersistence(devices map[string]*device) []telemetry.Finding {
	off := 0
	for _, dev := range devices {
		if dev.persistent != nil && !*dev.persistent && !dev.maySleep {
			off++
		}
	}
	if off == 0 {
		return nil
	}
	return []telemetry.Finding{{Level: telemetry.LevelNote, Subject: "persistence mode", Text: fmt.Sprintf("off for %d of %d GPUs: without a user the driver lets go of the card", off, len(devices)),
		Costs: "the first program after a pause waits some seconds a card, and settings such as power limits are forgotten",
		Mend:  "sudo systemctl enable --now nvidia-persistenced, or sudo nvidia-smi -pm 1"}}
}
