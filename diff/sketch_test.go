package diff_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/merkle"
)

var sketchPairs = flag.Int("sketch.pairs", 300, "pairs of trees that are compared with and without sketches")

// TestSketchesAndRangesFindTheSame compares many pairs of sets with a sketch on
// both sides, on one or on none: all of both, or a scope.
func TestSketchesAndRangesFindTheSame(t *testing.T) {
	methods := map[diff.Method]int{}
	reasons := map[string]int{}
	scopes := 0
	for seed := range *sketchPairs {
		r := rand.New(rand.NewPCG(uint64(seed), 4))
		p := newPair(r)
		if r.IntN(3) == 0 {
			p.scope(r, 1+len(p.model[r.IntN(2)]))
			scopes++
		}
		var frames [2]int
		cfg := func(s int) diff.Config {
			c := diff.Config{FrameBytes: []int{1, 100, 0}[r.IntN(3)], Window: 1 + r.IntN(8)}
			frames[s] = c.FrameBytes
			if r.IntN(8) > 0 {
				c.Sketch = p.sketch[s]
			}
			return c
		}
		a, b := newSide(p.snap[0], cfg(0)), newSide(p.snap[1], cfg(1))
		if err := run(a, b, func() bool { return r.IntN(2) == 0 }); err != nil {
			t.Fatalf("seed %d, %s: %v", seed, p.what, err)
		}
		if p.weak {
			checkHashes(t, a, b, p)
		} else {
			check(t, a, b, p.model[0], p.model[1])
		}
		if t.Failed() {
			t.Fatalf("seed %d, %s", seed, p.what)
		}
		checkStats(t, a, b)
		checkFrames(t, a, b, frames, p.longest)
		if t.Failed() {
			t.Fatalf("seed %d, %s: stats %+v and %+v", seed, p.what, a.Stats(), b.Stats())
		}
		methods[b.Stats().Method]++
		reasons[strings.Map(noDigits, b.Stats().Why)]++
	}
	t.Logf("%v, %d of scopes\n%v", methods, scopes, reasons)
	for _, m := range []diff.Method{diff.MethodNone, diff.MethodSketch, diff.MethodRanges} {
		if methods[m] == 0 {
			t.Errorf("none of the comparisons was done by %q", m)
		}
	}
}

// checkStats checks that both sides tell the same of what they did.
func checkStats(t *testing.T, a, b *side) {
	t.Helper()
	x, y := a.Stats(), b.Stats()
	if x.BytesIn != y.BytesOut || x.BytesOut != y.BytesIn || x.MessagesIn != y.MessagesOut || x.MessagesOut != y.MessagesIn {
		t.Errorf("one side has sent what the other has not got")
	}
	if x.Method != y.Method || x.Cells != y.Cells || x.Levels != y.Levels || x.RoundTrips != y.RoundTrips {
		t.Errorf("the sides tell different things")
	}
	if x.Why == "" && x.Method != diff.MethodSketch || y.Why == "" || x.RoundTrips < 1 || x.RoundTrips > x.Levels {
		t.Errorf("there is no reason, or a wrong number of round trips")
	}
	if x.Method == diff.MethodSketch && (x.Levels < 4 || x.Cells == 0 || !a.ascending() || !b.ascending() || len(a.whole)+len(b.whole) > 0) {
		t.Errorf("what was found by sketches is not in key order, or without any")
	}
	if x.Method == diff.MethodNone && (x.Levels != 2 || x.Cells != 0 || x.RoundTrips != 1) {
		t.Errorf("equal sets took more than a round trip")
	}
}

// checkFrames checks that no message is longer than FrameBytes by more than one
// entry: a list of 32 hashes, or a bound, or the opening, and the rest of the
// message.
func checkFrames(t *testing.T, a, b *side, frames [2]int, longest int) {
	t.Helper()
	for i, got := range []int{b.longest, a.longest} {
		frame := frames[i]
		if frame == 0 {
			frame = diff.DefaultFrameBytes
		}
		if most := frame + longest + 600; got > most {
			t.Errorf("side %d sent a message of %d bytes, want at most %d", i, got, most)
		}
	}
}

// checkHashes checks that what both have beside what each has found has the same
// hashes, as many of each.
func checkHashes(t *testing.T, a, b *side, p *pair) {
	t.Helper()
	counts := map[uint64]int{}
	for s, side := range []*side{a, b} {
		if !side.Done() || side.Left() > 0 {
			t.Errorf("side %d is not done", s)
		}
		for _, h := range p.model[s].minus(side.found) {
			counts[h] += 1 - 2*s
		}
	}
	for h, n := range counts {
		if n != 0 {
			t.Errorf("hash %x is left %d times more often on one side", h, n)
		}
	}
}

