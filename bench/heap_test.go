package bench

import (
	"path/filepath"
	"testing"
)

// BenchmarkHeap measures what a master of -ops keys has in use on its heap
// after a collection, more than a process that has the same data in a bare Badger
// with the same options: for each key, and, as "less8MiB-B/key", without the 8 MiB
// that a small master has, too. Both were opened anew, so there are no commits
// in memory for followers, which take up to TailBytes more.
func BenchmarkHeap(b *testing.B) {
	for b.Loop() {
		benchHeap(b, *ops)
	}
}

func benchHeap(b meter, n int) {
	ours := reopened(b, "sdiff master", n)
	theirs := reopened(b, "backup source", n)
	more := ours - theirs
	b.Logf("%d bytes in use, and %d by Badger alone", ours, theirs)
	b.ReportMetric(float64(more)/float64(n), "B/key")
	b.ReportMetric(float64(more-8<<20)/float64(n), "less8MiB-B/key")
	b.ReportMetric(float64(more)/(1<<20), "MiB")
}

// reopened has a process fill a database and end, and returns what another one
// has in use that opens it.
func reopened(b meter, role string, n int) int64 {
	b.Helper()
	open := call{Do: "open", Dir: filepath.Join(b.TempDir(), "db"), Tuned: true}
	c := start(b, role)
	c.do(open)
	c.do(call{Do: "load", N: n, Commit: 1000, Seed: 1})
	c.stop()
	c = start(b, role)
	c.do(open)
	defer c.stop()
	return c.do(call{Do: "heap"}).Heap
}
