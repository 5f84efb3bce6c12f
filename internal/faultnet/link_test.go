package faultnet_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/transport"
	"github.com/sdiff/sdiff/transport/transporttest"
)

// TestCleanLink runs the suite for connections over a link without faults.
func TestCleanLink(t *testing.T) {
	link := faultnet.New(1)
	defer link.Close()
	transporttest.Run(t, func(*testing.T) (a, b net.Conn) {
		near, far := transport.Pipe()
		return link.Wrap(near), far
	})
}

// TestRoughLink runs the suite over a link with all the faults that TCP hides.
func TestRoughLink(t *testing.T) {
	link := faultnet.New(2)
	defer link.Close()
	link.SetDelay(faultnet.Both, 50*time.Microsecond, 50*time.Microsecond)
	link.SplitMax(faultnet.Out, 20_000)
	link.MergeFor(faultnet.In, 10*time.Microsecond)
	link.SetRate(faultnet.Out, 1<<30)
	transporttest.Run(t, func(*testing.T) (a, b net.Conn) {
		near, far := transport.Pipe()
		return link.Wrap(near), far
	})
	for _, f := range []faultnet.Fault{faultnet.Delay, faultnet.Split, faultnet.Throttle} {
		if link.Count(f) == 0 {
			t.Errorf("%v never happened", f)
		}
	}
}

func TestDelay(t *testing.T) {
	bubble(t, func(w *world) {
		w.link.SetDelay(faultnet.Out, 300*time.Millisecond, 0)
		w.write(w.client, []byte("there"))
		w.wantRead(w.server, []byte("there"), 300*time.Millisecond)
		w.write(w.server, []byte("back"))
		w.wantRead(w.client, []byte("back"), 300*time.Millisecond)
		// Many are under way at once.
		for range 3 {
			w.write(w.client, []byte("x"))
			time.Sleep(100 * time.Millisecond)
		}
		w.wantRead(w.server, []byte("x"), 600*time.Millisecond)
		w.wantRead(w.server, []byte("x"), 700*time.Millisecond)
		w.wantRead(w.server, []byte("x"), 800*time.Millisecond)
		w.client.Close()
		w.wantErr(w.server, io.EOF)
		if got := time.Since(w.start); got != 1100*time.Millisecond {
			w.Errorf("the end came at %v, want it as late as bytes: at 1.1s", got)
		}
		w.wantCounts(map[faultnet.Fault]uint64{faultnet.Delay: 5})
	})
}

func TestJitter(t *testing.T) {
	bubble(t, func(w *world) {
		w.link.SetDelay(faultnet.Out, 300*time.Millisecond, 200*time.Millisecond)
		var least, most time.Duration = time.Hour, 0
		for i := range 200 {
			from := time.Now()
			w.write(w.client, []byte{byte(i)})
			buf := make([]byte, 1)
			if _, err := w.server.Read(buf); err != nil || buf[0] != byte(i) {
				w.Fatalf("Read() = %d, %v", buf[0], err)
			}
			took := time.Since(from)
			least, most = min(least, took), max(most, took)
		}
		if least < 100*time.Millisecond || least > 150*time.Millisecond || most > 500*time.Millisecond || most < 450*time.Millisecond {
			w.Errorf("between %v and %v, want about 100ms to 500ms", least, most)
		}
		// Bytes never overtake one another.
		sent := pattern(500)
		go func() {
			for i := range sent {
				w.client.Write(sent[i : i+1])
				time.Sleep(time.Millisecond)
			}
			w.client.Close()
		}()
		if got, err := io.ReadAll(w.server); !bytes.Equal(got, sent) || err != nil {
			w.Errorf("%d bytes in another order, %v", len(got), err)
		}
	})
}

func TestRate(t *testing.T) {
	bubble(t, func(w *world) {
		w.link.SetRate(faultnet.Out, 8000)
		sent := pattern(24_000)
		got, err := transfer(w.client, w.server, sent)
		if !bytes.Equal(got, sent) || err != nil {
			w.Errorf("%d bytes came, %v", len(got), err)
		}
		if took := time.Since(w.start); took != 3*time.Second {
			w.Errorf("took %v, want 3s", took)
		}
		w.fired(faultnet.Throttle)
		// The other direction is free.
		w.write(w.server, pattern(24_000))
		w.wantRead(w.client, pattern(24_000), 3*time.Second)
	})
}

