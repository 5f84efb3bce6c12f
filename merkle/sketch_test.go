package merkle

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"pgregory.net/rapid"
)

// cellsOf returns the first cells of a group straight from the definition.
func cellsOf(set []uint64, groups, group, n int) []Cell {
	cells := make([]Cell, n)
	for _, h := range set {
		if int(h>>58)/(64/groups) != group {
			continue
		}
		for w := walkCells(h); w.at < uint64(n); w.next() {
			cells[w.at] = cells[w.at].Xor(Cell{h, checkOf(h)})
		}
	}
	return cells
}

// countersOf returns the counters straight from the definition.
func countersOf(set []uint64) (c Counters) {
	for _, h := range set {
		c.add(h, 1)
	}
	return c
}

// xor combines cells in pairs.
func xor(a, b []Cell) []Cell {
	out := slices.Clone(a)
	for i := range out {
		out[i] = out[i].Xor(b[i])
	}
	return out
}

// all returns all cells of one group.
func (s *Sketch) all(groups, group int) []Cell {
	return s.AppendCells(nil, groups, group, 0, s.Cells())
}

// everything returns all cells of all parts.
func (s *Sketch) everything() [][]Cell {
	out := make([][]Cell, SketchParts)
	for i := range out {
		out[i] = s.all(SketchParts, i)
	}
	return out
}

// hashesOf returns the hashes of a tree's items.
func hashesOf(t reader) (out []uint64) {
	t.Ascend(nil, nil, func(_ []byte, hash uint64) bool {
		out = append(out, hash)
		return true
	})
	return out
}

// is says what is wrong with a sketch of a set, for some groups.
func (s *Sketch) is(set []uint64, groups ...int) error {
	if got, want := s.Counters(), countersOf(set); got != want {
		return fmt.Errorf("%d items: counters %d, want %d", len(set), got, want)
	}
	for _, g := range groups {
		for i := range g {
			if !slices.Equal(s.all(g, i), cellsOf(set, g, i, s.Cells())) {
				return fmt.Errorf("%d items: the %d cells of group %d of %d are not theirs", len(set), s.Cells(), i, g)
			}
		}
	}
	return nil
}

var everyGroups = []int{1, 2, 4, 8, 16, 32, 64}

// A sketchModel is a tree that keeps a sketch, begun with few cells so that it
// grows early, and sketches taken, with the sets they are of.
type sketchModel struct {
	tree  *Tree
	next  int
	grown int // how often the sketch has grown
	cells int // of the sketch after the last action
	taken []takenSketch
}

type takenSketch struct {
	sketch   *Sketch
	cells    [][]Cell
	counters Counters
}

func TestSketchModel(t *testing.T) {
	grown := 0
	rapid.Check(t, func(t *rapid.T) {
		m := &sketchModel{tree: new(Tree)}
		m.tree.fillSketch(1)
		t.Repeat(rapid.StateMachineActions(m))
		grown += m.grown
	})
	if grown == 0 {
		t.Error("no sketch has grown")
	}
}

// hash returns a new hash, or 0, or one that others have, too.
func (m *sketchModel) hash(t *rapid.T) uint64 {
	m.next++
	return rapid.SampledFrom([]uint64{mix(uint64(m.next)), mix(uint64(m.next)), 0, 7}).Draw(t, "hash")
}

func (m *sketchModel) key(t *rapid.T) []byte { return key8(rapid.IntRange(0, 4000).Draw(t, "key")) }

func (m *sketchModel) Put(t *rapid.T) { m.tree.Put(m.key(t), m.hash(t)) }

func (m *sketchModel) PutMany(t *rapid.T) {
	from := rapid.IntRange(0, 3000).Draw(t, "from")
	for i := range rapid.IntRange(1, 1000).Draw(t, "n") {
		m.next++
		m.tree.Put(key8(from+i), mix(uint64(m.next)))
	}
}

func (m *sketchModel) Delete(t *rapid.T) { m.tree.Delete(m.key(t)) }

