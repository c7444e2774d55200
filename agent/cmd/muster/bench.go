package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"muster/agent/scheduler/sim"
)

func benchCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "bench", Short: "Measure muster against other programs", Args: noArgs}
	cmd.AddCommand(benchScheduleCommand())
	return cmd
}

// benchSchedule is what the command line asks of the simulator.
type benchSchedule struct {
	seeds             sim.Seeds
	box               string
	load              float64
	disturbed         bool
	telemetry         string
	policies          []string
	trace             string
	quick, asJSON     bool
	seedsSet, setsSet bool
}

const (
	scoreSeeds, scoreSets = 5, 400
	quickSeeds, quickSets = 2, 150
)

func benchScheduleCommand() *cobra.Command {
	var b benchSchedule
	cmd := &cobra.Command{
		Use:   "schedule",
		Short: "Simulate how well images are spread, beside the policies of other programs",
		Long: `Simulate how well images are spread over devices, beside the policies of other programs and what is possible at best.
No GPU is needed, and no agent: a virtual clock drives the scheduler's own code.

Without flags it measures every goal and prints what was wanted beside what was measured. With --box, --load, --disturbed,
--telemetry or --policies it compares the policies in those cases alone. --trace plays one trace, a JSON file ("-": standard
input), with every policy.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b.seedsSet, b.setsSet = cmd.Flags().Changed("seeds"), cmd.Flags().Changed("sets")
			out := cmd.OutOrStdout()
			switch {
			case b.trace != "":
				return b.replay(cmd, out)
			case slices.ContainsFunc([]string{"box", "load", "disturbed", "telemetry", "policies"}, cmd.Flags().Changed):
				return b.compare(cmd, out)
			}
			return b.score(cmd, out)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.IntVar(&b.seeds.Count, "seeds", scoreSeeds, "traces of each case")
	f.IntVar(&b.seeds.Sets, "sets", scoreSets, "sets of images in each trace")
	f.BoolVar(&b.seeds.Tune, "tune", false, "traces that are there for tuning, in place of those that score")
	f.BoolVar(&b.quick, "quick", false, fmt.Sprintf("%d traces of %d sets", quickSeeds, quickSets))
	f.StringVar(&b.box, "box", "", "only this machine: het4, hom4, two or het8")
	f.Float64Var(&b.load, "load", 0, "only this load: seconds of images asked for in a second, of what the machine can do")
	f.BoolVar(&b.disturbed, "disturbed", false, "with deaths, other programs, heat and wrong priors; =false: without (both)")
	f.StringVar(&b.telemetry, "telemetry", "", "frozen or absent")
	f.StringSliceVar(&b.policies, "policies", nil, "only these policies (all)")
	f.StringVar(&b.trace, "trace", "", "play this trace")
	f.BoolVar(&b.asJSON, "json", false, "print JSON")
	return cmd
}

// replay plays a trace.
func (b *benchSchedule) replay(cmd *cobra.Command, out io.Writer) error {
	competitors, err := sim.Named(b.policies)
	if err != nil {
		return err
	}
	world, left, err := readTrace(b.trace, cmd.InOrStdin())
	if err != nil {
		return err
	}
	for _, text := range left {
		fmt.Fprintln(cmd.ErrOrStderr(), "muster:", text)
	}
	replay, err := sim.ReplayAll(cmd.Context(), world, competitors)
	if err != nil {
		return err
	}
	if b.asJSON {
		return json.NewEncoder(out).Encode(replay)
	}
	rows := table{{"policy", "sets", "mean", "p50", "p95", "p99", "makespan", "loads", "no room", "lost", "doubled", "longest wait", "a decision"}}
	for _, r := range replay.Policies {
		rows = append(rows, []string{
			r.Policy, fmt.Sprint(r.Sets), seconds(r.MeanS), seconds(r.P50S), seconds(r.P95S), seconds(r.P99S), seconds(r.MakespanS), fmt.Sprint(r.Loads),
			fmt.Sprint(r.NoRoom), fmt.Sprint(r.Lost), fmt.Sprint(r.Doubled), seconds(r.MaxWaitS), fmt.Sprintf("%.1f µs", r.DecisionUS),
		})
	}
	rows = append(rows, []string{"lower bound", "", seconds(replay.LowerBound.MeanS), "", "", "", seconds(replay.LowerBound.MakespanS), "", "", "", "", "", ""})
	rows.write(out)
	return nil
}

func seconds(s float64) string { return fmt.Sprintf("%.1f s", s) }

func readTrace(path string, stdin io.Reader) (*sim.World, []string, error) {
	if path == "-" {
		return sim.ParseTrace(stdin)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("trace: %w", err)
	}
	defer file.Close()
	return sim.ParseTrace(file)
}

// traces says how many are made.
func (b *benchSchedule) traces() (sim.Seeds, error) {
	s := b.seeds
	if b.quick && !b.seedsSet {
		s.Count = quickSeeds
	}
	if b.quick && !b.setsSet {
		s.Sets = quickSets
	}
	if s.Count < 1 || s.Count > 1000 || s.Sets < 1 || s.Sets > 5000 {
		return s, errors.New("--seeds must be 1 to 1000, and --sets 1 to 5000")
	}
	return s, nil
}

// compare prints every policy's figures for the chosen cases.
func (b *benchSchedule) compare(cmd *cobra.Command, out io.Writer) error {
	seeds, err := b.traces()
	if err != nil {
		return err
	}
	competitors, err := sim.Named(b.policies)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(competitors, func(c sim.Competitor) bool { return c.Name == sim.Baseline }) {
		baseline, err := sim.Named([]string{sim.Baseline})
		if err != nil {
			return err
		}
		competitors = append(competitors, baseline...)
	}
	cases, err := b.cases(cmd.Flags().Changed("disturbed"))
	if err != nil {
		return err
	}
	scored, err := sim.Score(cmd.Context(), cases, competitors, seeds)
	if err != nil {
		return err
	}
	if b.asJSON {
		figures := []sim.Figures{}
		for i := range scored {
			figures = append(figures, scored[i].Figures()...)
		}
		return json.NewEncoder(out).Encode(figures)
	}
	for i := range scored {
		printCase(out, &scored[i])
	}
	return nil
}

// cases are those that the flags leave.
func (b *benchSchedule) cases(onlyDisturbed bool) ([]sim.Case, error) {
	var cases []sim.Case
	telemetry := sim.Telemetry(b.telemetry)
	if telemetry != sim.Live && telemetry != sim.Frozen && telemetry != sim.Absent {
		return nil, fmt.Errorf("telemetry %q: choose %s or %s", b.telemetry, sim.Frozen, sim.Absent)
	}
	loads := sim.Loads
	if b.load != 0 {
		if !(b.load >= 0.01 && b.load <= 2) {
			return nil, fmt.Errorf("load %g: allowed is 0.01 to 2", b.load)
		}
		loads = []float64{b.load}
	}
	var names []string
	for _, box := range sim.Boxes {
		names = append(names, box.Name)
		for _, load := range loads {
			for _, disturbed := range []bool{false, true} {
				if (b.box == "" || b.box == box.Name) && (!onlyDisturbed || disturbed == b.disturbed) {
					cases = append(cases, sim.Case{Box: box, Load: load, Disturbed: disturbed, Telemetry: telemetry})
				}
			}
		}
	}
	if len(cases) == 0 {
		return nil, fmt.Errorf("box %q: choose among %s", b.box, strings.Join(names, ", "))
	}
	return cases, nil
}

// printCase writes a case's policies, with means and p99 relative to the baseline's and to those of the best other one.
func printCase(out io.Writer, s *sim.Scored) {
	mean, _ := s.BestOther((*sim.Result).Mean)
	tail, _ := s.BestOther(func(r *sim.Result) float64 { return r.Quantile(.99) })
	fmt.Fprintf(out, "%s\n", s)
	rows := table{{"policy", "mean", "p50", "p95", "p99", "÷ round-robin", "÷ best other", "÷ bound", "loads", "no room", "lost", "doubled", "longest wait", "predicted wrong by", "a decision"}}
	for _, f := range s.Figures() {
		eta := ""
		if f.ETA > 0 {
			eta = fmt.Sprintf("%.0f %% / %.0f %%", 100*f.ETA, 100*f.SetETA)
		}
		rows = append(rows, []string{
			f.Policy, seconds(f.MeanS), seconds(f.P50S), seconds(f.P95S), seconds(f.P99S), fmt.Sprintf("%.2f / %.2f", f.MeanToBaseline, f.P99ToBaseline),
			fmt.Sprintf("%.2f / %.2f", f.MeanS/mean, f.P99S/tail), fmt.Sprintf("%.2f", f.MeanToBound), fmt.Sprint(f.Loads), fmt.Sprint(f.NoRoom),
			fmt.Sprint(f.Lost), fmt.Sprint(f.Doubled), seconds(f.MaxWaitS), eta, fmt.Sprintf("%.1f µs", f.DecisionUS),
		})
	}
	rows.write(out)
	fmt.Fprintln(out)
}

// score measures every goal.
func (b *benchSchedule) score(cmd *cobra.Command, out io.Writer) error {
	seeds, err := b.traces()
	if err != nil {
		return err
	}
	report, err := sim.RunGoals(cmd.Context(), seeds)
	if err != nil {
		return err
	}
	if b.asJSON {
		return json.NewEncoder(out).Encode(report)
	}
	which := "scoring"
	if seeds.Tune {
		which = "tuning"
	}
	fmt.Fprintf(out, "%d traces of %d sets for each case, %s seeds\n\n", seeds.Count, seeds.Sets, which)
	rows := table{{"figure", "goal", "", "measured"}}
	missed := 0
	for _, g := range report.Goals {
		verdict := "met"
		switch {
		case g.Goal == "":
			verdict = ""
		case !g.Met:
			verdict = "missed"
			missed++
		}
		rows = append(rows, []string{g.What, g.Goal, verdict, g.Measured})
	}
	rows.write(out)
	if missed > 0 {
		fmt.Fprintf(out, "\n%d goals are missed.\n", missed)
	} else {
		fmt.Fprintln(out, "\nEvery goal is met.")
	}
	return nil
}
