package diff

import (
	"encoding/binary"
	"math"

	"github.com/sdiff/sdiff/merkle"
)

// unknown is the peer's count of a range of which it has said nothing yet.
const unknown = math.MaxUint64

// decide adds to the next level what is to be said of a range of this side's
// items, given how many the peer has in it, which is not zero. The range
// differs, or nothing is known of it.
func (s *Session) decide(lo, hi, theirs uint64) {
	n := hi - lo
	t := task{lo: lo, hi: hi}
	switch few := uint64(s.cfg.Items); {
	case n == 0:
		t.kind = taskEmpty
	case n <= few:
		t.kind = taskList
	case theirs <= few:
		t.kind = taskAsk
	default:
		t.split(few, s.cfg.Parts)
	}
	s.add(t)
}

// split makes t a split into parts of some size, of which there are at most
// so many.
func (t *task) split(size uint64, parts int) {
	// There are two parts at least, and no more than items if those are two.
	n := t.hi - t.lo
	t.kind = taskSplit
	t.parts = uint16(min(max(2, (n-1)/max(1, size)+1), uint64(parts)))
}

// refine cuts the ranges that are to be listed once more, if that saves bytes
// worth another level: if the lists would fill more than one message. In a long
// run of neighbours that all differ, most of the smaller parts would differ,
// too; those are left as they are.
func (s *Session) refine() {
	var bytes int
	for run := range shortRuns(s.said.tasks) {
		for _, t := range run {
			if t.kind == taskList {
				bytes += 8 * int(t.hi-t.lo)
			}
		}
	}
	if bytes <= s.cfg.FrameBytes {
		return
	}
	size := max(1, uint64(s.cfg.Items)/4)
	for run := range shortRuns(s.said.tasks) {
		for i := range run {
			if t := &run[i]; t.kind == taskList && t.hi-t.lo > size {
				t.split(size, s.cfg.Parts)
			}
		}
	}
}

// longRun is from how many tasks on without an equal range between them a run
// is long. Were the differences spread at random, one equal range in so many
// would mean about five differences in each.
const longRun = 128

// shortRuns yields the runs of tasks between which no range was equal, as
// parts of tasks, but for the long ones.
func shortRuns(tasks []task) func(yield func([]task) bool) {
	return func(yield func([]task) bool) {
		for begin := 0; begin < len(tasks); {
			end := begin + 1
			for end < len(tasks) && tasks[end].skip == 0 {
				end++
			}
			if end-begin < longRun && !yield(tasks[begin:end]) {
				return
			}
			begin = end
		}
	}
}

// add appends a task to the next level and reports true, or counts it as lost.
// After one that is lost all others of the level are.
func (s *Session) add(t task) bool {
	if len(s.next.tasks) >= s.cfg.MaxPending || s.in.gap > math.MaxUint32 {
		s.in.lost++
		return false
	}
	t.skip = uint32(s.in.gap)
	s.in.gap = 0
	s.next.tasks = append(s.next.tasks, t)
	s.stats.Peak = max(s.stats.Peak, len(s.said.tasks)+len(s.next.tasks))
	return true
}

// talk sends as much of this side's level as the window lets it. At the last
// piece the turn goes to the peer or, if nothing was said that it could
// answer, the comparison ends.
func (s *Session) talk() []Message {
	var out []Message
	for s.unacked < s.cfg.Window {
		m := s.piece()
		out = append(out, m)
		s.stats.MessagesOut++
		s.stats.BytesOut += uint64(m.size())
		if !m.more {
			s.said.bitmaps = s.said.bitmaps[:0]
			s.endTalk()
			break
		}
		s.unacked++
	}
	return out
}

// endTalk decides what follows this side's level.
func (s *Session) endTalk() {
	s.stats.Levels = s.level
	if s.sk.said == sayAgree {
		s.phase = phaseDone
		return
	}
	s.level++
	if s.sk.said != sayRanges {
		s.phase = phaseListen
		return
	}
	s.at = cursor{}
	for i := range s.said.tasks {
		if s.said.tasks[i].answers() > 0 {
			s.phase = phaseListen
			s.in = inbound{}
			return
		}
	}
	s.phase = phaseDrain
	s.endDrain()
}

// endDrain ends the comparison when the last ack is there.
func (s *Session) endDrain() {
	if s.phase == phaseDrain && s.unacked == 0 {
		s.phase = phaseDone
	}
}

