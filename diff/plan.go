package diff

import (
	"fmt"

	"github.com/sdiff/sdiff/merkle"
)

// A Method is how a comparison found what differs.
type Method string

// The methods.
const (
	MethodNone   Method = "none"   // the summaries were equal
	MethodSketch Method = "sketch" // the cells of two sketches told
	MethodRanges Method = "ranges" // ever smaller ranges were compared
)

// WhyPeer is the reason on the side that compared ranges because the other one
// began to: what led to it, that one knows.
const WhyPeer = "the peer chose so"

// A plan says how a comparison is to be done, and why so.
type plan struct {
	groups, cells int // of the sketch; 0: compare ranges
	ranges        ranges
	why           string
}

// Bounds of what is planned.
const (
	// fewItems is up to how many items a list of their hashes is cheaper than
	// anything else, and no longer than an opening.
	fewItems = 24
	// clusterLeast is from how many differences on they are expected in every
	// range of a probe, were they spread at random.
	clusterLeast = 256
	// clusterRanges is in how many ranges at most they are if they are not.
	clusterRanges = probeRanges * 5 / 8
	// clusterShare is from which share of the items in these ranges on it is
	// cheaper to compare ranges: 1 of so many.
	clusterShare = 6
	// The estimate of the counters is off by a tenth. For few differences, cells
	// are sent as if there were a tenth more, as bytes are cheaper than a round
	// trip; for more, a part of that, and for many what was estimated.
	fewDiffer, manyDiffer = 2000, 20_000
	// listedBytes is what it takes to list an item, cellBytes to tell it by a
	// sketch and ask for it.
	listedBytes, askedBytes = 8, 4
	// leastMore bytes of cells are asked for whatever a list would take.
	leastMore = 1 << 10
	// countersTell is up to how many differences the counters tell about how many.
	countersTell = 250_000
)

// plan chooses by what each way is expected to cost.
func (s *Session) plan(o *opening) plan {
	mine, theirs := s.all.Count, o.all.Count
	fewer := min(mine, theirs)
	switch {
	case s.sk.mine == nil:
		return plan{why: "there is no sketch here"}
	case fewer == 0:
		return plan{why: "one side holds nothing"}
	case fewer <= fewItems:
		return plan{why: fmt.Sprintf("one side holds %d items only", fewer)}
	}
	counters := s.sk.mine.Counters()
	d := max(1, counters.Difference(&o.counters), max(mine, theirs)-fewer)
	if n := uint64(merkle.CellsFor(d))*merkle.CellSize + d*askedBytes; n > fewer*listedBytes {
		return plan{why: fmt.Sprintf("about %d of %d items differ", d, fewer)}
	}
	r := s.differing(o.probe)
	where := fmt.Sprintf("about %d items differ", d)
	if r != allRanges {
		where += fmt.Sprintf(", in %d of %d ranges", r.len(), probeRanges)
	}
	if in := s.itemsIn(r); d >= clusterLeast && r.len() <= clusterRanges && d*clusterShare > in {
		return plan{why: where}
	}
	kept := s.sk.kept
	if groups, each := cut(d, kept); groups > 0 {
		return plan{groups: groups, cells: each, ranges: r, why: fmt.Sprintf("about %d items differ", d)}
	}
	if d <= countersTell && s.maySuggest(r, o.all.Count) {
		for most := max(2*kept, makeMost/4); most <= makeMost; most *= 2 { // fewer cells in a larger group
			if groups, each := cut(d, most); groups > 0 {
				return plan{groups: groups, cells: each, ranges: r, why: where + tooFew}
			}
		}
	}
	return plan{why: fmt.Sprintf("about %d items differ, more than %d cells tell", d, kept*merkle.SketchParts)}
}

// cut returns in how many groups of parts, as few as possible, the cells for d
// differences are sent at first, and how many of each group. It returns 0 groups
// if the cells kept of each part are too few.
func cut(d uint64, kept int) (groups, each int) {
	ask := d
	switch {
	case d < fewDiffer:
		ask += d / 10
	case d < manyDiffer:
		ask += d / 25
	}
	for groups = 1; groups <= merkle.SketchParts; groups *= 2 {
		each = merkle.CellsFor((ask + uint64(groups) - 1) / uint64(groups))
		if each <= kept/8*5 { // the rest is for a third more than was estimated
			return groups, each
		}
	}
	if most := kept / 8 * 7; each <= kept && most > 0 {
		return merkle.SketchParts, min(each, most) // even if it seems too few, it may be enough
	}
	return 0, 0
}
