package merkle

import (
	"fmt"
	"slices"
	"unsafe"
)

// SketchParts is how many parts a sketch has. Every item belongs to one of
// them, by the upper bits of its hash.
const (
	SketchParts = 64
	partShift   = 64 - 6
)

// The least and the most cells of a part. The most take 64 MiB for all parts
// and tell differences of three million items.
const (
	minCells = 64
	maxCells = 1 << 16
	// growCells is up to which size a sketch grows while the tree is changed:
	// to grow is to read all items, some ten milliseconds for so many cells.
	growCells = 4096
	// cellShare is how many items there are to a cell. With four, a tenth of
	// the items may differ.
	cellShare = 4
)

// A Sketch is the beginning of the coded symbols of a set of items, some cells
// for each of 64 parts of it, and counters that tell about how much two sets
// differ. It belongs to one moment of a tree, never changes, and is safe for
// concurrent use.
type Sketch struct{ kept sketch }

// Cells returns how many cells there are of each part.
func (s *Sketch) Cells() int { return s.kept.cells }

// Counters returns the counters.
func (s *Sketch) Counters() Counters { return s.kept.counters }

// AppendCells appends to dst the cells from number lo up to but without hi, at
// most Cells, of a group of parts. There are SketchParts/groups parts to a group;
// groups must be a power of two up to SketchParts. It costs O(hi-lo) for each
// part of the group.
func (s *Sketch) AppendCells(dst []Cell, groups, group, lo, hi int) []Cell {
	checkGroup(groups, group)
	if lo < 0 || lo > hi || hi > s.kept.cells {
		panic(fmt.Sprintf("BUG: merkle: cells from %d to %d of %d", lo, hi, s.kept.cells))
	}
	each := SketchParts / groups
	at := len(dst)
	dst = append(dst, s.kept.parts[group*each].cells[lo:hi]...)
	out := dst[at:]
	for _, p := range s.kept.parts[group*each+1 : (group+1)*each] {
		for i, c := range p.cells[lo:hi] {
			out[i].Sum ^= c.Sum
			out[i].Check ^= c.Check
		}
	}
	return dst
}

// checkGroup panics if there is no such group.
func checkGroup(groups, group int) {
	if groups < 1 || groups > SketchParts || groups&(groups-1) != 0 || group < 0 || group >= groups {
		panic(fmt.Sprintf("BUG: merkle: group %d of %d", group, groups))
	}
}

// SketchGroup returns to which group of parts an item belongs.
func SketchGroup(hash uint64, groups int) int {
	return int(hash>>partShift) * groups / SketchParts
}

// A sketch is what a tree keeps up to date.
type sketch struct {
	parts    [SketchParts]*part
	cells    int    // of each part
	owner    *owner // parts with this owner are reachable from no Sketch
	counters Counters
}

// A part holds the first cells of one part.
type part struct {
	owner *owner
	cells []Cell
}

// cellsFor returns how many cells a part has for so many items: a power of two.
func cellsFor(items uint64, most int) int {
	cells := minCells
	for cells < most && uint64(cells)*SketchParts*cellShare < items {
		cells *= 2
	}
	return cells
}

func newSketch(cells int) *sketch {
	s := &sketch{cells: cells, owner: new(owner)}
	for i := range s.parts {
		s.parts[i] = &part{owner: s.owner, cells: make([]Cell, cells)}
	}
	return s
}

// bytes returns about how much memory the cells take; s may be nil.
func (s *sketch) bytes() int64 {
	if s == nil {
		return 0
	}
	return int64(SketchParts*s.cells) * int64(unsafe.Sizeof(Cell{}))
}

// shrink keeps the first cells of each part only: they are the same however many
// follow.
func (s *sketch) shrink(cells int) {
	s.cells = cells
	for i, p := range s.parts {
		s.parts[i] = &part{owner: s.owner, cells: slices.Clone(p.cells[:cells])}
	}
}

