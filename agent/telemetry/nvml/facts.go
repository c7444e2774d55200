package nvml

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"

	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// capability is the CUDA compute capability; zero when not reported.
type capability struct{ major, minor int }

// text gives "9.0", and arch "sm_90"; "" when not reported.
func (c capability) text() string {
	if c.major <= 0 {
		return ""
	}
	return fmt.Sprintf("%d.%d", c.major, c.minor)
}

func (c capability) arch() string {
	if c.major <= 0 {
		return ""
	}
	return fmt.Sprintf("sm_%d%d", c.major, c.minor)
}

// coresPerMultiprocessor is 0 for a capability that isn't known.
// Source: helper_cuda.h of the CUDA samples; checked with A100 108, H100 132, L4 58, T4 40.
func (c capability) coresPerMultiprocessor() int {
	switch c.major {
	case 3:
		return 192
	case 5, 9, 10, 11, 12:
		return 128
	case 7:
		return 64
	case 6, 8:
		if c.minor == 0 {
			return 64
		}
		return 128
	default:
		return 0
	}
}

// multiprocessors gives the SM count of a whole GPU; NVML has no getter for it. nil when it can't be told for certain.
func multiprocessors(cores int, c capability) *int {
	per := c.coresPerMultiprocessor()
	if per == 0 || cores <= 0 || cores%per != 0 {
		return nil
	}
	n := cores / per
	return &n
}

// cudaText turns 12040 into "12.4"; "" for 0.
func cudaText(v int) string {
	if v <= 0 {
		return ""
	}
	return fmt.Sprintf("%d.%d", v/1000, v%1000/10)
}

// pciAddress turns NVML's "00000000:1A:00.0" into "0000:1a:00.0"; "" for anything else.
func pciAddress(busID string) string {
	address, ok := kernel.ParseAddress(strings.TrimSpace(busID))
	if !ok {
		return ""
	}
	return address.String()
}

// memory is in bytes. Without reserved, used includes it.
type memory struct {
	total, used, reserved uint64
	hasReserved           bool
}

// believable refuses the values that drivers use for "not available", and more in use than there is.
func (m memory) believable() bool {
	return m.total > 0 && m.total < 1<<50 && m.used <= m.total && m.reserved <= m.total
}

// integrated says whether the GPU is one that computes in the machine's main memory: GB10, Jetson, Thor. Only of these a
// failing memory getter means that; never of a card.
func integrated(name string, c capability) bool {
	switch c {
	case capability{5, 3}, capability{6, 2}, capability{7, 2}, capability{8, 7}, capability{10, 1}, capability{11, 0}, capability{12, 1}:
		return true
	}
	for _, part := range []string{"GB10", "N1X", "Orin", "Xavier", "Thor", "Tegra", "Jetson"} {
		for _, word := range strings.FieldsFunc(name, func(r rune) bool { return r == ' ' || r == '-' || r == '(' || r == ')' }) {
			if word == part {
				return true
			}
		}
	}
	return false
}

// mainMemory reads /proc/meminfo: total, and what is not available; false when it doesn't say.
func mainMemory(meminfo string) (memory, bool) {
	var m memory
	var available uint64
	seen := 0
	for line := range strings.Lines(meminfo) {
		name, rest, _ := strings.Cut(line, ":")
		kib, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 54)
		if err != nil {
			continue
		}
		switch name {
		case "MemTotal":
			m.total = kib << 10
			seen++
		case "MemAvailable":
			available = kib << 10
			seen++
		}
	}
	if seen != 2 || available > m.total {
		return memory{}, false
	}
	m.used = m.total - available
	return m, m.believable()
}

// throttle maps the bits of nvmlClocksEventReasons.
func throttle(bits uint64) gpu.Throttle {
	var t gpu.Throttle
	for bit := range 64 {
		if bits&(1<<bit) == 0 {
			continue
		}
		switch uint64(1) << bit {
		case 0x1: // idle
			t |= gpu.ThrottleIdle
		case 0x2: // application clocks
			t |= gpu.ThrottleUser
		case 0x4: // software power cap
			t |= gpu.ThrottlePower
		case 0x8, 0x80: // hardware slowdown, power brake
			t |= gpu.ThrottleHardware
		case 0x10: // sync boost
			t |= gpu.ThrottleSync
		case 0x20, 0x40: // thermal slowdown by software, by hardware
			t |= gpu.ThrottleThermal
		case 0x200: // the board's limits of power and current
			t |= gpu.ThrottlePower
		default: // the display's clocks, reliability, and what drivers to come will say
			t |= gpu.ThrottleOther
		}
	}
	return t
}

// decodeField reads the value of a field; its bytes are those of a C union on this machine, all of which are little-endian.
// Source: nvmlValueType_t in nvml.h.
func decodeField(kind uint32, raw [8]byte) (float64, status) {
	word, long := binary.LittleEndian.Uint32(raw[:]), binary.LittleEndian.Uint64(raw[:])
	switch kind {
	case 0: // double
		if v := math.Float64frombits(long); !math.IsNaN(v) && !math.IsInf(v, 0) {
			return v, success
		}
	case 1: // unsigned int
		return float64(word), success
	case 2, 3: // unsigned long, unsigned long long
		return float64(long), success
	case 4: // signed long long
		return float64(int64(long)), success
	case 5: // signed int
		return float64(int32(word)), success
	case 6: // unsigned short
		return float64(uint16(word)), success
	}
	return 0, nonsense
}

// linkGenerations are by nvmlNvlinkVersion_t, which counts half versions too: 6 is NVLink 4. Source: nvml.h.
var linkGenerations = [...]int{0, 1, 2, 2, 3, 3, 4, 5, 6}

func linkGeneration(version uint32) int {
	if int64(version) >= int64(len(linkGenerations)) {
		return 0
	}
	return linkGenerations[version]
}