func (m *sketchModel) DeleteMany(t *rapid.T) {
	from := rapid.IntRange(0, 3000).Draw(t, "from")
	for i := range rapid.IntRange(1, 1000).Draw(t, "n") {
		m.tree.Delete(key8(from + i))
	}
}

func (m *sketchModel) Sketch(*rapid.T) {
	if len(m.taken) == 3 {
		m.taken = m.taken[1:]
	}
	s := m.tree.Sketch()
	m.taken = append(m.taken, takenSketch{s, s.everything(), s.Counters()})
}

// Restore goes on with a snapshot's tree, which keeps no sketch of its own.
func (m *sketchModel) Restore(t *rapid.T) {
	m.tree = m.tree.Snapshot().Tree()
	if m.tree.Sketch() != nil {
		t.Fatal("a snapshot's tree keeps a sketch that nobody asked for")
	}
	m.tree.fillSketch(16)
	m.cells = 16
}

// Check is the invariant: it runs after each action.
func (m *sketchModel) Check(t *rapid.T) {
	groups := rapid.SampledFrom(everyGroups).Draw(t, "groups")
	kept := &Sketch{*m.tree.sketch}
	if err := kept.is(hashesOf(m.tree), groups); err != nil {
		t.Fatal(err)
	}
	if m.cells > 0 && kept.Cells() > m.cells {
		m.grown++
	}
	m.cells = kept.Cells()
	if n := m.tree.Summary().Count; n > uint64(kept.Cells())*SketchParts*cellShare {
		t.Fatalf("%d cells for %d items", kept.Cells(), n)
	}
	for i, s := range m.taken {
		if !slices.EqualFunc(s.sketch.everything(), s.cells, slices.Equal[[]Cell]) || s.sketch.Counters() != s.counters {
			t.Fatalf("sketch %d of %d has changed", i, len(m.taken))
		}
	}
}

// TestSketchGroups holds every group of every number of groups, and pieces of
// cells, against the definition.
func TestSketchGroups(t *testing.T) {
	set := hashes(0, 3000)
	tree := sketched(set)
	s := tree.Sketch()
	if err := s.is(set, everyGroups...); err != nil {
		t.Error(err)
	}
	prefix := []Cell{{1, 2}}
	for _, c := range []struct{ groups, group, lo, hi int }{
		{1, 0, 0, 1}, {1, 0, 5, 5}, {2, 1, 7, 20}, {64, 63, 60, 64}, {16, 3, 0, 64},
	} {
		got := s.AppendCells(prefix, c.groups, c.group, c.lo, c.hi)
		want := append(slices.Clone(prefix), cellsOf(set, c.groups, c.group, 64)[c.lo:c.hi]...)
		if !slices.Equal(got, want) {
			t.Errorf("AppendCells(%+v) differs", c)
		}
	}
	for _, h := range set {
		for _, g := range everyGroups {
			if got, want := SketchGroup(h, g), int(h>>58)/(64/g); got != want {
				t.Fatalf("SketchGroup(%#x, %d) = %d, want %d", h, g, got, want)
			}
		}
	}
}

// sketched returns a tree of items with these hashes that keeps a sketch.
func sketched(set []uint64) *Tree {
	t := new(Tree)
	t.KeepSketch()
	for i, h := range set {
		t.Put(key8(i), h)
	}
	return t
}

