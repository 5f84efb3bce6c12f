package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// A tape is a connection that gives bytes in pieces and then ends.
type tape struct {
	net.Conn
	left  []byte
	piece int    // most bytes at once; 0 is no bound
	look  func() // called before every read
}

func (s *tape) Read(p []byte) (int, error) {
	if s.look != nil {
		s.look()
	}
	if len(s.left) == 0 {
		return 0, io.EOF
	}
	if s.piece > 0 {
		p = p[:min(len(p), s.piece)]
	}
	n := copy(p, s.left)
	s.left = s.left[n:]
	return n, nil
}

// A blackboard is a connection that keeps what is written to it.
type blackboard struct {
	net.Conn
	bytes.Buffer
	writes int
}

func (s *blackboard) Read([]byte) (int, error) { return 0, io.EOF }
func (s *blackboard) Write(p []byte) (int, error) {
	s.writes++
	return s.Buffer.Write(p)
}

func encodeFrames(t testing.TB, frames ...Frame) []byte {
	t.Helper()
	var out blackboard
	if err := NewConn(&out).Write(frames...); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// FuzzRead reads any bytes: what is accepted must be what Write makes of it,
// and memory must follow what came, not what was announced.
func FuzzRead(f *testing.F) {
	f.Add([]byte{}, uint16(0), uint32(0))
	f.Add(encodeFrames(f, Frame{Type: 1}, Frame{Type: 2, Body: []byte("hello")}), uint16(1), uint32(0))
	f.Add(encodeFrames(f, Frame{Type: 3, Body: make([]byte, 200)}), uint16(7), uint32(0))
	f.Add(encodeFrames(f, Frame{Type: 3, Body: make([]byte, 300_000)})[:20], uint16(0), uint32(200_000))
	f.Add([]byte{0, 0x40, 0, 0, 9, 1, 2, 3}, uint16(5000), uint32(80_000))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0}, uint16(0), uint32(9))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), uint16(0), uint32(0))
	f.Fuzz(func(t *testing.T, in []byte, piece uint16, zeros uint32) {
		// Small inputs are what the fuzzer is good at; the zeros fill bodies.
		in = append(in, make([]byte, zeros%(1<<18))...)
		s := &tape{left: in, piece: int(piece)}
		c := NewConn(s)
		c.SetLimit(MaxBody)
		s.look = func() {
			if n, most := len(c.r.body), max(2*c.r.have, firstAlloc, c.r.proven); n > most {
				t.Fatalf("a buffer of %d bytes when %d had come", n, c.r.have)
			}
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var frames []Frame
		var err error
		for err == nil {
			var g Frame
			if g.Type, g.Body, err = c.Read(); err == nil {
				frames = append(frames, g)
			}
		}
		runtime.ReadMemStats(&after)
		// Doubling makes four times of what came over all its moves; frames
		// of nothing cost their slot in the list above.
		if n, most := after.TotalAlloc-before.TotalAlloc, uint64(20*len(in)+1<<18); n > most {
			t.Errorf("%d bytes in: %d bytes allocated", len(in), n)
		}
		out := encodeFrames(t, frames...)
		if !bytes.HasPrefix(in, out) {
			t.Errorf("%d frames were accepted that Write would not make", len(frames))
		}
		if whole := len(out) == len(in); whole != (err == io.EOF) {
			t.Errorf("%d of %d bytes were frames, and the error is %v", len(out), len(in), err)
		}
	})
}

