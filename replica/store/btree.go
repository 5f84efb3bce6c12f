package store

import (
	"bytes"
	"slices"
)

// fanout is the largest number of items in a leaf, and of children in an inner
// node.
const fanout = 64

// A btree is an ordered map from keys to values with cheap snapshots: what
// Memory keeps its data in. It is a B-tree that copies a node before it changes
// it if a snapshot may hold it too. Nodes are split when full; they are not
// merged when they shrink, only dropped when empty, which is enough for a store
// that lives as long as a test.
//
// The zero btree is empty. Snapshots may be read by any goroutine while the
// tree they were taken from changes; a btree itself has one user at a time.
type btree struct {
	root  *node
	owner *owner // marks the nodes that nobody else holds
	count int
	bytes int // of all keys and values
}

// An owner is an identity, so it must not be of size zero.
type owner struct{ _ byte }

// A node is a leaf (no children) or an inner node. An inner node has one item
// for each child, of which only the key is used: no key of the child is smaller
// than that, and all keys of earlier children are.
type node struct {
	owner    *owner
	items    []item
	children []*node
}

type item struct{ key, value []byte }

// snapshot returns the tree as it is now. Later changes of t copy what they
// touch.
func (t *btree) snapshot() btree {
	t.owner = new(owner) // every node there is now belongs to nobody
	return btree{root: t.root, count: t.count, bytes: t.bytes}
}

// own returns n, or a copy of it if someone else may hold it.
func (t *btree) own(n *node) *node {
	if n.owner == t.owner {
		return n
	}
	return &node{
		owner:    t.owner,
		items:    append(make([]item, 0, fanout+1), n.items...),
		children: slices.Clone(n.children),
	}
}

// find returns the index of key among the items of a leaf, or where it would
// be, and whether it is there.
func (n *node) find(key []byte) (int, bool) {
	return slices.BinarySearchFunc(n.items, key, func(it item, key []byte) int {
		return bytes.Compare(it.key, key)
	})
}

// child returns the index of the child of an inner node that holds key, if any
// does.
func (n *node) child(key []byte) int {
	i, found := n.find(key)
	if !found && i > 0 {
		i--
	}
	return i
}

func (t *btree) get(key []byte) ([]byte, bool) {
	n := t.root
	if n == nil {
		return nil, false
	}
	for n.children != nil {
		n = n.children[n.child(key)]
	}
	i, ok := n.find(key)
	if !ok {
		return nil, false
	}
	return n.items[i].value, true
}

// set puts an item. It keeps both slices.
func (t *btree) set(key, value []byte) {
	if t.owner == nil {
		t.owner = new(owner)
	}
	if t.root == nil {
		t.root = &node{owner: t.owner}
	}
	t.root = t.own(t.root)
	if right := t.insert(t.root, item{key, value}); right != nil {
		left := t.root
		t.root = &node{
			owner:    t.owner,
			items:    []item{{key: left.items[0].key}, {key: right.items[0].key}},
			children: []*node{left, right},
		}
	}
}

// insert puts an item below n, which is owned, and returns a new right
// neighbour of n if it had to be split.
func (t *btree) insert(n *node, it item) *node {
	if n.children == nil {
		i, found := n.find(it.key)
		if found {
			t.bytes += len(it.value) - len(n.items[i].value)
			n.items[i].value = it.value
			return nil
		}
		t.count++
		t.bytes += len(it.key) + len(it.value)
		n.items = slices.Insert(n.items, i, it)
		return t.split(n)
	}
	i := n.child(it.key)
	c := t.own(n.children[i])
	n.children[i] = c
	right := t.insert(c, it)
	n.items[i].key = c.items[0].key
	if right == nil {
		return nil
	}
	n.items = slices.Insert(n.items, i+1, item{key: right.items[0].key})
	n.children = slices.Insert(n.children, i+1, right)
	return t.split(n)
}

// split moves the upper part of an overfull node to a new one. A node that
// grows at its end, as in a load in key order, stays nearly full.
func (t *btree) split(n *node) *node {
	if len(n.items) <= fanout {
		return nil
	}
	at := len(n.items) / 2
	if last := n.items[fanout].key; n.children == nil && bytes.Equal(last, t.lastKey()) {
		at = fanout
	}
	right := &node{owner: t.owner, items: append(make([]item, 0, fanout+1), n.items[at:]...)}
	clear(n.items[at:])
	n.items = n.items[:at]
	if n.children != nil {
		right.children = slices.Clone(n.children[at:])
		clear(n.children[at:])
		n.children = n.children[:at]
	}
	return right
}

func (t *btree) lastKey() []byte {
	n := t.root
	for n.children != nil {
		n = n.children[len(n.children)-1]
	}
	return n.items[len(n.items)-1].key
}

// delete removes an item if it is there.
func (t *btree) delete(key []byte) {
	if _, ok := t.get(key); !ok {
		return
	}
	if t.owner == nil {
		t.owner = new(owner)
	}
	t.root = t.own(t.root)
	t.remove(t.root, key)
	for t.root != nil && len(t.root.children) == 1 {
		t.root = t.root.children[0]
	}
	if len(t.root.items) == 0 {
		t.root = nil
	}
}

// remove removes a key that is there from below n, which is owned.
func (t *btree) remove(n *node, key []byte) {
	if n.children == nil {
		i, _ := n.find(key)
		t.count--
		t.bytes -= len(n.items[i].key) + len(n.items[i].value)
		n.items = slices.Delete(n.items, i, i+1)
		return
	}
	i := n.child(key)
	c := t.own(n.children[i])
	n.children[i] = c
	t.remove(c, key)
	if len(c.items) == 0 {
		n.items = slices.Delete(n.items, i, i+1)
		n.children = slices.Delete(n.children, i, i+1)
	}
}

// ascend calls fn for the items from lo on, below hi unless that is nil, until
// it returns false.
func (t *btree) ascend(lo, hi []byte, fn func(key, value []byte) bool) {
	if t.root != nil {
		t.root.ascend(lo, hi, fn)
	}
}

func (n *node) ascend(lo, hi []byte, fn func(key, value []byte) bool) bool {
	if n.children == nil {
		i, _ := n.find(lo)
		for _, it := range n.items[i:] {
			if hi != nil && bytes.Compare(it.key, hi) >= 0 || !fn(it.key, it.value) {
				return false
			}
		}
		return true
	}
	for _, c := range n.children[n.child(lo):] {
		if !c.ascend(lo, hi, fn) {
			return false
		}
	}
	return true
}
