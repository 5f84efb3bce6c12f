package store

import (
	"bytes"
	"encoding/binary"
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
	heads    []uint64 // of the items' keys: they tell most apart, and lie side by side
	items    []item
	children []*node
}

// head returns the first eight bytes of a key as a big-endian number, zeros
// standing for what it lacks: it orders like the key as far as it goes.
func head(key []byte) uint64 {
	if len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	var b [8]byte
	copy(b[:], key)
	return binary.BigEndian.Uint64(b[:])
}

// An item has key and value in one piece: one pointer to move and to trace.
type item struct {
	both []byte // the key, then the value
	klen int
}

func newItem(key, value []byte) item {
	both := append(append(make([]byte, 0, len(key)+len(value)), key...), value...)
	return item{both, len(key)}
}

func (it item) key() []byte   { return it.both[:it.klen:it.klen] }
func (it item) value() []byte { return it.both[it.klen:] }

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
		heads:    append(make([]uint64, 0, fanout+1), n.heads...),
		items:    append(make([]item, 0, fanout+1), n.items...),
		children: slices.Clone(n.children),
	}
}

// first returns the first key, as the item of an inner node. With the key it
// keeps the whole of that item alive, also when a leaf has it no more.
func (n *node) first() item { return item{n.items[0].key(), n.items[0].klen} }

// add puts an item at a place.
func (n *node) add(i int, it item) {
	n.heads = slices.Insert(n.heads, i, head(it.key()))
	n.items = slices.Insert(n.items, i, it)
}

// drop takes the item at a place away.
func (n *node) drop(i int) {
	n.heads = slices.Delete(n.heads, i, i+1)
	n.items = slices.Delete(n.items, i, i+1)
}

// find returns the index of key among the items of a leaf, or where it would
// be, and whether it is there.
func (n *node) find(key []byte) (int, bool) {
	want := head(key)
	lo, hi := 0, len(n.heads)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		below := n.heads[mid] < want
		if n.heads[mid] == want {
			c := bytes.Compare(n.items[mid].key(), key)
			if c == 0 {
				return mid, true
			}
			below = c < 0
		}
		if below {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, false
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
	return n.items[i].value(), true
}

// set puts an item. It keeps copies of both slices.
func (t *btree) set(key, value []byte) {
	if t.owner == nil {
		t.owner = new(owner)
	}
	if t.root == nil {
		t.root = &node{owner: t.owner}
	}
	t.root = t.own(t.root)
	if right := t.insert(t.root, newItem(key, value)); right != nil {
		left := t.root
		t.root = &node{
			owner:    t.owner,
			heads:    []uint64{left.heads[0], right.heads[0]},
			items:    []item{left.first(), right.first()},
			children: []*node{left, right},
		}
	}
}

// insert puts an item below n, which is owned, and returns a new right
// neighbour of n if it had to be split.
func (t *btree) insert(n *node, it item) *node {
	if n.children == nil {
		i, found := n.find(it.key())
		if found {
			t.bytes += len(it.both) - len(n.items[i].both)
			n.items[i] = it
			return nil
		}
		t.count++
		t.bytes += len(it.both)
		n.add(i, it)
		return t.split(n)
	}
	i := n.child(it.key())
	c := n.children[i]
	if c.owner != t.owner {
		c = t.own(c)
		n.children[i] = c
	}
	right := t.insert(c, it)
	if i == 0 { // it may be below all there were
		n.heads[0], n.items[0] = c.heads[0], c.first()
	}
	if right == nil {
		return nil
	}
	n.add(i+1, right.first())
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
	if last := n.items[fanout].key(); n.children == nil && bytes.Equal(last, t.lastKey()) {
		at = fanout
	}
	right := &node{
		owner: t.owner,
		heads: append(make([]uint64, 0, fanout+1), n.heads[at:]...),
		items: append(make([]item, 0, fanout+1), n.items[at:]...),
	}
	clear(n.items[at:])
	n.heads, n.items = n.heads[:at], n.items[:at]
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
	return n.items[len(n.items)-1].key()
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
		t.bytes -= len(n.items[i].both)
		n.drop(i)
		return
	}
	i := n.child(key)
	c := t.own(n.children[i])
	n.children[i] = c
	t.remove(c, key)
	if len(c.items) == 0 {
		n.drop(i)
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
			if hi != nil && bytes.Compare(it.key(), hi) >= 0 || !fn(it.key(), it.value()) {
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
