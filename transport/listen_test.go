package transport_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/transport"
)

func TestListenAddressInUse(t *testing.T) {
	l, err := transport.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().String()
	_, err = transport.Listen(addr)
	if !errors.Is(err, transport.ErrAddressInUse) || !strings.Contains(err.Error(), addr) {
		t.Errorf("Listen() on a taken address: %v", err)
	}
	if _, err := transport.Listen("nonsense"); err == nil || errors.Is(err, transport.ErrAddressInUse) {
		t.Errorf("Listen() on nonsense: %v", err)
	}
}

func TestDialTCPErrors(t *testing.T) {
	l, err := transport.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	dial := transport.DialTCP(addr)
	if _, err := dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), addr) {
		t.Errorf("dial of a closed port: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dial(ctx); err == nil {
		t.Error("dial worked with a cancelled context")
	}
}

func TestPipeListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := transport.NewPipeListener()
		if l.Addr().Network() != "pipe" {
			t.Errorf("Addr() = %v", l.Addr())
		}
		dial := func() (int, error) { _, err := l.Dial(t.Context()); return 0, err }
		accept := func() (int, error) { _, err := l.Accept(); return 0, err }

		c := start(dial)
		c.wantPending(t, "a dial that nobody accepts yet")
		start(accept).wantDone(t, "accept of a waiting dial", 0, nil, 0)
		c.wantDone(t, "the dial it accepted", 0, nil, 0)

		c = start(dial)
		time.Sleep(transport.DialTimeout)
		c.wantDone(t, "a dial that nobody accepts", 0, context.DeadlineExceeded, transport.DialTimeout)

		ctx, cancel := context.WithCancel(t.Context())
		c = start(func() (int, error) { _, err := l.Dial(ctx); return 0, err })
		cancel()
		c.wantDone(t, "a cancelled dial", 0, context.Canceled, 0)

		a := start(accept)
		a.wantPending(t, "an accept that nobody dials")
		l.Close()
		a.wantDone(t, "accept when the listener closes", 0, net.ErrClosed, 0)
		start(dial).wantDone(t, "a dial of a closed listener", 0, syscall.ECONNREFUSED, 0)
		start(accept).wantDone(t, "accept of a closed listener", 0, net.ErrClosed, 0)
		if err := l.Close(); err != nil {
			t.Errorf("Close() again: %v", err)
		}
	})
}

func TestPipeListenerCloseEndsDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := transport.NewPipeListener()
		c := start(func() (int, error) { _, err := l.Dial(t.Context()); return 0, err })
		l.Close()
		c.wantDone(t, "a dial when the listener closes", 0, syscall.ECONNREFUSED, 0)
	})
}
