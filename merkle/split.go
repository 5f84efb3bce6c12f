package merkle

// insert puts an item that is not there where the path ends and says true, or
// makes room on the way there and says false: then the path is void.
func (t *Tree) insert(path []frame, key []byte, hash uint64) bool {
	t.own(path)
	last := len(path) - 1
	leaf, at := path[last].n, path[last].i
	if leaf.hasRoom(key) {
		leaf.keys.insert(at, key, hash)
		t.add(path, Summary{Count: 1, Sum: hash})
		return true
	}
	if leaf.keys.tighten() {
		return false
	}
	cut := t.cut(path, key)
	sep := leaf.separatorAt(cut, key)
	// The lowest node whose parent has room for one more is split; full
	// parents first.
	level := last
	for level > 0 && !path[level-1].n.hasRoom(sep) {
		level--
		n := path[level].n
		cut = n.cutKids(rightmost(path[:level+2]))
		sep = n.keys.appendKey(nil, cut)
	}
	parent, i := t.parent(path, level)
	switch {
	case level < last:
		n := path[level].n
		right, sum := n.splitKids(t.owner, cut)
		parent.kids[i].sum = parent.kids[i].sum.Sub(sum)
		parent.insertKid(i+1, entry{sum, right}, i, sep)
		return false
	case cut > 0 && cut < leaf.keys.len():
		right, sum := leaf.splitItems(t.owner, cut)
		parent.kids[i].sum = parent.kids[i].sum.Sub(sum)
		parent.insertKid(i+1, entry{sum, right}, i, sep)
		return false
	}
	return t.insertLeaf(path, parent, i, cut, sep, key, hash)
}

// insertLeaf puts the item into a leaf of its own beside child i of parent:
// before it if cut is 0, else behind it. It says true.
func (t *Tree) insertLeaf(path []frame, parent *node, i, cut int, sep, key []byte, hash uint64) bool {
	sum := Summary{Count: 1, Sum: hash}
	at := i
	if cut > 0 {
		at++
	}
	parent.insertKid(at, entry{sum, newLeaf(t.owner, key, hash)}, i, sep)
	t.sum = t.sum.Add(sum)
	for l := 0; l < len(path)-2; l++ {
		e := &path[l].n.kids[path[l].i]
		e.sum = e.sum.Add(sum)
	}
	// The neighbour on the other side may have room. It often does when keys
	// come from the middle of a gap.
	t.mergeAround(parent, at)
	return true
}

// parent returns the parent of the path's node at that level and which of its
// children that is. Above the root it makes a new one.
func (t *Tree) parent(path []frame, level int) (*node, int) {
	if level > 0 {
		return path[level-1].n, path[level-1].i
	}
	t.root = &node{owner: t.owner, kids: []entry{{t.sum, t.root}}}
	return t.root, 0
}

// cut returns where to cut the leaf at the end of the path, which has no room
// for key: at 0 or its length, a leaf for key alone comes before or behind it.
func (t *Tree) cut(path []frame, key []byte) int {
	leaf, at := path[len(path)-1].n, path[len(path)-1].i
	n := leaf.keys.len()
	switch {
	case n == 1:
		return at
	case at == n && rightmost(path), at == 0 && leftmost(path):
		// Keys that come in order leave full leaves behind.
		return at
	case len(key)-lcp(leaf.keys.prefix(), key) > maxBytes/2:
		// So large a key gets a leaf of its own at once, instead of one
		// after its neighbours have been halved down to one key.
		return at
	case lcp(leaf.keys.prefix(), key) < int(leaf.keys.plen) && n < maxItems:
		// The key does not begin as all others do, so it sorts before or
		// behind them all; halves would have no more room for it.
		return at
	}
	return 1 + leaf.middle(0, n-2)
}

// separatorAt returns the separator between what is left and right of the cut.
func (n *node) separatorAt(cut int, key []byte) []byte {
	k := &n.keys
	whole := parts{key}
	switch cut {
	case 0:
		first := k.appendKey(nil, 0)
		return separator(first, lcp(key, first))
	case k.len():
		return separator(key, lcpParts(k.parts(cut-1), whole))
	}
	right := k.appendKey(nil, cut)
	return separator(right, lcpParts(k.parts(cut-1), parts{right}))
}

// splitItems leaves a leaf the items before cut and returns a new one with the
// rest, and its summary.
func (n *node) splitItems(o *owner, cut int) (*node, Summary) {
	k := n.keys
	total := k.len()
	room := len(k.slab) / 16
	right := &node{keys: pack(room, run{&k, cut, total}), owner: o}
	n.keys = pack(room, run{&k, 0, cut})
	return right, right.sum()
}

// cutKids returns the number of the separator at which to cut a full inner
// node: it moves up, with two children or more left on either side.
func (n *node) cutKids(rightmost bool) int {
	if rightmost {
		return n.keys.len() - 2
	}
	return n.middle(1, n.keys.len()-2)
}

// splitKids leaves an inner node the children up to separator cut and returns a
// new one with those behind, and its summary. The separator is in neither.
func (n *node) splitKids(o *owner, cut int) (*node, Summary) {
	k := n.keys
	right := &node{
		keys:  pack(0, run{&k, cut + 1, k.len()}),
		owner: o,
		kids:  append([]entry(nil), n.kids[cut+1:]...),
	}
	n.keys = pack(0, run{&k, 0, cut})
	n.kids = append([]entry(nil), n.kids[:cut+1]...)
	return right, right.sum()
}

// tighten packs the list anew if that makes the prefix longer.
func (p *packed) tighten() bool {
	if lcpParts(p.parts(0), p.parts(p.len()-1)) == int(p.plen) {
		return false
	}
	*p = pack(0, run{p, 0, p.len()})
	return true
}

// rightmost says whether the path takes the last child everywhere.
func rightmost(path []frame) bool {
	for _, f := range path[:len(path)-1] {
		if f.i != len(f.n.kids)-1 {
			return false
		}
	}
	return true
}

// leftmost says whether the path takes the first child everywhere.
func leftmost(path []frame) bool {
	for _, f := range path[:len(path)-1] {
		if f.i != 0 {
			return false
		}
	}
	return true
}
