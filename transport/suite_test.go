package transport_test

import (
	"context"
	"net"
	"testing"

	"github.com/sdiff/sdiff/transport"
	"github.com/sdiff/sdiff/transport/transporttest"
)

func TestPipeSuite(t *testing.T) {
	transporttest.Run(t, func(*testing.T) (a, b net.Conn) { return transport.Pipe() })
}

func TestPipeListenerSuite(t *testing.T) {
	transporttest.Run(t, func(t *testing.T) (a, b net.Conn) {
		l := transport.NewPipeListener()
		return connect(t, l, l.Dial)
	})
}

func TestTCPSuite(t *testing.T) {
	transporttest.Run(t, dialLoopback)
}

// dialLoopback connects over TCP.
func dialLoopback(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := transport.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return connect(t, l, transport.DialTCP(l.Addr().String()))
}

// connect dials a listener once and closes it.
func connect(t *testing.T, l net.Listener, dial func(context.Context) (net.Conn, error)) (a, b net.Conn) {
	t.Helper()
	defer l.Close()
	type result struct {
		nc  net.Conn
		err error
	}
	accepted := make(chan result, 1)
	go func() {
		nc, err := l.Accept()
		accepted <- result{nc, err}
	}()
	a, err := dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := <-accepted
	if r.err != nil {
		t.Fatal(r.err)
	}
	return a, r.nc
}
