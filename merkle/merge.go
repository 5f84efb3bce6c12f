package merkle

// tidy goes up the path after a removal: what is empty goes, what fits into
// one node with a neighbour is merged with it, and a root with one child gives
// way to that.
//
// So of two neighbours below one node, one is more than a third full, and an
// emptied tree holds nothing.
func (t *Tree) tidy(path []frame) {
	for l := len(path) - 1; l > 0; l-- {
		n, parent, i := path[l].n, path[l-1].n, path[l-1].i
		if n.keys.len() == 0 && len(n.kids) == 0 {
			parent.removeKid(i, max(i-1, 0))
		} else if !t.mergeAround(parent, i) {
			break
		}
	}
	for t.root != nil && t.root.keys.len() == 0 && len(t.root.kids) <= 1 {
		if len(t.root.kids) == 1 {
			t.root = t.root.kids[0].kid
		} else {
			t.root = nil
		}
	}
}

// mergeAround merges child i of parent with the next or the one before if the
// two fit into one node well, and says whether it did. The tree must own parent.
func (t *Tree) mergeAround(parent *node, i int) bool {
	if i+1 < len(parent.kids) && t.merge(parent, i) {
		return true
	}
	return i > 0 && t.merge(parent, i-1)
}

// merge merges children i and i+1 of parent if they fit into one node well.
func (t *Tree) merge(parent *node, i int) bool {
	a, b := parent.kids[i], parent.kids[i+1]
	var n *node
	if a.kid.leaf() {
		// The counts are at hand; most neighbours need not be looked at.
		if a.sum.Count+b.sum.Count > mergeItems {
			return false
		}
		n = mergeItemsOf(a.kid, b.kid)
	} else {
		n = mergeKidsOf(a.kid, b.kid, run{&parent.keys, i, i + 1})
	}
	if n == nil {
		return false
	}
	n.owner = t.owner
	parent.kids[i] = entry{a.sum.Add(b.sum), n}
	parent.removeKid(i+1, i)
	return true
}

// mergeItemsOf returns a leaf with the items of both, or nil if they are too
// many bytes.
func mergeItemsOf(a, b *node) *node {
	runs := []run{{&a.keys, 0, a.keys.len()}, {&b.keys, 0, b.keys.len()}}
	if _, _, size := measure(runs); size > mergeBytes {
		return nil
	}
	return &node{keys: pack(0, runs...)}
}

// mergeKidsOf returns an inner node with the children of both and sep between
// them, or nil if that is too much.
func mergeKidsOf(a, b *node, sep run) *node {
	if len(a.kids)+len(b.kids) > mergeKids {
		return nil
	}
	runs := make([]run, 0, 3)
	for _, r := range []run{{&a.keys, 0, a.keys.len()}, sep, {&b.keys, 0, b.keys.len()}} {
		if r.from < r.to {
			runs = append(runs, r)
		}
	}
	if _, n, size := measure(runs); n > freeSeps && size > mergeBytes {
		return nil
	}
	kids := make([]entry, 0, len(a.kids)+len(b.kids))
	return &node{
		keys: pack(0, runs...),
		kids: append(append(kids, a.kids...), b.kids...),
	}
}
