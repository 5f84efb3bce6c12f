package diff

import (
	"math"
	"math/bits"
	"slices"

	"github.com/sdiff/sdiff/merkle"
)

// A sketching is the part of a comparison that is done by sketches, on either
// side, before or instead of levels of ranges.
type sketching struct {
	mine   *merkle.Sketch
	probe  []byte // of who opened
	kept   int    // cells of a part, on either side at least, to who did not open
	differ ranges // of it in which something differs, to who did not open
	made   ranges // of it of which mine was made; none: mine is the one kept
	// said is what this side says in its turn or, when listening, what the
	// peer is to answer.
	said   speech
	theirs merkle.Summary // what the peer holds
	open   uint8          // kind of the peer's message that goes on in the next one; 0: none does
	groups int            // of the cells that are sent; 0: not known yet
	mask   uint64         // of the groups of which cells are on their way
	have   int            // cells of each of these groups that were sent or came before
	hi     int            // cells of each of these groups there will be; 0: not known yet
	// Where in the turn that is being said or listened to the next piece is.
	group, at int
	rounds    int // how often cells came

	decoders []*merkle.Decoder // of who opened
	sent     int               // cells, all groups together
	want     []uint64          // what this side lacks, or the peer, ascending
	width    int               // bits of each hash that are told, the upper ones: want is of these
	rice     int               // lower bits of the code of want
	found    []uint64          // ranks of what the peer lacks
	why      string            // why there are ranges to compare, or no sketch
}

// A speech is what a side says in one turn.
type speech uint8

const (
	sayRanges speech = iota // a level of ranges
	sayOpening
	sayCells
	sayMore
	sayWant
	sayAgree
)

// maxCellRounds is how often cells are sent before ranges are compared instead.
const maxCellRounds = 4

// spare is how many cells, times the square root of the hashes in a group, are
// asked for besides those that are enough for one group, where there are several.
const spare = 3

// sketchPiece returns the next message of what this side says about sketches.
func (s *Session) sketchPiece() Message {
	m := Message{level: s.level}
	k := &s.sk
	switch k.said {
	case sayOpening:
		m.kind = kindOpen
		k.probe = newProbe(s.tree)
		m.open = &opening{all: s.all, cells: k.mine.Cells(), counters: k.mine.Counters(), probe: k.probe}
	case sayCells:
		s.cellsPiece(&m)
	case sayMore:
		m.kind, m.hi, m.mask = kindMore, k.hi, k.mask
	case sayWant:
		s.wantPiece(&m)
	case sayAgree:
		m.kind = kindAgree
	}
	return m
}

// wantPiece makes m the next piece of what this side lacks.
func (s *Session) wantPiece(m *Message) {
	k := &s.sk
	m.kind, m.width, m.k = kindWant, k.width, k.rice
	last := uint64(0)
	if k.at > 0 {
		last = k.want[k.at-1]
	}
	m.data, m.n = appendRice(nil, m.k, k.at == 0, last, k.want[k.at:], s.cfg.FrameBytes)
	k.at += m.n
	m.more = k.at < len(k.want)
}

// cellsPiece makes m the next piece of the cells to send: of one group.
func (s *Session) cellsPiece(m *Message) {
	k := &s.sk
	m.kind, m.all, m.ranges = kindCells, s.all, k.made
	m.groups, m.group, m.lo, m.hi = k.groups, k.group, k.at, k.hi
	n := min(k.hi-k.at, max(1, s.cfg.FrameBytes/merkle.CellSize))
	s.cells = k.mine.AppendCells(s.cells[:0], k.groups, k.group, k.at, k.at+n)
	m.data = make([]byte, 0, n*merkle.CellSize)
	for _, c := range s.cells {
		m.data = c.Append(m.data)
	}
	k.sent += n
	s.stats.Cells += n
	m.more = k.pass(n)
}

// pass moves on by n cells, and from the end of a group to the next one. It
// reports whether there is one.
func (k *sketching) pass(n int) bool {
	if k.at += n; k.at < k.hi {
		return true
	}
	rest := k.mask &^ (2<<k.group - 1)
	if rest == 0 {
		return false
	}
	k.group, k.at = bits.TrailingZeros64(rest), k.have
	return true
}

// begin sets the place to the first cell of the first group.
func (k *sketching) begin() { k.group, k.at = bits.TrailingZeros64(k.mask), k.have }

// answer lets this side talk, after the last piece of the peer's turn.
func (s *Session) answer(what speech) ([]Message, string) {
	s.sk.said, s.sk.open = what, 0
	s.level++
	s.phase = phaseTalk
	return s.talk(), ""
}

// descend begins to compare ranges, for a reason.
func (s *Session) descend(why string) ([]Message, string) {
	s.endSketch(MethodRanges, why)
	s.in = inbound{}
	s.decide(0, s.all.Count, unknown)
	s.said, s.next = s.next, s.said
	return s.answer(sayRanges)
}

// endSketch forgets all about sketches but how it was decided.
func (s *Session) endSketch(m Method, why string) {
	s.stats.Method, s.stats.Why = m, why
	if m == MethodRanges {
		s.stats.RoundTrips = 0
	}
	s.sk = sketching{}
	s.cells = nil
}

