package diff_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/merkle"
)

// keep returns a tree of items that keeps a sketch.
func (a items) keep() *merkle.Tree {
	t := a.snapshot().Tree()
	t.KeepSketch()
	return t
}

// sketchSides returns both sides of a comparison by sketches.
func sketchSides(left, right *merkle.Tree, cfg diff.Config) (a, b *side) {
	cfg.Sketch = left.Sketch()
	a = newSide(left.Snapshot(), cfg)
	cfg.Sketch = right.Sketch()
	return a, newSide(right.Snapshot(), cfg)
}

// TestSketchOfFewDifferences checks what a small difference costs, of items that
// have another value on the other side, hence two hashes, and what is told of
// that, on both sides.
func TestSketchOfFewDifferences(t *testing.T) {
	const n = 100_000
	left := numbered(t, n, 0).Tree()
	left.KeepSketch()
	for _, c := range []struct{ d, bytes, trips int }{{0, 250, 1}, {1, 400, 1}, {10, 1400, 2}, {100, 7500, 2}, {1000, 65_000, 3}} {
		tree := left.Snapshot().Tree()
		tree.KeepSketch()
		r := rand.New(rand.NewPCG(uint64(c.d), 7))
		for _, i := range r.Perm(n)[:c.d] {
			key, hash, _ := left.At(uint64(i))
			tree.Put(key, hash+1)
		}
		a, b := sketchSides(left, tree, diff.Config{})
		if err := run(a, b, func() bool { return false }); err != nil {
			t.Fatal(err)
		}
		st := a.Stats()
		if got := int(st.BytesIn + st.BytesOut); got > c.bytes || st.RoundTrips > c.trips {
			t.Errorf("%d items differ: %d bytes and %d round trips, want at most %d and %d", c.d, got, st.RoundTrips, c.bytes, c.trips)
		}
		if len(a.found) != c.d || len(b.found) != c.d {
			t.Errorf("%d items differ: found %d and %d", c.d, len(a.found), len(b.found))
		}
		method := diff.MethodSketch
		if c.d == 0 {
			method = diff.MethodNone
		}
		if st.Method != method {
			t.Errorf("%d items differ: compared by %q because %q, want %q", c.d, b.Stats().Method, b.Stats().Why, method)
		}
		checkStats(t, a, b)
	}
}

// TestFewItemsAreListedAtOnce checks that a side with few items, be it an empty
// follower, says so in less than an opening, and in one round trip: it opened,
// and got the summaries of all that the other side holds.
func TestFewItemsAreListedAtOnce(t *testing.T) {
	const n = 5000
	all := numbered(t, n, 0)
	full := all.Tree()
	full.KeepSketch()
	for _, few := range []int{0, 1, 24} {
		var tree merkle.Tree
		for i := range few {
			key, hash, _ := all.At(uint64(200 * i))
			tree.Put(key, hash)
		}
		tree.KeepSketch()
		a, b := sketchSides(&tree, full, diff.Config{})
		if err := run(a, b, func() bool { return false }); err != nil {
			t.Fatal(err)
		}
		st := a.Stats()
		if got := st.BytesIn + st.BytesOut; got > 250 || st.RoundTrips != 1 {
			t.Errorf("%d items: %d bytes and %d round trips, want at most 250 and one", few, got, st.RoundTrips)
		}
		if len(a.found) != 0 || len(b.found) != n-few || a.Stats().Method != diff.MethodRanges {
			t.Errorf("%d items: found %d and %d by %q", few, len(a.found), len(b.found), a.Stats().Method)
		}
		checkStats(t, a, b)
	}
}

// TestLackedItemLikeAnother checks that who is asked for an item, by the upper
// bits of its hash, does not take another one for it that begins alike.
func TestLackedItemLikeAnother(t *testing.T) {
	const n = 1000
	base := numbered(t, n, 0)
	_, lacked, _ := base.At(500)
	for _, c := range []struct {
		low  uint64 // by what the hash of the other one differs
		want diff.Method
	}{{1, diff.MethodRanges}, {1 << 23, diff.MethodRanges}, {1 << 24, diff.MethodSketch}, {1 << 40, diff.MethodSketch}} {
		left, right := base.Tree(), base.Tree()
		for _, tree := range []*merkle.Tree{left, right} {
			tree.Put([]byte("like it"), lacked^c.low)
			tree.KeepSketch()
		}
		key, _, _ := base.At(500)
		left.Delete(key)
		a, b := sketchSides(left, right, diff.Config{})
		if err := run(a, b, func() bool { return false }); err != nil {
			t.Fatal(err)
		}
		if st := b.Stats(); st.Method != c.want {
			t.Errorf("another hash that differs by %x: compared by %q because %q, want %q", c.low, st.Method, st.Why, c.want)
		}
		if len(a.found) != 0 || len(b.found) != 1 || b.found[string(key)] != lacked {
			t.Errorf("another hash that differs by %x: found %d and %v", c.low, len(a.found), b.found)
		}
	}
}

