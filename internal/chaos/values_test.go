//go:build chaos

package chaos

import (
	"encoding/hex"
	"fmt"
)

// A value in TestChaos says which op put it there, so that whoever reads it
// knows where it belongs in history; the rest of it follows from that, so that
// a single wrong byte is seen.
//
// Its id is the number of the write, the number of the op within it, and a
// class of size. 0 stands for an absent key, negative ids for what damage put
// there.
const (
	valAbsent  = int64(0)
	valCorrupt = int64(-1 << 62) // bytes that nobody wrote

	valOpBits, valClassBits = 16, 3
)

// valSizes are the bytes of each class.
var valSizes = [1 << valClassBits]int{24, 90, 400, 1500, 5000, 40_000, 300_000, 900_000}

func valID(write int64, op, class int) int64 {
	return write<<(valOpBits+valClassBits) | int64(op)<<valClassBits | int64(class)
}

// valWrite returns the number of the write that made a value.
func valWrite(id int64) int64 { return id >> (valOpBits + valClassBits) }

func valClass(id int64) int {
	if id < 0 {
		id = -id
	}
	return int(id & (1<<valClassBits - 1))
}

// valBytes returns the value of an id.
func valBytes(id int64) []byte {
	size := valSizes[valClass(id)]
	b := fmt.Appendf(make([]byte, 0, size+8), "%016x:", uint64(id))
	for x := uint64(id)*0x9e3779b97f4a7c15 | 1; len(b) < size; {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b = append(b, byte(x), byte(x>>8), byte(x>>16), byte(x>>24), byte(x>>32), byte(x>>40), byte(x>>48), byte(x>>56))
	}
	return b[:size]
}

// valParse returns the id of a value, valCorrupt if it is none's.
func valParse(b []byte) int64 {
	if len(b) < 17 || b[16] != ':' {
		return valCorrupt
	}
	var raw [8]byte
	if _, err := hex.Decode(raw[:], b[:16]); err != nil {
		return valCorrupt
	}
	var u uint64
	for _, c := range raw {
		u = u<<8 | uint64(c)
	}
	if id := int64(u); id != valAbsent && string(valBytes(id)) == string(b) {
		return id
	}
	return valCorrupt
}
