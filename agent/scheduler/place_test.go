package scheduler

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/shared/gpu"
)

// box gives idle stations of those speeds, one kind of image that takes 6 s at speed 1 and loads in 5 s.
func box(speeds ...float64) Input {
	in := Input{Horizon: shortPlan, Kinds: []Kind{{Model: "sdxl"}}}
	for i, speed := range speeds {
		in.Stations = append(in.Stations, Station{Ref: gpu.Ref(i), Key: fmt.Sprintf("GPU-%d", i), Name: gpu.Ref(i).Label(), Idle: true})
		in.Kinds[0].Costs = append(in.Kinds[0].Costs, Cost{Serves: true, Work: 6 / speed, Load: 5})
	}
	return in
}

// set adds n images of one set.
func (in Input) set(name string, n int, change ...func(*Pending)) Input {
	for i := range n {
		p := Pending{ID: fmt.Sprintf("%s%02d", name, i), Set: name, Ordinal: i, Bound: -1}
		for _, c := range change {
			c(&p)
		}
		in.Pending = append(in.Pending, p)
	}
	return in
}

func (in Input) station(i int, change func(*Station)) Input {
	in.Stations = slices.Clone(in.Stations)
	change(&in.Stations[i])
	return in
}

func (in Input) policy(p Policy) Input {
	in.Policy = p
	return in
}

// drawing limits the power that is left, and tells what an image adds on each station.
func (in Input) drawing(left float64, extra ...float64) Input {
	in.Watts = &left
	for i, watts := range extra {
		in = in.station(i, func(st *Station) { st.Extra = watts })
	}
	return in
}

