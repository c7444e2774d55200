package amdgpu

import (
	"encoding/binary"
	"math"

	"muster/shared/gpu"
)

// throttle maps the 64 bits that are the same for all chips (SMU_THROTTLER_* of amdgpu_smu.h). Of tables without them it can only
// tell whether there is a reason.
func throttle(b []byte, layout table) (t gpu.Throttle, known bool) {
	if layout.throttle64 == 0 {
		bits := field32(b, layout.throttle32, 1)
		if bits.known && bits.value != 0 {
			t = gpu.ThrottleOther
		}
		return t, bits.known
	}
	bits := binary.LittleEndian.Uint64(b[layout.throttle64:])
	if bits == math.MaxUint64 {
		return 0, false
	}
	for i, reason := range [4]gpu.Throttle{gpu.ThrottlePower, gpu.ThrottleCurrent, gpu.ThrottleThermal, gpu.ThrottleOther} {
		if bits>>(16*i)&math.MaxUint16 != 0 {
			t |= reason
		}
	}
	return t, true
}

// residency counts for how long the card was throttled, by reason: newer tables don't tell whether it is now. Counters of one
// reason are added up.
type residency struct {
	cycles optional // what passed in all, where the table has it
	counts [8]optional
}

// reasonBits are the reasons by position in residency.counts.
var reasonBits = [8]gpu.Throttle{gpu.ThrottlePower, gpu.ThrottleThermal, gpu.ThrottleHardware, gpu.ThrottleCurrent,
	gpu.ThrottleSync, gpu.ThrottleUser, gpu.ThrottleIdle, gpu.ThrottleOther}

func (r *residency) add(reason gpu.Throttle, count float64) {
	for i, bit := range reasonBits {
		if bit == reason {
			r.counts[i] = optional{r.counts[i].value + count, true}
		}
	}
}

// countersAt reads the counters of a table, without those marked as unavailable.
func countersAt(b []byte, t table) residency {
	r := residency{cycles: field32(b, t.cycles32, 1)}
	for i, reason := range t.residents {
		if v := field32(b, t.residency32+4*i, 1); v.known {
			r.add(reason, v.value)
		}
	}
	return r
}

// since gives the reasons whose counters went up since before. false when that can't be told: one of the two has no counters, or
// no cycle passed in which they could have.
func (r residency) since(before residency) (t gpu.Throttle, known bool) {
	if r.cycles.known && before.cycles.known && r.cycles.value == before.cycles.value {
		return 0, false
	}
	for i, bit := range reasonBits {
		if !r.counts[i].known || !before.counts[i].known {
			continue
		}
		known = true
		if r.counts[i].value > before.counts[i].value {
			t |= bit
		}
	}
	return t, known
}
