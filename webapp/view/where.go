package view

import (
	"slices"
	"strconv"
	"strings"

	"muster/shared/gpu"
	"muster/shared/model"
)

// fewDevices is how many numbers and runs of numbers people read as a list; of more only the count is told.
const fewDevices = 6

// devicesText is allDevices, shortened: "41 devices".
func devicesText(refs []gpu.Ref) string {
	words := allDevices(refs)
	if strings.Count(words, ",")+2 > fewDevices {
		return strconv.Itoa(len(refs)) + nbsp + "devices"
	}
	return words
}

// allDevices is gpu.Named in which no line ends before a number.
func allDevices(refs []gpu.Ref) string { return unbroken.Replace(gpu.Named(refs)) }

var unbroken = strings.NewReplacer("Device ", "Device"+nbsp, "devices ", "devices"+nbsp, "and ", "and"+nbsp)

// enumerated joins names as people do: "0, 1 and 4".
func enumerated(names []string) string { return unbroken.Replace(gpu.Listed(names)) }

// fitWords say on which devices a model of such a need fits: "Fits devices 0–2, not Device 3". "" when none is known.
func fitWords(needBytes uint64, devices []gpu.Device) string {
	var well, tight, not []gpu.Ref
	for i, fit := range model.FitsOf(needBytes, devices) {
		switch {
		case fit.Fits == nil:
		case !*fit.Fits:
			not = append(not, fit.Device)
		case model.FitOf(needBytes, roomOf(&devices[i])) == model.FitTight:
			tight = append(tight, fit.Device)
		default:
			well = append(well, fit.Device)
		}
	}
	known := len(well) + len(tight) + len(not)
	var parts []string
	switch {
	case known == 0:
		return ""
	case len(not) == known && known == len(devices):
		return "Fits no device of this machine"
	case len(well) == len(devices) && len(devices) > 1:
		return "Fits every device"
	case len(well) > 0:
		parts = append(parts, "fits "+devicesText(well))
	}
	if len(tight) > 0 {
		parts = append(parts, "fits "+devicesText(tight)+" only while little else is there")
	}
	if len(not) > 0 {
		parts = append(parts, notWords(len(parts) > 0, not))
	}
	return capital(strings.Join(parts, ", "))
}

// notWords say on which devices it does not fit. others says that it was told on which it does.
func notWords(others bool, not []gpu.Ref) string {
	words := devicesText(not)
	switch {
	case !others:
		return "does not fit " + words
	case words == allDevices(not):
		return "not " + words
	default:
		return "not" + nbsp + strconv.Itoa(len(not)) + nbsp + "others"
	}
}

// roomOf is the memory that a model can have on a device: of one that is divided, its largest part's. nil when not known.
func roomOf(d *gpu.Device) *uint64 {
	room := d.MemoryBytes
	if len(d.Partitions) > 0 {
		room = nil
	}
	for i := range d.Partitions {
		if m := d.Partitions[i].MemoryBytes; m != nil && (room == nil || *m > *room) {
			room = m
		}
	}
	return room
}

// fileSize writes the size of a file as disks are sold: "6.9 GB", "320 MB", "412 GB". Sizes of memory are in GiB.
func fileSize(bytes int64) string {
	if bytes < 1e9 {
		return strconv.FormatInt((max(0, bytes)+5e5)/1e6, 10) + nbsp + "MB"
	}
	places := 1
	if bytes >= 100e9 {
		places = 0
	}
	return group(strconv.FormatFloat(float64(bytes)/1e9, 'f', places, 64)) + nbsp + "GB"
}

// memorySize writes an estimate of memory: "9.5 GiB".
func memorySize(bytes uint64) string {
	return group(strconv.FormatFloat(float64(bytes)/gpu.GiB, 'f', 1, 64)) + nbsp + "GiB"
}

// listed joins what is said of something, leaving out what is not known.
func listed(words ...string) string {
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " · ")
}
