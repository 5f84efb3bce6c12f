package faultnet_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/transport"
)

// types sends frames of the types given through the link and returns those
// that come, with the error at the end.
func (w *world) types(sent ...byte) (got []byte, err error) {
	c, s := w.connect()
	defer c.Close()
	defer s.Close()
	out, in := transport.NewConn(c), transport.NewConn(s)
	in.SetLimit(transport.MaxBody)
	go func() {
		for _, typ := range sent {
			if out.Write(transport.Frame{Type: typ, Body: pattern(int(typ) * 3000)}) != nil {
				return
			}
		}
		out.Close()
	}()
	for {
		typ, body, err := in.Read()
		if err != nil {
			return got, err
		}
		if !bytes.Equal(body, pattern(int(typ)*3000)) {
			w.Errorf("frame %d has another body", typ)
		}
		got = append(got, typ)
	}
}

func only(want byte) func(byte) bool { return func(typ byte) bool { return typ == want } }

func TestFrameFaults(t *testing.T) {
	for _, c := range []struct {
		name string
		arm  func(l *faultnet.Link)
		want []byte
		n    map[faultnet.Fault]uint64
	}{
		{"none", func(*faultnet.Link) {}, []byte{0, 1, 2, 3, 4, 5}, nil},
		{"duplicate the first", func(l *faultnet.Link) {
			l.DuplicateFrame(faultnet.Out, nil)
		}, []byte{0, 0, 1, 2, 3, 4, 5}, map[faultnet.Fault]uint64{faultnet.Duplicate: 1}},
		{"duplicate one type", func(l *faultnet.Link) {
			l.DuplicateFrame(faultnet.Out, only(3))
		}, []byte{0, 1, 2, 3, 3, 4, 5}, map[faultnet.Fault]uint64{faultnet.Duplicate: 1}},
		{"swap", func(l *faultnet.Link) {
			l.SwapFrames(faultnet.Out, only(1))
		}, []byte{0, 2, 1, 3, 4, 5}, map[faultnet.Fault]uint64{faultnet.Swap: 1}},
		{"swap the last, which nothing overtakes", func(l *faultnet.Link) {
			l.SwapFrames(faultnet.Out, only(5))
		}, []byte{0, 1, 2, 3, 4, 5}, nil},
		{"drop", func(l *faultnet.Link) {
			l.DropFrame(faultnet.Out, only(2))
		}, []byte{0, 1, 3, 4, 5}, map[faultnet.Fault]uint64{faultnet.Drop: 1}},
		{"several", func(l *faultnet.Link) {
			l.DropFrame(faultnet.Out, nil)
			l.DuplicateFrame(faultnet.Out, nil)
			l.SwapFrames(faultnet.Out, nil)
			l.DropFrame(faultnet.Out, only(5))
		}, []byte{1, 1, 3, 2, 4}, map[faultnet.Fault]uint64{faultnet.Drop: 2, faultnet.Duplicate: 1, faultnet.Swap: 1}},
		{"the other direction", func(l *faultnet.Link) {
			l.DropFrame(faultnet.In, nil)
		}, []byte{0, 1, 2, 3, 4, 5}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(w *world) {
				c.arm(w.link)
				got, err := w.types(0, 1, 2, 3, 4, 5)
				if !slices.Equal(got, c.want) || err != io.EOF {
					w.Errorf("%v came, %v; want %v", got, err, c.want)
				}
				w.wantCounts(c.n)
			})
		})
	}
}

