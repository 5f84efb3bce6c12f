package diff_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/sdiff/sdiff/merkle"
)

// A pair is two sides of a comparison: what they hold, as trees and as maps.
type pair struct {
	tree  [2]*merkle.Tree
	model [2]items
	what  string
	// weak says that items share hashes: what is found may be another item
	// with the same hash.
	weak    bool
	longest int // bytes of the longest key
	key     func(i int) string
	hash    func() uint64

	// What is compared of both: all, or a scope.
	snap   [2]*merkle.Snapshot
	sketch [2]*merkle.Sketch
}

// newPair returns two sets of items that differ in some way that the seed
// chooses: how many there are, how many differ and where, what the keys look
// like, how good the hashes are, how the trees came about. Both keep a sketch,
// not always of as many cells.
func newPair(r *rand.Rand) *pair {
	n := 1 << (2 + r.IntN(11))
	if r.IntN(100) == 0 {
		n = 17_000 // of which a sketch may have 128 cells a part or, grown, 512
	}
	d := int(float64(n+1) * []float64{0, 0.001, 0.01, 0.05, 0.2, 1}[r.IntN(6)] * r.Float64())
	d = max(d, r.IntN(3))
	clustered := r.IntN(4) == 0
	p := &pair{weak: r.IntN(8) == 0, key: keysOf(r.IntN(6)), hash: r.Uint64}
	if p.weak {
		// Few hashes, but not such as add up to others.
		p.hash = func() uint64 { return itemHash(strconv.FormatUint(r.Uint64N(uint64(n)), 36), 0) }
	}
	lacks := r.IntN(40) // of which side most is missing, or all; mostly none
	p.what = fmt.Sprintf("n=%d d=%d clustered=%v weak=%v lacks=%d", n, d, clustered, p.weak, lacks)
	p.fill(r, n, lacks)
	p.drift(r, n, d, clustered)
	for s := range p.tree {
		if r.IntN(3) == 0 {
			p.tree[s] = rebuilt(p.tree[s])
		}
		p.snap[s], p.sketch[s] = p.tree[s].Snapshot(), p.tree[s].Sketch()
	}
	return p
}

// scope narrows what is compared to the keys of a range, which may be empty: of
// those the sketches are made when they are compared, not always of as many cells.
func (p *pair) scope(r *rand.Rand, n int) {
	lo, hi := []byte(p.key(r.IntN(2*n))), []byte(p.key(r.IntN(2*n)))
	if bytes.Compare(lo, hi) > 0 {
		lo, hi = hi, lo
	}
	switch r.IntN(6) {
	case 0:
		lo = nil
	case 1:
		hi = nil
	case 2: // a prefix
		lo = lo[:len(lo)-min(len(lo), 2)]
		hi = merkle.PrefixEnd(lo)
	}
	p.what += fmt.Sprintf(" scope=%.20q..%.20q", lo, hi)
	for s := range p.snap {
		p.snap[s] = p.tree[s].Snapshot().Clip(lo, hi)
		p.sketch[s] = merkle.MakeSketch([]int{0, 0, 8, 300}[r.IntN(4)], p.snap[s])
		maps.DeleteFunc(p.model[s], func(k string, _ uint64) bool {
			return k < string(lo) || hi != nil && k >= string(hi)
		})
	}
}

// keysOf returns what makes a key of a number.
func keysOf(kind int) func(i int) string {
	prefix := []string{"", "p", strings.Repeat("p", 7), strings.Repeat("p", 60), strings.Repeat("p", 1000)}
	if kind < len(prefix) {
		return func(i int) string { return fmt.Sprintf("%s%07d", prefix[kind], i) }
	}
	// Each is a prefix of many others.
	return func(i int) string { return strconv.FormatInt(int64(i), 2) }
}

// fill puts n items into both sides, or few into one of them, or none. From
// some item on they keep a sketch.
func (p *pair) fill(r *rand.Rand, n, lacks int) {
	when := [2]int{r.IntN(2 * n), r.IntN(2 * n)}
	for s := range p.tree {
		p.tree[s], p.model[s] = &merkle.Tree{}, items{}
	}
	for i := range n {
		h := p.hash()
		for s := range p.tree {
			if i == when[s] {
				p.tree[s].KeepSketch()
			}
			if lacks == s && i%64 != 0 || lacks == s+2 {
				continue
			}
			p.put(s, p.key(2*i), h)
		}
	}
	for s := range p.tree {
		if when[s] >= n {
			p.tree[s].KeepSketch()
		}
	}
}

// drift changes d items, on either side: at random or side by side.
func (p *pair) drift(r *rand.Rand, n, d int, clustered bool) {
	first := r.IntN(2*n + 1)
	for i := range d {
		at := r.IntN(2*n + 1)
		if clustered {
			at = first + i
		}
		s := r.IntN(2)
		if k := p.key(at); r.IntN(2) == 0 {
			p.tree[s].Delete([]byte(k))
			delete(p.model[s], k)
		} else {
			p.put(s, k, p.hash())
		}
	}
}

func (p *pair) put(s int, k string, h uint64) {
	p.tree[s].Put([]byte(k), h)
	p.model[s][k] = h
	p.longest = max(p.longest, len(k))
}

// rebuilt returns the same items in a tree built from sorted input.
func rebuilt(tree *merkle.Tree) *merkle.Tree {
	var b merkle.Builder
	tree.Snapshot().Ascend(nil, nil, func(key []byte, hash uint64) bool {
		if err := b.Add(key, hash); err != nil {
			panic(err)
		}
		return true
	})
	out := b.Tree()
	out.KeepSketch()
	return out
}
