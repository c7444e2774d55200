package gpu

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// State says how far a device's reading can be trusted.
type State string

// The states of a device. Each constant's comment says what a person sees in it.
const (
	StateOK             State = "ok"              // measured within its deadline
	StateSuspended      State = "suspended"       // asleep to save power; not woken, so dynamic values are absent
	StateStuck          State = "stuck"           // a driver call has not returned, or ended the process that made it; last values with their age
	StateLost           State = "lost"            // fell off the bus or was removed; last values with their age
	StateDriverMismatch State = "driver_mismatch" // kernel module and library differ: reboot
	StateNoDriver       State = "no_driver"       // seen on the bus, but no driver serves it
	StateNoPermission   State = "no_permission"   // this user may not read it
	StateUnsupported    State = "unsupported"     // the driver reports nothing that muster can read
)

// States lists every state; the position is the code in the binary codec, so new ones go to the end.
var States = []State{StateOK, StateSuspended, StateStuck, StateLost, StateDriverMismatch, StateNoDriver, StateNoPermission, StateUnsupported}

// Usable says whether a device in this state may be given work.
func (s State) Usable() bool { return s == StateOK || s == StateSuspended }

// Throttle is the set of reasons for which a device runs slower than it could.
type Throttle uint32

// Reasons for throttling, vendor-neutral. The bit's position is its code in the binary codec.
const (
	ThrottlePower    Throttle = 1 << iota // power limit reached
	ThrottleThermal                       // too hot
	ThrottleHardware                      // hardware slowdown or power brake
	ThrottleCurrent                       // electrical current limit
	ThrottleSync                          // waits for a sync group
	ThrottleUser                          // clocks limited by an application or the user
	ThrottleIdle                          // nothing to do; not a fault
	ThrottleOther
)

var throttleNames = []string{"power", "thermal", "hardware", "current", "sync", "user", "idle", "other"}

// Reasons names the set bits in their order.
func (t Throttle) Reasons() []string {
	reasons := []string{}
	for i, name := range throttleNames {
		if t&(1<<i) != 0 {
			reasons = append(reasons, name)
		}
	}
	return reasons
}

// MarshalJSON writes the reasons as a list of words.
func (t Throttle) MarshalJSON() ([]byte, error) { return json.Marshal(t.Reasons()) }

// UnmarshalJSON takes a list of words; an unknown one becomes ThrottleOther.
func (t *Throttle) UnmarshalJSON(b []byte) error {
	var words []string
	if err := json.Unmarshal(b, &words); err != nil {
		return fmt.Errorf("throttle reasons: %w", err)
	}
	*t = 0
	for _, word := range words {
		bit := ThrottleOther
		for i, name := range throttleNames {
			if name == word {
				bit = 1 << i
			}
		}
		*t |= bit
	}
	return nil
}

// Temperature is one sensor of a device.
type Temperature struct {
	Sensor  Sensor  `json:"sensor"`
	Celsius float64 `json:"celsius"`
}

// Sensor names where on a device a temperature is taken.
type Sensor string

// The sensors that muster knows, in the order in which the first one present counts as "the" temperature.
const (
	SensorEdge     Sensor = "edge"     // AMD edge; the GPU temperature of NVIDIA and Intel
	SensorJunction Sensor = "junction" // the hottest spot of the die
	SensorMemory   Sensor = "memory"
)

// Sensors lists every sensor; the position is the code in the binary codec, so new ones go to the end.
var Sensors = []Sensor{SensorEdge, SensorJunction, SensorMemory}

