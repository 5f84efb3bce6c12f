package merkle

import "bytes"

// The functions here read a tree below a root that may be nil.

func get(root *node, key []byte) (uint64, bool) {
	n := root
	if n == nil {
		return 0, false
	}
	for !n.leaf() {
		n = n.kids[n.child(key)].kid
	}
	i, found := n.keys.search(key)
	if !found {
		return 0, false
	}
	return n.keys.hash(i), true
}

// below returns the summary of all items with a key less than key. Since
// summaries subtract, that is all a range needs.
func below(root *node, key []byte) Summary {
	var s Summary
	n := root
	if n == nil {
		return s
	}
	for !n.leaf() {
		i := n.child(key)
		s = s.Add(n.sumTo(i))
		n = n.kids[i].kid
	}
	i, _ := n.keys.search(key)
	return s.Add(n.sumTo(i))
}

func rangeSum(root *node, sum Summary, lo, hi []byte) Summary {
	if hi != nil {
		if bytes.Compare(lo, hi) >= 0 {
			return Summary{}
		}
		sum = below(root, hi)
	}
	if len(lo) == 0 {
		return sum
	}
	return sum.Sub(below(root, lo))
}

func at(root *node, sum Summary, i uint64) (key []byte, hash uint64, ok bool) {
	if i >= sum.Count {
		return nil, 0, false
	}
	n := root
	for !n.leaf() {
		j := 0
		for i >= n.kids[j].sum.Count {
			i -= n.kids[j].sum.Count
			j++
		}
		n = n.kids[j].kid
	}
	key = make([]byte, 0, int(n.keys.plen)+len(n.keys.suffix(int(i))))
	return n.keys.appendKey(key, int(i)), n.keys.hash(int(i)), true
}

func ascend(root *node, lo, hi []byte, fn func(key []byte, hash uint64) bool) {
	if root == nil {
		return
	}
	var buf [depth]frame
	path, _ := find(root, lo, buf[:0])
	var key []byte
	for {
		leaf, from := path[len(path)-1].n, path[len(path)-1].i
		to, more := leaf.keys.len(), true
		if hi != nil {
			to, _ = leaf.keys.search(hi)
			more = to == leaf.keys.len()
		}
		key = append(key[:0], leaf.keys.prefix()...)
		for i := from; i < to; i++ {
			key = append(key[:leaf.keys.plen], leaf.keys.suffix(i)...)
			if !fn(key, leaf.keys.hash(i)) {
				return
			}
		}
		if !more {
			return
		}
		if path = next(path); path == nil {
			return
		}
	}
}

// next turns the path to one leaf into that to the first item of the next
// leaf, or returns nil if there is none.
func next(path []frame) []frame {
	l := len(path) - 2
	for l >= 0 && path[l].i+1 == len(path[l].n.kids) {
		l--
	}
	if l < 0 {
		return nil
	}
	path = path[:l+1]
	path[l].i++
	n := path[l].n.kids[path[l].i].kid
	for !n.leaf() {
		path = append(path, frame{n, 0})
		n = n.kids[0].kid
	}
	return append(path, frame{n, 0})
}

// heap returns about how many bytes of memory the nodes below root take.
func heap(root *node) int64 {
	if root == nil {
		return 0
	}
	const nodeSize, entrySize = 96, 24
	k := &root.keys
	total := int64(nodeSize + cap(k.slab) + cap(k.ends) + entrySize*cap(root.kids))
	for i := range root.kids {
		total += heap(root.kids[i].kid)
	}
	return total
}
