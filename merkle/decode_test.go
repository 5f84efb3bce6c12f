package merkle

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// decode gives a new decoder the cells in pieces that end at the cuts.
func decode(cells []Cell, groups, group int, cuts ...int) *Decoder {
	d := NewDecoder(groups, group)
	at := 0
	for _, c := range append(cuts, len(cells)) {
		d.Add(cells[at:c])
		at = c
	}
	return d
}

// sorted returns what was found, ascending.
func (d *Decoder) sorted() []uint64 { return slices.Sorted(slices.Values(d.Found())) }

// TestDecoderModel holds that any set is found, all of it and each hash once,
// however its cells come, and as soon in pieces as at once.
func TestDecoderModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		groups := rapid.SampledFrom(everyGroups).Draw(t, "groups")
		group := rapid.IntRange(0, groups-1).Draw(t, "group")
		each := SketchParts / groups
		set := hashes(rapid.IntRange(1, 1<<30).Draw(t, "series"), rapid.IntRange(0, 300).Draw(t, "n"))
		for i, h := range set { // into a part of the group
			set[i] = h&(1<<58-1) | uint64(group*each+int(h>>58)%each)<<58
		}
		if group == 0 && rapid.Bool().Draw(t, "zero") {
			set = append(set, 0)
		}
		slices.Sort(set)
		cells := cellsOf(set, groups, group, 4*len(set)+40)

		one := NewDecoder(groups, group)
		for i := range cells {
			if one.Done() {
				break
			}
			one.Add(cells[i : i+1])
		}
		need := one.Len()
		if !one.Done() || !slices.Equal(one.sorted(), set) {
			t.Fatalf("%d of %d found with %d cells", len(one.Found()), len(set), need)
		}
		for range 3 {
			n := rapid.IntRange(0, len(cells)).Draw(t, "cells")
			cuts := rapid.SliceOfN(rapid.IntRange(0, n), 0, 5).Draw(t, "cuts")
			slices.Sort(cuts)
			pieces, whole := decode(cells[:n], groups, group, cuts...), decode(cells[:n], groups, group)
			if !slices.Equal(pieces.sorted(), whole.sorted()) || pieces.Done() != whole.Done() || pieces.Empty() != whole.Empty() {
				t.Fatalf("%d cells in pieces up to %d: %d found, at once %d", n, cuts, len(pieces.Found()), len(whole.Found()))
			}
			if whole.Done() != (n >= need) || whole.Failed() || whole.Len() != n {
				t.Fatalf("done with %d cells: %v, but it takes %d", n, whole.Done(), need)
			}
			for _, h := range whole.Found() {
				if _, ok := slices.BinarySearch(set, h); !ok {
					t.Fatalf("%#x was found, which is not in the set", h)
				}
			}
		}
	})
}

// TestDecoderTrees finds the difference of two trees in parts, as replicas do.
func TestDecoderTrees(t *testing.T) {
	both, mine, yours := hashes(0, 20_000), hashes(1, 200), hashes(2, 250)
	a := sketched(slices.Concat(both, mine)).Sketch()
	b := sketched(slices.Concat(yours, both)).Sketch()
	want := slices.Sorted(slices.Values(slices.Concat(mine, yours)))
	for _, g := range everyGroups[1:] {
		var got []uint64
		for i := range g {
			d := decode(xor(a.all(g, i), b.all(g, i)), g, i)
			if !d.Done() {
				t.Fatalf("group %d of %d is not done after %d cells", i, g, d.Len())
			}
			got = append(got, d.Found()...)
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%d groups: %d hashes found of %d", g, len(got), len(want))
		}
	}
}

// cellsNeeded returns how many cells it takes to find a set.
func cellsNeeded(t *testing.T, set []uint64) int {
	cells := make([]Cell, 4*len(set)+1000)
	for _, h := range set {
		toggle(cells, h)
	}
	d := NewDecoder(1, 0)
	for i := range cells {
		if d.Add(cells[i : i+1]); d.Done() {
			return d.Len()
		}
	}
	t.Fatalf("%d hashes are not found in %d cells", len(set), len(cells))
	return 0
}

