package bench

import (
	"testing"
	"time"

	"github.com/sdiff/sdiff/replica"
)

// TestSmoke runs the body of every benchmark with little to do, so that they
// keep working while nobody looks at their figures.
func TestSmoke(t *testing.T) {
	t.Parallel()
	setFor(t, rounds, 1)
	setFor(t, ops, 2000)
	setFor(t, seeds, 2)
	m := logged{t}
	benchPut(m, treeKeys(2000))
	benchWrites(m, 5000, 1000, call{})
	benchWrites(m, 2000, 1000, call{Sync: true})
	benchWrites(m, 5000, 1000, call{Memory: true})
	benchLatency(m, 1, 20)
	benchCopy(m, 5000)
	benchCatchUp(m, 640)
	benchDurable(m, 4, 20*time.Millisecond)
	benchReads(t, m, 2000)
	benchScrub(t, m, 2000)
	benchDamage(m, 2000)
	benchTamper(m, 2000, func(f *child) { f.do(call{Do: "verify"}) }) // the scrub takes a minute
	benchStart(m, 2000)
	benchHeap(m, 2000)
	benchCrowd(m, 5, 2000)
	benchIdle(m, 20*time.Millisecond)

	p := newDrifting(m, 2000)
	for _, d := range []int{0, 1, 10, 100} {
		p.bench(m, d, false)
		p.bench(m, d, true)
	}
	c := newComparison(t, 2000)
	for _, kind := range []replica.Kind{replica.Changed, replica.Missing, replica.Extra} {
		rep := c.compare(t, c.follower(t, kind, 10), kind, 10)
		if rep.RoundTrips > 5 || rep.CompareBytes == 0 {
			t.Errorf("%s: %+v", kindName(kind), rep)
		}
	}
}

// TestSmokeLogGone runs beside TestSmoke, as most of it is waiting.
func TestSmokeLogGone(t *testing.T) {
	t.Parallel()
	benchLogGone(logged{t}, 2000, 1000, 1)
}

// A logged is a test that runs the body of a benchmark.
type logged struct{ *testing.T }

func (l logged) ReportMetric(n float64, unit string) { l.Logf("%.4g %s", n, unit) }

// setFor sets a flag for the time of a test.
func setFor[T any](t *testing.T, flag *T, v T) {
	old := *flag
	*flag = v
	t.Cleanup(func() { *flag = old })
}
