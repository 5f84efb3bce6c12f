package wire

import (
	"fmt"
	"math"
	"strings"

	"github.com/vmihailenco/msgpack/v5"
)

// A Writer appends values to a byte slice, each in its shortest form. It
// allocates nothing but room in that slice. Make one with NewWriter and keep
// it: a Reset is cheaper than a new one.
type Writer struct {
	out sink
	enc *msgpack.Encoder // writes to out
}

// NewWriter returns a Writer that appends to buf, which may be nil and is the
// Writer's until Out has been taken.
func NewWriter(buf []byte) *Writer {
	w := &Writer{out: sink{buf}}
	w.enc = msgpack.NewEncoder(&w.out)
	return w
}

// Reset makes the Writer append to buf from now on. What it wrote before is
// the caller's.
func (w *Writer) Reset(buf []byte) { w.out.b = buf }

// Out returns the slice given to NewWriter or Reset with everything written
// appended. It is valid until the next write.
func (w *Writer) Out() []byte { return w.out.b }

// Len returns len(w.Out()).
func (w *Writer) Len() int { return len(w.out.b) }

// Array begins an array: the next n values are its elements.
func (w *Writer) Array(n int) {
	checkLen("array", n)
	check(w.enc.EncodeArrayLen(n))
}

// Uint writes an unsigned integer.
func (w *Writer) Uint(v uint64) { check(w.enc.EncodeUint(v)) }

// Bytes writes a byte string. A nil slice is written as an empty one.
func (w *Writer) Bytes(b []byte) {
	checkLen("byte string", len(b))
	check(w.enc.EncodeBytesLen(len(b)))
	w.out.b = append(w.out.b, b...)
}

// String writes text. Bytes that are not UTF-8 are written as U+FFFD, since
// no Reader would accept them.
func (w *Writer) String(s string) {
	checkLen("text", len(s))
	check(w.enc.EncodeString(strings.ToValidUTF8(s, "\uFFFD")))
}

// Bool writes true or false.
func (w *Writer) Bool(b bool) { check(w.enc.EncodeBool(b)) }

// Nil writes nil.
func (w *Writer) Nil() { check(w.enc.EncodeNil()) }

// checkLen panics if msgpack cannot express a length.
func checkLen(what string, n int) {
	if n < 0 || uint64(n) > math.MaxUint32 {
		panic(fmt.Sprintf("BUG: wire: %s of length %d", what, n))
	}
}

// check panics on an error of the encoder, which returns only those of the
// sink, which has none.
func check(err error) {
	if err != nil {
		panic("BUG: wire: " + err.Error())
	}
}

// A sink is the byte slice behind an encoder.
type sink struct{ b []byte }

// Write implements io.Writer.
func (s *sink) Write(p []byte) (int, error) {
	s.b = append(s.b, p...)
	return len(p), nil
}

// WriteByte implements io.ByteWriter; without it the encoder would allocate
// for each byte.
func (s *sink) WriteByte(c byte) error {
	s.b = append(s.b, c)
	return nil
}
