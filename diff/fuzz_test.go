package diff

import (
	"bytes"
	"testing"

	"github.com/sdiff/sdiff/merkle"
)

// genuine returns the messages of a whole comparison, in the order in which
// they are taken, and for each whether it goes to the responder.
func genuine(left, right *merkle.Snapshot, cfgA, cfgB Config) (msgs []Message, toB []bool) {
	a, b := New(left, cfgA), New(right, cfgB)
	inB, err := a.Start()
	var inA []Message
	for err == nil && len(inA)+len(inB) > 0 {
		var m Message
		var out []Message
		if len(inB) > 0 {
			m, inB = inB[0], inB[1:]
			out, err = b.Step(m)
			inA = append(inA, out...)
			toB = append(toB, true)
		} else {
			m, inA = inA[0], inA[1:]
			out, err = a.Step(m)
			inB = append(inB, out...)
			toB = append(toB, false)
		}
		msgs = append(msgs, m)
	}
	if err != nil {
		panic(err)
	}
	return msgs, toB
}

// fuzzTrees are two sides that differ in every way.
func fuzzTrees() (left, right *merkle.Snapshot) {
	tree := numbered(60).Tree()
	tree.Put([]byte("k000007"), 0xffff)
	tree.Delete([]byte("k000021"))
	tree.Put([]byte("k000030x"), 0xeeee)
	for i := range 20 {
		tree.Put([]byte{'m', byte(i)}, uint64(1000+i))
	}
	return numbered(60), tree.Snapshot()
}

var fuzzConfig = Config{FrameBytes: 60, Window: 2, Parts: 4, Items: 4}

// FuzzParse checks that whatever Parse accepts encodes to the same bytes, and
// that an error comes without a message.
func FuzzParse(f *testing.F) {
	left, right := fuzzTrees()
	msgs, _ := genuine(left, right, fuzzConfig, fuzzConfig)
	for _, m := range msgs {
		f.Add(m.Append(nil))
	}
	for _, m := range append(sketched().msgs, madeOnTheWay().msgs...) {
		f.Add(m.Append(nil))
	}
	f.Add(Message{kind: kindLevel, level: 9, left: 1 << 40}.Append(nil))
	f.Add([]byte("\x90\x000")) // an array of nothing, and two numbers behind it
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			if m.kind != 0 || m.entries != nil || m.open != nil || m.data != nil {
				t.Fatalf("message %v with error %v", m, err)
			}
			return
		}
		if again := m.Append(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x encodes as %x", b, again)
		}
		if m.size() != len(b) {
			t.Fatalf("size() = %d, want %d", m.size(), len(b))
		}
		_ = m.String()
		for i := range b {
			if _, err := Parse(b[:i]); err == nil {
				t.Fatalf("the first %d bytes of %x are a message", i, b)
			}
		}
	})
}

// FuzzStep gives a session any bytes after any prefix of a genuine comparison:
// first as the entries of a level in order, then as messages. It must not
// panic, must keep its window and its memory, and must be dead once it has
// found fault.
func FuzzStep(f *testing.F) {
	comparisons := []dialogue{{a: fuzzConfig, b: fuzzConfig}, sketched(), madeOnTheWay()}
	x := &comparisons[0]
	x.left, x.right = fuzzTrees()
	x.msgs, x.toB = genuine(x.left, x.right, x.a, x.b)
	for n, x := range comparisons {
		for i, m := range x.msgs {
			f.Add(byte(n), byte(i), m.entries, m.Append(nil))
		}
	}
	f.Fuzz(func(t *testing.T, which, prefix byte, entries, next []byte) {
		x := comparisons[int(which)%len(comparisons)]
		for _, responder := range []bool{false, true} {
			s := replay(x, int(prefix)%(len(x.msgs)+1), responder)
			hostile(t, s, next)
			s = replay(x, int(prefix)%(len(x.msgs)+1), responder)
			hostile(t, s, Message{kind: kindLevel, level: s.level, more: next == nil, entries: entries}.Append(nil))
			hostile(t, s, next)
			hostile(t, s, Message{kind: kindLevel, level: s.level, entries: next}.Append(nil))
		}
	})
}

// replay returns one side of a genuine comparison after n of its messages.
func replay(x dialogue, n int, responder bool) *Session {
	s := New(x.left, x.a)
	if responder {
		s = New(x.right, x.b)
	} else if _, err := s.Start(); err != nil {
		panic(err)
	}
	for i, m := range x.msgs[:n] {
		if x.toB[i] == responder {
			if _, err := s.Step(m); err != nil {
				panic(err)
			}
		}
	}
	return s
}

// hostile steps bytes from a peer that cannot be trusted.
func hostile(t *testing.T, s *Session, b []byte) {
	m, err := Parse(b)
	if err != nil {
		return
	}
	tasks := len(s.said.tasks)
	out, err := s.Step(m)
	if err != nil && (out != nil || s.phase != phaseDead) {
		t.Fatalf("%d messages and phase %d with error %v", len(out), s.phase, err)
	}
	if len(out) > s.cfg.Window {
		t.Fatalf("%d messages at once, the window is %d", len(out), s.cfg.Window)
	}
	for _, o := range out {
		// One entry is a list of 60 hashes here at most, or one hash in Rice's code.
		if again, err := Parse(o.Append(nil)); err != nil || o.size() > s.cfg.FrameBytes+600 {
			t.Fatalf("message %v of %d bytes, %v", again, o.size(), err)
		}
	}
	if got, most := len(s.next.tasks)+len(s.said.tasks), 2*tasks+4*len(b)+100; got > most {
		t.Fatalf("%d ranges remembered after a message of %d bytes, %d before", got, len(b), tasks)
	}
	checkSketching(t, s)
	for len(s.Findings()) > 0 {
	}
}

// checkSketching checks that a session keeps no more of what the peer says about
// sketches than its own sketch and tree allow.
func checkSketching(t interface {
	Fatalf(format string, args ...any)
}, s *Session) {
	k := &s.sk
	if k.mine == nil {
		return
	}
	cells := 0
	for _, d := range k.decoders {
		if cells += d.Len(); len(d.Found()) > d.Len() {
			t.Fatalf("%d hashes of %d cells", len(d.Found()), d.Len())
		}
	}
	if most := merkle.SketchParts * k.mine.Cells(); cells > most || k.sent > most || len(k.want) > most {
		t.Fatalf("%d cells decoded, %d sent, %d hashes; %d cells are kept here", cells, k.sent, len(k.want), most)
	}
	if uint64(len(k.found)) > s.all.Count || k.rounds > maxCellRounds {
		t.Fatalf("%d items found of %d, in %d rounds", len(k.found), s.all.Count, k.rounds)
	}
}
