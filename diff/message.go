package diff

import (
	"fmt"
	"strings"

	"github.com/sdiff/sdiff/internal/wire"
)

// The kinds of messages. ONLY APPEND: the numbers are on the wire.
const (
	kindLevel = 1 // [1, level, more, left, entries]: a piece of a level
	kindAck   = 2 // [2, level]: one piece of that level has been taken in
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
	case kindAck:
		w.Array(2)
		w.Uint(kindAck)
		w.Uint(uint64(m.level))
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
	r := wire.NewReader(b, wire.Limits{Elements: 5, Depth: 1})
	m, err := parse(r)
	if err != nil {
		return Message{}, fmt.Errorf("diff: parse message: %w", err)
	}
	return m, nil
}

func parse(r *wire.Reader) (Message, error) {
	n := r.Array()
	m := Message{kind: uint8(r.Field("kind").UintMax(kindAck))}
	m.level = int(r.Field("level").UintMax(maxLevels))
	if m.kind == kindLevel {
		m.more = r.Field("more").Bool()
		m.left = r.Field("left").Uint()
		m.entries = r.Field("entries").Bytes()
	}
	if err := r.Close(); err != nil {
		return Message{}, err
	}
	switch {
	case m.kind == kindLevel && n != 5, m.kind == kindAck && n != 2, m.kind == 0:
		return Message{}, errShape
	case m.level == 0:
		return Message{}, errLevelZero
	case m.more && m.left != 0:
		return Message{}, errLeftEarly
	case m.more && len(m.entries) == 0:
		return Message{}, errEmpty
	}
	return m, checkEntries(m)
}

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
	if m.kind == kindAck {
		return fmt.Sprintf("ack of level %d", m.level)
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
	if m.kind == kindAck {
		return 2 + uintSize(uint64(m.level))
	}
	head := 3
	switch n := len(m.entries); {
	case n < 1<<8:
		head += 2
	case n < 1<<16:
		head += 3
	default:
		head += 5
	}
	return head + uintSize(uint64(m.level)) + uintSize(m.left) + len(m.entries)
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
