package merkle

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestEdgeKeys puts keys that are awkward side by side into one tree, in many
// orders, and takes them out again.
func TestEdgeKeys(t *testing.T) {
	const longest = 65_000
	x := strings.Repeat
	keys := []string{
		"", "\x00", "\x00\x00", x("\x00", 8), x("\x00", 9), "a", "a\x00", "b", "\xff", "\xff\xff", x("\xff", 8), x("\xff", 9),
		x("\xff", longest), x("\x00", longest), x("a", longest),
		x("a", longest-1), x("a", longest-1) + "b", x("a", longest-1) + "\x00", x("a", longest-1) + "\xff",
		x("b", longest-9) + "12345678", x("b", longest-9) + "123456789", x("b", longest/2), x("b", longest/2) + "\xff",
	}
	for i := range 150 {
		keys = append(keys, x("c", longest-2)+string([]byte{byte(i / 3), byte(i)}))
	}
	all := map[string]uint64{}
	for i, k := range keys {
		all[k] = uint64(i) << 32
	}
	ref := newReference(all)
	check := func(tree *Tree) {
		t.Helper()
		if err := tree.check(); err != nil {
			t.Fatal(err)
		}
	}
	if tree := ref.tree(); !ref.same(tree) {
		t.Fatal("the built tree differs")
	} else if check(tree); tree.Bytes() > 2<<20 {
		t.Errorf("150 keys with 64 KB in common take %d bytes in all", tree.Bytes())
	}
	for seed := range uint64(2) {
		rng := rand.New(rand.NewPCG(seed, 1))
		rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		tree := new(Tree)
		for _, k := range keys {
			tree.Put([]byte(k), all[k])
		}
		check(tree)
		if !ref.same(tree) {
			t.Fatalf("seed %d: the tree differs", seed)
		}
		for i, p := range ref {
			if got := tree.Rank([]byte(p.key)); got != uint64(i) {
				t.Errorf("Rank of item %d (%d bytes) = %d", i, len(p.key), got)
			}
		}
		for _, k := range keys {
			if old, had := tree.Delete([]byte(k)); !had || old != all[k] {
				t.Fatalf("seed %d: Delete of a key of %d bytes = %d, %v", seed, len(k), old, had)
			}
		}
		if check(tree); tree.Bytes() != 0 {
			t.Errorf("seed %d: the emptied tree takes %d bytes", seed, tree.Bytes())
		}
	}
}

func TestRangeBounds(t *testing.T) {
	tree := filled(1000)
	all, one := tree.Summary(), Summary{1, 500}
	for _, c := range []struct {
		name   string
		lo, hi []byte
		want   Summary
	}{
		{"all", nil, nil, all},
		{"all, empty lo", []byte{}, nil, all},
		{"all, by bounds", key8(0), key8(1000), all},
		{"empty hi: nothing is below it", nil, []byte{}, Summary{}},
		{"lo = hi", key8(500), key8(500), Summary{}},
		{"lo > hi", key8(501), key8(500), Summary{}},
		{"lo far > hi", key8(900), key8(1), Summary{}},
		{"one", key8(500), key8(501), one},
		{"one, between keys", append(key8(499), 0), append(key8(500), 0), one},
		{"behind all", key8(1000), nil, Summary{}},
	} {
		if got := tree.Range(c.lo, c.hi); got != c.want {
			t.Errorf("%s: Range = %v, want %v", c.name, got, c.want)
		}
		if got := items(tree, c.lo, c.hi).sum(); got != c.want {
			t.Errorf("%s: Ascend gives %v, want %v", c.name, got, c.want)
		}
	}
	calls := 0
	tree.Ascend(key8(10), nil, func(key []byte, _ uint64) bool {
		calls++
		return !bytes.Equal(key, key8(300))
	})
	if calls != 291 {
		t.Errorf("Ascend called fn %d times, want 291 until it said false", calls)
	}
}

// TestAtIsACopy changes what At returned.
func TestAtIsACopy(t *testing.T) {
	tree := filled(300)
	for i := range uint64(300) {
		key, _, _ := tree.At(i)
		clear(append(key, 1, 2, 3))
	}
	if err := tree.check(); err != nil {
		t.Error(err)
	}
	if !filled(300).sameAs(tree) {
		t.Error("the tree has changed")
	}
}

func (t *Tree) sameAs(o *Tree) bool { return items(o, nil, nil).same(t) }

