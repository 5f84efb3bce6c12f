package faultnet

import (
	"encoding/binary"

	"github.com/sdiff/sdiff/transport"
)

// A frameFault waits for a frame.
type frameFault struct {
	fault Fault
	match func(typ byte) bool // nil is any
}

// A scanner follows the frames of package transport in a stream of bytes that
// comes in pieces, and does to them what the Link has waiting. It holds at
// most two frames, and nothing while no fault waits. In a stream that cannot
// be frames it changes nothing.
type scanner struct {
	off   bool // the stream is not made of frames
	head  [transport.HeaderSize]byte
	n     int    // bytes of head that came
	left  int    // bytes that the frame still needs behind its header
	held  bool   // the frame under way is kept in frame, not sent
	frame []byte // what is kept of it
	fault Fault  // what happens to it when it is whole
	first []byte // the frame that the next one overtakes
}

// feed appends to out what becomes of in.
func (s *scanner) feed(out, in []byte, p *pump) []byte {
	for len(in) > 0 && !s.off {
		if s.n == 0 {
			s.held = s.first != nil || p.c.l.framesWait(p.dir)
		}
		inHead := s.n < len(s.head)
		var n int
		if inHead {
			n = copy(s.head[s.n:], in)
			s.n += n
		} else {
			n = min(len(in), s.left)
			s.left -= n
		}
		if s.held {
			s.frame = append(s.frame, in[:n]...)
		} else {
			out = append(out, in[:n]...)
		}
		in = in[n:]
		switch {
		case inHead && s.n == len(s.head):
			out = s.begin(out, p)
		case !inHead && s.left == 0:
			out = s.finish(out, p.c.l)
		}
	}
	return append(out, in...)
}

// begin looks at the header of a frame and lets go of it if there is no reason
// to keep it.
func (s *scanner) begin(out []byte, p *pump) []byte {
	size := binary.BigEndian.Uint32(s.head[:])
	if size > transport.MaxBody {
		s.off = true
		return s.flush(out)
	}
	s.left = int(size) + transport.Overhead - transport.HeaderSize
	if s.first != nil || !s.held {
		return out
	}
	s.fault, s.held = p.c.l.takeFrame(p.dir, s.head[4])
	if !s.held {
		out = append(out, s.frame...)
		s.frame = s.frame[:0]
	}
	return out
}

// finish sends the frame that has come whole, as its fault wants it.
func (s *scanner) finish(out []byte, l *Link) []byte {
	s.n = 0
	switch {
	case !s.held:
		return out
	case s.first != nil:
		l.count(Swap)
		out = append(append(out, s.frame...), s.first...)
		s.first = nil
	case s.fault == Swap:
		s.first, s.frame = s.frame, nil
	case s.fault == Duplicate:
		l.count(Duplicate)
		out = append(append(out, s.frame...), s.frame...)
	case s.fault == Drop:
		l.count(Drop)
	}
	s.frame = s.frame[:0]
	return out
}

// flush appends all that is held: the stream ends.
func (s *scanner) flush(out []byte) []byte {
	out = append(append(out, s.first...), s.frame...)
	s.first, s.frame = nil, nil
	return out
}

// framesWait reports whether a fault waits for a frame.
func (l *Link) framesWait(dir int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.dirs[dir].frames) > 0
}

// takeFrame returns the oldest fault that waits for a frame of this type.
func (l *Link) takeFrame(dir int, typ byte) (Fault, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := &l.dirs[dir]
	for i, ff := range f.frames {
		if ff.match == nil || ff.match(typ) {
			f.frames = append(f.frames[:i:i], f.frames[i+1:]...)
			return ff.fault, true
		}
	}
	return 0, false
}
