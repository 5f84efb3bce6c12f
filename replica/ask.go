package replica

import (
	"context"
)

// An ask is a request of Repair on its way through the loop.
type ask struct {
	opts  RepairOptions
	diffc chan dryBatch // to the caller, for a dry run; capacity chunkWindow+1
	donec chan result   // capacity one
}

type result struct {
	rep  Report
	err  error
	rest *rest // of a dry run: what only the follower holds
}

func (a *ask) finish(rep Report, err error) {
	if a != nil {
		a.donec <- result{rep: rep, err: err}
	}
}

// Repair compares the copy with the master's and mends what differs, while the
// stream goes on; with DryRun it changes nothing. It waits for a repair that is
// under way. If ctx ends it returns at once; a repair
// that has begun goes on, a dry run does not.
//
// The report's Outcome says how it came out. An error means that it could not
// begin: ErrNotConnected, or ErrRepairing if too many wait already.
func (f *Follower) Repair(ctx context.Context, opts RepairOptions) (Report, error) {
	if err := f.ready(ctx); err != nil {
		return Report{}, err
	}
	a := &ask{opts: opts, donec: make(chan result, 1), diffc: make(chan dryBatch, chunkWindow+1)}
	select {
	case f.askc <- a:
	case <-f.endedc:
		return Report{}, ErrClosed
	case <-ctx.Done():
		return Report{}, context.Cause(ctx)
	}
	for {
		select {
		case b := <-a.diffc:
			f.report(ctx, b, opts.Each)
		case r := <-a.donec:
			f.drain(ctx, a, opts.Each)
			r.rest.report(ctx, opts.Each)
			if opts.DryRun && opts.Each != nil && ctx.Err() != nil {
				// Each was not told of everything.
				return Report{Outcome: Unknown, Reason: "interrupted"}, context.Cause(ctx)
			}
			return r.rep, r.err
		case <-f.endedc:
			select {
			case r := <-a.donec:
				return r.rep, r.err
			default:
				return Report{Outcome: Unknown, Reason: "the follower is ending"}, ErrClosed
			}
		case <-ctx.Done():
			select {
			case f.cancelc <- a:
			case <-f.endedc:
			}
			return Report{Outcome: Unknown, Reason: "interrupted"}, context.Cause(ctx)
		}
	}
}
