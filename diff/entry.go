package diff

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"

	"github.com/sdiff/sdiff/merkle"
)

// The kinds of entries. ONLY APPEND: the numbers are on the wire, in the two
// low bits of an entry's head.
const (
	entrySummary = 0 // uvarint count, 8 bytes sum: a part of the range in question
	entryList    = 1 // uvarint n, n times 8 bytes: the hashes of all items in it
	entryAsk     = 2 // nothing: list your items of it
	entryVerdict = 3 // uvarint n, n bytes: which of the items you listed I lack
)

// Bits of an entry's head, a uvarint: kind | part | skip<<3.
const (
	headKind = 3
	// headPart says that a bound follows, at which this part ends; the next
	// entry is the next part of the same range. Only summaries have it. The
	// last part ends where the range ends, and has no bound.
	headPart = 4
	headSkip = 3 // bits to shift
)

// An entry is one statement of a level. It is about the next range that the
// peer's level before asked about, after skip ones that need no answer because
// they hold the same on both sides.
type entry struct {
	kind uint8
	part bool // another part of the same range follows
	skip uint64
	// bound is the first key after the part, if part is true. It is valid
	// until the next entry is read.
	bound []byte
	// summary is what the sender holds in the part. The count is never zero.
	summary merkle.Summary
	// data are the packed hashes of a list, in key order, or the bitmap of a
	// verdict: bit i%8 of byte i/8 stands for the i-th listed item. The
	// bitmap's last byte is not zero.
	data []byte
}

// String returns the entry for transcripts.
func (e *entry) String() string {
	var b strings.Builder
	if e.skip > 0 {
		fmt.Fprintf(&b, "skip %d, ", e.skip)
	}
	switch e.kind {
	case entrySummary:
		if e.part {
			fmt.Fprintf(&b, "to %q: ", e.bound)
		} else {
			b.WriteString("to the end: ")
		}
		fmt.Fprintf(&b, "%d items, sum %x", e.summary.Count, e.summary.Sum)
	case entryList:
		b.WriteString("holds")
		for i := 0; i < len(e.data); i += 8 {
			fmt.Fprintf(&b, " %x", binary.BigEndian.Uint64(e.data[i:]))
		}
		if len(e.data) == 0 {
			b.WriteString(" nothing")
		}
	case entryAsk:
		b.WriteString("list yours")
	case entryVerdict:
		b.WriteString("lacks")
		for i := range setBits(e.data) {
			fmt.Fprintf(&b, " #%d", i)
		}
	}
	return b.String()
}

// setBits yields the numbers of the bits that are set, ascending.
func setBits(bitmap []byte) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for i, b := range bitmap {
			for ; b != 0; b &= b - 1 {
				if !yield(i*8 + bits.TrailingZeros8(b)) {
					return
				}
			}
		}
	}
}

// An entryWriter packs entries.
type entryWriter struct {
	out   []byte
	bound []byte // the last bound written; empty at the start of a message
}

func (w *entryWriter) head(kind uint64, skip uint64) {
	w.out = binary.AppendUvarint(w.out, skip<<headSkip|kind)
}

// summary writes one part of a range. A nil bound makes it the last.
func (w *entryWriter) summary(skip uint64, bound []byte, s merkle.Summary) {
	if bound == nil {
		w.head(entrySummary, skip)
	} else {
		w.head(entrySummary|headPart, skip)
		shared := commonPrefix(w.bound, bound)
		w.out = binary.AppendUvarint(w.out, uint64(shared))
		w.out = binary.AppendUvarint(w.out, uint64(len(bound)-shared))
		w.out = append(w.out, bound[shared:]...)
		w.bound = append(w.bound[:shared], bound[shared:]...)
	}
	w.out = binary.AppendUvarint(w.out, s.Count)
	w.out = binary.BigEndian.AppendUint64(w.out, s.Sum)
}

// list writes the head of a list of n hashes, which the caller appends.
func (w *entryWriter) list(skip uint64, n uint64) {
	w.head(entryList, skip)
	w.out = binary.AppendUvarint(w.out, n)
}

func (w *entryWriter) ask(skip uint64) { w.head(entryAsk, skip) }

func (w *entryWriter) verdict(skip uint64, bitmap []byte) {
	w.head(entryVerdict, skip)
	w.out = binary.AppendUvarint(w.out, uint64(len(bitmap)))
	w.out = append(w.out, bitmap...)
}