// piece returns the next message of this side's level.
func (s *Session) piece() Message {
	if s.sk.said != sayRanges {
		return s.sketchPiece()
	}
	var w entryWriter
	for s.at.task < len(s.said.tasks) && len(w.out) < s.cfg.FrameBytes {
		s.say(&w, &s.said.tasks[s.at.task])
	}
	m := Message{kind: kindLevel, level: s.level, entries: w.out}
	if m.more = s.at.task < len(s.said.tasks); !m.more {
		m.left = s.in.lost
	}
	return m
}

// say writes one entry of a task, or more if it has several, and moves on.
func (s *Session) say(w *entryWriter, t *task) {
	skip := uint64(t.skip)
	switch t.kind {
	case taskSplit:
		s.sayParts(w, t)
		if s.at.part < int(t.parts) {
			return
		}
	case taskList, taskAnswer:
		w.list(skip, t.hi-t.lo)
		s.items(t.lo, t.hi, func(_ []byte, hash uint64) bool {
			w.out = binary.BigEndian.AppendUint64(w.out, hash)
			return true
		})
	case taskAsk:
		w.ask(skip)
	case taskEmpty:
		w.list(skip, 0)
	case taskVerdict:
		w.verdict(skip, s.said.bitmaps[t.lo:t.hi])
	default:
		panic("BUG: diff: a task of no kind")
	}
	s.at = cursor{task: s.at.task + 1}
}

// sayParts writes summaries of a split's parts, the next one at least, until
// the message is full or the split is done.
func (s *Session) sayParts(w *entryWriter, t *task) {
	if (t.hi-t.lo)/uint64(t.parts) <= scanMost {
		s.scanParts(w, t)
		return
	}
	for more := true; more; more = s.at.part < int(t.parts) && len(w.out) < s.cfg.FrameBytes {
		lo, hi := t.part(s.at.part)
		before := s.before(lo)
		if hi == t.hi {
			s.sayPart(w, t, nil, s.before(hi).Sub(before))
			return
		}
		// The bound lies between two items of the range, so it lies strictly
		// within the range's own bounds, though nobody here remembers those.
		low, _, _ := s.tree.At(hi - 1)
		high, _, _ := s.tree.At(hi)
		bound := separator(low, high)
		s.pos = s.tree.Range(nil, bound)
		s.sayPart(w, t, bound, s.pos.Sub(before))
	}
}

// scanMost is up to how many items per part it is faster to add up the items
// one by one than to find the parts' ends from the root of the tree.
const scanMost = 64

// scanParts does the same in one pass over the items.
func (s *Session) scanParts(w *entryWriter, t *task) {
	rank, hi := t.part(s.at.part)
	var sum merkle.Summary
	s.items(rank, t.hi, func(key []byte, hash uint64) bool {
		if rank == hi { // the key is the first of the next part
			s.sayPart(w, t, separator(s.low, key), sum)
			if len(w.out) >= s.cfg.FrameBytes {
				return false
			}
			_, hi = t.part(s.at.part)
			sum = merkle.Summary{}
		}
		sum = sum.Add(merkle.Summary{Count: 1, Sum: hash})
		if rank++; rank == hi {
			s.low = append(s.low[:0], key...)
		}
		return true
	})
	if rank == t.hi {
		s.sayPart(w, t, nil, sum)
	}
}

// sayPart writes the summary of the next part of a split.
func (s *Session) sayPart(w *entryWriter, t *task, bound []byte, sum merkle.Summary) {
	skip := uint64(0)
	if s.at.part == 0 {
		skip = uint64(t.skip)
	}
	w.summary(skip, bound, sum)
	s.at.part++
}

// before returns the summary of the items before a rank. The last answer is
// remembered, as ranges often begin where another ended.
func (s *Session) before(rank uint64) merkle.Summary {
	switch rank {
	case s.pos.Count:
	case s.all.Count:
		s.pos = s.all
	default:
		key, _, _ := s.tree.At(rank)
		s.pos = s.tree.Range(nil, key)
	}
	return s.pos
}

// items calls fn for the items from rank lo up to but without hi, until it
// returns false. The key is valid during the call.
func (s *Session) items(lo, hi uint64, fn func(key []byte, hash uint64) bool) {
	key, _, ok := s.tree.At(lo)
	if !ok || lo >= hi {
		return
	}
	s.tree.Ascend(key, nil, func(key []byte, hash uint64) bool {
		lo++
		return fn(key, hash) && lo < hi
	})
}