// TestSketchGrowth takes a tree through all sizes that a sketch grows to by
// itself, and holds that KeepSketch goes beyond.
func TestSketchGrowth(t *testing.T) {
	tree := sketched(nil)
	small := tree.Sketch()
	n := 0
	for _, c := range []struct{ items, cells int }{
		{0, 64}, {16_384, 64}, {16_385, 512}, {131_072, 512}, {131_073, 4096},
	} {
		for ; n < c.items; n++ {
			tree.Put(key8(n), mix(uint64(n)))
		}
		if got := tree.Sketch().Cells(); got != c.cells {
			t.Fatalf("%d cells for %d items, want %d", got, n, c.cells)
		}
	}
	tree.Put(key8(5), 0)
	tree.Delete(key8(6))
	if err := tree.Sketch().is(hashesOf(tree), 1, 64); err != nil {
		t.Error(err)
	}
	if small.Cells() != 64 || small.Counters() != (Counters{}) || slices.ContainsFunc(small.all(1, 0), func(c Cell) bool { return c != Cell{} }) {
		t.Error("the sketch of the empty tree has changed")
	}
	for _, c := range []struct {
		items uint64
		most  int
		want  int
	}{
		{0, maxCells, 64}, {16_385, maxCells, 128}, {1 << 20, maxCells, 4096}, {1<<20 + 1, maxCells, 8192},
		{1 << 24, maxCells, 65536}, {1 << 40, maxCells, 65536},
	} {
		if got := cellsFor(c.items, c.most); got != c.want {
			t.Errorf("cellsFor(%d) = %d, want %d", c.items, got, c.want)
		}
	}
}

// TestSketchCopies counts what is copied: a part once after a sketch was taken,
// none if none was.
func TestSketchCopies(t *testing.T) {
	set := hashes(0, 1000)
	tree := sketched(set)
	before := tree.sketch.parts
	tree.Put(key8(0), 0)
	if tree.sketch.parts != before {
		t.Error("a part was copied though no sketch was taken")
	}
	tree.Sketch()
	tree.Put(key8(0), 1)              // 0 and 1 belong to part 0
	tree.Put(key8(len(set)), 63<<58)  // part 63
	tree.Put(key8(len(set)), 63<<58)  // nothing changes
	tree.Delete(key8(len(set) + 100)) // nor here
	after := tree.sketch.parts
	for i := range after {
		if copied := after[i] != before[i]; copied != (i == 0 || i == 63) {
			t.Errorf("part %d copied: %v", i, copied)
		}
	}
	tree.Put(key8(0), 0)
	tree.Delete(key8(len(set)))
	if tree.sketch.parts != after {
		t.Error("a part was copied twice")
	}
}

// TestSketchReaders reads sketches in other goroutines while the tree goes on;
// run with -race it shows that they share nothing that changes.
func TestSketchReaders(t *testing.T) {
	const n = 2000
	tree := sketched(hashes(0, n))
	rng := rand.New(rand.NewPCG(1, 2))
	var wg sync.WaitGroup
	for range 20 {
		s, set := tree.Sketch(), hashesOf(tree)
		for range 2 {
			wg.Go(func() {
				if err := s.is(set, 1, 64); err != nil {
					t.Error(err)
				}
			})
		}
		for range 500 {
			if i := rng.IntN(2 * n); rng.IntN(3) == 0 {
				tree.Delete(key8(i))
			} else {
				tree.Put(key8(i), rng.Uint64())
			}
		}
	}
	wg.Wait()
}

// TestSketchLinear holds the law of sketches: combined cells are those of the
// symmetric difference, and groups combined are the whole.
func TestSketchLinear(t *testing.T) {
	for seed, c := range []struct{ a, b, both int }{
		{0, 0, 0}, {1, 0, 0}, {0, 1, 1000}, {30, 50, 2000}, {500, 500, 0}, {0, 0, 1000},
	} {
		h := hashes(seed, c.a+c.b+c.both)
		a, b, both := h[:c.a], h[c.a:c.a+c.b], h[c.a+c.b:]
		sa, sb := sketched(slices.Concat(a, both)).Sketch(), sketched(slices.Concat(both, b)).Sketch()
		sd := sketched(slices.Concat(b, a)).Sketch()
		for _, g := range everyGroups {
			whole := make([]Cell, sa.Cells())
			for i := range g {
				if !slices.Equal(xor(sa.all(g, i), sb.all(g, i)), sd.all(g, i)) {
					t.Errorf("%+v: group %d of %d is not that of the difference", c, i, g)
				}
				whole = xor(whole, sa.all(g, i))
			}
			if !slices.Equal(whole, sa.all(1, 0)) {
				t.Errorf("%+v: %d groups together are not the whole", c, g)
			}
		}
	}
}

