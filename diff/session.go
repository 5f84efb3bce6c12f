package diff

import (
	"fmt"

	"github.com/sdiff/sdiff/merkle"
)

// A phase says whose turn it is.
type phase uint8

const (
	// phaseNew: nothing has been said. Start makes this side the initiator,
	// the first message of level 1 the other one.
	phaseNew phase = iota
	// phaseTalk: this side sends its level, as far as the window lets it.
	phaseTalk
	// phaseListen: the peer's level is expected or under way. Acks of this
	// side's level, if there are any, come first.
	phaseListen
	// phaseDrain: this side has sent the last level. Only acks are missing.
	phaseDrain
	// phaseDone: nothing will be sent or is expected.
	phaseDone
	// phaseDead: the peer broke the protocol.
	phaseDead
)

// A Session is one side of a comparison of two sets of items. It does no I/O:
// its owner takes what Start and Step return to the peer's Step, in order.
//
// A Session is not safe for concurrent use. It reads the snapshot it was given
// and nothing else. Make one with New.
type Session struct {
	tree  *merkle.Snapshot
	all   merkle.Summary // of tree
	cfg   Config
	phase phase
	err   error // why the session is dead
	level int   // the level under way

	// said are the statements of this side's last level, or of the one it is
	// sending; at says how far they have been sent or, when listening, how far
	// the peer's answers have come.
	said turn
	at   cursor
	// next are the statements that the peer's level calls for: this side's
	// next level.
	next    turn
	unacked int // pieces of this side's last level that wait for an ack

	in       inbound
	pos      merkle.Summary // of all items before some rank, its Count
	index    []listed       // scratch of match
	low      []byte         // scratch of scanParts: the last key of a part
	findings findings
	left     uint64
	stats    Stats

	sk    sketching
	cells []merkle.Cell // scratch
}

// A turn is what one level says, in key order, unexpanded.
type turn struct {
	tasks   []task
	bitmaps []byte // of the verdicts among the tasks
}

func (t *turn) reset() { t.tasks, t.bitmaps = t.tasks[:0], t.bitmaps[:0] }

// A task is one statement to make. Ranges are kept as ranks, numbers of items
// of this side's snapshot: 24 bytes whatever the length of the keys, and the
// 64 parts of a split take no more than the range they are parts of.
type task struct {
	// Items lo up to but without hi are those in question. For a verdict they
	// are the place of its bitmap instead.
	lo, hi uint64
	// skip is how many of the peer's ranges before need no answer.
	skip  uint32
	parts uint16 // of a split
	kind  taskKind
}

type taskKind uint8

const (
	taskRoot    taskKind = iota // not said: that the whole is in question
	taskSplit                   // summaries of parts
	taskList                    // the hashes of all items, at least one
	taskAnswer                  // the same, because the peer asked for it
	taskAsk                     // list yours: the peer said it has few
	taskEmpty                   // a list of nothing
	taskVerdict                 // which of the peer's listed items are not here
)

// answers returns how many answers a task calls for: each of its parts is in
// question for the peer.
func (t *task) answers() int {
	switch t.kind {
	case taskSplit:
		return int(t.parts)
	case taskRoot, taskList, taskAnswer, taskAsk:
		return 1
	}
	return 0
}

// listed reports whether a task listed items, so that a verdict answers it.
func (t *task) listed() bool { return t.kind == taskList || t.kind == taskAnswer }

// demands reports whether the peer must answer; otherwise its silence means
// that both hold the same.
func (t *task) demands() bool { return t.kind == taskRoot || t.kind == taskAsk }

// part returns the ranks of the i-th part of a task. No part is empty.
func (t *task) part(i int) (lo, hi uint64) {
	if t.kind != taskSplit {
		return t.lo, t.hi
	}
	n, p := t.hi-t.lo, uint64(t.parts)
	return t.lo + n*uint64(i)/p, t.lo + n*uint64(i+1)/p
}

// A cursor is a place among the parts of a turn's tasks.
type cursor struct{ task, part int }

// New returns a session that compares the items of tree, nil meaning none,
// with the peer's.
func New(tree *merkle.Snapshot, cfg Config) *Session {
	s := &Session{tree: tree, all: tree.Summary(), cfg: cfg.withDefaults()}
	s.sk.mine, s.cfg.Sketch = s.cfg.Sketch, nil // kept no longer than it is needed
	return s
}

// Start begins the comparison and returns the first messages, those of level
// 1. Exactly one of the two sides calls it. It returns ErrBegun if anything
// has been said before.
func (s *Session) Start() ([]Message, error) {
	if s.phase != phaseNew {
		return nil, ErrBegun
	}
	s.level = 1
	why := "there is no sketch here"
	switch n := s.all.Count; {
	case s.sk.mine == nil:
	case n <= fewItems: // an opening is longer than the list
		why = fmt.Sprintf("only %d items are here", n)
	default:
		s.sk.said = sayOpening
		s.phase = phaseTalk
		return s.talk(), nil
	}
	s.endSketch(MethodRanges, why)
	s.decide(0, s.all.Count, unknown)
	s.said, s.next = s.next, s.said
	s.phase = phaseTalk
	return s.talk(), nil
}

