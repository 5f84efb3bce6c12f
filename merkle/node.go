package merkle

import "slices"

// The bounds of a node. Bytes are those of the suffixes: what all keys of a
// node begin with is stored once and does not count, so that keys with 64 KB
// in common still share leaves. One key is always allowed, however long.
const (
	maxItems = 128  // keys of a leaf
	maxKids  = 64   // children of an inner node
	maxBytes = 8192 // suffixes of a leaf's keys or an inner node's separators

	// A node takes so many separators whatever their length, so that every
	// split leaves two children or more on both sides and the height stays
	// logarithmic even if all separators are huge.
	freeSeps = 3

	// Neighbours are merged when together they fill no more than this much of
	// a node. The rest is what keeps a merge and a split from alternating.
	mergeItems = maxItems * 3 / 4
	mergeKids  = maxKids * 3 / 4
	mergeBytes = maxBytes * 3 / 4
)

// An owner marks the nodes that one tree may change in place: those it made
// since its last snapshot. It has a size, so that each has its own address.
type owner struct{ _ byte }

// A node is a leaf, with keys and their hashes, or an inner node, with
// children and the separators between them: all keys below kids[i] are below
// separator i, which is not above any key below kids[i+1].
//
// Invariants, which check verifies:
//
//	leaf:  keys.n >= 1; keys.size() <= maxBytes if keys.n > 1
//	inner: len(kids) == keys.n+1 >= 1; all leaves are at one depth
//	each entry's sum is the summary of the items below its child (T2)
//
// Nobody but the tree whose owner it carries may change a node.
//
// The order of the fields puts what a search reads into one cache line.
type node struct {
	kids  []entry
	keys  packed
	owner *owner
}

// An entry is a child and the summary of all items below it.
type entry struct {
	sum Summary
	kid *node
}

func newLeaf(o *owner, key []byte, hash uint64) *node {
	return &node{keys: packOne(key, hash), owner: o}
}

func (n *node) leaf() bool { return n.kids == nil }

// child returns which child key belongs to.
func (n *node) child(key []byte) int {
	i, eq := n.keys.search(key)
	if eq {
		i++
	}
	return i
}

// hasRoom says whether a leaf can take key, or an inner node the separator key.
func (n *node) hasRoom(key []byte) bool {
	if n.leaf() {
		return n.keys.len() < maxItems && n.keys.sizeWith(key) <= maxBytes
	}
	return n.keys.len() < freeSeps ||
		len(n.kids) < maxKids && n.keys.sizeWith(key) <= maxBytes
}

// clone returns a copy for o to change.
func (n *node) clone(o *owner) *node {
	return &node{keys: n.keys.clone(), owner: o, kids: slices.Clone(n.kids)}
}

// insertKid makes e child i of an inner node, with sep as separator number s.
func (n *node) insertKid(i int, e entry, s int, sep []byte) {
	n.keys.insert(s, sep, 0)
	n.kids = slices.Insert(n.kids, i, e)
}

// removeKid takes child i out of an inner node, and separator s if there is one.
func (n *node) removeKid(i, s int) {
	if n.keys.len() > 0 {
		n.keys.remove(s)
	}
	n.kids = slices.Delete(n.kids, i, i+1)
	if cap(n.kids) > 2*len(n.kids)+8 {
		n.kids = slices.Clone(n.kids)
	}
}

// sum returns the summary of all items below n, from its items or entries.
func (n *node) sum() Summary {
	if n.leaf() {
		return n.sumTo(n.keys.len())
	}
	return n.sumTo(len(n.kids))
}

// sumTo returns the summary of a leaf's items, or below an inner node's
// children, before number i.
func (n *node) sumTo(i int) Summary {
	if n.leaf() {
		return Summary{Count: uint64(i), Sum: n.keys.sumTo(i)}
	}
	var s Summary
	for j := range n.kids[:i] {
		s.Count += n.kids[j].sum.Count
		s.Sum += n.kids[j].sum.Sum
	}
	return s
}

// middle returns where to cut n's keys so that both sides weigh the same: a
// number in [lo, hi].
func (n *node) middle(lo, hi int) int {
	const each = 16 // what a key costs beside what the list holds
	k := &n.keys
	half := (k.start(k.len()) + each*k.len()) / 2
	return lo + binarySearch(hi-lo, func(i int) bool {
		return k.end(lo+i)+each*(lo+i+1) > half
	})
}

// binarySearch returns the least i in [0, n) for which ok(i) holds, or n; ok
// must hold for all greater i.
func binarySearch(n int, ok func(int) bool) int {
	lo, hi := 0, n
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if ok(mid) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// separator returns the separator to put before key, of which the first c
// bytes are also those of the key before it. Any length over c would do; it is
// rounded up so that keys of one length get separators of one length, which
// are searched faster.
func separator(key []byte, c int) []byte {
	return key[:min(len(key), c&^7+8)]
}
