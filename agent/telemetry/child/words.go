package child

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"sync"
	"syscall"

	"muster/agent/process"
)

// lastWords keeps what explains the end of a collector: the first line that names a cause, and the last lines.
type lastWords struct {
	mu    sync.Mutex
	cause string
	last  []string
}

const (
	wordsKept   = 5
	wordsLength = 200
)

// causes are how the dynamic linker, Go's runtime, C's and C++'s say why they end a process. A trace of many lines may follow.
var causes = regexp.MustCompile(`symbol lookup error: |^SIG[A-Z]+: |^fatal error: |^panic: |terminate called|[Aa]ssert(ion)? .*failed|stack smashing|corrupted|free\(\): `)

func (w *lastWords) take(line string) {
	line = strings.ToValidUTF8(line[:min(len(line), wordsLength)], "�")
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cause == "" && causes.MatchString(line) {
		w.cause = line
	}
	if len(w.last) == wordsKept {
		w.last = append(w.last[:0], w.last[1:]...)
	}
	w.last = append(w.last, line)
}

var undefined = regexp.MustCompile(`undefined symbol: (\w+)`)

// explain says for people why the collector ended. Source of the linker's words: glibc, elf/dl-error-skeleton.c.
func (w *lastWords) explain(exit process.Exit) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if symbol := undefined.FindStringSubmatch(w.cause); symbol != nil {
		return fmt.Sprintf("the driver's library lacks the function %s", symbol[1])
	}
	if w.cause != "" {
		return w.cause
	}
	switch {
	case exit.Signal == syscall.SIGKILL:
		return "somebody killed it, or memory ran out"
	case len(w.last) > 0:
		return w.last[len(w.last)-1]
	}
	return exit.String()
}

// startHint says for people what to do when a collector can't be started; "" when nobody knows.
func startHint(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ": is /proc mounted?"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return ": raise the limit of open files (ulimit -n, or LimitNOFILE= of the systemd unit)"
	case errors.Is(err, syscall.EAGAIN):
		return ": raise the limit of processes (ulimit -u, or TasksMax= of the systemd unit)"
	case errors.Is(err, syscall.ENOMEM):
		return ": memory ran out"
	default:
		return ""
	}
}
