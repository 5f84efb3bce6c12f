package merkle

import "math"

// A Decoder finds the item hashes of a set of which it is given the first cells:
// of the difference of two sets, as a rule. It takes cells until there are
// enough: some 1.4 for each hash, 1.7 and more where there are only a few, never
// less than one.
//
// A cell of one hash gives that away. Taken out of all cells it belongs to, it
// leaves others with one hash. That goes on until no cell is left, or none that
// has only one; then more cells are needed.
//
// What it says it has found, it has found if the cells are those of a set, and
// no cell of several hashes looks like one of a single one: in cell j one in
// 2^32 * groups * (1+j/2) of them does. Whoever has cells from somewhere else
// holds what was found against a [Summary] before believing it.
//
// A Decoder takes at most some 100 bytes of memory for each cell, whatever the
// cells are. It is not safe for concurrent use.
type Decoder struct {
	groups, group int
	cells         []Cell // without what was found
	found         []uint64
	walks         []cellWalk // of what was found: its first cell behind cells
	stack         []int32    // cells that looked as if they had one hash
	left          int        // cells that are not empty
	zeros         int        // cells that were empty when they came
	failed        bool

	// due and after are lists of found hashes by the cell where their walk is:
	// due has, by cell, 1 + the number of the first one, or 0; after, by
	// hash, that of the next one. The hashes of which the walk is beyond due,
	// and those found since the last Add, are in no list.
	due, after []int32
}

// NewDecoder returns a decoder for the cells of a group of parts, as
// Sketch.AppendCells has it: groups is a power of two up to SketchParts.
func NewDecoder(groups, group int) *Decoder {
	checkGroup(groups, group)
	return &Decoder{groups: groups, group: group}
}

// Add takes the next cells and finds what can be found. It keeps none of the
// slice. Into however many calls n cells are divided, all together cost
// O(n log n).
func (d *Decoder) Add(cells []Cell) {
	if d.failed {
		return
	}
	at := len(d.cells)
	d.cells = append(d.cells, cells...)
	for _, c := range cells {
		if c == (Cell{}) {
			d.zeros++
		}
	}
	d.takeOut(at)
	for i, c := range d.cells[at:] {
		if c != (Cell{}) {
			d.left++
			d.look(c, at+i)
		}
	}
	d.peel()
}

// takeOut takes what was found out of the cells from number at on, which came
// just now.
func (d *Decoder) takeOut(at int) {
	if len(d.found) == 0 {
		return
	}
	if len(d.cells) > len(d.due) {
		d.due, d.after = make([]int32, 2*len(d.cells)), d.after[:0]
	}
	for i := len(d.after); i < len(d.found); i++ {
		d.after = append(d.after, 0)
		d.enlist(int32(i))
	}
	for j := at; j < len(d.cells); j++ {
		c := &d.cells[j]
		for n := d.due[j]; n != 0; {
			i := n - 1
			n = d.after[i]
			c.Sum ^= d.found[i]
			c.Check ^= checkOf(d.found[i])
			d.walks[i].next()
			d.enlist(i)
		}
	}
}

// enlist puts hash i into the list of the cell where its walk is.
func (d *Decoder) enlist(i int32) {
	if at := d.walks[i].at; at < uint64(len(d.due)) {
		d.after[i] = d.due[at]
		d.due[at] = i + 1
	}
}

// look puts cell j, which holds c, on the stack if it looks like that of one hash.
// Each cell comes to look so once, if they are those of a set.
func (d *Decoder) look(c Cell, j int) {
	switch {
	case !c.pure():
	case len(d.stack) >= 2*len(d.cells):
		d.failed = true
	default:
		d.stack = append(d.stack, int32(j))
	}
}

// fail gives up, and all memory but that of the cells.
func (d *Decoder) fail() {
	d.failed = true
	d.walks, d.stack, d.due, d.after = nil, nil, nil, nil
}

// peel finds hashes until no cell on the stack has one alone. A set has no more
// than there are cells, as the cell that gave a hash away stays empty; so what
// gives more is none.
func (d *Decoder) peel() {
	for len(d.stack) > 0 && !d.failed {
		j := d.stack[len(d.stack)-1]
		d.stack = d.stack[:len(d.stack)-1]
		c := d.cells[j]
		if c == (Cell{}) || !c.pure() || SketchGroup(c.Sum, d.groups) != d.group || !inCell(c.Sum, uint64(j)) {
			continue
		}
		if d.failed = len(d.found) == len(d.cells); !d.failed {
			d.find(c.Sum)
		}
	}
	if d.failed {
		d.fail()
	}
}

// find takes a hash out of all cells and looks which of them have one left.
func (d *Decoder) find(hash uint64) {
	check := checkOf(hash)
	w := walkCells(hash)
	for ; w.at < uint64(len(d.cells)); w.next() {
		c := &d.cells[w.at]
		if *c == (Cell{}) {
			d.left++
		}
		c.Sum ^= hash
		c.Check ^= check
		if *c == (Cell{}) {
			d.left--
		} else {
			d.look(*c, int(w.at))
		}
	}
	d.found = append(d.found, hash)
	d.walks = append(d.walks, w)
}

// inCell reports whether a hash belongs to cell j.
func inCell(hash, j uint64) bool {
	w := walkCells(hash)
	for w.at < j {
		w.next()
	}
	return w.at == j
}

// Done reports whether nothing is left: the hashes found are the set, if the
// cells are those of a set. It is false as long as there are no cells.
func (d *Decoder) Done() bool { return !d.failed && len(d.cells) > 0 && d.left == 0 }

// Failed reports whether the cells are those of no set: they gave more hashes
// than there are cells. From then on Add does nothing. Most cells that are those
// of no set are just never Done.
func (d *Decoder) Failed() bool { return d.failed }

// Found returns the hashes found, at most Len of them, in no order. The slice is
// the decoder's.
func (d *Decoder) Found() []uint64 { return d.found }

// Len returns how many cells the decoder was given.
func (d *Decoder) Len() int { return len(d.cells) }

// Empty returns how many of the cells were empty when they came, for
// HashesOfEmpty.
func (d *Decoder) Empty() int { return d.zeros }

// HashesOfEmpty estimates how many hashes a set has that is spread over so many
// groups of so many cells each, of which so many are empty, all groups taken
// together. With none empty it returns a number that would leave about one. It
// takes about 0.1 ms for many cells, less for few.
func HashesOfEmpty(groups, cells, empty int) uint64 {
	want := math.Max(float64(empty), 1) / float64(groups)
	// Cell j is empty with a probability of about exp(-s/(1+j/2)).
	expect := func(s float64) float64 {
		var sum float64
		step := max(1, cells/256)
		for j := 0; j < cells; j += step {
			sum += math.Exp(-s/(1+float64(j)/2)) * float64(min(step, cells-j))
		}
		return sum
	}
	lo, hi := 0.0, 16*float64(cells)
	for range 40 {
		if mid := (lo + hi) / 2; expect(mid) > want {
			lo = mid
		} else {
			hi = mid
		}
	}
	return uint64(hi*float64(groups) + 0.5)
}

// CellsFor returns how many cells are enough, in 19 of 20 cases or more, for a
// set of so many hashes, or of 2^30 if it has more.
func CellsFor(hashes uint64) int {
	s := float64(min(hashes, 1<<30)) // fits int on all machines
	return int(1.35*s+3.4*math.Sqrt(s)) + 2
}