func TestSplit(t *testing.T) {
	bubble(t, func(w *world) {
		w.link.SplitMax(faultnet.Both, 1)
		w.write(w.client, []byte("abc"))
		w.write(w.server, []byte("xy"))
		for i, p := range []string{"a", "b", "c"} {
			w.wantRead(w.server, []byte(p), time.Duration(i))
		}
		for _, p := range []string{"x", "y"} {
			buf := make([]byte, 1)
			if w.client.Read(buf); string(buf) != p {
				w.Errorf("Read() = %q, want %q", buf, p)
			}
		}
		w.wantCounts(map[faultnet.Fault]uint64{faultnet.Split: 3})
	})
}

func TestMerge(t *testing.T) {
	bubble(t, func(w *world) {
		w.link.MergeFor(faultnet.Out, 95*time.Millisecond)
		for i := range 10 {
			w.write(w.client, []byte{'0' + byte(i)})
			time.Sleep(10 * time.Millisecond)
		}
		w.wantRead(w.server, []byte("0123456789"), 100*time.Millisecond)
		w.write(w.client, []byte("end"))
		w.client.Close()
		w.wantRead(w.server, []byte("end"), 195*time.Millisecond)
		w.wantErr(w.server, io.EOF)
		w.wantCounts(map[faultnet.Fault]uint64{faultnet.Merge: 1})
	})
}

func TestStall(t *testing.T) {
	bubble(t, func(w *world) {
		w.link.Stall(faultnet.Out, true)
		w.write(w.client, []byte("held"))
		w.client.(interface{ CloseWrite() error }).CloseWrite()
		w.wantSilence(w.server)
		w.write(w.server, []byte("free"))
		w.wantRead(w.client, []byte("free"), 24*time.Hour)
		w.link.Stall(faultnet.Out, false)
		w.wantRead(w.server, []byte("held"), 24*time.Hour)
		w.wantErr(w.server, io.EOF)
		w.wantCounts(map[faultnet.Fault]uint64{faultnet.Stall: 1})
	})
}

// TestStallBounded wants a sender to block when 4 MiB are in flight.
func TestStallBounded(t *testing.T) {
	bubble(t, func(w *world) {
		w.link.Stall(faultnet.Out, true)
		w.client.SetWriteDeadline(time.Now().Add(time.Hour))
		n, err := w.client.Write(make([]byte, 10<<20))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n < 4<<20 || n > 5<<20 {
			w.Errorf("Write() = %d, %v; want about 4 MiB", n, err)
		}
		w.client.Close()
		w.link.Heal()
		if got, err := io.Copy(io.Discard, w.server); got != int64(n) || err != nil {
			w.Errorf("%d bytes came of %d, %v", got, n, err)
		}
	})
}

func TestBlackHole(t *testing.T) {
	bubble(t, func(w *world) {
		w.link.BlackHole(faultnet.Out, true)
		w.write(w.client, []byte("lost"))
		w.wantSilence(w.server)
		w.write(w.server, []byte("heard"))
		w.wantRead(w.client, []byte("heard"), 24*time.Hour)

		w.link.BlackHole(faultnet.Out, false)
		w.write(w.client, []byte("still lost"))
		w.wantSilence(w.server)
		c, s := w.connect()
		w.write(c, []byte("new"))
		w.wantRead(s, []byte("new"), 48*time.Hour)
		s.Close()
		w.wantErr(c, io.EOF)
		c.Close()

		// Nor does the server hear that the client has gone.
		w.client.Close()
		w.wantSilence(w.server)
		w.fired(faultnet.BlackHole)
		w.server.Close()
		synctest.Wait()
		if n := w.link.Conns(); n != 0 {
			w.Errorf("%d connections left with all ends closed", n)
		}
	})
}

// TestBlackHoleClose wants a black hole to keep the end of a connection from
// the other side, in both directions.
func TestBlackHoleClose(t *testing.T) {
	bubble(t, func(w *world) {
		w.link.BlackHole(faultnet.Both, true)
		w.server.Close()
		w.wantSilence(w.client)
		w.write(w.client, []byte("anybody?"))
		w.wantSilence(w.client)
		w.fired(faultnet.BlackHole)
	})
}

func TestCutNow(t *testing.T) {
	for _, c := range []struct {
		how           faultnet.Ending
		server, write error
	}{
		{faultnet.Reset, syscall.ECONNRESET, syscall.ECONNRESET},
		{faultnet.Close, io.EOF, syscall.EPIPE},
	} {
		bubble(t, func(w *world) {
			w.write(w.client, []byte("one"))
			w.wantRead(w.server, []byte("one"), 0)
			w.link.SetDelay(faultnet.Out, time.Second, 0)
			w.write(w.client, []byte("in flight"))
			synctest.Wait()
			w.link.Cut(c.how)
			w.wantErr(w.server, c.server)
			w.wantErr(w.client, c.server)
			if _, err := w.client.Write([]byte("x")); !errors.Is(err, c.write) {
				w.Errorf("Write() = %v, want %v", err, c.write)
			}
			w.link.Cut(c.how) // nothing is left to cut
			// The write that fails may have been delayed before it was cut.
			if n := w.link.Count(faultnet.Cut); n != 1 {
				w.Errorf("cut %d times, want once", n)
			}
		})
	}
}

