// Package transporttest checks that a kind of connection carries the frames of
// package transport as it must: whole, in order, unchanged, however the bytes
// are cut on their way, and with errors that tell what happened.
//
//	func TestTCP(t *testing.T) { transporttest.Run(t, dialLoopback) }
package transporttest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/sdiff/sdiff/transport"
)

// A Dial connects two ends. The suite closes both.
type Dial func(t *testing.T) (a, b net.Conn)

// Run runs the suite, a subtest for each promise, over connections that dial
// makes. The connections must hold at least 16 KiB in each direction that the
// peer has not read yet.
func Run(t *testing.T, dial Dial) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(t *testing.T, a, b net.Conn)
	}{
		{"frames arrive as they were written", testFrames},
		{"large frames arrive whole", testLarge},
		{"one byte at a time", testByteByByte},
		{"split at every byte", testSplit},
		{"coalesced frames come one by one", testCoalesced},
		{"several frames in one Write", testManyFrames},
		{"a body over the limit is refused unread", testLimit},
		{"the limit follows SetLimit", testSetLimit},
		{"a body over MaxBody is not sent", testWriteLimit},
		{"a flipped bit is noticed at every byte", testFlips},
		{"the end between frames is EOF", testCleanEnd},
		{"the end inside a frame is unexpected", testCutFrame},
		{"what was sent before Close is read", testSentBeforeClose},
		{"a closed peer fails writes", testWriteToClosed},
		{"Close ends a blocked Read", testCloseEndsRead},
		{"Close ends a blocked Write", testCloseEndsWrite},
		{"a read deadline leaves the frame readable", testReadDeadline},
		{"a write deadline is final", testWriteDeadline},
		{"a deadline in the past ends a blocked Read", testDeadlineEndsRead},
		{"half a connection goes on after CloseWrite", testHalfClose},
		{"Shutdown gets the last frame across", testShutdown},
		{"Shutdown ends with its context", testShutdownCancelled},
		{"both directions at once", testBothWays},
		{"Traffic counts every byte", testTraffic},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := dial(t)
			defer a.Close()
			defer b.Close()
			// A promise that is broken by waiting for ever must fail the
			// test, not hang it. This bounds, nothing is measured by it.
			end := time.Now().Add(time.Minute)
			if err := errors.Join(a.SetDeadline(end), b.SetDeadline(end)); err != nil {
				t.Fatal(err)
			}
			c.run(t, a, b)
		})
	}
}

// encode returns frames as they are on the wire.
func encode(t *testing.T, frames ...transport.Frame) []byte {
	t.Helper()
	var out sink
	if err := transport.NewConn(&out).Write(frames...); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A sink is a connection that keeps what is written to it.
type sink struct {
	net.Conn
	bytes.Buffer
}

func (s *sink) Read(p []byte) (int, error)  { return s.Buffer.Read(p) }
func (s *sink) Write(p []byte) (int, error) { return s.Buffer.Write(p) }

// body returns n bytes that differ from place to place.
func body(n int) []byte {
	b := make([]byte, n)
	x := uint32(n)*2654435761 + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

// want reads frames and compares them.
func want(t *testing.T, c *transport.Conn, frames ...transport.Frame) {
	t.Helper()
	if err := check(c, frames...); err != nil {
		t.Fatal(err)
	}
}

// check reads frames and says how they differ from those given.
func check(c *transport.Conn, frames ...transport.Frame) error {
	for i, f := range frames {
		typ, got, err := c.Read()
		switch {
		case err != nil:
			return fmt.Errorf("Read() of frame %d: %w", i, err)
		case typ != f.Type || len(got) != len(f.Body):
			return fmt.Errorf("frame %d: type %d, %d bytes; want type %d, %d bytes", i, typ, len(got), f.Type, len(f.Body))
		case !bytes.Equal(got, f.Body):
			return fmt.Errorf("frame %d: the %d bytes of its body differ", i, len(got))
		case got == nil || cap(got) != len(got):
			return fmt.Errorf("frame %d: the body is nil, or has capacity %d beyond its %d bytes", i, cap(got), len(got))
		}
	}
	return nil
}

// wantErr reads and wants an error that is target, and the same one again.
func wantErr(t *testing.T, c *transport.Conn, target error) {
	t.Helper()
	typ, got, err := c.Read()
	if !errors.Is(err, target) || typ != 0 || got != nil {
		t.Fatalf("Read() = %d, %d bytes, %v; want %v and nothing", typ, len(got), err, target)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	if _, _, again := c.Read(); again != err {
		t.Fatalf("Read() again: %v, want the first error for ever", again)
	}
}

// write is a Write that must work.
func write(t *testing.T, c *transport.Conn, frames ...transport.Frame) {
	t.Helper()
	if err := c.Write(frames...); err != nil {
		t.Errorf("Write() of %d frames: %v", len(frames), err)
	}
}

// raw writes bytes to the connection below the frames.
func raw(t *testing.T, nc net.Conn, p []byte) {
	t.Helper()
	if n, err := nc.Write(p); err != nil || n != len(p) {
		t.Errorf("writing %d bytes: %d, %v", len(p), n, err)
	}
}

// both runs f in a goroutine of its own while g runs in the caller's, where it
// may end the test, and waits for both.
func both(f, g func()) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(f)
	g()
}
