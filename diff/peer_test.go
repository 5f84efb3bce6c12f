package diff

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sdiff/sdiff/merkle"
)

// numbered returns n items k000000, k000001, … with hashes 1, 2, ….
func numbered(n int) *merkle.Snapshot {
	var b merkle.Builder
	for i := range n {
		if err := b.Add(fmt.Appendf(nil, "k%06d", i), uint64(i+1)); err != nil {
			panic(err)
		}
	}
	return b.Tree().Snapshot()
}

// Levels of a peer, for the tests below.
var (
	some   = merkle.Summary{Count: 7, Sum: 0xbad}
	many   = merkle.Summary{Count: 1 << 40, Sum: 0xbad}
	halves = func(w *entryWriter) {
		w.summary(0, []byte("k000050"), many)
		w.summary(0, nil, many)
	}
	one = func(w *entryWriter) {
		w.list(0, 1)
		w.out = append(w.out, 0, 0, 0, 0, 0, 0, 0, 1)
	}
	ask = func(w *entryWriter) { w.ask(0) }
)

// TestPeerBreaksTheProtocol lets a peer say what it must not, each time to a
// session of 100 items that is otherwise in order, and checks that the session
// is dead then.
func TestPeerBreaksTheProtocol(t *testing.T) {
	type say = func(w *entryWriter)
	for _, c := range []struct {
		name  string
		begin bool  // the session under test is the initiator
		peer  []say // the peer's levels; the last one is wrong
		want  string
	}{
		{"silent at level 1", false, []say{func(*entryWriter) {}}, "no answer where one was asked for"},
		{"passes over the whole", false, []say{func(w *entryWriter) { w.ask(1) }}, "no answer where one was asked for"},
		{"asks at level 1", false, []say{ask}, "another question"},
		{"judges at level 1", false, []say{func(w *entryWriter) { w.verdict(0, []byte{1}) }}, "another question"},
		{"two answers to one question", false, []say{func(w *entryWriter) { one(w); one(w) }}, "more answers than questions"},
		{"one part only", true, []say{func(w *entryWriter) { w.summary(0, nil, some) }}, "a range of one part"},
		{"answers too much", true, []say{func(w *entryWriter) { w.list(64, 0) }}, "more answers than questions"},
		{"skips 2^61", true, []say{func(w *entryWriter) { w.list(1<<61-1, 0) }}, "more answers than questions"},
		{"judges what was not listed", true, []say{func(w *entryWriter) { w.verdict(0, []byte{1}) }}, "another question"},
		{"bound below the range", true, []say{func(w *entryWriter) {
			w.summary(3, []byte("a"), some)
			w.summary(0, nil, some)
		}}, "outside of the range"},
		{"bound above the range", true, []say{func(w *entryWriter) {
			w.summary(0, []byte("k000099"), some)
			w.summary(0, nil, some)
		}}, "outside of the range"},
		{"4,097 parts", false, []say{func(w *entryWriter) {
			for i := range maxParts {
				w.summary(0, fmt.Appendf(nil, "z%06d", i), some)
			}
			w.summary(0, nil, some)
		}}, "too many parts"},
		{"no list where one was asked for", false, []say{func(w *entryWriter) {
			w.summary(0, []byte("k000050"), some)
			w.summary(0, nil, some)
		}, func(*entryWriter) {}}, "no answer where one was asked for"},
		{"a list of nothing where seven items were announced", false, []say{func(w *entryWriter) {
			w.summary(0, []byte("k000050"), some)
			w.summary(0, nil, some)
		}, func(w *entryWriter) { w.list(0, 0) }}, "where something was announced"},
		{"summaries where a list was asked for", false, []say{func(w *entryWriter) {
			w.summary(0, []byte("k000050"), some)
			w.summary(0, nil, some)
		}, halves}, "another question"},
		{"a list where one was sent", false, []say{halves, ask, one}, "another question"},
		{"a verdict on more than was listed", false, []say{halves, ask,
			func(w *entryWriter) { w.verdict(0, bytes.Repeat([]byte{1}, 9)) }}, "more items than were listed"},
		{"two verdicts on one list", false, []say{halves, ask, func(w *entryWriter) {
			w.verdict(0, []byte{1})
			w.verdict(0, []byte{1})
		}}, "more answers than questions"},
	} {
		s := New(numbered(100), Config{Items: 8, Parts: 4})
		if c.begin {
			if _, err := s.Start(); err != nil {
				t.Fatalf("%s: Start: %v", c.name, err)
			}
		}
		level := 1
		if c.begin {
			level = 2
		}
		for i, write := range c.peer {
			out, err := s.Step(levelOf(level, write))
			level += 2
			if i < len(c.peer)-1 {
				if err != nil {
					t.Fatalf("%s: level %d: %v", c.name, level-2, err)
				}
				continue
			}
			broken, ok := errors.AsType[*PeerError](err)
			if !ok || !strings.Contains(broken.Reason, c.want) {
				t.Errorf("%s: error %v, want a *PeerError about %q", c.name, err, c.want)
			}
			if out != nil || s.Done() {
				t.Errorf("%s: the session goes on", c.name)
			}
			if _, again := s.Step(Message{kind: kindAck, level: 1}); again != err {
				t.Errorf("%s: then error %v, want the same as before", c.name, again)
			}
		}
	}
}

