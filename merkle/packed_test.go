package merkle

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestPacked holds a list against a sorted slice. Nodes never let leaves grow
// past 8 KB of suffixes, but the separators of an inner node may: here lists
// grow past 64 KB, so all widths of ends occur.
func TestPacked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := packed{hashed: rapid.SampledFrom([]int8{0, hashSize}).Draw(t, "hashed")}
		var want [][]byte
		big := rapid.SampledFrom([]int{0, 0, 5_000, 40_000}).Draw(t, "big")
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			key := keys().Draw(t, "key")
			switch rapid.IntRange(0, 3).Draw(t, "which") {
			case 0:
				key = append(key, make([]byte, big)...)
			case 1:
				if len(want) > 0 {
					key = rapid.SampledFrom(want).Draw(t, "present")
				}
			}
			i, found := slices.BinarySearchFunc(want, key, bytes.Compare)
			if j, ok := p.search(key); j != i || ok != found {
				t.Fatalf("search(%.40q) = %d, %v, want %d, %v", key, j, ok, i, found)
			}
			switch {
			case !found:
				size := p.sizeWith(key)
				p.insert(i, key, uint64(len(key)))
				want = slices.Insert(want, i, key)
				if p.len() > 1 && p.size() != size {
					t.Fatalf("size() = %d, sizeWith said %d", p.size(), size)
				}
			case rapid.Bool().Draw(t, "remove"):
				p.remove(i)
				want = slices.Delete(want, i, i+1)
			default:
				q := pack(rapid.IntRange(0, 50).Draw(t, "room"), run{&p, 0, i}, run{&p, i, p.len()})
				p = q.clone()
			}
			if err := p.check(); err != nil {
				t.Fatal(err)
			}
			if p.len() != len(want) {
				t.Fatalf("%d strings, want %d", p.len(), len(want))
			}
			for i, w := range want {
				if got := p.appendKey(nil, i); !bytes.Equal(got, w) {
					t.Fatalf("string %d = %.40q, want %.40q", i, got, w)
				}
				if p.hashed != 0 && p.hash(i) != uint64(len(w)) {
					t.Fatalf("hash %d = %d, want %d", i, p.hash(i), len(w))
				}
			}
		}
	})
}

func TestLCP(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.SliceOfN(rapid.SampledFrom([]byte("ab")), 0, 20)
		common := some.Draw(t, "common")
		a := append(bytes.Clone(common), some.Draw(t, "a")...)
		b := append(bytes.Clone(common), some.Draw(t, "b")...)
		want := 0
		for want < min(len(a), len(b)) && a[want] == b[want] {
			want++
		}
		if got := lcp(a, b); got != want {
			t.Errorf("lcp(%q, %q) = %d, want %d", a, b, got, want)
		}
		i := rapid.IntRange(0, len(a)).Draw(t, "i")
		j := rapid.IntRange(0, len(b)).Draw(t, "j")
		if got := lcpParts(parts{a[:i], a[i:]}, parts{b[:j], b[j:]}); got != want {
			t.Errorf("lcpParts(%q at %d, %q at %d) = %d, want %d", a, i, b, j, got, want)
		}
	})
}

// TestPackedWide loses a prefix so long that two bytes do not hold the ends
// any more.
func TestPackedWide(t *testing.T) {
	long := bytes.Repeat([]byte("a"), 30_000)
	var p packed
	for i, tail := range []string{"", "b", "bc"} {
		p.insert(i, append(bytes.Clone(long), tail...), 0)
	}
	if p.width != 2 || p.plen != 30_000 {
		t.Fatalf("width %d, prefix %d, want 2 and 30000", p.width, p.plen)
	}
	p.insert(3, []byte("z"), 0)
	if err := p.check(); err != nil || p.width != 4 || p.size() != 3*30_000+4 {
		t.Fatalf("width %d, size %d, want 4 and 90004; check: %v", p.width, p.size(), err)
	}
	for i := range 4 {
		p.remove(3 - i)
	}
	if q := pack(0, run{&p, 0, 0}); p.len() != 0 || q.len() != 0 {
		t.Errorf("%d and %d strings left", p.len(), q.len())
	}
}
