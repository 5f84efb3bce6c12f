package transport

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// pipeBuffer is how much a pipe holds in each direction, in bytes.
const pipeBuffer = 64 << 10

// Pipe returns the two ends of a connection in memory. It behaves like a TCP
// connection: each direction holds up to 64 KiB that the other end has not
// read yet, and then blocks the writer; after Close the peer reads what was
// sent and then io.EOF, and its writes fail. Reading and writing from several
// goroutines is allowed, and deadlines work as net.Conn says.
//
// Both ends also have the methods CloseWrite, which ends one direction only,
// and SetLinger, which with 0 makes Close a reset: the peer loses what it has
// not read, and its reads fail.
//
// Blocked calls wait on channels only, see Fake time in the package
// documentation.
func Pipe() (a, b net.Conn) {
	ab, ba := newHalf(), newHalf()
	return newEnd(ba, ab), newEnd(ab, ba)
}

// A half is one direction of a pipe: a ring of bytes between a writer and a
// reader.
type half struct {
	mu   sync.Mutex
	ring []byte // pipeBuffer long, made by the first write
	off  int    // where the oldest byte is
	n    int    // bytes held
	// werr is what the reader gets when the ring is empty, once the writer
	// has closed: io.EOF or a reset.
	werr error
	// rerr is what the writer gets once the reader has closed.
	rerr error

	// One token each: something came or went, look again.
	readc, writec chan struct{}
}

func newHalf() *half {
	return &half{readc: make(chan struct{}, 1), writec: make(chan struct{}, 1)}
}

// signal leaves a token in c if there is none.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// read takes up to len(p) bytes out. It returns 0, nil if there are none yet.
func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n == 0 {
		return 0, h.werr
	}
	total := 0
	for h.n > 0 && len(p) > 0 {
		n := copy(p, h.ring[h.off:min(h.off+h.n, pipeBuffer)])
		h.off = (h.off + n) % pipeBuffer
		h.n -= n
		total += n
		p = p[n:]
	}
	signal(h.writec)
	return total, nil
}

// write puts as much of p in as there is room for.
func (h *half) write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rerr != nil {
		return 0, h.rerr
	}
	if h.ring == nil {
		h.ring = make([]byte, pipeBuffer)
	}
	total := 0
	for h.n < pipeBuffer && len(p) > 0 {
		at := (h.off + h.n) % pipeBuffer
		room := min(pipeBuffer-h.n, pipeBuffer-at)
		n := copy(h.ring[at:at+room], p)
		h.n += n
		total += n
		p = p[n:]
	}
	if total > 0 {
		signal(h.readc)
	}
	return total, nil
}

// closeWrite ends the stream with err after what it holds, or at once.
func (h *half) closeWrite(err error, drop bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.werr == nil {
		h.werr = err
	}
	if drop {
		h.werr = err
		h.n = 0
	}
	signal(h.readc)
}

// closeRead throws away what is held and fails the writer with err.
func (h *half) closeRead(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n = 0
	h.ring = nil
	if h.rerr == nil {
		h.rerr = err
	}
	signal(h.writec)
}

// An end is one end of a pipe.
type end struct {
	in, out *half
	// One token each, held by the goroutine that reads or writes: a mutex
	// would not be durably blocking.
	rlock, wlock chan struct{}

	rdead, wdead deadline
	closeOnce    sync.Once
	closec       chan struct{}

	mu          sync.Mutex
	reset       bool // Close is a reset
	writeClosed bool
}

func newEnd(in, out *half) *end {
	e := &end{
		in:     in,
		out:    out,
		rlock:  make(chan struct{}, 1),
		wlock:  make(chan struct{}, 1),
		closec: make(chan struct{}),
	}
	e.rdead.passedc = make(chan struct{})
	e.wdead.passedc = make(chan struct{})
	return e
}

// Read implements net.Conn.
func (e *end) Read(p []byte) (int, error) {
	if err := e.take(e.rlock, &e.rdead); err != nil {
		return 0, opError("read", err)
	}
	defer e.give(e.rlock)
	for {
		if err := e.ready(&e.rdead); err != nil {
			return 0, opError("read", err)
		}
		n, err := e.in.read(p)
		if n > 0 || err == io.EOF || len(p) == 0 {
			return n, err
		}
		if err == nil {
			err = e.await(e.in.readc, &e.rdead)
		}
		if err != nil {
			return 0, opError("read", err)
		}
	}
}

