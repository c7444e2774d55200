package sim

import (
	"errors"
	"regexp"
	"strings"
	"time"

	"muster/shared/gpu"
)

// What another program takes of a device while it works there.
const (
	neighbourPercent = 72.0 // of its time, alone
	neighbourWatts   = 0.7  // of its power limit, alone
	neighbourShare   = 0.5  // of its speed, when we work there too
	neighbourMemory  = 0.4  // of its memory, but no more than
	neighbourBytes   = 6 << 30
)

// neighbour is a simulated program that is not ours and uses a device now and then: first it does not for a while, then it does, and
// so on. The zero value never does.
type neighbour struct {
	begun      time.Time
	busy, free time.Duration
}

// usual is a neighbour for which no times were given.
var usual = neighbour{busy: time.Minute, free: time.Minute}

// at says whether it works at that time, and when that changes; the zero time when it never does.
func (n neighbour) at(t time.Time) (works bool, until time.Time) {
	if n.busy == 0 {
		return false, time.Time{}
	}
	rounds := max(0, t.Sub(n.begun)/(n.free+n.busy))
	round := n.begun.Add(rounds * (n.free + n.busy))
	if starts := round.Add(n.free); t.Before(starts) {
		return false, starts
	}
	return true, round.Add(n.free + n.busy)
}

// bytes is what it holds of the model's memory while it works.
func (m *model) neighbourBytes() uint64 {
	return min(neighbourBytes, uint64(neighbourMemory*float64(m.memoryMiB))*mib)
}

var entryOfShared = regexp.MustCompile(`(?i)^(.*?)\s*\bbusy\b\s*(.*)$`)

var errNeighbour = errors.New(`simulate: write how long another program works and how long it does not, from 1s to 24h each: "MI25 busy 30s/90s"`)

// splitNeighbour takes "busy" or "busy 30s/90s" off the end of an entry.
func splitNeighbour(entry string) (name string, n neighbour, err error) {
	parts := entryOfShared.FindStringSubmatch(entry)
	switch {
	case parts == nil:
		return entry, neighbour{}, nil
	case parts[2] == "":
		return parts[1], usual, nil
	}
	works, rests, _ := strings.Cut(parts[2], "/")
	busy, busyErr := time.ParseDuration(strings.TrimSpace(works))
	free, freeErr := time.ParseDuration(strings.TrimSpace(rests))
	if busyErr != nil || freeErr != nil || min(busy, free) < time.Second || max(busy, free) > 24*time.Hour {
		return "", neighbour{}, errNeighbour
	}
	return parts[1], neighbour{busy: busy, free: free}, nil
}

// Pace is how many steps of a 512x512 image the device makes a second just now: fewer while another program uses it too; 0 for
// devices that are not of this machine.
func (m *Machine) Pace(dev gpu.Device) float64 {
	d := m.byID[dev.ID]
	if d == nil {
		return 0
	}
	if works, _ := d.other.at(time.Now()); works {
		return neighbourShare * d.stepsPerSecond
	}
	return d.stepsPerSecond
}

// Numbers of the simulated processes: ours from firstPID, those of other programs from firstNeighbour.
const (
	// firstPID is above what Linux numbers (PID_MAX_LIMIT, 2²²), so that no simulated process is taken for a real one.
	firstPID       = 5_000_000
	firstNeighbour = firstPID + 1_000
)

// Owns says whether a simulated process is what Busy asked for, and no other program.
func (m *Machine) Owns(pid int) bool { return pid >= firstPID && pid < firstNeighbour }

// processes are the simulated programs: what the device was told to do, and its neighbour.
func (d *device) processes() []gpu.Process {
	list := []gpu.Process{}
	left := d.memoryBytes() - uint64(reservedShare*float64(d.memoryMiB))*mib
	if d.state.shared {
		held := d.neighbourBytes()
		left -= held
		list = append(list, gpu.Process{PID: firstNeighbour + int(d.seed), Type: gpu.ProcessGraphics, Name: "simulated game", User: source, Command: "(simulated)", MemoryBytes: &held})
	}
	if d.jobs > 0 {
		held := min(d.held, left)
		list = append(list, gpu.Process{PID: firstPID + int(d.seed), Type: gpu.ProcessCompute, Name: "simulated load", User: source, Command: "(simulated)", MemoryBytes: &held})
	}
	return list
}