// starts writes a plan's starts as "a00→0 a01→2".
func starts(in Input, plan Plan) string {
	var words []string
	for _, s := range plan.Starts {
		words = append(words, fmt.Sprintf("%s→%d", in.Pending[s.Job].ID, s.Station))
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

func busyFor(seconds float64) func(*Station) {
	return func(st *Station) { st.Idle, st.Available, st.Loaded = false, seconds, "sdxl" }
}
func warm(st *Station) { st.Loaded = "sdxl" }
func blockedBy(why string, gone bool) func(*Station) {
	return func(st *Station) { st.Blocked, st.Gone = why, gone }
}
func load(share float64) func(*Station) { return func(st *Station) { st.Memory = share } }
func room(gib float64) func(*Station) {
	return func(st *Station) { bytes := uint64(gib * (1 << 30)); st.Room = &bytes }
}
func pinned(key string) func(*Pending)     { return func(p *Pending) { p.Pin = key } }
func waited(s float64) func(*Pending)      { return func(p *Pending) { p.Waited = s } }
func priority(n int) func(*Pending)        { return func(p *Pending) { p.Priority = n } }
func avoiding(slots ...int) func(*Pending) { return func(p *Pending) { p.Avoid = slots } }
func boundTo(slot int) func(*Pending)      { return func(p *Pending) { p.Bound = slot } }
func (in Input) needing(gib float64) Input {
	for i := range in.Kinds[0].Costs {
		in.Kinds[0].Costs[i].Needs = uint64(gib * (1 << 30))
	}
	return in
}

func TestPlace(t *testing.T) {
	t.Parallel()
	hom4, het4 := box(1, 1, 1, 1), box(1, .6, .55, .25)
	for _, tt := range []struct {
		name string
		in   Input
		want string
	}{
		{"four on four, predicted", hom4.set("a", 4), "a00→0 a01→1 a02→2 a03→3"},
		{"four on four, least loaded", hom4.policy(LeastLoaded).set("a", 4), "a00→0 a01→1 a02→2 a03→3"},
		{"four on four, round robin", hom4.policy(RoundRobin).set("a", 4), "a00→0 a01→1 a02→2 a03→3"},
		{"nothing queued", hom4, ""},
		{"no devices", Input{Kinds: []Kind{{Model: "x"}}}.set("a", 1), ""},
		{"the fastest first", het4.station(0, func(*Station) {}).set("a", 1), "a00→0"},
		{"warm and slower beats cold and fast", het4.station(1, warm).set("a", 1), "a00→1"}, // 10 s against 11 s
		{"wait for the fast busy one", box(1, .25).station(0, busyFor(4)).set("a", 1), ""},  // 10 s against 29 s
		{"do not wait for it too long", box(1, .25).station(0, busyFor(40)).set("a", 1), "a00→1"},
		{"the slow one gets what would queue too long", box(1, .25).station(0, busyFor(4)).set("a", 5), "a04→1"}, // 4+6·5=34 s against 29 s
		{"other programs slow a device", box(1, 1).station(0, func(st *Station) { st.Share = .5 }).set("a", 1), "a00→1"},
		{"paused takes nothing", box(1, 1).station(0, blockedBy("is paused", true)).set("a", 2), "a00→1"},
		{"pinned only there", box(1, 1).set("a", 1, pinned("GPU-1")), "a00→1"},
		{"pinned waits there", box(1, 1).station(1, busyFor(99)).set("a", 1, pinned("GPU-1")), ""},
		{"pinned to what is not there", box(1, 1).set("a", 1, pinned("GPU-7")), ""},
		{"no room", box(1, .25).needing(9.5).station(0, room(8)).station(1, room(12)).set("a", 1), "a00→1"},
		{"no room anywhere", box(1).needing(9.5).station(0, room(8)).set("a", 1), ""},
		{"room unknown", box(1).needing(9.5).set("a", 1), "a00→0"},
		{"not where it failed", box(1, .25).set("a", 1, avoiding(0)), "a00→1"},
		{"where it failed, when nothing else is there", box(1, .25).station(1, blockedBy("was lost", true)).set("a", 1, avoiding(0)), "a00→0"},
		{"where it failed, when it failed everywhere", box(1, .25).set("a", 1, avoiding(0, 1)), "a00→0"},
		{"a time that is none is the latest", box(0, 1).set("a", 1), "a00→1"},
		{"times that are all none", box(0, 0).station(0, busyFor(math.Inf(1))).set("a", 1), "a00→1"},
		{"times that are no numbers", box(math.NaN(), math.NaN()).station(0, busyFor(math.NaN())).set("a", 2), "a00→1"},
		{"held", func() Input { in := hom4.set("a", 4); in.Hold = "the disk is full"; return in }(), ""},
		{"short set before long set", box(1).set("a", 4).set("b", 1), "b00→0"},
		{"unless the long one has waited", box(1).set("a", 4, waited(600)).set("b", 1), "a00→0"},
		{"not where it failed while another rests", box(1, 1).station(1, blockedBy("rests", false)).set("a", 1, avoiding(0)), ""},
		{"where it failed when no other will come", box(1, 1).station(1, blockedBy("is lost", true)).set("a", 1, avoiding(0)), "a00→0"},
		{"priority first", box(1).set("a", 1).set("b", 4, priority(1)), "b00→0"},
		{"where there is power", box(1, .25).drawing(100, 300, 50).set("a", 1), "a00→1"},
		{"no power at all", box(1, .25).drawing(20, 300, 50).set("a", 2), ""},
		{"power comes soon", box(1, .1, 1).drawing(100, 300, 50, 0).station(2, busyFor(4)).set("a", 1), ""}, // 10 s against 65 s
		{"least loaded takes the emptiest free one", box(1, 1, 1).policy(LeastLoaded).station(0, load(.5)).station(1, load(.1)).station(2, load(.3)).set("a", 2), "a00→1 a01→2"},
		{"least loaded never waits for another", box(1, .1).policy(LeastLoaded).station(0, busyFor(1)).set("a", 1), "a00→1"},
		{"least loaded serves by age", box(1).policy(LeastLoaded).set("a", 9).set("b", 1), "a00→0"},
		{"least loaded puts what can't be read last", box(1, 1).policy(LeastLoaded).station(0, load(1)).station(1, load(.125)).set("a", 1), "a00→1"},
		{"round robin keeps to its device", box(1, 1).policy(RoundRobin).station(0, busyFor(50)).set("a", 1, boundTo(0)), ""},
		{"round robin leaves a device that is gone", box(1, 1).policy(RoundRobin).station(0, blockedBy("was lost", true)).set("a", 1, boundTo(0)), "a00→1"},
		{"round robin waits for a hot one", box(1, 1).policy(RoundRobin).station(0, blockedBy("is too hot", false)).set("a", 1, boundTo(0)), ""},
		{"round robin leaves a device that it does not fit on", box(1, 1).policy(RoundRobin).needing(9.5).station(0, room(8)).station(1, room(12)).set("a", 1, boundTo(0)), "a00→1"},
		{"round robin deals to devices that it fits on", box(1, 1).policy(RoundRobin).needing(9.5).station(0, room(8)).station(1, room(12)).set("a", 2), "a00→1"},
		{"round robin leaves where it failed", box(1, 1).policy(RoundRobin).set("a", 1, boundTo(0), avoiding(0)), "a00→1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			plan := Place(tt.in)
			if got := starts(tt.in, plan); got != tt.want {
				t.Errorf("starts %q: want %q", got, tt.want)
			}
			if len(plan.Starts)+len(plan.Waits) != len(tt.in.Pending) {
				t.Errorf("%d start and %d wait, of %d", len(plan.Starts), len(plan.Waits), len(tt.in.Pending))
			}
			for _, w := range plan.Waits {
				if w.Words(tt.in.Stations) == "" {
					t.Errorf("%s waits without a word", tt.in.Pending[w.Job].ID)
				}
			}
		})
	}
}

// Nobody is told a time at which an image is done that can't start before a person or another program does something.
func TestNoTimeIsToldWithoutPower(t *testing.T) {
	t.Parallel()
	plan := Place(box(1, .25).drawing(20, 300, 50).set("a", 3))
	for j, at := range plan.Finish {
		if at < never {
			t.Errorf("image %d is expected in %.0f s", j, at)
		}
	}
	if got := Place(box(1, 1).drawing(20, 300, 0).station(1, busyFor(8)).set("a", 2, pinned("GPU-0"))).Finish; got[0] != 19 || got[1] != 25 {
		t.Errorf("expected in %.0f s: want 19 and 25, with 8 s until the other is done and 5 s of loading", got)
	}
}

// What runs on a slow device is a small part of the machine's work: it does not put the rest of its set behind newer ones.
func TestASetThatHasBegunKeepsItsPlace(t *testing.T) {
	t.Parallel()
	in := box(1, 1, .1).station(2, func(st *Station) { st.Idle, st.Available, st.Set = false, 50, "begun" })
	in = in.set("begun", 3, waited(2)).set("newer", 4, waited(1))
	if first := newPlanner(in).order()[0]; in.Pending[first].Set != "begun" {
		t.Errorf("%s comes first", in.Pending[first].ID)
	}
}

// facts/api.md: 4 images, loads 12.5/25/37.5 % → 0, 1, 2, 0.
func TestRoundRobinDeals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		loads []float64
		want  []int
	}{
		{"as the API says", []float64{.125, .25, .375}, []int{0, 1, 2, 0}},
		{"by load", []float64{.5, .1, .8, .3}, []int{1, 3, 0, 2}},
		{"equal keep their order", []float64{.2, .2}, []int{0, 1, 0, 1}},
		{"unreadable comes last", []float64{1, .125}, []int{1, 0, 1, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := box(make([]float64, len(tt.loads))...).policy(RoundRobin).set("a", 4)
			for i, share := range tt.loads {
				in.Stations[i].Memory, in.Stations[i].Idle = share, false
			}
			var got []int
			for _, d := range Place(in).Deals {
				got = append(got, d.Station)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if in.Pending[0].Bound != -1 {
				t.Error("Place changed its input")
			}
		})
	}
}

