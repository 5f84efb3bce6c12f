package bench

import (
	"testing"
	"time"
)

// BenchmarkIdle measures the bytes of a connection, both ways, and the
// processor time of both ends while nothing is written, for -seconds, beside that
// of a process with the same data in a bare Badger. There are a thousand keys, so
// that the scrub has come to its end before.
func BenchmarkIdle(b *testing.B) {
	for b.Loop() {
		benchIdle(b, time.Duration(*seconds*float64(time.Second)))
	}
}

func benchIdle(b meter, length time.Duration) {
	load := call{Do: "load", N: 1000, Commit: 1000, Seed: 1}
	d, bare := startSdiff(b, false, call{}), start(b, "backup source")
	bare.do(call{Do: "open", Dir: b.TempDir(), Tuned: true})
	bare.do(load)
	d.write(load)
	<-time.After(length / 2) // acknowledgements, and what else comes after a write
	all := []*child{d.m, d.f, bare}
	var used [3]time.Duration
	for i, c := range all {
		used[i] = -cpu(c)
	}
	sent, began := d.f.do(call{Do: "bytes"}).Bytes, time.Now()
	<-time.After(length)
	sent = d.f.do(call{Do: "bytes"}).Bytes - sent
	took := time.Since(began).Seconds()
	b.ReportMetric(float64(sent)/took, "B/s")
	for i, who := range []string{"master", "follower", "bare"} {
		b.ReportMetric(micros(used[i]+cpu(all[i]))/took, who+"-us/s")
	}
}
