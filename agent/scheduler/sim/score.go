package sim

import (
	"context"
	"fmt"
)

// Case is a kind of trace.
type Case struct {
	Box       Box
	Load      float64
	Disturbed bool
	Telemetry Telemetry
}

func (c Case) String() string {
	words := "undisturbed"
	if c.Disturbed {
		words = "disturbed"
	}
	if c.Telemetry != Live {
		words += ", telemetry " + string(c.Telemetry)
	}
	return fmt.Sprintf("%s at %.2f, %s", c.Box.Name, c.Load, words)
}

// Loads are those of the benchmark.
var Loads = []float64{.3, .6, .85}

// Seeds says which traces are made.
type Seeds struct {
	Count int
	Sets  int  // of each trace
	Tune  bool // those for tuning, which never score
}

// scoringSeeds is where the seeds begin that nothing was tuned with.
const scoringSeeds = 1_000_000

func (s Seeds) seed(i int) uint64 {
	if s.Tune {
		return uint64(i + 1)
	}
	return uint64(scoringSeeds + i)
}

// Scored is what competitors made of all traces of one case.
type Scored struct {
	Case
	Results []*Result // by competitor, all traces together
	Bound   float64   // mean seconds of a set that no policy can beat
	optima  []float64 // by set, of all traces
}

// Score plays cases with competitors.
func Score(ctx context.Context, cases []Case, competitors []Competitor, seeds Seeds) ([]Scored, error) {
	scored := make([]Scored, len(cases))
	runs := make([][][]*Result, len(cases)) // by case and competitor
	bounds := make([][]float64, len(cases))
	optima := make([][][]float64, len(cases))
	for i := range cases {
		runs[i] = make([][]*Result, len(competitors))
		for c := range competitors {
			runs[i][c] = make([]*Result, seeds.Count)
		}
		bounds[i], optima[i] = make([]float64, seeds.Count), make([][]float64, seeds.Count)
	}
	err := each(len(cases)*seeds.Count, func(n int) error {
		i, seed := n/seeds.Count, n%seeds.Count
		w := Traffic(cases[i].Box, cases[i].Load, seeds.Sets, seeds.seed(seed), cases[i].Disturbed)
		w.Telemetry = cases[i].Telemetry
		for c := range competitors {
			r, err := Run(ctx, w, competitors[c])
			if err != nil {
				return fmt.Errorf("%s, seed %d: %w", cases[i], w.Seed, err)
			}
			runs[i][c][seed] = r
		}
		bounds[i][seed], optima[i][seed] = LowerBound(w).Mean, w.optima()
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range cases {
		scored[i] = Scored{Case: cases[i], Bound: mean(bounds[i])}
		for c := range competitors {
			scored[i].Results = append(scored[i].Results, pool(runs[i][c]))
		}
		for _, o := range optima[i] {
			scored[i].optima = append(scored[i].optima, o...)
		}
	}
	return scored, nil
}

// Of gives a policy's result; nil when it did not take part.
func (s *Scored) Of(policy string) *Result {
	for _, r := range s.Results {
		if r.Policy == policy {
			return r
		}
	}
	return nil
}

// BestOther gives the least value that any policy but muster's own reached, and whose it is; 0 when there is no other.
func (s *Scored) BestOther(value func(*Result) float64) (least float64, policy string) {
	for _, r := range s.Results {
		if r.Policy == Predicted.Name {
			continue
		}
		if v := value(r); policy == "" || v < least {
			least, policy = v, r.Policy
		}
	}
	return least, policy
}

// patience gives how many times the optimum of its own set an image waited, beyond two minutes, at most.
func (s *Scored) patience(r *Result) float64 {
	worst := 0.0
	for i, wait := range r.waits {
		worst = max(worst, (wait-patienceSeconds)/s.optima[i])
	}
	return worst
}

const patienceSeconds = 120

// Figures is what one policy made of one case.
type Figures struct {
	Case           string  `json:"case"`
	Policy         string  `json:"policy"`
	MeanS          float64 `json:"mean_s"`
	P50S           float64 `json:"p50_s"`
	P95S           float64 `json:"p95_s"`
	P99S           float64 `json:"p99_s"`
	MeanToBaseline float64 `json:"mean_to_round_robin"` // 0 when that did not take part
	P99ToBaseline  float64 `json:"p99_to_round_robin"`
	MeanToBound    float64 `json:"mean_to_bound"`
	Loads          int     `json:"loads"`
	NoRoom         int     `json:"no_room"`
	Lost           int     `json:"lost"`
	Doubled        int     `json:"doubled"`
	Deaths         int     `json:"deaths"`
	MaxWaitS       float64 `json:"max_wait_s"`
	ETA            float64 `json:"eta_error"`     // median of the images', as a share; 0 when it predicts nothing
	SetETA         float64 `json:"set_eta_error"` // median of the sets'
	DecisionUS     float64 `json:"decision_us"`
}

// Figures gives every policy's figures.
func (s *Scored) Figures() []Figures {
	base := s.Of(Baseline)
	var all []Figures
	for _, r := range s.Results {
		f := Figures{
			Case: s.String(), Policy: r.Policy, MeanS: r.Mean(), P50S: r.Quantile(.5), P95S: r.Quantile(.95), P99S: r.Quantile(.99),
			MeanToBound: r.Mean() / s.Bound, Loads: r.Loads, NoRoom: r.NoRoom, Lost: r.Lost, Doubled: r.Doubled, Deaths: r.Deaths,
			MaxWaitS: r.MaxWait, ETA: quantile(r.ImageErrors, .5), SetETA: quantile(r.SetErrors, .5), DecisionUS: r.DecisionMicroseconds(),
		}
		if base != nil {
			f.MeanToBaseline, f.P99ToBaseline = r.Mean()/base.Mean(), r.Quantile(.99)/base.Quantile(.99)
		}
		all = append(all, f)
	}
	return all
}
