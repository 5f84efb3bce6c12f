package stream

import (
	"errors"
	"fmt"

	"github.com/sdiff/sdiff/internal/wire"
)

// Bounds of a commit.
const (
	// MaxOps is the most ops of a commit.
	MaxOps = 50_000
	// MaxCommitBytes is the most that the ops of a commit may count, see Size.
	MaxCommitBytes = 3_500_000
	// MaxEncoded is the most bytes that the encoding of a commit within these
	// bounds takes. It leaves room for a header in a message of 4 MiB.
	MaxEncoded = 4<<20 - 4096
)

// opBytes is what an op counts beside its key and value. It is more than the
// up to five bytes before each of them that the encoding takes.
const opBytes = 16

// Size returns what ops count towards MaxCommitBytes: for each the bytes of
// its key, of its value, and 16.
func Size(ops []Op) int {
	n := 0
	for i := range ops {
		n += ops[i].size()
	}
	return n
}

func (op *Op) size() int {
	if op.Delete {
		return len(op.Key) + opBytes
	}
	return len(op.Key) + len(op.Value) + opBytes
}

// AppendCommit appends the encoding of a commit to w: an array of its offset,
// its time, the count and the sum of its fingerprint, and an array of all keys
// and values in turn, the value of a delete being nil. It keeps nothing of c
// and allocates nothing once w is warm.
//
// It panics if c breaks the bounds of a commit, which whoever takes ops from
// users has checked: what is encoded here is kept for ever, so nothing may be
// that a Decoder refuses.
func AppendCommit(w *wire.Writer, c *Commit) {
	if c.Offset == 0 || len(c.Ops) == 0 || len(c.Ops) > MaxOps {
		panic(fmt.Sprintf("BUG: stream: commit at offset %d with %d ops", c.Offset, len(c.Ops)))
	}
	w.Array(commitFields)
	w.Uint(c.Offset)
	w.Uint(c.Time)
	w.Uint(c.Fingerprint.Count)
	w.Uint(c.Fingerprint.Sum)
	w.Array(2 * len(c.Ops))
	size := 0
	for i := range c.Ops {
		op := &c.Ops[i]
		if len(op.Key) == 0 {
			panic(fmt.Sprintf("BUG: stream: commit at offset %d with an empty key", c.Offset))
		}
		w.Bytes(op.Key)
		if op.Delete {
			w.Nil()
		} else {
			w.Bytes(op.Value)
		}
		size += op.size()
	}
	if size > MaxCommitBytes {
		panic(fmt.Sprintf("BUG: stream: commit at offset %d counts %d bytes", c.Offset, size))
	}
}

// commitFields is how many elements the array of a commit has.
const commitFields = 5

// A Decoder decodes the commits of a record's body. Any bytes at all may be
// given to it: it takes memory in proportion to them and reports the first
// thing that is wrong with a *wire.Error inside its error.
type Decoder struct {
	r    wire.Reader
	last uint64 // offset of the commit before; 0: none yet
}

// NewDecoder returns a Decoder of the commits in body. It checks the body's
// encoding, all of it, at once, in time linear in its length.
func NewDecoder(body []byte) *Decoder {
	d := new(Decoder)
	d.r.Reset(body, wire.Limits{Depth: 2})
	return d
}

// Next decodes the next commit into c and reports whether there was one. It
// reuses c.Ops; keys and values are parts of the body. If there is none, or
// anything in it is wrong, c has no ops and is zero otherwise.
//
// Offsets ascend by one from commit to commit.
func (d *Decoder) Next(c *Commit) bool {
	*c = Commit{Ops: c.Ops[:0]}
	if !d.r.More() {
		return false
	}
	n := d.header(c)
	if cap(c.Ops) < n {
		c.Ops = make([]Op, 0, n)
	}
	size := 0
	for range n {
		at := d.r.Offset()
		op := Op{Key: d.r.Bytes()}
		if d.r.IsNil() {
			op.Delete = true
		} else {
			op.Value = d.r.Bytes()
		}
		size += op.size()
		switch {
		case len(op.Key) == 0:
			d.r.Fail(at, errKey)
		case size > MaxCommitBytes:
			d.r.Fail(at, errSize)
		}
		c.Ops = append(c.Ops, op)
	}
	if d.r.Err() != nil {
		*c = Commit{Ops: c.Ops[:0]}
		return false
	}
	return true
}

// header decodes a commit as far as the ops and returns how many follow: none
// if anything is wrong. So many are really there, at two bytes or more each.
func (d *Decoder) header(c *Commit) int {
	c.Offset = d.offset()
	c.Time = d.r.Field("time").Uint()
	c.Fingerprint.Count = d.r.Field("count").Uint()
	c.Fingerprint.Sum = d.r.Field("sum").Uint()
	at := d.r.Offset()
	n := d.r.Field("ops").ArrayMax(2 * MaxOps)
	if n == 0 || n%2 != 0 {
		d.r.Fail(at, wire.ErrRange)
	}
	if d.r.Err() != nil {
		return 0
	}
	return n / 2
}

// offset begins a commit and decodes its offset, which must follow the one
// before.
func (d *Decoder) offset() uint64 {
	d.r.Field("commit").ArrayN(commitFields)
	at := d.r.Offset()
	offset := d.r.Field("offset").Uint()
	if offset == 0 || d.last != 0 && offset != d.last+1 {
		d.r.Fail(at, errOffset)
	}
	d.last = offset
	return offset
}

// skip passes over the next commit as Next would, but looks at its offset
// only, and returns that; ok is false if there was none.
func (d *Decoder) skip() (offset uint64, ok bool) {
	if !d.r.More() {
		return 0, false
	}
	offset = d.offset()
	for range commitFields - 1 {
		d.r.Skip()
	}
	return offset, d.r.Err() == nil
}

// Err returns what was wrong with the body as far as it was decoded, or nil.
func (d *Decoder) Err() error {
	if err := d.r.Err(); err != nil {
		return fmt.Errorf("stream: decode commits: %w", err)
	}
	return nil
}

// Offset returns how many bytes of the body have been decoded.
func (d *Decoder) Offset() int { return d.r.Offset() }

var (
	errKey    = errors.New("empty key")
	errSize   = errors.New("commit is too large")
	errOffset = errors.New("offset does not follow")
)
