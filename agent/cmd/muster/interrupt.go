package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// signalled is the cause of a context that a signal ended.
type signalled struct{ signal syscall.Signal }

func (s signalled) Error() string { return "stopped by the signal " + s.signal.String() }

// untilSignal gives a context that the first SIGINT or SIGTERM ends; a second one ends the program at once, as if there were no handler.
func untilSignal(ctx context.Context) context.Context {
	ctx, end := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		first, _ := (<-signals).(syscall.Signal)
		signal.Stop(signals)
		end(signalled{first})
	}()
	return ctx
}

// interruption is what a person who interrupted a command is told of what became of it.
type interruption struct {
	words  string
	signal syscall.Signal
}

// errInterrupted is what every interruption is.
var errInterrupted = errors.New("interrupted")

func (i *interruption) Error() string {
	if i.words == "" {
		return errInterrupted.Error()
	}
	return errInterrupted.Error() + ": " + i.words
}

func (i *interruption) Is(target error) bool { return target == errInterrupted }

// interrupted makes the error of a command whose context has ended before it was done.
func interrupted(ctx context.Context, format string, args ...any) error {
	by := signalled{syscall.SIGINT}
	_ = errors.As(context.Cause(ctx), &by)
	return &interruption{words: fmt.Sprintf(format, args...), signal: by.signal}
}

// asEnded says of a command that broke off because of a signal only that, rather than that a context was cancelled.
func asEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) && !errors.Is(err, errInterrupted) {
		return interrupted(ctx, "")
	}
	return err
}

// exitCode is 128 and the signal's number where one ended the command, as shells have it.
func exitCode(err error) int {
	if i := new(interruption); errors.As(err, &i) {
		return 128 + int(i.signal)
	}
	if err != nil {
		return 1
	}
	return 0
}
