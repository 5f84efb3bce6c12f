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

func benchWrites(b meter, n, commit int) {
	var rates, theirs, spent, theirSpent []float64
	var bytes uint64
	for round := range *rounds {
		for i := range 2 {
			var d *duo
			if i == 0 {
				d = startSdiff(b, false)
			} else {
				d = startStraw(b)
			}
			before := d.f.do(call{Do: "bytes"}).Bytes
			m0, f0, t0 := cpu(d.m), cpu(d.f), time.Now()
			d.write(call{Do: "load", N: n, Commit: commit, Seed: uint64(round + 1)})
			took := time.Since(t0)
			m1, f1 := cpu(d.m)-m0, cpu(d.f)-f0
			b.Logf("%s: %v, cpu %v + %v", d.name, took, m1, f1)
			used := m1 + f1
			if i == 0 {
				bytes = d.f.do(call{Do: "bytes"}).Bytes - before
				rates = append(rates, float64(n)/took.Seconds())
				spent = append(spent, micros(used)/float64(n))
			} else {
				theirs = append(theirs, float64(n)/took.Seconds())
				theirSpent = append(theirSpent, micros(used)/float64(n))
			}
			d.stop()
		}
	}
	b.ReportMetric(median(rates), "writes/s")
	b.ReportMetric(median(theirs), "straw-writes/s")
	b.ReportMetric(float64(bytes)/float64(n), "wire-B/op")
	b.ReportMetric(median(spent), "cpu-us/op")
	b.ReportMetric(median(theirSpent), "straw-cpu-us/op")
	reportRatios(b, rates, theirs, "ratio")
	reportRatios(b, spent, theirSpent, "cpu-ratio")
}