// TestCellsNeeded holds how many cells a hash takes against what Yang, Gilad and
// Alizadeh measured (SIGCOMM 2024, section 5): 1.72 at the worst, for few, and
// 1.35 for many; the values between are those of their program. And it holds
// that CellsFor is enough in 19 of 20 cases.
func TestCellsNeeded(t *testing.T) {
	for _, c := range []struct {
		set, runs int
		want      float64 // cells of each hash, the mean
	}{
		{1, 1000, 1}, {2, 4000, 1.59}, {4, 4000, 1.74}, {8, 4000, 1.72}, {32, 2000, 1.56}, {64, 1000, 1.49},
		{133, 400, 1.44}, {400, 100, 1.40}, {4000, 10, 1.365}, {30_000, 2, 1.353},
	} {
		total, enough := 0, 0
		for run := range c.runs {
			n := cellsNeeded(t, hashes(run, c.set))
			total += n
			if n <= CellsFor(uint64(c.set)) {
				enough++
			}
		}
		mean := float64(total) / float64(c.runs*c.set)
		t.Logf("%5d hashes: %.3f cells each, paper %.3f; %d are enough in %.1f %%", c.set, mean, c.want,
			CellsFor(uint64(c.set)), 100*float64(enough)/float64(c.runs))
		if math.Abs(mean/c.want-1) > 0.04 {
			t.Errorf("%d hashes take %.3f cells each, want about %.3f", c.set, mean, c.want)
		}
		if enough*20 < c.runs*19 {
			t.Errorf("%d cells are enough for %d hashes in %d of %d runs only", CellsFor(uint64(c.set)), c.set, enough, c.runs)
		}
	}
	for _, c := range []struct {
		hashes uint64
		want   int
	}{{0, 2}, {1, 6}, {1 << 30, 1_449_662_875}, {1<<30 + 1, 1_449_662_875}, {math.MaxUint64, 1_449_662_875}} {
		if got := CellsFor(c.hashes); got != c.want {
			t.Errorf("CellsFor(%d) = %d, want %d", c.hashes, got, c.want)
		}
	}
}

func TestHashesOfEmpty(t *testing.T) {
	for seed, c := range []struct{ groups, each, cells int }{
		{1, 2000, 1500}, {1, 10_000, 8000}, {1, 100_000, 65_536}, {16, 1000, 700}, {64, 1000, 1000}, {64, 5000, 4096},
	} {
		d := make([]Decoder, c.groups)
		empty := 0
		for i := range d {
			cells := make([]Cell, c.cells)
			for _, h := range hashes(seed*SketchParts+i, c.each) {
				toggle(cells, h)
			}
			d[i].Add(cells)
			empty += d[i].Empty()
		}
		got, want := float64(HashesOfEmpty(c.groups, c.cells, empty)), float64(c.groups*c.each)
		t.Logf("%+v, %d cells empty: %.0f, %.2f times the truth", c, empty, got, got/want)
		if math.Abs(got/want-1) > 0.1 {
			t.Errorf("%+v: HashesOfEmpty = %.0f, want %.0f", c, got, want)
		}
	}
	for _, c := range []struct {
		groups, cells, empty int
		lo, hi               uint64
	}{
		{1, 0, 0, 0, 0}, {1, 1, 1, 0, 0}, {64, 100, 6400, 0, 0}, {1, 100, 1000, 0, 0},
		{1, 100, 0, 150, 400}, {64, 100, 0, 10_000, 40_000}, {1, 65_536, 0, 200_000, 1 << 20},
	} {
		if got := HashesOfEmpty(c.groups, c.cells, c.empty); got < c.lo || got > c.hi {
			t.Errorf("HashesOfEmpty(%d, %d, %d) = %d, want %d to %d", c.groups, c.cells, c.empty, got, c.lo, c.hi)
		}
	}
}

