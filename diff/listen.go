package diff

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/sdiff/sdiff/merkle"
)

// inbound is what is known of the peer's level while it arrives.
type inbound struct {
	open bool // a range is being answered in parts, and more parts follow
	part int  // how many parts of it have come
	// asks is true if anything in the level calls for an answer.
	asks bool
	// gap counts the peer's statements since the last one to be answered.
	gap  uint64
	lost uint64 // statements that were to be answered but are over a limit
}

// stepAck takes an ack. It returns a reason if the peer broke the protocol.
func (s *Session) stepAck(m Message) ([]Message, string) {
	mine := s.level
	if s.phase != phaseTalk {
		mine--
	}
	if s.unacked == 0 || m.level != mine {
		return nil, "an ack of nothing"
	}
	s.unacked--
	if s.phase == phaseTalk {
		return s.talk(), ""
	}
	s.endDrain()
	return nil, ""
}

// stepLevel takes a piece of the peer's level. It returns a reason if the peer
// broke the protocol.
func (s *Session) stepLevel(m Message) ([]Message, string) {
	if s.phase == phaseNew {
		s.level, s.phase = 1, phaseListen
		s.beginRanges(WhyPeer)
	}
	switch {
	case s.phase != phaseListen || s.unacked > 0:
		return nil, "a level out of turn"
	case m.level != s.level:
		return nil, "a level out of order"
	}
	if s.sk.open != 0 {
		return nil, "a level out of turn"
	}
	if s.sk.said != sayRanges {
		s.beginRanges(WhyPeer)
	}
	s.stats.Levels = s.level
	r := newEntryReader(m.entries)
	for r.next() {
		if reason := s.take(&r.entry); reason != "" {
			return nil, reason
		}
	}
	if r.err != nil {
		return nil, r.err.Reason
	}
	if m.more {
		return s.ack(m.level), ""
	}
	return s.endListen(m.left)
}

// beginRanges makes all there is what the peer's first level of ranges is about.
func (s *Session) beginRanges(why string) {
	s.endSketch(MethodRanges, why)
	s.said.reset()
	s.said.tasks = append(s.said.tasks, task{hi: s.all.Count, kind: taskRoot})
	s.at, s.in = cursor{}, inbound{}
}

// endListen ends the peer's level. If anything in it calls for an answer, this
// side talks next, be it to say that nothing more is in question.
func (s *Session) endListen(left uint64) ([]Message, string) {
	if s.in.open {
		return nil, "a range without its last part"
	}
	// A peer that hit a limit has fallen silent from some range on.
	for ; left == 0 && s.at.task < len(s.said.tasks); s.at = (cursor{task: s.at.task + 1}) {
		if t := &s.said.tasks[s.at.task]; t.demands() && s.at.part < t.answers() {
			return nil, "no answer where one was asked for"
		}
	}
	s.lose(left)
	s.lose(s.in.lost)
	s.said, s.next = s.next, s.said
	s.next.reset()
	s.at = cursor{}
	if !s.in.asks {
		s.phase = phaseDone
		return nil, ""
	}
	if s.level++; s.level > maxLevels {
		return nil, "too many levels"
	}
	s.phase = phaseTalk
	s.refine()
	return s.talk(), ""
}

// take takes one entry of the peer's level. It returns a reason if the peer
// broke the protocol.
func (s *Session) take(e *entry) string {
	if !s.in.open {
		if reason := s.pass(e.skip); reason != "" {
			return reason
		}
	} else if e.kind != entrySummary || e.skip != 0 {
		return "a range without its last part"
	}
	t := &s.said.tasks[s.at.task]
	switch {
	case e.kind == entrySummary && (t.kind == taskSplit || t.kind == taskRoot):
		return s.takePart(e, t)
	case e.kind == entryList && !t.listed():
		return s.takeList(e, t)
	case e.kind == entryAsk && t.kind == taskSplit:
		return s.takeAsk(t)
	case e.kind == entryVerdict && t.listed():
		return s.takeVerdict(e, t)
	}
	return "an answer to another question"
}

// pass moves the cursor over n parts that both sides hold alike to the one
// that the entry at hand is about.
func (s *Session) pass(n uint64) string {
	for ; s.at.task < len(s.said.tasks); s.at = (cursor{task: s.at.task + 1}) {
		t := &s.said.tasks[s.at.task]
		here := uint64(t.answers() - s.at.part)
		if n < here {
			s.at.part += int(n)
			return ""
		}
		if n -= here; here > 0 && t.demands() {
			return "no answer where one was asked for"
		}
	}
	return "more answers than questions"
}

