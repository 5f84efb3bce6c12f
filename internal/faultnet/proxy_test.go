package faultnet_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/transport"
	"github.com/sdiff/sdiff/transport/transporttest"
)

// A proxied is a link between a TCP listener and those who dial it.
type proxied struct {
	*testing.T
	link   *faultnet.Link
	target net.Listener
	addr   string // of the proxy
}

func newProxied(t *testing.T) *proxied {
	t.Helper()
	p := &proxied{T: t, link: faultnet.New(1)}
	t.Cleanup(func() { p.link.Close() })
	var err error
	if p.target, err = transport.Listen("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.target.Close() })
	if p.addr, err = p.link.ListenProxy(p.target.Addr().String()); err != nil {
		t.Fatal(err)
	}
	return p
}

// dial connects to the proxy.
func (p *proxied) dial(t *testing.T) net.Conn {
	t.Helper()
	nc, err := transport.DialTCP(p.addr)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(time.Minute)) // a bound, not a measure
	return nc
}

// connect dials and accepts.
func (p *proxied) connect(t *testing.T) (client, server net.Conn) {
	t.Helper()
	client = p.dial(t)
	server, err := p.target.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	server.SetDeadline(time.Now().Add(time.Minute))
	return client, server
}

func TestProxySuite(t *testing.T) {
	p := newProxied(t)
	transporttest.Run(t, p.connect)
}

func TestProxyCut(t *testing.T) {
	p := newProxied(t)
	client, server := p.connect(t)
	client.Write([]byte("x"))
	if n, err := server.Read(make([]byte, 10)); n != 1 || err != nil {
		t.Fatalf("Read() = %d, %v", n, err)
	}
	p.link.Cut(faultnet.Reset)
	for name, nc := range map[string]net.Conn{"client": client, "server": server} {
		if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: Read() after a cut: %v, want a reset", name, err)
		}
	}
	client, server = p.connect(t)
	p.link.CutAfter(faultnet.In, 1000, faultnet.Close)
	server.Write(make([]byte, 5000))
	if got, err := io.ReadAll(client); len(got) != 1000 || err != nil {
		t.Errorf("cut after 1000 bytes: %d, %v", len(got), err)
	}
	if n := p.link.Count(faultnet.Cut); n != 2 {
		t.Errorf("%d cuts counted, want 2", n)
	}
}

func TestProxyRefuse(t *testing.T) {
	p := newProxied(t)
	p.link.Refuse(true)
	// The reset may come as early as while the dial returns.
	reset := func() error {
		nc, err := transport.DialTCP(p.addr)(t.Context())
		if err != nil {
			return err
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(time.Minute))
		_, err = nc.Read(make([]byte, 1))
		return err
	}
	if err := reset(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("Read() when refused: %v, want a reset", err)
	}
	if n := p.link.Count(faultnet.Refuse); n != 1 {
		t.Errorf("%d refusals counted, want 1", n)
	}
	p.link.Heal()
	p.target.Close()
	if err := reset(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("Read() with nobody behind the proxy: %v, want a reset", err)
	}
}

func TestProxyBlackHole(t *testing.T) {
	p := newProxied(t)
	p.link.BlackHole(faultnet.Out, true)
	nc := p.dial(t)
	if _, err := nc.Write([]byte("hello?")); err != nil {
		t.Fatal(err)
	}
	nc.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read() over a black hole: %v, want silence", err)
	}
	if n := p.link.Count(faultnet.BlackHole); n == 0 {
		t.Error("nothing was swallowed")
	}
	// The link ends while the client is still there.
	p.link.Close()
	nc.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := nc.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read() from a closed link: %v", err)
	}
	if _, err := p.link.ListenProxy(p.target.Addr().String()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("ListenProxy() on a closed link: %v", err)
	}
}

// TestProxyRough sends much through a TCP proxy that does what networks do.
func TestProxyRough(t *testing.T) {
	p := newProxied(t)
	client, server := p.connect(t)
	p.link.SetDelay(faultnet.Both, time.Millisecond, time.Millisecond)
	p.link.SplitMax(faultnet.Out, 20_000)
	p.link.MergeFor(faultnet.Out, time.Millisecond)
	sent := pattern(1 << 20)
	got, err := transfer(client, server, sent)
	if !bytes.Equal(got, sent) || err != nil {
		t.Errorf("%d bytes came, %v", len(got), err)
	}
	for _, f := range []faultnet.Fault{faultnet.Delay, faultnet.Split, faultnet.Merge} {
		if p.link.Count(f) == 0 {
			t.Errorf("%v never happened", f)
		}
	}
}
