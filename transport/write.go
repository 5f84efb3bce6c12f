package transport

import (
	"encoding/binary"
	"net"
)

const (
	// copyBelow is the body size from which on a body is handed to the
	// network as it is instead of being copied next to its header.
	copyBelow = 8 << 10
	// flushSize bounds what is handed to the network at once, in bytes:
	// large enough to make system calls rare, small enough for Traffic to
	// show that a slow link moves.
	flushSize = 256 << 10
	// scratchSize bounds the bytes copied together for one flush.
	scratchSize = 64 << 10
	// maxPieces bounds the pieces of one flush.
	maxPieces = 256
)

// A writer gathers frames into pieces that go out in one system call: runs of
// headers, checksums and small bodies copied into scratch, and large bodies
// that stay where they are.
type writer struct {
	err     error // the first failure; the stream is cut somewhere, so it is final
	scratch []byte
	run     int // start in scratch of the run that is not a piece yet
	size    int // bytes in pieces
	pieces  net.Buffers
	rest    net.Buffers // the pieces during a flush, which eats them
}

// Write sends frames in order and returns when the network has taken them all.
// Frames of one call share system calls: what fits into 256 KiB (64 KiB of
// small frames) goes out in one. Bodies must not change until Write returns;
// those of 8 KiB and more are not copied.
//
// A *LimitError for a body over MaxBody comes before anything is sent and
// leaves the Conn as it was. Any other error is final, a deadline included: part
// of a frame may have gone out, and every later Write returns the error again.
func (c *Conn) Write(frames ...Frame) error {
	w := &c.w
	if w.err != nil {
		return w.err
	}
	for i := range frames {
		if n := len(frames[i].Body); n > MaxBody {
			return &LimitError{Size: int64(n), Limit: MaxBody}
		}
	}
	for i := range frames {
		if err := c.add(frames[i]); err != nil {
			return err
		}
	}
	return c.flush()
}

// add puts one frame behind those gathered, and flushes when there is no room.
func (c *Conn) add(f Frame) error {
	w := &c.w
	small := len(f.Body) < copyBelow
	need := Overhead
	if small {
		need += len(f.Body)
	}
	if len(w.scratch)+need > scratchSize {
		if err := c.flush(); err != nil {
			return err
		}
	}
	start := len(w.scratch)
	w.scratch = appendHeader(w.scratch, f.Type, len(f.Body))
	sum := f.checksum(w.scratch[start:])
	if small {
		w.scratch = append(w.scratch, f.Body...)
	} else if err := c.addLarge(f.Body); err != nil {
		return err
	}
	w.scratch = binary.BigEndian.AppendUint32(w.scratch, sum)
	return nil
}

// addLarge makes pieces of body, flushing whenever there are enough.
func (c *Conn) addLarge(body []byte) error {
	w := &c.w
	for len(body) > 0 {
		w.endRun()
		if w.size >= flushSize || len(w.pieces) >= maxPieces {
			if err := c.flush(); err != nil {
				return err
			}
		}
		n := min(len(body), flushSize-w.size)
		w.pieces = append(w.pieces, body[:n])
		w.size += n
		body = body[n:]
	}
	return nil
}

// endRun makes a piece of what was copied since the last one. Scratch may move
// when it grows; the piece then keeps the old array, which nobody writes to.
func (w *writer) endRun() {
	if w.run == len(w.scratch) {
		return
	}
	p := w.scratch[w.run:]
	w.pieces = append(w.pieces, p)
	w.size += len(p)
	w.run = len(w.scratch)
}

// flush hands everything gathered to the network.
func (c *Conn) flush() error {
	w := &c.w
	w.endRun()
	if len(w.pieces) == 0 {
		return nil
	}
	var n int64
	var err error
	if len(w.pieces) == 1 {
		var m int
		m, err = c.nc.Write(w.pieces[0])
		n = int64(m)
	} else {
		w.rest = w.pieces
		n, err = w.rest.WriteTo(c.nc)
		w.rest = nil
	}
	c.out.Add(uint64(n))
	clear(w.pieces) // let go of the bodies
	w.pieces, w.scratch = w.pieces[:0], w.scratch[:0]
	w.run, w.size = 0, 0
	w.err = err
	return err
}
