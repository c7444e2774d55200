package sdserver

import (
	"strings"
	"sync"
	"time"

	"muster/agent/backend/exchange"
)

// output follows what a child says on both pipes. The child's drains write it, calls read it.
type output struct {
	wake chan struct{} // something changed since it was last emptied

	mu         sync.Mutex
	seen       said
	at         mark
	inJob      bool
	lastError  string // newest [ERROR] of stderr that tells something, or its newest line while there is none
	errorLevel bool   // lastError is an [ERROR]
	lastWarn   string // newest [WARN ] of stdout
}

// said is what a child told since begin.
type said struct {
	active   time.Time // last sign of life
	step     int       // finished ones of this job
	steps    int       // as the child counts them; 0 before the first bar
	slowest  float64   // seconds of the slowest step; 0 before the first
	seconds  float64   // of the newest step; 0 before the first
	sampled  time.Time // end of the last step; zero before it
	finished bool
	memory   string // its newest complaint of memory, "" for none
	failed   bool   // a compute call failed
}

func newOutput() *output {
	return &output{wake: make(chan struct{}, 1), seen: said{active: time.Now()}}
}

// begin forgets what was said, before a job is sent. What a job before it still says would be mistaken: there must be none.
func (o *output) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen, o.at, o.inJob = said{active: time.Now()}, noMark, true
	o.lastError, o.errorLevel, o.lastWarn = "", false, ""
	select {
	case <-o.wake:
	default:
	}
}

// look gives what was said so far.
func (o *output) look() said {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen
}

// complaint gives the last error and the last warning, without their places in the source, or "".
func (o *output) complaint() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.lastError == "":
		return o.lastWarn
	case o.lastWarn == "":
		return o.lastError
	}
	return o.lastError + " (" + o.lastWarn + ")"
}

// stdout takes INFO, WARN and progress.
func (o *output) stdout(line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.alive(line)
	if strings.HasPrefix(line, "[WARN") {
		o.lastWarn = message(line)
		return
	}
	if m := parseMark(line); m != noMark {
		o.at = m
		o.seen.finished = m == finished
		return
	}
	if b, ok := parseBar(line); ok && o.inJob && o.at == sampling {
		o.step(b)
	}
}

func (o *output) step(b bar) {
	s := &o.seen
	if b.step <= s.step {
		return
	}
	s.step, s.steps = b.step, b.steps
	s.seconds, s.slowest = b.seconds, max(s.slowest, b.seconds)
	if b.step == b.steps {
		s.sampled = s.active
	}
}

// stderr takes ERROR, and whatever drivers and asserts print.
func (o *output) stderr(line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.alive(line)
	isError := strings.HasPrefix(line, "[ERROR")
	if strings.Contains(line, "compute failed") {
		o.seen.failed = true
	}
	if strings.HasSuffix(line, "new_sd_ctx_t failed") && o.lastError != "" {
		return // says only that there was an error
	}
	if isError || !o.errorLevel {
		o.lastError, o.errorLevel = message(line), isError
	}
}

func (o *output) alive(line string) {
	o.seen.active = time.Now()
	if tellsOfMemory(line) {
		o.seen.memory = message(line)
	}
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// message is what a log line says, for people: without level and place in the source.
func message(line string) string {
	if strings.HasPrefix(line, "[") {
		if _, said, ok := strings.Cut(line, " - "); ok {
			line = said
		}
	}
	return exchange.Clean(line)
}
