package transport

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// readBuffer is how much of the stream is read at once, in bytes. Reads of a
// body that are larger than it go straight into the body.
const readBuffer = 32 << 10

// firstBuffer is the same while bodies over FirstLimit are refused: a stranger,
// of whom there may be many, says hello in less.
const firstBuffer = 512

// A Conn reads and writes frames over a net.Conn. The package documentation
// says which methods may be called concurrently. It starts no goroutine.
type Conn struct {
	nc    net.Conn
	limit atomic.Int64 // of a body to be read, in bytes

	in, out atomic.Uint64 // bytes moved over nc

	r reader // owned by the goroutine in Read
	w writer // owned by the goroutine in Write
}

// NewConn returns a Conn over nc, which it owns from now on. Bodies over
// FirstLimit are refused until SetLimit raises that.
func NewConn(nc net.Conn) *Conn {
	c := &Conn{nc: nc}
	c.limit.Store(FirstLimit)
	c.r.br = bufio.NewReaderSize((*source)(c), firstBuffer)
	return c
}

// A source is the Conn as the stream of bytes under its frames; it counts them.
type source Conn

func (s *source) Read(p []byte) (int, error) {
	n, err := s.nc.Read(p)
	s.in.Add(uint64(n))
	return n, err
}

// SetLimit bounds the bodies that Read takes to n bytes, at most MaxBody. It
// holds for frames whose first bytes are looked at after it returns: the
// reading goroutine calls it between two Reads to be exact.
func (c *Conn) SetLimit(n int) {
	c.limit.Store(int64(min(max(n, 0), MaxBody)))
}

// SetReadDeadline sets when a blocked or future Read gives up with an error
// that is os.ErrDeadlineExceeded; the zero time is never. See Read for how to
// go on after it.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.nc.SetReadDeadline(t) }

// SetWriteDeadline sets when a blocked or future Write gives up with an error
// that is os.ErrDeadlineExceeded; the zero time is never. After that error
// nothing more can be written.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.nc.SetWriteDeadline(t) }

// RemoteAddr returns the peer's address as text.
func (c *Conn) RemoteAddr() string { return c.nc.RemoteAddr().String() }

// Traffic returns the bytes received and sent so far, overheads included. Both
// also grow while a large frame is under way: received bytes as they arrive,
// sent ones by every 256 KiB given to the network.
func (c *Conn) Traffic() (in, out uint64) { return c.in.Load(), c.out.Load() }

// Close closes the connection in both directions. A blocked Read or Write of
// this end returns an error that is net.ErrClosed. Over TCP, bytes of the peer
// that were not read yet make the peer lose what it had not read either; see
// Shutdown.
func (c *Conn) Close() error { return c.nc.Close() }

// Shutdown closes the connection so that the peer gets all that was written:
// it says that nothing more will come, throws away what the peer still sends
// until the peer closes too or ctx ends, and then closes. So a frame that says
// why is not overtaken by a reset. It returns nil if the peer closed, else
// what came between. The calling goroutine is the reader and the writer.
func (c *Conn) Shutdown(ctx context.Context) error {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok {
		return c.nc.Close()
	}
	err := half.CloseWrite()
	if err == nil {
		err = c.drain(ctx)
	}
	return errors.Join(err, c.nc.Close())
}

// drain reads to the end of the stream, or of ctx.
func (c *Conn) drain(ctx context.Context) error {
	if err := c.nc.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { c.nc.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := io.Copy(io.Discard, (*source)(c))
	if ctx.Err() != nil && err != nil {
		return context.Cause(ctx)
	}
	return err
}