// An entryReader reads packed entries and refuses any that an entryWriter
// would not have written. It allocates nothing but the longest bound.
type entryReader struct {
	in    []byte
	off   int
	entry entry
	bound []byte // the last bound read
	open  bool   // the last entry was a part that another must follow
	began bool   // an entry has been read
	err   *ParseError
}

func newEntryReader(b []byte) *entryReader { return &entryReader{in: b} }

// next reads one entry into r.entry and reports whether there was one.
func (r *entryReader) next() bool {
	if r.err != nil || r.off == len(r.in) {
		return false
	}
	start := r.off
	head := r.uvarint()
	e := &r.entry
	*e = entry{kind: uint8(head & headKind), part: head&headPart != 0, skip: head >> headSkip}
	inside := r.open
	switch {
	case r.err != nil:
		return false
	case e.part && e.kind != entrySummary:
		return r.fail(start, "a bound where none belongs")
	case inside && (e.kind != entrySummary || e.skip != 0):
		return r.fail(start, "a range without its last part")
	case r.began && !inside && e.kind == entrySummary && !e.part:
		return r.fail(start, "a range of one part")
	}
	if e.part {
		r.readBound()
	}
	r.open, r.began = e.part, true
	switch e.kind {
	case entrySummary:
		r.readSummary()
	case entryList:
		r.readList()
	case entryVerdict:
		r.readVerdict()
	}
	return r.err == nil
}

// readBound reads a bound, which must be greater than the one before it in
// this message and share with it as much as is said, no less.
func (r *entryReader) readBound() {
	start := r.off
	shared, n := r.uvarint(), r.uvarint()
	switch {
	case r.err != nil:
		return
	case shared > uint64(len(r.bound)) || n == 0 || n > maxBound || shared+n > maxBound:
		r.fail(start, "the length of a bound is out of range")
		return
	}
	suffix := r.take(int(n))
	if r.err != nil {
		return
	}
	if int(shared) < len(r.bound) && suffix[0] <= r.bound[shared] {
		r.fail(start, "bounds do not ascend, or are not in their shortest form")
		return
	}
	r.bound = append(r.bound[:shared], suffix...)
	r.entry.bound = r.bound
}

func (r *entryReader) readSummary() {
	start := r.off
	r.entry.summary.Count = r.uvarint()
	if sum := r.take(8); r.err == nil {
		r.entry.summary.Sum = binary.BigEndian.Uint64(sum)
	}
	if r.err == nil && r.entry.summary.Count == 0 {
		r.fail(start, "a summary of nothing")
	}
}

func (r *entryReader) readList() {
	start := r.off
	n := r.uvarint()
	if r.err == nil && n > maxItems {
		r.fail(start, "too many items in a list")
	}
	r.entry.data = r.take(int(n) * 8)
}

func (r *entryReader) readVerdict() {
	start := r.off
	n := r.uvarint()
	if r.err == nil && (n == 0 || n > maxItems/8) {
		r.fail(start, "the length of a verdict is out of range")
	}
	r.entry.data = r.take(int(n))
	if r.err == nil && r.entry.data[n-1] == 0 {
		r.fail(start, "a verdict is not in its shortest form")
	}
}

func (r *entryReader) uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.in[r.off:])
	if n <= 0 || n > 1 && r.in[r.off+n-1] == 0 {
		r.fail(r.off, "a number is cut off or not in its shortest form")
		return 0
	}
	r.off += n
	return v
}

// take returns the next n bytes, a part of the input.
func (r *entryReader) take(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n > len(r.in)-r.off {
		r.fail(r.off, "an entry is cut off")
		return nil
	}
	b := r.in[r.off : r.off+n : r.off+n]
	r.off += n
	return b
}

// fail notes the first thing that is wrong; it returns false.
func (r *entryReader) fail(offset int, reason string) bool {
	if r.err == nil {
		r.err = &ParseError{Offset: offset, Reason: reason}
	}
	return false
}

// commonPrefix returns how many bytes a and b begin with in common.
func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// separator returns the shortest key s with low < s <= high: a prefix of high.
func separator(low, high []byte) []byte {
	if bytes.Compare(low, high) >= 0 {
		panic("BUG: diff: keys of a snapshot do not ascend")
	}
	return high[:commonPrefix(low, high)+1]
}
