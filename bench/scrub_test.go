package bench

import (
	"context"
	"testing"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
)

// BenchmarkScrub measures how long a pass of the scrub takes at its default
// share of a core, what share of a core it really takes, and how long a verify
// takes, which does the same at full speed. The keys are 16 random bytes, the
// values 100. It has a tenth of -ops items.
func BenchmarkScrub(b *testing.B) {
	for b.Loop() {
		benchScrub(b, b, *ops/10)
	}
}

func benchScrub(tb testing.TB, b meter, n int) {
	dir := tb.TempDir()
	run := func(scrub float64, do func(*replica.Master)) {
		st, err := badgerstore.Open(dir, badgerstore.Options{NoSync: true})
		if err != nil {
			tb.Fatal(err)
		}
		defer st.Close()
		m, err := replica.NewMaster(st, replica.MasterConfig{Scrub: scrub})
		if err != nil {
			tb.Fatal(err)
		}
		stop := background(m.Run)
		do(m)
		if err := stop(); err != nil {
			tb.Fatal(err)
		}
	}
	run(-1, func(m *replica.Master) {
		fillWith(tb, m, treeKeys(n))
		began := time.Now()
		if rep, err := m.Verify(context.Background()); err != nil || !rep.OK || rep.Items != uint64(n) {
			tb.Fatalf("verify: %+v, %v", rep, err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s/verify")
	})
	run(0, func(m *replica.Master) {
		<-m.Ready()
		began, cpu := time.Now(), cpuTime()
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for m.Status().Scrub.Passes == 0 {
			<-ticker.C
		}
		took := time.Since(began)
		s := m.Status().Scrub
		if s.Items != uint64(n) || s.Found != 0 {
			tb.Fatalf("a pass looked at %d of %d items and found %d", s.Items, n, s.Found)
		}
		b.ReportMetric(s.TookSeconds, "s/pass")
		b.ReportMetric((cpuTime()-cpu).Seconds()/took.Seconds(), "cores")
	})
}
