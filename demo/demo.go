// Package demo shows what sdiff does: two acts that a person can read along
// with, over real TCP connections between replicas of this process.
//
// Act one has four keys and every step in full. Act two has a hundred thousand,
// in two Badger databases in a temporary directory that is removed at the end,
// with writes going on, and a fault that the demo puts into the follower.
//
// Every figure printed is measured, and every claim is checked before it is
// printed: a demo that could not show what it says ends with an error.
package demo

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/sdiff/sdiff/replica"
)

// Defaults of the options.
const (
	DefaultKeys = 100_000
	DefaultBad  = 100
	DefaultRate = 5000
)

// patience bounds how long any one step may take.
const patience = 30 * time.Second

// Options configure a demo. Zero means the default.
type Options struct {
	// Keys is how many keys act two begins with.
	Keys int
	// Bad is how many ops act two drops or garbles.
	Bad int
	// Rate is how many ops a second are written meanwhile, at most: a slow
	// disk makes it fewer.
	Rate int
	// Seed makes keys, values and faults; the same seed makes the same.
	Seed uint64
	// Pause is how long to wait after each step, for people who read along.
	Pause time.Duration
}

func (o Options) withDefaults() Options {
	if o.Keys == 0 {
		o.Keys = DefaultKeys
	}
	if o.Bad == 0 {
		o.Bad = DefaultBad
	}
	if o.Rate == 0 {
		o.Rate = DefaultRate
	}
	return o
}

func (o Options) validate() error {
	if o.Keys < 1000 || o.Bad < 1 || o.Rate < commitOps || o.Pause < 0 {
		return fmt.Errorf("demo: at least 1000 keys, 1 bad op and %d ops a second", commitOps)
	}
	return nil
}

// Run plays both acts and writes what happens to w, as plain text of at most
// 80 columns. It returns nil only if every step was verified. It takes a few
// seconds and some 100 MB in the temporary directory.
func Run(ctx context.Context, w io.Writer, opt Options) error {
	opt = opt.withDefaults()
	if err := opt.validate(); err != nil {
		return err
	}
	p := &page{w: w, pause: opt.Pause}
	began := time.Now()
	for _, act := range []func(context.Context, *page, Options) error{actOne, actTwo} {
		if err := act(ctx, p, opt); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("step %d of the demo: %w", p.step, err)
		}
	}
	p.printf("\nAll %d steps verified in %s.\n", p.step, seconds(time.Since(began)))
	return p.err
}

// within runs one step with a bound on its time.
func within(ctx context.Context, what string, step func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%s took more than %v", what, patience))
	defer cancel()
	return step(ctx)
}

// expect returns an error unless the outcome of a comparison is the one that
// the story needs.
func expect(rep replica.Report, want replica.Outcome) error {
	if rep.Outcome != want {
		return fmt.Errorf("the comparison ended %q (%s), not %q", rep.Outcome, rep.Reason, want)
	}
	return nil
}
