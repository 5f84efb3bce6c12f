package bench

import (
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkCopy measures how long it takes until an empty follower has all
// keys and is verified, beside a Backup of the same data loaded into an empty
// database over the same kind of connection, which verifies nothing.
func BenchmarkCopy(b *testing.B) {
	for b.Loop() {
		benchCopy(b, *ops)
	}
}

func benchCopy(b meter, n int) {
	us := startSdiff(b, true)
	source := start(b, "backup source")
	addr := source.do(call{Do: "open", Dir: b.TempDir()}).Addr
	load := call{Do: "load", N: n, Commit: 1000, Seed: 1}
	pos := us.m.do(load).Pos
	source.do(load)

	var ours, theirs, cpus, theirCPUs []float64
	var bytes, theirBytes uint64
	for range *rounds {
		m0 := cpu(us.m)
		f := start(b, "sdiff follower")
		t0 := time.Now()
		f.do(call{Do: "open", Dir: filepath.Join(b.TempDir(), "f"), Addr: us.addr})
		f.do(call{Do: "wait", Pos: pos})
		ours = append(ours, time.Since(t0).Seconds())
		a := f.do(call{Do: "bytes"})
		bytes = a.Bytes
		cpus = append(cpus, (a.CPU + cpu(us.m) - m0).Seconds())
		f.stop()

		s0 := cpu(source)
		r := start(b, "backup receiver")
		t0 = time.Now()
		r.do(call{Do: "open", Dir: filepath.Join(b.TempDir(), "r")})
		a = r.do(call{Do: "copy", Addr: addr})
		theirs = append(theirs, time.Since(t0).Seconds())
		theirBytes = a.Bytes
		theirCPUs = append(theirCPUs, (a.CPU + cpu(source) - s0).Seconds())
		source.do(call{Do: "check"})
		r.do(call{Do: "count", N: n})
		r.stop()
	}
	b.ReportMetric(float64(n)/median(ours), "keys/s")
	b.ReportMetric(float64(n)/median(theirs), "backup-keys/s")
	b.ReportMetric(float64(bytes)/float64(n), "B/key")
	b.ReportMetric(float64(theirBytes)/float64(n), "backup-B/key")
	reportRatios(b, ours, theirs, "time-ratio")
	reportRatios(b, cpus, theirCPUs, "cpu-ratio")
}
