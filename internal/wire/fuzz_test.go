package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"testing"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"
)

// reference decides by the definition whether b is a sequence of values that a
// Reader accepts: it decodes by the msgpack specification, whatever the form,
// writes what it found with the library's encoder, and compares.
func reference(b []byte, lim Limits) bool {
	var out bytes.Buffer
	p := referenceParser{rest: b, enc: msgpack.NewEncoder(&out), elements: lim.Elements}
	for len(p.rest) > 0 {
		if !p.value(lim.Depth) {
			return false
		}
	}
	return bytes.Equal(out.Bytes(), b)
}

type referenceParser struct {
	rest     []byte
	enc      *msgpack.Encoder
	elements int // that may still come
}

// value decodes one value and encodes it again. depth is how many arrays may
// still be opened.
func (p *referenceParser) value(depth int) bool {
	code, ok := p.number(1)
	if !ok {
		return false
	}
	switch {
	case code == 0xc0:
		return p.enc.EncodeNil() == nil
	case code == 0xc2 || code == 0xc3:
		return p.enc.EncodeBool(code == 0xc3) == nil
	case code <= 0x7f:
		return p.enc.EncodeUint(code) == nil
	case code >= 0xcc && code <= 0xcf:
		n, ok := p.number(1 << (code - 0xcc))
		return ok && p.enc.EncodeUint(n) == nil
	case code >= 0xc4 && code <= 0xc6:
		s, ok := p.bytes(1 << (code - 0xc4))
		return ok && p.enc.EncodeBytes(s) == nil
	case code >= 0xa0 && code <= 0xbf:
		return p.text(code & 0x1f)
	case code >= 0xd9 && code <= 0xdb:
		n, ok := p.number(1 << (code - 0xd9))
		return ok && p.text(n)
	case code >= 0x90 && code <= 0x9f:
		return p.array(code&0x0f, depth)
	case code == 0xdc || code == 0xdd:
		n, ok := p.number(2 << (code - 0xdc))
		return ok && p.array(n, depth)
	}
	return false
}

// number takes a big-endian number of so many bytes.
func (p *referenceParser) number(size int) (n uint64, ok bool) {
	b, ok := p.take(uint64(size))
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n, ok
}

func (p *referenceParser) take(n uint64) ([]byte, bool) {
	if n > uint64(len(p.rest)) {
		return nil, false
	}
	b := p.rest[:n:n]
	p.rest = p.rest[n:]
	return b, true
}

func (p *referenceParser) bytes(size int) ([]byte, bool) {
	n, ok := p.number(size)
	if !ok {
		return nil, false
	}
	return p.take(n)
}

func (p *referenceParser) text(n uint64) bool {
	b, ok := p.take(n)
	return ok && utf8.Valid(b) && p.enc.EncodeString(string(b)) == nil
}

func (p *referenceParser) array(n uint64, depth int) bool {
	if depth == 0 || n > uint64(len(p.rest)) || n > uint64(p.elements) {
		return false
	}
	p.elements -= int(n)
	if p.enc.EncodeArrayLen(int(n)) != nil {
		return false
	}
	for range n {
		if !p.value(depth - 1) {
			return false
		}
	}
	return true
}

// rewrite reads everything r has and writes it to w. An array is its header
// followed by its elements, so no recursion is needed.
func rewrite(r *Reader, w *Writer) {
	for r.More() {
		switch forms[r.in.b[r.in.pos]].kind {
		case kindNil:
			r.IsNil()
			w.Nil()
		case kindBool:
			w.Bool(r.Bool())
		case kindUint:
			w.Uint(r.Uint())
		case kindBytes:
			w.Bytes(r.Bytes())
		case kindText:
			w.String(r.StringMax(len(r.in.b)))
		case kindArray:
			w.Array(r.Array())
		}
	}
}

// checkInput checks everything that must hold for any input at all.
func checkInput(t interface {
	Helper()
	Fatalf(string, ...any)
}, b []byte) {
	t.Helper()
	lim := Limits{Elements: 100, Depth: 4}
	r := NewReader(b, lim)
	accepted := r.Err() == nil
	if want := reference(b, lim); accepted != want {
		t.Fatalf("%x: Reader says %v, the definition says acceptable: %v", b, r.Err(), want)
	}
	if !accepted {
		if r.err.Offset < 0 || r.err.Offset > len(b) {
			t.Fatalf("%x: offset of %v is outside of the input", b, r.err)
		}
		if r.More() || r.Array() != 0 || r.Uint() != 0 || r.Bytes() != nil || r.StringMax(9) != "" || r.Bool() || r.IsNil() {
			t.Fatalf("%x: refused, yet the Reader reads", b)
		}
		return
	}
	w := NewWriter(nil)
	rewrite(r, w)
	if err := r.Close(); err != nil || !bytes.Equal(w.Out(), b) {
		t.Fatalf("%x: accepted, but written again as %x (%v)", b, w.Out(), err)
	}
	checkShortcut(t, b, lim)
}

