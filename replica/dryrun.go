package replica

import (
	"bytes"
	"context"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/stream"
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
		return nil
	default:
		return protocolErrorf("more than %d chunks were sent and not acknowledged", chunkWindow)
	}
}

// taken lets the master send the next chunk of a dry run.
func (f *Follower) taken(p pair) {
	if y := f.sync; y != nil && y.id == p.id {
		y.send(frameChunkAck, p.append())
	}
}

// settleDry ends a dry run: what the follower alone holds is left for the
// caller's goroutine to list.
func (y *followSync) settleDry(left uint64) error {
	r := &rest{only: y.only.Snapshot(), answered: y.answered.Snapshot(), snap: y.snap, ranges: y.ranges}
	y.rep.Extra = r.count()
	o, why := Different, ""
	if left > 0 || y.full {
		o, why = Unknown, "a limit of the comparison was hit"
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

// A deletion walks what only the follower holds: first the single keys, then
// the ranges in which the master holds nothing.
type deletion struct {
	only   *merkle.Snapshot
	ranges []diff.Finding
	from   []byte // where to go on, within what is walked
}

// may reports whether a key that differed may be deleted (R4): the stream has
// not touched it since, the master did not answer for it, and the copy's item
// still is the one that was compared.
func (y *followSync) may(key []byte, hash uint64) bool {
	if _, ok := y.touched.Get(key); ok {
		return false
	}
	if _, ok := y.answered.Get(key); ok {
		return false
	}
	now, ok := y.f.tree.Get(key)
	return ok && now == hash
}

// count returns how many deletes there will be, if nothing is touched meanwhile.
func (d *deletion) count(y *followSync) (n uint64) {
	one := func(key []byte, hash uint64) bool {
		if y.may(key, hash) {
			n++
		}
		return true
	}
	d.only.Ascend(nil, nil, one)
	for _, g := range d.ranges {
		y.snap.Ascend(g.Lo, g.Hi, one)
	}
	return n
}

// next returns the deletes of the next transaction, none at the end.
func (d *deletion) next(y *followSync) (ops []stream.Op) {
	lim := y.f.lim
	most, room := min(deleteChunk, lim.CommitOps), lim.CommitBytes
	var stopped []byte
	one := func(key []byte, hash uint64) bool {
		if !y.may(key, hash) {
			return true
		}
		op := [1]stream.Op{{Key: bytes.Clone(key), Delete: true}}
		if room -= stream.Size(op[:]); len(ops) > 0 && room < 0 || len(ops) == most {
			stopped = op[0].Key
			return false
		}
		ops = append(ops, op[0])
		return true
	}
	for stopped == nil {
		switch {
		case d.only != nil:
			d.only.Ascend(d.from, nil, one)
			if d.from = stopped; stopped == nil {
				d.only = nil
			}
		case len(d.ranges) > 0:
			g := d.ranges[0]
			lo := g.Lo
			if d.from != nil {
				lo = d.from
			}
			y.snap.Ascend(lo, g.Hi, one)
			if d.from = stopped; stopped == nil {
				d.ranges = d.ranges[1:]
			}
		default:
			return ops
		}
	}
	return ops
}