// TestDecoderForged gives a decoder cells that are those of no set, or of
// another one than their sender's. Whoever believes what was found without
// holding it against a summary is deceived.
func TestDecoderForged(t *testing.T) {
	set, other := hashes(0, 20), hashes(1, 3)
	honest := cellsOf(set, 1, 0, 100)
	alone := make([]Cell, 100) // each looks like the cell of one hash, or is empty
	for _, h := range hashes(2, 5000) {
		w := walkCells(h)
		for range 5 {
			w.next()
		}
		if w.at < 100 {
			alone[w.at] = Cell{h, checkOf(h)}
		}
	}
	random := make([]Cell, 100)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range random {
		random[i] = Cell{rng.Uint64(), rng.Uint32()}
	}
	first := make([]Cell, 100)
	first[0] = honest[0].Xor(cellsOf(set[1:], 1, 0, 1)[0]) // one hash, but in cell 0 only
	for _, c := range []struct {
		name         string
		cells        []Cell
		done, failed bool
		found        []uint64 // if done
	}{
		{"honest", honest, true, false, set},
		{"another set's cells added", xor(honest, cellsOf(other, 1, 0, 100)), true, false, slices.Concat(set, other)},
		{"two equal hashes, which cancel out", cellsOf(slices.Concat(set, other, other), 1, 0, 100), true, false, set},
		{"a bit wrong", xor(honest, append(make([]Cell, 50), append([]Cell{{1, 0}}, make([]Cell, 49)...)...)), false, false, nil},
		{"one hash in one cell only", first, false, true, nil},
		{"one hash in each cell", alone, false, true, nil},
		{"random", random, false, false, nil},
		{"of another group", cellsOf(set, 2, 1, 100), false, false, nil},
	} {
		groups := 1
		if c.name == "of another group" {
			groups = 2
		}
		for name, d := range map[string]*Decoder{
			"at once": decode(c.cells, groups, 0), "in pieces": decode(c.cells, groups, 0, 1, 2, 3, 10, 30, 31, 99),
		} {
			if d.Done() != c.done || d.Failed() != c.failed || len(d.Found()) > d.Len() {
				t.Errorf("%s, %s: done %v, failed %v, %d found", c.name, name, d.Done(), d.Failed(), len(d.Found()))
			}
			if c.done && !slices.Equal(d.sorted(), slices.Sorted(slices.Values(c.found))) {
				t.Errorf("%s, %s: %d found, want %d", c.name, name, len(d.Found()), len(c.found))
			}
		}
	}
	d := decode(first, 1, 0)
	if d.Add(honest); d.Len() != 100 || !d.Failed() || d.Done() {
		t.Error("a decoder that has failed goes on")
	}
}

// TestDecoderPieces holds what makes cells cost about as much one by one as at
// once, so that a peer that sends small pieces does not keep the other side
// busy: every hash found waits in the list of its next cell, and is looked at
// for no other.
func TestDecoderPieces(t *testing.T) {
	const n = 100_000
	set := hashes(0, n)
	cells := make([]Cell, 2*n)
	for _, h := range set {
		toggle(cells, h)
	}
	d := NewDecoder(1, 0)
	for i := range cells {
		d.Add(cells[i : i+1])
	}
	if !d.Done() || len(d.found) != n || cap(d.stack) > n || len(d.due) > 4*len(cells) {
		t.Errorf("done %v, %d found; %d on the stack, %d lists", d.Done(), len(d.found), cap(d.stack), len(d.due))
	}
	// All walks are beyond the cells, and all that are within due are in its lists.
	listed, within := 0, 0
	for at, n := range d.due {
		for ; at >= len(cells) && n != 0; n = d.after[n-1] {
			listed++
		}
	}
	for _, w := range d.walks[:len(d.after)] {
		if w.at < uint64(len(cells)) {
			t.Fatalf("a walk has stopped at cell %d", w.at)
		}
		if w.at < uint64(len(d.due)) {
			within++
		}
	}
	if listed != within || within == 0 {
		t.Errorf("%d hashes in lists, want %d", listed, within)
	}
}

// TestDecoderMemory gives a decoder cells that are those of no set: a hash that
// belongs to many cells stands in the last of them only. Each time it is found
// it leaves all others as if they had it alone.
func TestDecoderMemory(t *testing.T) {
	const n = 4096
	var hash uint64
	last, most := 0, 0
	for h := range uint64(100_000) {
		cells, at := 0, 0
		for w := walkCells(h); w.at < n; w.next() {
			cells, at = cells+1, int(w.at)
		}
		if cells > most && at >= n-n/16 {
			hash, last, most = h, at, cells
		}
	}
	cells := make([]Cell, n)
	cells[last] = Cell{hash, checkOf(hash)}
	d := NewDecoder(1, 0)
	for part := range slices.Chunk(cells, n/16) {
		d.Add(part)
		took := 16*cap(d.cells) + 8*cap(d.found) + 16*cap(d.walks) + 4*(cap(d.stack)+cap(d.due)+cap(d.after))
		if took > 100*d.Len()+1000 {
			t.Errorf("%d bytes for %d cells", took, d.Len())
		}
	}
	if !d.Failed() {
		t.Errorf("%d hashes of %d cells were found, want it to fail", len(d.Found()), n)
	}
}
