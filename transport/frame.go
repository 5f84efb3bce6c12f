package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
)

// Sizes of the parts of a frame, in bytes.
const (
	// HeaderSize is the length, the type and their check before the body.
	HeaderSize = 6
	// Overhead is what a frame takes beyond its body.
	Overhead = HeaderSize + sumSize
	// MaxBody is the largest body that Write takes and that a limit allows.
	MaxBody = 4 << 20
	// FirstLimit is the limit of a new Conn for the bodies it reads: enough
	// to say hello, too little for a stranger to hurt.
	FirstLimit = 4096

	sumSize = 4
)

// A Frame is one message: a type that the layer above gives a meaning to, and
// a body of at most MaxBody bytes, which may be empty.
type Frame struct {
	Type byte
	Body []byte

	shared *shared // nil: not shared
}

// A shared is the checksum of a frame that goes out over several connections,
// and what it was made of.
type shared struct {
	typ  byte
	body []byte
	once sync.Once
	sum  uint32
}

// Share returns a frame that is to be written to several connections. Its
// checksum is computed once, by the first Write that comes to it, and kept with
// the frame and all copies of it; other Writes wait for that. The body must not
// change from now on. It costs one small allocation and is worth it for bodies
// of some KiB.
//
// A copy whose Type or Body is then replaced is an ordinary frame. Copies may be
// written by several Conns at the same time.
func Share(typ byte, body []byte) Frame {
	return Frame{Type: typ, Body: body, shared: &shared{typ: typ, body: body}}
}

// checksum returns the checksum of a frame with this header.
func (f *Frame) checksum(header []byte) uint32 {
	s := f.shared
	if s == nil || !s.of(f) {
		return checksum(header, f.Body)
	}
	s.once.Do(func() { s.sum = checksum(header, s.body) })
	return s.sum
}

// of reports whether f has the type and the body that it was shared with. Where
// the body lies is enough: what is in it does not change.
func (s *shared) of(f *Frame) bool {
	n := len(s.body)
	return f.Type == s.typ && len(f.Body) == n && (n == 0 || &f.Body[0] == &s.body[0])
}

func checksum(header, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(header, castagnoli), castagnoli, body)
}

// ErrChecksum is returned by Read for a frame that was changed on its way.
// Nothing after it in the stream can be trusted, so the Conn reads no more.
var ErrChecksum = errors.New("transport: frame checksum mismatch")

// A LimitError says that a frame is larger than what is taken: by Read, of a
// peer's frame whose body has not been read or allocated; by Write, of a frame
// that was not sent.
type LimitError struct {
	Size  int64 // bytes of body
	Limit int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("transport: frame of %d bytes is over the limit of %d", e.Size, e.Limit)
}

// castagnoli is never written to.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendHeader appends the bytes before the body of a frame.
func appendHeader(b []byte, typ byte, size int) []byte {
	b = append(binary.BigEndian.AppendUint32(b, uint32(size)), typ)
	return append(b, headerCheck(b[len(b)-HeaderSize+1:]))
}

// headerCheck returns the check of the length and the type. The checksum at the
// end covers them too, but only once the body has come: a length garbled on
// its way would make the reader wait for what nobody sends, or take everything
// that follows for the body, for as long as that lasts.
func headerCheck(lengthAndType []byte) byte {
	return byte(crc32.Checksum(lengthAndType, castagnoli))
}
