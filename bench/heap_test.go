package bench

import (
	"path/filepath"
	"testing"
)

// BenchmarkHeap measures what a master of -ops keys has in use on its heap
// after a collection, more than a process that has the same data in a bare Badger
// with the same options: for each key, and, as "less8MiB-B/key", without the 8 MiB
// that a small master has, too. Both are opened anew in each turn, so there are no
// commits in memory for followers, which take up to TailBytes more.
func BenchmarkHeap(b *testing.B) {
	for b.Loop() {
		benchHeap(b, *ops)
	}
}

func benchHeap(b meter, n int) {
	ours, theirs := filled(b, "sdiff master", n), filled(b, "backup source", n)
	var perKey, less, all []float64
	for range *rounds {
		one, other := opened(b, "sdiff master", ours), opened(b, "backup source", theirs)
		more := float64(one - other)
		b.Logf("%d bytes in use, and %d by Badger alone", one, other)
		perKey, less, all = append(perKey, more/float64(n)), append(less, (more-8<<20)/float64(n)), append(all, more/(1<<20))
	}
	b.ReportMetric(median(perKey), "B/key")
	b.ReportMetric(median(less), "less8MiB-B/key")
	b.ReportMetric(median(all), "MiB")
}

// filled has a process fill a database, and returns its directory.
func filled(b meter, role string, n int) string {
	b.Helper()
	dir := filepath.Join(b.TempDir(), "db")
	c := start(b, role)
	defer c.stop()
	c.do(call{Do: "open", Dir: dir, Tuned: true})
	c.do(call{Do: "load", N: n, Commit: 1000, Seed: 1})
	return dir
}

// opened returns what a process has in use that opens a database.
func opened(b meter, role, dir string) int64 {
	b.Helper()
	c := start(b, role)
	defer c.stop()
	c.do(call{Do: "open", Dir: dir, Tuned: true})
	return c.do(call{Do: "heap"}).Heap
}