func TestWhatDevicesHoldComesFirstWhereAllEndSooner(t *testing.T) {
	t.Parallel()
	// Two models; both devices hold the second, the queue begins with the first.
	in := box(1, 1).station(0, func(st *Station) { st.Loaded = "sd15" }).station(1, func(st *Station) { st.Loaded = "sd15" })
	in.Kinds = append(in.Kinds, Kind{Model: "sd15", Costs: []Cost{{Serves: true, Work: 1.5, Load: 3}, {Serves: true, Work: 1.5, Load: 3}}})
	second := func(p *Pending) { p.Kind = 1 }
	many := in.set("a", 8, waited(100)).set("b", 2, second)
	if got := starts(many, Place(many)); got != "b00→0 b01→1" {
		t.Errorf("%s: want what the devices hold", got)
	}
	two := in.set("a", 8, waited(100), func(p *Pending) { p.Client = "x" }).set("b", 2, second)
	if got := starts(two, Place(two)); got != "b00→0 b01→1" {
		t.Errorf("of two clients the smaller set comes first: %s", got)
	}
	important := in.set("a", 8, waited(100), priority(1)).set("b", 2, second)
	if got := starts(important, Place(important)); got != "a00→0 a01→1" {
		t.Errorf("head of higher priority: %s", got)
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	in := box(1, .25).station(0, busyFor(3.7)).set("a", 1)
	cold := in
	cool := in.station(1, func(st *Station) { st.Loaded = "sdxl" })
	for _, tt := range []struct {
		name string
		in   Input
		want string
	}{
		{"cold", cold, "waiting 4 s for Device 0: sooner than loading on Device 1"},
		{"warm", cool, "waiting 4 s for Device 0: done sooner than on Device 1"},
		{"all busy", in.station(1, busyFor(90)), "waiting 4 s for Device 0: every device is busy"},
		{"paused", box(1).station(0, blockedBy("is paused", true)).set("a", 1), "waiting: Device 0 is paused"},
		{"no room", box(1).needing(9.5).station(0, room(3.1)).set("a", 1), "waiting: Device 0 has room for 3.1 GiB, sdxl needs about 9.5 GiB"},
		{"pinned away", box(1).set("a", 1, pinned("GPU-3")), `waiting: the device that was asked for (GPU-3) is not here now`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			plan := Place(tt.in)
			if len(plan.Waits) != 1 {
				t.Fatalf("%+v", plan)
			}
			if got := plan.Waits[0].Words(tt.in.Stations); got != tt.want {
				t.Errorf("%q: want %q", got, tt.want)
			}
		})
	}
}

