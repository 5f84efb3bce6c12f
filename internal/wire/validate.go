package wire

import (
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// Limits bound what a Reader accepts. The zero Limits are the defaults.
type Limits struct {
	// Elements is the most elements that all arrays together may have. If
	// zero, only the length of the input bounds them, as each takes a byte.
	Elements int
	// Depth is how deep arrays may nest: 1 allows arrays of scalars. If zero,
	// DefaultDepth; at most MaxDepth.
	Depth int
}

// Depths of arrays.
const (
	DefaultDepth = 8
	MaxDepth     = 16
)

// A kind is what a value is, as far as reading it goes.
type kind uint8

const (
	kindRefused kind = iota // not used here
	kindNil
	kindBool
	kindUint
	kindBytes
	kindText
	kindArray
)

// A form says how to read the values that begin with one code byte: the number
// is in the low bits of the code itself or in the width bytes after it,
// big-endian. For kindBytes and kindText it is the length of what follows, for
// kindArray the count.
type form struct {
	least uint64 // smaller numbers have a shorter form
	kind  kind
	width uint8 // 0, 1, 2, 4 or 8
	mask  uint8 // of the number's bits in the code, if width is 0
}

// codeBytes8 is the code of byte strings of up to 255 bytes.
const codeBytes8 = 0xc4

// forms holds the form of every code byte. It is never changed.
var forms = makeForms()

func makeForms() (t [256]form) {
	for c := range 128 {
		t[c] = form{kind: kindUint, mask: 0x7f}
	}
	for c := 0x90; c <= 0x9f; c++ {
		t[c] = form{kind: kindArray, mask: 0x0f}
	}
	for c := 0xa0; c <= 0xbf; c++ {
		t[c] = form{kind: kindText, mask: 0x1f}
	}
	t[0xc0] = form{kind: kindNil}
	t[0xc2] = form{kind: kindBool}
	t[0xc3] = form{kind: kindBool, mask: 1}
	t[0xc4] = form{kind: kindBytes, width: 1}
	t[0xc5] = form{kind: kindBytes, width: 2, least: 1 << 8}
	t[0xc6] = form{kind: kindBytes, width: 4, least: 1 << 16}
	t[0xcc] = form{kind: kindUint, width: 1, least: 1 << 7}
	t[0xcd] = form{kind: kindUint, width: 2, least: 1 << 8}
	t[0xce] = form{kind: kindUint, width: 4, least: 1 << 16}
	t[0xcf] = form{kind: kindUint, width: 8, least: 1 << 32}
	t[0xd9] = form{kind: kindText, width: 1, least: 1 << 5}
	t[0xda] = form{kind: kindText, width: 2, least: 1 << 8}
	t[0xdb] = form{kind: kindText, width: 4, least: 1 << 16}
	t[0xdc] = form{kind: kindArray, width: 2, least: 1 << 4}
	t[0xdd] = form{kind: kindArray, width: 4, least: 1 << 16}
	return t
}

// number returns the number of the form f whose code is b[0]. All its bytes
// are there.
func (f *form) number(b []byte) uint64 {
	if f.width == 0 {
		return uint64(b[0] & f.mask)
	}
	if len(b) >= 9 {
		// One load and one shift for every width.
		return binary.BigEndian.Uint64(b[1:9]) >> (64 - 8*uint(f.width))
	}
	var n uint64
	for _, c := range b[1 : 1+f.width] {
		n = n<<8 | uint64(c)
	}
	return n
}

// validate checks that b is a sequence of whole values within the limits, each
// in its only encoding. It allocates nothing but the error.
func validate(b []byte, lim Limits) *Error {
	if lim.Depth == 0 {
		lim.Depth = DefaultDepth
	}
	if lim.Elements == 0 {
		lim.Elements = len(b)
	}
	var (
		owed  = math.MaxInt // values to come in the innermost open array; outside of all, no end of them
		outer [MaxDepth]int // owed of the arrays around it
		depth int           // how many arrays are open
		left  = lim.Elements
		pos   int
	)
	for ; pos < len(b); owed-- {
		for owed == 0 {
			depth--
			owed = outer[depth]
		}
		// What the stream is made of, keys and values of up to 255 bytes, takes
		// a shortcut; it is one case of what follows.
		if b[pos] == codeBytes8 && pos+1 < len(b) {
			if end := pos + 2 + int(b[pos+1]); end <= len(b) {
				pos = end
				continue
			}
		}
		f := &forms[b[pos]]
		body := pos + 1 + int(f.width) // what follows the number
		if body > len(b) {
			return &Error{Offset: pos, Err: ErrTruncated}
		}
		n := f.number(b[pos:])
		if n < f.least {
			return &Error{Offset: pos, Err: ErrNotCanonical}
		}
		if f.kind >= kindBytes && n > uint64(len(b)-body) {
			return &Error{Offset: pos, Err: ErrTruncated}
		}
		switch f.kind {
		case kindRefused:
			return &Error{Offset: pos, Err: ErrRefused}
		case kindBytes:
			body += int(n)
		case kindText:
			if !utf8.Valid(b[body : body+int(n)]) {
				return &Error{Offset: pos, Err: ErrUTF8}
			}
			body += int(n)
		case kindArray:
			switch {
			case depth == lim.Depth:
				return &Error{Offset: pos, Err: ErrDepth}
			case int(n) > left:
				return &Error{Offset: pos, Err: ErrElements}
			}
			left -= int(n)
			outer[depth] = owed - 1
			depth++
			owed = int(n) + 1 // the loop counts this value off
		}
		pos = body
	}
	for owed == 0 {
		depth--
		owed = outer[depth]
	}
	if depth > 0 {
		return &Error{Offset: len(b), Err: ErrTruncated}
	}
	return nil
}
