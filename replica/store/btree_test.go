package store

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestBtreeAgainstMap changes a tree at random, keeps snapshots, and compares
// all of them with maps.
func TestBtreeAgainstMap(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		keys := 1 << (2 + r.IntN(12))
		var tree btree
		model := map[string]string{}
		type pair struct {
			tree  btree
			model map[string]string
		}
		var kept []pair
		for i := range 5000 {
			key := fmt.Sprintf("%05d", r.IntN(keys))
			if seed%2 == 0 { // alike in the first eight bytes, zeros standing for what is not there
				key += strings.Repeat("\x00", r.IntN(5))
			}
			if r.IntN(3) == 0 {
				tree.delete([]byte(key))
				delete(model, key)
			} else {
				value := fmt.Sprint(i)
				tree.set([]byte(key), []byte(value))
				model[key] = value
			}
			switch r.IntN(500) {
			case 0:
				kept = append(kept, pair{tree.snapshot(), maps.Clone(model)})
			case 1: // continue from an older one, as a crash does
				if len(kept) > 0 {
					p := &kept[r.IntN(len(kept))]
					tree, model = p.tree.snapshot(), maps.Clone(p.model)
				}
			}
		}
		kept = append(kept, pair{tree, model})
		for i := range kept {
			compareBtree(t, r, seed, &kept[i].tree, kept[i].model)
		}
	}
}

func compareBtree(t *testing.T, r *rand.Rand, seed uint64, tree *btree, model map[string]string) {
	t.Helper()
	var lo, hi []byte
	if r.IntN(2) == 0 {
		lo, hi = fmt.Appendf(nil, "%05d", r.IntN(500)), fmt.Appendf(nil, "%05d", r.IntN(5000))
	}
	size := 0
	var want []string
	for _, k := range slices.Sorted(maps.Keys(model)) {
		size += len(k) + len(model[k])
		if k >= string(lo) && (hi == nil || k < string(hi)) {
			want = append(want, k+"="+model[k])
		}
	}
	var got []string
	tree.ascend(lo, hi, func(k, v []byte) bool {
		got = append(got, string(k)+"="+string(v))
		if one, ok := tree.get(k); !ok || !bytes.Equal(one, v) {
			t.Fatalf("seed %d: get(%s) = %s, %v; ascend says %s", seed, k, one, ok, v)
		}
		return true
	})
	if !slices.Equal(got, want) {
		t.Fatalf("seed %d: ascend(%s, %s) = %v\nwant %v", seed, lo, hi, got, want)
	}
	if tree.count != len(model) || tree.bytes != size {
		t.Fatalf("seed %d: %d items of %d bytes, want %d of %d", seed, tree.count, tree.bytes, len(model), size)
	}
}
