package diff

import "github.com/sdiff/sdiff/merkle"

// maxFindings is how many findings Session.Findings returns at most.
const maxFindings = 1024

// A Finding is something that this side holds and the peer does not: one item,
// or all items of a range in which the peer holds nothing. An item whose value
// differs is found on both sides, with different hashes.
type Finding struct {
	// Lo and Hi are set if Key is nil: every item of this side with
	// Lo <= key < Hi is only here. The range is the narrowest that has them:
	// Lo is the first item's key, Hi the shortest key after the last one's.
	Lo, Hi []byte
	// Key and Hash are those of an item that the peer does not hold, or holds
	// with another hash.
	Key  []byte
	Hash uint64
}

// findings are runs of items, by rank, that have been found but not taken.
type findings struct {
	runs []run
	head int // the first run that has not been taken
}

type run struct {
	lo, hi uint64
	whole  bool // the peer holds nothing between the first and the last item
}

// items notes items of which the peer may hold others between them.
func (f *findings) items(lo, hi uint64) {
	if n := len(f.runs); n > f.head && !f.runs[n-1].whole && f.runs[n-1].hi == lo {
		f.runs[n-1].hi = hi
		return
	}
	f.runs = append(f.runs, run{lo: lo, hi: hi})
}

// whole notes all items of a range in which the peer holds nothing. Two such
// runs are not joined: what lies between them is not known here.
func (f *findings) whole(lo, hi uint64) {
	if lo < hi {
		f.runs = append(f.runs, run{lo: lo, hi: hi, whole: true})
	}
}

func (f *findings) empty() bool { return f.head == len(f.runs) }

// take returns up to maxFindings findings and forgets them.
func (f *findings) take(tree *merkle.Snapshot) []Finding {
	var out []Finding
	if n := f.pending(); n > 0 {
		out = make([]Finding, 0, n)
	}
	for f.head < len(f.runs) && len(out) < maxFindings {
		r := &f.runs[f.head]
		if r.whole {
			out = append(out, wholeFinding(tree, r.lo, r.hi))
			r.lo = r.hi
		} else {
			out = takeItems(tree, r, out)
		}
		if r.lo == r.hi {
			f.head++
		}
	}
	if f.empty() {
		f.runs, f.head = f.runs[:0], 0
	}
	return out
}

// pending returns how many findings take will return.
func (f *findings) pending() int {
	n := uint64(0)
	for i := f.head; i < len(f.runs) && n < maxFindings; i++ {
		if r := f.runs[i]; r.whole {
			n++
		} else {
			n += r.hi - r.lo
		}
	}
	return int(min(n, maxFindings))
}

func wholeFinding(tree *merkle.Snapshot, lo, hi uint64) Finding {
	first, _, _ := tree.At(lo)
	last, _, _ := tree.At(hi - 1)
	return Finding{Lo: keep(first), Hi: append(keep(last), 0)}
}

// takeItems appends items from the beginning of a run, until it is used up or
// out is full.
func takeItems(tree *merkle.Snapshot, r *run, out []Finding) []Finding {
	first, _, _ := tree.At(r.lo)
	tree.Ascend(first, nil, func(key []byte, hash uint64) bool {
		out = append(out, Finding{Key: keep(key), Hash: hash})
		r.lo++
		return r.lo < r.hi && len(out) < maxFindings
	})
	return out
}

// keep returns a copy of a key that is not nil even if the key is empty.
func keep(key []byte) []byte { return append(make([]byte, 0, len(key)+1), key...) }
