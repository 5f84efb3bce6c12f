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
// cell is drawn at once: (j+3/2) * (1/sqrt(u)-1), rounded up, for a number u
// drawn evenly between 0 and 1. Here u is one of 1,024 numbers, or of as many
// smaller ones where it is the least of them, so that the root comes from a
// table and all is done with integers. That takes a third of the time, and to
// decode takes as many cells as with all bits of u. The generator is a linear
// congruential one, of which the upper bits are used.
type cellWalk struct {
	state uint64
	at    uint64
}

func walkCells(hash uint64) cellWalk { return cellWalk{state: mix(hash)} }

// next moves on to the next cell.
func (w *cellWalk) next() {
	w.state = w.state*6364136223846793005 + 1442695040888963407
	i := w.state >> (64 - gapBits)
	gap := uint64(gaps[i])
	if i == 0 {
		// u is 1,024 times smaller, and the root 32 times larger.
		gap = 32*(uint64(gaps[w.state>>(64-2*gapBits)&(1<<gapBits-1)])+1<<16) - 1<<16
	}
	w.at += (2*w.at+3)*gap>>17 + 1
}

const gapBits = 10

// gaps has 1/sqrt(u)-1 for u = (2i+1)/2048, times 65536 and rounded down.
var gaps = func() (gaps [1 << gapBits]uint32) {
	for i := range gaps {
		// Below 2^53 the root is exact where it is a whole number, and never
		// rounded up to one.
		gaps[i] = uint32(math.Sqrt(float64(uint64(1)<<43/uint64(2*i+1)))) - 1<<16
	}
	return gaps
}()
