package scheduler

import (
	"cmp"
	"fmt"
	"math"
	"strings"
)

// Cause is why an image waits.
type Cause int

// The causes of waiting.
const (
	held     Cause = iota // nothing may start: Detail
	stranded              // no station can take it: Detail
	busy                  // every station that can make it is busy; Station comes free first for it
	sooner                // Station is busy, yet done sooner than the idle station Other
	dealt                 // round robin dealt it to Station, which is busy
	inTurn                // others come first; it was not planned
	powered               // Station is idle, but all devices together would draw too much
)

// Wait is why an image does not start now.
type Wait struct {
	Job     int
	Cause   Cause
	Station int     // it waits for this one (busy, sooner, dealt)
	Other   int     // idle, but later (sooner)
	Loads   bool    // Other would have to load the model first (sooner)
	Seconds float64 // until Station is free for it
	Ahead   int     // images that wait before it
	Detail  string
}

// later explains an image that waits for a busy station although other (−1: none) is idle.
func (p *planner) later(j, station, other int) Wait {
	w := Wait{Job: j, Cause: busy, Station: station, Other: other, Seconds: p.free[station]}
	if other >= 0 {
		w.Cause = sooner
		w.Loads = p.cost(j, other).Load > 0 && !p.holding(j, other)
	}
	return w
}

// stranded explains an image that no station can take.
func (p *planner) stranded(j int) Wait {
	job, kind := &p.Pending[j], &p.Kinds[p.Pending[j].Kind]
	var why []string
	for s := range p.Stations {
		st := &p.Stations[s]
		switch {
		case !p.allowed(j, s) || p.Policy == RoundRobin && p.bound[j] >= 0 && p.bound[j] != s:
			continue
		case st.Blocked != "":
			why = append(why, st.Name+" "+st.Blocked)
		case !p.fits(job.Kind, s):
			why = append(why, fmt.Sprintf("%s has room for %s, %s needs about %s", st.Name, gib(*st.Room), kind.Model, gib(p.cost(j, s).Needs)))
		}
	}
	w := Wait{Job: j, Cause: stranded}
	switch {
	case len(why) > 3:
		w.Detail = fmt.Sprintf("%s; and %d more", strings.Join(why[:2], "; "), len(why)-2)
	case len(why) > 0:
		w.Detail = strings.Join(why, "; ")
	case job.Pin != "":
		w.Detail = p.pinned(job.Pin, kind.wants())
	default:
		w.Detail = fmt.Sprintf("no device has a generator for %s now", kind.wants())
		if away := cmp.Or(kind.Away, p.Away); away != "" {
			w.Detail += "; " + away
		}
	}
	return w
}

// pinned says why the device that was asked for can't take an image.
func (p *planner) pinned(key, wants string) string {
	for _, st := range p.Stations {
		if st.Key == key {
			return fmt.Sprintf("%s, which was asked for, has no generator for %s now", st.Name, wants)
		}
	}
	return fmt.Sprintf("the device that was asked for (%s) is not here now", key)
}

func gib(bytes uint64) string { return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30)) }

// same says whether two waits of one image have the same words.
func (w Wait) same(o Wait) bool {
	return w.Cause == o.Cause && w.Station == o.Station && w.Other == o.Other && w.Loads == o.Loads && w.Detail == o.Detail &&
		tens(w.Ahead) == tens(o.Ahead) && (w.Ahead == 0) == (o.Ahead == 0) && (w.Seconds == o.Seconds || w.Cause == busy && w.Ahead > 0)
}

// Words explains the wait to a person. Numbers are coarse, so that the text seldom changes while nothing else does.
func (w Wait) Words(stations []Station) string {
	name := func(s int) string { return stations[s].Name }
	switch w.Cause {
	case held, stranded:
		return "waiting: " + w.Detail
	case sooner:
		than := "done sooner than on " + name(w.Other)
		if w.Loads {
			than = "sooner than loading on " + name(w.Other)
		}
		return fmt.Sprintf("waiting %s for %s: %s", about(w.Seconds), name(w.Station), than)
	case powered:
		return fmt.Sprintf("waiting: with %s all devices together would draw more than they may", name(w.Station))
	case dealt:
		return fmt.Sprintf("waiting %s for %s: dealt to it by round robin", about(w.Seconds), name(w.Station))
	case busy:
		if w.Ahead == 0 {
			return fmt.Sprintf("waiting %s for %s: every device is busy", about(w.Seconds), name(w.Station))
		}
	}
	return fmt.Sprintf("waiting its turn: %s ahead of it", imagesAre(w.Ahead))
}

func imagesAre(n int) string {
	switch about := tens(n); {
	case n == 1:
		return "1 image is"
	case n >= 20 && n < 100:
		return fmt.Sprintf("about %d images are", about)
	default:
		return fmt.Sprintf("%d images are", about)
	}
}

// tens makes a large number coarse.
func tens(n int) int {
	switch {
	case n >= 100:
		return n / 100 * 100
	case n >= 20:
		return n / 10 * 10
	}
	return n
}

// coarse are the waits that a person is told; between them the text stays as it is.
var coarse = []float64{1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200, 1800, 3600}

// about rounds seconds up to a coarse, readable time: "4 s", "2 min".
func about(seconds float64) string {
	for _, c := range coarse {
		if seconds > c {
			continue
		}
		if c < 60 {
			return fmt.Sprintf("%.0f s", c)
		}
		return fmt.Sprintf("%g min", c/60)
	}
	if math.IsInf(seconds, 0) || math.IsNaN(seconds) || seconds > 1e6 {
		return "long"
	}
	return fmt.Sprintf("%.0f h", math.Ceil(seconds/3600))
}

// bestReason says why the image starts on this station.
func (p *planner) bestReason(j, s, candidates int, finish float64) string {
	st, c := p.Stations[s], p.cost(j, s)
	switch {
	case p.Pending[j].Pin != "":
		return st.Name + " was asked for"
	case len(p.Pending[j].Avoid) > 0:
		return fmt.Sprintf("%s is free; the last attempt failed on %s", st.Name, p.names(p.Pending[j].Avoid))
	case candidates == 1:
		return st.Name + " is the only device that can make it now"
	case c.Guess:
		return st.Name + " is free and should be done first"
	case c.Load > 0 && p.holding(j, s):
		return fmt.Sprintf("%s is free, holds the model and is done first, in about %s", st.Name, about(finish))
	case c.Load > 0:
		return fmt.Sprintf("%s is free and done first, in about %s with loading the model", st.Name, about(finish))
	}
	return fmt.Sprintf("%s is free and done first, in about %s", st.Name, about(finish))
}

func (p *planner) names(stations []int) string {
	var names []string
	for _, s := range stations {
		names = append(names, p.Stations[s].Name)
	}
	return strings.Join(names, ", ")
}

func leastReason(st Station) string {
	return fmt.Sprintf("%s has the least memory in use of the free devices (%.0f %%)", st.Name, 100*st.Memory)
}

func dealtReason(st Station) string {
	return st.Name + " by round robin over the devices by memory in use"
}
