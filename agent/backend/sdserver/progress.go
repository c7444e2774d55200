package sdserver

import (
	"regexp"
	"strconv"
	"strings"
)

// bar is one line of sd-server's progress, "  |=====>    | 7/60 - 29.78it/s".
type bar struct {
	step, steps int
	seconds     float64 // per step
}

// barPattern leaves out the bars of loading: those are drawn with # and count bytes.
var barPattern = regexp.MustCompile(`^\s*\|[=> ]*\| (\d{1,6})/(\d{1,6}) - (\d{1,9}\.\d{1,4})(it/s|s/it)$`)

// parseBar reads a progress bar; false for every other line. The tiles of the image decoder are drawn the same way: only what
// was said before tells them apart.
func parseBar(line string) (bar, bool) {
	m := barPattern.FindStringSubmatch(line)
	if m == nil {
		return bar{}, false
	}
	step, stepErr := strconv.Atoi(m[1])
	steps, stepsErr := strconv.Atoi(m[2])
	speed, speedErr := strconv.ParseFloat(m[3], 64)
	if stepErr != nil || stepsErr != nil || speedErr != nil || steps < 1 || step < 1 || step > steps {
		return bar{}, false
	}
	if m[4] == "it/s" {
		if speed <= 0 {
			return bar{}, false
		}
		speed = 1 / speed
	}
	return bar{step, steps, speed}, true
}

// mark is a line that tells where in a job sd-server is.
type mark int

const (
	noMark   mark = iota
	sampling      // bars are steps from here on
	decoding      // bars are tiles from here on
	finished      // the job's status changes within milliseconds
)

// parseMark finds such a line, "[INFO ] stable-diffusion.cpp:5679 - generating image: 1/3 - seed 42".
func parseMark(line string) mark {
	level, said, ok := strings.Cut(line, " - ")
	if !ok || !strings.HasPrefix(level, "[INFO") {
		return noMark
	}
	switch {
	case strings.HasPrefix(said, "generating image:"):
		return sampling
	case strings.HasPrefix(said, "sampling completed"), strings.HasPrefix(said, "decoding "):
		return decoding
	case strings.HasPrefix(said, "generate_image completed"):
		return finished
	}
	return noMark
}

// memoryWords are how drivers and ggml say that there is no room.
var memoryWords = []string{
	"out of memory", "outofdevicememory", "outofhostmemory", "failed to allocate", "cudamalloc failed", "hipmalloc failed",
	"bad_alloc", "unable to allocate", "alloc_tensor_range", "cannot allocate memory", "resource_exhausted",
}

func tellsOfMemory(line string) bool {
	line = strings.ToLower(line)
	for _, words := range memoryWords {
		if strings.Contains(line, words) {
			return true
		}
	}
	return false
}
