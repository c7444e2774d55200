// Command bench measures muster and prints one table: each figure beside its goal and beside another figure taken in the same
// run, for machines are noisy and an absolute time means little. The goals are those of the project's benchmarks.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"text/tabwriter"
)

// figure is one line of the table.
type figure struct {
	what, measured, goal string
	beside               string // another figure of the same run; "" where the goal is a count or a size
}

// part measures some figures. Parts run one after another, for they would disturb each other.
type part struct {
	name string
	long bool // it takes minutes: only a soak has it
	run  func(context.Context) ([]figure, error)
}

var parts = []part{
	{"agent", false, agentFigures}, {"collector", false, collectorFigures}, {"feed", false, feedFigures}, {"page", false, pageFigures},
	{"store", false, storeFigures}, {"generation", false, generationFigures}, {"kills", true, killFigures}, {"cuts", true, cutFigures},
}

// wanted says whether a part is measured.
func (p part) wanted(only string, soak bool) bool {
	switch {
	case only != "":
		return p.name == only
	case soak:
		return p.long || p.name == "collector" // of which one figure lasts as long as MUSTER_SOAK says
	default:
		return !p.long
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	failed := false
	table := tabwriter.NewWriter(os.Stdout, 2, 0, 2, ' ', 0)
	fmt.Fprintln(table, "FIGURE\tMEASURED\tGOAL\tBESIDE (SAME RUN)")
	only := flag.String("only", "", "measure that part alone: agent, collector, feed, page, store, generation, kills or cuts")
	soak := flag.Bool("soak", false, "measure what takes long: collector, kills and cuts")
	flag.Parse()
	for _, p := range parts {
		if !p.wanted(*only, *soak) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring: %s\n", p.name)
		figures, err := p.run(ctx)
		for _, f := range figures {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", f.what, f.measured, f.goal, f.beside)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", p.name, err)
			failed = true
		}
	}
	table.Flush()
	if failed {
		os.Exit(1)
	}
}