func noDigits(r rune) rune {
	if '0' <= r && r <= '9' {
		return -1
	}
	return r
}

var sketchSeeds = flag.Int("sketch.seeds", 3, "differences of each size that BenchmarkSketch makes")

// BenchmarkSketch compares n items with a set that differs from it in d: a third
// is missing, a third is extra, a third has another value. The time is that of
// both sides, from the two sketches and snapshots on, with the keys found and
// all messages encoded and decoded; the bytes are those of both directions. A
// round trip counts until the side that began knows what differs.
func BenchmarkSketch(b *testing.B) {
	for _, n := range []int{1_000_000, 10_000_000} {
		if n > *sketchItems {
			continue
		}
		left, right := sketched(n), sketched(n)
		for _, d := range []int{0, 1, 10, 100, 1000, 10_000, 100_000} {
			b.Run(fmt.Sprintf("n=%d/d=%d", n, d), func(b *testing.B) { benchSketch(b, left, right, d, false) })
		}
		b.Run(fmt.Sprintf("n=%d/d=%d/clustered", n, 100_000), func(b *testing.B) { benchSketch(b, left, right, 100_000, true) })
	}
}

// sketched returns a tree of n items that keeps a sketch.
func sketched(n int) *merkle.Tree {
	t := &merkle.Tree{}
	for i := range n {
		t.Put(key16(uint64(i)), merkle.XXH64().Hash(key16(uint64(i)), nil))
	}
	t.KeepSketch()
	return t
}

// differ makes d items of a tree differ from what it was, until undo is called:
// at random, or side by side.
func differ(t *merkle.Tree, d int, seed uint64, clustered bool) (undo func(), onlyBefore, onlyAfter int) {
	before := t.Snapshot()
	r := rand.New(rand.NewPCG(seed, uint64(d)))
	n := int(before.Summary().Count)
	first := r.IntN(n - d)
	var touched [][]byte
	for i, at := range r.Perm(n)[:d] {
		if clustered {
			at = first + i
		}
		key, hash, _ := before.At(uint64(at))
		switch i % 3 {
		case 0:
			t.Delete(key)
			onlyBefore++
		case 1:
			key = append(key, 'x')
			t.Put(key, r.Uint64())
			onlyAfter++
		case 2:
			t.Put(key, ^hash)
			onlyBefore++
			onlyAfter++
		}
		touched = append(touched, key)
	}
	return func() {
		for _, key := range touched {
			if hash, ok := before.Get(key); ok {
				t.Put(key, hash)
			} else {
				t.Delete(key)
			}
		}
	}, onlyBefore, onlyAfter
}

var sketchItems = flag.Int("sketch.items", 1_000_000, "the most items that BenchmarkSketch compares")

func benchSketch(b *testing.B, left, right *merkle.Tree, d int, clustered bool) {
	type sums struct{ bytes, trips, most, sketched float64 }
	var sum sums
	rounds := 0
	for b.Loop() {
		for seed := range *sketchSeeds {
			b.StopTimer()
			undo, onlyA, onlyB := differ(right, d, uint64(seed), clustered)
			runtime.GC()
			b.StartTimer()
			l := link{a: diff.New(left.Snapshot(), diff.Config{Sketch: left.Sketch()}), b: diff.New(right.Snapshot(), diff.Config{Sketch: right.Sketch()})}
			if err := l.run(); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if !l.a.Done() || !l.b.Done() || l.foundA != onlyA || l.foundB != onlyB {
				b.Fatalf("found %d and %d, want %d and %d", l.foundA, l.foundB, onlyA, onlyB)
			}
			undo()
			b.StartTimer()
			st := l.a.Stats()
			sum.bytes += float64(st.BytesIn + st.BytesOut)
			trips := float64(st.RoundTrips)
			sum.trips += trips
			sum.most = max(sum.most, trips)
			if st.Method == diff.MethodSketch {
				sum.sketched++
			}
			rounds++
		}
	}
	r := float64(rounds)
	b.ReportMetric(sum.bytes/r, "B")
	b.ReportMetric(sum.bytes/r/float64(max(1, d)), "B/diff")
	b.ReportMetric(sum.trips/r, "trips")
	b.ReportMetric(sum.most, "trips-max")
	b.ReportMetric(sum.sketched/r, "sketched")
	b.ReportMetric(b.Elapsed().Seconds()*1000/r, "cpu-ms")
}
