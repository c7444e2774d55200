//go:build cgo

package nvml

import (
	"os"
	"strings"
	"time"
)

// Times after which a process that can't connect anew should be replaced.
const (
	wedgedAfter  = 10 * time.Second // a call inside
	wedgedInInit = time.Minute      // the connecting itself, which loads the driver for several seconds a card
)

func (d *driver) wedged(r *Reader, now time.Time) bool {
	d.mu.Lock()
	lib, broken, outdated := d.lib, d.broken, d.outdated
	d.mu.Unlock()
	switch {
	case lib == nil:
		return false
	case broken && lib.longest(now) > wedgedAfter, lib.busy(now) > wedgedInInit:
		return true
	default:
		return outdated && r.libraryReplaced()
	}
}

// libraryReplaced says whether the file of the library that this process has loaded was removed, as an update of the driver does.
func (r *Reader) libraryReplaced() bool {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "libnvidia-ml") && strings.HasSuffix(strings.TrimSpace(line), "(deleted)") {
			return true
		}
	}
	return false
}
