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
// transaction for each, and beside a committer that gathers them as sdiff does. A
// turn takes a quarter of -seconds.
func BenchmarkDurable(b *testing.B) {
	for _, writers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			for b.Loop() {
				benchDurable(b, writers, time.Duration(*seconds*float64(time.Second))/4)
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
	com := newCommitter(b)
	defer com.close(b)

	sides := []*puts{
		{put: func(op stream.Op) error {
			_, err := m.Put(ctx, op.Key, op.Value)
			return err
		}},
		{put: func(op stream.Op) error {
			return db.Update(func(txn *badger.Txn) error { return txn.Set(op.Key, op.Value) })
		}},
		{put: com.put},
	}
	for range *rounds {
		for _, s := range sides {
			n, ages := concurrently(b, writers, length, s.put)
			s.rates = append(s.rates, float64(n)/length.Seconds())
			s.p99s = append(s.p99s, micros(percentile(ages, 0.99)))
		}
	}
	for i, prefix := range []string{"", "badger-", "committer-"} {
		b.ReportMetric(median(sides[i].rates), prefix+"writes/s")
		b.ReportMetric(median(sides[i].p99s), prefix+"p99-us")
	}
	reportRatios(b, sides[0].rates, sides[1].rates, "ratio")
	reportRatios(b, sides[0].rates, sides[2].rates, "committer-ratio")
	checkPuts(b, m, st, com)
}

// A puts is one way to write an item, with its figures of all rounds.
type puts struct {
	put         func(stream.Op) error
	rates, p99s []float64
}

// checkPuts checks that what was written is there.
func checkPuts(b meter, m *replica.Master, st *badgerstore.Store, com *committer) {
	b.Helper()
	rep, err := m.Verify(context.Background())
	if err != nil || !rep.OK || rep.Items != m.Status().Offset {
		b.Fatalf("%d commits of one item: %+v, %v", m.Status().Offset, rep, err)
	}
	v, err := st.View()
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	meta, err := v.Meta()
	if err != nil || meta.Position.Offset != rep.Items {
		b.Fatalf("%d items, and the meta %+v, %v", rep.Items, meta, err)
	}
	if got := com.count(b); got != int(com.meta.Position.Offset) {
		b.Fatalf("the committer's database has %d items of %d", got, com.meta.Position.Offset)
	}
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
