package view

import (
	"strconv"
	"time"

	"muster/shared/job"
	"muster/webapp/state"
)

// outlook is what the list says of a job that has not ended: why it is where it is, and when it is expected.
type outlook struct{ reason, when string }

// outlooks are what the list says now. They change once a second at most, however often the scheduler changes its mind, so that
// the list can be read.
type outlooks struct {
	second  int64 // of the agent's clock that they are of
	jobs    map[spoken]outlook
	sets    map[string]string // when each is expected
	painted bool              // they are on the page
}

// spoken is a job in a state: one that starts is told anew at once.
type spoken struct {
	id      string
	state   job.State
	attempt int
}

// turn forgets what was said in an earlier second.
func (o *outlooks) turn(now time.Time) {
	if o.jobs != nil && o.second == now.Unix() {
		return
	}
	*o = outlooks{second: now.Unix(), jobs: map[spoken]outlook{}, sets: map[string]string{}}
}

// outlook gives what is said of a job in this second.
func (p *Page) outlook(j *job.Job) outlook {
	p.outlooks.turn(p.now())
	key := spoken{j.ID, j.State, j.Attempt}
	said, known := p.outlooks.jobs[key]
	if !known {
		said = outlook{j.Reason, p.expectation(j.Expected)}
		p.outlooks.jobs[key] = said
	}
	return said
}

// setOutlook says in this second when the last image of a set is expected; "" when that is not known, and of a single image, which
// says so itself.
func (p *Page) setOutlook(s state.Set) string {
	if len(s.Jobs) == 1 {
		return ""
	}
	p.outlooks.turn(p.now())
	said, known := p.outlooks.sets[s.ID]
	if !known {
		if said = p.expectation(s.Expected()); said != "" {
			said = "All " + said
		}
		p.outlooks.sets[s.ID] = said
	}
	return said
}

// expectation says when something is predicted to be done: "expected 21:43 (in 40 s, between 25 s and 1 min)". "" when nothing is
// known. How long that is from now is left out when the page does not know what time it is at the agent.
func (p *Page) expectation(e *job.Expected) string {
	now := p.now()
	switch {
	case e == nil || now.IsZero():
		return ""
	case p.state.Link != state.Connected:
		return "was expected " + hourOr(e.At, now)
	}
	at, early, late := about(e.At.Sub(now)), about(e.Early.Sub(now)), about(e.Late.Sub(now))
	in := "any moment"
	if at != "" {
		in = "in" + nbsp + at
	}
	switch {
	case late == "" || early == late:
	case early == "":
		in += ", at most" + nbsp + late
	default:
		in += ", between" + nbsp + early + " and" + nbsp + late
	}
	return "expected" + nbsp + hourOr(e.At, now) + " (" + in + ")"
}

// nbsp keeps a number and its unit on one line.
const nbsp = "\u00a0"

// about writes a time to come coarsely enough to be calm: in steps of 5 s, 10 s from 1 min on, 1 min from 2 min, 5 min from 1 h and
// 1 h from 10 h. "" is now.
func about(d time.Duration) string {
	step := time.Hour
	for _, s := range []struct{ below, step time.Duration }{
		{time.Minute, 5 * time.Second}, {2 * time.Minute, 10 * time.Second}, {time.Hour, time.Minute}, {10 * time.Hour, 5 * time.Minute},
	} {
		if d < s.below {
			step = s.step
			break
		}
	}
	d = d.Round(step)
	h, m := int(d/time.Hour), int(d/time.Minute)
	switch {
	case d <= 0:
		return ""
	case d < 2*time.Minute:
		return strconv.Itoa(int(d/time.Second)) + nbsp + "s"
	case h == 0:
		return strconv.Itoa(m) + nbsp + "min"
	case m%60 == 0:
		return strconv.Itoa(h) + nbsp + "h"
	default:
		return strconv.Itoa(h) + nbsp + "h" + nbsp + strconv.Itoa(m%60) + nbsp + "min"
	}
}

// paintOutlooks writes what is said of the jobs on the list, when a second has passed.
func (p *Page) paintOutlooks() {
	if p.outlooks.turn(p.now()); p.outlooks.painted {
		return
	}
	p.outlooks.painted = true
	sets, _ := shownSets(p.state.Sets())
	for _, s := range sets {
		p.steps.text("s"+s.ID+"-when", p.setOutlook(s))
		for _, j := range s.Jobs {
			if j.State.Terminal() {
				continue
			}
			said := p.outlook(j)
			p.steps.text("j"+j.ID+"-reason", said.reason)
			p.steps.text("j"+j.ID+"-when", said.when)
		}
	}
}
