package bench

import (
	"testing"
	"time"
)

// BenchmarkCatchUp measures how long a follower whose connection was cut takes
// from the moment it may connect again until it has the 60,000 ops that it
// missed, in commits of 1000, beside the straw man, which has nothing to
// check; and then the same in 60,000 commits of one op.
func BenchmarkCatchUp(b *testing.B) {
	for b.Loop() {
		benchCatchUp(b, 60_000)
	}
}

func benchCatchUp(b meter, n int) {
	us, them := startSdiff(b, false), startStraw(b, false)
	var ours, theirs, single []float64
	var bytes, singleBytes, theirBytes uint64
	for round := range *rounds {
		load := call{Do: "load", N: n, Commit: 1000, Seed: uint64(round + 1)}
		took, sent := us.missed(load)
		ours, bytes = append(ours, took.Seconds()), sent
		took, sent = them.missed(load)
		theirs, theirBytes = append(theirs, took.Seconds()), sent
		took, sent = us.missed(call{Do: "puts", N: n, Seed: uint64(round+1) * 1000})
		single, singleBytes = append(single, took.Seconds()), sent
	}
	b.ReportMetric(1000*median(ours), "ms")
	b.ReportMetric(1000*median(theirs), "straw-ms")
	b.ReportMetric(1000*median(single), "single-ms")
	b.ReportMetric(float64(bytes)/float64(n), "B/op")
	b.ReportMetric(float64(singleBytes)/float64(n), "single-B/op")
	b.ReportMetric(float64(theirBytes)/float64(n), "straw-B/op")
	reportRatios(b, ours, theirs, "time-ratio")
}

// missed cuts the connection, has the master write, and returns how long it
// takes after that until the follower has it all, and the bytes sent.
func (d *duo) missed(c call) (time.Duration, uint64) {
	d.f.tb.Helper()
	d.f.do(call{Do: "cut"})
	a := d.m.do(c)
	before := d.f.do(call{Do: "bytes"}).Bytes
	began := time.Now()
	d.f.do(call{Do: "heal"})
	d.f.do(call{Do: "wait", Offset: a.Offset, Pos: a.Pos})
	took := time.Since(began)
	return took, d.f.do(call{Do: "bytes"}).Bytes - before
}
