package comfyui

import (
	"regexp"
	"strings"
	"sync"

	"muster/agent/backend"
	"muster/agent/backend/answer"
	"muster/agent/backend/exchange"
	"muster/agent/backend/prompt"
)

// output keeps of what a child says the little that tells why it ended. Lines that hold a prompt are not kept.
type output struct {
	mu      sync.Mutex
	secrets []string // of the request that is made
	last    string   // newest line
	fault   string   // newest line that tells of an error, "" for none
	memory  string   // newest complaint of memory, "" for none
	port    bool     // it could not have its port
}

func newOutput() *output { return &output{} }

// faultPattern finds the last line of a Python traceback, and what argparse says.
var faultPattern = regexp.MustCompile(`^([A-Za-z_.]*(Error|Exception|Interrupt)\b|.*: error: |.*\b(fatal|FATAL|Fatal) )`)

// line takes a line of either pipe.
func (o *output) line(line string) {
	line = strings.TrimSpace(line)
	if line == "" || line == "got prompt" || strings.HasPrefix(line, "Prompt executed") { // what it says of every prompt tells nothing
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if prompt.Scrub(line, o.secrets...) != line {
		return
	}
	o.last = exchange.Clean(line)
	if faultPattern.MatchString(line) {
		o.fault = o.last
	}
	if answer.TellsOfMemory(line) {
		o.memory = o.last
	}
	if strings.Contains(line, "Errno 98]") || strings.Contains(line, "address already in use") {
		o.port = true
	}
}

// begin forgets what was said, before a request is made.
func (o *output) begin(req backend.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.secrets, o.last, o.fault, o.memory = secretsOf(req), "", "", ""
}

// complaint is the last error, else the last line, or "".
func (o *output) complaint() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fault != "" {
		return o.fault
	}
	return o.last
}

// outOfMemory is what it said of memory last; "" for nothing.
func (o *output) outOfMemory() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.memory
}

// portTaken says whether it could not have its port.
func (o *output) portTaken() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.port
}
