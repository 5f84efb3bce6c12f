package replica

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// Watch yields every op of every commit from offset from on, in order, without
// a gap, and goes on as commits come, until ctx ends. From zero it begins with
// the next commit. ErrTrimmed says that the log no longer holds the offset,
// ErrAhead that it lies beyond the next commit. A watcher that is slow costs
// the master nothing; one that is slower than the log is trimmed ends with
// ErrTrimmed, and one that meets a hole in a damaged log with store.ErrCorrupt.
// An error is the last thing it yields.
func (m *Master) Watch(ctx context.Context, from uint64) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		if err := m.watch(ctx, from, yield); err != nil {
			yield(Change{}, err)
		}
	}
}

// errStopped says that the consumer has left.
var errStopped = errors.New("stopped")

func (m *Master) watch(ctx context.Context, from uint64, yield func(Change, error) bool) error {
	if err := m.ready(ctx); err != nil {
		return err
	}
	pub := m.w.state.Load()
	if from == 0 {
		from = pub.pos.Offset + 1
	}
	if from > pub.pos.Offset+1 {
		return fmt.Errorf("%w: offset %d, the next commit is %d", ErrAhead, from, pub.pos.Offset+1)
	}
	for next := from; ; {
		changed := m.w.tail.Changed()
		recs, err := m.records(next)
		if err != nil {
			return err
		}
		for _, rec := range recs {
			if err := yieldRecord(pub.pos.Epoch, rec, yield); err != nil {
				if errors.Is(err, errStopped) {
					return nil
				}
				return err
			}
			next = rec.Last + 1
		}
		if len(recs) > 0 && ctx.Err() == nil {
			continue
		}
		select {
		case <-changed:
		case <-m.endedc:
			return ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// records returns some of the records from offset on, from the tail or, where
// that is too short, from the store.
func (m *Master) records(from uint64) ([]stream.Record, error) {
	if recs, ok := m.w.tail.Read(from, outboundBytes); ok {
		return recs, nil
	}
	if start := m.w.state.Load().logStart.Offset; from <= start {
		return nil, fmt.Errorf("%w: asked for %d, the log starts at %d", ErrTrimmed, from, start+1)
	}
	v, err := m.st.View()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	var recs []stream.Record
	var bad error
	next, bytes := from, 0
	newest := m.position().Offset // what is stored beyond it is not told yet
	err = v.Log(from, func(rec stream.Record) bool {
		if rec.First > newest || rec.First > from && len(recs) == 0 {
			return false // at its beginning: trimmed meanwhile
		}
		if rec, bad = rec.From(next); bad != nil {
			return false
		}
		recs = append(recs, rec)
		next = rec.Last + 1
		bytes += len(rec.Body)
		return bytes < outboundBytes
	})
	if len(recs) > 0 {
		return recs, nil // what is wrong behind them is met next
	}
	if err = errors.Join(err, bad); err == nil {
		err = errors.New("it is not there")
	}
	switch start := m.w.state.Load().logStart.Offset; {
	case from <= start:
		return nil, fmt.Errorf("%w: asked for %d, the log starts at %d", ErrTrimmed, from, start+1)
	case errors.Is(err, store.ErrClosed):
		return nil, err
	}
	return nil, fmt.Errorf("%w: the log cannot be read at %d: %w", store.ErrCorrupt, from, err)
}

func yieldRecord(epoch stream.Epoch, rec stream.Record, yield func(Change, error) bool) error {
	d := stream.NewDecoder(rec.Body)
	var c stream.Commit
	for d.Next(&c) {
		pos := stream.Position{Epoch: epoch, Offset: c.Offset, Fingerprint: c.Fingerprint}
		if !yieldOps(pos, c.Ops, false, yield) {
			return errStopped
		}
	}
	return d.Err()
}

func yieldOps(pos stream.Position, ops []stream.Op, repair bool, yield func(Change, error) bool) bool {
	for i, op := range ops {
		if !yield(Change{Position: pos, Key: op.Key, Value: op.Value, Delete: op.Delete, Last: i == len(ops)-1, Repair: repair}, nil) {
			return false
		}
	}
	return true
}

// feedBytes bounds what a follower keeps for its watchers.
const feedBytes = 16 << 20

// A fed is what a follower has applied at once: a commit, a piece of a repair,
// or the word that there is a gap.
type fed struct {
	pos    stream.Position
	ops    []stream.Op
	repair bool
	gap    bool
}

// A feed is the newest of what a follower applied, kept only while somebody
// watches. It is safe for concurrent use; the loop adds, watchers read.
type feed struct {
	watchers atomic.Int32

	mu    sync.Mutex
	first uint64 // number of entries[0]; entries are numbered from 1
	list  []fed
	lost  stream.Position // of the newest entry dropped before list
	bytes int
	ended bool
	newc  chan struct{}
}

func (f *feed) init() { f.first, f.newc = 1, make(chan struct{}) }

// wanted reports whether anybody watches.
func (f *feed) wanted() bool { return f.watchers.Load() > 0 }

// add appends entries and drops the oldest beyond the bound.
func (f *feed) add(entries []fed) {
	if len(entries) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watchers.Load() == 0 {
		f.first += uint64(len(f.list) + len(entries))
		f.list, f.bytes = nil, 0
		f.lost = entries[len(entries)-1].pos
		return
	}
	for _, e := range entries {
		f.bytes += stream.Size(e.ops)
	}
	f.list = append(f.list, entries...)
	for len(f.list) > 1 && f.bytes > feedBytes {
		f.bytes -= stream.Size(f.list[0].ops)
		f.lost = f.list[0].pos
		f.list[0] = fed{}
		f.list = f.list[1:]
		f.first++
	}
	close(f.newc)
	f.newc = make(chan struct{})
}

func (f *feed) gap(pos stream.Position) {
	if f.wanted() {
		f.add([]fed{{pos: pos, gap: true}})
	}
}

func (f *feed) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	close(f.newc)
	f.newc = make(chan struct{})
}

// read returns entry n, or a channel that is closed when there may be one. If
// it was dropped, that is a gap, at the position after which the oldest there
// is goes on; next is its number.
func (f *feed) read(n uint64) (e fed, next uint64, wait <-chan struct{}, ended bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case n < f.first:
		return fed{pos: f.lost, gap: true}, f.first, nil, false
	case n >= f.first+uint64(len(f.list)):
		return fed{}, n, f.newc, f.ended
	}
	return f.list[n-f.first], n + 1, nil, false
}

// Watch yields what the copy applies from now on, until ctx ends: the ops of
// commits, those of repairs, marked so, and an explicit gap where something
// was missed because the watcher was too slow or the copy jumped. A follower
// keeps no log, so from must be zero; otherwise Watch yields ErrTrimmed. An
// error is the last thing it yields.
func (f *Follower) Watch(ctx context.Context, from uint64) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		if err := f.watch(ctx, from, yield); err != nil {
			yield(Change{}, err)
		}
	}
}

func (f *Follower) watch(ctx context.Context, from uint64, yield func(Change, error) bool) error {
	if err := f.ready(ctx); err != nil {
		return err
	}
	if from != 0 {
		return fmt.Errorf("%w: a follower keeps no log, it can be watched from now on only", ErrTrimmed)
	}
	f.feed.watchers.Add(1)
	defer f.feed.watchers.Add(-1)
	next := f.feed.next()
	for {
		e, n, wait, ended := f.feed.read(next)
		switch {
		case wait == nil && e.gap:
			if !yield(Change{Position: e.pos, Gap: true}, nil) {
				return nil
			}
		case wait == nil:
			if !yieldOps(e.pos, e.ops, e.repair, yield) {
				return nil
			}
		case ended:
			return ErrClosed
		}
		next = n
		if wait == nil && ctx.Err() == nil {
			continue
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// next returns the number that the next entry will have.
func (f *feed) next() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.first + uint64(len(f.list))
}