// Opening returns what a session over tree would open with if its sketch had so
// many cells to a part and these counters, for StartWith; ok is false if it would
// open with ranges, as there are few items, or no cells.
func Opening(tree *merkle.Snapshot, cells int, counters merkle.Counters) (m Message, ok bool) {
	all := tree.Summary()
	if all.Count <= fewItems || cells == 0 {
		return Message{}, false
	}
	return Message{kind: kindOpen, level: 1, open: &opening{all: all, cells: cells, counters: counters, probe: newProbe(tree)}}, true
}

// Opens reports whether a message is an opening, as Opening returns it, and what
// its sender held then.
func (m Message) Opens() (holds merkle.Summary, ok bool) {
	if m.kind != kindOpen || m.level != 1 {
		return merkle.Summary{}, false
	}
	return m.open.all, true
}

// StartWith is Start where the peer has an opening already. It may be of items
// that have changed since: by it the peer chooses how to compare, and no more.
// It panics if m is none or if there is no sketch.
func (s *Session) StartWith(m Message) error {
	if _, ok := m.Opens(); !ok || s.sk.mine == nil {
		panic("BUG: diff: a comparison begins with what is no opening")
	}
	if s.phase != phaseNew {
		return ErrBegun
	}
	s.level = 1
	s.sk.said = sayOpening
	s.phase = phaseTalk
	for _, said := range s.talk() {
		s.stats.BytesOut -= uint64(said.size())
	}
	s.sk.probe = m.open.probe
	s.stats.BytesOut += uint64(m.size())
	return nil
}

// Step takes the peer's next message and returns the messages to send, in
// order: at most Config.Window of them. An error is a *PeerError and means
// that the peer broke the protocol: the session is dead and returns the same
// error from then on.
//
// A step costs O(log n) for each entry or cell of the message and of those
// returned, plus the items of ranges that the peer lists. One step of a
// comparison by sketches reads all items, about a nanosecond for each, and one of
// a comparison that takes more cells than are kept reads up to Config.MaxMade, 0.1
// to 0.3 µs for each.
func (s *Session) Step(m Message) ([]Message, error) {
	if s.err != nil {
		return nil, s.err
	}
	s.stats.MessagesIn++
	s.stats.BytesIn += uint64(m.size())
	var out []Message
	var reason string
	switch m.kind {
	case kindAck:
		out, reason = s.stepAck(m)
	case kindLevel:
		out, reason = s.stepLevel(m)
	case kindOpen:
		out, reason = s.stepOpen(m)
	case kindCells:
		out, reason = s.stepCells(m)
	case kindMore:
		out, reason = s.stepMore(m)
	case kindWant:
		out, reason = s.stepWant(m)
	case kindAgree:
		out, reason = s.stepAgree(m)
	default:
		reason = "a message of no kind"
	}
	if reason != "" {
		s.err = &PeerError{Level: s.level, Reason: reason}
		s.phase = phaseDead
		return nil, s.err
	}
	return out, nil
}

// Findings returns what has become known since the last call, at most 1,024
// findings at a time; it returns none when there are no more for now. The
// slices are the caller's. Whoever calls it until it returns none after each
// Step keeps the session's memory within what Config says.
func (s *Session) Findings() []Finding { return s.findings.take(s.tree) }

// Done reports whether the comparison has ended: nothing is to be sent or
// expected, and Findings has returned everything.
func (s *Session) Done() bool { return s.phase == phaseDone && s.findings.empty() }

// Left returns how many ranges were not compared, on either side, because a
// limit was hit. Unless it is zero at the end, the outcome is "could not
// tell", whatever was found.
func (s *Session) Left() uint64 { return s.left }

// Stats returns what the comparison has cost so far.
func (s *Session) Stats() Stats {
	st := s.stats
	if st.RoundTrips == 0 {
		st.RoundTrips = (st.Levels + 1) / 2
	}
	return st
}

// Stats says what a comparison has cost, seen from one side.
type Stats struct {
	Levels                  int    // the highest level sent or received
	RoundTrips              int    // until the side that began knew what differs
	MessagesIn, MessagesOut uint64 // acks included
	BytesIn, BytesOut       uint64 // of encoded messages, without the transport's framing
	Ranges                  uint64 // the peer's summaries compared with ours
	Listed                  uint64 // the peer's item hashes looked up
	Peak                    int    // most ranges remembered at once

	// Method is how it was done, Why is why so, in words. Who starts learns
	// the reason only if it is its own: it may be empty for MethodSketch, and is
	// WhyPeer if the other side went over to ranges.
	Method Method
	Why    string
	// Cells is how many cells of sketches were sent or came, Made of how many
	// items a sketch was made for that, or could have been in the time.
	Cells int
	Made  uint64
}

// loses counts ranges as not compared.
func (s *Session) lose(n uint64) {
	if s.left += n; s.left < n {
		s.left = ^uint64(0)
	}
}
