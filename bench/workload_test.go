package bench

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/sdiff/sdiff/stream"
)

// The items of the large benchmarks.
const (
	keySize   = 16
	valueSize = 100
)

// A workload makes ops: puts of random keys with values that do not compress.
// The same seed makes the same ops.
type workload struct {
	rng  *rand.ChaCha8
	slab []byte
	ops  []stream.Op
}

func newWorkload(seed uint64) *workload {
	var s [32]byte
	binary.LittleEndian.PutUint64(s[:], seed)
	return &workload{rng: rand.NewChaCha8(s)}
}

// next returns n ops, which are valid until it is called again.
func (w *workload) next(n int) []stream.Op {
	const size = keySize + valueSize
	if cap(w.ops) < n {
		w.slab, w.ops = make([]byte, n*size), make([]stream.Op, n)
	}
	slab, list := w.slab[:n*size], w.ops[:n]
	w.rng.Read(slab)
	for i := range list {
		key := slab[i*size : i*size+keySize : i*size+keySize]
		list[i] = stream.Op{Key: key, Value: slab[i*size+keySize : (i+1)*size : (i+1)*size]}
	}
	return list
}

// each calls fn with n ops in lists of at most commit.
func (w *workload) each(n, commit int, fn func(ops []stream.Op) error) error {
	for n > 0 {
		k := min(n, commit)
		if err := fn(w.next(k)); err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// mixed returns c.N ops, in turn a put of a new key, another value for a key
// and a delete of a key; the keys that are there are those that the workload of
// c.Seed made after the first c.Skip.
func mixed(c call) []stream.Op {
	old, fresh := newWorkload(c.Seed), newWorkload(^c.Seed)
	old.next(c.Skip)
	fresh.next(c.Skip)
	there, list := old.next(c.N), slices.Clone(fresh.next(c.N))
	for i := range list {
		switch i % 3 {
		case 1:
			list[i].Key = there[i].Key
		case 2:
			list[i] = stream.Op{Key: there[i].Key, Delete: true}
		}
	}
	return list
}

// fewKeys makes ops be about 4096 keys.
func fewKeys(ops []stream.Op) []stream.Op {
	for i := range ops {
		key := ops[i].Key
		clear(key[:keySize-2])
		key[keySize-2] &= 0x0f
	}
	return ops
}

// percentile returns the smallest value that p of all are not above.
func percentile(values []time.Duration, p float64) time.Duration {
	s := slices.Sorted(slices.Values(values))
	if len(s) == 0 {
		return 0
	}
	return s[min(len(s)-1, int(p*float64(len(s))))]
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if len(s) == 0 {
		return 0
	}
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// reportRatios reports the median of the ratios, and logs how far they spread.
func reportRatios(b meter, ours, theirs []float64, unit string) {
	var ratios []float64
	for i := range ours {
		ratios = append(ratios, ours[i]/theirs[i])
	}
	b.Logf("%s: median %.2f, least %.2f, most %.2f of %d", unit, median(ratios), slices.Min(ratios), slices.Max(ratios), len(ratios))
	b.ReportMetric(median(ratios), unit)
}

// A meter is what a benchmark's body needs of a testing.B, so that a test can
// run it too.
type meter interface {
	testing.TB
	ReportMetric(n float64, unit string)
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
