package merkle

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// shapes are ways to make a key from a number; each strains another part.
var shapes = []struct {
	name string
	n    int
	key  func(i uint64) []byte
}{
	{"random16", 15_000, func(i uint64) []byte {
		r := rand.New(rand.NewPCG(i, 1))
		return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, r.Uint64()), i)
	}},
	{"counter", 15_000, func(i uint64) []byte { return binary.BigEndian.AppendUint64(nil, i) }},
	{"decimal", 15_000, func(i uint64) []byte { return fmt.Appendf(nil, "user/%d/name", i*7919) }},
	{"paths", 10_000, func(i uint64) []byte {
		return fmt.Appendf(nil, "src/%s/%d/%s.go", strings.Repeat("pkg/", int(i%7)), i%97, strings.Repeat("f", int(i/97)))
	}},
	// Separators of up to 3 KB: inner nodes split by bytes, few children each.
	{"long", 1_000, func(i uint64) []byte {
		return fmt.Appendf(nil, "%03d%s%d", i%40, strings.Repeat("z", 3000), i)
	}},
	// Nothing in common and over a leaf's bytes: one key per leaf.
	{"huge", 400, func(i uint64) []byte { return append(fmt.Appendf(nil, "%d", i*7919), make([]byte, 9000)...) }},
}

// TestChurn fills trees large enough for several levels, empties them in
// another order and fills them again, checking all invariants now and then.
func TestChurn(t *testing.T) {
	for _, s := range shapes {
		for _, order := range []string{"up", "down", "random"} {
			t.Run(s.name+"/"+order, func(t *testing.T) {
				t.Parallel()
				churn(t, s.n, s.key, order)
			})
		}
	}
}

func churn(t *testing.T, n int, key func(uint64) []byte, order string) {
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = key(uint64(i))
	}
	rng := rand.New(rand.NewPCG(1, 2))
	shuffle := func() { rng.Shuffle(n, func(i, j int) { keys[i], keys[j] = keys[j], keys[i] }) }
	slices.SortFunc(keys, slices.Compare)
	switch order {
	case "down":
		slices.Reverse(keys)
	case "random":
		shuffle()
	}
	tree, want := new(Tree), map[string]uint64{}
	verify := func(when string) {
		t.Helper()
		if err := tree.check(); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if !newReference(want).same(tree) {
			t.Fatalf("%s: tree differs from the model of %d items", when, len(want))
		}
	}
	for round := range 2 {
		for i, k := range keys {
			tree.Put(k, uint64(i)*0x9e3779b97f4a7c15)
			want[string(k)] = uint64(i) * 0x9e3779b97f4a7c15
		}
		verify("filled")
		old, was := tree.Snapshot(), maps.Clone(want)
		for i, k := range keys {
			if i%10 == 0 {
				continue
			}
			if _, had := tree.Delete(k); !had {
				t.Fatalf("Delete(%.20q) found nothing", k)
			}
			delete(want, string(k))
			if i == n/2 {
				verify("half emptied")
			}
		}
		verify("a tenth left")
		if !newReference(was).same(old) {
			t.Fatal("snapshot changed")
		}
		if round == 1 {
			break
		}
		shuffle()
	}
	for i, k := range keys {
		if i%1000 == 0 {
			verify("emptying")
		}
		tree.Delete(k)
		delete(want, string(k))
	}
	if verify("empty"); tree.root != nil || tree.Bytes() != 0 {
		t.Fatalf("the emptied tree takes %d bytes", tree.Bytes())
	}
}
