package diff

import (
	"math/bits"

	"github.com/sdiff/sdiff/merkle"
)

// Where the cells that both sides keep do not tell what differs, more are made,
// once in a comparison on each side: of the items in those ranges of the probe in
// which something differs. What lies in the others is the same on both sides, and
// would cancel out.
const (
	// makeMost is how many cells to a part it has at most: 16 MiB in all.
	makeMost = 1 << 14
	// tooFew is added to the reason.
	tooFew = ", more than the cells that are kept tell"
)

// A ranges is a set of ranges of a probe, one bit for each.
type ranges uint8

const allRanges = ranges(1<<probeRanges - 1)

func (r ranges) len() int       { return bits.OnesCount8(uint8(r)) }
func (r ranges) has(i int) bool { return r>>i&1 != 0 }

// differing returns the ranges of the peer's probe in which something differs:
// all if there is no probe.
func (s *Session) differing(probe []byte) (differ ranges) {
	if len(probe) == 0 {
		return allRanges
	}
	bounds, checks := mustReadProbe(probe)
	for i, c := range probeChecks(s.tree, bounds) {
		if c != checks[i] {
			differ |= 1 << i
		}
	}
	if differ == 0 { // by chance
		return allRanges
	}
	return differ
}

// mustReadProbe reads a probe that was checked or made here, and is not empty.
func mustReadProbe(probe []byte) (bounds [][]byte, checks [probeRanges]uint16) {
	bounds, checks, err := readProbe(probe)
	if err != nil {
		panic("BUG: diff: a probe was not checked: " + err.Error())
	}
	return bounds, checks
}

// in calls fn for the bounds of those of the ranges that are in r.
func (k *sketching) in(r ranges, fn func(lo, hi []byte)) {
	if r == allRanges {
		fn(nil, nil)
		return
	}
	bounds, _ := mustReadProbe(k.probe)
	eachRange(bounds, func(i int, lo, hi []byte) {
		if r.has(i) {
			fn(lo, hi)
		}
	})
}

// itemsIn returns how many items are in some ranges.
func (s *Session) itemsIn(r ranges) (items uint64) {
	s.sk.in(r, func(lo, hi []byte) { items += s.tree.Range(lo, hi).Count })
	return items
}

// maySuggest reports whether both sides may make a sketch of these ranges, the
// peer holding so many items in all: it has as many more in these ranges as it
// has in all.
func (s *Session) maySuggest(r ranges, theirs uint64) bool {
	mine := s.all.Count
	return s.cfg.MaxMade > 0 && s.itemsIn(r)+max(mine, theirs)-min(mine, theirs) <= uint64(s.cfg.MaxMade)
}

// mayMake reports whether the peer may have a sketch made of these ranges, of
// which so many cells are to come. An honest one has found out that they are not
// too dear, by an estimate, and that the items are not too many, but for some that
// came or went since.
func (s *Session) mayMake(r ranges, groups, cells int) bool {
	k := &s.sk
	if k.groups == 0 && tooDear(groups*cells/4, s.all.Count) {
		return false
	}
	return s.makeSketch(r, cells, max(uint64(s.cfg.MaxMade), DefaultMaxMade)/16*17)
}

// makeSketch makes a sketch of the items in some ranges, for so many cells and as
// many more, in place of the one that is kept. It reports whether it did:
// it does not do so twice, nor of too many cells or of more than most items.
func (s *Session) makeSketch(r ranges, cells int, most uint64) bool {
	k := &s.sk
	if k.made != 0 || cells > makeMost || len(k.probe) == 0 && r != allRanges {
		return false
	}
	items := s.itemsIn(r)
	if items > most {
		return false
	}
	var of []*merkle.Snapshot
	k.in(r, func(lo, hi []byte) { of = append(of, s.tree.Clip(lo, hi)) })
	k.mine = merkle.MakeSketch(min(2*cells, makeMost), of...)
	k.made = r
	s.stats.Made = max(items, uint64(k.mine.Cells()*merkle.SketchParts)/4) // to clear cells takes its time, too
	return true
}

// upTo returns up to which number cells are sent of those that the peer asks for:
// as many as both sides keep, or as there are of a sketch that is made for it.
func (s *Session) upTo(hi int) int {
	k := &s.sk
	if k.made == 0 && hi > k.kept && k.kept < makeMost && s.maySuggest(k.differ, k.theirs.Count) &&
		s.makeSketch(k.differ, min(hi, makeMost), uint64(s.cfg.MaxMade)) {
		k.why += tooFew
	}
	if k.made == 0 {
		return min(hi, k.kept)
	}
	return min(hi, k.mine.Cells())
}

// tooDear reports whether so many cells take more bytes than it would to list
// the items of the side that has fewer.
func tooDear(cells int, items uint64) bool {
	return uint64(cells)*merkle.CellSize > items*listedBytes+leastMore
}

// mostCells returns how many cells there could be of each part: of those kept,
// or of a sketch to be made.
func (s *Session) mostCells() int {
	k := &s.sk
	if kept := k.mine.Cells(); k.made != 0 || kept >= makeMost || s.all.Count > uint64(s.cfg.MaxMade) {
		return kept
	}
	return makeMost
}
