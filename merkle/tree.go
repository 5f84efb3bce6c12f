package merkle

// A Tree is a set of items, key and item hash, in key order, that knows the
// Summary of any range of keys. The zero Tree is the empty tree. A Tree must
// not be copied, and is not safe for concurrent use; its snapshots are.
//
// Keys are byte strings of any length, compared byte by byte; the tree keeps
// copies. A search reads O(log n) nodes.
type Tree struct {
	_     noCopy
	root  *node // nil: empty
	sum   Summary
	owner *owner // nodes with this owner are reachable from no snapshot

	copies uint64 // nodes copied because a snapshot shared them

	sketch *sketch // nil: none is kept
}

// noCopy makes go vet complain about copies: two trees with one owner would
// change each other's nodes.
type noCopy struct{}

func (noCopy) Lock()   {}
func (noCopy) Unlock() {}

// depth is how many levels a path holds without memory of its own; more are
// possible, but take more keys than fit in memory or very long ones.
const depth = 8

// A frame is a step on the way from the root: which child of which inner node,
// or, last, which item of the leaf.
type frame struct {
	n *node
	i int
}

// find appends to path the way to key, or to where it would be, and says
// whether it is there. root must not be nil.
func find(root *node, key []byte, path []frame) ([]frame, bool) {
	n := root
	for !n.leaf() {
		i := n.child(key)
		path = append(path, frame{n, i})
		n = n.kids[i].kid
	}
	i, found := n.keys.search(key)
	return append(path, frame{n, i}), found
}

// Put adds the item, or gives the key that hash if it is there, and returns
// the hash it had before. The tree copies key. Putting an item that is there
// already changes nothing (T6).
//
// It takes O(log n) time, and changes nodes in place as long as no snapshot
// taken from this tree shares them; it copies those that one does: once each,
// and only those on the way to the key (T5).
func (t *Tree) Put(key []byte, hash uint64) (old uint64, had bool) {
	if t.root == nil {
		t.grab()
		t.root = newLeaf(t.owner, key, hash)
		t.sum = Summary{Count: 1, Sum: hash}
		t.came(hash)
		return 0, false
	}
	var buf [depth]frame
	path, found := find(t.root, key, buf[:0])
	if found {
		f := path[len(path)-1]
		old = f.n.keys.hash(f.i)
		if old != hash {
			t.own(path)
			path[len(path)-1].n.keys.setHash(f.i, hash)
			t.add(path, Summary{Sum: hash - old})
			t.went(old)
			t.came(hash)
		}
		return old, true
	}
	// Each failed try has split one node or packed one anew.
	for !t.insert(path, key, hash) {
		path, _ = find(t.root, key, buf[:0])
	}
	t.came(hash)
	return 0, false
}

// Delete removes key and returns the hash it had. If it was not there,
// nothing changes (T6). It takes O(log n) time; for what it copies, see Put.
func (t *Tree) Delete(key []byte) (old uint64, had bool) {
	if t.root == nil {
		return 0, false
	}
	var buf [depth]frame
	path, found := find(t.root, key, buf[:0])
	if !found {
		return 0, false
	}
	t.own(path)
	f := path[len(path)-1]
	old = f.n.keys.hash(f.i)
	f.n.keys.remove(f.i)
	t.add(path, Summary{}.Sub(Summary{Count: 1, Sum: old}))
	t.tidy(path)
	t.went(old)
	return old, true
}

// grab sees to it that the tree has an owner.
func (t *Tree) grab() {
	if t.owner == nil {
		t.owner = new(owner)
	}
}

// own makes every node of the path the tree's own, copying those that are not.
func (t *Tree) own(path []frame) {
	t.grab()
	for l := range path {
		n := path[l].n
		if n.owner == t.owner {
			continue
		}
		n = n.clone(t.owner)
		t.copies++
		path[l].n = n
		if l == 0 {
			t.root = n
		} else {
			up := path[l-1]
			up.n.kids[up.i].kid = n
		}
	}
}

// add adds d to the summaries along the path, which must be owned.
func (t *Tree) add(path []frame, d Summary) {
	t.sum = t.sum.Add(d)
	for _, f := range path[:len(path)-1] {
		e := &f.n.kids[f.i]
		e.sum = e.sum.Add(d)
	}
}