// change takes account of an item that came, by 1, or went, by -1. Cells do not
// tell these apart.
func (s *sketch) change(hash uint64, by int8) {
	i := hash >> partShift
	p := s.parts[i]
	if p.owner != s.owner {
		p = &part{owner: s.owner, cells: append(make([]Cell, 0, s.cells), p.cells...)}
		s.parts[i] = p
	}
	toggle(p.cells, hash)
	s.counters.add(hash, by)
}

// toggle puts an item into the cells it belongs to, or takes it out.
func toggle(cells []Cell, hash uint64) {
	check := checkOf(hash)
	for w := walkCells(hash); w.at < uint64(len(cells)); w.next() {
		c := &cells[w.at]
		c.Sum ^= hash
		c.Check ^= check
	}
}

// KeepSketch makes the tree keep a sketch from now on. It reads all items and
// puts each into some 16 cells. From then on, whatever comes or goes takes so
// much longer. The number of cells follows the number of items: 64 KiB for a
// few, 4 MiB for a million, 64 MiB at most. Beyond 4 MiB it does so only here,
// not while the tree grows. On the way there a Put reads all items twice: of a tree
// that began empty, at 16,385 of them and at 131,073.
//
// A tree that a snapshot makes keeps none until it is told to. One that keeps a
// sketch of the right size already is left as it is.
func (t *Tree) KeepSketch() {
	switch cells := cellsFor(t.sum.Count, maxCells); {
	case t.sketch == nil || t.sketch.cells < cells:
		t.fillSketch(cells)
	case t.sketch.cells > cells:
		t.sketch.shrink(cells)
	}
}

// Sketch returns the sketch of the items as they are, or nil if the tree keeps
// none. It takes O(1); afterwards the first change to each of the 64 parts
// copies it.
func (t *Tree) Sketch() *Sketch {
	if t.sketch == nil {
		return nil
	}
	s := &Sketch{*t.sketch}
	t.sketch.owner = new(owner)
	return s
}

// Counters returns the counters of the sketch of the items as they are, and how
// many cells it has of each part, 0 if the tree keeps none. Unlike Sketch it has
// nothing copied afterwards.
func (t *Tree) Counters() (c Counters, cells int) {
	if t.sketch == nil {
		return c, 0
	}
	return t.sketch.counters, t.sketch.cells
}

// fillSketch makes a sketch of the items as they are.
func (t *Tree) fillSketch(cells int) {
	t.sketch = newSketch(cells)
	t.sketch.addAll(t.root)
}

// addAll adds all items below a node, which may be nil.
func (s *sketch) addAll(n *node) {
	switch {
	case n == nil:
	case n.leaf():
		for i := range n.keys.len() {
			s.change(n.keys.hash(i), 1)
		}
	default:
		for i := range n.kids {
			s.addAll(n.kids[i].kid)
		}
	}
}

// MakeSketch returns the sketch, with so many cells to a part, of the items of
// some snapshots together, of which no two may have a key in common: those of
// Clip, as a rule. If cells is 0 there are as many as a tree of so many items
// would keep; with more than that, more differences are told. It reads all of
// these items and puts each into some 16 cells, at 0.1 to 0.3 µs in all, and takes
// 1 KiB of memory for each cell of a part.
//
// Its cells are those of any other sketch of the same items, as far as both go.
func MakeSketch(cells int, of ...*Snapshot) *Sketch {
	if cells < 0 || cells > maxCells {
		panic(fmt.Sprintf("BUG: merkle: a sketch of %d cells a part", cells))
	}
	if cells == 0 {
		items := uint64(0)
		for _, s := range of {
			items += s.Summary().Count
		}
		cells = cellsFor(items, maxCells)
	}
	made := newSketch(cells)
	for _, s := range of {
		made.addAll(s.view().root)
	}
	return &Sketch{*made}
}

// came and went keep the sketch up to date, if there is one.
func (t *Tree) came(hash uint64) {
	switch {
	case t.sketch == nil:
	case t.sketch.cells < growCells && t.sum.Count > uint64(t.sketch.cells)*SketchParts*cellShare:
		t.fillSketch(min(growCells, 8*t.sketch.cells))
	default:
		t.sketch.change(hash, 1)
	}
}

func (t *Tree) went(hash uint64) {
	if t.sketch != nil {
		t.sketch.change(hash, -1)
	}
}
