package transporttest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"

	"github.com/sdiff/sdiff/transport"
)

// samples are frames around every size where something changes: none, a body
// that is copied or not, the first buffer of the reader.
func samples() []transport.Frame {
	sizes := []int{0, 1, 2, 255, 4096, 8<<10 - 1, 8 << 10, 32 << 10, 64<<10 - 1, 64 << 10, 64<<10 + 1, 200_000}
	var frames []transport.Frame
	for i, n := range sizes {
		frames = append(frames, transport.Frame{Type: byte(i * 23), Body: body(n)})
	}
	return frames
}

func testFrames(t *testing.T, a, b net.Conn) {
	ca, cb := transport.NewConn(a), transport.NewConn(b)
	cb.SetLimit(transport.MaxBody)
	both(func() {
		for _, f := range samples() {
			write(t, ca, f)
		}
		ca.Close()
	}, func() {
		want(t, cb, samples()...)
		wantErr(t, cb, io.EOF)
	})
}

func testLarge(t *testing.T, a, b net.Conn) {
	ca, cb := transport.NewConn(a), transport.NewConn(b)
	cb.SetLimit(transport.MaxBody)
	frames := []transport.Frame{
		{Type: 1, Body: body(transport.MaxBody)},
		{Type: 2, Body: body(256 << 10)},
		{Type: 3},
		{Type: 4, Body: body(transport.MaxBody - 1)},
	}
	both(func() { write(t, ca, frames...) }, func() { want(t, cb, frames...) })
}

func testByteByByte(t *testing.T, a, b net.Conn) {
	frames := []transport.Frame{{Type: 9, Body: body(300)}, {Type: 8}, {Type: 7, Body: body(1)}}
	both(func() {
		for _, x := range encode(t, frames...) {
			raw(t, a, []byte{x})
		}
	}, func() { want(t, transport.NewConn(b), frames...) })
}

func testSplit(t *testing.T, a, b net.Conn) {
	frames := []transport.Frame{{Type: 1, Body: body(20)}, {Type: 2}, {Type: 3, Body: body(7)}}
	bytes := encode(t, frames...)
	// The reader waits for every first half, so no split is undone on the way.
	took := make(chan struct{})
	both(func() {
		for at := range len(bytes) + 1 {
			raw(t, a, bytes[:at])
			raw(t, a, bytes[at:])
			<-took
		}
	}, func() {
		defer close(took)
		cb := transport.NewConn(&shortRead{Conn: b, most: 3})
		for range len(bytes) + 1 {
			want(t, cb, frames...)
			took <- struct{}{}
		}
	})
}

// A shortRead gives at most so many bytes to a Read.
type shortRead struct {
	net.Conn
	most int
}

func (o *shortRead) Read(p []byte) (int, error) {
	return o.Conn.Read(p[:min(len(p), o.most)])
}

func testCoalesced(t *testing.T, a, b net.Conn) {
	var frames []transport.Frame
	for i := range 100 {
		frames = append(frames, transport.Frame{Type: byte(i), Body: body(i)})
	}
	raw(t, a, encode(t, frames...))
	want(t, transport.NewConn(b), frames...)
}

func testManyFrames(t *testing.T, a, b net.Conn) {
	ca, cb := transport.NewConn(a), transport.NewConn(b)
	cb.SetLimit(transport.MaxBody)
	var frames []transport.Frame
	for i := range 3000 {
		n := i % 500
		if i%100 == 0 {
			n = 10_000 + i*7
		}
		frames = append(frames, transport.Frame{Type: byte(i), Body: body(n)})
	}
	both(func() {
		write(t, ca, frames...)
		write(t, ca) // nothing is nothing
		write(t, ca, frames[:3]...)
	}, func() {
		want(t, cb, frames...)
		want(t, cb, frames[:3]...)
	})
}

func testLimit(t *testing.T, a, b net.Conn) {
	for _, size := range []uint32{transport.FirstLimit + 1, transport.MaxBody, transport.MaxBody + 1, 1 << 31, 1<<32 - 1} {
		raw(t, a, []byte{byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size), 1, 0})
		cb := transport.NewConn(b)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, got, err := cb.Read()
		runtime.ReadMemStats(&after)
		limit, ok := errors.AsType[*transport.LimitError](err)
		if !ok || limit.Size != int64(size) || limit.Limit != transport.FirstLimit || got != nil {
			t.Fatalf("Read() of %d bytes = %d bytes, %v; want a LimitError", size, len(got), err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; size > 1<<20 && n > 1<<20 {
			t.Errorf("Read() of %d bytes allocated %d bytes", size, n)
		}
		wantErr(t, cb, limit)
	}
}

func testSetLimit(t *testing.T, a, b net.Conn) {
	ca, cb := transport.NewConn(a), transport.NewConn(b)
	f := transport.Frame{Type: 1, Body: body(transport.FirstLimit)}
	g := transport.Frame{Type: 2, Body: body(transport.FirstLimit + 1)}
	both(func() { write(t, ca, f, g, f, g) }, func() {
		want(t, cb, f)
		cb.SetLimit(transport.FirstLimit + 1)
		want(t, cb, g, f)
		cb.SetLimit(-1)
		wantErrAs[*transport.LimitError](t, cb)
	})
}

func testWriteLimit(t *testing.T, a, b net.Conn) {
	ca, cb := transport.NewConn(a), transport.NewConn(b)
	err := ca.Write(transport.Frame{Type: 1}, transport.Frame{Body: make([]byte, transport.MaxBody+1)})
	limit, ok := errors.AsType[*transport.LimitError](err)
	if !ok || limit.Size != transport.MaxBody+1 || limit.Limit != transport.MaxBody {
		t.Fatalf("Write() of a body over MaxBody: %v, want a LimitError", err)
	}
	write(t, ca, transport.Frame{Type: 2})
	want(t, cb, transport.Frame{Type: 2})
}

func testFlips(t *testing.T, a, b net.Conn) {
	frame := transport.Frame{Type: 5, Body: body(40)}
	good := encode(t, frame)
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			// Nothing follows: a length that was changed is noticed by the
			// header alone, however long the frame claims to be.
			cb := transport.NewConn(&sink{Conn: b, Buffer: *bytes.NewBuffer(bad)})
			typ, got, err := cb.Read()
			_, tooLong := errors.AsType[*transport.LimitError](err)
			if !tooLong && !errors.Is(err, transport.ErrChecksum) || got != nil {
				t.Fatalf("bit %d of byte %d flipped: Read() = %d, %d bytes, %v; want a checksum or limit error", bit, i, typ, len(got), err)
			}
			if tooLong && i >= 4 {
				t.Fatalf("bit %d of byte %d flipped: %v, but the length is before it", bit, i, err)
			}
		}
	}
	// And once over the connection itself.
	bad := bytes.Clone(good)
	bad[20] ^= 0x10
	raw(t, a, append(bad, good...))
	wantErr(t, transport.NewConn(b), transport.ErrChecksum)
}

// wantErrAs reads and wants an error of type E.
func wantErrAs[E error](t *testing.T, c *transport.Conn) {
	t.Helper()
	_, got, err := c.Read()
	if _, ok := errors.AsType[E](err); !ok || got != nil {
		t.Fatalf("Read() = %d bytes, %v; want a %T", len(got), err, *new(E))
	}
}
