package gpu

import "time"

// Absence says why a value is not there.
type Absence string

// The reasons for which a value is absent.
const (
	AbsentUnsupported  Absence = "unsupported"   // the device or its driver has no such value
	AbsentNoPermission Absence = "no_permission" // this user may not read it
	AbsentAsleep       Absence = "asleep"        // reading it would wake the device
	AbsentTimedOut     Absence = "timed_out"     // the driver did not answer in time
	AbsentFailed       Absence = "failed"        // the driver answered with an error, or with a value that can't be
)

// Report is what is dear to ask of the devices, and so asked less often than once a tick.
type Report struct {
	Revision uint64    `json:"revision"` // of the Inventory that Devices belongs to
	Devices  []Details `json:"devices"`  // by position in Inventory.Devices
}

// Details are what one device reported beside its Reading. A nil field means that the driver did not report it; Absent says
// why. Values are never changed after publishing.
type Details struct {
	// Time is when the driver was asked, UTC; zero when it never answered. It stands still while a device is asleep, stuck or lost.
	Time time.Time `json:"time"`
	// EnergyJoules counts since the driver was loaded.
	EnergyJoules *float64 `json:"energy_joules,omitempty"`
	// PCIeReplays counts packets that had to be sent again.
	PCIeReplays  *uint64       `json:"pcie_replays,omitempty"`
	ECC          *ECC          `json:"ecc,omitempty"`
	RemappedRows *RemappedRows `json:"remapped_rows,omitempty"`
	// Links are the direct connections to other devices (NVLink, XGMI), those that are down included; nil when there are none.
	Links []Link `json:"links,omitempty"`
	// Faults are the newest that the driver reported while the agent ran, oldest first, at most MaxFaults; each is there once.
	Faults []Fault `json:"faults,omitempty"`
	// Processes are those on the device, most memory first; empty when there are none, nil when the driver can't tell.
	Processes []Process `json:"processes"`
	// ProcessesHidden says for people why Processes may not be all, and what to do; "" when nothing is known to be hidden.
	ProcessesHidden string `json:"processes_hidden,omitempty"`
	// Partitions are by position in Device.Partitions.
	Partitions []PartitionReading `json:"partitions,omitempty"`
	// Disagreements are values of which two sources tell more than DisagreementShare apart.
	Disagreements []Disagreement `json:"disagreements,omitempty"`
	// Absent says by field name, of Reading and Details as in JSON, why a value is not there. It goes before Device.Absent.
	Absent map[string]Absence `json:"absent,omitempty"`
	// ThermalMarginCelsius is how much hotter the device may get before it slows down (NVIDIA's T.Limit); nil when not reported. It
	// is not the difference of a limit and a temperature shown elsewhere: it has sensors of its own.
	ThermalMarginCelsius *float64 `json:"thermal_margin_celsius,omitempty"`
}

// MaxFaults bounds Details.Faults.
const MaxFaults = 16

// DisagreementShare is how far two sources may be apart, as a share of the larger value, before a person is told.
const DisagreementShare = 0.2

// ECC counts errors of the device's memory. Volatile counts began when the driver was loaded, aggregate ones when the device was
// made. nil means not reported.
type ECC struct {
	Enabled              *bool   `json:"enabled,omitempty"`
	CorrectedVolatile    *uint64 `json:"corrected_volatile,omitempty"`
	UncorrectedVolatile  *uint64 `json:"uncorrected_volatile,omitempty"`
	CorrectedAggregate   *uint64 `json:"corrected_aggregate,omitempty"`
	UncorrectedAggregate *uint64 `json:"uncorrected_aggregate,omitempty"`
}

// RemappedRows counts rows of memory that spare ones stand in for, by the kind of error that they had.
type RemappedRows struct {
	Correctable   int  `json:"correctable"`
	Uncorrectable int  `json:"uncorrectable"`
	Pending       bool `json:"pending"` // a row will be remapped at the next reset of the device
	Failed        bool `json:"failed"`  // no spare row was left: the device should be replaced
}

// Link is one direct connection to another device.
type Link struct {
	Index  int    `json:"index"`
	Kind   string `json:"kind"` // "NVLink", "XGMI"
	Active bool   `json:"active"`
	// Version is the link's generation; 0 when not reported.
	Version int `json:"version,omitempty"`
	// GigabytesPerSecond is what the link can carry in one direction; nil when not reported.
	GigabytesPerSecond *float64 `json:"gigabytes_per_second,omitempty"`
	// PeerAddress is the PCI address of what is at the other end; "" when not reported.
	PeerAddress string `json:"peer_address,omitempty"`
}

// Fault is something that the driver reported once, at the moment when it happened.
type Fault struct {
	Time time.Time `json:"time"` // UTC
	Kind string    `json:"kind"` // "XID"
	Code uint64    `json:"code"`
	Text string    `json:"text"` // what it means, for people; "" when that is not known
}

// ProcessType says what a process does on a device.
type ProcessType string

// The types of processes.
const (
	ProcessCompute  ProcessType = "compute"
	ProcessGraphics ProcessType = "graphics"
	ProcessBoth     ProcessType = "compute+graphics"
)

// Process is a program on a device.
type Process struct {
	PID  int         `json:"pid"`
	Type ProcessType `json:"type,omitempty"` // "" when not reported
	// Name is the program's; User whose it is; Command its command line, given only where a person asked for command lines. ""
	// when not known: in a container the number may be the host's.
	Name    string `json:"name,omitempty"`
	User    string `json:"user,omitempty"`
	Command string `json:"command,omitempty"`
	// MemoryBytes is what it holds of the device's memory; nil when not reported.
	MemoryBytes *uint64 `json:"memory_bytes,omitempty"`
	// Partition is the ID of the partition on which it runs; "" on an undivided device.
	Partition string `json:"partition,omitempty"`
}

// PartitionReading is what a partition of a device reported. nil means not reported.
type PartitionReading struct {
	ID                 string   `json:"id"` // Device.ID of the partition
	MemoryTotalBytes   *uint64  `json:"memory_total_bytes,omitempty"`
	MemoryUsedBytes    *uint64  `json:"memory_used_bytes,omitempty"`
	UtilizationPercent *float64 `json:"utilization_percent,omitempty"`
}

// Disagreement is one field of which two sources tell different values. The first is what is shown.
type Disagreement struct {
	Field  string    `json:"field"` // as in JSON
	Values []Sourced `json:"values"`
}

// Sourced is a value with where it came from, in the unit of its field.
type Sourced struct {
	Source string  `json:"source"`
	Value  float64 `json:"value"`
}

// PCIeThroughput is what moved over a device's bus in the last moments. It is measured on request only: it takes the driver tens
// of milliseconds.
type PCIeThroughput struct {
	ReceiveBytesPerSecond  *float64 `json:"receive_bytes_per_second"`  // by the device
	TransmitBytesPerSecond *float64 `json:"transmit_bytes_per_second"` // by the device
}

// WhyAbsent says why the field of that JSON name has no value, for a device, its last details and its state now.
func WhyAbsent(d Device, details Details, state State, field string) Absence {
	known, ok := details.Absent[field]
	if !ok {
		known = d.Absent[field]
	}
	if known == AbsentUnsupported {
		return known // that does not change with the state
	}
	switch state {
	case StateSuspended:
		return AbsentAsleep
	case StateStuck:
		return AbsentTimedOut
	case StateNoPermission:
		return AbsentNoPermission
	}
	switch {
	case known != "":
		return known
	case state == StateLost, state == StateDriverMismatch:
		return AbsentFailed // nobody can ask whether the device has it
	}
	return AbsentUnsupported
}
