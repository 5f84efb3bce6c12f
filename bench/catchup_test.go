package bench

import (
	"testing"
	"time"
)

// BenchmarkCatchUp measures how long a follower whose connection was cut takes
// from the moment it may connect again until it has the 60,000 ops that it
// missed, in commits of 100, beside the straw man, which has nothing to
// check; and then the same in 60,000 commits of one op. A connection that is cut
// leaves attempts to connect waiting, except in "refused", where they fail at
// once and the follower tries again from time to time: there the time
// includes "retry", from when it may connect to its next attempt, and "outage" is
// how long it could not.
func BenchmarkCatchUp(b *testing.B) {
	for b.Loop() {
		benchCatchUp(b, 60_000)
	}
}

func benchCatchUp(b meter, n int) {
	ours, theirs, single, refused := new(outages), new(outages), new(outages), new(outages)
	for round := range *rounds {
		seed := uint64(round+1) << 32
		load := call{Do: "load", N: n, Commit: 100, Seed: seed}
		ours.addNew(b, startSdiff(b, false, call{}), load, call{})
		theirs.addNew(b, startStraw(b, call{}), load, call{})
		single.addNew(b, startSdiff(b, false, call{}), call{Do: "puts", N: n, Seed: seed}, call{})
		refused.addNew(b, startSdiff(b, false, call{}), load, call{Refuse: true})
	}
	b.ReportMetric(median(ours.ms), "ms")
	b.ReportMetric(median(theirs.ms), "straw-ms")
	b.ReportMetric(median(single.ms), "single-ms")
	b.ReportMetric(median(refused.ms), "refused-ms")
	b.ReportMetric(median(refused.retries), "retry-ms")
	b.ReportMetric(median(refused.lengths), "outage-ms")
	b.ReportMetric(float64(ours.bytes)/float64(n), "B/op")
	b.ReportMetric(float64(single.bytes)/float64(n), "single-B/op")
	b.ReportMetric(float64(theirs.bytes)/float64(n), "straw-B/op")
	reportRatios(b, ours.ms, theirs.ms, "time-ratio")
}

// An outages is the figures of times in which a follower was cut off, all of a
// kind.
type outages struct {
	lengths []float64 // milliseconds, as the others
	retries []float64 // from its end to the next attempt to connect
	ms      []float64 // from its end until the follower has all it missed
	bytes   uint64    // sent for that, in the last one
}

// add cuts a follower off as how says, has the master write, and adds the
// figures.
func (o *outages) add(d *duo, c, how call) {
	d.f.tb.Helper()
	how.Do = "cut"
	began := time.Now()
	d.f.do(how)
	written := d.m.do(c)
	o.lengths = append(o.lengths, millis(time.Since(began)))
	took, sent := d.rejoin(written)
	o.ms, o.bytes = append(o.ms, millis(took)), sent
}

// addNew does so with a new master and follower, which it ends: the more often a
// follower was cut off of late, the longer it waits before it connects.
func (o *outages) addNew(b meter, d *duo, c, how call) {
	b.Helper()
	defer d.stop()
	o.add(d, c, how)
	for _, retry := range d.f.do(call{Do: "retry"}).Times {
		o.retries = append(o.retries, millis(retry))
	}
	if reps := d.f.do(call{Do: "repairs"}).Repairs; len(reps) > 1 { // than the first copy
		b.Fatalf("there were %d repairs: %+v", len(reps), reps)
	}
}

// rejoin lets the follower connect again. It returns how long it takes until the
// follower has all that the master had written, and the bytes sent.
func (d *duo) rejoin(written answer) (time.Duration, uint64) {
	d.f.tb.Helper()
	before := d.f.do(call{Do: "bytes"}).Bytes
	began := time.Now()
	d.f.do(call{Do: "heal"})
	d.f.do(call{Do: "wait", Offset: written.Offset, Pos: written.Pos})
	took := time.Since(began)
	return took, d.f.do(call{Do: "bytes"}).Bytes - before
}
