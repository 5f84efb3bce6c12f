package badgerstore_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
	"github.com/sdiff/sdiff/stream"
)

// benchCommit fills ops with random 16-byte keys and 100-byte values.
func benchCommit(r *rand.Rand, ops []stream.Op) {
	for i := range ops {
		key := make([]byte, 16)
		binary.BigEndian.PutUint64(key, r.Uint64())
		binary.BigEndian.PutUint64(key[8:], r.Uint64())
		value := make([]byte, 100)
		for j := 0; j < 100; j += 8 {
			binary.LittleEndian.PutUint32(value[j:], r.Uint32())
		}
		ops[i] = stream.Op{Key: key, Value: value}
	}
}

const benchOps = 1000

// BenchmarkWrite writes transactions of 1,000 items of (16 B, 100 B) and a log
// record of them: through the store, and to Badger by its own batches, which
// are not atomic.
func BenchmarkWrite(b *testing.B) {
	b.Run("store", func(b *testing.B) {
		st := mustOpen(b, b.TempDir(), badgerstore.Options{NoSync: true})
		defer closeStore(b, st)
		benchWrite(b, func(ops []stream.Op, rec *stream.Record) error {
			return st.Write(&store.Txn{Ops: ops, Log: rec})
		})
	})
	for _, c := range []struct {
		name string
		opt  func(dir string) badger.Options
	}{
		{"batch, our options", badgerstore.BadgerOptions},
		{"batch, Badger's defaults", badger.DefaultOptions},
	} {
		b.Run(c.name, func(b *testing.B) {
			db, err := badger.Open(c.opt(b.TempDir()).WithLogger(nil))
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			benchWrite(b, func(ops []stream.Op, rec *stream.Record) error {
				batch := db.NewWriteBatch()
				for i := range ops {
					if err := batch.Set(ops[i].Key, ops[i].Value); err != nil {
						return err
					}
				}
				if err := batch.Set(binary.BigEndian.AppendUint64([]byte("!"), rec.First), rec.Body); err != nil {
					return err
				}
				return batch.Flush()
			})
		})
	}
}

func benchWrite(b *testing.B, write func(ops []stream.Op, rec *stream.Record) error) {
	r := rand.New(rand.NewPCG(1, 1))
	ops := make([]stream.Op, benchOps)
	w := wire.NewWriter(nil)
	n := uint64(0)
	for b.Loop() {
		benchCommit(r, ops)
		n++
		w.Reset(nil)
		stream.AppendCommit(w, &stream.Commit{Offset: n, Ops: ops})
		if err := write(ops, &stream.Record{First: n, Last: n, Body: w.Out()}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*benchOps/b.Elapsed().Seconds(), "items/s")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkAscend reads all of a million items of (16 B, 100 B), from tables
// and memory tables.
func BenchmarkAscend(b *testing.B) {
	const n = 1_000_000
	for _, compress := range []bool{false, true} {
		b.Run(fmt.Sprintf("compress=%v", compress), func(b *testing.B) {
			st := mustOpen(b, b.TempDir(), badgerstore.Options{NoSync: true, Compress: compress})
			defer closeStore(b, st)
			r := rand.New(rand.NewPCG(1, 1))
			ops := make([]stream.Op, 10*benchOps)
			for range n / len(ops) {
				benchCommit(r, ops)
				if err := st.Write(&store.Txn{Ops: ops}); err != nil {
					b.Fatal(err)
				}
			}
			v, err := st.View()
			if err != nil {
				b.Fatal(err)
			}
			defer v.Close()
			for b.Loop() {
				count := 0
				if err := v.Ascend(nil, nil, func(key, value []byte) bool { count++; return true }); err != nil || count != n {
					b.Fatal(count, err)
				}
			}
			b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "items/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkReopen opens a database of a million items that was closed, which
// includes checking all of its checksums.
func BenchmarkReopen(b *testing.B) {
	dir := b.TempDir()
	st := mustOpen(b, dir, badgerstore.Options{NoSync: true})
	r := rand.New(rand.NewPCG(1, 1))
	ops := make([]stream.Op, 10*benchOps)
	for range 100 {
		benchCommit(r, ops)
		if err := st.Write(&store.Txn{Ops: ops}); err != nil {
			b.Fatal(err)
		}
	}
	closeStore(b, st)
	for _, skip := range []bool{false, true} {
		b.Run(fmt.Sprintf("skipverify=%v", skip), func(b *testing.B) {
			for b.Loop() {
				closeStore(b, mustOpen(b, dir, badgerstore.Options{NoSync: true, SkipVerify: skip}))
			}
		})
	}
}
