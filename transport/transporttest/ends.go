package transporttest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/sdiff/sdiff/transport"
)

// past is a deadline that has passed.
var past = time.Unix(1, 0)

func testCleanEnd(t *testing.T, a, b net.Conn) {
	ca, cb := transport.NewConn(a), transport.NewConn(b)
	write(t, ca, transport.Frame{Type: 1, Body: body(10)})
	if err := ca.Close(); err != nil {
		t.Fatal(err)
	}
	want(t, cb, transport.Frame{Type: 1, Body: body(10)})
	wantErr(t, cb, io.EOF)
	// The closing end itself has no stream to be at the end of.
	wantErr(t, ca, net.ErrClosed)
	if err := ca.Write(transport.Frame{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write() after Close: %v, want net.ErrClosed", err)
	}
}

func testCutFrame(t *testing.T, a, b net.Conn) {
	bytes := encode(t, transport.Frame{Type: 1, Body: body(10)})
	for n := 1; n < len(bytes); n++ {
		cut := &sink{Conn: b}
		cut.Buffer.Write(bytes[:n])
		wantErr(t, transport.NewConn(cut), io.ErrUnexpectedEOF)
	}
	raw(t, a, bytes[:len(bytes)-1])
	a.Close()
	wantErr(t, transport.NewConn(b), io.ErrUnexpectedEOF)
}

func testSentBeforeClose(t *testing.T, a, b net.Conn) {
	ca, cb := transport.NewConn(a), transport.NewConn(b)
	f := transport.Frame{Type: 3, Body: body(1000)}
	write(t, ca, f, f, f, f)
	ca.Close()
	want(t, cb, f, f, f, f)
	wantErr(t, cb, io.EOF)
}

func testWriteToClosed(t *testing.T, a, b net.Conn) {
	ca := transport.NewConn(a)
	b.Close()
	// A network takes some writes before it has heard of the close.
	var first error
	for first == nil {
		first = ca.Write(transport.Frame{Type: 1, Body: body(1000)})
	}
	if errors.Is(first, net.ErrClosed) || errors.Is(first, os.ErrDeadlineExceeded) {
		t.Errorf("Write() to a closed peer: %v, want that the peer is gone", first)
	}
	if err := ca.Write(transport.Frame{}); err != first {
		t.Errorf("Write() again: %v, want the first error for ever: %v", err, first)
	}
}

func testCloseEndsRead(t *testing.T, a, _ net.Conn) {
	ca := transport.NewConn(a)
	both(func() { ca.Close() }, func() { wantErr(t, ca, net.ErrClosed) })
}

func testCloseEndsWrite(t *testing.T, a, _ net.Conn) {
	ca := transport.NewConn(a)
	frame := transport.Frame{Type: 1, Body: body(transport.MaxBody)}
	both(func() {
		// Nobody reads, so one of these does not return by itself.
		var err error
		for err == nil {
			err = ca.Write(frame)
		}
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write() when closed: %v, want net.ErrClosed", err)
		}
	}, func() { ca.Close() })
}

func testReadDeadline(t *testing.T, a, b net.Conn) {
	cb := transport.NewConn(b)
	cb.SetLimit(transport.MaxBody)
	f := transport.Frame{Type: 4, Body: body(100_000)}
	bytes := encode(t, f, f)
	// The deadline passes in the header, after it, in the body, before the
	// checksum and in it.
	last := 0
	stops := []int{0, 3, 5, 6}
	for at := 14_000; at < 100_000; at += 14_000 {
		stops = append(stops, at)
	}
	stops = append(stops, len(bytes)/2-4, len(bytes)/2-1)
	for _, at := range stops {
		raw(t, a, bytes[last:at])
		last = at
		for !t.Failed() {
			if err := cb.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			wantErr(t, cb, os.ErrDeadlineExceeded)
			if in, _ := cb.Traffic(); in == uint64(at) {
				break
			}
		}
	}
	if err := cb.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	both(func() { raw(t, a, bytes[last:]) }, func() { want(t, cb, f, f) })
}

