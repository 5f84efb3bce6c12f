package diff

import "math/bits"

// Item hashes that ascend are sent as the gaps between them, in Rice's code
// (R. F. Rice, "Some practical universal noiseless coding techniques", JPL
// 1979): of each gap, less one, the lower bits as they are, and before them the
// upper ones as so many ones and a zero. For hashes that are spread evenly, as
// hashes are, that is within some hundredths of a bit of the shortest.

const (
	// leastWidth is how many bits of each hash are sent at least, the upper ones.
	leastWidth = 40
	// leastRice is the least number of lower bits. It bounds how many hashes are
	// in so many bytes, whoever sends them.
	leastRice = 24
	// mostOnes is a bound of the ones of a hash, as a power of two: no hash takes
	// more than some 520 bytes. Hashes that are spread evenly have ten or so.
	mostOnes = 12
)

// widthFor returns how many bits, the upper ones, of each of some hashes that
// ascend tell it from the hashes of so many items, but for one in 4,096 of such
// sets, and from one another.
func widthFor(hashes []uint64, items uint64) int {
	width := min(64, max(leastWidth, bits.Len64(items)+bits.Len(uint(len(hashes)))+12))
	for i := 1; i < len(hashes); i++ {
		width = max(width, bits.LeadingZeros64(hashes[i]^hashes[i-1])+1)
	}
	return width
}

// riceBits returns how many lower bits are best for hashes of that width that
// ascend and are spread evenly, or more if some lie far apart.
func riceBits(hashes []uint64, width int) int {
	k := min(width-1, max(leastRice, width-bits.Len(uint(len(hashes)))))
	last := uint64(0)
	for _, h := range hashes {
		k = max(k, bits.Len64(h-last)-mostOnes)
		last = h
	}
	return k
}

// appendRice appends to b the code of hashes that ascend, all of them above
// last, or at least 0 if first, until it is full, and returns how many there are
// in it: one at least.
func appendRice(b []byte, k int, first bool, last uint64, hashes []uint64, full int) ([]byte, int) {
	w := bitWriter{out: b}
	for i, h := range hashes {
		if i > 0 && len(w.out)-len(b) >= full {
			return w.flush(), i
		}
		gap := h - last - 1
		if first {
			gap, first = h, false
		}
		for q := gap >> k; q > 0; q-- {
			w.write(1, 1)
		}
		w.write(0, 1)
		w.write(gap&(1<<k-1), k)
		last = h
	}
	return w.flush(), len(hashes)
}

// readRice calls fn for each of n hashes of that width. It returns false if b is
// not just their code.
func readRice(b []byte, width, k, n int, first bool, last uint64, fn func(hash uint64)) bool {
	most := ^uint64(0) >> (64 - width)
	r := bitReader{in: b}
	for range n {
		var q uint64
		for r.read(1) == 1 {
			q++
		}
		if r.short || bits.Len64(q)+k > width {
			return false
		}
		h := q<<k | r.read(k)
		if !first {
			if last >= most || h > most-last-1 {
				return false
			}
			h += last + 1
		}
		first, last = false, h
		if r.short {
			return false
		}
		if fn != nil {
			fn(h)
		}
	}
	return r.ended()
}

// A bitWriter appends bits, the upper ones first.
type bitWriter struct {
	out  []byte
	acc  uint64
	have int // bits in acc, less than 8 between calls
}

// write appends the lower n bits of v, at most 63.
func (w *bitWriter) write(v uint64, n int) {
	for n > 0 {
		take := min(n, 56-w.have)
		w.acc = w.acc<<take | v>>(n-take)&(1<<take-1)
		w.have += take
		n -= take
		for w.have >= 8 {
			w.have -= 8
			w.out = append(w.out, byte(w.acc>>w.have))
		}
	}
}

// flush fills the last byte with zeros.
func (w *bitWriter) flush() []byte {
	if w.have > 0 {
		w.out = append(w.out, byte(w.acc<<(8-w.have)))
	}
	return w.out
}

// A bitReader reads what a bitWriter wrote.
type bitReader struct {
	in    []byte
	at    int // in bits
	short bool
}

// read returns the next n bits, at most 63; zeros if there are not as many.
func (r *bitReader) read(n int) (v uint64) {
	if r.at+n > 8*len(r.in) {
		r.short = true
		return 0
	}
	for n > 0 {
		b, off := r.in[r.at/8], r.at%8
		take := min(n, 8-off)
		v = v<<take | uint64(b>>(8-off-take)&(1<<take-1))
		r.at += take
		n -= take
	}
	return v
}

// ended reports whether all was read but some zeros of the last byte.
func (r *bitReader) ended() bool {
	rest := 8*len(r.in) - r.at
	return !r.short && rest < 8 && r.read(rest) == 0
}
