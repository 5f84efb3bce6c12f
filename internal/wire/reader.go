package wire

import (
	"errors"
	"fmt"
	"io"

	"github.com/vmihailenco/msgpack/v5"
)

// A Reader reads the values of one input, in order. The first thing that is
// wrong ends it: from then on every method returns zero values and Err returns
// that first error, an *Error. So a decoder can read a whole message and look
// at Err or Close once.
//
// A Reader must not be copied. Byte slices it returns are parts of the input:
// whoever keeps one keeps the input, and must not change it.
type Reader struct {
	in    cursor
	dec   msgpack.Decoder // reads from in
	field string
	err   *Error
}

// NewReader returns a Reader of the values in b, which may be none, one or
// many, one after the other. It checks all of b first, in time linear in its
// length, and reports what it finds through Err.
func NewReader(b []byte, lim Limits) *Reader {
	r := new(Reader)
	r.Reset(b, lim)
	return r
}

// Reset makes r a Reader of b, as NewReader does.
func (r *Reader) Reset(b []byte, lim Limits) {
	if lim.Depth < 0 || lim.Depth > MaxDepth || lim.Elements < 0 {
		panic(fmt.Sprintf("BUG: wire: limits %+v", lim))
	}
	r.in = cursor{b: b}
	r.dec.Reset(&r.in)
	r.field = ""
	r.err = validate(b, lim)
}

// Err returns what is wrong with the input as far as it was read, or nil. It
// is an *Error.
func (r *Reader) Err() error {
	if r.err == nil {
		return nil
	}
	return r.err
}

// Close returns Err or, if values are left that nobody read, an error that
// says so.
func (r *Reader) Close() error {
	if r.err == nil && r.in.pos < len(r.in.b) {
		r.fail(r.in.pos, ErrTrailing)
	}
	return r.Err()
}

// Offset returns how many bytes have been read without an error.
func (r *Reader) Offset() int { return r.in.pos }

// More reports whether another value follows and all is well.
func (r *Reader) More() bool { return r.err == nil && r.in.pos < len(r.in.b) }

// Field names what is read from now on, for the error if it is wrong. It
// returns r.
func (r *Reader) Field(name string) *Reader {
	r.field = name
	return r
}

// Fail makes r end with an error at the offset given, unless it already has
// one: for what only the decoder of a message can know to be wrong.
func (r *Reader) Fail(offset int, err error) { r.fail(offset, err) }

// Array begins an array and returns its count, which is at most the number of
// bytes left. The elements are read next.
func (r *Reader) Array() int { return r.ArrayMax(len(r.in.b)) }

// ArrayN begins an array of exactly n elements.
func (r *Reader) ArrayN(n int) {
	at := r.in.pos
	if got := r.Array(); r.err == nil && got != n {
		r.fail(at, ErrRange)
	}
}

// ArrayMax is Array, with an upper bound for the count.
func (r *Reader) ArrayMax(limit int) int {
	at := r.in.pos
	if !r.next(kindArray) {
		return 0
	}
	n, err := r.dec.DecodeArrayLen()
	return r.length(at, n, limit, err)
}

// Uint reads an unsigned integer.
func (r *Reader) Uint() uint64 {
	at := r.in.pos
	if !r.next(kindUint) {
		return 0
	}
	v, err := r.dec.DecodeUint64()
	if err != nil {
		r.fail(at, err)
		return 0
	}
	return v
}

// UintMax reads an unsigned integer of at most limit.
func (r *Reader) UintMax(limit uint64) uint64 {
	at := r.in.pos
	v := r.Uint()
	if v > limit {
		r.fail(at, ErrRange)
		return 0
	}
	return v
}

// Bytes reads a byte string. The slice is a part of the input, never nil
// unless there is an error.
func (r *Reader) Bytes() []byte { return r.BytesMax(len(r.in.b)) }

// BytesMax reads a byte string of at most limit bytes.
func (r *Reader) BytesMax(limit int) []byte {
	// Keys and most values of the stream come this way, millions a second, and
	// by hand that takes a third of the time. Checked input holds what the
	// length says.
	b, at := r.in.b, r.in.pos
	if r.err == nil && at+1 < len(b) && b[at] == codeBytes8 {
		begin := at + 2
		if end := begin + int(b[at+1]); end-begin <= limit {
			r.in.pos = end
			return b[begin:end:end]
		}
	}
	return r.bytesLib(limit)
}

