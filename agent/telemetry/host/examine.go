package host

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"muster/agent/telemetry"
)

// initialPIDNamespace is the kernel's PROC_PID_INIT_INO: the inode of the PID namespace that the machine started with.
const initialPIDNamespace = "pid:[4026531836]"

// capSysPtrace is CAP_SYS_PTRACE of capabilities(7): without it /proc/PID/fdinfo of other users can't be read.
const capSysPtrace = 19

// Examine says what stands between this process and the machine's devices and processes: a container, a PID namespace, a /proc
// that hides processes, a capability that is missing. Sources: namespaces(7), proc(5) on hidepid, capabilities(7).
func (r *Reader) Examine(context.Context) []telemetry.Finding {
	var findings []telemetry.Finding
	if kind := r.container(); kind != "" {
		findings = append(findings, telemetry.Finding{
			Level: telemetry.LevelNote, Subject: "container", Text: "muster runs in a container (" + kind + ") and sees only the devices that were given to it",
			Costs: "cards that were not given are missing, or are listed without values",
			Mend:  "start the container with --gpus all (NVIDIA), or with --device /dev/kfd --device /dev/dri --group-add render (AMD)",
		})
	}
	return append(findings, r.examineProcesses())
}

// examineProcesses says whose processes can be seen: the first thing that hides some counts.
func (r *Reader) examineProcesses() telemetry.Finding {
	hidden := func(text, mend string) telemetry.Finding {
		return telemetry.Finding{Level: telemetry.LevelNote, Subject: "processes", Text: text,
			Costs: "names and users of processes on the devices; on AMD and Intel their memory too", Mend: mend}
	}
	if namespace, err := r.proc.readlink("/proc/self/ns/pid"); err == nil && namespace != initialPIDNamespace {
		return hidden("muster runs in a PID namespace of its own, as in a container: other processes can't be seen, and drivers name them by numbers that mean nothing here",
			"start the container with --pid=host")
	}
	if data, err := r.proc.read("/proc/self/mountinfo", 1<<20); err == nil {
		if value := hidepid(string(data)); value != "" {
			return hidden("/proc is mounted with hidepid="+value+": processes of other users are hidden", "sudo mount -o remount,hidepid=0 /proc")
		}
	}
	data, err := r.proc.read("/proc/self/status", 64<<10)
	if err != nil {
		return hidden(fmt.Sprintf("what muster may see of other processes is not known: %v", err), "mount /proc")
	}
	if able, known := capable(string(data), capSysPtrace); known && !able {
		return hidden("processes of other users can be counted, but not looked into (CAP_SYS_PTRACE is missing)",
			"sudo setcap cap_sys_ptrace,cap_perfmon+ep \"$(command -v muster)\", or AmbientCapabilities=CAP_SYS_PTRACE CAP_PERFMON in its systemd unit")
	}
	return telemetry.Finding{Level: telemetry.LevelOK, Subject: "processes", Text: "those of every user can be seen"}
}

// container names the kind of container; "" outside of one, as far as it shows.
func (r *Reader) container() string {
	for path, kind := range map[string]string{"/.dockerenv": "Docker", "/run/.containerenv": "Podman"} {
		if _, err := r.proc.stat(path); err == nil {
			return kind
		}
	}
	data, err := r.proc.read("/proc/self/cgroup", 64<<10)
	if err != nil {
		return ""
	}
	return containerOf(string(data))
}

// containerOf reads /proc/PID/cgroup (cgroups(7)): container engines name their groups after themselves.
func containerOf(cgroup string) string {
	for line := range strings.Lines(cgroup) {
		for _, mark := range []struct{ part, kind string }{
			{"kubepods", "Kubernetes"}, {"docker", "Docker"}, {"libpod", "Podman"}, {"containerd", "containerd"}, {"/lxc", "LXC"},
		} {
			if _, path, ok := strings.Cut(line, ":/"); ok && strings.Contains("/"+path, mark.part) {
				return mark.kind
			}
		}
	}
	return ""
}

// hidepid reads /proc/PID/mountinfo (proc(5)): the value of the option hidepid of the last mount on /proc; "" when it hides
// nothing.
func hidepid(mountinfo string) (value string) {
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[4] != "/proc" {
			continue
		}
		value = ""
		for option := range strings.SplitSeq(fields[len(fields)-1], ",") {
			if v, ok := strings.CutPrefix(option, "hidepid="); ok && v != "0" && v != "off" {
				value = printable(v)
			}
		}
	}
	return value
}

// capable reads CapEff of /proc/PID/status; known is false when it isn't there.
func capable(status string, capability uint) (able, known bool) {
	for line := range strings.Lines(status) {
		if mask, ok := strings.CutPrefix(line, "CapEff:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return err == nil && bits&(1<<capability) != 0, err == nil
		}
	}
	return false, false
}
