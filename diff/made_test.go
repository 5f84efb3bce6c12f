package diff

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sdiff/sdiff/merkle"
)

// fewKept returns the configurations of two sides that keep so many cells to a
// part of their sketches.
func fewKept(left, right *merkle.Snapshot, cells int) (a, b Config) {
	return Config{Sketch: merkle.MakeSketch(cells, left)}, Config{Sketch: merkle.MakeSketch(cells, right)}
}

// madeOnTheWay returns a comparison that begins with the cells that are kept,
// and for which more are made; there is a probe.
func madeOnTheWay() dialogue {
	for seed := uint64(0); ; seed++ {
		var x dialogue
		x.left, x.right, _, _ = drifted(seed, 600, 40)
		x.a, x.b = fewKept(x.left, x.right, 16)
		x.a.FrameBytes, x.a.Window = 200, 2
		x.b.FrameBytes, x.b.Window = 200, 2
		x.msgs, x.toB = genuine(x.left, x.right, x.a, x.b)
		kept, made := 0, 0
		for _, m := range x.msgs {
			switch {
			case m.kind == kindCells && m.ranges == 0:
				kept++
			case m.kind == kindCells:
				made++
			}
		}
		if kept > 0 && made > 0 && x.msgs[len(x.msgs)-1].kind == kindAgree {
			return x
		}
	}
}

// TestMadeCells compares sets of which the sketches that are kept are far too
// small: more cells are made of those ranges in which something differs, and of
// no others.
func TestMadeCells(t *testing.T) {
	const n = 20_000
	for _, c := range []struct {
		name    string
		d, from int // items that differ, among those from some item on,
		among   int // so many
		ranges  int // of the probe
	}{
		{"everywhere", 3000, 0, n, 8},
		{"in one range", 150, 100, n/8 - 200, 1},
		{"in three ranges", 400, n/8 + 100, 3*n/8 - 200, 3},
		{"in six ranges", 2500, 2 * n / 8, 6 * n / 8, 6},
	} {
		r := rand.New(rand.NewPCG(1, 8))
		left := &merkle.Tree{}
		for i := range n {
			left.Put(fmt.Appendf(nil, "k%06d", i), r.Uint64())
		}
		right := left.Snapshot().Tree()
		for _, i := range r.Perm(c.among)[:c.d] {
			right.Put(fmt.Appendf(nil, "k%06d", c.from+i), r.Uint64())
		}
		var x dialogue
		x.left, x.right = left.Snapshot(), right.Snapshot()
		x.a, x.b = fewKept(x.left, x.right, 4)
		x.msgs, x.toB = genuine(x.left, x.right, x.a, x.b)
		cells := 0
		for _, m := range x.msgs {
			if m.kind != kindCells {
				continue
			}
			cells += len(m.data) / merkle.CellSize
			if m.ranges.len() != c.ranges {
				t.Errorf("%s: cells of the ranges %b, want %d", c.name, m.ranges, c.ranges)
			}
		}
		a, b := replay(x, len(x.msgs), false), replay(x, len(x.msgs), true)
		if b.stats.Method != MethodSketch || !strings.HasSuffix(b.stats.Why, tooFew) || cells == 0 || cells > 4*c.d {
			t.Errorf("%s: compared by %q because %q, %d cells", c.name, b.stats.Method, b.stats.Why, cells)
		}
		if strings.Contains(b.stats.Why, fmt.Sprintf("in %d of 8 ranges", c.ranges)) != (c.ranges < 8) {
			t.Errorf("%s: %q", c.name, b.stats.Why)
		}
		if a.sk.mine != nil || b.sk.mine != nil {
			t.Errorf("%s: a sketch is kept longer than it is needed", c.name)
		}
		checkFound(t, c.name, a, x.left, x.right)
		checkFound(t, c.name, b, x.right, x.left)
	}
}

