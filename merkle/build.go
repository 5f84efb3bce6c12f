package merkle

import (
	"errors"
	"slices"
)

// ErrOrder is returned by Builder.Add for a key that is not above the one
// added before it.
var ErrOrder = errors.New("merkle: keys do not ascend")

// A Builder makes a tree from items that come in key order, in O(1) each, with
// full nodes: it takes less time and memory than Put. The zero Builder is
// ready. It is not safe for concurrent use.
type Builder struct {
	owner  *owner
	leaf   node    // being filled
	last   []byte  // the key added last
	sep    []byte  // the separator before leaf
	levels []level // inner nodes being filled, the lowest first
	sketch *sketch // nil: none is to be kept
}

// A level is an inner node that is being filled.
type level struct {
	node
	sep []byte // the separator before it
}

// KeepSketch has the tree keep a sketch, as its own KeepSketch would, which is
// made while the items come. Items is about how many they will be: if they turn
// out to be many more, the sketch is made anew at the end. It panics after the
// first Add.
func (b *Builder) KeepSketch(items uint64) {
	if b.owner != nil {
		panic("BUG: merkle: a sketch is to be kept of items that were added before")
	}
	b.sketch = newSketch(cellsFor(items, maxCells))
}

// Add adds an item behind all others. It copies key. If the key does not
// ascend strictly it returns ErrOrder and adds nothing.
func (b *Builder) Add(key []byte, hash uint64) error {
	c := lcp(b.last, key)
	if b.owner == nil {
		b.owner = new(owner)
		b.leaf.keys.hashed = hashSize
	} else if c == len(key) || c < len(b.last) && key[c] < b.last[c] {
		return ErrOrder
	}
	k := &b.leaf.keys
	// The key before has the leaf's prefix, so c tells how much of it key has.
	common := min(c, int(k.plen))
	if k.n == maxItems || k.n > 0 && k.sizeWithLen(len(key), common) > maxBytes {
		b.finishLeaf()
		b.sep = append(b.sep[:0], separator(key, c)...)
	}
	k.insertLCP(k.len(), key, hash, common)
	b.last = append(b.last[:c], key[c:]...)
	if b.sketch != nil {
		b.sketch.change(hash, 1)
	}
	return nil
}

// Tree returns the tree of all items added, and empties the builder.
func (b *Builder) Tree() *Tree {
	if b.owner == nil {
		t := new(Tree)
		b.handOver(t)
		return t
	}
	b.finishLeaf()
	for l := 0; ; l++ {
		top := &b.levels[l]
		if l == len(b.levels)-1 {
			t := &Tree{sum: top.node.sum(), owner: b.owner, root: top.kids[0].kid}
			if len(top.kids) > 1 {
				t.root = b.exact(&top.node)
			}
			b.handOver(t)
			return t
		}
		b.finishLevel(l)
	}
}

// handOver gives the sketch to the tree, and empties the builder.
func (b *Builder) handOver(t *Tree) {
	if t.sketch = b.sketch; t.sketch != nil {
		t.KeepSketch()
	}
	*b = Builder{}
}

// finishLeaf hands the leaf that was being filled to the level above.
func (b *Builder) finishLeaf() {
	leaf := b.exact(&b.leaf)
	b.push(0, b.sep, entry{leaf.sum(), leaf})
	b.leaf.keys.reset()
}

// push adds a child, and the separator before it, to the inner node that is
// being filled at that level.
func (b *Builder) push(l int, sep []byte, e entry) {
	if l == len(b.levels) {
		b.levels = append(b.levels, level{})
	}
	n := &b.levels[l]
	if len(n.kids) > 0 && !n.hasRoom(sep) {
		b.finishLevel(l)
		n = &b.levels[l]
	}
	if len(n.kids) == 0 {
		n.sep = append(n.sep[:0], sep...)
	} else {
		n.keys.insert(n.keys.len(), sep, 0)
	}
	n.kids = append(n.kids, e)
}

// finishLevel hands the inner node that was being filled to the level above.
func (b *Builder) finishLevel(l int) {
	n := &b.levels[l]
	done := b.exact(&n.node)
	b.push(l+1, n.sep, entry{done.sum(), done})
	n = &b.levels[l]
	n.keys.reset()
	n.kids = n.kids[:0]
}

// exact returns a copy of n without room to spare.
func (b *Builder) exact(n *node) *node {
	return &node{
		keys:  pack(0, run{&n.keys, 0, n.keys.len()}),
		owner: b.owner,
		kids:  slices.Clone(n.kids),
	}
}

// reset empties the list and keeps its memory.
func (p *packed) reset() {
	*p = packed{slab: p.slab[:0], ends: p.ends[:0], hashed: p.hashed}
}
