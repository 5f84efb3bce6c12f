package stream_test

import (
	"testing"

	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/stream"
)

// benchCommit is a commit of 1000 ops of 16 byte keys and 100 byte values.
func benchCommit() stream.Commit {
	c := stream.Commit{Offset: 1_000_000, Time: 1_700_000_000_000, Fingerprint: golden.Fingerprint}
	for range 1000 {
		c.Ops = append(c.Ops, stream.Op{Key: make([]byte, 16), Value: make([]byte, 100)})
	}
	return c
}

func BenchmarkAppendCommit(b *testing.B) {
	c := benchCommit()
	w := wire.NewWriter(nil)
	b.ReportAllocs()
	for b.Loop() {
		w.Reset(w.Out()[:0])
		stream.AppendCommit(w, &c)
	}
	perOp(b, len(c.Ops), w.Len())
}

func BenchmarkDecode(b *testing.B) {
	in := benchCommit()
	body := encode(in)
	var c stream.Commit
	b.ReportAllocs()
	for b.Loop() {
		d := stream.NewDecoder(body)
		for d.Next(&c) {
		}
		if d.Err() != nil {
			b.Fatal(d.Err())
		}
	}
	perOp(b, len(in.Ops), len(body))
}

// perOp reports time per op, which is an item here, and how many bytes an op has in its encoding.
func perOp(b *testing.B, ops, bytes int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*ops), "ns/item")
	b.ReportMetric(float64(bytes)/float64(ops), "wire-B/item")
}

// BenchmarkTail has one reader that keeps up with a writer of small records.
func BenchmarkTail(b *testing.B) {
	tail := stream.NewTail(1 << 20)
	r := record(1, 1)
	b.ReportAllocs()
	for b.Loop() {
		tail.Append(r)
		if recs, ok := tail.Read(r.First, 64<<10); !ok || len(recs) != 1 {
			b.Fatal("the record is not there")
		}
		r.First++
		r.Last++
	}
}

// BenchmarkRecordFrom cuts the last of 1000 commits off a record.
func BenchmarkRecordFrom(b *testing.B) {
	r := record(1, 1000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.From(1000); err != nil {
			b.Fatal(err)
		}
	}
}
