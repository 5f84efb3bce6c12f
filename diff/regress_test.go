package diff_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/merkle"
)

// compare runs a comparison to its end, messages delivered in a fixed random
// order.
func compare(t *testing.T, left, right *merkle.Snapshot, cfg diff.Config) (a, b *side) {
	t.Helper()
	a, b = newSide(left, cfg), newSide(right, cfg)
	rng := rand.New(rand.NewPCG(1, 2))
	if err := run(a, b, func() bool { return rng.IntN(2) == 0 }); err != nil {
		t.Fatal(err)
	}
	if !a.Done() || !b.Done() || a.Left()+b.Left() != 0 {
		t.Fatalf("done %v and %v, left %d and %d", a.Done(), b.Done(), a.Left(), b.Left())
	}
	return a, b
}

// numbered returns n items in a tree built from sorted input.
func numbered(tb testing.TB, n int, value byte) *merkle.Snapshot {
	var b merkle.Builder
	for i := range n {
		key := fmt.Sprintf("key-%08d", i)
		if err := b.Add([]byte(key), itemHash(key, value)); err != nil {
			tb.Fatal(err)
		}
	}
	return b.Tree().Snapshot()
}

// TestMoreThan65535KeysOnOneSide is named for a defect of the Erlang original:
// its count of keys has 16 bits, so a side that holds nothing can never be
// repaired once the other holds more.
func TestMoreThan65535KeysOnOneSide(t *testing.T) {
	const n = 70_000
	full := numbered(t, n, 0)
	for _, c := range []struct {
		name        string
		left, right *merkle.Snapshot
		all         func(a, b *side) *side
	}{
		{"initiator holds nothing", nil, full, func(_, b *side) *side { return b }},
		{"responder holds nothing", full, nil, func(a, _ *side) *side { return a }},
	} {
		a, b := compare(t, c.left, c.right, diff.Config{})
		holder := c.all(a, b)
		if len(holder.found) != n || len(a.found)+len(b.found) != n {
			t.Errorf("%s: found %d and %d items, want %d on one side", c.name, len(a.found), len(b.found), n)
		}
		if len(holder.whole) == 0 || len(holder.whole) > diff.DefaultParts {
			t.Errorf("%s: %d range findings, want one for each part of the first level at most", c.name, len(holder.whole))
		}
		if got := a.Stats().BytesIn + a.Stats().BytesOut; got > 2000 {
			t.Errorf("%s: took %d bytes", c.name, got)
		}
	}
	// All of them differ: every one is found one by one, on both sides.
	a, b := compare(t, full, numbered(t, n, 1), diff.Config{})
	if len(a.found) != n || len(b.found) != n {
		t.Errorf("all changed: found %d and %d items, want %d each", len(a.found), len(b.found), n)
	}
}

// TestOneDifference bounds what one difference costs, wherever it is.
func TestOneDifference(t *testing.T) {
	const n = 100_000
	left := numbered(t, n, 0)
	for _, at := range []uint64{0, 1, n/2 - 1, n - 1} {
		tree := left.Tree()
		key, hash, _ := left.At(at)
		tree.Put(key, hash+1)
		a, b := compare(t, left, tree.Snapshot(), diff.Config{})
		if len(a.found) != 1 || len(b.found) != 1 {
			t.Errorf("item %d: found %d and %d items, want 1 each", at, len(a.found), len(b.found))
		}
		st := a.Stats()
		if st.Levels > 5 || st.BytesIn+st.BytesOut > 5000 {
			t.Errorf("item %d: %d levels and %d bytes, want at most 5 and 5,000", at, st.Levels, st.BytesIn+st.BytesOut)
		}
	}
}

// TestGiantKeys compares keys of 65,000 bytes: pairs that differ in their last
// byte only, so that the separators within a pair are as long as can be and
// share little with those before. A message is longer than FrameBytes by one
// entry at most.
func TestGiantKeys(t *testing.T) {
	const frame = 10_000
	rng := rand.New(rand.NewPCG(3, 4))
	left, right := &merkle.Tree{}, &merkle.Tree{}
	for i := range 40 {
		key := bytes.Repeat([]byte{byte(rng.Uint32())}, 65_000)
		key[0], key[1] = byte(i), byte(rng.Uint32())
		for last := range byte(2) {
			key[len(key)-1] = last
			left.Put(key, rng.Uint64())
			right.Put(key, rng.Uint64())
		}
	}
	cfg := diff.Config{FrameBytes: frame, Parts: 4, Items: 1}
	a, b := newSide(left.Snapshot(), cfg), newSide(right.Snapshot(), cfg)
	if err := run(a, b, func() bool { return false }); err != nil {
		t.Fatal(err)
	}
	if len(a.found) != 80 || len(b.found) != 80 {
		t.Errorf("found %d and %d items, want 80 each", len(a.found), len(b.found))
	}
	if most := frame + 65_001 + 100; max(a.longest, b.longest) > most {
		t.Errorf("messages of %d and %d bytes, want at most %d", a.longest, b.longest, most)
	}
	if st := a.Stats(); st.BytesIn+st.BytesOut < 65_000 {
		t.Errorf("only %d bytes: no separator was long", st.BytesIn+st.BytesOut)
	}
}

