// Command sdiff keeps copies of a key-value dataset identical: it runs a
// master or a follower, and talks to one that runs.
//
// docs/CLI.md is its manual.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, cancel := context.WithCancelCause(context.Background())
	sigc := make(chan os.Signal, 2)
	signal.Notify(sigc, os.Interrupt, syscall.SIGTERM)
	// The first signal asks for a clean end, the second does not wait for it.
	// This goroutine lives as long as the process.
	go func() {
		cancel(&signalError{<-sigc})
		os.Exit((&signalError{<-sigc}).exit())
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ()))
}

// A signalError is the cause of a context that a signal ended.
type signalError struct{ sig os.Signal }

func (e *signalError) Error() string { return "ended by a signal: " + e.sig.String() }

// Unwrap makes a signal look like any other cancellation to those below.
func (*signalError) Unwrap() error { return context.Canceled }

// exit returns the code that shells use for the signal.
func (e *signalError) exit() int {
	if e.sig == syscall.SIGTERM {
		return exitTerminated
	}
	return exitInterrupted
}
