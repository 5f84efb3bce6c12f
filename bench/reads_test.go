package bench

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
	"github.com/sdiff/sdiff/stream"
)

// BenchmarkReads measures what it costs that a master holds every read against
// its tree, turn by turn with reads of the same Badger store without a master:
// single keys that are there, keys that are not, and everything in order. The
// keys are 16 random bytes, the values 100. The ratios are of processor time,
// where the system tells it: less than one is slower.
func BenchmarkReads(b *testing.B) {
	for b.Loop() {
		benchReads(b, b, *ops/10)
	}
}

func benchReads(tb testing.TB, b meter, n int) {
	st, err := badgerstore.Open(tb.TempDir(), badgerstore.Options{NoSync: true})
	if err != nil {
		tb.Fatal(err)
	}
	defer st.Close()
	m, err := replica.NewMaster(st, replica.MasterConfig{Scrub: -1})
	if err != nil {
		tb.Fatal(err)
	}
	stop := background(m.Run)
	ctx := context.Background()
	keys := treeKeys(2 * n) // the second half is not there
	fillWith(tb, m, keys[:n])
	plain := func(key []byte) error {
		v, err := st.View()
		if err != nil {
			return err
		}
		defer v.Close()
		value, err := v.Get(key)
		_ = append([]byte{}, value...)
		return err
	}
	checked := func(key []byte) error { _, err := m.Get(ctx, key); return err }
	gets := func(get func([]byte) error, keys [][]byte, want error) float64 {
		return rate(len(keys), func() {
			for _, k := range keys {
				if err := get(k); !errors.Is(err, want) {
					tb.Fatal(err)
				}
			}
		})
	}
	var there, absent, scans [2][]float64
	for range *rounds {
		for i, get := range []func([]byte) error{checked, plain} {
			there[i] = append(there[i], gets(get, keys[:n], nil))
			absent[i] = append(absent[i], gets(get, keys[n:], replica.ErrNotFound))
		}
		scans[0] = append(scans[0], scanRate(tb, n, func() (got int) {
			for _, err := range m.Ascend(ctx, nil, nil) {
				if err != nil {
					tb.Fatal(err)
				}
				got++
			}
			return got
		}))
		scans[1] = append(scans[1], scanRate(tb, n, func() (got int) {
			v, err := st.View()
			if err != nil {
				tb.Fatal(err)
			}
			defer v.Close()
			err = v.Ascend(nil, nil, func(k, value []byte) bool {
				_, _ = append([]byte{}, k...), append([]byte{}, value...)
				got++
				return true
			})
			if err != nil {
				tb.Fatal(err)
			}
			return got
		}))
	}
	reportRatios(b, there[0], there[1], "get")
	reportRatios(b, absent[0], absent[1], "absent")
	reportRatios(b, scans[0], scans[1], "scan")
	if err := stop(); err != nil {
		tb.Fatal(err)
	}
}

// fillWith puts items with such keys and values of 100 bytes, a thousand at a
// time.
func fillWith(tb testing.TB, m *replica.Master, keys [][]byte) {
	for part := range slices.Chunk(keys, 1000) {
		var list []stream.Op
		for _, k := range part {
			list = append(list, stream.Op{Key: k, Value: append(make([]byte, 84), k...)})
		}
		if _, err := m.Write(context.Background(), list); err != nil {
			tb.Fatal(err)
		}
	}
}

func scanRate(tb testing.TB, n int, scan func() int) float64 {
	return rate(n, func() {
		if got := scan(); got != n {
			tb.Fatalf("%d items, want %d", got, n)
		}
	})
}

// rate returns how many of n things a second fn does, in processor time or, if
// the system does not tell it, in time.
func rate(n int, fn func()) float64 {
	runtime.GC()
	began, cpu := time.Now(), cpuTime()
	fn()
	if took := cpuTime() - cpu; took > 0 {
		return float64(n) / took.Seconds()
	}
	return float64(n) / time.Since(began).Seconds()
}