// bytesLib is BytesMax, all of it by the library.
func (r *Reader) bytesLib(limit int) []byte {
	at := r.in.pos
	if !r.next(kindBytes) {
		return nil
	}
	n, err := r.dec.DecodeBytesLen()
	n = r.length(at, n, limit, err)
	if r.err != nil {
		return nil
	}
	return r.take(n)
}

// BytesN reads a byte string of exactly n bytes.
func (r *Reader) BytesN(n int) []byte {
	at := r.in.pos
	b := r.Bytes()
	if r.err == nil && len(b) != n {
		r.fail(at, ErrRange)
		return nil
	}
	return b
}

// StringMax reads text of at most limit bytes.
func (r *Reader) StringMax(limit int) string {
	at := r.in.pos
	if !r.next(kindText) {
		return ""
	}
	n, err := r.dec.DecodeBytesLen()
	n = r.length(at, n, limit, err)
	if r.err != nil {
		return ""
	}
	return string(r.take(n))
}

// Bool reads true or false.
func (r *Reader) Bool() bool {
	at := r.in.pos
	if !r.next(kindBool) {
		return false
	}
	v, err := r.dec.DecodeBool()
	if err != nil {
		r.fail(at, err)
	}
	return v
}

// IsNil reports whether the next value is nil, and reads it if so.
func (r *Reader) IsNil() bool {
	if !r.More() || forms[r.in.b[r.in.pos]].kind != kindNil {
		return false
	}
	r.in.pos++
	return true
}

// Skip passes over the next value with everything in it.
func (r *Reader) Skip() {
	for owed := 1; owed > 0; owed-- {
		if !r.More() {
			r.fail(r.in.pos, ErrTruncated)
			return
		}
		rest := r.in.b[r.in.pos:]
		f := &forms[rest[0]]
		r.in.pos += 1 + int(f.width)
		switch f.kind {
		case kindBytes, kindText:
			r.in.pos += int(f.number(rest))
		case kindArray:
			owed += int(f.number(rest))
		}
	}
}

// next reports whether a value of kind k is next; it is an error if not.
func (r *Reader) next(k kind) bool {
	if r.err != nil {
		return false
	}
	if r.in.pos == len(r.in.b) {
		r.fail(r.in.pos, ErrTruncated)
		return false
	}
	if forms[r.in.b[r.in.pos]].kind != k {
		r.fail(r.in.pos, ErrType)
		return false
	}
	return true
}

// length returns a length or count n that the decoder read, if it is allowed.
func (r *Reader) length(at, n, limit int, err error) int {
	switch {
	case err != nil:
		r.fail(at, err)
	case n < 0 || n > limit:
		r.fail(at, ErrRange)
	default:
		return n
	}
	return 0
}

// take returns the next n bytes, which are there: validate has seen them. The
// capacity ends with them, so that an append cannot reach what follows.
func (r *Reader) take(n int) []byte {
	end := r.in.pos + n
	b := r.in.b[r.in.pos:end:end]
	r.in.pos = end
	return b
}

// fail notes an error, unless there is one, and goes back to where it is.
func (r *Reader) fail(at int, err error) {
	if r.err == nil {
		r.err = &Error{Offset: at, Field: r.field, Err: err}
		r.in.pos = at
	}
}

// A cursor is an input with a position. The msgpack decoder reads through it,
// unbuffered, so the position is always exact and can be moved from outside.
type cursor struct {
	b   []byte
	pos int
}

// Read implements io.Reader.
func (c *cursor) Read(p []byte) (int, error) {
	if c.pos == len(c.b) {
		return 0, io.EOF
	}
	n := copy(p, c.b[c.pos:])
	c.pos += n
	return n, nil
}

// ReadByte implements io.ByteReader.
func (c *cursor) ReadByte() (byte, error) {
	if c.pos == len(c.b) {
		return 0, io.EOF
	}
	c.pos++
	return c.b[c.pos-1], nil
}

// UnreadByte implements io.ByteScanner.
func (c *cursor) UnreadByte() error {
	if c.pos == 0 {
		return errUnread
	}
	c.pos--
	return nil
}

var errUnread = errors.New("no byte to unread")
