package replica

import (
	"bytes"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/stream"
)

// A deletion is what a repair does about that which only the follower holds.
// It is walked twice: once to count what would be deleted, for the guard, and
// once to do it. Both go in steps, so that the stream has its turn in between.
type deletion struct {
	y       *followSync
	done    syncDone // the master's word that everything has been sent
	walk    walk
	counted bool
}

// A walk goes through the single keys first and then through the ranges in
// which the master holds nothing, all as they were compared.
type walk struct {
	only   *merkle.Snapshot // nil when done with
	ranges []diff.Finding
	snap   *merkle.Snapshot
	from   []byte // where to go on, within what is walked
}

func (y *followSync) newWalk() walk {
	return walk{only: y.only.Snapshot(), ranges: y.ranges, snap: y.snap}
}

// next calls fn for the next items until it returns false; that item comes
// again in the next call. It reports whether there is more.
func (w *walk) next(fn func(key []byte, hash uint64) bool) (more bool) {
	var stopped []byte
	one := func(key []byte, hash uint64) bool {
		if fn(key, hash) {
			return true
		}
		stopped = bytes.Clone(key)
		return false
	}
	for w.only != nil || len(w.ranges) > 0 {
		if w.only != nil {
			w.only.Ascend(w.from, nil, one)
		} else {
			g := w.ranges[0]
			lo := g.Lo
			if w.from != nil {
				lo = w.from
			}
			w.snap.Ascend(lo, g.Hi, one)
		}
		if w.from = stopped; stopped != nil {
			return true
		}
		if w.only != nil {
			w.only = nil
		} else {
			w.ranges = w.ranges[1:]
		}
	}
	return false
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

// step does the next piece of the work.
func (d *deletion) step() error {
	y := d.y
	switch {
	case y.full:
		// Which keys the stream has touched is no longer known.
		return y.judge("a limit of the comparison was hit")
	case !d.counted:
		return d.count()
	}
	ops := d.ops()
	if len(ops) == 0 {
		return y.judge("")
	}
	return y.delete(ops)
}

// count counts some of what may be deleted, and at the end asks the guard.
func (d *deletion) count() error {
	y := d.y
	n := 0
	more := d.walk.next(func(key []byte, hash uint64) bool {
		if n++; n > countChunk {
			return false
		}
		if y.may(key, hash) {
			y.extra++
		}
		return true
	})
	if more {
		return nil
	}
	d.counted, d.walk = true, y.newWalk()
	y.rep.Extra += y.extra
	if why, option := y.guard(d.done); why != "" {
		y.rep.NeedsConsent = option
		return y.end(Different, why)
	}
	return nil
}

// ops returns the deletes of the next transaction, none at the end.
func (d *deletion) ops() (ops []stream.Op) {
	lim := d.y.f.lim
	most, room := min(deleteChunk, lim.CommitOps), lim.CommitBytes
	d.walk.next(func(key []byte, hash uint64) bool {
		if !d.y.may(key, hash) {
			return true
		}
		op := [1]stream.Op{{Key: bytes.Clone(key), Delete: true}}
		if room -= stream.Size(op[:]); len(ops) > 0 && room < 0 || len(ops) == most {
			return false
		}
		ops = append(ops, op[0])
		return true
	})
	return ops
}
