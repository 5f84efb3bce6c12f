package transport

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"sync/atomic"
)

// firstAlloc is how much may be allocated for a body on the word of its header
// alone, in bytes. Before SetLimit it is FirstLimit that counts.
const firstAlloc = 64 << 10

// A reader is the state of the frame being read. It outlives a Read that ran
// into its deadline.
type reader struct {
	br  *bufio.Reader
	err error // the first error that is not a deadline; nothing is read after it

	open bool // the header has been read
	typ  byte
	sum  uint32 // of the header
	size int    // of the body
	body []byte // what is allocated of it
	have int    // bytes of it that came

	// proven is the largest body that ever came whole. A peer that sends
	// bodies of that size is believed when it announces another.
	proven int
}

// Read returns the next frame. The body is the caller's; it is not nil, and
// its capacity is its length.
//
// While a body arrives its buffer has at most twice the size of what came, or
// 64 KiB, or the size of the largest body that came whole before; it is moved
// as it grows. So a peer has to send what it wants to make us hold, and a peer
// that does pays for no moves.
//
// The error is io.EOF if the stream ended between two frames,
// io.ErrUnexpectedEOF if inside one, ErrChecksum, a *LimitError, or the
// connection's. It is final: every later Read returns it again. Only a
// deadline (os.ErrDeadlineExceeded) is not: Read may be called again and goes
// on where it stopped, so a caller that sees from Traffic that a large frame
// is making progress can wait for the rest.
func (c *Conn) Read() (typ byte, body []byte, err error) {
	r := &c.r
	if r.err != nil {
		return 0, nil, r.err
	}
	if c.limit.Load() > FirstLimit && r.br.Size() < readBuffer {
		r.enlarge((*source)(c))
	}
	err = r.frame(&c.limit)
	if err != nil {
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			r.err = err
			r.body = nil
		}
		return 0, nil, err
	}
	typ, body = r.typ, r.body
	r.proven = max(r.proven, r.size)
	r.open, r.body, r.have = false, nil, 0
	return typ, body, nil
}

// enlarge reads on from src, and what was read of it and not handed out, in
// larger pieces.
func (r *reader) enlarge(src io.Reader) {
	if n := r.br.Buffered(); n > 0 {
		p, _ := r.br.Peek(n) // of what is there: cannot fail
		src = io.MultiReader(bytes.NewReader(bytes.Clone(p)), src)
	}
	r.br = bufio.NewReaderSize(src, readBuffer)
}

// frame reads the rest of the current frame into r.
func (r *reader) frame(limit *atomic.Int64) error {
	if !r.open {
		if err := r.header(limit); err != nil {
			return err
		}
	}
	for r.have < r.size {
		if r.have == len(r.body) {
			r.grow()
		}
		n, err := r.br.Read(r.body[r.have:])
		r.have += n
		if err != nil {
			return inside(err)
		}
	}
	p, err := r.br.Peek(sumSize)
	if err != nil {
		return inside(err)
	}
	if crc32.Update(r.sum, castagnoli, r.body) != binary.BigEndian.Uint32(p) {
		return ErrChecksum
	}
	// Discarding what has just been peeked at cannot fail.
	r.br.Discard(sumSize)
	return nil
}

// header reads the header and makes the first buffer for the body.
func (r *reader) header(limit *atomic.Int64) error {
	p, err := r.br.Peek(HeaderSize)
	if err != nil {
		if len(p) > 0 {
			return inside(err)
		}
		return err
	}
	size := int64(binary.BigEndian.Uint32(p))
	if most := limit.Load(); size > most {
		return &LimitError{Size: size, Limit: most}
	}
	if headerCheck(p[:HeaderSize-1]) != p[HeaderSize-1] {
		return ErrChecksum
	}
	r.size, r.typ = int(size), p[4]
	r.sum = crc32.Update(0, castagnoli, p)
	r.br.Discard(HeaderSize)
	r.body = make([]byte, min(r.size, max(firstAlloc, r.proven)))
	r.open = true
	return nil
}

// grow doubles the buffer for the body, which is full.
func (r *reader) grow() {
	b := make([]byte, min(r.size, 2*len(r.body)))
	copy(b, r.body)
	r.body = b
}

// inside returns the error for a stream that failed within a frame.
func inside(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
