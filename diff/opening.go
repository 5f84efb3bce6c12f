package diff

import (
	"encoding/binary"

	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/merkle"
)

// An opening is what a side that keeps a sketch says first: so much of its items
// as the peer needs to choose how to compare.
type opening struct {
	all      merkle.Summary
	cells    int // of each part of the sketch
	counters merkle.Counters
	probe    []byte
}

// A probe cuts a side's items into so many ranges of about the same number of
// items, and has two bytes about each. It tells whether what differs lies all
// over the key space. A side with few items sends none.
const (
	probeRanges = 8
	probeItems  = 64 * probeRanges
	probeBound  = 32 // bytes of a bound, which any key may be: it is cut off
)

// newProbe returns the probe of a snapshot: first the bounds between the
// ranges, each as the length of what it has in common with the one before, that
// of the rest, and the rest; then the checks.
func newProbe(tree *merkle.Snapshot) []byte {
	n := tree.Summary().Count
	if n < probeItems {
		return nil
	}
	var out, last []byte
	bounds := make([][]byte, 0, probeRanges-1)
	for i := uint64(1); i < probeRanges; i++ {
		low, _, _ := tree.At(i*n/probeRanges - 1)
		high, _, _ := tree.At(i * n / probeRanges)
		bound := separator(low, high)
		bound = bound[:min(len(bound), probeBound)]
		shared := commonPrefix(last, bound)
		if i > 1 && shared == len(bound) {
			return nil // all begin with the same long bytes
		}
		out = binary.AppendUvarint(out, uint64(shared))
		out = binary.AppendUvarint(out, uint64(len(bound)-shared))
		out = append(out, bound[shared:]...)
		bounds = append(bounds, bound)
		last = bound
	}
	for _, c := range probeChecks(tree, bounds) {
		out = binary.BigEndian.AppendUint16(out, c)
	}
	return out
}

// probeChecks returns two bytes about each range of a probe.
func probeChecks(tree *merkle.Snapshot, bounds [][]byte) (checks [probeRanges]uint16) {
	eachRange(bounds, func(i int, lo, hi []byte) {
		sum := tree.Range(lo, hi)
		checks[i] = uint16((sum.Sum ^ sum.Count) * 0x9e3779b97f4a7c15 >> 48)
	})
	return checks
}

// eachRange calls fn for the ranges of a probe, in order.
func eachRange(bounds [][]byte, fn func(i int, lo, hi []byte)) {
	var lo []byte
	for i, hi := range bounds {
		fn(i, lo, hi)
		lo = hi
	}
	fn(len(bounds), lo, nil)
}

// readProbe reads a probe that is not empty.
func readProbe(b []byte) (bounds [][]byte, checks [probeRanges]uint16, err *ParseError) {
	r := newEntryReader(b)
	for range probeRanges - 1 {
		if r.readBound(); len(r.bound) > probeBound {
			r.fail(r.off, "the length of a bound is out of range")
		}
		bounds = append(bounds, append([]byte(nil), r.bound...))
	}
	rest := r.take(2 * probeRanges)
	if r.err == nil && r.off != len(b) {
		r.fail(r.off, "a probe is too long")
	}
	if r.err != nil {
		return nil, checks, r.err
	}
	for i := range checks {
		checks[i] = binary.BigEndian.Uint16(rest[2*i:])
	}
	return bounds, checks, nil
}

func (o *opening) append(w *wire.Writer) {
	w.Uint(o.all.Count)
	w.Uint(o.all.Sum)
	w.Uint(uint64(o.cells))
	w.Bytes(o.counters[:])
	w.Bytes(o.probe)
}

func readOpening(r *wire.Reader) *opening {
	o := &opening{}
	o.all.Count = r.Field("count").Uint()
	o.all.Sum = r.Field("sum").Uint()
	o.cells = int(r.Field("cells").UintMax(maxCells))
	copy(o.counters[:], r.Field("counters").BytesN(len(o.counters)))
	o.probe = r.Field("probe").BytesMax(maxProbe)
	return o
}

func (o *opening) check() *ParseError {
	if o.cells == 0 {
		return &ParseError{Reason: "a sketch without cells"}
	}
	if len(o.probe) == 0 {
		return nil
	}
	_, _, err := readProbe(o.probe)
	return err
}
