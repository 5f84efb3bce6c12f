package diff

import (
	"fmt"
	"strings"

	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/merkle"
)

// The kinds of messages. ONLY APPEND: the numbers are on the wire.
const (
	kindLevel = 1 // [1, level, more, left, entries]: a piece of a level
	kindAck   = 2 // [2, level]: one piece of that level has been taken in
	kindOpen  = 3 // [3, level, count, sum, cells, counters, probe]: what I hold
	kindCells = 4 // [4, level, more, count, sum, ranges, groups, group, lo, hi, cells]: of my sketch
	kindMore  = 5 // [5, level, hi, mask]: send me those up to number hi of these groups
	kindWant  = 6 // [6, level, more, n, width, k, hashes]: these I lack
	kindAgree = 7 // [7, level]: all is found
)

// A Message is what one Session says to the other. Its encoding is msgpack,
// one for each message. The zero Message is none.
//
// A Message is immutable and safe for concurrent use. One returned by Parse
// holds parts of Parse's input, one returned by a Session is the caller's.
type Message struct {
	kind  uint8
	level int
	// more is true if further messages of the same level follow.
	more bool
	// left is how many ranges of the level before the sender did not compare;
	// nothing while more is true.
	left uint64
	// entries is the packed list that entryReader reads, valid as it says.
	entries []byte

	open *opening // of kindOpen
	// Of kindCells: data are the cells from number lo on of a group of parts, of
	// which hi will have been sent at the end of the level; all is what the
	// sender holds. Ranges are those of which its sketch was made, or none.
	// Of kindMore: hi and mask.
	groups, group, lo, hi int
	mask                  uint64
	ranges                ranges
	// Of kindWant: data are the upper width bits of n item hashes in Rice's code,
	// with k lower bits. The first is above the last one of the message before.
	n, width, k int
	all         merkle.Summary
	data        []byte
}

// Append appends the encoding of m to b and returns it.
func (m Message) Append(b []byte) []byte {
	w := wire.NewWriter(b)
	switch m.kind {
	case kindLevel:
		w.Array(5)
		w.Uint(kindLevel)
		w.Uint(uint64(m.level))
		w.Bool(m.more)
		w.Uint(m.left)
		w.Bytes(m.entries)
	case kindAck, kindAgree:
		w.Array(2)
		w.Uint(uint64(m.kind))
		w.Uint(uint64(m.level))
	case kindOpen, kindCells, kindMore, kindWant:
		m.appendSketch(w)
	default:
		panic(fmt.Sprintf("BUG: diff: message of kind %d", m.kind))
	}
	return w.Out()
}

// Parse decodes one message, which must be all of b, and checks all that can
// be checked without knowing what went before. What it accepts, Append writes
// again byte for byte. An error is a *wire.Error or a *ParseError; it holds
// none of the input. The message aliases b.
func Parse(b []byte) (Message, error) {
	r := wire.NewReader(b, wire.Limits{Elements: 11, Depth: 1})
	m, err := parse(r)
	if err != nil {
		return Message{}, fmt.Errorf("diff: parse message: %w", err)
	}
	return m, nil
}

func parse(r *wire.Reader) (Message, error) {
	n := r.Array()
	m := Message{kind: uint8(r.Field("kind").UintMax(kindAgree))}
	m.level = int(r.Field("level").UintMax(maxLevels))
	switch m.kind {
	case kindLevel:
		m.more = r.Field("more").Bool()
		m.left = r.Field("left").Uint()
		m.entries = r.Field("entries").Bytes()
	default:
		m.readSketch(r)
	}
	if err := r.Close(); err != nil {
		return Message{}, err
	}
	switch {
	case m.kind == 0 || n != shapes[m.kind]:
		return Message{}, errShape
	case m.level == 0:
		return Message{}, errLevelZero
	case m.more && m.left != 0:
		return Message{}, errLeftEarly
	case m.more && len(m.entries) == 0 && len(m.data) == 0:
		return Message{}, errEmpty
	}
	if m.kind != kindLevel {
		return m, m.checkSketch()
	}
	return m, checkEntries(m)
}

// shapes are the elements of a message, by kind. None has a kind of 0.
var shapes = [...]int{0, kindLevel: 5, kindAck: 2, kindOpen: 7, kindCells: 11, kindMore: 4, kindWant: 7, kindAgree: 2}

// checkEntries reads all of m's entries once.
func checkEntries(m Message) error {
	r := newEntryReader(m.entries)
	for r.next() {
	}
	if r.err == nil && r.open && !m.more {
		return errOpen
	}
	if r.err != nil {
		return r.err
	}
	return nil
}

// String returns m in full, for transcripts and for people: one line for the
// message and one for each entry. It shows keys.
func (m Message) String() string {
	switch m.kind {
	case kindLevel:
	case kindAck:
		return fmt.Sprintf("ack of level %d", m.level)
	default:
		return m.sketchString()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "level %d", m.level)
	if m.more {
		b.WriteString(", more follows")
	}
	if m.left > 0 {
		fmt.Fprintf(&b, ", %d not compared", m.left)
	}
	r := newEntryReader(m.entries)
	for r.next() {
		b.WriteString("\n  ")
		b.WriteString(r.entry.String())
	}
	return b.String()
}

// size returns the length of m's encoding.
func (m Message) size() int {
	switch m.kind {
	case kindAck:
		return 2 + uintSize(uint64(m.level))
	case kindLevel:
		return 3 + uintSize(uint64(m.level)) + uintSize(m.left) + bytesSize(len(m.entries))
	}
	return m.sketchSize()
}

// bytesSize returns how many bytes msgpack takes for so many.
func bytesSize(n int) int {
	switch {
	case n < 1<<8:
		return 2 + n
	case n < 1<<16:
		return 3 + n
	}
	return 5 + n
}

// uintSize returns how many bytes msgpack takes for an unsigned integer.
func uintSize(v uint64) int {
	switch {
	case v < 1<<7:
		return 1
	case v < 1<<8:
		return 2
	case v < 1<<16:
		return 3
	case v < 1<<32:
		return 5
	}
	return 9
}