// checkShortcut checks that byte strings read by hand are those that the
// library reads, whatever the limit, and that Skip passes over the same bytes.
func checkShortcut(t interface{ Fatalf(string, ...any) }, b []byte, lim Limits) {
	for _, limit := range []int{0, 1, 2, 255, 256, len(b)} {
		hand, lib := NewReader(b, lim), NewReader(b, lim)
		for hand.More() {
			if forms[b[hand.in.pos]].kind == kindArray {
				hand.Array()
				lib.Array()
				continue
			}
			if forms[b[hand.in.pos]].kind != kindBytes {
				hand.Skip()
				lib.Skip()
				continue
			}
			skip := NewReader(b[hand.in.pos:], lim)
			skip.Skip()
			x, y := hand.BytesMax(limit), lib.bytesLib(limit)
			if !bytes.Equal(x, y) || (x == nil) != (y == nil) || cap(x) != cap(y) || hand.Offset() != lib.Offset() {
				t.Fatalf("%x, limit %d: by hand %x to %d, by the library %x to %d", b, limit, x, hand.Offset(), y, lib.Offset())
			}
			if hand.err == nil && hand.Offset() != len(b)-len(skip.in.b)+skip.Offset() {
				t.Fatalf("%x: Skip ends at another byte than reading", b)
			}
		}
		if (hand.err == nil) != (lib.err == nil) || hand.err != nil && *hand.err != *lib.err {
			t.Fatalf("%x, limit %d: by hand %v, by the library %v", b, limit, hand.err, lib.err)
		}
	}
}

func FuzzReader(f *testing.F) {
	for _, seed := range []string{
		"", "c0", "c2", "c3", "7f", "cc80", "cd0100", "ce00010000", "cf0000000100000000",
		"c400", "c40161", "a0", "a161", "a2c3a9", "90", "9101", "929101c0", "019102",
		"cc7f", "ddffffffff", "c6ffffffff", "9191919100", "919191919100", "d90161", "dc000100", "81", "ca", "ff",
	} {
		b, err := hex.DecodeString(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { checkInput(t, b) })
}

// TestReaderAgainstReference does what FuzzReader does with inputs that are
// valid, or nearly so, far more often than chance has it.
func TestReaderAgainstReference(t *testing.T) {
	lengths := rapid.OneOf(rapid.Uint64Range(0, 20), rapid.SampledFrom([]uint64{31, 32, 33, 127, 128, 255, 256, 65535, 65536, 1<<32 - 1}))
	rapid.Check(t, func(t *rapid.T) {
		var b []byte
		for range rapid.IntRange(0, 12).Draw(t, "values") {
			code := rapid.Byte().Draw(t, "code")
			f := forms[code]
			b = append(b, code)
			n := uint64(code & f.mask)
			if f.width > 0 {
				n = lengths.Draw(t, "number")
				var be [8]byte
				binary.BigEndian.PutUint64(be[:], n)
				b = append(b, be[8-f.width:]...)
			}
			if (f.kind == kindBytes || f.kind == kindText) && n < 1000 {
				b = append(b, bytes.Repeat([]byte("a"), int(n))...)
			}
		}
		checkInput(t, b)
	})
}

// TestFormsAllCodes holds every code byte against the library's idea of it.
func TestFormsAllCodes(t *testing.T) {
	pad := make([]byte, 300)
	for c := range 256 {
		b := append([]byte{byte(c)}, pad...)
		dec := msgpack.NewDecoder(bytes.NewReader(b))
		var err error
		switch forms[c].kind {
		case kindUint:
			_, err = dec.DecodeUint64()
		case kindBytes, kindText:
			_, err = dec.DecodeBytesLen()
		case kindArray:
			_, err = dec.DecodeArrayLen()
		case kindBool:
			_, err = dec.DecodeBool()
		case kindNil:
			err = dec.DecodeNil()
		}
		if err != nil {
			t.Errorf("code %02x is of kind %d here, the library says: %v", c, forms[c].kind, err)
		}
	}
}