// TestReadHoldsWhatCame announces the largest body and sends little of it.
func TestReadHoldsWhatCame(t *testing.T) {
	whole := encodeFrames(t, Frame{Body: make([]byte, MaxBody)})
	for _, n := range []int{HeaderSize, 10, 1000, 64 << 10, 65<<10 + HeaderSize, 1 << 20} {
		s := &tape{left: whole[:n]}
		c := NewConn(s)
		c.SetLimit(MaxBody)
		largest := 0
		s.look = func() { largest = max(largest, len(c.r.body)) }
		if _, _, err := c.Read(); err != io.ErrUnexpectedEOF {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if most := max(firstAlloc, 2*n); largest > most {
			t.Errorf("%d bytes came: a buffer of %d bytes, want at most %d", n, largest, most)
		}
		if c.r.body != nil {
			t.Errorf("%d bytes came: the buffer is kept after the end", n)
		}
	}
}

// TestReadBelievesProven wants one allocation for a body no larger than one
// that came before, and no moves.
func TestReadBelievesProven(t *testing.T) {
	frame := encodeFrames(t, Frame{Body: make([]byte, 1<<20)})
	c := NewConn(&tape{left: bytes.Repeat(frame, 3)})
	c.SetLimit(MaxBody)
	if _, _, err := c.Read(); err != nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(1, func() {
		if _, _, err := c.Read(); err != nil {
			t.Fatal(err)
		}
	})
	if n != 1 {
		t.Errorf("%v allocations, want 1", n)
	}
}

// TestSteadyStateAllocs wants no allocation for a frame but its body.
func TestSteadyStateAllocs(t *testing.T) {
	for _, size := range []int{0, 1, 100, 5000, 20_000} {
		var out blackboard
		w := NewConn(&out)
		frames := []Frame{{Type: 1, Body: make([]byte, size)}, {Type: 2, Body: make([]byte, size)}}
		out.Grow(1 << 20)
		if n := testing.AllocsPerRun(10, func() { w.Write(frames...) }); n != 0 {
			t.Errorf("Write() of %d bytes: %v allocations", size, n)
		}
		r := NewConn(&tape{left: out.Bytes()})
		r.SetLimit(MaxBody)
		want := 2.0
		if size == 0 {
			want = 0
		}
		n := testing.AllocsPerRun(10, func() {
			for range 2 {
				if _, _, err := r.Read(); err != nil {
					t.Fatal(err)
				}
			}
		})
		if n != want {
			t.Errorf("two Reads of %d bytes: %v allocations, want %v", size, n, want)
		}
	}
}

// TestWriteBatches counts what reaches the network for frames of one call.
func TestWriteBatches(t *testing.T) {
	for _, c := range []struct {
		name         string
		frames, size int
		writes       int
	}{
		{"one small", 1, 100, 1},
		{"many small", 500, 100, 1},
		{"more small than fit", 2000, 100, 4},
	} {
		var out blackboard
		frames := make([]Frame, c.frames)
		for i := range frames {
			frames[i].Body = make([]byte, c.size)
		}
		if err := NewConn(&out).Write(frames...); err != nil {
			t.Fatal(err)
		}
		if out.writes != c.writes {
			t.Errorf("%s: %d writes, want %d", c.name, out.writes, c.writes)
		}
	}
}

// TestWriteKeepsLargeBodies wants a large body to be given to the connection
// as it is, and to be let go of afterwards.
func TestWriteKeepsLargeBodies(t *testing.T) {
	body := make([]byte, copyBelow)
	seen := false
	out := &spy{look: func(p []byte) { seen = seen || len(p) > 0 && &p[0] == &body[0] }}
	c := NewConn(out)
	if err := c.Write(Frame{Body: body}); err != nil {
		t.Fatal(err)
	}
	if !seen {
		t.Error("the body was copied")
	}
	for _, p := range c.w.pieces[:cap(c.w.pieces)] {
		if p != nil {
			t.Error("a piece is still held")
		}
	}
}

// A spy is a connection that looks at what is written to it.
type spy struct {
	net.Conn
	look func(p []byte)
}

func (s *spy) Read([]byte) (int, error)    { return 0, io.EOF }
func (s *spy) Write(p []byte) (int, error) { s.look(p); return len(p), nil }

// TestWriteErrorIsFinal fails the network at every piece of a large write.
func TestWriteErrorIsFinal(t *testing.T) {
	errNet := errors.New("network is gone")
	for at := range 5 { // header, three parts of the body, checksum
		n := 0
		out := &failing{err: errNet, take: func(p []byte) int {
			if n++; n > at {
				return len(p) / 2
			}
			return len(p)
		}}
		c := NewConn(out)
		err := c.Write(Frame{Body: make([]byte, 600_000)})
		if !errors.Is(err, errNet) {
			t.Fatalf("piece %d: %v", at, err)
		}
		if again := c.Write(Frame{}); again != err {
			t.Errorf("piece %d: Write() again: %v", at, again)
		}
		if _, got := c.Traffic(); got != uint64(out.sent) {
			t.Errorf("piece %d: Traffic() says %d bytes sent, want %d", at, got, out.sent)
		}
	}
}

// A failing connection takes as much of each write as it is told.
type failing struct {
	net.Conn
	err  error
	take func(p []byte) int
	sent int
}

func (s *failing) Read([]byte) (int, error) { return 0, io.EOF }
func (s *failing) Write(p []byte) (int, error) {
	n := s.take(p)
	s.sent += n
	if n < len(p) {
		return n, s.err
	}
	return n, nil
}

// TestSlowFrame reads a frame over a link so slow that the deadline passes many
// times, in the way that Read's documentation tells.
func TestSlowFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe()
		defer a.Close()
		defer b.Close()
		frame := encodeFrames(t, Frame{Type: 7, Body: bytes.Repeat([]byte("slow "), 1000)})
		go func() {
			for _, x := range frame {
				time.Sleep(time.Second)
				a.Write([]byte{x})
			}
		}()
		c := NewConn(b)
		c.SetLimit(MaxBody)
		timeouts, seen := 0, uint64(0)
		for {
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			typ, body, err := c.Read()
			if err == nil {
				if typ != 7 || len(body) != 5000 {
					t.Errorf("Read() = %d, %d bytes", typ, len(body))
				}
				break
			}
			in, _ := c.Traffic()
			if !errors.Is(err, os.ErrDeadlineExceeded) || in == seen {
				t.Fatalf("Read() after %d bytes: %v", in, err)
			}
			timeouts++
			seen = in
		}
		if timeouts < 400 {
			t.Errorf("%d timeouts, so the link was not slow", timeouts)
		}
	})
}

// A connection that says nothing takes next to no memory; once larger frames
// are taken it reads much at once.
func TestStrangerTookThirtyTwoKiB(t *testing.T) {
	const conns = 100
	all := make([]*Conn, conns)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range all {
		all[i] = NewConn(&tape{})
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / conns; each > 2048 {
		t.Errorf("a connection takes %d bytes, want at most 2048", each)
	}
	runtime.KeepAlive(all)
	var out blackboard
	frames := []Frame{{Type: 1, Body: make([]byte, 100)}, {Type: 2, Body: make([]byte, 1000)}, {Type: 3, Body: make([]byte, 1000)}, {Type: 4, Body: make([]byte, 20_000)}}
	if err := NewConn(&out).Write(frames...); err != nil {
		t.Fatal(err)
	}
	c := NewConn(&tape{left: out.Bytes()})
	for i, f := range frames {
		if typ, body, err := c.Read(); err != nil || typ != f.Type || len(body) != len(f.Body) {
			t.Fatalf("frame %d: %d of %d bytes, %v", i, typ, len(body), err)
		}
		c.SetLimit(MaxBody)
	}
	if c.r.br.Size() != readBuffer {
		t.Errorf("a buffer of %d bytes, want %d", c.r.br.Size(), readBuffer)
	}
}
