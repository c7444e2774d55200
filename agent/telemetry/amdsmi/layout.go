package amdsmi

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// version is what the library says it is: the year and the major number up to ROCm 6.4 ("24.6"), the major and the minor number
// since ROCm 7.0 ("26.2"). Both count up, so that they compare as one.
type version struct{ first, second uint32 }

func (v version) String() string { return fmt.Sprintf("%d.%d", v.first, v.second) }

func (v version) compare(w version) int {
	return cmp.Or(cmp.Compare(v.first, w.first), cmp.Compare(v.second, w.second))
}

// versionBytes is the size of amdsmi_version_t in every version.
const versionBytes = 24

// parseVersion reads amdsmi_version_t; false for numbers that no version can have.
func parseVersion(b []byte) (version, bool) {
	if len(b) < versionBytes {
		return version{}, false
	}
	v := version{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])}
	return v, v.first >= 23 && v.first < 1000 && v.second < 1000
}

// field is a place in a struct. One of 0 bytes is not in it.
type field struct{ offset, bytes int }

// layout is how the library lays out its structs, of which the fields that muster wants. bytes is the size of the whole struct;
// 0 says that there is none.
type layout struct {
	since       version
	rocm        string // the releases that have it, for people
	asic        asicLayout
	power       powerLayout
	powerCap    powerCapLayout
	pcie        pcieLayout
	activity    activityLayout
	clock       clockLayout
	memory      memoryLayout
	errors      errorsLayout
	driver      driverLayout
	enumeration enumerationLayout
	process     processLayout
}

type (
	asicLayout struct {
		bytes                               int
		name, vendor, serial, units, target field
	}
	powerLayout struct { // in watts
		bytes                    int
		socket, current, average field
	}
	powerCapLayout struct { // in microwatts; the limit of ROCm 6.0 in watts
		bytes                            int
		limit, standard, lowest, highest field
	}
	pcieLayout struct { // speed in megatransfers per second
		bytes                 int
		width, speed, replays field
	}
	activityLayout struct { // in percent
		bytes            int
		graphics, memory field
	}
	clockLayout struct { // in megahertz
		bytes            int
		current, highest field
	}
	memoryLayout struct { // in mebibytes
		bytes       int
		total, used field
	}
	errorsLayout struct {
		bytes                  int
		corrected, uncorrected field
	}
	driverLayout struct {
		bytes   int
		version field
	}
	enumerationLayout struct {
		bytes     int
		hip, uuid field
	}
	processLayout struct { // memory in bytes
		bytes             int
		name, pid, memory field
	}
)

// layoutFor gives the layout of a version: the newest that is not newer. newer says that the version came after all that the
// table knows, so that its structs may differ. nil for those before ROCm 5.7, whose structs were others altogether.
func layoutFor(v version) (l *layout, newer bool) {
	for i := range slices.Backward(layouts) {
		if layouts[i].since.compare(v) <= 0 {
			return &layouts[i], v.compare(newest) > 0
		}
	}
	return nil, false
}
