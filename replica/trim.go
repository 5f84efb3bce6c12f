package replica

import (
	"context"
	"errors"
	"time"

	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

const (
	// trimEvery is how often the log is held against its bounds.
	trimEvery = 10 * time.Second
	// trimBytes bounds what is trimmed at once, and read for it in one view.
	trimBytes = 256 << 20
)

// keepTrimmed keeps the log within its bounds until ctx ends. It looks for the
// new beginning here, so that the writer only has to write it down.
func (m *Master) keepTrimmed(ctx context.Context) error {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			// The writer outlives this.
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			m.storeAging(last, m.aging, time.Now(), true)
			return context.Cause(ctx)
		}
		now := time.Now()
		m.aging.note(m.position().Offset, now)
		m.storeAging(ctx, m.aging, now, false)
		t, err := m.findTrim(m.aging.over(now))
		if err != nil {
			m.cfg.Logger.Warn("cannot trim the log", "error", err)
			continue
		}
		if t.bytes == 0 {
			continue
		}
		m.cfg.Logger.Info("trimming the log", "up_to", t.start.Offset, "bytes", t.bytes)
		if sendc(ctx, m.w.trimc, t) != nil {
			return context.Cause(ctx)
		}
	}
}

// cutOff is told by the writer that the log begins after start from now on, and
// not after before.
func (m *Master) cutOff(start, before uint64) {
	below := m.followers.below(start, before)
	if len(below) > 0 {
		m.cfg.Logger.Warn("the log was trimmed beyond where followers stand: a repair awaits them", "log_starts_at", start+1, "followers", len(below), "first", below[0])
	}
	if m.cfg.Observer.Trimmed != nil {
		m.cfg.Observer.Trimmed(start+1, below)
	}
}

// findTrim walks the log from its old end up to where it is within its bounds
// again, and some way further so that it does not have to be trimmed at once.
// What comes up to old is too old.
// The newest record always stays, unless it cannot be read. What cannot be read
// is passed over when it is in the way: the log then begins after a record
// beyond it, as where it begins has a fingerprint.
func (m *Master) findTrim(old uint64) (trim, error) {
	pub := m.w.state.Load()
	var over uint64
	if limit := uint64(max(0, m.cfg.LogBytes)); m.cfg.LogBytes >= 0 && pub.logBytes > limit {
		over = pub.logBytes - limit + limit/10
	}
	t := trim{start: pub.logStart}
	if pub.logStart.Offset == pub.pos.Offset {
		return t, nil // there is none
	}
	v, err := m.st.View()
	if err != nil {
		return trim{}, err
	}
	defer v.Close()
	passed := false
	done, err := walkLog(v, pub.logStart.Offset+1, pub.pos.Offset, func(rec stream.Record) (more bool, err error) {
		if rec.Last >= pub.pos.Offset || t.bytes > trimBytes {
			return false, nil
		}
		var c stream.Commit
		end := stream.Position{Epoch: pub.pos.Epoch} // after the record
		d := stream.NewDecoder(rec.Body)
		for first := true; d.Next(&c); first = false {
			if first && t.bytes >= over && c.Offset > old {
				return false, nil
			}
			end.Offset, end.Fingerprint = c.Offset, c.Fingerprint
		}
		if d.Err() != nil {
			return false, d.Err()
		}
		passed = passed || rec.First > t.start.Offset+1
		t.start = end
		t.bytes += uint64(len(rec.Body))
		return true, nil
	})
	switch {
	case err != nil:
		return trim{}, err
	case !done && (t.bytes < over || old >= pub.pos.Offset):
		m.cfg.Logger.Warn("the log cannot be read up to its end: it is trimmed as a whole", "after", t.start.Offset)
		return trim{start: pub.pos, bytes: pub.logBytes}, nil
	case !passed:
		return t, nil
	}
	// How much that removes nobody knows, but what is left can be counted.
	m.cfg.Logger.Warn("a part of the log cannot be read: it is trimmed over that", "up_to", t.start.Offset)
	var left uint64
	_, err = walkLog(v, t.start.Offset+1, pub.pos.Offset, func(rec stream.Record) (more bool, err error) {
		left += uint64(len(rec.Body))
		return rec.Last < pub.pos.Offset, nil
	})
	t.bytes = pub.logBytes - min(pub.logBytes, left)
	return t, err
}

// walkLog calls fn for the records of a log from an offset up to end, until it
// returns false, and then returns true. It passes over records that cannot be
// read, and those for which fn returns an error, trying ever further beyond them:
// so it may pass over as many again that could be read.
func walkLog(v store.View, next, end uint64, fn func(rec stream.Record) (more bool, err error)) (done bool, err error) {
	for step := uint64(1); next <= end; {
		last, bad := next-1, error(nil)
		err := v.Log(next, func(rec stream.Record) bool {
			var more bool
			if more, bad = fn(rec); bad == nil {
				last, done = rec.Last, !more
			}
			return more && bad == nil
		})
		switch {
		case done:
			return true, nil
		case err != nil && !errors.Is(err, store.ErrCorrupt):
			return false, err
		case last >= next:
			next, step = last+1, 1
		default:
			next, step = next+step, 2*step
		}
	}
	return false, nil
}
