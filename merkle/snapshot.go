package merkle

// A Snapshot is a Tree as it was at one moment. It never changes and is safe
// for any number of goroutines for ever (T4). The zero Snapshot and a nil one
// are the empty tree.
//
// A Snapshot keeps the nodes it shares with the tree alive; what the tree
// changes later it copies first.
type Snapshot struct {
	root *node
	sum  Summary
}

// Snapshot returns the tree as it is. It takes O(1) time and memory (T4).
func (t *Tree) Snapshot() *Snapshot {
	// The nodes made so far lose their owner, so nobody changes them again.
	t.owner = new(owner)
	return &Snapshot{root: t.root, sum: t.sum}
}

// Tree returns a new tree that begins as this snapshot, in O(1). The two share
// memory and know nothing of each other's changes.
func (s *Snapshot) Tree() *Tree {
	v := s.view()
	return &Tree{root: v.root, sum: v.sum, owner: new(owner)}
}

// view returns a Snapshot by value, the empty one for nil.
func (s *Snapshot) view() Snapshot {
	if s == nil {
		return Snapshot{}
	}
	return *s
}

// Summary returns the summary of all items: the fingerprint. It takes O(1).
func (s *Snapshot) Summary() Summary { return s.view().sum }

// Get returns the hash of key and whether it is there, in O(log n).
func (s *Snapshot) Get(key []byte) (hash uint64, ok bool) { return get(s.view().root, key) }

// Range returns the summary of the items with lo <= key < hi; a nil hi means
// no upper bound, a nil lo no lower one. It is empty if lo >= hi. It takes
// O(log n): two ways down the tree.
func (s *Snapshot) Range(lo, hi []byte) Summary {
	v := s.view()
	return rangeSum(v.root, v.sum, lo, hi)
}

// Prefix returns the summary of the items whose key begins with p, in O(log n).
func (s *Snapshot) Prefix(p []byte) Summary { return s.Range(p, PrefixEnd(p)) }

// Ascend calls fn for the items with lo <= key < hi in key order until it
// returns false; a nil hi means no upper bound. The key is valid during the
// call only and must not be changed. It takes O(log n) to start and O(1) per
// item.
func (s *Snapshot) Ascend(lo, hi []byte, fn func(key []byte, hash uint64) bool) {
	ascend(s.view().root, lo, hi, fn)
}

// At returns item i in key order, counted from 0, and whether there are that
// many, in O(log n). The key is new memory, the caller's.
func (s *Snapshot) At(i uint64) (key []byte, hash uint64, ok bool) {
	v := s.view()
	return at(v.root, v.sum, i)
}

// Rank returns how many items have a key less than key, in O(log n).
func (s *Snapshot) Rank(key []byte) uint64 { return below(s.view().root, key).Count }

// Bytes returns about how much memory the snapshot's nodes take, shared or
// not. It visits all nodes: about a millisecond for a million keys.
func (s *Snapshot) Bytes() int64 { return heap(s.view().root) }

// Summary returns the summary of all items: the fingerprint. It takes O(1).
func (t *Tree) Summary() Summary { return t.sum }

// Get returns the hash of key and whether it is there, in O(log n).
func (t *Tree) Get(key []byte) (hash uint64, ok bool) { return get(t.root, key) }

// Range is Snapshot.Range of the tree as it is.
func (t *Tree) Range(lo, hi []byte) Summary { return rangeSum(t.root, t.sum, lo, hi) }

// Prefix is Snapshot.Prefix of the tree as it is.
func (t *Tree) Prefix(p []byte) Summary { return t.Range(p, PrefixEnd(p)) }

// Ascend is Snapshot.Ascend of the tree as it is; fn must not change the tree.
func (t *Tree) Ascend(lo, hi []byte, fn func(key []byte, hash uint64) bool) {
	ascend(t.root, lo, hi, fn)
}

// At is Snapshot.At of the tree as it is.
func (t *Tree) At(i uint64) (key []byte, hash uint64, ok bool) { return at(t.root, t.sum, i) }

// Rank is Snapshot.Rank of the tree as it is.
func (t *Tree) Rank(key []byte) uint64 { return below(t.root, key).Count }

// Bytes is Snapshot.Bytes of the tree as it is, and what the sketch takes that it
// keeps. What a Sketch that was taken from it has alone is not counted.
func (t *Tree) Bytes() int64 { return heap(t.root) + t.sketch.bytes() }
