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
	run  func(context.Context) ([]figure, error)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	failed := false
	table := tabwriter.NewWriter(os.Stdout, 2, 0, 2, ' ', 0)
	fmt.Fprintln(table, "FIGURE\tMEASURED\tGOAL\tBESIDE (SAME RUN)")
	only := flag.String("only", "", "measure that part alone: agent, collector, feed, page or store")
	flag.Parse()
	for _, p := range []part{{"agent", agentFigures}, {"collector", collectorFigures}, {"feed", feedFigures}, {"page", pageFigures}, {"store", storeFigures}} {
		if *only != "" && *only != p.name {
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
