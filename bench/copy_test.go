package bench

import (
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkCopy measures how long it takes until an empty follower has all
// keys and is verified, beside a Backup of the same data loaded into an empty
// database over the same kind of connection, which verifies nothing, and beside
// a straw man that sends all its batches again.
func BenchmarkCopy(b *testing.B) {
	for b.Loop() {
		benchCopy(b, *ops)
	}
}

func benchCopy(b meter, n int) {
	us := startSdiff(b, true, call{})
	source, straw := start(b, "backup source"), start(b, "straw master")
	addr := source.do(call{Do: "open", Dir: b.TempDir()}).Addr
	strawAddr := straw.do(call{Do: "open", Dir: b.TempDir()}).Addr
	load := call{Do: "load", N: n, Commit: 1000, Seed: 1}
	last := us.m.do(load)
	source.do(load)
	batches := straw.do(load).Offset

	ours, backup, replay := new(copying), new(copying), new(copying)
	for range *rounds {
		ours.measure(b, us.m, "sdiff follower", call{Addr: us.addr}, func(f *child) uint64 {
			f.do(call{Do: "wait", Pos: last.Pos})
			return f.do(call{Do: "bytes"}).Bytes
		})
		backup.measure(b, source, "backup receiver", call{}, func(r *child) uint64 {
			return r.do(call{Do: "copy", Addr: addr, N: n}).Bytes
		})
		source.do(call{Do: "check"})
		replay.measure(b, straw, "straw follower", call{Addr: strawAddr}, func(f *child) uint64 {
			return f.do(call{Do: "wait", Offset: batches}).Bytes
		})
	}
	b.ReportMetric(float64(n)/median(ours.seconds), "keys/s")
	b.ReportMetric(float64(n)/median(backup.seconds), "backup-keys/s")
	b.ReportMetric(float64(n)/median(replay.seconds), "straw-keys/s")
	b.ReportMetric(float64(ours.bytes)/float64(n), "B/key")
	b.ReportMetric(float64(backup.bytes)/float64(n), "backup-B/key")
	reportRatios(b, ours.seconds, backup.seconds, "time-ratio")
	reportRatios(b, ours.cpus, backup.cpus, "cpu-ratio")
	reportRatios(b, ours.seconds, replay.seconds, "straw-time-ratio")
}

// A copying is the figures of one way to copy.
type copying struct {
	seconds, cpus []float64
	bytes         uint64 // of the last copy
}

// measure starts a receiver with an empty database and has it get a copy, which
// copied waits for. It adds the figures, the source's processor time included.
func (c *copying) measure(b meter, source *child, role string, how call, copied func(*child) uint64) {
	before := cpu(source)
	r := start(b, role)
	defer r.stop()
	how.Do, how.Dir = "open", filepath.Join(b.TempDir(), "r")
	began := time.Now()
	r.do(how)
	c.bytes = copied(r)
	c.seconds = append(c.seconds, time.Since(began).Seconds())
	c.cpus = append(c.cpus, (cpu(r, source) - before).Seconds())
}
