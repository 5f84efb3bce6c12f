package merkle_test

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/tidwall/btree"
)

const million = 1_000_000

// turn is how many puts one tree gets before it is the other's turn: short, so
// that what else the machine does hits both.
const turn = 10_000

// randomKeys returns n random keys of 16 bytes, in no order.
func randomKeys(n int) [][]byte {
	rng := rand.NewChaCha8([32]byte{1})
	slab := make([]byte, 16*n)
	rng.Read(slab)
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = slab[16*i : 16*i+16 : 16*i+16]
	}
	return keys
}

// inMemoryOrder returns copies that lie in memory as they come in the slice, so
// that reading them costs no cache misses of its own.
func inMemoryOrder(keys [][]byte) [][]byte {
	slab := slices.Concat(keys...)
	for i := range keys {
		keys[i] = slab[16*i : 16*i+16 : 16*i+16]
	}
	return keys
}

func sorted(keys [][]byte) [][]byte {
	keys = slices.Clone(keys)
	slices.SortFunc(keys, bytes.Compare)
	return inMemoryOrder(keys)
}

func shuffled(keys [][]byte) [][]byte {
	keys = slices.Clone(keys)
	rand.New(rand.NewPCG(3, 4)).Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	return inMemoryOrder(keys)
}

func build(b *testing.B, keys [][]byte) *merkle.Tree {
	var builder merkle.Builder
	for i, k := range keys {
		if err := builder.Add(k, uint64(i)); err != nil {
			b.Fatal(err)
		}
	}
	return builder.Tree()
}

func put(keys [][]byte) *merkle.Tree {
	t := new(merkle.Tree)
	for i, k := range keys {
		t.Put(k, uint64(i))
	}
	return t
}

// heap returns the bytes in use after a collection.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkOverwrite gives every one of a million keys a new hash, in random
// order, turn by turn with tidwall/btree, which keeps no summaries.
func BenchmarkOverwrite(b *testing.B) {
	b.Run("tree", func(b *testing.B) { overwrite(b, false) })
	b.Run("tree+sketch", func(b *testing.B) { overwrite(b, true) })
}

func overwrite(b *testing.B, sketch bool) {
	keys := randomKeys(million)
	tree, other := put(keys), new(btree.Map[string, uint64])
	if sketch {
		tree.KeepSketch()
	}
	for i, k := range keys {
		other.Set(string(k), uint64(i))
	}
	keys = shuffled(keys)
	strings := make([]string, len(keys))
	for i, k := range keys {
		strings[i] = string(k)
	}
	runtime.GC()
	var ours, theirs time.Duration
	hash := uint64(million)
	rounds := 0
	for b.Loop() {
		for i := 0; i < million; i += turn {
			start := time.Now()
			for _, k := range keys[i : i+turn] {
				hash += 0x9e3779b97f4a7c15
				tree.Put(k, hash)
			}
			ours += time.Since(start)
			start = time.Now()
			for _, k := range strings[i : i+turn] {
				hash++
				other.Set(k, hash)
			}
			theirs += time.Since(start)
		}
		rounds++
	}
	b.ReportMetric(float64(ours.Nanoseconds())/float64(rounds*million), "ns/put")
	b.ReportMetric(float64(ours)/float64(theirs), "ratio")
}

// BenchmarkInsert puts a million new keys in random order, turn by turn with
// tidwall/btree.
func BenchmarkInsert(b *testing.B) {
	keys := randomKeys(million)
	strings := make([]string, len(keys))
	for i, k := range keys {
		strings[i] = string(k)
	}
	var ours, theirs time.Duration
	rounds := 0
	for b.Loop() {
		runtime.GC()
		tree, other := new(merkle.Tree), new(btree.Map[string, uint64])
		for i := 0; i < million; i += turn {
			start := time.Now()
			for _, k := range keys[i : i+turn] {
				tree.Put(k, uint64(i))
			}
			ours += time.Since(start)
			start = time.Now()
			for _, k := range strings[i : i+turn] {
				other.Set(k, uint64(i))
			}
			theirs += time.Since(start)
		}
		rounds++
	}
	b.ReportMetric(float64(ours.Nanoseconds())/float64(rounds*million), "ns/put")
	b.ReportMetric(float64(ours)/float64(theirs), "ratio")
}

func BenchmarkBuild(b *testing.B) {
	keys := sorted(randomKeys(million))
	for b.Loop() {
		build(b, keys)
	}
	b.ReportMetric(million*float64(b.N)/b.Elapsed().Seconds(), "keys/s")
}

// BenchmarkMemory measures the heap that a million keys take, hashes included.
func BenchmarkMemory(b *testing.B) {
	keys := randomKeys(million)
	asc := sorted(keys)
	for _, c := range []struct {
		name string
		make func() *merkle.Tree
	}{
		{"put", func() *merkle.Tree { return put(keys) }},
		{"ascending", func() *merkle.Tree { return put(asc) }},
		{"build", func() *merkle.Tree { return build(b, asc) }},
		{"build,overwrite", func() *merkle.Tree {
			t := build(b, asc)
			t.Snapshot()
			for i, k := range keys {
				t.Put(k, ^uint64(i))
			}
			return t
		}},
		{"build,churn", func() *merkle.Tree {
			t := build(b, asc)
			for i, k := range keys {
				t.Delete(k)
				t.Put(append([]byte{k[15]}, k[1:]...), uint64(i))
			}
			return t
		}},
		{"put,keep a tenth", func() *merkle.Tree {
			t := put(keys)
			for _, k := range keys[million/10:] {
				t.Delete(k)
			}
			return t
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var tree *merkle.Tree
			var used float64
			for b.Loop() {
				tree = nil
				before := heap()
				tree = c.make()
				used = float64(heap()-before) / float64(tree.Summary().Count)
			}
			b.ReportMetric(used, "B/key")
			b.ReportMetric(float64(tree.Bytes())/float64(tree.Summary().Count), "est-B/key")
			runtime.KeepAlive(keys)
		})
	}
}

func BenchmarkSnapshot(b *testing.B) {
	tree := put(randomKeys(million))
	b.ReportAllocs()
	var keep *merkle.Snapshot
	for b.Loop() {
		keep = tree.Snapshot()
	}
	runtime.KeepAlive(keep)
}

// BenchmarkPutAfterSnapshot measures a put that must copy its path.
func BenchmarkPutAfterSnapshot(b *testing.B) {
	keys := randomKeys(million)
	tree := put(keys)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		tree.Snapshot()
		tree.Put(keys[i%million], uint64(i)<<32)
	}
}

func BenchmarkRange(b *testing.B) {
	keys := randomKeys(million)
	snap := put(keys).Snapshot()
	for i := 0; b.Loop(); i++ {
		lo, hi := keys[i%million], keys[(i+1)%million]
		if bytes.Compare(lo, hi) > 0 {
			lo, hi = hi, lo
		}
		snap.Range(lo, hi)
	}
}

func BenchmarkAt(b *testing.B) {
	snap := put(randomKeys(million)).Snapshot()
	rng := rand.New(rand.NewPCG(5, 6))
	for b.Loop() {
		snap.At(rng.Uint64N(million))
	}
}

func BenchmarkAscend(b *testing.B) {
	snap := put(randomKeys(million)).Snapshot()
	var n int
	for b.Loop() {
		snap.Ascend(nil, nil, func([]byte, uint64) bool { n++; return true })
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "keys/s")
}
