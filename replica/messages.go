package replica

import (
	"fmt"
	"time"

	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/stream"
)

// The protocol versions this code speaks. Both sides name theirs and the
// session speaks the highest common one.
const (
	versionMin = 1
	versionMax = 1
)

// magic begins every hello, so that a stranger on the port is told apart from
// a peer of another version.
const magic = "sdiff"

// Frame types. ONLY APPEND TO THIS LIST. F is the follower, M the master.
const (
	frameHello      byte = 1  // F→M, first
	frameWelcome    byte = 2  // M→F, answer to hello
	frameRefused    byte = 3  // M→F, answer to hello; the connection ends
	frameCommits    byte = 4  // M→F, encoded commits one after the other
	frameHead       byte = 5  // M→F, heartbeat
	frameAck        byte = 6  // F→M, after every transaction, and heartbeat
	frameSyncAsk    byte = 7  // F→M, asks for a comparison
	frameSyncQueued byte = 8  // M→F, the comparison waits its turn
	frameSyncStart  byte = 9  // M→F, both take a snapshot here
	frameCompare    byte = 10 // both ways, a message of package diff
	frameItems      byte = 11 // M→F, a chunk of repair
	frameKeys       byte = 12 // M→F, a chunk of keys, when nothing is to be changed
	frameChunkAck   byte = 13 // F→M, a chunk is done with
	frameSyncDone   byte = 14 // M→F, everything found has been sent
	frameSyncResult byte = 15 // F→M, how it ended
	frameBye        byte = 16 // both ways, last: why the connection ends
)

// Bounds of what frames hold.
const (
	maxReason  = 1000 // bytes of a sentence
	maxHistory = 24   // epochs in a welcome
	// inboundMaster bounds the body of a frame from a follower after welcome:
	// a comparison message is 64 KiB and at most one entry over.
	inboundMaster = 256 << 10
)

// hello is the first frame, from the follower.
type hello struct {
	min, max uint64
	dataset  stream.ID // zero: none yet
	id       string
	hash     string
	pos      stream.Position
	summary  merkle.Summary
	complete bool
	durable  bool // acks mean durable
	rollback bool // a person accepted a master that cannot confirm pos
}

func (h hello) append() []byte {
	w := wire.NewWriter(nil)
	w.Array(12)
	w.String(magic)
	w.Uint(h.min)
	w.Uint(h.max)
	w.Bytes(h.dataset[:])
	w.String(h.id)
	w.String(h.hash)
	putPosition(w, h.pos)
	putSummary(w, h.summary)
	w.Bool(h.complete)
	w.Bool(h.durable)
	w.Bool(h.rollback)
	w.Nil() // room for what hello will have to say one day within version 1
	return w.Out()
}

// parseHello reads the versions even where the rest is of another version, so
// that the refusal can name both.
func parseHello(b []byte) (h hello, known bool, err error) {
	r := newReader(b)
	n := r.Array()
	if n < 3 || r.StringMax(len(magic)) != magic {
		return h, false, protocolErrorf("this is not the port of an sdiff master's peer: the first frame is no hello")
	}
	h.min, h.max = r.Uint(), r.Uint()
	if r.Err() != nil || h.min > h.max {
		return h, false, protocolErrorf("bad hello: versions %d to %d", h.min, h.max)
	}
	if h.min > versionMax || h.max < versionMin {
		return h, false, nil
	}
	if n != 12 {
		return h, false, protocolErrorf("bad hello: %d fields", n)
	}
	copy(h.dataset[:], r.BytesN(16))
	h.id = r.StringMax(100)
	h.hash = r.StringMax(64)
	h.pos = getPosition(r)
	h.summary = getSummary(r)
	h.complete, h.durable, h.rollback = r.Bool(), r.Bool(), r.Bool()
	if !r.IsNil() {
		return h, false, protocolErrorf("bad hello: unknown last field")
	}
	if err := r.Close(); err != nil {
		return h, false, protocolErrorf("bad hello: %v", err)
	}
	if !validID(h.id) {
		return h, false, protocolErrorf("bad hello: the follower id must be 1 to 100 printable ASCII characters")
	}
	return h, true, nil
}

// welcome is the master's answer.
type welcome struct {
	version uint64
	dataset stream.ID
	head    stream.Position
	// start is the position whose next commit is the first that follows. With
	// resume it is the follower's own; otherwise it is head and the follower's
	// base is not complete until repaired.
	start  stream.Position
	resume bool
	repair bool   // the master advises a repair
	why    string // a sentence for the follower's status
	// history holds the ends of earlier epochs, the newest maxHistory of them.
	history []stream.Position
}