// TestPutCopiesKey changes the key after putting it.
func TestPutCopiesKey(t *testing.T) {
	tree, key := new(Tree), make([]byte, 8)
	for i := range 300 {
		copy(key, key8(i))
		tree.Put(key, uint64(i))
	}
	if !tree.sameAs(filled(300)) {
		t.Error("the tree keeps the caller's key")
	}
}

// TestHistories holds T3: trees with one set of items and different histories
// have one summary.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOfN(rapid.Custom(func(t *rapid.T) string {
			return string(keys().Draw(t, "key"))
		}), rapid.Uint64(), 0, 60).Draw(t, "items")
		ref := newReference(want)
		order := rapid.Permutation(slices.Clone(ref)).Draw(t, "order")
		direct, detour := new(Tree), filled(rapid.IntRange(0, 500).Draw(t, "others"))
		for _, p := range order {
			direct.Put([]byte(p.key), p.hash)
			detour.Put([]byte(p.key), p.hash+1)
			detour.Snapshot()
		}
		for _, p := range items(detour, nil, nil) {
			if hash, ok := want[p.key]; ok {
				detour.Put([]byte(p.key), hash)
			} else {
				detour.Delete([]byte(p.key))
			}
		}
		if d, e, f := direct.Summary(), detour.Summary(), ref.tree().Summary(); d != ref.sum() || e != d || f != d {
			t.Errorf("summaries %v, %v and %v, want %v", d, e, f, ref.sum())
		}
	})
}

func TestBuilderOrder(t *testing.T) {
	var b Builder
	for _, s := range []struct {
		key string
		err error
	}{{"", nil}, {"", ErrOrder}, {"b", nil}, {"a", ErrOrder}, {"b", ErrOrder}, {"b\x00", nil}, {"c", nil}, {"b\xff", ErrOrder}} {
		if err := b.Add([]byte(s.key), 1); !errors.Is(err, s.err) {
			t.Errorf("Add(%q) = %v, want %v", s.key, err, s.err)
		}
	}
	tree := b.Tree()
	if got, want := tree.Summary(), (Summary{4, 4}); got != want {
		t.Errorf("Summary() = %v, want %v", got, want)
	}
	if b.Tree().Summary() != (Summary{}) || b.Add([]byte("a"), 1) != nil {
		t.Error("the builder is not empty after Tree")
	}
	tree.Put([]byte("a"), 5) // the builder's tree is an ordinary tree
	if err := tree.check(); err != nil {
		t.Error(err)
	}
}

// TestBuilderSizes builds trees that end just before, at and behind a full
// node, and changes and empties a copy of each.
func TestBuilderSizes(t *testing.T) {
	const leaf, inner = maxItems, maxItems * maxKids
	for _, n := range []int{1, 2, leaf - 1, leaf, leaf + 1, 2 * leaf, inner - 1, inner, inner + 1, inner + leaf, inner + leaf + 1, 2*inner + 1} {
		var b Builder
		for i := range n {
			if err := b.Add(key8(i), uint64(i)); err != nil {
				t.Fatal(err)
			}
		}
		tree := b.Tree()
		snap, want := tree.Snapshot(), filled(n).Summary()
		for i := n - 1; i >= 0; i-- {
			tree.Put(append(key8(i), 1), 1)
			if i%1000 == 0 {
				if err := tree.check(); err != nil {
					t.Fatalf("n = %d: %v", n, err)
				}
			}
			tree.Delete(key8(i))
			tree.Delete(append(key8(i), 1))
		}
		if tree.root != nil || tree.check() != nil {
			t.Errorf("n = %d: %v is left", n, tree.Summary())
		}
		tree = snap.Tree()
		if err := tree.check(); err != nil || tree.Summary() != want {
			t.Errorf("n = %d: summary %v, want %v; check: %v", n, tree.Summary(), want, err)
		}
	}
}

func TestPrefixEnd(t *testing.T) {
	for _, c := range []struct{ p, want string }{
		{"a", "b"}, {"ab", "ac"}, {"a\xff", "b"}, {"a\xff\xff", "b"}, {"a\x00", "a\x01"}, {"\xfe", "\xff"},
		{"", ""}, {"\xff", ""}, {"\xff\xff", ""},
	} {
		p := []byte(c.p)
		got := PrefixEnd(p)
		if string(got) != c.want || (c.want == "") != (got == nil) || string(p) != c.p {
			t.Errorf("PrefixEnd(%q) = %q, want %q", c.p, got, c.want)
		}
	}
}
