package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/replica/store"
)

// An aging tells how old commits are without asking what day it is: the clock
// of the machine may be a day off, now or when a commit was made. It counts the
// time in which a master ran over the dataset, by the monotonic clock, and
// stores that count with the offsets that had been reached at some moments. So
// the time in which no master ran does not count. It is owned by keepTrimmed.
type aging struct {
	limit   time.Duration // of age; negative is none
	before  time.Duration // for how long masters ran before this one
	start   time.Time
	samples []aged // ascending
	stored  time.Duration
}

// An aged says that an offset had been reached when masters had run for so long.
type aged struct {
	offset uint64
	ran    time.Duration
}

const (
	agingRecord = "aging"
	// agingSteps is how finely ages are told: a commit goes at most that part of
	// the limit too late, never too early.
	agingSteps = 128
	// agingEvery is how often the count is stored. A crash loses as much of it.
	agingEvery = 10 * time.Minute
)

// loadAging reads what is stored, which is nothing in a new store.
func loadAging(v store.View, limit time.Duration, now time.Time) (*aging, error) {
	a := &aging{limit: limit, start: now}
	b, err := v.Record(agingRecord)
	if errors.Is(err, store.ErrNotFound) {
		return a, nil
	}
	if err != nil {
		return nil, err
	}
	r := newReader(b)
	n := r.Array()
	if r.Err() == nil && n == 0 {
		return nil, fmt.Errorf("%w: record %s is empty", store.ErrCorrupt, agingRecord)
	}
	a.before = time.Duration(r.UintMax(1 << 62))
	for i := 1; i+1 < n && r.Err() == nil; i += 2 {
		a.samples = append(a.samples, aged{offset: r.Uint(), ran: time.Duration(r.UintMax(1 << 62))})
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("%w: record %s: %w", store.ErrCorrupt, agingRecord, err)
	}
	a.stored = a.before
	meta, err := v.Meta()
	if err != nil {
		return nil, err
	}
	// A loss that was accepted took offsets back, which are given out anew.
	for len(a.samples) > 0 && a.samples[len(a.samples)-1].offset > meta.Position.Offset {
		a.samples = a.samples[:len(a.samples)-1]
	}
	return a, nil
}

func (a *aging) append() []byte {
	w := wire.NewWriter(nil)
	w.Array(1 + 2*len(a.samples))
	w.Uint(uint64(a.stored))
	for _, s := range a.samples {
		w.Uint(s.offset)
		w.Uint(uint64(s.ran))
	}
	return w.Out()
}

func (a *aging) ran(now time.Time) time.Duration { return a.before + now.Sub(a.start) }

// note notes that an offset has been reached now.
func (a *aging) note(offset uint64, now time.Time) {
	if a.limit < 0 {
		return
	}
	ran, n := a.ran(now), len(a.samples)
	if n > 0 && (offset <= a.samples[n-1].offset || ran-a.samples[n-1].ran < a.limit/agingSteps) {
		return
	}
	a.samples = append(a.samples, aged{offset, ran})
	// Of those that are over the limit the newest says all.
	for len(a.samples) > 1 && ran-a.samples[1].ran > a.limit {
		a.samples = a.samples[1:]
	}
}

// over returns the newest offset known to be older than the limit; 0 is none.
func (a *aging) over(now time.Time) (offset uint64) {
	for _, s := range a.samples {
		if a.limit < 0 || a.ran(now)-s.ran <= a.limit {
			break
		}
		offset = s.offset
	}
	return offset
}

// storeAging stores the count, now and then or at the end.
func (m *Master) storeAging(ctx context.Context, a *aging, now time.Time, end bool) {
	if ran := a.ran(now); a.limit >= 0 && (end || ran-a.stored >= agingEvery) {
		a.stored = ran
		rec := store.Record{Name: agingRecord, Value: a.append()}
		if _, err := m.w.do(ctx, &request{records: []store.Record{rec}}); err != nil {
			m.cfg.Logger.Debug("cannot store the age of the log", "error", err)
		}
	}
}
