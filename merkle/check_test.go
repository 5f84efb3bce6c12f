package merkle

import (
	"bytes"
	"fmt"
)

// check verifies the invariants of a tree: order (T1), summaries (T2), bounds
// of the nodes, packing, separators, one depth.
func (t *Tree) check() error {
	if t.root == nil {
		if t.sum != (Summary{}) {
			return fmt.Errorf("empty tree has summary %v", t.sum)
		}
		return nil
	}
	if !t.root.leaf() && len(t.root.kids) < 2 {
		return fmt.Errorf("root has %d children", len(t.root.kids))
	}
	sum, _, err := t.root.check(nil, nil)
	if err == nil && sum != t.sum {
		err = fmt.Errorf("tree has summary %v, items have %v", t.sum, sum)
	}
	return err
}

// check verifies a node whose keys k must have lo <= k, and k < hi unless hi
// is nil. It returns the summary of its items and its height.
func (n *node) check(lo, hi []byte) (Summary, int, error) {
	var sum Summary
	if err := n.keys.check(); err != nil {
		return sum, 0, err
	}
	for i := range n.keys.len() {
		key := n.keys.appendKey(nil, i)
		if bytes.Compare(key, lo) < 0 || hi != nil && bytes.Compare(key, hi) >= 0 {
			return sum, 0, fmt.Errorf("key %d of %d outside of its node's range", i, n.keys.len())
		}
	}
	if n.leaf() {
		sum = n.sum()
		k := n.keys.len()
		if k < 1 || k > maxItems || n.keys.hashed != hashSize || k > 1 && n.keys.size() > maxBytes {
			return sum, 0, fmt.Errorf("leaf of %d keys, %d bytes", k, n.keys.size())
		}
		return sum, 1, nil
	}
	k := len(n.kids)
	if k < 1 || k > maxKids || k != n.keys.len()+1 || n.keys.hashed != 0 || k > freeSeps+1 && n.keys.size() > maxBytes {
		return sum, 0, fmt.Errorf("inner node of %d children, %d separators, %d bytes", k, n.keys.len(), n.keys.size())
	}
	height := 0
	for i, e := range n.kids {
		from, to := lo, hi
		if i > 0 {
			from = n.keys.appendKey(nil, i-1)
		}
		if i < n.keys.len() {
			to = n.keys.appendKey(nil, i)
		}
		s, h, err := e.kid.check(from, to)
		if err != nil {
			return sum, 0, err
		}
		if s != e.sum {
			return sum, 0, fmt.Errorf("child %d has summary %v, entry says %v", i, s, e.sum)
		}
		if height != 0 && h != height {
			return sum, 0, fmt.Errorf("child %d has height %d, the one before %d", i, h, height)
		}
		height = h
		sum = sum.Add(s)
	}
	return sum, height + 1, nil
}

// check verifies the packing of a list, and that it ascends.
func (p *packed) check() error {
	if p.n == 0 {
		return nil
	}
	if int(p.plen) > len(p.slab) || cap(p.slab) < len(p.slab)+pad {
		return fmt.Errorf("slab len %d cap %d, prefix %d", len(p.slab), cap(p.slab), p.plen)
	}
	if len(p.ends) != int(p.n)*int(p.width) || p.start(p.len()) != len(p.slab)-int(p.plen) {
		return fmt.Errorf("width %d, %d keys: %d bytes of ends; last end %d of %d",
			p.width, p.n, len(p.ends), p.start(p.len()), len(p.slab)-int(p.plen))
	}
	for i := range p.len() {
		if p.start(i) > p.end(i) || i > 0 && bytes.Compare(p.suffix(i-1), p.suffix(i)) >= 0 {
			return fmt.Errorf("key %d of %d is not above the one before", i, p.n)
		}
	}
	return nil
}
