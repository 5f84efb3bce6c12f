package transport

import (
	"context"
	"net"
	"sync"
	"syscall"
)

// A PipeListener is a net.Listener in memory, whose connections are pipes. Safe
// for concurrent use. It starts no goroutine and holds nothing that would have
// to be given back, but Close ends those who wait in Accept and Dial.
type PipeListener struct {
	connc     chan net.Conn
	closec    chan struct{}
	closeOnce sync.Once
}

// NewPipeListener returns a listener that nobody has dialed yet.
func NewPipeListener() *PipeListener {
	return &PipeListener{connc: make(chan net.Conn), closec: make(chan struct{})}
}

// Accept waits for a Dial and returns the other end of its pipe, or an error
// that is net.ErrClosed once the listener is closed.
func (l *PipeListener) Accept() (net.Conn, error) {
	select {
	case <-l.closec:
		return nil, opError("accept", net.ErrClosed)
	default:
	}
	select {
	case nc := <-l.connc:
		return nc, nil
	case <-l.closec:
		return nil, opError("accept", net.ErrClosed)
	}
}

// Dial connects to the listener. It waits, unlike a dial over TCP, until
// Accept takes the connection, at most for DialTimeout or until ctx ends. A
// closed listener refuses, as a port with nobody behind it would.
func (l *PipeListener) Dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	select {
	case <-l.closec:
		return nil, opError("dial", syscall.ECONNREFUSED)
	default:
	}
	near, far := Pipe()
	select {
	case l.connc <- far:
		return near, nil
	case <-l.closec:
		return nil, opError("dial", syscall.ECONNREFUSED)
	case <-ctx.Done():
		return nil, opError("dial", ctx.Err())
	}
}

// Close implements net.Listener. Connections that were accepted stay. Closing
// twice does nothing.
func (l *PipeListener) Close() error {
	l.closeOnce.Do(func() { close(l.closec) })
	return nil
}

// Addr implements net.Listener.
func (l *PipeListener) Addr() net.Addr { return pipeAddr{} }