// TestCellsThatOneSideKeeps compares until the side that begins has asked for
// cells that only the other one keeps, or only itself: both make them.
func TestCellsThatOneSideKeeps(t *testing.T) {
	for _, kept := range [][2]int{{16, 200}, {200, 16}} {
		asked := 0
		for seed := range uint64(40) {
			var x dialogue
			x.left, x.right, _, _ = drifted(seed, 600, 40)
			x.a.Sketch, x.b.Sketch = merkle.MakeSketch(kept[0], x.left), merkle.MakeSketch(kept[1], x.right)
			x.msgs, x.toB = genuine(x.left, x.right, x.a, x.b)
			for _, m := range x.msgs {
				if m.kind == kindMore && m.hi > 16 {
					asked++
				}
				if m.kind == kindCells && (m.hi > 16) != (m.ranges != 0) {
					t.Errorf("%v kept: cells up to %d of ranges %b", kept, m.hi, m.ranges)
				}
			}
			a, b := replay(x, len(x.msgs), false), replay(x, len(x.msgs), true)
			checkFound(t, "one keeps", a, x.left, x.right)
			checkFound(t, "one keeps", b, x.right, x.left)
		}
		if asked == 0 {
			t.Errorf("%v kept: no more was asked for", kept)
		}
	}
}

// TestMadeOfTooManyOfThePeer compares with a peer that holds more items than a
// sketch is made of, and keeps more cells: it may ask for what it must not make,
// and does not get it.
func TestMadeOfTooManyOfThePeer(t *testing.T) {
	beyond := 0
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 11))
		left, right := &merkle.Tree{}, &merkle.Tree{}
		for i := range 11_500 {
			key, h := fmt.Appendf(nil, "k%06d", i), r.Uint64()
			left.Put(key, h)
			if i%7 != 3 {
				right.Put(key, h)
			}
		}
		var x dialogue
		x.left, x.right = left.Snapshot(), right.Snapshot()
		x.a = Config{Sketch: merkle.MakeSketch(1024, x.left), MaxMade: 10_300}
		x.b = Config{Sketch: merkle.MakeSketch(64, x.right), MaxMade: 10_300}
		a, b := New(x.left, x.a), New(x.right, x.b)
		inbox, err := a.Start()
		for to, from := b, a; err == nil && len(inbox) > 0; to, from = from, to {
			var out []Message
			for _, m := range inbox {
				if m.kind == kindMore && m.hi > 64 {
					beyond++
				}
				var got []Message
				if got, err = to.Step(m); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				out = append(out, got...)
			}
			inbox = out
		}
		if a.stats.Made > 10_300 {
			t.Errorf("seed %d: a sketch of %d items was made", seed, a.stats.Made)
		}
		checkFound(t, "too many", a, x.left, x.right)
		checkFound(t, "too many", b, x.right, x.left)
	}
	if beyond == 0 {
		t.Error("nothing was asked for that must not be made")
	}
}

// TestForgedProbe gives a session that is to make no sketch an opening after which
// one would be made of ranges that hold nothing.
func TestForgedProbe(t *testing.T) {
	left, _, cfg, _ := drifted(1, 1000, 0)
	cfg.MaxMade = -1
	o := &opening{all: left.Summary(), cells: 1, counters: cfg.Sketch.Counters()}
	o.all.Sum++
	var bounds [][]byte
	for i := range probeRanges - 1 {
		bounds = append(bounds, []byte{byte('x' + i)}) // behind all keys
		o.probe = append(o.probe, 0, 1, bounds[i][0])
	}
	for i, c := range probeChecks(left, bounds) {
		if i > 0 {
			c++ // of nothing
		}
		o.probe = append(o.probe, byte(c>>8), byte(c))
	}
	for i := range o.counters[:20] {
		o.counters[i] += 3
	}
	s := New(left, cfg)
	if _, err := s.Step(Message{kind: kindOpen, level: 1, open: o}); err != nil {
		t.Fatal(err)
	}
	if s.stats.Made != 0 || s.stats.Method != MethodRanges {
		t.Errorf("by %q because %q, a sketch of %d items was made", s.stats.Method, s.stats.Why, s.stats.Made)
	}
}

// TestNoneAreMade compares where no more cells are to be made, on one side or the
// other: with what is kept, and if that does not tell, by ranges.
func TestNoneAreMade(t *testing.T) {
	for _, may := range [][2]int{{-1, 0}, {0, -1}} {
		reasons := map[string]int{}
		for seed := range uint64(40) {
			var x dialogue
			x.left, x.right, _, _ = drifted(seed, 600, 40)
			x.a, x.b = fewKept(x.left, x.right, 16)
			x.a.MaxMade, x.b.MaxMade = may[0], may[1]
			x.msgs, x.toB = genuine(x.left, x.right, x.a, x.b)
			for _, m := range x.msgs {
				if m.ranges != 0 {
					t.Errorf("cells of the ranges %b", m.ranges)
				}
			}
			a, b := replay(x, len(x.msgs), false), replay(x, len(x.msgs), true)
			for _, s := range []*Session{a, b} {
				if s.stats.Method == MethodRanges {
					reasons[s.stats.Why]++
				}
				if s.stats.Made != 0 {
					t.Errorf("a sketch of %d items was made", s.stats.Made)
				}
			}
			checkFound(t, "none made", a, x.left, x.right)
			checkFound(t, "none made", b, x.right, x.left)
		}
		why := map[[2]int]string{
			{-1, 0}: "the sketch did not tell what differs", {0, -1}: "all cells of the sketch did not tell what differs",
		}[may]
		if reasons[why] == 0 {
			t.Errorf("%v: %v, want %q", may, reasons, why)
		}
	}
}

