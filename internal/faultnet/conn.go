package faultnet

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/sdiff/sdiff/transport"
)

// A conn is one connection over a Link, between the two sockets or pipes that
// its client and its server hold the other ends of.
type conn struct {
	l              *Link
	client, server net.Conn // server is nil if nobody is there
	pumps          [2]*pump // Out, In; nil if nobody is there

	closec   chan struct{}
	killOnce sync.Once
}

// halfCloser and lingerer are what TCP connections and pipes have beyond
// net.Conn.
type (
	halfCloser interface{ CloseWrite() error }
	lingerer   interface{ SetLinger(sec int) error }
)

// closeWrite ends the stream to the peer, as far as the connection can.
func closeWrite(nc net.Conn) error {
	if h, ok := nc.(halfCloser); ok {
		return h.CloseWrite()
	}
	return nc.Close()
}

// reset closes nc so that its peer notices it as a reset, if it can.
func reset(nc net.Conn) {
	if g, ok := nc.(lingerer); ok {
		g.SetLinger(0)
	}
	nc.Close()
}

// Wrap returns the client's end of a connection that goes over the Link to
// what nc is connected to. The Link owns nc from now on. On a closed Link the
// connection is closed.
func (l *Link) Wrap(nc net.Conn) net.Conn {
	near, far := transport.Pipe()
	l.carry(far, nc)
	return &wrapped{Conn: near, to: nc}
}

// A wrapped is a pipe that bears the addresses of the connection behind it.
type wrapped struct {
	net.Conn
	to net.Conn
}

func (w *wrapped) LocalAddr() net.Addr     { return w.to.LocalAddr() }
func (w *wrapped) RemoteAddr() net.Addr    { return w.to.RemoteAddr() }
func (w *wrapped) CloseWrite() error       { return closeWrite(w.Conn) }
func (w *wrapped) SetLinger(sec int) error { return w.Conn.(lingerer).SetLinger(sec) }

// Dialer returns a dial whose connections go over the Link. It is refused
// while Refuse is on; while a direction is stalled or a black hole it waits
// for that to end, at most transport.DialTimeout; and a delay holds it up for
// there and back.
func (l *Link) Dialer(dial func(context.Context) (net.Conn, error)) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		if err := l.handshake(ctx); err != nil {
			return nil, &net.OpError{Op: "dial", Net: "faultnet", Err: err}
		}
		nc, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		return l.Wrap(nc), nil
	}
}

// handshake waits as long as a connection takes to be made.
func (l *Link) handshake(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, transport.DialTimeout)
	defer cancel()
	for counted := false; ; {
		l.mu.Lock()
		out, in, refuse, changec := l.dirs[0], l.dirs[1], l.refuse, l.changec
		l.mu.Unlock()
		if !out.stall && !in.stall && !out.black && !in.black {
			if refuse {
				l.count(Refuse)
				return syscall.ECONNREFUSED
			}
			return sleep(ctx, out.delay+in.delay)
		}
		if !counted {
			counted = true
			if out.black || in.black {
				l.count(BlackHole)
			} else {
				l.count(Stall)
			}
		}
		select {
		case <-changec:
		case <-l.closec:
			return net.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// carry starts moving bytes between two connections, which it owns. A nil
// server is a black hole that is there already.
func (l *Link) carry(client, server net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &conn{l: l, client: client, server: server, closec: make(chan struct{})}
	if l.closed {
		c.kill(Close)
		return
	}
	if server != nil {
		c.pumps[0] = c.newPump(0, client, server)
		c.pumps[1] = c.newPump(1, server, client)
	}
	l.serial++
	l.conns[c] = struct{}{}
	l.wg.Go(c.run)
}

func (c *conn) newPump(dir int, src, dst net.Conn) *pump {
	return &pump{
		c:   c,
		dir: dir,
		src: src,
		dst: dst,
		q:   newQueue(),
		rng: rand.New(rand.NewPCG(c.l.seed, 2*c.l.serial+uint64(dir))),
	}
}

// run moves bytes until both directions have ended.
func (c *conn) run() {
	var wg sync.WaitGroup
	for _, p := range c.pumps {
		if p != nil {
			wg.Go(p.intake)
			wg.Go(p.outlet)
		}
	}
	if c.server == nil {
		io.Copy(io.Discard, c.client)
	}
	wg.Wait()
	c.kill(Close)
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	delete(c.l.conns, c)
}

// cut is a kill that counts, if the connection is still there.
func (c *conn) cut(how Ending) { c.finish(how, true) }

// kill ends the connection at both ends.
func (c *conn) kill(how Ending) { c.finish(how, false) }

func (c *conn) finish(how Ending, counts bool) {
	c.killOnce.Do(func() {
		if counts {
			c.l.count(Cut)
		}
		close(c.closec)
		for _, nc := range []net.Conn{c.client, c.server} {
			switch {
			case nc == nil:
			case how == Reset:
				reset(nc)
			default:
				nc.Close()
			}
		}
	})
}

// sleep waits for d and reports whether the connection is still there.
func (c *conn) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.closec:
		return false
	}
}
