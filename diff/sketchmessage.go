package diff

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/merkle"
)

// Limits of the messages about sketches.
const (
	maxCells = 1 << 16 // of a part
	maxProbe = (probeRanges-1)*(2+probeBound) + 2*probeRanges
)

func (m *Message) appendSketch(w *wire.Writer) {
	w.Array(shapes[m.kind])
	w.Uint(uint64(m.kind))
	w.Uint(uint64(m.level))
	switch m.kind {
	case kindOpen:
		m.open.append(w)
	case kindCells:
		w.Bool(m.more)
		w.Uint(m.all.Count)
		w.Uint(m.all.Sum)
		w.Uint(uint64(m.ranges))
		w.Uint(uint64(m.groups))
		w.Uint(uint64(m.group))
		w.Uint(uint64(m.lo))
		w.Uint(uint64(m.hi))
		w.Bytes(m.data)
	case kindMore:
		w.Uint(uint64(m.hi))
		w.Uint(m.mask)
	case kindWant:
		w.Bool(m.more)
		w.Uint(uint64(m.n))
		w.Uint(uint64(m.width))
		w.Uint(uint64(m.k))
		w.Bytes(m.data)
	}
}

func (m *Message) readSketch(r *wire.Reader) {
	switch m.kind {
	case kindOpen:
		m.open = readOpening(r)
	case kindCells:
		m.more = r.Field("more").Bool()
		m.all.Count = r.Field("count").Uint()
		m.all.Sum = r.Field("sum").Uint()
		m.ranges = ranges(r.Field("ranges").UintMax(uint64(allRanges)))
		m.groups = int(r.Field("groups").UintMax(merkle.SketchParts))
		m.group = int(r.Field("group").UintMax(merkle.SketchParts - 1))
		m.lo = int(r.Field("first cell").UintMax(maxCells))
		m.hi = int(r.Field("cells to come").UintMax(maxCells))
		m.data = r.Field("cells").Bytes()
	case kindMore:
		m.hi = int(r.Field("cells").UintMax(maxCells))
		m.mask = r.Field("groups").Uint()
	case kindWant:
		m.more = r.Field("more").Bool()
		m.n = int(r.Field("number of hashes").UintMax(merkle.SketchParts * maxCells))
		m.width = int(r.Field("bits of a hash").UintMax(64))
		m.k = int(r.Field("lower bits").UintMax(63))
		m.data = r.Field("hashes").Bytes()
	}
}

// checkSketch checks what a message says by itself.
func (m *Message) checkSketch() error {
	fail := func(reason string) error { return &ParseError{Reason: reason} }
	switch m.kind {
	case kindOpen:
		if err := m.open.check(); err != nil {
			return err
		}
	case kindCells:
		n := len(m.data) / merkle.CellSize
		switch {
		case bits.OnesCount(uint(m.groups)) != 1 || m.group >= m.groups:
			return fail("a group that does not exist")
		case n == 0 || len(m.data)%merkle.CellSize != 0 || m.lo+n > m.hi:
			return fail("a number of cells out of range")
		}
	case kindMore:
		if m.hi == 0 || m.mask == 0 {
			return fail("a request for no cells")
		}
	case kindWant:
		// The first one of a message that is not the first is checked later.
		if m.width < leastWidth || m.k < leastRice || m.k >= m.width || m.n == 0 != (len(m.data) == 0) || !readRice(m.data, m.width, m.k, m.n, true, 0, nil) {
			return fail("hashes that are none, or not in ascending order")
		}
	}
	return nil
}

// sketchSize is size for the messages about sketches.
func (m *Message) sketchSize() int {
	n := 2 + uintSize(uint64(m.level))
	switch m.kind {
	case kindOpen:
		o := m.open
		return n + uintSize(o.all.Count) + uintSize(o.all.Sum) + uintSize(uint64(o.cells)) + bytesSize(len(o.counters)) + bytesSize(len(o.probe))
	case kindCells:
		n += 1 + uintSize(m.all.Count) + uintSize(m.all.Sum) + uintSize(uint64(m.ranges))
		return n + uintSize(uint64(m.groups)) + uintSize(uint64(m.group)) + uintSize(uint64(m.lo)) + uintSize(uint64(m.hi)) + bytesSize(len(m.data))
	case kindMore:
		return n + uintSize(uint64(m.hi)) + uintSize(m.mask)
	case kindWant:
		return n + 1 + uintSize(uint64(m.n)) + uintSize(uint64(m.width)) + uintSize(uint64(m.k)) + bytesSize(len(m.data))
	}
	return n // kindAgree
}

// sketchString is String for the messages about sketches.
func (m *Message) sketchString() string {
	var b strings.Builder
	fmt.Fprintf(&b, "level %d", m.level)
	if m.more {
		b.WriteString(", more follows")
	}
	b.WriteString("\n  ")
	switch m.kind {
	case kindOpen:
		o := m.open
		fmt.Fprintf(&b, "holds %d items, sum %x; %d cells a part, counters %x, probe %x", o.all.Count, o.all.Sum, o.cells, o.counters, o.probe)
	case kindCells:
		fmt.Fprintf(&b, "holds %d items, sum %x; ", m.all.Count, m.all.Sum)
		if m.ranges != 0 {
			fmt.Fprintf(&b, "ranges %b, ", m.ranges)
		}
		fmt.Fprintf(&b, "group %d of %d, cells from %d of %d: %x", m.group, m.groups, m.lo, m.hi, m.data)
	case kindMore:
		fmt.Fprintf(&b, "send cells up to %d of groups %x", m.hi, m.mask)
	case kindWant:
		fmt.Fprintf(&b, "lacks %d items, of which %d bits are told, %d and more each: %x", m.n, m.width, m.k, m.data)
	case kindAgree:
		b.WriteString("agreed")
	}
	return b.String()
}
