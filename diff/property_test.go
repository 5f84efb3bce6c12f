package diff_test

import (
	"math/bits"
	"testing"

	"pgregory.net/rapid"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/merkle"
)

// drawConfig draws a Config, small values first: tiny messages, a window of
// one, two parts, lists of one item.
func drawConfig(t *rapid.T, label string) diff.Config {
	return diff.Config{
		FrameBytes: rapid.SampledFrom([]int{1, 20, 100, 1000, 0}).Draw(t, label+" frame"),
		Window:     rapid.IntRange(1, 3).Draw(t, label+" window"),
		Parts:      rapid.IntRange(2, 20).Draw(t, label+" parts"),
		Items:      rapid.IntRange(1, 20).Draw(t, label+" items"),
	}
}

func frameOf(c diff.Config) int {
	if c.FrameBytes == 0 {
		return diff.DefaultFrameBytes
	}
	return c.FrameBytes
}

// drawKey draws from a small space, so that keys meet, share prefixes, are
// prefixes of each other, and end in 0x00 and 0xff.
func drawKey(t *rapid.T) string {
	return rapid.StringOfN(rapid.RuneFrom([]rune("ab\x00\u00ff")), 1, 6, -1).Draw(t, "key")
}

// drawTree makes a tree with a history: built from sorted input or inserted,
// then changed and deleted from, with a snapshot taken now and then.
func drawTree(t *rapid.T, start items) (*merkle.Snapshot, items) {
	var tree *merkle.Tree
	if rapid.Bool().Draw(t, "built") {
		var b merkle.Builder
		start.snapshot().Ascend(nil, nil, func(key []byte, hash uint64) bool {
			if err := b.Add(key, hash); err != nil {
				t.Fatalf("build: %v", err)
			}
			return true
		})
		tree = b.Tree()
	} else {
		tree = &merkle.Tree{}
		for k, h := range start {
			tree.Put([]byte(k), h)
		}
	}
	model := items{}
	for k, h := range start {
		model[k] = h
	}
	for range rapid.IntRange(0, 40).Draw(t, "changes") {
		k := drawKey(t)
		if rapid.Bool().Draw(t, "delete") {
			tree.Delete([]byte(k))
			delete(model, k)
			continue
		}
		h := itemHash(k, byte(rapid.IntRange(0, 2).Draw(t, "value")))
		tree.Put([]byte(k), h)
		model[k] = h
	}
	return tree.Snapshot(), model
}

// TestFindsTheDifference compares random sets, in trees of different shapes,
// under random configurations, with messages delivered in a random order (but
// in order each way), and holds the findings against the difference of maps.
func TestFindsTheDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := items{}
		for range rapid.IntRange(0, 300).Draw(t, "common") {
			k := drawKey(t)
			start[k] = itemHash(k, 0)
		}
		if rapid.IntRange(0, 9).Draw(t, "nothing in common") == 0 {
			start = items{}
		}
		treeA, inA := drawTree(t, start)
		treeB, inB := drawTree(t, start)
		cfgA, cfgB := drawConfig(t, "a"), drawConfig(t, "b")
		a, b := newSide(treeA, cfgA), newSide(treeB, cfgB)
		if err := run(a, b, func() bool { return rapid.Bool().Draw(t, "deliver to a") }); err != nil {
			t.Fatal(err)
		}
		check(t, a, b, inA, inB)
		n := uint64(min(len(inA), len(inB)))
		if got, most := a.Stats().Levels, 2*bits.Len64(max(n, 1)-1)+4; got > most {
			t.Errorf("%d levels for %d and %d items, want at most %d", got, len(inA), len(inB), most)
		}
		// An entry is a list of 20 hashes at most, or has a bound of 12 bytes.
		if most := frameOf(cfgA) + 200; b.longest > most {
			t.Errorf("the initiator sent a message of %d bytes, want at most %d", b.longest, most)
		}
		if most := frameOf(cfgB) + 200; a.longest > most {
			t.Errorf("the responder sent a message of %d bytes, want at most %d", a.longest, most)
		}
		for _, s := range []*side{a, b} {
			// Each range that is remembered holds an item of either side.
			if got, most := s.Stats().Peak, 2*(len(inA)+len(inB)+1); got > most {
				t.Errorf("%d ranges remembered at once, want at most %d", got, most)
			}
		}
	})
}

// itemHash is the hash of an item with a value of one byte.
func itemHash(key string, value byte) uint64 {
	return merkle.XXH64().Hash([]byte(key), []byte{value})
}