// TestFrameBytes checks the length of messages where many are full.
func TestFrameBytes(t *testing.T) {
	left, right := numbered(t, 5000, 0), numbered(t, 5000, 1)
	for _, frame := range []int{1, 500, 5000} {
		a, b := compare(t, left, right, diff.Config{FrameBytes: frame, Items: 8})
		// The longest entry is a list of eight; the rest is the message's own.
		if got, most := max(a.longest, b.longest), frame+8*8+20; got > most {
			t.Errorf("FrameBytes %d: a message of %d bytes, want at most %d", frame, got, most)
		}
	}
}

// TestLimit compares with room for a few ranges only: what is found is true,
// both sides count the same number of ranges as not compared, and if that is
// none, everything was found.
func TestLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		inA, inB := drawItems(t), drawItems(t)
		cfgA, cfgB := drawConfig(t, "a"), drawConfig(t, "b")
		cfgA.MaxPending = rapid.IntRange(1, 20).Draw(t, "a pending")
		cfgB.MaxPending = rapid.IntRange(1, 20).Draw(t, "b pending")
		a, b := newSide(inA.snapshot(), cfgA), newSide(inB.snapshot(), cfgB)
		if err := run(a, b, func() bool { return rapid.Bool().Draw(t, "deliver to a") }); err != nil {
			t.Fatal(err)
		}
		if !a.Done() || !b.Done() {
			t.Fatalf("done %v and %v", a.Done(), b.Done())
		}
		if a.Left() != b.Left() {
			t.Errorf("left %d and %d, want the same", a.Left(), b.Left())
		}
		if a.Left() == 0 {
			check(t, a, b, inA, inB)
		}
		for _, c := range []struct {
			side *side
			want items
		}{{a, inA.minus(inB)}, {b, inB.minus(inA)}} {
			for k, h := range c.side.found {
				if c.want[k] != h {
					t.Errorf("found %q, which is on both sides", k)
				}
			}
		}
	})
}

func drawItems(t *rapid.T) items {
	out := items{}
	for range rapid.IntRange(0, 100).Draw(t, "items") {
		k := drawKey(t)
		out[k] = itemHash(k, byte(rapid.IntRange(0, 3).Draw(t, "value")))
	}
	return out
}

// TestEqualHashes compares sets in which many items have one hash, down to a
// single hash for all. Sums then may be equal where sets are not, so nothing
// is said of what is found, except that it is here, that each is found once,
// and that the comparison ends; within one list the counts add up.
func TestEqualHashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kinds := rapid.Uint64Range(1, 5).Draw(t, "hashes")
		draw := func() items {
			out := items{}
			for range rapid.IntRange(0, 60).Draw(t, "items") {
				out[drawKey(t)] = rapid.Uint64Range(1, kinds).Draw(t, "hash")
			}
			return out
		}
		inA, inB := draw(), draw()
		a, b := newSide(inA.snapshot(), drawConfig(t, "a")), newSide(inB.snapshot(), drawConfig(t, "b"))
		if err := run(a, b, func() bool { return rapid.Bool().Draw(t, "deliver to a") }); err != nil {
			t.Fatal(err)
		}
		if !a.Done() || !b.Done() || a.Left() != 0 {
			t.Fatalf("done %v and %v, left %d", a.Done(), b.Done(), a.Left())
		}
		// What neither found is matched one to one, in whatever way.
		if got, want := len(inA)-len(a.found), len(inB)-len(b.found); got != want {
			t.Errorf("%d items matched with %d", got, want)
		}
	})
}

// TestManyFindings checks that findings come in portions when one message
// yields very many, and that they are all there.
func TestManyFindings(t *testing.T) {
	full := numbered(t, 5000, 0)
	few := &merkle.Tree{}
	few.Put([]byte("key-00002500x"), 1)
	a, b := diff.New(few.Snapshot(), diff.Config{}), diff.New(full, diff.Config{})
	out, err := a.Start()
	if err != nil || len(out) != 1 {
		t.Fatalf("Start() = %v, %v", out, err)
	}
	if _, err := b.Step(out[0]); err != nil {
		t.Fatal(err)
	}
	if b.Done() {
		t.Error("done before the findings have been taken")
	}
	got := map[string]uint64{}
	for found := b.Findings(); len(found) > 0; found = b.Findings() {
		if len(found) > 1024 {
			t.Fatalf("%d findings at once", len(found))
		}
		for _, f := range found {
			got[string(f.Key)] = f.Hash
		}
	}
	want := map[string]uint64{}
	full.Ascend(nil, nil, func(key []byte, hash uint64) bool { want[string(key)] = hash; return true })
	if !maps.Equal(got, want) {
		t.Errorf("found %d items, want %d", len(got), len(want))
	}
	if !b.Done() {
		t.Error("not done after the findings have been taken")
	}
}
