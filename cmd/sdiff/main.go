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
	"time"
)

func main() {
	programName = os.Args[0]
	os.Exit(untilSignal(func(ctx context.Context) int {
		return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ())
	}))
}

// untilSignal calls fn with a context that the first SIGINT or SIGTERM ends,
// and returns what it returns. A second signal does not wait for that: it ends
// the process at once, unless it comes within sameSignal.
func untilSignal(fn func(ctx context.Context) int) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	sigc := make(chan os.Signal, 2)
	signal.Notify(sigc, os.Interrupt, syscall.SIGTERM)
	// This goroutine lives as long as the process.
	go func() {
		cancel(&signalError{<-sigc})
		for end := time.Now().Add(sameSignal); ; {
			if sig := <-sigc; time.Now().After(end) {
				os.Exit((&signalError{sig}).exit())
			}
		}
	}()
	return fn(ctx)
}

// sameSignal is how long more signals are taken for the first one. timeout(1)
// sends one to the process and one to its group, and so do a shell and a
// terminal together: nobody meant by that to leave the store as after a crash.
const sameSignal = 300 * time.Millisecond

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
