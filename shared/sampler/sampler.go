// Package sampler knows the names of samplers. Every program spells them in its own way ("Euler a", "euler_a", "euler_ancestral",
// "k_euler_a"), and many take their default for one that they do not know, without a word; so what a generator has is asked for before,
// and a name is only sent in the spelling that it told. It is a leaf that imports the standard library alone.
package sampler

import (
	"cmp"
	"slices"
	"strings"
	"sync"
)

// List is what a generator can be told to sample with. The zero value is one that can't be told at all. Nobody changes it once it was
// asked.
type List struct {
	Samplers []Name
	// Schedules of noise may stand behind a sampler's name, as in "DPM++ 2M Karras".
	Schedules []Name

	once    sync.Once
	index   index    // of Samplers
	endings []ending // of Schedules, as they were told
}

// index finds a generator's own name by any spelling.
type index struct{ plain, meaning map[string]string }

// ending is a plain spelling of a schedule behind a sampler's name.
type ending struct{ plain, own string }

// Name is what a generator calls something.
type Name struct {
	Own     string   // as it wants to be asked for it
	Aliases []string // that people may write, too; nil for none
}

// Named gives names without aliases.
func Named(names ...string) []Name {
	out := make([]Name, 0, len(names))
	for _, name := range names {
		out = append(out, Name{Own: name})
	}
	return out
}

// synonyms are other names of the same thing, by their plain spelling: those of k-diffusion and A1111, of ComfyUI and of sd-server.
var synonyms = map[string]string{"plms": "ipndm", "ddimtrailing": "ddim", "discrete": "normal", "klooptimal": "kloptimal"}

var (
	separators = strings.NewReplacer("-", "_", " ", "_")
	spellings  = strings.NewReplacer("ancestral", "a", "dpmpp", "dpm++", "_", "")
)

// plain makes one of all spellings of a name.
func plain(name string) string {
	name = separators.Replace(strings.ToLower(strings.TrimSpace(name)))
	return spellings.Replace(strings.TrimPrefix(name, "k_"))
}

// Same says whether two names mean the same sampler or schedule.
func Same(a, b string) bool { return meaning(a) == meaning(b) }

func meaning(name string) string {
	name = plain(name)
	return cmp.Or(synonyms[name], name)
}

// Find gives the generator's own names for what a person wrote: of the sampler, and of the schedule that stands behind it, "" when none
// does. It is false for what the generator does not know.
func (l *List) Find(wanted string) (sampler, schedule string, ok bool) {
	l.once.Do(l.prepare)
	wanted = plain(wanted)
	if own, ok := l.index.find(wanted); ok {
		return own, "", true
	}
	for _, e := range l.endings {
		if first, ok := strings.CutSuffix(wanted, e.plain); ok && first != "" {
			if own, ok := l.index.find(first); ok {
				return own, e.own, true
			}
		}
	}
	return "", "", false
}

// prepare makes the index: lists are asked again and again, by every plan of the scheduler.
func (l *List) prepare() {
	l.index = index{map[string]string{}, map[string]string{}}
	for _, n := range l.Samplers {
		for _, name := range append([]string{n.Own}, n.Aliases...) {
			l.index.add(name, n.Own)
		}
	}
	for _, n := range l.Schedules {
		for _, name := range append([]string{n.Own}, n.Aliases...) {
			for _, end := range endings(name) {
				l.endings = append(l.endings, ending{end, n.Own})
			}
		}
	}
}

// add has the first of several names count.
func (x index) add(name, own string) {
	for _, to := range []struct {
		names map[string]string
		key   string
	}{{x.plain, plain(name)}, {x.meaning, meaning(name)}} {
		if _, taken := to.names[to.key]; !taken {
			to.names[to.key] = own
		}
	}
}

// find gives the own name of the one whose plain spelling is wanted, else of one that means the same.
func (x index) find(wanted string) (own string, ok bool) {
	if own, ok = x.plain[wanted]; !ok {
		own, ok = x.meaning[cmp.Or(synonyms[wanted], wanted)]
	}
	return own, ok
}