func testWriteDeadline(t *testing.T, a, _ net.Conn) {
	ca := transport.NewConn(a)
	if err := ca.SetWriteDeadline(past); err != nil {
		t.Fatal(err)
	}
	if err := ca.Write(transport.Frame{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Write() past its deadline: %v", err)
	}
	if err := ca.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := ca.Write(transport.Frame{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Write() after one that was cut off: %v, want the same again", err)
	}
}

func testDeadlineEndsRead(t *testing.T, a, b net.Conn) {
	ca, cb := transport.NewConn(a), transport.NewConn(b)
	both(func() { ca.SetReadDeadline(past) }, func() { wantErr(t, ca, os.ErrDeadlineExceeded) })
	// The other direction, and later reads, are not touched.
	ca.SetReadDeadline(time.Time{})
	write(t, ca, transport.Frame{Type: 1})
	want(t, cb, transport.Frame{Type: 1})
	write(t, cb, transport.Frame{Type: 2})
	want(t, ca, transport.Frame{Type: 2})
}

func testHalfClose(t *testing.T, a, b net.Conn) {
	half, ok := a.(interface{ CloseWrite() error })
	if !ok {
		t.Skip("no CloseWrite")
	}
	ca, cb := transport.NewConn(a), transport.NewConn(b)
	write(t, ca, transport.Frame{Type: 1})
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	want(t, cb, transport.Frame{Type: 1})
	wantErr(t, cb, io.EOF)
	write(t, cb, transport.Frame{Type: 2, Body: body(5000)})
	ca.SetLimit(5000)
	want(t, ca, transport.Frame{Type: 2, Body: body(5000)})
	if err := ca.Write(transport.Frame{}); err == nil {
		t.Error("Write() after CloseWrite worked")
	}
}

func testShutdown(t *testing.T, a, b net.Conn) {
	ca, cb := transport.NewConn(a), transport.NewConn(b)
	cb.SetLimit(transport.MaxBody)
	// The peer talks on and on; closing on unread bytes would reset.
	write(t, cb, transport.Frame{Type: 1, Body: body(8000)})
	f := transport.Frame{Type: 2, Body: body(2000)}
	both(func() {
		write(t, ca, f)
		if err := ca.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown(): %v", err)
		}
	}, func() {
		want(t, cb, f)
		wantErr(t, cb, io.EOF)
		cb.Close()
	})
	wantErr(t, ca, net.ErrClosed)
}

func testShutdownCancelled(t *testing.T, a, b net.Conn) {
	if _, ok := a.(interface{ CloseWrite() error }); !ok {
		t.Skip("no CloseWrite")
	}
	ca, cb := transport.NewConn(a), transport.NewConn(b)
	ctx, cancel := context.WithCancel(t.Context())
	both(func() {
		if err := ca.Shutdown(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Shutdown() = %v, want that it was cancelled", err)
		}
	}, func() {
		wantErr(t, cb, io.EOF)
		cancel() // and b is never closed
	})
	wantErr(t, ca, net.ErrClosed)
}

func testBothWays(t *testing.T, a, b net.Conn) {
	ca, cb := transport.NewConn(a), transport.NewConn(b)
	ca.SetLimit(transport.MaxBody)
	cb.SetLimit(transport.MaxBody)
	talk := func(c *transport.Conn) {
		both(func() {
			for range 3 {
				write(t, c, samples()...)
			}
		}, func() {
			for range 3 {
				if err := check(c, samples()...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	both(func() { talk(ca) }, func() { talk(cb) })
}

func testTraffic(t *testing.T, a, b net.Conn) {
	ca, cb := transport.NewConn(a), transport.NewConn(b)
	cb.SetLimit(transport.MaxBody)
	bytes := uint64(len(encode(t, samples()...)))
	both(func() { write(t, ca, samples()...) }, func() { want(t, cb, samples()...) })
	write(t, cb, transport.Frame{Body: body(3)})
	want(t, ca, transport.Frame{Body: body(3)})
	for _, c := range []struct {
		name    string
		conn    *transport.Conn
		in, out uint64
	}{{"a", ca, 3 + transport.Overhead, bytes}, {"b", cb, bytes, 3 + transport.Overhead}} {
		if in, out := c.conn.Traffic(); in != c.in || out != c.out {
			t.Errorf("%s: Traffic() = %d, %d, want %d, %d", c.name, in, out, c.in, c.out)
		}
	}
}
