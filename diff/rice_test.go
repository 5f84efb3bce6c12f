package diff

import (
	"bytes"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestRice writes hashes in pieces, spread evenly or not, and reads them again.
func TestRice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hash := rapid.SampledFrom([]*rapid.Generator[uint64]{
			rapid.Uint64(), rapid.Uint64Range(0, 300), rapid.Uint64Range(math.MaxUint64-300, math.MaxUint64),
			rapid.SampledFrom([]uint64{0, 1, 1 << 63, math.MaxUint64 - 1, math.MaxUint64}),
		}).Draw(t, "kind")
		hashes := rapid.SliceOfNDistinct(hash, 1, 200, rapid.ID).Draw(t, "hashes")
		slices.Sort(hashes)
		width := rapid.SampledFrom([]int{leastWidth, 50, 63, 64}).Draw(t, "width")
		for i := range hashes {
			hashes[i] &= 1<<width - 1
		}
		slices.Sort(hashes)
		hashes = slices.Compact(hashes)
		k, full := riceBits(hashes, width), rapid.SampledFrom([]int{1, 30, 1 << 16}).Draw(t, "full")
		var got []uint64
		for at := 0; at < len(hashes); {
			last := uint64(0)
			if at > 0 {
				last = hashes[at-1]
			}
			b, n := appendRice(nil, k, at == 0, last, hashes[at:], full)
			if n == 0 || len(b) > full+(1<<mostOnes)/8+9 {
				t.Fatalf("%d hashes in %d bytes, want %d at most", n, len(b), full)
			}
			if !readRice(b, width, k, n, at == 0, last, func(h uint64) { got = append(got, h) }) {
				t.Fatalf("%x is not the code of %x", b, hashes[at:at+n])
			}
			if readRice(b, width, k, n+1, at == 0, last, nil) || readRice(append(b, 0), width, k, n, at == 0, last, nil) {
				t.Errorf("%x is read with a hash or a byte more", b)
			}
			at += n
		}
		if !slices.Equal(got, hashes) {
			t.Errorf("%x comes back as %x", hashes, got)
		}
	})
}

// TestRiceIsShort holds the length of the code against the least that is
// possible: log2 of the number of sets of so many hashes.
func TestRiceIsShort(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{100, 1000, 1025, 2047, 30_000} {
		hashes := make([]uint64, n)
		for i := range hashes {
			hashes[i] = r.Uint64()
		}
		slices.Sort(hashes)
		b, _ := appendRice(nil, riceBits(hashes, 64), true, 0, hashes, math.MaxInt)
		lg, _ := math.Lgamma(float64(n + 1))
		least := 64 - lg/math.Ln2/float64(n)
		if got := 8 * float64(len(b)) / float64(n); got < least || got > least+0.2 {
			t.Errorf("%d hashes take %.2f bits each, want %.2f at least, and little more", n, got, least)
		}
	}
}

// FuzzRice checks that what is read as hashes is the code of these and of
// nothing else, and that no more of them are read than fit in.
func FuzzRice(f *testing.F) {
	for _, hashes := range [][]uint64{{0}, {math.MaxUint64}, {1, 2, 3}, {5, 1 << 40, 1 << 63}} {
		k := riceBits(hashes, 64)
		b, n := appendRice(nil, k, true, 0, hashes, math.MaxInt)
		f.Add(b, byte(64), byte(k), uint16(n), true, uint64(0))
		f.Add(b, byte(64), byte(k), uint16(n), false, uint64(7))
		f.Add(b, byte(50), byte(40), uint16(n), false, uint64(7))
	}
	f.Fuzz(func(t *testing.T, b []byte, size, lower byte, n uint16, first bool, last uint64) {
		width := leastWidth + int(size)%(65-leastWidth)
		k := leastRice + int(lower)%(width-leastRice)
		last &= ^uint64(0) >> (64 - width)
		if first {
			last = 0
		}
		var hashes []uint64
		ok := readRice(b, width, k, int(n), first, last, func(h uint64) { hashes = append(hashes, h) })
		if len(hashes) > 8*len(b)/(k+1) {
			t.Fatalf("%d hashes of more than %d bits in %d bytes", len(hashes), k, len(b))
		}
		if !ok || n == 0 {
			return
		}
		if len(hashes) != int(n) || !slices.IsSorted(hashes) || !first && hashes[0] <= last || bits.Len64(hashes[n-1]) > width {
			t.Fatalf("read %x after %x, want %d hashes that ascend", hashes, last, n)
		}
		if again, _ := appendRice(nil, k, first, last, hashes, math.MaxInt); !bytes.Equal(again, b) {
			t.Fatalf("%x is read as %x, which is written as %x", b, hashes, again)
		}
	})
}
