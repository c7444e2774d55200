package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"muster/shared/gpu"
	"muster/shared/job"
)

// sixteen jobs in every state, with the longest of everything.
func progressJobs() []job.Job {
	var jobs []job.Job
	for i := range 16 {
		j := job.Job{ID: fmt.Sprintf("01K00000000000000000000J%02d", i), Ordinal: i, Seed: 9007199254740991, State: job.States[i%len(job.States)], Progress: job.Progress{Step: 7, Steps: 20},
			Reason: "waiting 4 s for Device 0: sooner than loading on Device 2, which holds another model"}
		if j.State == job.Failed {
			j.Error = "the generator\nfailed: \x1b[2J CUDA out of memory. Tried to allocate 2.00 GiB"
		}
		if j.State != job.Queued {
			j.DeviceID, j.Simulated = new(gpu.Ref(i)), i%2 == 1
		}
		jobs = append(jobs, j)
	}
	return jobs
}

func TestProgressFitsTheTerminal(t *testing.T) {
	t.Parallel()
	jobs := progressJobs()
	for _, test := range []struct {
		width      int
		want, none []string
	}{
		{0, []string{"[========                ] running", "seed 9007199254740991", "which holds another model", "01K00000000000000000000J02.png"}, []string{"…", "\x1b"}},
		{140, []string{"[========                ] running", "seed 9007199254740991", "01K00000000000000000000J02.png"}, []string{"\x1b"}},
		{99, []string{"[========                ] running", "01K00000000000000000000J02.png", "on 7 (simulated)"}, []string{"seed"}},
		{79, []string{"[===       ] running", "01K00000000000000000000J07.png", "on 7 (simulated)", "waiting 4 s for"}, []string{"seed"}},
		{59, []string{" 3 succeeded 2              01K00000000000000000000J02.png", " 2 running   1 (simulated)  7/20 waiting", "01K00000000000000000000J07.png"}, []string{"seed", "[="}},
		{20, []string{" 3 succeeded 2 "}, nil},
	} {
		lines := progressLines(jobs, "in 100 min, 25 to 170 min, any time at all", test.width)
		if len(lines) != len(jobs)+1 {
			t.Fatalf("%d lines", len(lines))
		}
		text := strings.Join(lines, "\n")
		for _, line := range lines {
			if width := utf8.RuneCountInString(line); test.width > 0 && width > test.width {
				t.Errorf("%d characters for %d: %q", width, test.width, line)
			}
		}
		for _, want := range test.want {
			if !strings.Contains(text, want) {
				t.Errorf("%d: %q is not in\n%s", test.width, want, text)
			}
		}
		for _, none := range test.none {
			if strings.Contains(text, none) {
				t.Errorf("%d: %q is in\n%s", test.width, none, text)
			}
		}
	}
}

// What is told above the progress leaves the drawing whole: it is taken away before, and stands below afterwards.
func TestTellingAboveTheProgress(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	view := &progressView{out: &out, live: true, width: func() int { return 60 }}
	jobs := progressJobs()[:2]
	view.show(jobs, &job.Expected{At: time.Now().Add(time.Minute), Early: time.Now().Add(time.Minute), Late: time.Now().Add(2 * time.Minute)})
	drawn := out.String()
	if strings.Count(drawn, "\n") != 3 || strings.Contains(drawn, "\033") {
		t.Errorf("%q", drawn)
	}
	out.Reset()
	view.above(func() { out.WriteString("the agent is away\n") })
	if got, want := out.String(), "\033[3A\r\033[Jthe agent is away\n"+drawn; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	out.Reset()
	view.show(jobs[:1], nil)
	if got := out.String(); !strings.HasPrefix(got, "\033[3A\r\033[J 1 ") || strings.Count(got, "\n") != 1 {
		t.Errorf("%q", got)
	}
}

// Without a terminal there is a whole line for every image that has ended, once.
func TestProgressWithoutATerminal(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	view := newProgressView(&out, false)
	view.show(progressJobs(), nil)
	view.show(progressJobs(), nil)
	if got := out.String(); strings.Count(got, "\n") != 9 || strings.Contains(got, "\033") || !strings.Contains(got, "seed 9007199254740991  01K00000000000000000000J02.png") || !strings.Contains(got, "Tried to allocate 2.00 GiB") {
		t.Errorf("%q", got)
	}
}

// Without a terminal it is said, once, why nothing is made.
func TestStandstillIsTold(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	view := newProgressView(&out, false)
	waits := []job.Job{{ID: "a", State: job.Queued, Reason: "waiting: its generator\x1b is away"}, {ID: "b", State: job.Queued, Reason: "waiting: 1 image is before it"}}
	for range 3 {
		view.show(waits, nil)
	}
	waits[0].State = job.Running
	view.show(waits, nil)
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "is away") || strings.Contains(got, "\x1b") {
		t.Errorf("%q", got)
	}
}