// Knows says whether the generator has what a person wrote. A nil List is that of one whose samplers are not known: it may have
// anything. "" is everybody's own default.
func (l *List) Knows(wanted string) bool {
	if l == nil || wanted == "" {
		return true
	}
	_, _, ok := l.Find(wanted)
	return ok
}

// endings are the plain spellings of a schedule behind a sampler's name.
func endings(schedule string) []string {
	own := plain(schedule)
	all := []string{own}
	for other, same := range synonyms {
		if same == own {
			all = append(all, other)
		} else if other == own {
			all = append(all, same)
		}
	}
	return slices.DeleteFunc(all, func(ending string) bool { return ending == "" })
}

// Lists are those of several generators; a nil one is not known.
type Lists []*List

// Knows says whether one of them has what a person wrote; where there are none, nothing is known.
func (all Lists) Knows(wanted string) bool {
	return len(all) == 0 || slices.ContainsFunc(all, func(l *List) bool { return l.Knows(wanted) })
}

// Known says that all are known.
func (all Lists) Known() bool { return len(all) > 0 && !slices.Contains(all, nil) }

// Silent says whether one of them can't be told at all.
func (all Lists) Silent() bool {
	return slices.ContainsFunc(all, func(l *List) bool { return l != nil && len(l.Samplers) == 0 })
}

// Union gives everything that the known ones have, each once.
func (all Lists) Union() *List {
	whole := &List{}
	for _, l := range all {
		if l != nil {
			whole = whole.With(l)
		}
	}
	return whole
}

// With gives what this generator or another one has, each once.
func (l *List) With(other *List) *List {
	return &List{Samplers: union(l.Samplers, other.Samplers), Schedules: union(l.Schedules, other.Schedules)}
}

func union(a, b []Name) []Name {
	all := slices.Clone(a)
	at := map[string]int{}
	for i, n := range a {
		at[meaning(n.Own)] = i
	}
	for _, n := range b {
		i, known := at[meaning(n.Own)]
		if !known {
			at[meaning(n.Own)] = len(all)
			all = append(all, n)
		} else if all[i].Own != n.Own || len(n.Aliases) > 0 {
			all[i].Aliases = slices.Compact(slices.Sorted(slices.Values(slices.Concat(all[i].Aliases, n.Aliases, []string{n.Own}))))
		}
	}
	return all
}

// Titles are the samplers' names for people: those of stable-diffusion-webui's page where it has them, else the generator's own.
func (l *List) Titles() []string {
	out := make([]string, 0, len(l.Samplers))
	for _, n := range l.Samplers {
		out = append(out, title(n.Own, titles))
	}
	return out
}

// ScheduleTitles are the same of the schedules.
func (l *List) ScheduleTitles() []string {
	out := make([]string, 0, len(l.Schedules))
	for _, n := range l.Schedules {
		out = append(out, title(n.Own, scheduleTitles))
	}
	return out
}

// The names of stable-diffusion-webui's page: modules/sd_samplers_kdiffusion.py, sd_samplers_timesteps.py and sd_schedulers.py.
var (
	titles = []string{
		"DPM++ 2M", "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 2S a", "DPM++ 3M SDE", "Euler a", "Euler", "LMS", "Heun", "DPM2",
		"DPM2 a", "DPM fast", "DPM adaptive", "Restart", "DDIM", "DDIM CFG++", "PLMS", "UniPC", "LCM",
	}
	scheduleTitles = []string{
		"Uniform", "Karras", "Exponential", "Polyexponential", "SGM Uniform", "KL Optimal", "Align Your Steps", "Simple", "Normal", "DDIM", "Beta",
	}
)

func title(own string, known []string) string {
	for _, title := range known {
		if plain(title) == plain(own) {
			return title
		}
	}
	return own
}