func TestCutAfter(t *testing.T) {
	for n := range 7 {
		bubble(t, func(w *world) {
			w.link.CutAfter(faultnet.Out, n, faultnet.Close)
			w.write(w.client, []byte("abc"))
			w.client.Write([]byte("def")) // may come too late
			got, err := io.ReadAll(w.server)
			if string(got) != "abcdef"[:n] || err != nil {
				w.Errorf("cut after %d: %q, %v", n, got, err)
			}
			w.wantCounts(map[faultnet.Fault]uint64{faultnet.Cut: 1})
			// It happens once.
			c, s := w.connect()
			w.write(c, []byte("whole"))
			w.wantRead(s, []byte("whole"), 0)
			c.Close()
			s.Close()
		})
	}
}

func TestHalfClose(t *testing.T) {
	bubble(t, func(w *world) {
		w.link.HalfClose(faultnet.Out)
		w.wantErr(w.server, io.EOF)
		w.write(w.client, []byte("swallowed"))
		w.write(w.server, []byte("the other way"))
		w.wantRead(w.client, []byte("the other way"), 0)
		w.server.Close()
		w.wantErr(w.client, io.EOF)
		w.client.Close()
		w.wantCounts(map[faultnet.Fault]uint64{faultnet.HalfClose: 1})
	})
}

func TestRefuse(t *testing.T) {
	bubble(t, func(w *world) {
		l := transport.NewPipeListener()
		defer l.Close()
		dial := w.link.Dialer(l.Dial)
		w.link.Refuse(true)
		if _, err := dial(w.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
			w.Errorf("dial when refused: %v", err)
		}
		w.wantCounts(map[faultnet.Fault]uint64{faultnet.Refuse: 1})
	})
}

func TestDialer(t *testing.T) {
	bubble(t, func(w *world) {
		l := transport.NewPipeListener()
		defer l.Close()
		dial := w.link.Dialer(l.Dial)
		go func() {
			for {
				nc, err := l.Accept()
				if err != nil {
					return
				}
				nc.Close()
			}
		}()
		wait := func(ctx context.Context, target error, took time.Duration) {
			w.Helper()
			from := time.Now()
			nc, err := dial(ctx)
			if err == nil {
				nc.Close()
			}
			if got := time.Since(from); !errors.Is(err, target) || got != took {
				w.Errorf("dial: %v after %v; want %v after %v", err, got, target, took)
			}
		}
		wait(w.Context(), nil, 0)
		w.link.SetDelay(faultnet.Out, time.Second, 0)
		w.link.SetDelay(faultnet.In, time.Second, 0)
		wait(w.Context(), nil, 2*time.Second)
		w.link.Heal()
		w.link.BlackHole(faultnet.In, true)
		wait(w.Context(), context.DeadlineExceeded, transport.DialTimeout)
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		wait(ctx, context.DeadlineExceeded, time.Second)
		time.AfterFunc(3*time.Second, w.link.Heal)
		wait(w.Context(), nil, 3*time.Second)
		w.link.Stall(faultnet.Out, true)
		time.AfterFunc(3*time.Second, func() { w.link.Close() })
		wait(w.Context(), net.ErrClosed, 3*time.Second)
		w.fired(faultnet.BlackHole)
		w.fired(faultnet.Stall)
	})
}

// TestCloseEndsEverything closes a link whose connections are all stuck.
func TestCloseEndsEverything(t *testing.T) {
	bubble(t, func(w *world) {
		w.link.Stall(faultnet.Out, true)
		w.link.SetDelay(faultnet.In, time.Hour, 0)
		w.client.SetWriteDeadline(time.Now().Add(time.Second))
		w.client.Write(make([]byte, 10<<20))
		w.server.Write(make([]byte, 1000))
		w.link.Close()
		w.link.Close()
		if got := time.Since(w.start); got != time.Second {
			w.Errorf("closing took %v", got-time.Second)
		}
		w.wantErr(w.client, io.EOF)
		c, _ := w.connect()
		w.wantErr(c, io.EOF)
	})
}
