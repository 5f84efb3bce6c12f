package merkle_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/sdiff/sdiff/merkle"
)

// hashed returns a tree of a million keys with hashes that look like ones.
func hashed(keys [][]byte) *merkle.Tree {
	t := new(merkle.Tree)
	for i, k := range keys {
		t.Put(k, spread(i))
	}
	return t
}

// spread returns the i-th of hashes that are spread over all there are.
func spread(i int) uint64 {
	x := (uint64(i) + 1) * 0x9e3779b97f4a7c15
	x = (x ^ x>>32) * 0xd6e8feb86659fd93
	return x ^ x>>32
}

// BenchmarkKeepSketch begins to keep a sketch of a million items.
func BenchmarkKeepSketch(b *testing.B) {
	all := hashed(randomKeys(million)).Snapshot()
	cells := 0
	for b.Loop() {
		tree := all.Tree() // which keeps none
		tree.KeepSketch()
		_, cells = tree.Counters()
	}
	b.ReportMetric(float64(cells), "cells/part")
}

// BenchmarkSketch takes a sketch of a million items, and then gives so many of
// them another hash: the first change to each part copies 64 KiB.
func BenchmarkSketch(b *testing.B) {
	keys := randomKeys(million)
	tree := hashed(keys)
	tree.KeepSketch()
	n := million
	for _, puts := range []int{0, 1, 1000} {
		b.Run(fmt.Sprintf("puts=%d", puts), func(b *testing.B) {
			b.ReportAllocs()
			var keep *merkle.Sketch
			for b.Loop() {
				keep = tree.Sketch()
				for range puts {
					n++
					tree.Put(keys[n%million], spread(n))
				}
			}
			runtime.KeepAlive(keep)
		})
	}
}

// BenchmarkLocate finds the items of some hashes among a million.
func BenchmarkLocate(b *testing.B) {
	keys := randomKeys(million)
	asc := sorted(keys)
	var builder merkle.Builder
	for i, k := range asc {
		if err := builder.Add(k, spread(i)); err != nil {
			b.Fatal(err)
		}
	}
	trees := map[string]*merkle.Snapshot{"put": hashed(keys).Snapshot(), "built": builder.Tree().Snapshot()}
	for _, name := range []string{"put", "built"} {
		for _, n := range []int{1, 1000, 100_000} {
			b.Run(fmt.Sprintf("%s/hashes=%d", name, n), func(b *testing.B) {
				hashes := make([]uint64, n)
				for i := range hashes {
					hashes[i] = spread(i * (million / n))
				}
				b.ReportAllocs()
				for b.Loop() {
					found := 0
					trees[name].Locate(hashes, 0, func(uint64, int) { found++ })
					if found != n {
						b.Fatalf("%d found", found)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/million, "ns/item")
			})
		}
	}
}

// BenchmarkDecode finds the difference of two trees from their sketches, in as
// many groups as diff would divide it into.
func BenchmarkDecode(b *testing.B) {
	for _, c := range []struct{ hashes, groups int }{{10, 1}, {1000, 1}, {100_000, 64}} {
		b.Run(fmt.Sprint("hashes=", c.hashes), func(b *testing.B) {
			tree := new(merkle.Tree)
			for i, k := range randomKeys(c.hashes) {
				tree.Put(k, spread(i))
			}
			for i := range 4096*256 - c.hashes { // of the sketch's size, but no difference
				key := fmt.Appendf(nil, "%08d", i)
				tree.Put(key, 0)
			}
			tree.KeepSketch()
			s := tree.Sketch()
			each := merkle.CellsFor(uint64(c.hashes / c.groups * 21 / 20))
			var cells []merkle.Cell
			b.ReportAllocs()
			for b.Loop() {
				found := 0
				for g := range c.groups {
					cells = s.AppendCells(cells[:0], c.groups, g, 0, each)
					d := merkle.NewDecoder(c.groups, g)
					d.Add(cells)
					found += len(d.Found())
				}
				if found < c.hashes*9/10 {
					b.Fatalf("%d found", found)
				}
			}
		})
	}
}
