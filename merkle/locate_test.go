package merkle

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// located returns what Locate finds: the hash by rank. It says if ranks do not
// ascend.
func located(t interface{ Fatalf(string, ...any) }, s *Snapshot, hashes []uint64, ignore uint) map[uint64]uint64 {
	got := map[uint64]uint64{}
	last, some := uint64(0), false
	s.Locate(hashes, ignore, func(rank uint64, i int) {
		if some && rank <= last {
			t.Fatalf("rank %d comes after %d", rank, last)
		}
		last, some = rank, true
		got[rank] = hashes[i] >> ignore
	})
	return got
}

// filtered is what Locate must find, item by item.
func filtered(s *Snapshot, hashes []uint64, ignore uint) map[uint64]uint64 {
	want := map[uint64]uint64{}
	rank := uint64(0)
	s.Ascend(nil, nil, func(_ []byte, hash uint64) bool {
		if slices.ContainsFunc(hashes, func(h uint64) bool { return h>>ignore == hash>>ignore }) {
			want[rank] = hash >> ignore
		}
		rank++
		return true
	})
	return want
}

// TestLocateModel holds Locate against a look at every item, in trees of keys of
// one length and of many, some too long to share a leaf.
func TestLocateModel(t *testing.T) {
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		tree := new(Tree)
		uniform := rapid.Bool().Draw(t, "uniform")
		hash := rapid.OneOf(rapid.Uint64Range(0, 20), rapid.Map(rapid.Uint64Range(0, 500), mix), rapid.Map(rapid.Uint64Range(0, 1<<10), func(h uint64) uint64 { return h << 18 }))
		for i := range rapid.SampledFrom([]int{0, 1, 30, 300}).Draw(t, "n") {
			key := key8(i)
			if !uniform {
				key = keys().Draw(t, "key")
			}
			tree.Put(key, hash.Draw(t, "hash"))
		}
		if err := tree.check(); err != nil {
			t.Fatal(err)
		}
		set := rapid.SliceOfN(hash, 0, 100).Draw(t, "hashes")
		s := tree.Snapshot()
		ignore := rapid.SampledFrom([]uint{0, 1, 20, maxIgnored}).Draw(t, "ignore")
		got := located(t, s, set, ignore)
		if want := filtered(s, set, ignore); !maps.Equal(got, want) {
			t.Fatalf("%d hashes: %d items located, want %d", len(set), len(got), len(want))
		}
		found += len(got)
	})
	if found == 0 {
		t.Error("nothing was ever located")
	}
}

func TestLocate(t *testing.T) {
	const n = 5000
	all := hashes(0, n)
	for name, tree := range map[string]*Tree{"put": sketched(all), "empty": new(Tree), "one": sketched(all[:1])} {
		s := tree.Snapshot()
		for what, set := range map[string][]uint64{
			"none": nil, "all": all, "absent": hashes(1, n), "0": {0}, "one": all[:1], "one twice": {all[0], all[0]},
			"some": slices.Concat(hashes(1, 100), all[100:200], []uint64{0}),
		} {
			if got, want := located(t, s, set, 24), filtered(s, set, 24); !maps.Equal(got, want) {
				t.Errorf("tree %s, hashes %s: %d located, want %d", name, what, len(got), len(want))
			}
		}
	}
	(*Snapshot)(nil).Locate(all, 0, func(uint64, int) { t.Error("an item of nothing was located") })
}
