package merkle

import (
	"math"
	"testing"
)

// TestDifference holds the mean, the spread and the bounds of the estimate.
func TestDifference(t *testing.T) {
	for seed, c := range []struct{ items, runs int }{
		{1, 50}, {10, 900}, {100, 900}, {1000, 900}, {10_000, 200}, {100_000, 30}, {300_000, 20},
	} {
		var sum, squares float64
		far := 0
		for run := range c.runs {
			// Half of the items are on one side, half on the other; what both
			// have is not looked at.
			both := countersOf(hashes(seed*1000+999, 100))
			a, b := both, both
			for i, h := range hashes(seed*1000+run, c.items) {
				if i%2 == 0 {
					a.add(h, 1)
				} else {
					b.add(h, 1)
				}
			}
			if a.Difference(&b) != b.Difference(&a) {
				t.Fatal("the difference is not symmetric")
			}
			off := float64(a.Difference(&b))/float64(c.items) - 1
			sum += off
			squares += off * off
			if math.Abs(off) > 0.25 {
				far++
			}
		}
		n := float64(c.runs)
		mean, spread := sum/n, math.Sqrt(squares/n)
		t.Logf("%6d items: mean %+.3f, spread %.3f, off by more than a quarter in %.1f %%", c.items, mean, spread, 100*float64(far)/n)
		if math.Abs(mean) > 0.02+3*0.112/math.Sqrt(n) || spread > 0.14 || float64(far) > 0.04*n+3 {
			t.Errorf("%d items: mean %+.3f, spread %.3f, %d of %d runs off by more than a quarter", c.items, mean, spread, far, c.runs)
		}
	}
}

// TestDifferenceBounds holds what the estimate says of equal sets, of counters
// that have overflowed, and of items that came and went.
func TestDifferenceBounds(t *testing.T) {
	var a, b Counters
	for _, h := range hashes(0, 1000) {
		a.add(h, 1)
		b.add(h, 1)
	}
	if got := a.Difference(&b); got != 0 {
		t.Errorf("equal sets differ in %d items", got)
	}
	for _, h := range hashes(1, 1000) {
		a.add(h, 1)
		a.add(h, -1)
	}
	if a != b {
		t.Error("items that came and went are still counted")
	}
	for i, h := range hashes(2, 3_000_000) {
		a.add(h, 1)
		if n := i + 1; n%500_000 == 0 {
			if got := a.Difference(&b); got < 300_000 {
				t.Errorf("%d items: estimate %d, want 300,000 at least", n, got)
			}
		}
	}
}
