package diff

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sdiff/sdiff/merkle"
)

// TestLiarEnds lets a session talk with a peer that keeps to the protocol but
// answers every question at random: cuts ranges where it likes, claims any
// summary, lists anything, asks and judges at will. Whatever it says, the
// session ends within its number of levels, remembers no more than it was told
// and finds only what it holds, once.
func TestLiarEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 400).Draw(t, "items")
		tree := numbered(n)
		s := New(tree, Config{
			FrameBytes: rapid.SampledFrom([]int{1, 50, 0}).Draw(t, "frame"),
			Window:     rapid.IntRange(1, 3).Draw(t, "window"),
			Parts:      rapid.IntRange(2, 8).Draw(t, "parts"),
			Items:      rapid.IntRange(1, 8).Draw(t, "items at once"),
		})
		l := &liar{t: t, asked: []question{{kind: entrySummary, hi: []byte("l"), must: true}}}
		var inbox []Message
		if rapid.Bool().Draw(t, "begin") {
			var err error
			if inbox, err = s.Start(); err != nil {
				t.Fatal(err)
			}
		} else {
			inbox = l.answer()
		}
		for toLiar := l.level == 0; len(inbox) > 0; {
			var out []Message
			if toLiar {
				for _, m := range inbox {
					out = append(out, l.take(m)...)
				}
			} else {
				for _, m := range inbox {
					got, err := s.Step(m)
					if err != nil {
						t.Fatalf("%v, after %v", err, m)
					}
					if len(got) > s.cfg.Window {
						t.Fatalf("%d messages at once, the window is %d", len(got), s.cfg.Window)
					}
					out = append(out, got...)
				}
			}
			inbox, toLiar = out, !toLiar
		}
		if s.phase != phaseDone || s.Left() != 0 {
			t.Fatalf("phase %d, left %d, want it done", s.phase, s.Left())
		}
		if got, most := s.stats.Levels, 2*bits.Len(uint(max(n, 1)-1))+4; got > most {
			t.Errorf("%d levels for %d items, want at most %d", got, n, most)
		}
		if s.stats.Peak > 2*l.most+1 {
			t.Errorf("%d ranges remembered, and the peer made no more than %d statements a level", s.stats.Peak, l.most)
		}
		checkFindings(t, s, tree)
	})
}

// checkFindings checks that a session found items of its own only, each once.
func checkFindings(t *rapid.T, s *Session, tree *merkle.Snapshot) {
	seen := map[string]bool{}
	note := func(key []byte) bool {
		if seen[string(key)] {
			t.Errorf("item %q found twice", key)
		}
		seen[string(key)] = true
		return true
	}
	for found := s.Findings(); len(found) > 0; found = s.Findings() {
		for _, f := range found {
			if f.Key == nil {
				tree.Ascend(f.Lo, f.Hi, func(key []byte, _ uint64) bool { return note(key) })
			} else if hash, ok := tree.Get(f.Key); note(f.Key) && (!ok || hash != f.Hash) {
				t.Errorf("found %q %x, which is not here", f.Key, f.Hash)
			}
		}
	}
	if !s.Done() {
		t.Errorf("not done though everything has been taken")
	}
}

// A liar remembers what it was asked, so that it can answer in form.
type liar struct {
	t      *rapid.T
	level  int // of the last message taken or sent
	asked  []question
	chain  []byte // where the part at hand begins
	inside bool   // of the session's range that arrives in parts
	at     int    // the liar's own question that the session answers
	own    []question
	most   int // statements in a level
}

// A question is a range that somebody put in question: by a summary, a list
// or a request to list.
type question struct {
	kind   uint8
	lo, hi []byte
	listed int
	must   bool
}

// take takes a message of the session.
func (l *liar) take(m Message) []Message {
	if m.kind == kindAck {
		return nil
	}
	if m.level != l.level { // the first piece
		l.level, l.asked, l.at = m.level, nil, 0
	}
	r := newEntryReader(m.entries)
	for r.next() {
		l.question(&r.entry)
	}
	if m.more {
		return []Message{{kind: kindAck, level: m.level}}
	}
	if len(l.asked) == 0 {
		return nil
	}
	return l.answer()
}

