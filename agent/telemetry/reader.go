// Package telemetry watches the devices of this machine: it asks readers at a fixed rate, joins what they say and publishes
// immutable snapshots. One driver call that hangs, lies or panics costs the device it was made for, never the stream.
//
// The readers live in sub-packages (nvml, amdgpu, sim, host) and import this one for the types below.
package telemetry

import (
	"context"
	"errors"

	"muster/shared/gpu"
)

// Found is what one reader sees of the machine. The sampler keeps it: a reader never changes it after returning it.
type Found struct {
	// Devices have no Index. IDs are unique within the reader; Sources names by field where each value comes from, including
	// the fields of Reading that Read fills.
	Devices  []gpu.Device
	Adapters []gpu.Adapter
	// Host has only the fields that this reader knows; the others are zero.
	Host gpu.Host
	// Problems are sentences for people, each saying what to do next.
	Problems []string
}

// SourceDeviceNumber is the source of a Device.Name that says no more than maker and PCI device id ("AMD GPU 0x6860").
const SourceDeviceNumber = "PCI device id"

// Reader reads the devices of one driver. Methods are called from several goroutines at once: never two calls of Read for one
// id, nor two of Inventory, but Inventory beside Reads of any device. The context has a deadline; a method that can't be
// interrupted may outlive it: the sampler stops waiting, and makes no further call of that kind until it has returned.
type Reader interface {
	// Name is short and in lower case: "nvml", "amdgpu", "sim". It stands before the reader's problems.
	Name() string
	// Inventory describes every device, also those that can't be read (with Error). It is called at start, every 30 s, and
	// sooner after a device was lost or its driver failed: a reader whose driver was reloaded connects anew here. No hardware
	// or no driver is no error: it is an empty Found. An error keeps the last Found and is shown as a problem.
	Inventory(ctx context.Context) (Found, error)
	// Read measures the device of that Device.ID. Index, State and AgeMilliseconds are the sampler's; the values that
	// pointers lead to are never changed after returning. An error that wraps one of the sentinels below becomes the
	// device's state, and the last values stay, with their age. With ErrSuspended, and of a device that was never measured
	// with ErrNoPermission, ErrNoDriver and ErrUnsupported too, the Reading carries what is known all the same (memory total,
	// say) and stands in their place.
	Read(ctx context.Context, id string) (gpu.Reading, error)
}

// DetailReader is a Reader that can tell more of a device than fits into a tick. Details is called at most every few seconds,
// never beside a Read or another call for the same device, and obeys the same rules. Its errors are Read's; with any of them the
// last Details stay, but Faults that come with the error count: a device that fell off the bus still says why. A suspended
// device must not be touched: the error wraps ErrSuspended. Details are asked for after a Read that said ok, lost, no permission
// or unsupported. A Time left zero becomes that of the call.
type DetailReader interface {
	Reader
	Details(ctx context.Context, id string) (gpu.Details, error)
}

// PCIeReader is a Reader that can measure what moves over a device's bus, which takes tens of milliseconds. It is called on
// request only, and as Details is; where the driver or the device can't, the error wraps ErrUnsupported.
type PCIeReader interface {
	Reader
	PCIeThroughput(ctx context.Context, id string) (gpu.PCIeThroughput, error)
}

// Examiner is a Reader that can say for muster doctor what it needs of the machine, and what it found. It is called after an
// Inventory, beside Reads.
type Examiner interface {
	Reader
	Examine(ctx context.Context) []Finding
}

// Finding is one line of muster doctor.
type Finding struct {
	Level   Level  `json:"level"`
	Subject string `json:"subject"` // what was looked at: "libnvidia-ml.so.1", "/dev/kfd"
	Text    string `json:"text"`    // what was found
	Costs   string `json:"costs"`   // what does not work without it; "" for LevelOK
	Mend    string `json:"mend"`    // the exact command, group or file that mends it; "" where nobody can
}

// Level says how much a finding matters.
type Level string

// The levels of findings.
const (
	LevelOK    Level = "ok"    // as it should be
	LevelNote  Level = "note"  // something is not shown or not possible that most people do not need
	LevelFault Level = "fault" // something that a person wants does not work
)

// Errors of Read that say in which state the device is. Wrap them with what was being read.
var (
	ErrSuspended      = errors.New("device is suspended")                                                              // gpu.StateSuspended
	ErrLost           = errors.New("device is lost: it fell off the bus or was removed")                               // gpu.StateLost
	ErrDriverMismatch = errors.New("kernel module and library of the driver differ: reboot, or reload the module")     // gpu.StateDriverMismatch
	ErrNoDriver       = errors.New("no driver serves the device: load its kernel module")                              // gpu.StateNoDriver
	ErrNoPermission   = errors.New("no permission to read the device: add this user to the groups render and video")   // gpu.StateNoPermission
	ErrUnsupported    = errors.New("the driver reports nothing that muster can read: update it, or report the device") // gpu.StateUnsupported
)

// HostReader reads the machine itself. The same rules hold as for Reader.
type HostReader interface {
	// Static is called as often as Inventory is.
	Static(ctx context.Context) (gpu.Host, error)
	// Read is called at every tick.
	Read(ctx context.Context) (gpu.HostReading, error)
}
