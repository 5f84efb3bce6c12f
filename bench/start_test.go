package bench

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
)

// BenchmarkStart measures how long it takes until a master of -ops keys is
// ready, its tree and sketch built, turn by turn with an iteration over the keys
// and values of a copy of the same database with the same options: "ready" and
// "scan" are without, "open" with the time that opening the database takes. "default"
// is the iteration as Badger does it if it is told nothing: it fetches values
// ahead, which takes longer where they are in the tables. Both directories were
// closed as they should be and are in the system's cache. sdiff reads with one
// goroutine and builds with another: on one core it takes longer.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		benchStart(b, *ops)
	}
}

func benchStart(b meter, n int) {
	dir := filepath.Join(b.TempDir(), "m")
	m := start(b, "sdiff master")
	m.do(call{Do: "open", Dir: dir})
	m.do(call{Do: "load", N: n, Commit: 1000, Seed: 1})
	m.stop()
	bare := filepath.Join(b.TempDir(), "bare")
	if err := os.CopyFS(bare, os.DirFS(dir)); err != nil {
		b.Fatal(err)
	}
	var opens, readies, scanOpens, scans, defaults []float64
	for range *rounds {
		opened, ready := startMaster(b, dir, n)
		opens, readies = append(opens, millis(opened+ready)), append(readies, millis(ready))
		opened, scanned := scanBare(b, bare, n, badger.IteratorOptions{})
		scanOpens, scans = append(scanOpens, millis(opened+scanned)), append(scans, millis(scanned))
		_, scanned = scanBare(b, bare, n, badger.DefaultIteratorOptions)
		defaults = append(defaults, millis(scanned))
	}
	b.ReportMetric(median(readies), "ready-ms")
	b.ReportMetric(median(opens), "open-ms")
	b.ReportMetric(median(scans), "scan-ms")
	b.ReportMetric(median(scanOpens), "scan-open-ms")
	b.ReportMetric(median(defaults), "default-ms")
	reportRatios(b, readies, scans, "ready-ratio")
	reportRatios(b, opens, scanOpens, "open-ratio")
	reportRatios(b, readies, defaults, "default-ratio")
}

// startMaster opens a store and runs a master until it is ready. It returns how
// long each took.
func startMaster(b meter, dir string, n int) (opened, ready time.Duration) {
	b.Helper()
	runtime.GC()
	began := time.Now()
	st, err := badgerstore.Open(dir, badgerstore.Options{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	opened = time.Since(began)
	m, err := replica.NewMaster(st, replica.MasterConfig{})
	if err != nil {
		b.Fatal(err)
	}
	began = time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	select {
	case <-m.Ready():
	case err := <-done:
		b.Fatal(err)
	}
	ready = time.Since(began)
	if got := m.Status().Keys; got != uint64(n) {
		b.Fatalf("the master has %d keys, not %d", got, n)
	}
	cancel()
	<-done
	if err := st.Close(); err != nil {
		b.Fatal(err)
	}
	return opened, ready
}

// scanBare opens a copy of a master's database and reads its items. It returns
// how long each took.
func scanBare(b meter, dir string, n int, opt badger.IteratorOptions) (opened, scanned time.Duration) {
	b.Helper()
	runtime.GC()
	began := time.Now()
	db, err := openStraw(call{Dir: dir, Tuned: true})
	if err != nil {
		b.Fatal(err)
	}
	opened = time.Since(began)
	began = time.Now()
	items := 0
	err = db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(opt)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			for it.Valid() && bytes.HasPrefix(it.Item().Key(), ownKeys) {
				it.Seek(afterOwnKeys)
			}
			if !it.Valid() {
				return nil
			}
			if err := it.Item().Value(func([]byte) error { items++; return nil }); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || items != n {
		b.Fatalf("%d items, not %d: %v", items, n, err)
	}
	scanned = time.Since(began)
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	return opened, scanned
}

// The keys of sdiff's own begin with ownKeys.
var ownKeys, afterOwnKeys = []byte("!sdiff!"), []byte("!sdiff\"")
