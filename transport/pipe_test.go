package transport_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/transport"
)

// bubble runs a test of a pipe in fake time. It fails if a goroutine is left.
func bubble(t *testing.T, run func(t *testing.T, a, b net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a, b := transport.Pipe()
		run(t, a, b)
		a.Close()
		b.Close()
	})
}

// A call is a blocking call that was made in a goroutine of its own.
type call struct {
	donec chan struct{} // closed when the fields below are set
	n     int
	err   error
	took  time.Duration
}

// start makes a call and runs until everything in the bubble is blocked.
func start(f func() (int, error)) *call {
	c := &call{donec: make(chan struct{})}
	go func() {
		defer close(c.donec)
		from := time.Now()
		c.n, c.err = f()
		c.took = time.Since(from)
	}()
	synctest.Wait()
	return c
}

// wantPending wants the call to be blocked still.
func (c *call) wantPending(t *testing.T, sentence string) {
	t.Helper()
	synctest.Wait()
	select {
	case <-c.donec:
		t.Errorf("%s: returned %d, %v, want it to wait", sentence, c.n, c.err)
	default:
	}
}

// wantDone wants the call to have returned, after a time on the fake clock.
func (c *call) wantDone(t *testing.T, sentence string, n int, target error, took time.Duration) {
	t.Helper()
	synctest.Wait()
	select {
	case <-c.donec:
	default:
		t.Fatalf("%s: still waits", sentence)
	}
	if c.n != n || !errors.Is(c.err, target) {
		t.Errorf("%s: returned %d, %v; want %d, %v", sentence, c.n, c.err, n, target)
	}
	if c.took != took {
		t.Errorf("%s: took %v, want %v", sentence, c.took, took)
	}
}

func TestPipeReadDeadline(t *testing.T) {
	bubble(t, func(t *testing.T, a, b net.Conn) {
		buf := make([]byte, 10)
		read := func() (int, error) { return a.Read(buf) }

		a.SetReadDeadline(time.Now().Add(5 * time.Second))
		c := start(read)
		time.Sleep(5*time.Second - time.Nanosecond)
		c.wantPending(t, "a nanosecond early")
		time.Sleep(time.Nanosecond)
		c.wantDone(t, "on the second", 0, os.ErrDeadlineExceeded, 5*time.Second)
		if timeout, ok := errors.AsType[net.Error](c.err); !ok || !timeout.Timeout() {
			t.Errorf("%v is no timeout by net.Error", c.err)
		}

		b.Write([]byte("x"))
		start(read).wantDone(t, "with data, but too late", 0, os.ErrDeadlineExceeded, 0)
		a.SetReadDeadline(time.Time{})
		start(read).wantDone(t, "with the deadline taken back", 1, nil, 0)

		c = start(read)
		time.Sleep(time.Hour)
		a.SetReadDeadline(time.Now().Add(time.Second))
		time.Sleep(time.Second / 2)
		a.SetReadDeadline(time.Now().Add(time.Minute))
		time.Sleep(time.Minute - 1)
		c.wantPending(t, "put off while reading")
		a.SetReadDeadline(time.Now().Add(-1))
		c.wantDone(t, "moved into the past", 0, os.ErrDeadlineExceeded, time.Hour+time.Minute+time.Second/2-1)
	})
}

func TestPipeWriteDeadline(t *testing.T) {
	bubble(t, func(t *testing.T, a, b net.Conn) {
		a.SetDeadline(time.Now().Add(time.Second))
		c := start(func() (int, error) { return a.Write(make([]byte, 100_000)) })
		c.wantPending(t, "writing more than fits")
		time.Sleep(time.Second)
		c.wantDone(t, "nobody reads", 64<<10, os.ErrDeadlineExceeded, time.Second)
		n, err := io.ReadFull(b, make([]byte, 64<<10))
		if n != 64<<10 || err != nil {
			t.Errorf("what was written before the deadline: %d, %v", n, err)
		}
		start(func() (int, error) { return a.Write([]byte("x")) }).
			wantDone(t, "with room, but too late", 0, os.ErrDeadlineExceeded, 0)
		a.SetWriteDeadline(time.Now().Add(time.Second))
		start(func() (int, error) { return a.Write([]byte("x")) }).
			wantDone(t, "with a new deadline", 1, nil, 0)
	})
}

func TestPipeHolds64KiB(t *testing.T) {
	bubble(t, func(t *testing.T, a, b net.Conn) {
		for _, w := range []net.Conn{a, b} {
			start(func() (int, error) { return w.Write(make([]byte, 64<<10)) }).
				wantDone(t, "64 KiB", 64<<10, nil, 0)
		}
		c := start(func() (int, error) { return a.Write([]byte("xy")) })
		c.wantPending(t, "two bytes more")
		b.Read(make([]byte, 1))
		c.wantPending(t, "room for one of two")
		b.Read(make([]byte, 1))
		c.wantDone(t, "room for both", 2, nil, 0)
	})
}

