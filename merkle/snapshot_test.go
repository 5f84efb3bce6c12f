package merkle

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"
)

func key8(i int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)) }

// filled returns a tree of the keys 0 to n-1 with their numbers as hashes.
func filled(n int) *Tree {
	t := new(Tree)
	for i := range n {
		t.Put(key8(i), uint64(i))
	}
	return t
}

// height returns how many nodes a path has.
func (t *Tree) height() uint64 {
	h := uint64(1)
	for n := t.root; !n.leaf(); n = n.kids[0].kid {
		h++
	}
	return h
}

// TestCopies counts what updates copy (T5): nothing without a snapshot, a path
// after one, nothing the second time.
func TestCopies(t *testing.T) {
	const n = 100_000
	tree := filled(n)
	for i := range n {
		tree.Put(key8(i), uint64(i+1))
	}
	if tree.copies != 0 {
		t.Fatalf("%d nodes copied with no snapshot taken", tree.copies)
	}
	height := tree.height()
	if height < 3 {
		t.Fatalf("a tree of %d keys has %d levels: too small to tell", n, height)
	}
	copies := func(what string, want uint64, f func()) {
		t.Helper()
		before := tree.copies
		if f(); tree.copies-before != want {
			t.Errorf("%s copied %d nodes, want %d", what, tree.copies-before, want)
		}
	}
	tree.Snapshot()
	copies("first put", height, func() { tree.Put(key8(n/2), 1) })
	copies("second put there", 0, func() { tree.Put(key8(n/2), 2) })
	copies("put of a new key there", 0, func() { tree.Put(append(key8(n/2), 0), 2) })
	copies("delete there", 0, func() { tree.Delete(key8(n / 2)) })
	copies("put elsewhere", height-1, func() { tree.Put(key8(0), 7) })
	snap := tree.Snapshot()
	copies("reads", 0, func() { tree.Get(key8(1)); tree.Range(key8(1), nil); snap.Rank(key8(2)) })
	// T6: what changes nothing copies nothing, even now.
	copies("put of an equal item", 0, func() { tree.Put(key8(0), 7) })
	copies("delete of an absent key", 0, func() { tree.Delete(append(key8(0), 9)) })
	copies("delete", height, func() { tree.Delete(key8(0)) })

	tree = snap.Tree()
	copies("put into a snapshot's tree", height, func() { tree.Put(key8(0), 8) })
}

// TestNoChange holds T6: equal puts and deletes of absent keys leave the very
// same nodes.
func TestNoChange(t *testing.T) {
	tree := filled(1000)
	root, sum := tree.root, tree.sum
	for i := range 1000 {
		if old, had := tree.Put(key8(i), uint64(i)); old != uint64(i) || !had {
			t.Fatalf("Put(%d) = %d, %v, want %d, true", i, old, had, i)
		}
		if old, had := tree.Delete(append(key8(i), 0)); old != 0 || had {
			t.Fatalf("Delete of an absent key = %d, %v, want 0, false", old, had)
		}
	}
	if tree.root != root || tree.sum != sum {
		t.Errorf("summary %v, want %v; same root: %v", tree.sum, sum, tree.root == root)
	}
}

// TestNil holds what doc comments promise of nil and zero values.
func TestNil(t *testing.T) {
	for name, r := range map[string]reader{
		"zero tree": new(Tree), "zero snapshot": new(Snapshot), "nil snapshot": (*Snapshot)(nil),
		"snapshot of the zero tree": new(Tree).Snapshot(),
		"tree of the nil snapshot":  (*Snapshot)(nil).Tree(),
		"tree of the zero builder":  new(Builder).Tree(),
	} {
		_, found := r.Get([]byte("k"))
		_, _, ok := r.At(0)
		if found || ok || !reference(nil).same(r) || r.Range(nil, nil) != (Summary{}) ||
			r.Prefix([]byte("k")) != (Summary{}) || r.Rank([]byte("k")) != 0 || r.Bytes() != 0 {
			t.Errorf("%s is not empty", name)
		}
	}
	tree := (*Snapshot)(nil).Tree()
	tree.Put([]byte("k"), 1)
	if old, had := tree.Delete([]byte("k")); old != 1 || !had {
		t.Errorf("Delete = %d, %v, want 1, true", old, had)
	}
}

// TestConcurrentReaders reads snapshots in other goroutines while the tree goes
// on; run with -race it shows that they share nothing that changes (T4).
func TestConcurrentReaders(t *testing.T) {
	const n = 5_000
	tree := filled(n)
	rng := rand.New(rand.NewPCG(1, 2))
	var wg sync.WaitGroup
	for range 20 {
		snap, want := tree.Snapshot(), tree.Summary()
		wg.Go(func() {
			var got Summary
			snap.Ascend(nil, nil, func(_ []byte, hash uint64) bool {
				got = got.Add(Summary{1, hash})
				return true
			})
			if got != want || snap.Summary() != want {
				t.Errorf("snapshot has %v, items %v, want %v", snap.Summary(), got, want)
			}
			mid, _, _ := snap.At(want.Count / 2)
			if lo, hi := snap.Range(nil, mid), snap.Range(mid, nil); lo.Add(hi) != want {
				t.Errorf("halves have %v and %v, want %v together", lo, hi, want)
			}
			own := snap.Tree()
			for i := range 200 {
				own.Delete(key8(i * 17))
			}
			if err := own.check(); err != nil {
				t.Error(err)
			}
		})
		for range 500 {
			i := rng.IntN(2 * n)
			if rng.IntN(3) == 0 {
				tree.Delete(key8(i))
			} else {
				tree.Put(key8(i), rng.Uint64())
			}
		}
	}
	wg.Wait()
	if err := tree.check(); err != nil {
		t.Error(err)
	}
}
