package merkle

import (
	"bytes"
	"slices"
	"sort"
)

// reference is the tree straight from the definition: the items in order. Its
// summaries are added up item by item.
type reference []pair

type pair struct {
	key  string
	hash uint64
}

func newReference(m map[string]uint64) reference {
	r := make(reference, 0, len(m))
	for k, h := range m {
		r = append(r, pair{k, h})
	}
	sort.Slice(r, func(i, j int) bool { return r[i].key < r[j].key })
	return r
}

// slice returns the items with lo <= key, and key < hi unless hi is nil.
func (r reference) slice(lo, hi []byte) reference {
	var out reference
	for _, p := range r {
		if p.key >= string(lo) && (hi == nil || p.key < string(hi)) {
			out = append(out, p)
		}
	}
	return out
}

// prefix returns the items whose key begins with p.
func (r reference) prefix(p []byte) reference {
	var out reference
	for _, it := range r {
		if bytes.HasPrefix([]byte(it.key), p) {
			out = append(out, it)
		}
	}
	return out
}

func (r reference) sum() Summary {
	var s Summary
	for _, p := range r {
		s.Count++
		s.Sum += p.hash
	}
	return s
}

func (r reference) tree() *Tree {
	var b Builder
	for _, p := range r {
		if err := b.Add([]byte(p.key), p.hash); err != nil {
			panic(err)
		}
	}
	return b.Tree()
}

// reader is what trees and snapshots have in common.
type reader interface {
	Summary() Summary
	Get(key []byte) (uint64, bool)
	Range(lo, hi []byte) Summary
	Prefix(p []byte) Summary
	Ascend(lo, hi []byte, fn func(key []byte, hash uint64) bool)
	At(i uint64) ([]byte, uint64, bool)
	Rank(key []byte) uint64
	Bytes() int64
}

var _, _ reader = (*Tree)(nil), (*Snapshot)(nil)

// items returns the items of a range as Ascend gives them.
func items(t reader, lo, hi []byte) reference {
	var out reference
	t.Ascend(lo, hi, func(key []byte, hash uint64) bool {
		out = append(out, pair{string(key), hash})
		return true
	})
	return out
}

// same says whether a tree holds exactly the items of r.
func (r reference) same(t reader) bool {
	return t.Summary() == r.sum() && slices.Equal(items(t, nil, nil), r)
}
