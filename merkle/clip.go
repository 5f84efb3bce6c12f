package merkle

// Clip returns the snapshot of the items with lo <= key < hi alone; a nil hi
// means no upper bound, a nil lo no lower one. It holds none if lo >= hi. It
// takes O(log n) time, and memory for two nodes of each level at most: all
// others are shared.
func (s *Snapshot) Clip(lo, hi []byte) *Snapshot {
	v := s.view()
	root := v.root
	switch {
	case root == nil || hi != nil && string(lo) >= string(hi):
		return &Snapshot{}
	case len(lo) == 0 && hi == nil:
		return &v
	}
	if root = clip(root, lo, hi); root == nil {
		return &Snapshot{}
	}
	sum := root.sum()
	for !root.leaf() && len(root.kids) == 1 {
		root = root.kids[0].kid
	}
	return &Snapshot{root: root, sum: sum}
}

// clip returns a node like n with the items from lo up to hi alone, at the same
// depth, or nil if there are none.
func clip(n *node, lo, hi []byte) *node {
	if n.leaf() {
		from, _ := n.keys.search(lo)
		to := n.keys.len()
		if hi != nil {
			to, _ = n.keys.search(hi)
		}
		switch {
		case from == to:
			return nil
		case to-from == n.keys.len():
			return n
		}
		return &node{keys: pack(0, run{&n.keys, from, to})}
	}
	first, last := n.child(lo), len(n.kids)-1
	if hi != nil {
		last = n.child(hi)
	}
	kids := make([]entry, 0, last-first+1)
	from := first // of the separators
	for i := first; i <= last; i++ {
		e := n.kids[i]
		switch {
		case i == first && i == last:
			e.kid = clip(e.kid, lo, hi)
		case i == first:
			e.kid = clip(e.kid, lo, nil)
		case i == last:
			e.kid = clip(e.kid, nil, hi)
		}
		switch {
		case e.kid != nil:
			if e.kid != n.kids[i].kid {
				e.sum = e.kid.sum()
			}
			kids = append(kids, e)
		case i == first:
			from++
		}
	}
	if len(kids) == 0 {
		return nil
	}
	return &node{kids: kids, keys: pack(0, run{&n.keys, from, from + len(kids) - 1})}
}
