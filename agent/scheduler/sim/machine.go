package sim

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Policy is how a program spreads images over devices.
type Policy interface {
	// Notice tells what has happened, one thing at a time.
	Notice(m *Machine, n Notice)
	// Decide says what to do now, after everything that happened at this instant was told, and at what time to ask again even if
	// nothing happens before; never is math.Inf(1).
	Decide(m *Machine) (orders []Order, again float64)
}

// Machine is what a program sees of the box it runs on. Policies must not change it.
type Machine struct {
	Now      float64 // seconds
	Box      *Box
	Models   []Model
	Devices  []Seen
	Images   []Image // all that were submitted until now, oldest first
	Measured *Measurement
	Rand     *rand.Rand // for policies that toss a coin

	world *World
}

// Seen is what a program knows about a device.
type Seen struct {
	Running int     // image; none when idle or loading only
	Idle    bool    // nothing was given to it that has not ended
	Model   int     // that it holds when it is idle, or is loading or running; none
	Since   float64 // when what runs was given to it
	Freed   float64 // when something ended on it last
	Down    bool    // known to be dead
}

// Image is what a program knows about an image.
type Image struct {
	Set     int
	Ordinal int // in its set
	Model   int
	Arrived float64
	Failed  devices // where it failed
}

// none stands for no image, no model and no device.
const none = -1

// devices is a set of device numbers.
type devices uint64

const maxDevices = 64

func (s devices) has(d int) bool { return s&(1<<d) != 0 }

// Measurement is what telemetry says of the devices.
type Measurement struct {
	Seq     uint64
	At      float64 // when it was measured
	Devices []Load
}

// Load is what telemetry says of one device.
type Load struct {
	Lost        bool // it does not answer; the rest is not known
	Hot         bool
	Used        uint64  // bytes, by all programs
	Utilization float64 // 0 to 1, by all programs
	Other       uint64  // bytes, by other programs
	OtherShare  float64 // 0 to 1, by other programs
}

// Happening is what kind of thing a Notice tells.
type Happening int

// What happens.
const (
	Submitted Happening = iota // a set has come: Image is its first, Count its number
	Returned                   // Image did not work out on Device, for the reason Why
	Finished                   // Image is done on Device
	Stepped                    // Image has done Step steps on Device
	Loaded                     // Device holds the model that it was told to load
	Lost                       // Image was given up: it found no room too often
	Measured                   // there is a new Measurement
)

// Reason is why an image comes back.
type Reason int

// The reasons.
const (
	NoRoom    Reason = iota // the device had no room for the model
	Died                    // the device died meanwhile
	Refused                 // the device was dead when it was to start
	Withdrawn               // the policy wanted it back
)

// Notice is something that has happened.
type Notice struct {
	What   Happening
	Device int
	Image  int
	Count  int
	Step   int
	Took   float64 // seconds since it was given to the device
	Why    Reason
}

// Act is what kind of thing an Order wants.
type Act int

// What can be done.
const (
	Start    Act = iota // give Image to the idle Device
	Preload             // load the model of Image on the idle Device, and no more
	Withdraw            // stop what runs on Device
	Unload              // free the memory of the idle Device
	GiveUp              // Image will not be made
)

// Order is something to do.
type Order struct {
	Act    Act
	Device int
	Image  int
}

// never is a time that does not come.
var never = math.Inf(1)

// Fits says whether the device has enough memory for the image's model when nothing else is on it.
func (m *Machine) Fits(image, d int) bool {
	return m.Models[m.Images[image].Model].Memory <= m.Box.Devices[d].Memory
}

// Able gives the devices that can make the image: with enough memory, alive, and not those where it failed as long as there are
// others. The result is only good until the next call.
func (m *Machine) able(into []int, image int) []int {
	into = into[:0]
	failed := m.Images[image].Failed
	for d := range m.Devices {
		if m.Fits(image, d) && !m.Devices[d].Down {
			into = append(into, d)
		}
	}
	if failed == 0 || !slices.ContainsFunc(into, func(d int) bool { return !failed.has(d) }) {
		return into
	}
	return slices.DeleteFunc(into, func(d int) bool { return failed.has(d) })
}

// memory is the share of the device's memory in use by all programs; 1 when it can't be read.
func (m *Machine) memory(d int) float64 {
	if m.Measured == nil || m.Measured.Devices[d].Lost {
		return 1
	}
	return float64(m.Measured.Devices[d].Used) / float64(m.Box.Devices[d].Memory)
}

// free is the bytes of the device that telemetry says nobody uses; all of it when nothing was measured.
func (m *Machine) free(d int) uint64 {
	if m.Measured == nil {
		return m.Box.Devices[d].Memory
	}
	return m.Box.Devices[d].Memory - m.Measured.Devices[d].Used
}
