package merkle

import (
	"encoding/binary"
	"math"
)

// A Cell is one coded symbol of a sketch: the exclusive or of the item hashes
// that belong to it, and that of their checks. Cells at one place in the
// sketches of two sets, combined with Xor, are the cell of their symmetric
// difference.
type Cell struct {
	Sum   uint64
	Check uint32
}

// CellSize is the length of an encoded cell.
const CellSize = 12

// Xor returns the cell of the symmetric difference.
func (c Cell) Xor(o Cell) Cell { return Cell{c.Sum ^ o.Sum, c.Check ^ o.Check} }

// Append appends the cell's encoding, CellSize bytes, big-endian.
func (c Cell) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(b, c.Sum), c.Check)
}

// ParseCell decodes the first CellSize bytes of b, which must have as many.
func ParseCell(b []byte) Cell {
	return Cell{binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:])}
}

// pure reports whether the cell looks like that of one item hash. One in 2^32
// of the cells that hold several does, too.
func (c Cell) pure() bool { return checkOf(c.Sum) == c.Check }

// checkOf returns the check of an item hash. It is not linear, so the check of
// an exclusive or is not the exclusive or of the checks; that of 0 is not 0, so
// an item whose hash is 0 is not lost.
func checkOf(hash uint64) uint32 { return uint32(mix(hash^0x6a09e667f3bcc909) >> 32) }

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable
// pseudorandom number generators", OOPSLA 2014; constants of Stafford's mix 13).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// A cellWalk goes through the cells to which an item belongs, in ascending
// order, without end: it is in cell 0, and in cell j with probability 1/(1+j/2).
//
// That is the mapping of Yang, Gilad and Alizadeh ("Practical Rateless Set
// Reconciliation", SIGCOMM 2024, section 4.2), in which the gap to the next
// cell is drawn at once. The generator is a linear congruential one, of which
// the upper half of the bits is used.
type cellWalk struct {
	state uint64
	at    uint64
}

func walkCells(hash uint64) cellWalk { return cellWalk{state: mix(hash)} }

// next moves on to the next cell. All replicas must come to the same: each
// operation on floating-point numbers is rounded as IEEE 754 has it, and there
// is no sum of a product, which a compiler might round once instead of twice.
func (w *cellWalk) next() {
	w.state = w.state*6364136223846793005 + 1442695040888963407
	r := float64(w.state>>32) + 1 // of 2^32
	gap := (float64(w.at) + 1.5) * (65536/math.Sqrt(r) - 1)
	up := int64(gap)
	if float64(up) < gap || up == 0 { // rounded up, and 1 at least
		up++
	}
	w.at += uint64(up)
}
