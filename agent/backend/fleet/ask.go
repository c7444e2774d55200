package fleet

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"muster/agent/process"
)

// ErrSilent says that a program gave no answer in time.
var ErrSilent = errors.New("it did not answer in time")

// answerLines bounds what is kept of a program's stdout.
const answerLines = 2000

// Answer runs a program that says something of itself and ends, and gives its stdout, which it takes itself, and how it ended. Its error
// is that of a program that does not start, or ErrSilent when ctx ended first: the program is killed then, and not waited for.
func Answer(ctx context.Context, c process.Command) (stdout string, exit process.Exit, err error) {
	var mu sync.Mutex
	var lines []string
	c.Stdout = func(line string) {
		mu.Lock()
		defer mu.Unlock()
		if len(lines) < answerLines {
			lines = append(lines, line)
		}
	}
	child, err := process.Start(c)
	if err != nil {
		return "", process.Exit{}, err
	}
	select {
	case <-child.Done():
	case <-ctx.Done():
		go func() { _ = child.Kill() }() // a hang in a driver must not hold the agent; Kill gives up by itself
		return "", process.Exit{}, ErrSilent
	}
	mu.Lock()
	defer mu.Unlock()
	return strings.Join(lines, "\n"), child.Exit(), nil
}

// AskUntil asks again, more and more seldom, until it was answered or ctx ends.
func AskUntil(ctx context.Context, answered func() bool, ask func(context.Context)) {
	pause := process.Backoff{First: 5 * time.Second, Longest: time.Minute}
	for !answered() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause.Next()):
			ask(ctx)
		}
	}
}