// takePart compares one part of a range.
func (s *Session) takePart(e *entry, t *task) string {
	lo, hi := t.part(s.at.part)
	if !s.in.open {
		s.before(lo)
		s.in.part = 0
	}
	// s.pos is now where the part begins. Ranks are enough to see that the
	// bounds ascend and lie in the range: which of this side's items belong to
	// the part is all that matters here.
	begin := s.pos
	if e.part {
		s.pos = s.tree.Range(nil, e.bound)
		if s.pos.Count < begin.Count || s.pos.Count > hi {
			return "a bound outside of the range in question"
		}
	} else if s.before(hi); !s.in.open {
		return "a range of one part"
	}
	if s.in.part++; s.in.part > maxParts {
		return "a range of too many parts"
	}
	s.compare(begin, s.pos, e.summary)
	if s.in.open = e.part; !e.part {
		s.at.part++
	}
	return ""
}

// compare compares this side's items between two places with what the peer
// says of its own.
func (s *Session) compare(begin, end, theirs merkle.Summary) {
	s.stats.Ranges++
	s.in.asks = true
	if end.Sub(begin) == theirs {
		s.in.gap++
		return
	}
	s.decide(begin.Count, end.Count, theirs.Count)
}

// takeAsk takes a request for a list. The peer may ask only for what was
// announced as few.
func (s *Session) takeAsk(t *task) string {
	lo, hi := t.part(s.at.part)
	if hi-lo > maxItems {
		return "a request for too long a list"
	}
	s.at.part++
	s.in.asks = true
	s.add(task{lo: lo, hi: hi, kind: taskAnswer})
	return ""
}

// takeVerdict takes what the peer does not hold of the items that were listed.
func (s *Session) takeVerdict(e *entry, t *task) string {
	for i := range setBits(e.data) {
		if uint64(i) >= t.hi-t.lo {
			return "a verdict on more items than were listed"
		}
		s.findings.items(t.lo+uint64(i), t.lo+uint64(i)+1)
	}
	s.at.part++
	return ""
}

// takeList compares a range with the hashes of all items that the peer holds
// in it.
func (s *Session) takeList(e *entry, t *task) string {
	lo, hi := t.part(s.at.part)
	s.at.part++
	if len(e.data) == 0 {
		if t.kind == taskAsk {
			return "a list of nothing where something was announced"
		}
		s.findings.whole(lo, hi)
		return ""
	}
	s.in.asks = true
	begin := len(s.next.bitmaps)
	s.match(lo, hi, e.data)
	end := len(s.next.bitmaps)
	if end == begin {
		s.in.gap++
	} else if !s.add(task{lo: uint64(begin), hi: uint64(end), kind: taskVerdict}) {
		s.next.bitmaps = s.next.bitmaps[:begin]
	}
	return ""
}

// A listed is one item of a list that the peer sent.
type listed struct {
	hash    uint64
	ordinal int
	// used counts, on the first of several equal hashes in the sorted index,
	// how many of them an item of this side has been matched with.
	used int
}

// match finds out what a range of this side's items and a list of the peer's
// have in common, as multisets of hashes: what only this side has becomes
// findings, what only the peer has a bitmap at the end of s.next.bitmaps,
// without trailing zeros. It costs O((items + list) log list).
func (s *Session) match(lo, hi uint64, list []byte) {
	s.index = s.index[:0]
	for i := 0; i < len(list); i += 8 {
		s.index = append(s.index, listed{hash: binary.BigEndian.Uint64(list[i:]), ordinal: i / 8})
	}
	s.stats.Listed += uint64(len(s.index))
	index := s.index
	slices.SortFunc(index, func(a, b listed) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.ordinal, b.ordinal))
	})
	rank := lo
	s.items(lo, hi, func(_ []byte, hash uint64) bool {
		i, found := slices.BinarySearchFunc(index, hash, func(l listed, h uint64) int { return cmp.Compare(l.hash, h) })
		if found && i+index[i].used < len(index) && index[i+index[i].used].hash == hash {
			index[i].used++
		} else {
			s.findings.items(rank, rank+1)
		}
		rank++
		return true
	})
	s.appendMissing(index)
}

// appendMissing appends the bitmap of the items of the sorted index that were
// not used.
func (s *Session) appendMissing(index []listed) {
	begin := len(s.next.bitmaps)
	for i := 0; i < len(index); {
		end := i + 1
		for end < len(index) && index[end].hash == index[i].hash {
			end++
		}
		for _, l := range index[i+index[i].used : end] {
			for len(s.next.bitmaps)-begin <= l.ordinal/8 {
				s.next.bitmaps = append(s.next.bitmaps, 0)
			}
			s.next.bitmaps[begin+l.ordinal/8] |= 1 << (l.ordinal % 8)
		}
		i = end
	}
}