// A plan never gives two images to one station, none to a busy or blocked one, and none to a station that may not make it.
func FuzzPlace(f *testing.F) {
	f.Add([]byte{4, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9}, uint8(0))
	f.Add([]byte{9, 200, 255, 0, 128, 64, 3, 77}, uint8(1))
	f.Add([]byte{1, 1}, uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, policy uint8) {
		at := 0
		next := func() int {
			if len(data) == 0 {
				return 0
			}
			at++
			return int(data[at%len(data)]) + at*7%13
		}
		in := Input{Policy: []Policy{Predicted, LeastLoaded, RoundRobin}[policy%3], Kinds: make([]Kind, 1+next()%3)}
		for i := range next() % 9 {
			st := Station{Ref: gpu.Ref(i), Key: fmt.Sprintf("GPU-%d", i), Idle: next()%2 == 0, Share: float64(next()%3) / 2, Memory: float64(next()%9) / 8, Loaded: fmt.Sprint(next() % 3)}
			if next()%4 == 0 {
				st.Blocked, st.Gone = "x", next()%2 == 0
			}
			if !st.Idle {
				st.Available = float64(next() % 50)
			}
			if next()%2 == 0 {
				bytes := uint64(next())
				st.Room = &bytes
			}
			in.Stations = append(in.Stations, st)
			for k := range in.Kinds {
				in.Kinds[k].Model = fmt.Sprint(k)
				in.Kinds[k].Costs = append(in.Kinds[k].Costs, Cost{Serves: next()%4 > 0, Work: float64(next()), Load: float64(next()), Needs: uint64(next())})
			}
		}
		for i := range next() % 60 {
			p := Pending{ID: fmt.Sprint(i), Set: fmt.Sprint(next() % 5), Ordinal: i, Kind: next() % len(in.Kinds), Priority: next() % 2, Waited: float64(next()), Bound: next()%(len(in.Stations)+1) - 1}
			if next()%5 == 0 {
				p.Pin = fmt.Sprint("GPU-", next()%9)
			}
			if next()%5 == 0 && len(in.Stations) > 0 {
				p.Avoid = []int{next() % len(in.Stations)}
			}
			in.Pending = append(in.Pending, p)
		}
		plan := Place(in)
		if len(plan.Starts)+len(plan.Waits) != len(in.Pending) {
			t.Fatalf("%d starts and %d waits for %d images", len(plan.Starts), len(plan.Waits), len(in.Pending))
		}
		jobs, used := map[int]bool{}, map[int]bool{}
		for _, s := range plan.Starts {
			p, st := in.Pending[s.Job], in.Stations[s.Station]
			c := in.Kinds[p.Kind].Costs[s.Station]
			if jobs[s.Job] || used[s.Station] || !st.Idle || st.Blocked != "" || !c.Serves || p.Pin != "" && p.Pin != st.Key || st.Room != nil && c.Needs > *st.Room || s.Reason == "" {
				t.Fatalf("bad start %+v of %+v on %+v", s, p, st)
			}
			jobs[s.Job], used[s.Station] = true, true
		}
		for _, w := range plan.Waits {
			if jobs[w.Job] || w.Words(in.Stations) == "" {
				t.Fatalf("bad wait %+v", w)
			}
			jobs[w.Job] = true
		}
	})
}

