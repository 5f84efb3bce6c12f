package faultnet

import (
	"context"
	"net"

	"github.com/sdiff/sdiff/transport"
)

// ListenProxy listens on a free loopback port, whose address it returns, and
// carries every connection to it over the Link to target, a TCP address. So a
// Link can stand between processes. A connection that target does not take is
// reset; one that is made while the Link is a black hole outwards is accepted
// and never answered. Close ends it.
func (l *Link) ListenProxy(target string) (addr string, err error) {
	ln, err := transport.Listen("127.0.0.1:0")
	if err != nil {
		return "", err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		ln.Close()
		return "", net.ErrClosed
	}
	l.listeners = append(l.listeners, ln)
	dial := transport.DialTCP(target)
	l.wg.Go(func() { l.serve(ln, dial) })
	return ln.Addr().String(), nil
}

// serve accepts until the listener is closed.
func (l *Link) serve(ln net.Listener, dial func(context.Context) (net.Conn, error)) {
	for {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			nc.Close()
			return
		}
		l.wg.Go(func() { l.accept(nc, dial) })
		l.mu.Unlock()
	}
}

// accept connects a client to the target.
func (l *Link) accept(nc net.Conn, dial func(context.Context) (net.Conn, error)) {
	l.mu.Lock()
	refuse, black := l.refuse, l.dirs[0].black
	l.mu.Unlock()
	switch {
	case refuse:
		l.count(Refuse)
		reset(nc)
		return
	case black:
		l.count(BlackHole)
		l.carry(nc, nil)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	l.wg.Go(func() { // Close ends a dial under way
		select {
		case <-l.closec:
			cancel()
		case <-stop:
		}
	})
	server, err := dial(ctx)
	if err != nil {
		reset(nc)
		return
	}
	l.carry(nc, server)
}