// TestOpeningSentBefore begins comparisons with openings of what a side held
// some time before: they are right all the same.
func TestOpeningSentBefore(t *testing.T) {
	methods := map[diff.Method]int{}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 9))
		p := newPair(r)
		if p.weak || p.tree[0].Sketch() == nil {
			continue
		}
		before := p.tree[0].Snapshot().Tree()
		for i := range r.IntN(200) {
			before.Put(fmt.Appendf(nil, "before%d", i), r.Uint64())
		}
		before.KeepSketch()
		counters, cells := before.Counters()
		opening, ok := diff.Opening(before.Snapshot(), min(cells, p.tree[0].Sketch().Cells()), counters)
		if !ok {
			continue
		}
		a := newSide(p.tree[0].Snapshot(), diff.Config{Sketch: p.tree[0].Sketch()})
		b := newSide(p.tree[1].Snapshot(), diff.Config{Sketch: p.tree[1].Sketch()})
		if err := a.StartWith(opening); err != nil {
			t.Fatal(err)
		}
		b.receive(nil)
		b.inbox = [][]byte{opening.Append(nil)}
		if err := deliver(a, b, func() bool { return r.IntN(2) == 0 }); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		methods[b.Stats().Method]++
		if b.Stats().Method == diff.MethodNone {
			continue // what it held before was equal; the owner sees that it is not
		}
		check(t, a, b, p.model[0], p.model[1])
		checkStats(t, a, b)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if methods[diff.MethodSketch] < 20 || methods[diff.MethodRanges] == 0 {
		t.Errorf("%v, want sketches and ranges", methods)
	}
}

// TestClusteredDifferences checks that of many differences side by side the
// ranges tell, and of as many all over the sketch.
func TestClusteredDifferences(t *testing.T) {
	const n, d = 20_000, 1000
	left := numbered(t, n, 0).Tree()
	left.KeepSketch()
	for _, c := range []struct {
		step int // from one that differs to the next
		want diff.Method
	}{{1, diff.MethodRanges}, {n / d, diff.MethodSketch}} {
		tree := left.Snapshot().Tree()
		for i := range d {
			key, hash, _ := left.At(uint64(i * c.step))
			tree.Put(key, hash+1)
		}
		tree.KeepSketch()
		a, b := sketchSides(left, tree, diff.Config{})
		if err := run(a, b, func() bool { return false }); err != nil {
			t.Fatal(err)
		}
		if st := b.Stats(); st.Method != c.want || len(a.found) != d || len(b.found) != d {
			t.Errorf("every %d. item: compared by %q because %q, found %d and %d; want %q, %d", c.step, st.Method, st.Why, len(a.found), len(b.found), c.want, d)
		}
		checkStats(t, a, b)
	}
}

// TestSketchWindow compares one cell and one hash at a time, in a window of one.
func TestSketchWindow(t *testing.T) {
	left := numbered(t, 2000, 0).Tree()
	tree := left.Snapshot().Tree()
	for i := range 100 {
		key, hash, _ := left.At(uint64(17 * i))
		tree.Put(key, hash+1)
	}
	left.KeepSketch()
	tree.KeepSketch()
	for _, frame := range []int{1, 100, 1000} {
		for _, window := range []int{1, 3} {
			a, b := sketchSides(left, tree, diff.Config{FrameBytes: frame, Window: window})
			r := rand.New(rand.NewPCG(uint64(frame), uint64(window)))
			if err := run(a, b, func() bool { return r.IntN(2) == 0 }); err != nil {
				t.Fatal(err)
			}
			if len(a.found) != 100 || len(b.found) != 100 || a.Stats().Method != diff.MethodSketch {
				t.Errorf("frame %d, window %d: found %d and %d by %q", frame, window, len(a.found), len(b.found), a.Stats().Method)
			}
			// A cell or a hash, and the rest of the message; the opening is 180 and a probe.
			if got, most := a.longest, frame+60; got > most {
				t.Errorf("frame %d: the responder sent %d bytes at once, want at most %d", frame, got, most)
			}
			if got, most := b.longest, max(frame+30, 300); got > most {
				t.Errorf("frame %d: the initiator sent %d bytes at once, want at most %d", frame, got, most)
			}
			if a.most > window || b.most > window {
				t.Errorf("window %d: %d and %d messages at once", window, a.most, b.most)
			}
		}
	}
}

// TestEqualHashesInSketches compares sets in which items share hashes, on one
// side or on both, so that they cancel each other out in the cells. What is left
// are the same hashes, as many of each.
func TestEqualHashesInSketches(t *testing.T) {
	methods := map[diff.Method]int{}
	rapid.Check(t, func(t *rapid.T) {
		common := items{}
		for i := range rapid.IntRange(30, 200).Draw(t, "common") {
			common[string(rune('a'+i%7))+string(rune('0'+i))] = itemHash(string(rune(i)), 0)
		}
		kinds := rapid.IntRange(1, 20).Draw(t, "hashes")
		draw := func() items {
			out := maps.Clone(common)
			for range rapid.IntRange(0, 10).Draw(t, "items") {
				out[drawKey(t)] = itemHash("shared", byte(rapid.IntRange(1, kinds).Draw(t, "hash")))
			}
			return out
		}
		inA, inB := draw(), draw()
		a, b := sketchSides(inA.keep(), inB.keep(), drawConfig(t, "both"))
		if err := run(a, b, func() bool { return rapid.Bool().Draw(t, "deliver to a") }); err != nil {
			t.Fatal(err)
		}
		counts := map[uint64]int{}
		for s, side := range []*side{a, b} {
			if !side.Done() || side.Left() > 0 {
				t.Errorf("side %d is not done", s)
			}
			for _, h := range []items{inA, inB}[s].minus(side.found) {
				counts[h] += 1 - 2*s
			}
		}
		for h, n := range counts {
			if n != 0 {
				t.Errorf("hash %x is left %d times more often on one side", h, n)
			}
		}
		methods[a.Stats().Method]++
	})
	if methods[diff.MethodSketch] == 0 || methods[diff.MethodRanges] == 0 {
		t.Errorf("compared by %v, want some by sketches and some by ranges", methods)
	}
}
