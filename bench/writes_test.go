package bench

import (
	"testing"
	"time"
)

// BenchmarkWrites measures how many writes a second go through both ends:
// 16-byte keys, 100-byte values, commits of 1000, until the follower has
// applied all. The processor time of both ends is the figure that hardly
// depends on what else the machine does.
func BenchmarkWrites(b *testing.B) {
	for b.Loop() {
		benchWrites(b, *ops, 1000)
	}
}

// A side is one of those that are compared, with its figures of all rounds.
type side struct {
	start func() *duo
	rates []float64 // writes a second
	cpus  []float64 // microseconds of a write
	bytes uint64    // on the wire, in the last round
}

func benchWrites(b meter, n, commit int) {
	us := &side{start: func() *duo { return startSdiff(b, false) }}
	straw := &side{start: func() *duo { return startStraw(b, false) }}
	tuned := &side{start: func() *duo { return startStraw(b, true) }}
	for round := range *rounds {
		for _, s := range []*side{us, straw, tuned} {
			d := s.start()
			before := d.f.do(call{Do: "bytes"}).Bytes
			m0, f0, t0 := cpu(d.m), cpu(d.f), time.Now()
			d.write(call{Do: "load", N: n, Commit: commit, Seed: uint64(round + 1)})
			took := time.Since(t0)
			m1, f1 := cpu(d.m)-m0, cpu(d.f)-f0
			b.Logf("%s: %v, processor time %v + %v", d.name, took, m1, f1)
			s.rates = append(s.rates, float64(n)/took.Seconds())
			s.cpus = append(s.cpus, micros(m1+f1)/float64(n))
			s.bytes = d.f.do(call{Do: "bytes"}).Bytes - before
			d.stop()
		}
	}
	b.ReportMetric(median(us.rates), "writes/s")
	b.ReportMetric(median(straw.rates), "straw-writes/s")
	b.ReportMetric(float64(us.bytes)/float64(n), "wire-B/op")
	b.ReportMetric(median(us.cpus), "cpu-us/op")
	reportRatios(b, us.rates, straw.rates, "ratio")
	reportRatios(b, us.cpus, straw.cpus, "cpu-ratio")
	reportRatios(b, us.rates, tuned.rates, "tuned-ratio")
	reportRatios(b, us.cpus, tuned.cpus, "tuned-cpu-ratio")
}
