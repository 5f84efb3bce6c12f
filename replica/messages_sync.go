package replica

import (
	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/stream"
)

// The messages of a comparison and of the repair that follows.

// syncAsk asks for a comparison; the follower draws the number, and everything
// that belongs to the comparison carries it.
type syncAsk struct {
	id      uint64
	dryRun  bool
	opening []byte // of package diff, or empty
}

func (m syncAsk) append() []byte {
	w := wire.NewWriter(nil)
	w.Array(3)
	w.Uint(m.id)
	w.Bool(m.dryRun)
	w.Bytes(m.opening)
	return w.Out()
}

func parseSyncAsk(b []byte) (m syncAsk, err error) {
	r := newReader(b)
	r.ArrayN(3)
	m.id = r.Uint()
	m.dryRun = r.Bool()
	m.opening = r.BytesMax(maxOpening)
	return m, parsed("sync ask", r)
}

// maxOpening is more than an opening of package diff takes.
const maxOpening = 1 << 10

// syncStart names the position at which both sides take a snapshot, and says
// whether the opening that came with the ask will be answered.
type syncStart struct {
	id       uint64
	pos      stream.Position
	answered bool
}

func (m syncStart) append() []byte {
	w := wire.NewWriter(nil)
	w.Array(3)
	w.Uint(m.id)
	putPosition(w, m.pos)
	w.Bool(m.answered)
	return w.Out()
}

func parseSyncStart(b []byte) (m syncStart, err error) {
	r := newReader(b)
	r.ArrayN(3)
	m.id = r.Uint()
	m.pos = getPosition(r)
	m.answered = r.Bool()
	return m, parsed("sync start", r)
}

// syncDone says that everything found was sent: the master's position there, what
// could not be sent and what was left uncompared.
type syncDone struct {
	id         uint64
	pos        stream.Position
	unsendable uint64
	left       uint64
	why        string // why they were compared as they were
}

func (m syncDone) append() []byte {
	w := wire.NewWriter(nil)
	w.Array(5)
	w.Uint(m.id)
	putPosition(w, m.pos)
	w.Uint(m.unsendable)
	w.Uint(m.left)
	w.String(m.why)
	return w.Out()
}

func parseSyncDone(b []byte) (m syncDone, err error) {
	r := newReader(b)
	r.ArrayN(5)
	m.id = r.Uint()
	m.pos = getPosition(r)
	m.unsendable, m.left = r.Uint(), r.Uint()
	m.why = r.StringMax(maxReason)
	return m, parsed("sync done", r)
}

// compare carries a message of package diff.
type compare struct {
	id  uint64
	msg []byte
}

func (m compare) append() []byte {
	w := wire.NewWriter(make([]byte, 0, len(m.msg)+16))
	w.Array(2)
	w.Uint(m.id)
	w.Bytes(m.msg)
	return w.Out()
}

func parseCompare(b []byte) (m compare, err error) {
	r := newReader(b)
	r.ArrayN(2)
	m.id = r.Uint()
	m.msg = r.Bytes()
	return m, parsed("comparison", r)
}

// chunk is a bounded piece of a repair (frameItems: key and value, nil for one
// that cannot be sent) or of a dry run (frameKeys: key alone).
type chunk struct {
	id, seq uint64
	offset  uint64 // whose state this is
	ops     []stream.Op
	// unsendable marks, by index, ops without a value; only in frameItems.
	unsendable map[int]bool
}

// chunkWriter builds the body of a chunk as its items become known.
type chunkWriter struct {
	w     *wire.Writer
	items int
}

func newChunkWriter(size int) *chunkWriter {
	return &chunkWriter{w: wire.NewWriter(make([]byte, 0, size+512))}
}

func (c *chunkWriter) item(key, value []byte) {
	c.w.Bytes(key)
	c.w.Bytes(value)
	c.items++
}

func (c *chunkWriter) unsendable(key []byte) {
	c.w.Bytes(key)
	c.w.Nil()
	c.items++
}

func (c *chunkWriter) key(key []byte) {
	c.w.Bytes(key)
	c.items++
}

// body puts the head of a chunk before its items. fields is two for
// items and one for keys.
func (c *chunkWriter) body(id, seq, offset uint64, fields int) []byte {
	items := c.w.Out()
	w := wire.NewWriter(make([]byte, 0, len(items)+40))
	w.Array(4)
	w.Uint(id)
	w.Uint(seq)
	w.Uint(offset)
	w.Array(c.items * fields)
	return append(w.Out(), items...)
}

func parseChunk(typ byte, b []byte) (m chunk, err error) {
	r := newReader(b)
	r.ArrayN(4)
	m.id, m.seq, m.offset = r.Uint(), r.Uint(), r.Uint()
	n := r.Array()
	if typ == frameItems {
		if n%2 != 0 {
			return m, protocolErrorf("bad chunk: %d fields", n)
		}
		n /= 2
	}
	m.ops = make([]stream.Op, 0, n)
	for i := 0; i < n && r.Err() == nil; i++ {
		at := r.Offset()
		op := stream.Op{Key: r.Bytes()}
		if len(op.Key) == 0 {
			r.Fail(at, wire.ErrRange)
		}
		if typ == frameItems {
			if r.IsNil() {
				if m.unsendable == nil {
					m.unsendable = make(map[int]bool)
				}
				m.unsendable[i] = true
			} else {
				op.Value = r.Bytes()
			}
		}
		m.ops = append(m.ops, op)
	}
	return m, parsed("chunk", r)
}

// pair is the body of the small frames with two numbers.
type pair struct{ id, n uint64 }

func (m pair) append() []byte {
	w := wire.NewWriter(nil)
	w.Array(2)
	w.Uint(m.id)
	w.Uint(m.n)
	return w.Out()
}

func parsePair(what string, b []byte) (m pair, err error) {
	r := newReader(b)
	r.ArrayN(2)
	m.id, m.n = r.Uint(), r.Uint()
	return m, parsed(what, r)
}

// syncResult is how a comparison ended at the follower.
type syncResult struct {
	id      uint64
	outcome string
	reason  string
}

func (m syncResult) append() []byte {
	w := wire.NewWriter(nil)
	w.Array(3)
	w.Uint(m.id)
	w.String(m.outcome)
	w.String(clip(m.reason))
	return w.Out()
}

func parseSyncResult(b []byte) (m syncResult, err error) {
	r := newReader(b)
	r.ArrayN(3)
	m.id = r.Uint()
	m.outcome = r.StringMax(32)
	m.reason = r.StringMax(maxReason)
	return m, parsed("sync result", r)
}
