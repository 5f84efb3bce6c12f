package merkle

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestClipShares checks that a clipped snapshot has but a few nodes of its own,
// and all of the bounds between leaves, of which one may be the end of a range.
func TestClipShares(t *testing.T) {
	const n = 100_000
	var b Builder
	for i := range n {
		if err := b.Add(key8(i), mix(uint64(i))); err != nil {
			t.Fatal(err)
		}
	}
	s := b.Tree().Snapshot()
	for lo := 0; lo < n; lo += 7919 {
		for _, size := range []int{0, 1, maxItems, maxItems + 1, 5000, n - lo} {
			clipped := s.Clip(key8(lo), key8(lo+size))
			if got, want := clipped.Summary(), s.Range(key8(lo), key8(lo+size)); got != want || want.Count != uint64(min(size, n-lo)) {
				t.Fatalf("%d items from %d: %v, want %v", size, lo, got, want)
			}
			if err := clipped.Tree().check(); err != nil {
				t.Fatalf("%d items from %d: %v", size, lo, err)
			}
			if own := ownNodes(clipped.root, s.root); own > 6 {
				t.Errorf("%d items from %d: %d nodes of its own", size, lo, own)
			}
		}
	}
	if got := s.Clip(nil, nil); got.root != s.root {
		t.Error("the whole is not shared")
	}
	if got := (*Snapshot)(nil).Clip(nil, nil).Summary(); got != (Summary{}) {
		t.Errorf("of nothing: %v", got)
	}
}

// ownNodes counts the nodes below a that are not below b.
func ownNodes(a, b *node) int {
	theirs := map[*node]bool{}
	var note func(*node)
	note = func(n *node) {
		theirs[n] = true
		for _, e := range n.kids {
			note(e.kid)
		}
	}
	note(b)
	var count func(*node) int
	count = func(n *node) int {
		if n == nil || theirs[n] {
			return 0
		}
		own := 1
		for _, e := range n.kids {
			own += count(e.kid)
		}
		return own
	}
	return count(a)
}

// TestMakeSketch holds the sketch made of some ranges against that of their
// items, and against the one that a tree of these items keeps.
func TestMakeSketch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tree := new(Tree)
		n := rapid.SampledFrom([]int{0, 1, 200, 200, 2000, 2000, 17_000}).Draw(t, "n")
		for i := range n {
			tree.Put(key8(i), mix(uint64(i)))
		}
		bounds := []int{rapid.IntRange(0, n).Draw(t, "b"), rapid.IntRange(0, n).Draw(t, "b"), rapid.IntRange(0, n).Draw(t, "b"), rapid.IntRange(0, n).Draw(t, "b")}
		slices.Sort(bounds)
		s := tree.Snapshot()
		parts := []*Snapshot{s.Clip(key8(bounds[0]), key8(bounds[1])), nil, s.Clip(key8(bounds[2]), key8(bounds[3]))}
		want := append(hashesOf(parts[0]), hashesOf(parts[2])...)
		cells := rapid.SampledFrom([]int{0, 1, 100}).Draw(t, "cells")
		made := MakeSketch(cells, parts...)
		if err := made.is(want, rapid.SampledFrom(everyGroups).Draw(t, "groups")); err != nil {
			t.Fatal(err)
		}
		if cells == 0 {
			kept := new(Tree)
			for i, h := range want {
				kept.Put(key8(i), h)
			}
			kept.KeepSketch()
			cells = kept.Sketch().Cells()
		}
		if made.Cells() != cells {
			t.Fatalf("%d cells, want %d", made.Cells(), cells)
		}
	})
}

func ExampleMakeSketch() {
	var t Tree
	for i := range 1000 {
		key := fmt.Appendf(nil, "user/%03d", i)
		t.Put(key, XXH64().Hash(key, nil))
	}
	s := t.Snapshot()
	mine := MakeSketch(0, s.Clip([]byte("user/200"), []byte("user/300")))

	t.Delete([]byte("user/234")) // in the range
	t.Delete([]byte("user/777")) // not in it
	theirs := MakeSketch(0, t.Snapshot().Clip([]byte("user/200"), []byte("user/300")))

	a, b := mine.AppendCells(nil, 1, 0, 0, 8), theirs.AppendCells(nil, 1, 0, 0, 8)
	for i := range a {
		a[i] = a[i].Xor(b[i])
	}
	d := NewDecoder(1, 0)
	d.Add(a)
	s.Locate(d.Found(), 0, func(rank uint64, _ int) {
		key, _, _ := s.At(rank)
		fmt.Printf("%s differs; all found: %v\n", key, d.Done())
	})
	// Output:
	// user/234 differs; all found: true
}
