package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"slices"

	"github.com/sdiff/sdiff/merkle"
)

// The items of all measurements: random keys, hexadecimal since not everybody
// takes other bytes, and values that do not compress.
const (
	keySize   = 16
	valueSize = 100
)

// A pair is a key and its value.
type pair struct{ key, value []byte }

// A workload makes random pairs. The same seed makes the same ones.
type workload struct{ rng *rand.ChaCha8 }

func newWorkload(seed uint64) *workload {
	var s [32]byte
	binary.LittleEndian.PutUint64(s[:], seed)
	return &workload{rand.NewChaCha8(s)}
}

// next returns n pairs in new memory.
func (w *workload) next(n int) []pair {
	const size = keySize + valueSize
	slab, list := make([]byte, n*size), make([]pair, n)
	var raw [keySize / 2]byte
	for i := range list {
		p := slab[i*size : (i+1)*size : (i+1)*size]
		w.rng.Read(raw[:])
		hex.Encode(p, raw[:])
		w.rng.Read(p[keySize:])
		list[i] = pair{p[:keySize:keySize], p[keySize:]}
	}
	return list
}

// each calls fn with n pairs in lists of at most batch.
func (w *workload) each(n, batch int, fn func([]pair) error) error {
	for n > 0 {
		k := min(n, batch)
		if err := fn(w.next(k)); err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// An item is what a comparison knows of a pair.
type item struct {
	key  string
	hash uint64 // sdiff's: XXH64
	id   string // negentropy's: SHA-256 in hexadecimal digits
}

var hasher = merkle.XXH64()

func newItem(key, value []byte) item {
	sum := sha256.New()
	sum.Write(binary.BigEndian.AppendUint32(nil, uint32(len(key))))
	sum.Write(key)
	sum.Write(value)
	return item{string(key), hasher.Hash(key, value), hex.EncodeToString(sum.Sum(nil))}
}

// A dataset is what a comparison is about: the master's items in the order of
// their keys, and some more that only a follower may have.
type dataset struct {
	items []item
	spare []item
}

func newDataset(n, spare int) *dataset {
	d := &dataset{items: make([]item, 0, n+spare)}
	_ = newWorkload(1).each(n+spare, 1000, func(pairs []pair) error {
		for _, p := range pairs {
			d.items = append(d.items, newItem(p.key, p.value))
		}
		return nil
	})
	d.items, d.spare = d.items[:n:n], d.items[n:]
	slices.SortFunc(d.items, byKey)
	return d
}

func byKey(a, b item) int {
	switch {
	case a.key < b.key:
		return -1
	case a.key > b.key:
		return 1
	}
	return 0
}

// A difference is what a follower's items differ in from the master's: a third
// of the keys is missing, a third extra, the rest has another value.
type difference struct {
	missing []item // the master's
	extra   []item // the follower's
	changed []item // as the master has them
	other   []item // the same keys, as the follower has them
}

// newDifference picks d keys at random.
func newDifference(data *dataset, d int, seed uint64) *difference {
	rng := rand.New(rand.NewPCG(seed, uint64(d)))
	diff := new(difference)
	third := d / 3
	for _, i := range rng.Perm(len(data.spare))[:third] {
		diff.extra = append(diff.extra, data.spare[i])
	}
	for k, i := range distinct(rng, len(data.items), d-third) {
		if k < third {
			diff.missing = append(diff.missing, data.items[i])
			continue
		}
		diff.changed = append(diff.changed, data.items[i])
		value := binary.LittleEndian.AppendUint64(make([]byte, 0, valueSize), rng.Uint64())
		diff.other = append(diff.other, newItem([]byte(data.items[i].key), value[:valueSize]))
	}
	return diff
}

// distinct returns k of the numbers below n, in no order.
func distinct(rng *rand.Rand, n, k int) []int {
	seen, list := make(map[int]bool, k), make([]int, 0, k)
	for len(list) < k {
		if i := rng.IntN(n); !seen[i] {
			seen[i] = true
			list = append(list, i)
		}
	}
	return list
}

// hashes returns how many item hashes only one side has: a changed key has two.
func (d *difference) hashes() int { return len(d.missing) + len(d.extra) + 2*len(d.changed) }

// onMaster and onFollower return the items that only this side has.
func (d *difference) onMaster() []item   { return slices.Concat(d.missing, d.changed) }
func (d *difference) onFollower() []item { return slices.Concat(d.extra, d.other) }
