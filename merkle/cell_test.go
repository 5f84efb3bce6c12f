package merkle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"testing"
)

// TestSketchVectors pins which cells and which counter an item belongs to:
// replicas of different builds and machines must agree on them. The values come
// from another implementation, in Python.
func TestSketchVectors(t *testing.T) {
	for _, v := range []struct {
		hash    uint64
		check   uint32
		cells   []uint64 // below 65536
		counter int
		by      int8
	}{
		{0x0, 0x3564b439, []uint64{0, 4, 16, 21, 35, 58, 78, 281, 472, 680, 1019, 1281, 2123, 9662, 31000, 32451}, 84, 1},
		{0x1, 0x492b8d60, []uint64{0, 3, 4, 5, 46, 274, 515, 2477, 6146, 8731, 13283, 16440, 26223, 45611, 57672}, 68, -1},
		{0x8000000000000000, 0xa76c539a, []uint64{0, 3, 15, 96, 97, 318, 670, 748, 985, 1500, 3367, 5562, 8070, 8578, 10150, 12498, 13878, 35277}, 140, -1},
		{0xffffffffffffffff, 0xfe766ab1, []uint64{0, 1, 3, 6, 8, 10, 24, 27, 57, 58, 59, 64, 90, 192, 221, 319, 937, 1446, 2201, 2214, 8443, 14153, 24764, 35317}, 102, -1},
		{0xa018cb0b1170f089, 0x1d65f6bc, []uint64{0, 2, 4, 8, 22, 62, 68, 245, 284, 505, 1452, 5979, 8254, 10089, 11662, 25663, 33183, 52220}, 83, -1},
		{0x123456789abcdef0, 0xd2dbc604, []uint64{0, 1, 2, 7, 26, 31, 53, 72, 130, 519, 1703, 2041, 5553, 11207, 11260, 16027, 18150, 19720, 29932, 39055, 48086}, 40, -1},
		{0x81f, 0x1d03b5a0, []uint64{0, 50, 51, 221, 239, 244, 1497, 1609, 2102, 2151, 2270, 3094, 3666, 7284, 15664, 36706, 64612}, 113, -1}, // a small u
	} {
		if got := checkOf(v.hash); got != v.check {
			t.Errorf("%#x: check %#x, want %#x", v.hash, got, v.check)
		}
		var got []uint64
		for w := walkCells(v.hash); w.at < 65536; w.next() {
			got = append(got, w.at)
		}
		if !slices.Equal(got, v.cells) {
			t.Errorf("%#x: cells %d, want %d", v.hash, got, v.cells)
		}
		var counters, want Counters
		counters.add(v.hash, 1)
		if want[v.counter] = uint8(v.by); counters != want {
			t.Errorf("%#x: counters %d, want %d in number %d", v.hash, counters, v.by, v.counter)
		}
	}
}

// TestSketchDigestVectors pins many cells at once.
func TestSketchDigestVectors(t *testing.T) {
	cells := make([]Cell, 65536)
	var counters Counters
	for _, h := range hashes(0, 10_000) {
		toggle(cells, h)
		counters.add(h, 1)
	}
	var b []byte
	for _, c := range cells {
		b = c.Append(b)
	}
	for _, v := range []struct {
		name, want string
		data       []byte
	}{
		{"cells", "ea92a2682db5f3619a2502949343139a435e37f775f025a1dd9cd71d65084f75", b},
		{"counters", "c458dac0d3d6a5ee6fd2bb145a01813660f26e52410acc9de8807b4daa06e31c", counters[:]},
	} {
		if sum := sha256.Sum256(v.data); hex.EncodeToString(sum[:]) != v.want {
			t.Errorf("%s have digest %x, want %s", v.name, sum, v.want)
		}
	}
}

// hashes returns the first n hashes of a series. No hash comes twice, nor in two
// series.
func hashes(series, n int) []uint64 {
	out := make([]uint64, n)
	for i := range out {
		out[i] = mix(uint64(series)<<32 + uint64(i))
	}
	return out
}

func TestCellEncoding(t *testing.T) {
	want := []byte{9, 1, 2, 3, 4, 5, 6, 7, 8, 0xa, 0xb, 0xc, 0xd}
	c := Cell{0x0102030405060708, 0x0a0b0c0d}
	b := c.Append([]byte{9})
	if !bytes.Equal(b, want) || len(b) != 1+CellSize {
		t.Errorf("Append gives % x, want % x", b, want)
	}
	if got := ParseCell(append(b, 7)[1:]); got != c {
		t.Errorf("ParseCell gives %x, want %x", got, c)
	}
	o := Cell{0xff, 0xf0}
	if got, want := c.Xor(o), (Cell{0x01020304050607f7, 0x0a0b0cfd}); got != want {
		t.Errorf("Xor gives %x, want %x", got, want)
	}
	if c.Xor(c) != (Cell{}) {
		t.Error("a cell and itself do not cancel out")
	}
}

// TestMapping holds the probability with which an item is in a cell against the
// law, 1/(1+j/2), at some cells of two thousand items each.
func TestMapping(t *testing.T) {
	const items = 200_000
	in := map[uint64]int{}
	for _, h := range hashes(0, items) {
		for w := walkCells(h); w.at < 256; w.next() {
			in[w.at]++
		}
	}
	for _, j := range []uint64{0, 1, 2, 3, 10, 50, 100, 255} {
		want := items / (1 + float64(j)/2)
		if got := float64(in[j]); got < 0.9*want || got > 1.1*want {
			t.Errorf("cell %d has %.0f items of %d, want about %.0f", j, got, items, want)
		}
	}
}