// TestMadeCellsOfOtherRanges lets a peer make cells of ranges that are not those
// that differ, so that what they tell is not all: ranges do.
func TestMadeCellsOfOtherRanges(t *testing.T) {
	x := madeOnTheWay()
	done := 0
	for lie := ranges(1); lie < allRanges; lie += 50 {
		a, b := New(x.left, x.a), New(x.right, x.b)
		inbox, err := a.Start()
		for to, from := b, a; err == nil && len(inbox) > 0; to, from = from, to {
			var out []Message
			for _, m := range inbox {
				b.sk.differ &= lie
				if b.sk.differ == 0 {
					b.sk.differ = lie
				}
				var got []Message
				if got, err = to.Step(m); err != nil {
					t.Fatal(err)
				}
				out = append(out, got...)
			}
			inbox = out
		}
		if a.stats.Method == MethodRanges {
			done++
		}
		checkFound(t, fmt.Sprintf("ranges %b", lie), a, x.left, x.right)
		checkFound(t, fmt.Sprintf("ranges %b", lie), b, x.right, x.left)
	}
	if done == 0 {
		t.Error("whatever was left out, cells told all")
	}
}

// TestMakeSketchIsBounded checks when a session refuses to make a sketch, and how
// large the one is that it makes.
func TestMakeSketchIsBounded(t *testing.T) {
	left, _, cfg, _ := drifted(1, 1000, 0)
	fresh := func() *Session {
		s := New(left, cfg)
		s.sk.probe = newProbe(left)
		return s
	}
	for _, c := range []struct {
		name  string
		r     ranges
		cells int
		most  uint64
		want  int // cells; 0: none is made
	}{
		{"all", allRanges, 100, 1000, 200},
		{"some", 0b101, 100, 250, 200},
		{"most cells", allRanges, makeMost, 1000, makeMost},
		{"too many cells", allRanges, makeMost + 1, 1000, 0},
		{"too many items", allRanges, 100, 999, 0},
		{"too many items in some", 0b101, 100, 249, 0},
	} {
		s := fresh()
		kept := s.sk.mine
		made := s.makeSketch(c.r, c.cells, c.most)
		if made != (c.want > 0) || made && s.sk.mine.Cells() != c.want || !made && s.sk.mine != kept {
			t.Errorf("%s: made %v, %d cells, want %d", c.name, made, s.sk.mine.Cells(), c.want)
		}
		if made && s.makeSketch(c.r, c.cells, c.most) {
			t.Errorf("%s: made twice", c.name)
		}
		if items := s.itemsIn(c.r); items != uint64(c.r.len())*125 {
			t.Errorf("%s: %d items in %d ranges", c.name, items, bits.OnesCount8(uint8(c.r)))
		}
	}
	s := fresh()
	s.sk.probe = nil
	if s.makeSketch(1, 10, 1000) {
		t.Error("a sketch was made of a range of no probe")
	}
	if got := s.mostCells(); got != makeMost {
		t.Errorf("%d cells could be had, want %d", got, makeMost)
	}
	s.cfg.MaxMade = 999
	if got := s.mostCells(); got != s.sk.mine.Cells() {
		t.Errorf("%d cells could be had of too many items, want those that are kept", got)
	}
	for _, c := range []struct {
		groups, cells int
		want          bool
	}{{1, 3000, true}, {1, 3500, false}, {64, 40, true}, {64, 60, false}} {
		if got := fresh().mayMake(allRanges, c.groups, c.cells); got != c.want {
			t.Errorf("a peer may have %d groups of %d cells made of 1000 items: %v, want %v", c.groups, c.cells, got, c.want)
		}
	}
}