// question notes what an entry of the session asks.
func (l *liar) question(e *entry) {
	if !l.inside {
		l.at += int(e.skip)
	}
	about := question{hi: []byte("l")}
	if l.own != nil {
		about = l.own[l.at]
	}
	if !l.inside {
		l.chain = about.lo
	}
	hi := about.hi
	if e.part {
		hi = bytes.Clone(e.bound)
	}
	q := question{kind: e.kind, lo: l.chain, hi: hi, listed: len(e.data) / 8, must: e.kind == entryAsk}
	if e.kind == entrySummary || e.kind == entryAsk || q.listed > 0 && e.kind == entryList {
		l.asked = append(l.asked, q)
	}
	l.chain = hi
	if l.inside = e.part; !e.part {
		l.at++
	}
}

// answer says something about each question, or passes over it.
func (l *liar) answer() []Message {
	w, own, skip := entryWriter{}, []question{}, uint64(0)
	l.level++
	statements := 0
	for _, q := range l.asked {
		if !q.must && rapid.IntRange(0, 4).Draw(l.t, "pass") == 0 {
			skip++
			continue
		}
		own = l.say(&w, own, q, skip)
		skip = 0
	}
	statements = len(own) + len(l.asked)
	l.most = max(l.most, statements)
	l.own = own
	return []Message{{kind: kindLevel, level: l.level, entries: w.out}}
}

// say writes an answer to one question and returns own with what it asks.
func (l *liar) say(w *entryWriter, own []question, q question, skip uint64) []question {
	if q.kind == entryList {
		bitmap := make([]byte, (q.listed+7)/8)
		bitmap[rapid.IntRange(0, q.listed-1).Draw(l.t, "lacks")/8] = 1
		for bitmap[len(bitmap)-1] == 0 {
			bitmap = bitmap[:len(bitmap)-1]
		}
		w.verdict(skip, bitmap)
		return own
	}
	what := rapid.SampledFrom([]uint8{entrySummary, entrySummary, entryList, entryAsk}).Draw(l.t, "answer")
	if q.must && q.kind == entryAsk {
		what = entryList
	}
	cuts := l.cuts(q)
	switch {
	case what == entrySummary && len(cuts) > 0:
		lo := q.lo
		for _, cut := range append(cuts, nil) {
			w.summary(skip, cut, merkle.Summary{
				Count: rapid.Uint64Range(1, 20).Draw(l.t, "count"), Sum: rapid.Uint64Range(0, 9).Draw(l.t, "sum"),
			})
			hi := cut
			if cut == nil {
				hi = q.hi
			}
			own, lo, skip = append(own, question{kind: entrySummary, lo: lo, hi: hi}), hi, 0
		}
		return own
	case what == entryAsk && !q.must:
		w.ask(skip)
		return append(own, question{kind: entryAsk, lo: q.lo, hi: q.hi})
	}
	low := 0
	if q.kind == entryAsk {
		low = 1
	}
	n := rapid.IntRange(low, 5).Draw(l.t, "listed")
	w.list(skip, uint64(n))
	for range n {
		w.out = binary.BigEndian.AppendUint64(w.out, rapid.Uint64Range(1, 400).Draw(l.t, "hash"))
	}
	if n > 0 {
		own = append(own, question{kind: entryList, lo: q.lo, hi: q.hi, listed: n})
	}
	return own
}

// cuts draws bounds strictly within a question's range.
func (l *liar) cuts(q question) [][]byte {
	var cuts [][]byte
	for range rapid.IntRange(1, 5).Draw(l.t, "cuts") {
		cut := rapid.SliceOfN(rapid.SampledFrom([]byte("k0123456789")), 1, 8).Draw(l.t, "cut")
		if bytes.Compare(q.lo, cut) < 0 && bytes.Compare(cut, q.hi) < 0 {
			cuts = append(cuts, cut)
		}
	}
	slices.SortFunc(cuts, bytes.Compare)
	return slices.CompactFunc(cuts, bytes.Equal)
}