// TestSketchBugs holds that arguments nobody can mean are refused.
func TestSketchBugs(t *testing.T) {
	s := sketched(nil).Sketch()
	for name, f := range map[string]func(){
		"no group":             func() { s.AppendCells(nil, 0, 0, 0, 1) },
		"three groups":         func() { s.AppendCells(nil, 3, 0, 0, 1) },
		"too many groups":      func() { NewDecoder(128, 0) },
		"group out of range":   func() { NewDecoder(4, 4) },
		"negative group":       func() { NewDecoder(4, -1) },
		"cells out of range":   func() { s.AppendCells(nil, 1, 0, 0, 65) },
		"negative cell":        func() { s.AppendCells(nil, 1, 0, -1, 5) },
		"cells in wrong order": func() { s.AppendCells(nil, 1, 0, 6, 5) },
		"too many cells":       func() { MakeSketch(maxCells + 1) },
		"less than no cells":   func() { MakeSketch(-1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// TestBuilderKeepsASketch builds trees with a sketch, whose size was guessed
// right, too small or too large, and holds it against the one of a tree that made
// its sketch at the end.
func TestBuilderKeepsASketch(t *testing.T) {
	for _, n := range []int{0, 1, 5000, 20_000, 40_000} {
		var plain Builder
		builders := map[uint64]*Builder{0: {}, uint64(n): {}, 100_000: {}}
		for about, b := range builders {
			b.KeepSketch(about)
		}
		for i := range n {
			key, hash := key8(i), mix(uint64(i))
			for _, b := range builders {
				if err := b.Add(key, hash); err != nil {
					t.Fatal(err)
				}
			}
			if err := plain.Add(key, hash); err != nil {
				t.Fatal(err)
			}
		}
		tree := plain.Tree()
		if tree.Sketch() != nil {
			t.Error("a builder keeps a sketch without being told to")
		}
		tree.KeepSketch()
		want := tree.Sketch()
		for about, b := range builders {
			tree := b.Tree()
			if got := tree.Sketch(); got.Cells() != want.Cells() || got.Counters() != want.Counters() ||
				!slices.Equal(got.AppendCells(nil, 64, 1, 0, got.Cells()), want.AppendCells(nil, 64, 1, 0, want.Cells())) ||
				!slices.Equal(got.AppendCells(nil, 1, 0, 0, got.Cells()), want.AppendCells(nil, 1, 0, 0, want.Cells())) {
				t.Errorf("%d items of about %d: another sketch, of %d cells a part, want %d", n, about, got.Cells(), want.Cells())
			}
			if err := tree.check(); err != nil {
				t.Errorf("%d items of about %d: %v", n, about, err)
			}
			if again := b.Tree(); again.Sketch() != nil || again.Summary() != (Summary{}) {
				t.Errorf("%d items of about %d: the builder is not empty afterwards", n, about)
			}
		}
	}
}

// TestBytesCountTheSketch checks that the memory of cells is not forgotten: a
// budget of memory is set from what a tree says it takes.
func TestBytesCountTheSketch(t *testing.T) {
	var b Builder
	for i := range 20_000 {
		if err := b.Add(fmt.Appendf(nil, "k%06d", i), uint64(i)*0x9e3779b97f4a7c15); err != nil {
			t.Fatal(err)
		}
	}
	tree := b.Tree()
	before := tree.Bytes()
	tree.KeepSketch()
	if got, want := tree.Bytes()-before, int64(unsafe.Sizeof(Cell{}))*int64(SketchParts*tree.Sketch().Cells()); got != want {
		t.Errorf("a sketch of %d cells a part takes %d bytes, want %d", tree.Sketch().Cells(), got, want)
	}
	if got := tree.Snapshot().Bytes(); got != before {
		t.Errorf("a snapshot takes %d bytes, want %d: it has no sketch", got, before)
	}
}