// stepOpen chooses how to compare.
func (s *Session) stepOpen(m Message) ([]Message, string) {
	if s.phase != phaseNew || m.level != 1 {
		return nil, "an opening when the comparison had begun"
	}
	s.level, s.stats.Levels = 1, 1
	if m.open.all == s.all {
		s.endSketch(MethodNone, "equal")
		return s.answer(sayAgree)
	}
	k := &s.sk
	k.probe = m.open.probe
	if k.mine != nil {
		k.kept = min(k.mine.Cells(), m.open.cells)
	}
	p := s.plan(m.open)
	switch {
	case p.groups == 0:
		return s.descend(p.why)
	case p.cells > k.kept && !s.makeSketch(p.ranges, p.cells, uint64(s.cfg.MaxMade)):
		panic("BUG: diff: a plan for cells that cannot be made")
	}
	k.theirs, k.differ, k.why = m.open.all, p.ranges, p.why
	k.groups, k.hi, k.mask = p.groups, p.cells, allOf(p.groups)
	k.begin()
	return s.answer(sayCells)
}

// allOf returns the mask of so many groups.
func allOf(groups int) uint64 { return ^uint64(0) >> (merkle.SketchParts - groups) }

// stepCells takes cells of the peer's.
func (s *Session) stepCells(m Message) ([]Message, string) {
	k := &s.sk
	if k.said != sayOpening && k.said != sayMore || !s.inTurn(m) {
		return nil, "cells that were not asked for"
	}
	// A peer that wants cells to be made knows of how many items, but for a few.
	if m.ranges != k.made && (k.at != k.have || k.open != 0 || !s.mayMake(m.ranges, m.groups, m.hi)) {
		return nil, "cells of a sketch that cannot be made"
	}
	if m.hi > k.mine.Cells() {
		return nil, "more cells than there are"
	}
	if k.groups == 0 { // it is for the peer to choose
		k.theirs = m.all
		k.groups, k.hi, k.mask = m.groups, m.hi, allOf(m.groups)
		k.decoders = make([]*merkle.Decoder, k.groups)
		for i := range k.decoders {
			k.decoders[i] = merkle.NewDecoder(k.groups, i)
		}
		k.begin()
	}
	if m.hi < k.hi && k.group == bits.TrailingZeros64(k.mask) && k.at == k.have {
		k.hi = m.hi // the peer keeps no more
	}
	n := len(m.data) / merkle.CellSize
	if m.groups != k.groups || m.group != k.group || m.lo != k.at || m.hi != k.hi || m.all != k.theirs {
		return nil, "cells out of order"
	}
	s.cells = k.mine.AppendCells(s.cells[:0], k.groups, k.group, k.at, k.at+n)
	for i := range s.cells {
		s.cells[i] = s.cells[i].Xor(merkle.ParseCell(m.data[i*merkle.CellSize:]))
	}
	k.decoders[k.group].Add(s.cells)
	s.stats.Cells += n
	if k.pass(n) != m.more {
		return nil, "another number of cells than was announced"
	}
	if m.more {
		k.open = m.kind
		return s.ack(m.level), ""
	}
	k.have = k.hi
	if k.rounds++; s.undecoded() != 0 {
		return s.more()
	}
	return s.decoded()
}

// undecoded returns the groups of which nothing or not everything is known.
func (s *Session) undecoded() (mask uint64) {
	for i, d := range s.sk.decoders {
		if !d.Done() {
			mask |= 1 << i
		}
	}
	return mask
}

// more asks for so many cells more that what differs can be told, if there are
// as many.
func (s *Session) more() ([]Message, string) {
	k := &s.sk
	k.mask = s.undecoded()
	empty, failed := 0, false
	for i, d := range k.decoders {
		if k.mask&(1<<i) != 0 {
			empty += d.Empty()
			failed = failed || d.Failed()
		}
	}
	groups := bits.OnesCount64(k.mask)
	each := merkle.HashesOfEmpty(groups, k.have, empty) / uint64(groups)
	enough := merkle.CellsFor(each)
	if groups > 1 { // for the largest of them, as each costs another round trip
		enough += int(spare * math.Sqrt(float64(each)))
	}
	// If that is not more, it is because two hashes have all of their few cells in
	// common: a sixteenth more, a quarter, twice as many. For the group or two where
	// that is so the last costs less than a descent.
	least := k.have + max(4<<k.rounds, k.have<<(2*k.rounds)/64)
	k.hi = min(s.mostCells(), max(enough, least))
	switch {
	case failed:
		return s.descend("the cells of the sketch are not those of a set")
	case k.hi <= k.have || k.rounds == maxCellRounds:
		return s.descend("the sketch did not tell what differs")
	case tooDear(groups*(k.hi-k.have), min(s.all.Count, k.theirs.Count)):
		return s.descend("more cells would take more bytes than the items' hashes")
	}
	k.begin()
	return s.answer(sayMore)
}