func (m welcome) append() []byte {
	w := wire.NewWriter(nil)
	w.Array(8)
	w.Uint(m.version)
	w.Bytes(m.dataset[:])
	putPosition(w, m.head)
	putPosition(w, m.start)
	w.Bool(m.resume)
	w.Bool(m.repair)
	w.String(clip(m.why))
	h := m.history[max(0, len(m.history)-maxHistory):]
	w.Array(len(h))
	for _, p := range h {
		putPosition(w, p)
	}
	return w.Out()
}

func parseWelcome(b []byte) (m welcome, err error) {
	r := newReader(b)
	r.ArrayN(8)
	m.version = r.Uint()
	copy(m.dataset[:], r.BytesN(16))
	m.head = getPosition(r)
	m.start = getPosition(r)
	m.resume, m.repair = r.Bool(), r.Bool()
	m.why = r.StringMax(maxReason)
	n := r.Array()
	if n > maxHistory {
		return m, protocolErrorf("bad welcome: %d epochs", n)
	}
	for range n {
		m.history = append(m.history, getPosition(r))
	}
	if err := r.Close(); err != nil {
		return m, protocolErrorf("bad welcome: %v", err)
	}
	if m.version < versionMin || m.version > versionMax {
		return m, protocolErrorf("the master chose protocol version %d, which was not offered", m.version)
	}
	return m, nil
}

// goodbye is the body of refused and of bye.
type goodbye struct {
	code   Code
	reason string
}

func (m goodbye) append() []byte {
	w := wire.NewWriter(nil)
	w.Array(2)
	w.Uint(uint64(m.code))
	w.String(clip(m.reason))
	return w.Out()
}

func parseGoodbye(b []byte) (m goodbye, err error) {
	r := newReader(b)
	r.ArrayN(2)
	m.code = Code(r.UintMax(255))
	m.reason = r.StringMax(maxReason)
	return m, parsed("goodbye", r)
}

// head is the master's heartbeat.
type head struct {
	pos stream.Position // the newest commit, sent or not
}

func (m head) append() []byte {
	w := wire.NewWriter(nil)
	w.Array(1)
	putPosition(w, m.pos)
	return w.Out()
}

func parseHead(b []byte) (m head, err error) {
	r := newReader(b)
	r.ArrayN(1)
	m.pos = getPosition(r)
	return m, parsed("head", r)
}

// ack is the follower's word on where it stands.
type ack struct {
	offset   uint64
	summary  merkle.Summary
	complete bool
	state    string // for the master's status
}

func (m ack) append() []byte {
	w := wire.NewWriter(nil)
	w.Array(4)
	w.Uint(m.offset)
	putSummary(w, m.summary)
	w.Bool(m.complete)
	w.String(m.state)
	return w.Out()
}

func parseAck(b []byte) (m ack, err error) {
	r := newReader(b)
	r.ArrayN(4)
	m.offset = r.Uint()
	m.summary = getSummary(r)
	m.complete = r.Bool()
	m.state = r.StringMax(32)
	return m, parsed("ack", r)
}

func newReader(b []byte) *wire.Reader {
	return wire.NewReader(b, wire.Limits{Elements: 300_000, Depth: 4})
}

func parsed(what string, r *wire.Reader) error {
	if err := r.Close(); err != nil {
		return protocolErrorf("bad %s frame: %v", what, err)
	}
	return nil
}

func putPosition(w *wire.Writer, p stream.Position) {
	w.Array(4)
	w.Bytes(p.Epoch[:])
	w.Uint(p.Offset)
	w.Uint(p.Fingerprint.Count)
	w.Uint(p.Fingerprint.Sum)
}

func getPosition(r *wire.Reader) (p stream.Position) {
	r.ArrayN(4)
	copy(p.Epoch[:], r.BytesN(16))
	p.Offset = r.Uint()
	p.Fingerprint = merkle.Summary{Count: r.Uint(), Sum: r.Uint()}
	return p
}

func putSummary(w *wire.Writer, s merkle.Summary) {
	w.Array(2)
	w.Uint(s.Count)
	w.Uint(s.Sum)
}

func getSummary(r *wire.Reader) (s merkle.Summary) {
	r.ArrayN(2)
	return merkle.Summary{Count: r.Uint(), Sum: r.Uint()}
}

func millis(t time.Time) uint64 { return uint64(max(0, t.UnixMilli())) }

func versionRefusal(h hello) goodbye {
	return goodbye{CodeVersion, fmt.Sprintf("this master speaks protocol versions %d to %d, the follower %d to %d: upgrade the older side", versionMin, versionMax, h.min, h.max)}
}