// TestAsksForTooMuch lets a peer ask for a list of more items than any list may
// have, which it cannot have taken for few.
func TestAsksForTooMuch(t *testing.T) {
	s := New(numbered(3*maxItems), Config{Parts: 2})
	if _, err := s.Start(); err != nil {
		t.Fatal(err)
	}
	_, err := s.Step(levelOf(2, ask))
	if _, ok := errors.AsType[*PeerError](err); !ok {
		t.Errorf("error %v, want a *PeerError", err)
	}
}

// TestOutOfTurn steps messages that come when nobody is waiting for them.
func TestOutOfTurn(t *testing.T) {
	open := func() *Session {
		s := New(numbered(100), Config{FrameBytes: 1, Window: 2})
		if out, err := s.Start(); err != nil || len(out) != 2 {
			t.Fatalf("Start() = %d messages, %v, want 2", len(out), err)
		}
		return s
	}
	ack1, ack2 := Message{kind: kindAck, level: 1}, Message{kind: kindAck, level: 2}
	for _, c := range []struct {
		name string
		in   []Message
		want string
	}{
		{"no message at all", []Message{{}}, "a message of no kind"},
		{"ack of another level", []Message{ack2}, "an ack of nothing"},
		{"level before the turn has passed", []Message{levelOf(1, one)}, "a level out of turn"},
		{"next level before the turn has passed", []Message{levelOf(2, one)}, "a level out of turn"},
		{"next level before an ack", []Message{ack1, ack1, levelOf(2, one)}, "a level out of turn"},
		{"an ack too many", []Message{ack1, ack1, ack1, ack1}, "an ack of nothing"},
	} {
		s := open()
		var err error
		for _, m := range c.in {
			if err != nil {
				t.Fatalf("%s: an early error: %v", c.name, err)
			}
			_, err = s.Step(m)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one about %q", c.name, err, c.want)
		}
	}
}

// TestBrokenBetweenMessages lets a range end badly from one message to the
// next, where Parse cannot see it.
func TestBrokenBetweenMessages(t *testing.T) {
	open := Message{kind: kindLevel, level: 1, more: true}
	var w entryWriter
	w.summary(0, []byte("k000050"), some)
	open.entries = w.out
	for _, c := range []struct {
		name string
		next Message
		want string
	}{
		{"the level ends", Message{kind: kindLevel, level: 1}, "without its last part"},
		{"a list", levelOf(1, one), "without its last part"},
		{"a skip", levelOf(1, func(w *entryWriter) { w.summary(1, nil, some) }), "without its last part"},
		{"a lower bound", levelOf(1, func(w *entryWriter) {
			w.summary(0, []byte("k000049"), some)
			w.summary(0, nil, some)
		}), "outside of the range"},
	} {
		s := New(numbered(100), Config{})
		if out, err := s.Step(open); err != nil || len(out) != 1 || out[0].kind != kindAck {
			t.Fatalf("%s: Step() = %v, %v, want an ack", c.name, out, err)
		}
		if _, err := s.Step(c.next); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one about %q", c.name, err, c.want)
		}
	}
}