// decoded believes what the sketches say differs if that explains the summaries.
func (s *Session) decoded() ([]Message, string) {
	k := &s.sk
	var hashes []uint64
	for _, d := range k.decoders {
		hashes = append(hashes, d.Found()...)
	}
	k.decoders = nil
	slices.Sort(hashes)
	// Forged cells may give a hash away twice, which is to say not at all.
	for i := 1; i < len(hashes); i++ {
		if hashes[i] == hashes[i-1] {
			return s.descend("the cells of the sketch are not those of a set")
		}
	}
	mine, once := s.locate(hashes, 0)
	sum := s.all
	for i, h := range hashes {
		if item := (merkle.Summary{Count: 1, Sum: h}); mine[i] {
			sum = sum.Sub(item)
		} else {
			sum = sum.Add(item)
			k.want = append(k.want, h)
		}
	}
	if !once || sum != k.theirs {
		return s.descend("what the sketch told does not explain the difference")
	}
	k.width = widthFor(k.want, k.theirs.Count)
	for i := range k.want {
		k.want[i] >>= 64 - k.width
	}
	k.at, k.rice = 0, riceBits(k.want, k.width)
	s.stats.RoundTrips = s.level / 2
	return s.answer(sayWant)
}

// locate notes as found the items that have one of some hashes, of which no two
// are equal but for bits to ignore. It returns which of these are here, and
// whether each is here once at most.
func (s *Session) locate(hashes []uint64, ignore int) (here []bool, once bool) {
	here, once = make([]bool, len(hashes)), true
	s.tree.Locate(hashes, uint(ignore), func(rank uint64, i int) {
		if here[i] {
			once = false
			return
		}
		here[i] = true
		s.sk.found = append(s.sk.found, rank)
	})
	return here, once
}

// stepMore takes the request for more cells.
func (s *Session) stepMore(m Message) ([]Message, string) {
	k := &s.sk
	if k.said != sayCells || !s.inTurn(m) {
		return nil, "a request for cells out of turn"
	}
	if m.mask&^k.mask != 0 || m.hi <= k.hi {
		return nil, "a request for cells that were not sent before or were sent already"
	}
	if k.rounds++; k.rounds == maxCellRounds {
		return nil, "too many requests for cells"
	}
	if tooDear(bits.OnesCount64(m.mask)*(m.hi-k.hi), min(s.all.Count, k.theirs.Count)) {
		return s.descend("more cells would take more bytes than the items' hashes")
	}
	k.have, k.hi, k.mask = k.hi, s.upTo(m.hi), m.mask
	if k.hi <= k.have {
		return s.descend("all cells of the sketch did not tell what differs")
	}
	k.begin()
	return s.answer(sayCells)
}

// stepWant takes a piece of what the peer lacks. It cannot be more than the
// cells told.
func (s *Session) stepWant(m Message) ([]Message, string) {
	k := &s.sk
	if k.said != sayCells || !s.inTurn(m) {
		return nil, "hashes out of turn"
	}
	if len(k.want)+m.n > k.sent {
		return nil, "more hashes than cells were sent"
	}
	last := uint64(0)
	if n := len(k.want); n > 0 {
		if last = k.want[n-1]; m.width != k.width {
			return nil, "hashes of another width"
		}
	}
	k.width = m.width
	if !readRice(m.data, m.width, m.k, m.n, len(k.want) == 0, last, func(h uint64) { k.want = append(k.want, h) }) {
		return nil, "hashes beyond the last one"
	}
	if m.more {
		k.open = m.kind
		return s.ack(m.level), ""
	}
	for i := range k.want {
		k.want[i] <<= 64 - k.width
	}
	_, once := s.locate(k.want, 64-k.width)
	s.stats.RoundTrips = s.level / 2
	switch {
	case !once:
		return s.descend("two items are like one that the peer lacks")
	case len(k.found) < len(k.want):
		return s.descend("the peer lacks what is not here")
	}
	s.agree()
	return s.answer(sayAgree)
}

// stepAgree takes the peer's word that all is found.
func (s *Session) stepAgree(m Message) ([]Message, string) {
	k := &s.sk
	if !s.inTurn(m) || k.said != sayOpening && k.said != sayWant {
		return nil, "agreement to nothing"
	}
	if k.said == sayWant {
		s.agree()
	} else {
		s.endSketch(MethodNone, "equal")
	}
	s.phase = phaseDone
	return nil, ""
}

// agree makes findings of what is known to differ.
func (s *Session) agree() {
	for _, rank := range s.sk.found {
		s.findings.items(rank, rank+1)
	}
	s.endSketch(MethodSketch, s.sk.why)
}

// inTurn reports whether a message comes when it is the peer's turn, and goes on
// with what the turn began with.
func (s *Session) inTurn(m Message) bool {
	if s.phase != phaseListen || s.unacked > 0 || m.level != s.level || s.sk.open != 0 && s.sk.open != m.kind {
		return false
	}
	s.stats.Levels = s.level
	return true
}

// ack is the answer to a piece of a level that is not the last one.
func (s *Session) ack(level int) []Message {
	m := Message{kind: kindAck, level: level}
	s.stats.MessagesOut++
	s.stats.BytesOut += uint64(m.size())
	return []Message{m}
}