// Write implements net.Conn.
func (e *end) Write(p []byte) (int, error) {
	if err := e.take(e.wlock, &e.wdead); err != nil {
		return 0, opError("write", err)
	}
	defer e.give(e.wlock)
	total := 0
	for {
		err := e.ready(&e.wdead)
		if err == nil && e.ended() {
			err = net.ErrClosed
		}
		if err == nil {
			var n int
			n, err = e.out.write(p)
			total += n
			p = p[n:]
		}
		if err == nil && len(p) == 0 {
			return total, nil
		}
		if err == nil {
			err = e.await(e.out.writec, &e.wdead)
		}
		if err != nil {
			return total, opError("write", err)
		}
	}
}

// take waits for the token in lock.
func (e *end) take(lock chan struct{}, d *deadline) error {
	select {
	case lock <- struct{}{}:
		return nil
	case <-e.closec:
		return net.ErrClosed
	case <-d.wait():
		return os.ErrDeadlineExceeded
	}
}

func (e *end) give(lock chan struct{}) { <-lock }

// ready reports why nothing may be moved now, data or not.
func (e *end) ready(d *deadline) error {
	select {
	case <-e.closec:
		return net.ErrClosed
	case <-d.wait():
		return os.ErrDeadlineExceeded
	default:
		return nil
	}
}

// await waits for a token that says that something changed.
func (e *end) await(c chan struct{}, d *deadline) error {
	select {
	case <-c:
		return nil
	case <-e.closec:
		return net.ErrClosed
	case <-d.wait():
		return os.ErrDeadlineExceeded
	}
}

// ended reports whether this end has said that it writes no more.
func (e *end) ended() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.writeClosed
}

// Close implements net.Conn. Closing twice does nothing.
func (e *end) Close() error {
	e.closeOnce.Do(func() {
		e.mu.Lock()
		e.writeClosed = true
		reset := e.reset
		e.mu.Unlock()
		close(e.closec)
		e.rdead.set(time.Time{}) // stops the timers
		e.wdead.set(time.Time{})
		if reset {
			e.out.closeWrite(syscall.ECONNRESET, true)
			e.in.closeRead(syscall.ECONNRESET)
			return
		}
		e.out.closeWrite(io.EOF, false)
		e.in.closeRead(syscall.EPIPE)
	})
	return nil
}

// CloseWrite ends the direction from here to the peer, as that of net.TCPConn.
func (e *end) CloseWrite() error {
	select {
	case <-e.closec:
		return opError("close", net.ErrClosed)
	default:
	}
	e.mu.Lock()
	e.writeClosed = true
	e.mu.Unlock()
	signal(e.out.writec) // a Write that waits for room looks again
	e.out.closeWrite(io.EOF, false)
	return nil
}

// SetLinger with 0 makes Close a reset, as that of net.TCPConn. Any other
// number leaves Close as it is.
func (e *end) SetLinger(sec int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reset = sec == 0
	return nil
}

// SetDeadline implements net.Conn.
func (e *end) SetDeadline(t time.Time) error {
	if err := e.SetReadDeadline(t); err != nil {
		return err
	}
	return e.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (e *end) SetReadDeadline(t time.Time) error { return e.setDeadline(&e.rdead, t) }

// SetWriteDeadline implements net.Conn.
func (e *end) SetWriteDeadline(t time.Time) error { return e.setDeadline(&e.wdead, t) }

func (e *end) setDeadline(d *deadline, t time.Time) error {
	select {
	case <-e.closec:
		return opError("set", net.ErrClosed)
	default:
		d.set(t)
		return nil
	}
}

// LocalAddr implements net.Conn.
func (e *end) LocalAddr() net.Addr { return pipeAddr{} }

// RemoteAddr implements net.Conn.
func (e *end) RemoteAddr() net.Addr { return pipeAddr{} }

// A pipeAddr is the address of anything in memory.
type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// opError says, as the errors of sockets do, what failed.
func opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "pipe", Err: err}
}
