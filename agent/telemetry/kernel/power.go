package kernel

import "path/filepath"

// RuntimeStatusFile gives the real path of the file in which the kernel says whether the device with that real folder sleeps;
// "" when it has none, and so never sleeps. Reading it wakes nothing.
func (t Tree) RuntimeStatusFile(dir string) string {
	power, err := t.ResolveIn(dir, "power")
	if err != nil {
		return ""
	}
	return filepath.Join(power, "runtime_status")
}

// Asleep says whether the device of that RuntimeStatusFile sleeps, so that reading its sensors would wake it (before
// Linux 6.15) or be refused (since). buf is for the file's content.
func (t Tree) Asleep(statusFile string, buf []byte) bool {
	if statusFile == "" {
		return false
	}
	n, err := t.read(statusFile, buf)
	return err == nil && Asleep(buf[:n])
}

// Asleep says whether a runtime_status is that of a sleeping device, or of one on its way there or back. A missing or empty file
// and "unsupported" are what devices without runtime power management have: those are awake.
func Asleep(status []byte) bool {
	switch string(Trim(status)) {
	case "suspended", "suspending", "resuming":
		return true
	default:
		return false
	}
}

// PowerControl gives what power/control says of the device with that real folder: "auto" lets it sleep, "on" keeps it awake; ""
// when the kernel doesn't say.
func (t Tree) PowerControl(dir string) string {
	power, err := t.ResolveIn(dir, "power")
	if err != nil {
		return ""
	}
	return t.Word(power, "control")
}
