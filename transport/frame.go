package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
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
