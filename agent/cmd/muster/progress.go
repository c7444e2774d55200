package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"muster/shared/job"
)

// progressView draws one line per image, and when the set is expected: bars over each other on a terminal, else a line for every
// image that ended.
type progressView struct {
	out         io.Writer
	live, quiet bool
	width       func() int      // characters of a line; 0, as without a terminal, and nil are no limit
	lines       int             // drawn by the last show
	drawn       string          // by the last show
	told        map[string]bool // ids of ended jobs, without a terminal
	promised    bool            // when the set is expected was told, without a terminal
	reason      string          // for which nothing is made, as it was told last, without a terminal
}

func newProgressView(out io.Writer, quiet bool) *progressView {
	return &progressView{out: out, live: !quiet && terminal(out), quiet: quiet, width: func() int { return lineWidth(out) }}
}

func (v *progressView) show(jobs []job.Job, expected *job.Expected) {
	when := expectedWords(expected, time.Now())
	switch {
	case v.quiet:
	case v.live:
		v.draw(progressLines(jobs, when, v.room()))
	default:
		v.list(jobs, when)
	}
}

// room is how many characters a line may have; 0 for any number. The last column is left free, for some terminals go on to the next line
// when it is written.
func (v *progressView) room() int {
	if v.width == nil {
		return 0
	}
	return max(0, v.width()-1)
}

// draw replaces what was drawn before.
func (v *progressView) draw(lines []string) {
	text := v.erase()
	for _, line := range lines {
		text += line + "\n"
	}
	v.lines, v.drawn = len(lines), strings.TrimPrefix(text, v.erase())
	_, _ = io.WriteString(v.out, text)
}

// erase is what takes the drawn lines away.
func (v *progressView) erase() string {
	if v.lines == 0 {
		return ""
	}
	return fmt.Sprintf("\033[%dA\r\033[J", v.lines)
}

// above has something else written, above what is drawn.
func (v *progressView) above(write func()) {
	_, _ = io.WriteString(v.out, v.erase())
	write()
	_, _ = io.WriteString(v.out, v.drawn)
}

// list tells of what has ended since the last time.
func (v *progressView) list(jobs []job.Job, when string) {
	if v.told == nil {
		v.told = map[string]bool{}
	}
	if when != "" && !v.promised {
		v.promised = true
		fmt.Fprintln(v.out, "expected", when)
	}
	if reason := standstill(jobs); reason != "" && reason != v.reason && when == "" {
		v.reason = reason
		fmt.Fprintln(v.out, reason)
	}
	for _, j := range jobs {
		if j.State.Terminal() && !v.told[j.ID] {
			v.told[j.ID] = true
			fmt.Fprintln(v.out, layouts[0].of(jobs).line(j, 0))
		}
	}
}

// standstill is why nothing of a set is being made although something of it waits; "" when it is.
func standstill(jobs []job.Job) (reason string) {
	for _, j := range jobs {
		switch {
		case j.State == job.Running:
			return ""
		case j.State == job.Queued && reason == "":
			reason = oneLine(j.Reason)
		}
	}
	return reason
}

// layout is what a line tells of an image beside its number, state, device and the tail.
type layout struct {
	bar    int // characters; 0 for none
	seed   bool
	device int // characters of the widest device's name
}

// layouts begin with all there is; what matters least is left out first.
var layouts = []layout{{bar: barWidth, seed: true}, {bar: barWidth}, {bar: 10}, {}}

const barWidth = 24

// leastTail is how many characters of the tail a line has before something else is left out for it: a file's name.
const leastTail = 30

// progressLines lays out all lines alike, none longer than width; 0 is no limit.
func progressLines(jobs []job.Job, when string, width int) []string {
	var lines []string
	for i, l := range layouts {
		l = l.of(jobs)
		if i < len(layouts)-1 && !l.fits(jobs, width) {
			continue
		}
		for _, j := range jobs {
			lines = append(lines, l.line(j, width))
		}
		break
	}
	if when != "" {
		lines = append(lines, shorten("expected "+when, width))
	}
	return lines
}

// of makes room for the names of the jobs' devices.
func (l layout) of(jobs []job.Job) layout {
	for _, j := range jobs {
		l.device = max(l.device, utf8.RuneCountInString(device(j)))
	}
	return l
}

func (l layout) fits(jobs []job.Job, width int) bool {
	for _, j := range jobs {
		if need := utf8.RuneCountInString(l.head(j)) + min(leastTail, utf8.RuneCountInString(tail(j))); width > 0 && need > width {
			return false
		}
	}
	return true
}

func (l layout) line(j job.Job, width int) string {
	return shorten(strings.TrimRight(l.head(j)+tail(j), " "), width)
}

// head is everything before the tail.
func (l layout) head(j job.Job) string {
	if l.bar == 0 {
		text := fmt.Sprintf("%2d %-9s %-*s ", j.Ordinal+1, j.State, l.device, device(j))
		if done := step(j); done != absent {
			text += done + " "
		}
		return text
	}
	done := 0
	if j.State == job.Succeeded {
		done = l.bar
	} else if j.Progress.Steps > 0 {
		done = min(l.bar, j.Progress.Step*l.bar/j.Progress.Steps)
	}
	text := fmt.Sprintf("%2d [%s%s] %-9s on %-*s ", j.Ordinal+1, strings.Repeat("=", done), strings.Repeat(" ", l.bar-done), j.State, l.device, device(j))
	if l.seed {
		text += fmt.Sprintf("seed %d  ", j.Seed)
	}
	return text
}

// tail is what a person looks for: the file, else why it is not there.
func tail(j job.Job) string {
	if j.State == job.Succeeded {
		return imageName(j)
	}
	if words := oneLine(why(j)); words != string(j.State) {
		return words
	}
	return ""
}

// shorten cuts a text to so many characters; 0 is no limit.
func shorten(text string, width int) string {
	if runes := []rune(text); width > 0 && len(runes) > width {
		return string(runes[:width-1]) + "…"
	}
	return text
}
