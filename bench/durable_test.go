package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
	"github.com/sdiff/sdiff/stream"
)

// BenchmarkDurable measures single writes that are on disk when they are
// acknowledged, from several callers at once, beside Badger alone with a
// transaction for each.
func BenchmarkDurable(b *testing.B) {
	for _, writers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			for b.Loop() {
				benchDurable(b, writers, time.Duration(*seconds*float64(time.Second))/2)
			}
		})
	}
}

func benchDurable(b meter, writers int, length time.Duration) {
	ctx := context.Background()
	st, err := badgerstore.Open(b.TempDir(), badgerstore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	m, err := replica.NewMaster(st, replica.MasterConfig{})
	if err != nil {
		b.Fatal(err)
	}
	stop := background(m.Run)
	defer stop()
	db, err := badger.Open(badger.DefaultOptions(b.TempDir()).WithSyncWrites(true).WithLogger(nil))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()

	var rates, theirs, p99s, theirP99s []float64
	for range *rounds {
		n, ages := concurrently(b, writers, length, func(op stream.Op) error {
			_, err := m.Put(ctx, op.Key, op.Value)
			return err
		})
		rates = append(rates, float64(n)/length.Seconds())
		p99s = append(p99s, micros(percentile(ages, 0.99)))
		n, ages = concurrently(b, writers, length, func(op stream.Op) error {
			return db.Update(func(txn *badger.Txn) error { return txn.Set(op.Key, op.Value) })
		})
		theirs = append(theirs, float64(n)/length.Seconds())
		theirP99s = append(theirP99s, micros(percentile(ages, 0.99)))
	}
	b.ReportMetric(median(rates), "writes/s")
	b.ReportMetric(median(p99s), "p99-us")
	b.ReportMetric(median(theirs), "badger-writes/s")
	b.ReportMetric(median(theirP99s), "badger-p99-us")
	reportRatios(b, rates, theirs, "ratio")
}

// concurrently has some goroutines write for a time. It returns how many
// writes they made, and how long a part of them took.
func concurrently(tb testing.TB, writers int, length time.Duration, put func(stream.Op) error) (int, []time.Duration) {
	tb.Helper()
	var wg sync.WaitGroup
	var n atomic.Int64
	ages := make([][]time.Duration, writers)
	began := time.Now()
	for i := range writers {
		wg.Go(func() {
			w := newWorkload(uint64(began.UnixNano()) + uint64(i))
			for time.Since(began) < length {
				// A store may keep the slices for as long as put runs.
				op := w.next(1)[0]
				t0 := time.Now()
				if err := put(op); err != nil {
					tb.Error(err)
					return
				}
				ages[i] = append(ages[i], time.Since(t0))
				n.Add(1)
			}
		})
	}
	wg.Wait()
	var all []time.Duration
	for _, a := range ages {
		all = append(all, a...)
	}
	return int(n.Load()), all
}
