package merkle

import (
	"encoding/binary"
	"math/bits"
)

// parts is a string in two pieces, as a packed list holds it.
type parts [2][]byte

// lcp returns how many bytes a and b have in common at their beginning.
func lcp(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:])
		if x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// lcpParts is lcp of two strings in pieces.
func lcpParts(a, b parts) int {
	n, i, j := 0, 0, 0
	for i < len(a) && j < len(b) {
		m := min(len(a[i]), len(b[j]))
		c := lcp(a[i], b[j])
		n += c
		if c < m {
			return n
		}
		a[i], b[j] = a[i][m:], b[j][m:]
		if len(a[i]) == 0 {
			i++
		}
		if j < len(b) && len(b[j]) == 0 {
			j++
		}
	}
	return n
}

// withCap returns a copy of b with capacity for n bytes or more: what the
// allocator would round up to is put to use.
func withCap(b []byte, n int) []byte {
	out := append([]byte(nil), make([]byte, n)...)
	return out[:copy(out, b)]
}

// growBytes returns b lengthened by n bytes of any content, with at least
// spare bytes of capacity behind. It grows by an eighth: less often copied
// would mean more memory unused.
func growBytes(b []byte, n, spare int) []byte {
	need := len(b) + n
	if cap(b) < need+spare {
		b = withCap(b, need+need/8+spare)
	}
	return b[:need]
}

// shrink returns b, or a copy of it when more than half of its memory would
// lie unused.
func shrink(b []byte, spare int) []byte {
	if cap(b) <= 2*len(b)+64+spare {
		return b
	}
	return withCap(b, len(b)+spare)
}

// PrefixEnd returns the first key behind all keys that begin with p, or nil if
// no key is: p is empty or consists of 0xFF bytes. The result is new memory.
// So the keys that begin with p are those from p up to PrefixEnd(p).
func PrefixEnd(p []byte) []byte {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] != 0xff {
			end := append([]byte(nil), p[:i+1]...)
			end[i]++
			return end
		}
	}
	return nil
}
