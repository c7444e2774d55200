package ordeal

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// Processes gives the numbers of the processes that run a program; none for "".
func Processes(program string) (pids []int) {
	if program == "" {
		return nil
	}
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		if path, err := os.Readlink(link); err == nil && path == program {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// outlived is how long a generator may take to notice that its agent is gone.
const outlived = 5 * time.Second

// gone checks that soon none of the orphans is left. The new agent has generators of its own by then.
func (t *Trial) gone(ctx context.Context) {
	for began := time.Now(); len(t.orphans) > 0; rest(ctx) {
		left := slices.DeleteFunc(Processes(t.Program), func(pid int) bool { return !slices.Contains(t.orphans, pid) })
		switch {
		case len(left) == 0:
			t.orphans = nil
		case time.Since(began) > outlived:
			t.Ledger.breach("generators %v outlived their agent by %s", left, outlived)
			t.orphans = nil
		}
	}
}
