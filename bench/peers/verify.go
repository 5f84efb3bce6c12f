package main

import (
	"bytes"
	"fmt"
)

// A verifier holds what a replica has against what was written, key by key.
type verifier struct {
	want         map[string]uint64 // item hashes by key
	n            int
	wrong, extra int
}

// newVerifier expects the pairs of workloads.
func newVerifier(loads ...load) *verifier {
	v := &verifier{want: map[string]uint64{}}
	for _, l := range loads {
		_ = newWorkload(l.seed).each(l.n, 1000, func(pairs []pair) error {
			for _, p := range pairs {
				v.want[string(p.key)] = hasher.Hash(p.key, p.value)
			}
			return nil
		})
	}
	v.n = len(v.want)
	return v
}

// A load is so many pairs of the workload of a seed.
type load struct {
	seed uint64
	n    int
}

// saw takes note of a pair that the replica has.
func (v *verifier) saw(key, value []byte) {
	hash, ok := v.want[string(key)]
	switch {
	case !ok:
		v.extra++
	case hash != hasher.Hash(key, value):
		v.wrong++
	}
	delete(v.want, string(key))
}

// err says what was wrong.
func (v *verifier) err() error {
	if missing := len(v.want); missing+v.wrong+v.extra > 0 {
		return fmt.Errorf("of %d keys the replica lacks %d, has %d with another value, and %d keys too many or twice", v.n, missing, v.wrong, v.extra)
	}
	return nil
}

// harmed returns the keys that are corrupted on a replica, spread over those of
// a workload, as its master has them.
func harmed(l load) []pair {
	var list []pair
	i, step := 0, max(1, l.n/harmedKeys)
	_ = newWorkload(l.seed).each(l.n, 1000, func(pairs []pair) error {
		for _, p := range pairs {
			if i%step == 0 && len(list) < harmedKeys {
				list = append(list, pair{bytes.Clone(p.key), bytes.Clone(p.value)})
			}
			i++
		}
		return nil
	})
	return list
}

// harmedKeys is how many keys are corrupted.
const harmedKeys = 100

// A harm is what is done to a key behind a replica's back.
type harm struct {
	key   []byte
	value []byte // nil to delete it
}

// harms returns what is done to keys: one half gets another value, the other is
// deleted.
func harms(pairs []pair) []harm {
	var list []harm
	for i, p := range pairs {
		h := harm{key: p.key}
		if i%2 == 0 {
			h.value = bytes.Repeat([]byte{'x'}, valueSize)
		}
		list = append(list, h)
	}
	return list
}