// TestFrameFaultsInPieces finds frames in a stream that comes byte by byte.
func TestFrameFaultsInPieces(t *testing.T) {
	bubble(t, func(w *world) {
		// Two links, one behind the other.
		first := faultnet.New(3)
		defer first.Close()
		first.SplitMax(faultnet.Out, 1)
		w.link.SwapFrames(faultnet.Out, only(1))
		a, b := transport.Pipe()
		defer b.Close()
		client := first.Wrap(w.link.Wrap(a))
		defer client.Close()
		out, in := transport.NewConn(client), transport.NewConn(b)
		out.Write(transport.Frame{Type: 1, Body: []byte("one")}, transport.Frame{Type: 2, Body: []byte("two")})
		for _, want := range []byte{2, 1} {
			if typ, _, err := in.Read(); typ != want || err != nil {
				w.Errorf("Read() = %d, %v; want %d", typ, err, want)
			}
		}
		if first.Count(faultnet.Split) == 0 {
			w.Error("nothing was split")
		}
		w.wantCounts(map[faultnet.Fault]uint64{faultnet.Swap: 1})
	})
}

// TestNotFrames wants a stream that is not made of frames to go through whole,
// whatever waits for a frame in it.
func TestNotFrames(t *testing.T) {
	for _, size := range []int{0, 3, 5, 100_000} {
		bubble(t, func(w *world) {
			w.link.DropFrame(faultnet.Out, nil)
			sent := bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), size/16+1)[:size]
			got, err := transfer(w.client, w.server, sent)
			if !bytes.Equal(got, sent) || err != nil {
				w.Errorf("%d bytes: %d came, %v", size, len(got), err)
			}
			w.wantCounts(nil)
		})
	}
}

// TestCutInHeldFrame wants what is held for a fault to come out at the end.
func TestCutInHeldFrame(t *testing.T) {
	bubble(t, func(w *world) {
		w.link.DuplicateFrame(faultnet.Out, nil)
		sent := []byte{0, 0, 0, 100, 1, 'h', 'a', 'l', 'f'}
		got, err := transfer(w.client, w.server, sent)
		if !bytes.Equal(got, sent) || err != nil {
			w.Errorf("%q came, %v", got, err)
		}
		w.wantCounts(nil)
	})
}

func TestFlipByte(t *testing.T) {
	for n := range 12 {
		bubble(t, func(w *world) {
			w.link.FlipByte(faultnet.Out, n)
			sent := pattern(12)
			w.write(w.client, sent[:5])
			got, err := transfer(w.client, w.server, sent[5:])
			if len(got) != 12 || err != nil {
				w.Fatalf("%d bytes came, %v", len(got), err)
			}
			for i := range got {
				if bits := got[i] ^ sent[i]; (bits != 0) != (i == n) || bits&(bits-1) != 0 {
					w.Errorf("flip byte %d: byte %d is %08b, was %08b", n, i, got[i], sent[i])
				}
			}
			w.wantCounts(map[faultnet.Fault]uint64{faultnet.Flip: 1})
		})
	}
}

func TestFlipProbability(t *testing.T) {
	for _, c := range []struct {
		p           float64
		least, most int
	}{{0, 0, 0}, {1e-4, 60, 150}, {0.5, 490_000, 510_000}, {1, 1_000_000, 1_000_000}} {
		bubble(t, func(w *world) {
			w.link.FlipProbability(faultnet.Out, c.p)
			sent := pattern(1_000_000)
			got, err := transfer(w.client, w.server, sent)
			if len(got) != len(sent) || err != nil {
				w.Fatalf("%d bytes came, %v", len(got), err)
			}
			n := 0
			for i := range got {
				if got[i] != sent[i] {
					n++
				}
			}
			if n < c.least || n > c.most || uint64(n) != w.link.Count(faultnet.Flip) {
				w.Errorf("chance %v: %d of %d bytes changed, %d counted", c.p, n, len(sent), w.link.Count(faultnet.Flip))
			}
		})
	}
}

// TestFlipIsNoticed wants the checksum of frames to see a flipped bit.
func TestFlipIsNoticed(t *testing.T) {
	bubble(t, func(w *world) {
		w.link.FlipByte(faultnet.Out, 9+5+1000)
		got, err := w.types(0, 1, 2)
		if !slices.Equal(got, []byte{0}) || !errors.Is(err, transport.ErrChecksum) {
			w.Errorf("%v came, %v; want a checksum error after frame 0", got, err)
		}
		w.fired(faultnet.Flip)
	})
}
