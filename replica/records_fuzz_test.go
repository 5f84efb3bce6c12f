package replica

import (
	"math"
	"testing"
	"time"

	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// A recordView is a view whose records all have one value.
type recordView struct {
	store.View
	value []byte
}

func (v recordView) Record(string) ([]byte, error) { return v.value, nil }
func (v recordView) Meta() (store.Meta, error) {
	return store.Meta{Position: stream.Position{Offset: math.MaxUint64}}, nil
}

// What a master stores of itself is read back from a store that may be damaged.

func FuzzParseRanges(f *testing.F) {
	type ranges struct {
		list   []ranged
		offset uint64
	}
	encode := func(r ranges) []byte {
		w := wire.NewWriter(nil)
		w.Array(2)
		w.Uint(r.offset)
		w.Array(3 * len(r.list))
		for _, e := range r.list {
			w.Bytes(e.lo)
			w.Uint(e.sum.Count)
			w.Uint(e.sum.Sum)
		}
		return w.Out()
	}
	f.Add(encode(ranges{nil, 0}))
	f.Add(encode(ranges{[]ranged{{nil, merkle.Summary{Count: 1, Sum: 2}}, {[]byte("m"), merkle.Summary{Count: 3, Sum: math.MaxUint64}}}, 7}))
	fuzzMessage(f, func(b []byte) (r ranges, err error) {
		r.list, r.offset, err = parseRanges(b)
		return r, err
	}, encode)
}

func FuzzReadLoss(f *testing.F) {
	f.Add(lossBegins(exampleEpoch).Value)
	fuzzMessage(f, func(b []byte) (stream.Epoch, error) { return readLoss(recordView{value: b}) },
		func(e stream.Epoch) []byte {
			w := wire.NewWriter(nil)
			w.Array(1)
			w.Bytes(e[:])
			return w.Out()
		})
}

func FuzzLoadAging(f *testing.F) {
	f.Add((&aging{stored: time.Hour, samples: []aged{{1, time.Second}, {900, time.Minute}}}).append())
	f.Add((&aging{}).append())
	now := time.Unix(0, 0)
	fuzzMessage(f, func(b []byte) (*aging, error) { return loadAging(recordView{value: b}, time.Hour, now) }, (*aging).append)
}
