package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
)

// What a master remembers of its dataset in pieces, so that damage found at
// open can be told from where it lies: the summaries of some thousand ranges
// at one offset, stored on a clean stop and now and then.
const (
	rangesRecord = "ranges"
	manyRanges   = 4096
	rangesBytes  = 400 << 10 // a record is smaller than that; long keys make fewer ranges
	rangesEvery  = 5 * time.Minute
	namedRanges  = 5 // of the ranges that no longer hold, the first so many are named
)

// A ranged is the summary of the keys from lo up to the next one's lo.
type ranged struct {
	lo  []byte
	sum merkle.Summary
}

// appendRanges encodes the summaries of the dataset in pieces, at an offset.
func appendRanges(t *merkle.Snapshot, offset uint64) []byte {
	for n := uint64(manyRanges); ; n /= 2 {
		list := cutRanges(t, n)
		w := wire.NewWriter(nil)
		w.Array(2)
		w.Uint(offset)
		w.Array(3 * len(list))
		for _, r := range list {
			w.Bytes(r.lo)
			w.Uint(r.sum.Count)
			w.Uint(r.sum.Sum)
		}
		if out := w.Out(); len(out) <= rangesBytes || n == 1 {
			return out
		}
	}
}

// cutRanges cuts all keys into at most n ranges of about as many items each.
func cutRanges(t *merkle.Snapshot, n uint64) []ranged {
	total := t.Summary().Count
	n = max(1, min(n, total))
	los := [][]byte{nil}
	for i := uint64(1); i < n; i++ {
		if key, _, ok := t.At(i * total / n); ok {
			los = append(los, bytes.Clone(key))
		}
	}
	list := make([]ranged, 0, len(los))
	for i, lo := range los {
		var hi []byte
		if i+1 < len(los) {
			hi = los[i+1]
		}
		list = append(list, ranged{lo, t.Range(lo, hi)})
	}
	return list
}

func parseRanges(b []byte) (list []ranged, offset uint64, err error) {
	r := newReader(b)
	r.ArrayN(2)
	offset = r.Uint()
	n := r.Array()
	for i := 0; i+2 < n && r.Err() == nil; i += 3 {
		list = append(list, ranged{lo: r.Bytes(), sum: merkle.Summary{Count: r.Uint(), Sum: r.Uint()}})
	}
	return list, offset, r.Close()
}

// whereDamaged says which of the stored range summaries the rebuilt tree no
// longer has. It says nothing where none are stored.
func whereDamaged(v store.View, t *merkle.Tree, at uint64) string {
	b, err := v.Record(rangesRecord)
	if errors.Is(err, store.ErrNotFound) {
		return "no range summaries are stored"
	}
	var list []ranged
	var offset uint64
	if err == nil {
		list, offset, err = parseRanges(b)
	}
	if err != nil {
		return fmt.Sprintf("the stored range summaries cannot be read: %v", err)
	}
	var named []string
	bad := 0
	for i, r := range list {
		var hi []byte
		if i+1 < len(list) {
			hi = list[i+1].lo
		}
		now := t.Range(r.lo, hi)
		if now == r.sum {
			continue
		}
		if bad++; len(named) < namedRanges {
			named = append(named, fmt.Sprintf("%q to %q (%d keys, had %d)", clipKey(r.lo), clipKey(hi), now.Count, r.sum.Count))
		}
	}
	if bad == 0 && offset < at {
		return fmt.Sprintf("the keys are what they were at offset %d, of which all %d range summaries hold; what is wrong was written after that", offset, len(list))
	}
	if bad == 0 {
		return fmt.Sprintf("all %d range summaries of offset %d hold: the keys are those of that offset", len(list), offset)
	}
	s := fmt.Sprintf("%d of %d stored range summaries no longer hold", bad, len(list))
	if offset != at {
		s += fmt.Sprintf(" (they are of offset %d, the store is at %d: some may have been written since)", offset, at)
	}
	return s + ": " + strings.Join(named, ", ")
}

// clipKey keeps what is named of a key short.
func clipKey(k []byte) []byte { return k[:min(len(k), 40)] }

// keepRanges stores the range summaries now and then, until ctx ends.
func (m *Master) keepRanges(ctx context.Context) error {
	tick := time.NewTicker(rangesEvery)
	defer tick.Stop()
	stored := m.position().Offset
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if m.position().Offset == stored {
			continue
		}
		v, err := m.w.view(ctx)
		if err != nil {
			continue
		}
		v.store.Close()
		stored = v.pos.Offset
		rec := store.Record{Name: rangesRecord, Value: appendRanges(v.tree, stored)}
		if _, err := m.w.do(ctx, &request{records: []store.Record{rec}}); err != nil {
			m.cfg.Logger.Debug("cannot store the range summaries", "error", err)
		}
	}
}
