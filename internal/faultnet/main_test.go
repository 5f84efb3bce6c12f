package faultnet_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/transport"
)

// TestMain fails the package if its tests leave goroutines behind.
func TestMain(m *testing.M) {
	before := runtime.NumGoroutine()
	code := m.Run()
	// What has been told to end gets its turn to do so, on a busy machine as well.
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if runtime.NumGoroutine() <= before {
			os.Exit(code)
		}
		runtime.Gosched()
	}
	buf := make([]byte, 1<<20)
	fmt.Fprintf(os.Stderr, "goroutines left behind:\n%s\n", buf[:runtime.Stack(buf, true)])
	os.Exit(1)
}

// A world is a client and a server with a Link between them, in fake time.
type world struct {
	*testing.T
	link           *faultnet.Link
	client, server net.Conn
	start          time.Time
}

// bubble runs a test in a world, which fails if a goroutine is left.
func bubble(t *testing.T, run func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, link: faultnet.New(1), start: time.Now()}
		w.client, w.server = w.connect()
		run(w)
		w.link.Close()
		w.client.Close()
		w.server.Close()
		if n := w.link.Conns(); n != 0 {
			t.Errorf("a closed link has %d connections", n)
		}
	})
}

// connect makes another connection.
func (w *world) connect() (client, server net.Conn) {
	a, b := transport.Pipe()
	return w.link.Wrap(a), b
}

// write is a Write that must work.
func (w *world) write(nc net.Conn, p []byte) {
	w.Helper()
	if n, err := nc.Write(p); n != len(p) || err != nil {
		w.Fatalf("Write() of %d bytes = %d, %v", len(p), n, err)
	}
}

// wantRead wants the next Read to give exactly these bytes, at a time since
// the start.
func (w *world) wantRead(nc net.Conn, p []byte, at time.Duration) {
	w.Helper()
	buf := make([]byte, len(p)+100)
	n, err := nc.Read(buf)
	if !bytes.Equal(buf[:n], p) || err != nil {
		w.Fatalf("Read() = %q, %v; want %q", buf[:n], err, p)
	}
	if got := time.Since(w.start); got != at {
		w.Fatalf("Read() of %q at %v, want at %v", p, got, at)
	}
}

// wantErr wants a read to end with an error, without bytes.
func (w *world) wantErr(nc net.Conn, target error) {
	w.Helper()
	if n, err := nc.Read(make([]byte, 10)); n != 0 || !errors.Is(err, target) {
		w.Fatalf("Read() = %d, %v; want %v", n, err, target)
	}
}

// wantSilence wants nothing to come within a day.
func (w *world) wantSilence(nc net.Conn) {
	w.Helper()
	nc.SetReadDeadline(time.Now().Add(24 * time.Hour))
	if n, err := nc.Read(make([]byte, 10)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		w.Fatalf("Read() = %d, %v; want silence", n, err)
	}
	nc.SetReadDeadline(time.Time{})
}

// wantCounts wants these faults to have happened so often, and no others.
func (w *world) wantCounts(want map[faultnet.Fault]uint64) {
	w.Helper()
	for f := faultnet.Fault(0); f.String() != "unknown"; f++ {
		if got := w.link.Count(f); got != want[f] {
			w.Errorf("%v happened %d times, want %d", f, got, want[f])
		}
	}
}

// fired wants a fault to have happened at all.
func (w *world) fired(f faultnet.Fault) {
	w.Helper()
	if w.link.Count(f) == 0 {
		w.Errorf("%v never happened", f)
	}
}

// pattern returns n bytes that differ from place to place.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// transfer sends bytes and returns what comes out before the end, and the
// error if that is not io.EOF.
func transfer(from, to net.Conn, p []byte) (got []byte, err error) {
	go func() {
		from.Write(p)
		from.(interface{ CloseWrite() error }).CloseWrite()
	}()
	return io.ReadAll(to)
}
