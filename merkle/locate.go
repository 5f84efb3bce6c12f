package merkle

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math/bits"
)

// Locate calls fn for every item whose hash is one of those given, in key order:
// with its rank, as At counts, and with the index of its hash. Of hashes that
// are given twice it takes one. The lower ignore bits, 24 at most, are not
// looked at, neither of these hashes nor of the items'. It reads all items, at 2 to 5 ns each and some
// 100 ns more for each that it calls fn for. It takes 16 to 32 bytes of memory for
// each hash, and 8 KB. It reads hashes while it runs; fn must not change it.
func (s *Snapshot) Locate(hashes []uint64, ignore uint, fn func(rank uint64, i int)) {
	v := s.view()
	if v.root == nil || len(hashes) == 0 {
		return
	}
	newHashSet(hashes, ignore).locate(v.root, 0, fn)
}

// locate does Locate below a node whose first item has that rank.
func (s *hashSet) locate(n *node, rank uint64, fn func(rank uint64, i int)) {
	if !n.leaf() {
		for i := range n.kids {
			s.soon(n.kids[i+1:])
			s.locate(n.kids[i].kid, rank, fn)
			rank += n.kids[i].sum.Count
		}
		return
	}
	k := &n.keys
	if k.width != 0 {
		for j := range k.len() {
			if h := k.hash(j); s.mayHave(h) {
				s.visit(h, rank+uint64(j), fn)
			}
		}
		return
	}
	step := int(k.stride) + hashSize
	for b := k.slab[k.plen:]; len(b) >= hashSize; b = b[step:] {
		if h := binary.LittleEndian.Uint64(b); s.mayHave(h) {
			s.visit(h, rank, fn)
		}
		rank++
	}
}

// soon reads a little of the nodes that come next, and does not wait for it: by
// then they are in the processor's cache. Leaves lie anywhere in memory.
func (s *hashSet) soon(next []entry) {
	if len(next) < 2 {
		return
	}
	s.ahead += int(next[1].kid.keys.n)
	if b := next[0].kid.keys.slab; len(b) > 0 {
		s.ahead += int(b[0]) + int(b[len(b)/4])
	}
}

// visit calls fn if the hash is in the set.
func (s *hashSet) visit(h, rank uint64, fn func(rank uint64, i int)) {
	if slot, found := s.slot(h); found {
		fn(rank, int(s.slots[slot])-1)
	}
}

// maxIgnored leaves more bits than the filter of any set looks at.
const maxIgnored = 24

// A hashSet is a set of hashes. A filter of many bits for each sorts out nearly
// all others at one look, so a processor that expects that is seldom wrong.
type hashSet struct {
	hashes []uint64
	filter []uint64 // has the bits set that are the upper bits of a hash
	shift  uint     // of a hash, to its bit
	ignore uint     // bits of a hash
	slots  []int32  // 1 + index; open addressing
	key    uint64   // random: nobody can choose hashes that all want one slot
	ahead  int      // a sum of no meaning; see soon
}

func newHashSet(hashes []uint64, ignore uint) *hashSet {
	if ignore > maxIgnored {
		panic(fmt.Sprintf("BUG: merkle: %d bits of hashes are to be ignored", ignore))
	}
	size := bits.Len(uint(len(hashes))) // 2^size > len
	width := max(size+6, 16)
	s := &hashSet{
		hashes: hashes,
		ignore: ignore,
		filter: make([]uint64, 1<<(width-6)),
		shift:  uint(64 - width),
		slots:  make([]int32, 1<<(size+1)),
		key:    maphash.Comparable(maphash.MakeSeed(), 0),
	}
	for i, h := range hashes {
		b := h >> s.shift
		s.filter[b/64] |= 1 << (b % 64)
		if slot, found := s.slot(h); !found {
			s.slots[slot] = int32(i + 1)
		}
	}
	return s
}

// mayHave reports whether the hash is in the set, or one of the others, one in
// 64 at most if hashes are spread evenly, that look so.
func (s *hashSet) mayHave(h uint64) bool {
	b := h >> (s.shift & 63)
	return s.filter[b/64]>>(b%64)&1 != 0
}

// slot returns where a hash is or would be.
func (s *hashSet) slot(h uint64) (slot uint64, found bool) {
	mask := uint64(len(s.slots) - 1)
	h >>= s.ignore
	for slot = mix(h^s.key) & mask; s.slots[slot] != 0; slot = (slot + 1) & mask {
		if s.hashes[s.slots[slot]-1]>>s.ignore == h {
			return slot, true
		}
	}
	return slot, false
}
