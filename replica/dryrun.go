package replica

import (
	"bytes"
	"context"
	"time"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/merkle"
)

// A dryBatch is a chunk of the differences that a dry run found, on its way to
// the caller of Repair. Once the caller has it, the loop is told to let the
// master go on.
type dryBatch struct {
	diffs []Difference
	chunk pair
}

// report hands a batch to the caller's function.
func (f *Follower) report(ctx context.Context, b dryBatch, each func(Difference)) {
	for _, d := range b.diffs {
		if each != nil && ctx.Err() == nil {
			each(d)
		}
	}
	select {
	case f.takenc <- b.chunk:
	case <-f.endedc:
	}
}

// drain reports what lies in the channel, after the last batch was put there.
func (f *Follower) drain(ctx context.Context, a *ask, each func(Difference)) {
	for {
		select {
		case b := <-a.diffc:
			f.report(ctx, b, each)
		default:
			return
		}
	}
}

// keys takes a chunk of the keys that only the master holds so.
func (y *followSync) keys(c chunk) error {
	if !y.rep.DryRun {
		return protocolErrorf("keys without items in a repair")
	}
	b := dryBatch{diffs: make([]Difference, 0, len(c.ops)), chunk: pair{c.id, c.seq}}
	for _, op := range c.ops {
		b.diffs = append(b.diffs, Difference{y.answer(op.Key), op.Key})
	}
	select {
	case y.ask.diffc <- b:
		if y.untaken++; y.untaken == 1 {
			y.offered = time.Now()
		}
		return nil
	default:
		return protocolErrorf("more than %d chunks were sent and not acknowledged", chunkWindow)
	}
}

// taken lets the master send the next chunk of a dry run.
func (f *Follower) taken(p pair) {
	if y := f.sync; y != nil && y.id == p.id {
		y.untaken--
		y.offered = time.Now()
		y.send(frameChunkAck, p.append())
	}
}

// settleDry ends a dry run: what the follower alone holds is left for the
// caller's goroutine to list.
func (y *followSync) settleDry(left uint64) error {
	r := &rest{only: y.only.Snapshot(), answered: y.answered.Snapshot(), snap: y.snap, ranges: y.ranges}
	y.rep.Extra = r.count()
	o, why := Different, ""
	switch {
	case left > 0 || y.full:
		o, why = Unknown, "a limit of the comparison was hit"
	case y.diff.Stats().Method == diff.MethodNone:
		o, why = Unknown, "the master compared itself with what the copy held before"
	}
	y.send(frameSyncResult, syncResult{y.id, string(o), why}.append())
	y.finish(o, why, r)
	return nil
}

// A rest is what only the follower holds, as of the comparison. It reads
// snapshots only, so that any goroutine may list it.
type rest struct {
	only, answered, snap *merkle.Snapshot
	ranges               []diff.Finding
}

func (r *rest) each(fn func(key []byte)) {
	r.only.Ascend(nil, nil, func(key []byte, _ uint64) bool {
		if _, ok := r.answered.Get(key); !ok {
			fn(key)
		}
		return true
	})
	for _, g := range r.ranges {
		r.snap.Ascend(g.Lo, g.Hi, func(key []byte, _ uint64) bool {
			fn(key)
			return true
		})
	}
}

func (r *rest) count() (n uint64) {
	r.each(func([]byte) { n++ })
	return n
}

// report may be called on nil.
func (r *rest) report(ctx context.Context, each func(Difference)) {
	if r == nil || each == nil {
		return
	}
	r.each(func(key []byte) {
		if ctx.Err() == nil {
			each(Difference{Extra, bytes.Clone(key)})
		}
	})
}
