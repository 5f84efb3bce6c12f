package bench

import (
	"testing"
	"time"
)

// BenchmarkWrites measures how many writes a second go through both ends:
// 16-byte keys, 100-byte values, commits of 1000, until the follower has
// applied all; without waiting for the disk, with every batch on disk at both
// ends, and with stores in memory, which is beside nothing. The processor time of
// both ends is the figure that hardly depends on what else the machine does.
func BenchmarkWrites(b *testing.B) {
	for _, c := range []struct {
		name string
		how  call
	}{{"sync=off", call{}}, {"sync=on", call{Sync: true}}, {"memory", call{Memory: true}}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				benchWrites(b, *ops, 1000, c.how)
			}
		})
	}
}

// A side is one of those that are compared, with its figures of all rounds.
type side struct {
	start func() *duo
	rates []float64 // writes a second
	cpus  []float64 // microseconds of a write
	bytes uint64    // on the wire, in the last round
}

func benchWrites(b meter, n, commit int, how call) {
	tuned := how
	tuned.Tuned = true
	us := &side{start: func() *duo { return startSdiff(b, false, how) }}
	straw := &side{start: func() *duo { return startStraw(b, how) }}
	tunedStraw := &side{start: func() *duo { return startStraw(b, tuned) }}
	sides := []*side{us, straw, tunedStraw}
	if how.Memory {
		sides = sides[:1]
	}
	for round := range *rounds {
		for _, s := range sides {
			s.measure(b, call{Do: "load", N: n, Commit: commit, Seed: uint64(round + 1)})
		}
	}
	b.ReportMetric(median(us.rates), "writes/s")
	b.ReportMetric(float64(us.bytes)/float64(n), "wire-B/op")
	b.ReportMetric(median(us.cpus), "cpu-us/op")
	if how.Memory {
		return
	}
	b.ReportMetric(median(straw.rates), "straw-writes/s")
	reportRatios(b, us.rates, straw.rates, "ratio")
	reportRatios(b, us.cpus, straw.cpus, "cpu-ratio")
	reportRatios(b, us.rates, tunedStraw.rates, "tuned-ratio")
	reportRatios(b, us.cpus, tunedStraw.cpus, "tuned-cpu-ratio")
}

// measure has a new master and follower write, and adds the figures.
func (s *side) measure(b meter, load call) {
	d := s.start()
	defer d.stop()
	before := d.f.do(call{Do: "bytes"}).Bytes
	m0, f0, t0 := cpu(d.m), cpu(d.f), time.Now()
	d.write(load)
	took := time.Since(t0)
	m1, f1 := cpu(d.m)-m0, cpu(d.f)-f0
	b.Logf("%s: %v, processor time %v + %v", d.name, took, m1, f1)
	s.rates = append(s.rates, float64(load.N)/took.Seconds())
	s.cpus = append(s.cpus, micros(m1+f1)/float64(load.N))
	s.bytes = d.f.do(call{Do: "bytes"}).Bytes - before
}