// Reading is what one device reported at one instant. A nil field means that the driver did not report it; nil never stands
// for zero. Values are never changed after publishing.
type Reading struct {
	Index Ref   `json:"device_id"` // the position in Inventory.Devices
	State State `json:"state"`
	// AgeMilliseconds is how long ago the values were measured, 0 when in this tick. It grows while a device is stuck or lost.
	AgeMilliseconds int64 `json:"age_ms"`

	UtilizationPercent       *float64 `json:"utilization_percent,omitempty"`        // 0-100, share of the last sample period in which the device worked
	MemoryUtilizationPercent *float64 `json:"memory_utilization_percent,omitempty"` // 0-100, share of that period in which its memory was read or written
	EncoderPercent           *float64 `json:"encoder_percent,omitempty"`            // 0-100, of the video encoders
	DecoderPercent           *float64 `json:"decoder_percent,omitempty"`            // 0-100, of the video decoders
	MediaPercent             *float64 `json:"media_percent,omitempty"`              // 0-100, of video engines that do both (AMD, Intel)

	MemoryTotalBytes    *uint64 `json:"memory_total_bytes,omitempty"`
	MemoryUsedBytes     *uint64 `json:"memory_used_bytes,omitempty"`     // by all processes on the device, without what the driver reserves where that is known apart
	MemoryReservedBytes *uint64 `json:"memory_reserved_bytes,omitempty"` // by the driver and firmware
	// Shared memory is main memory that the device can address (AMD's GTT). It is never added to the device's own.
	SharedMemoryTotalBytes *uint64 `json:"shared_memory_total_bytes,omitempty"`
	SharedMemoryUsedBytes  *uint64 `json:"shared_memory_used_bytes,omitempty"`

	Temperatures []Temperature `json:"temperatures,omitempty"`

	PowerWatts      *float64 `json:"power_watts,omitempty"`
	PowerLimitWatts *float64 `json:"power_limit_watts,omitempty"`

	CoreClockMHz   *float64 `json:"core_clock_mhz,omitempty"`
	MemoryClockMHz *float64 `json:"memory_clock_mhz,omitempty"`

	FanPercent *float64 `json:"fan_percent,omitempty"`
	FanRPM     *float64 `json:"fan_rpm,omitempty"`

	PCIeGeneration *int `json:"pcie_generation,omitempty"`
	PCIeWidth      *int `json:"pcie_width,omitempty"` // lanes

	// PerformanceState is NVIDIA's P-state: 0 is the fastest, 15 the slowest.
	PerformanceState *int `json:"performance_state,omitempty"`

	Throttle *Throttle `json:"throttle_reasons,omitempty"`

	// Suspect names the fields, as in JSON and in their order here, whose values contradict others of this Reading (100 % busy
	// with idle power and engines that do not move). They are what the driver said; nobody should act on them.
	Suspect []string `json:"suspect,omitempty"`
}

// IsSuspect says whether the field of that JSON name contradicts the others.
func (r Reading) IsSuspect(field string) bool { return slices.Contains(r.Suspect, field) }

// TemperatureCelsius is the temperature that stands for the device: the first of edge, junction, memory; nil when there is none.
func (r Reading) TemperatureCelsius() *float64 {
	for _, sensor := range Sensors {
		for i := range r.Temperatures {
			if r.Temperatures[i].Sensor == sensor {
				return &r.Temperatures[i].Celsius
			}
		}
	}
	return nil
}

// MemoryFreeBytes is total − used − reserved, at least 0; nil when total or used is not reported.
func (r Reading) MemoryFreeBytes() *uint64 {
	if r.MemoryTotalBytes == nil || r.MemoryUsedBytes == nil {
		return nil
	}
	taken := *r.MemoryUsedBytes
	if r.MemoryReservedBytes != nil {
		taken += *r.MemoryReservedBytes
	}
	var free uint64
	if taken < *r.MemoryTotalBytes {
		free = *r.MemoryTotalBytes - taken
	}
	return &free
}

// HostReading is what the machine itself reported at one instant. nil means not reported.
type HostReading struct {
	CPUPercent       *float64 `json:"cpu_percent,omitempty"` // 0-100 over all cores
	MemoryUsedBytes  *uint64  `json:"memory_used_bytes,omitempty"`
	MemoryTotalBytes *uint64  `json:"memory_total_bytes,omitempty"`
}

// Snapshot is everything measured at one tick: complete, so that losing one loses nothing.
type Snapshot struct {
	Seq      uint64      `json:"seq"`
	Time     time.Time   `json:"time"`     // UTC
	Revision uint64      `json:"revision"` // of the Inventory that GPUs belongs to
	Host     HostReading `json:"host"`
	GPUs     []Reading   `json:"gpus"` // GPUs[i] belongs to Inventory.Devices[i]
}