// BENCHMARKS.md 1: one decision, 64 devices and 1,000 queued, at most 1 ms.
func BenchmarkPlace(b *testing.B) {
	for _, tt := range []struct {
		name            string
		devices, queued int
		idle            bool
	}{{"16x1000", 16, 1000, true}, {"64x1000", 64, 1000, true}, {"64x1000busy", 64, 1000, false}, {"64x10000", 64, 10000, false}} {
		b.Run(tt.name, func(b *testing.B) {
			in := Input{Kinds: []Kind{{Model: "sd15"}, {Model: "sdxl"}, {Model: "flux"}}}
			for i := range tt.devices {
				bytes := uint64(24) << 30
				in.Stations = append(in.Stations, Station{Ref: gpu.Ref(i), Key: fmt.Sprintf("GPU-%d", i), Name: gpu.Ref(i).Label(), Idle: tt.idle, Available: float64(i), Loaded: in.Kinds[i%3].Model, Room: &bytes})
				for k := range in.Kinds {
					in.Kinds[k].Costs = append(in.Kinds[k].Costs, Cost{Serves: true, Work: float64(2+4*k) * (1 + float64(i%4)), Load: 5, Needs: uint64(k) << 33})
				}
			}
			for i := range tt.queued / 4 {
				in = in.set(fmt.Sprint("set", i), 4, func(p *Pending) { p.Kind, p.Waited = i%3, float64(i%100) })
			}
			b.ReportAllocs()
			for b.Loop() {
				Place(in)
			}
		})
	}
}

func TestReasonsOfStarts(t *testing.T) {
	t.Parallel()
	guess := box(1, 1).set("a", 1)
	guess.Kinds[0].Costs = []Cost{{Serves: true, Work: 6, Guess: true}, {Serves: true, Work: 6, Guess: true}}
	for _, tt := range []struct {
		name string
		in   Input
		want string
	}{
		{"cold", box(1, 1).set("a", 1), "Device 0 is free and done first, in about 15 s with loading the model"},
		{"warm", box(1, 1).station(1, warm).set("a", 1), "Device 1 is free, holds the model and is done first, in about 7 s"},
		{"nothing measured", guess, "Device 0 is free and should be done first"},
		{"only one", box(1).set("a", 1), "Device 0 is the only device that can make it now"},
		{"pinned", box(1, 1).set("a", 1, pinned("GPU-1")), "Device 1 was asked for"},
		{"after a failure", box(1, 1, 1).set("a", 1, avoiding(0)), "Device 1 is free; the last attempt failed on Device 0"},
		{"least loaded", box(1, 1).policy(LeastLoaded).station(0, load(.5)).station(1, load(.1)).set("a", 1), "Device 1 has the least memory in use of the free devices (10 %)"},
		{"round robin", box(1).policy(RoundRobin).set("a", 1), "Device 0 by round robin over the devices by memory in use"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			plan := Place(tt.in)
			if len(plan.Starts) != 1 || plan.Starts[0].Reason != tt.want {
				t.Errorf("%+v: want %q", plan.Starts, tt.want)
			}
		})
	}
}

// The smaller set comes first by itself; here that would drive out the model of the other, and both end sooner the other way round.
func TestABetterOrderIsFound(t *testing.T) {
	t.Parallel()
	in := box(1).station(0, func(st *Station) { st.Loaded = "held" })
	in.Kinds[0].Costs[0].Work = 10
	in.Kinds = append(in.Kinds, Kind{Model: "held", Costs: []Cost{{Serves: true, Work: 11, Load: 5}}})
	in = in.set("a", 1).set("b", 1, func(p *Pending) { p.Kind = 1 })
	if got := starts(in, Place(in)); got != "b00→0" {
		t.Errorf("%s: want what is held first, although it is the larger one", got)
	}
}

// A client with a thousand images does not keep out another who asks for one, and one who had much comes after one who had nothing.
func TestClientsShareTheMachine(t *testing.T) {
	t.Parallel()
	by := func(client string, used float64) func(*Pending) {
		return func(p *Pending) { p.Client, p.Used = client, used }
	}
	in := box(1)
	for i := range 100 {
		in = in.set(fmt.Sprintf("greedy%02d", i), 4, by("greedy", 0), waited(30))
	}
	in = in.set("modest", 4, by("modest", 0))
	plan := Place(in)
	before := 0
	for _, w := range plan.Waits {
		if in.Pending[w.Job].Client == "modest" {
			break
		}
		before++
	}
	if before > 12 {
		t.Errorf("%d images of the greedy one come before the modest one's four", before)
	}
	in = box(1).set("a", 1, by("had much", 100)).set("b", 1, by("had nothing", 0))
	if got := starts(in, Place(in)); got != "b00→0" {
		t.Errorf("%s: want who had nothing", got)
	}
}

func TestWhoHasWaitedComesFirst(t *testing.T) {
	t.Parallel()
	in := box(1).set("new", 1).set("old", 4, waited(200))
	if first := newPlanner(in).order()[0]; in.Pending[first].Set != "old" {
		t.Errorf("%s comes first", in.Pending[first].ID)
	}
}
