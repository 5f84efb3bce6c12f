package bench

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/tidwall/btree"

	"github.com/sdiff/sdiff/merkle"
)

// BenchmarkTree measures the tree with random keys of 16 bytes: puts of new
// keys and of keys that are there, the latter also with a sketch kept, turn by
// turn with a tidwall/btree Map of the same, which keeps no summaries; building
// from sorted keys; the heap; and what takes less than a microsecond or so.
func BenchmarkTree(b *testing.B) {
	keys := treeKeys(*ops)
	asc := slices.Clone(keys)
	slices.SortFunc(asc, bytes.Compare)
	b.Run("put", func(b *testing.B) {
		for b.Loop() {
			benchPut(b, keys)
		}
	})
	b.Run("build", func(b *testing.B) {
		var rates []float64
		for b.Loop() {
			for range *rounds {
				rates = append(rates, 1e9/each(asc, func() { buildTree(b, asc) }))
			}
		}
		b.ReportMetric(median(rates), "keys/s")
		b.ReportMetric(heapOf(len(asc), func() any { return buildTree(b, asc) }), "heap-B/key")
	})
	b.Run("heap", func(b *testing.B) {
		for b.Loop() {
			b.ReportMetric(heapOf(len(keys), func() any { return putTree(new(merkle.Tree), keys, 0) }), "heap-B/key")
		}
	})
	tree := putTree(new(merkle.Tree), keys, 0)
	b.Run("snapshot", func(b *testing.B) {
		many(b, "ns/snapshot", func(int) { tree.Snapshot() })
	})
	b.Run("put-after-snapshot", func(b *testing.B) {
		many(b, "ns/put", func(i int) {
			tree.Snapshot()
			tree.Put(keys[i%len(keys)], uint64(i)*spread+1)
		})
	})
	b.Run("range", func(b *testing.B) {
		snap := tree.Snapshot()
		many(b, "ns/range", func(i int) {
			lo, hi := keys[i%len(keys)], keys[(i+1)%len(keys)]
			if bytes.Compare(lo, hi) > 0 {
				lo, hi = hi, lo
			}
			snap.Range(lo, hi)
		})
	})
}

// many measures fn, which is so short that a single call, as with -benchtime
// 1x, would measure nothing but the clock.
func many(b *testing.B, unit string, fn func(i int)) {
	const calls = 20_000
	n := 0
	for b.Loop() {
		for range calls {
			fn(n)
			n++
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), unit)
}

func treeKeys(n int) [][]byte {
	rng := rand.NewChaCha8([32]byte{1})
	slab := make([]byte, keySize*n)
	rng.Read(slab)
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = slab[keySize*i : keySize*(i+1) : keySize*(i+1)]
	}
	return keys
}

func putTree(t *merkle.Tree, keys [][]byte, hash uint64) *merkle.Tree {
	for i, k := range keys {
		t.Put(k, hash+uint64(i)*spread)
	}
	return t
}

// spread makes numbers look like hashes: a sketch is cut by their upper bits.
const spread = 0x9e3779b97f4a7c15

func buildTree(tb testing.TB, asc [][]byte) *merkle.Tree {
	var builder merkle.Builder
	for i, k := range asc {
		if err := builder.Add(k, uint64(i)); err != nil {
			tb.Fatal(err)
		}
	}
	return builder.Tree()
}

// benchPut puts all keys, and then all of them again with other hashes, twice:
// the second time with a sketch, as a replica keeps one from its start on. Then the
// sketch is taken and some keys are put again: "after-us" is how much longer a
// thousand puts take that copy what they share with it than a thousand after them.
func benchPut(b meter, keys [][]byte) {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = string(k)
	}
	other := func(m *btree.Map[string, uint64], hash uint64) {
		for i, k := range names {
			m.Set(k, hash+uint64(i)*spread)
		}
	}
	ours, theirs := new([3][]float64), new([3][]float64)
	var copies []float64
	for range *rounds {
		tree, m := new(merkle.Tree), new(btree.Map[string, uint64])
		for i := range ours {
			hash := uint64(i) << 40
			if i == 2 {
				tree.KeepSketch()
			}
			ours[i] = append(ours[i], each(keys, func() { putTree(tree, keys, hash) }))
			theirs[i] = append(theirs[i], each(keys, func() { other(m, hash) }))
		}
		sketch := tree.Sketch()
		some := keys[:min(1000, len(keys))]
		first := each(some, func() { putTree(tree, some, 3<<40) })
		then := each(some, func() { putTree(tree, some, 4<<40) })
		copies = append(copies, (first-then)*float64(len(some))/1000)
		runtime.KeepAlive(sketch)
	}
	for i, what := range []string{"insert", "overwrite", "sketched"} {
		b.ReportMetric(median(ours[i]), "ns/"+what)
		reportRatios(b, ours[i], theirs[i], what+"-ratio")
	}
	b.ReportMetric(median(copies), "after-us")
}

// each returns the nanoseconds that fn takes for each of the keys.
func each(keys [][]byte, fn func()) float64 {
	runtime.GC()
	began := time.Now()
	fn()
	return float64(time.Since(began)) / float64(len(keys))
}

// heapOf returns the bytes that what fn makes keeps in use, for each of n keys.
func heapOf(n int, fn func() any) float64 {
	before := inUse()
	v := fn()
	after := inUse()
	runtime.KeepAlive(v)
	return float64(after-before) / float64(n)
}

func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