func TestPipeCloseWakesAll(t *testing.T) {
	bubble(t, func(t *testing.T, a, b net.Conn) {
		a.Write(make([]byte, 64<<10))
		calls := map[string]*call{}
		for _, name := range []string{"first", "second", "third"} {
			calls[name+" read"] = start(func() (int, error) { return a.Read(make([]byte, 1)) })
			calls[name+" write"] = start(func() (int, error) { return a.Write(make([]byte, 1)) })
		}
		for name, c := range calls {
			c.wantPending(t, name)
		}
		a.Close()
		for name, c := range calls {
			c.wantDone(t, name, 0, net.ErrClosed, 0)
		}
		if err := a.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("SetDeadline() after Close: %v", err)
		}
		if err := a.Close(); err != nil {
			t.Errorf("Close() again: %v", err)
		}
	})
}

func TestPipePeerCloses(t *testing.T) {
	bubble(t, func(t *testing.T, a, b net.Conn) {
		a.Write(make([]byte, 64<<10))
		b.Write([]byte("last words"))
		w := start(func() (int, error) { return a.Write(make([]byte, 1)) })
		w.wantPending(t, "a full pipe")
		b.Close()
		w.wantDone(t, "write when the peer closes", 0, syscall.EPIPE, 0)
		got, err := io.ReadAll(a)
		if string(got) != "last words" || err != nil {
			t.Errorf("reading what was sent before Close: %q, %v", got, err)
		}
	})
}

func TestPipeCloseWrite(t *testing.T) {
	bubble(t, func(t *testing.T, a, b net.Conn) {
		a.Write(make([]byte, 64<<10))
		w := start(func() (int, error) { return a.Write(make([]byte, 1)) })
		if err := a.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		w.wantDone(t, "write that waits for room", 0, net.ErrClosed, 0)
		if n, err := io.Copy(io.Discard, b); n != 64<<10 || err != nil {
			t.Errorf("reading to the end: %d, %v", n, err)
		}
		b.Write([]byte("still open"))
		if n, err := a.Read(make([]byte, 20)); n != 10 || err != nil {
			t.Errorf("the other direction: %d, %v", n, err)
		}
		a.Close()
		if err := a.(interface{ CloseWrite() error }).CloseWrite(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("CloseWrite() after Close: %v", err)
		}
	})
}

func TestPipeReset(t *testing.T) {
	bubble(t, func(t *testing.T, a, b net.Conn) {
		a.Write([]byte("never read"))
		a.(interface{ SetLinger(int) error }).SetLinger(0)
		r := start(func() (int, error) { return b.Read(nil) })
		r.wantDone(t, "a read of nothing", 0, nil, 0)
		a.Close()
		for range 2 {
			if n, err := b.Read(make([]byte, 20)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("Read() = %d, %v; want a reset", n, err)
			}
			if n, err := b.Write([]byte("x")); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("Write() = %d, %v; want a reset", n, err)
			}
		}
	})
}

// TestPipeStream moves bytes in pieces of all sizes, so that the ring wraps at
// every place, and wants them in order.
func TestPipeStream(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	bubble(t, func(t *testing.T, a, b net.Conn) {
		sent := make([]byte, 3<<20)
		r := rand.New(rand.NewPCG(seed, 1))
		for i := range sent {
			sent[i] = byte(r.Uint32())
		}
		go func() {
			r := rand.New(rand.NewPCG(seed, 2))
			for p := sent; len(p) > 0; {
				n := min(len(p), 1+r.IntN(100_000)>>r.IntN(16))
				if m, err := a.Write(p[:n]); m != n || err != nil {
					t.Errorf("Write() = %d, %v", m, err)
				}
				p = p[n:]
			}
			a.Close()
		}()
		var got []byte
		for {
			p := make([]byte, 1+r.IntN(100_000)>>r.IntN(16))
			n, err := b.Read(p)
			got = append(got, p[:n]...)
			if err == io.EOF {
				break
			}
			if err != nil || n == 0 {
				t.Fatalf("Read() = %d, %v", n, err)
			}
		}
		if !bytes.Equal(got, sent) {
			t.Errorf("%d bytes read of %d written, or others", len(got), len(sent))
		}
	})
}

// TestPipeManyWriters wants the bytes of one Write together.
func TestPipeManyWriters(t *testing.T) {
	bubble(t, func(t *testing.T, a, b net.Conn) {
		const size, writers, writes = 30_000, 5, 10
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				for range writes {
					a.Write(bytes.Repeat([]byte{byte(i)}, size))
				}
			})
		}
		counts := map[byte]int{}
		for range writers * writes {
			p := make([]byte, size)
			if _, err := io.ReadFull(b, p); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(p, bytes.Repeat(p[:1], size)) {
				t.Fatal("two writes are mixed")
			}
			counts[p[0]]++
		}
		wg.Wait()
		for i, n := range counts {
			if n != writes {
				t.Errorf("writer %d: %d writes came, want %d", i, n, writes)
			}
		}
	})
}

func TestPipeAddr(t *testing.T) {
	a, _ := transport.Pipe()
	if a.LocalAddr().Network() != "pipe" || a.RemoteAddr().String() != "pipe" {
		t.Errorf("addresses %v, %v", a.LocalAddr(), a.RemoteAddr())
	}
	if got := transport.NewConn(a).RemoteAddr(); got != "pipe" {
		t.Errorf("RemoteAddr() = %q", got)
	}
}
