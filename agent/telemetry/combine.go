package telemetry

import (
	"slices"
	"time"

	"muster/shared/gpu"
)

// precedence ranks what several readers say of one device, unless the first one is well: a library beside the kernel's own files
// that hangs or crashes costs what it alone can tell. Otherwise a hang or a loss that any of them sees counts, then the best.
var precedence = []gpu.State{
	gpu.StateStuck, gpu.StateLost, gpu.StateOK, gpu.StateSuspended, gpu.StateDriverMismatch, gpu.StateNoPermission, gpu.StateNoDriver,
	gpu.StateUnsupported,
}

// staleAfter is how old the values of a reader that fails may be to fill the holes of one that does not.
const staleAfter = 5 * time.Second

// combine adds what another reader measured of the same device: values fill holes and replace suspect ones, the state by
// precedence, and the age goes with the state (of equal states, the smaller). What a reader that fails measured long ago is left
// out beside one that does not.
func combine(a, b gpu.Reading) gpu.Reading {
	rankA, rankB := slices.Index(precedence, a.State), slices.Index(precedence, b.State)
	firstIsWell := a.State == gpu.StateOK
	switch {
	case (firstIsWell && b.State != a.State || rankA < rankB) && stale(b, a):
		return a
	case rankB < rankA && stale(a, b):
		return b
	}
	r := a
	if len(a.Suspect)+len(b.Suspect) > 0 {
		r = unsuspected(a, b)
	}
	if rankB < rankA && !firstIsWell {
		r.State, r.AgeMilliseconds = b.State, b.AgeMilliseconds
	}
	if rankB == rankA {
		r.AgeMilliseconds = min(a.AgeMilliseconds, b.AgeMilliseconds)
	}
	fill(&r.UtilizationPercent, b.UtilizationPercent)
	fill(&r.MemoryUtilizationPercent, b.MemoryUtilizationPercent)
	fill(&r.EncoderPercent, b.EncoderPercent)
	fill(&r.DecoderPercent, b.DecoderPercent)
	fill(&r.MediaPercent, b.MediaPercent)
	combineMemory(&r, &b)
	if len(r.Temperatures) == 0 {
		r.Temperatures = b.Temperatures
	}
	fill(&r.PowerWatts, b.PowerWatts)
	fill(&r.PowerLimitWatts, b.PowerLimitWatts)
	fill(&r.CoreClockMHz, b.CoreClockMHz)
	fill(&r.MemoryClockMHz, b.MemoryClockMHz)
	fill(&r.FanPercent, b.FanPercent)
	fill(&r.FanRPM, b.FanRPM)
	fill(&r.PCIeGeneration, b.PCIeGeneration)
	fill(&r.PCIeWidth, b.PCIeWidth)
	fill(&r.PerformanceState, b.PerformanceState)
	fill(&r.Throttle, b.Throttle)
	return r
}

// stale says whether what a failing reader measured is too old to stand beside the other's.
func stale(r, other gpu.Reading) bool {
	return r.AgeMilliseconds > max(staleAfter.Milliseconds(), other.AgeMilliseconds)
}

// combineMemory takes total, used and reserved from one reader: drivers draw the lines between them differently.
func combineMemory(r, b *gpu.Reading) {
	if r.MemoryTotalBytes == nil || r.MemoryUsedBytes == nil && b.MemoryTotalBytes != nil && b.MemoryUsedBytes != nil {
		r.MemoryTotalBytes, r.MemoryUsedBytes, r.MemoryReservedBytes = b.MemoryTotalBytes, b.MemoryUsedBytes, b.MemoryReservedBytes
	}
	if r.SharedMemoryTotalBytes == nil {
		r.SharedMemoryTotalBytes, r.SharedMemoryUsedBytes = b.SharedMemoryTotalBytes, b.SharedMemoryUsedBytes
	}
}
