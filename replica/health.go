package replica

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sdiff/sdiff/replica/store"
)

// A pulse is what a writer shows of its health. It is safe for concurrent use.
type pulse struct {
	mu       sync.Mutex
	busy     time.Time // since when the write under way is; zero if none is
	readOnly string    // why the store refuses writes; empty if it took the last
	kind     error     // of that, if it is one that is known
}

func (p *pulse) get() (busy time.Time, readOnly string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.busy, p.readOnly
}

func (p *pulse) setBusy(since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = since
}

// refused notes whether the store takes writes, and reports whether that is
// news: who tells how many bytes are free says something else each time. An item
// that is too large for it is none.
func (p *pulse) refused(err error) (news bool) {
	why := ""
	if err != nil {
		var limit *store.LimitError
		var key *store.KeyError
		if errors.As(err, &limit) || errors.As(err, &key) {
			return false
		}
		why = "the store refuses writes: " + err.Error()
	}
	var kind error
	for _, k := range []error{store.ErrNoSpace, store.ErrNotWritable} {
		if errors.Is(err, k) {
			kind = k
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.readOnly == why || p.readOnly != "" && kind != nil && kind == p.kind {
		return false
	}
	p.readOnly, p.kind = why, kind
	return true
}

// express derives the state that others see of a master that runs.
func (m *Master) express() {
	m.expressing.Lock()
	defer m.expressing.Unlock()
	switch busy, readOnly := m.w.pulse.get(); {
	case !busy.IsZero() && time.Since(busy) > 2*m.cfg.Silence:
		m.life.set(Stalled, "a write has been under way since "+busy.Format(time.RFC3339))
	case readOnly != "":
		m.life.set(ReadOnly, readOnly)
	default:
		m.life.set(Serving, "")
	}
}

// How often a store that refuses writes is asked whether it takes them again, so
// that a master to which nobody writes does not seem read only for ever: one that
// can tell, and one that has to be given something to write.
const (
	roomEvery  = time.Second
	probeEvery = 10 * time.Second
)

// watchHealth looks after the master's state until ctx ends.
func (m *Master) watchHealth(ctx context.Context) error {
	tick := time.NewTicker(m.cfg.Heartbeat)
	defer tick.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	every, ask := probeEvery, m.probe
	if _, ok := m.st.(store.Roomer); ok {
		every, ask = roomEvery, m.askRoom
	}
	asked := time.Now()
	var asking atomic.Bool // a writer that hangs answers nobody
	for {
		select {
		case now := <-tick.C:
			m.express()
			if _, why := m.w.pulse.get(); why != "" && now.Sub(asked) >= every && !asking.Swap(true) {
				asked = now
				wg.Go(func() {
					ask(ctx)
					asking.Store(false)
				})
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// askRoom has the writer ask the store: an empty group does so.
func (m *Master) askRoom(ctx context.Context) {
	_, _ = m.w.do(ctx, &request{records: []store.Record{}})
}

// probe writes something. Whether it was taken the writer notes.
func (m *Master) probe(ctx context.Context) {
	v, err := m.w.view(ctx)
	if err != nil {
		return
	}
	v.store.Close()
	rec := store.Record{Name: rangesRecord, Value: appendRanges(v.tree, v.pos.Offset)}
	_, _ = m.w.do(ctx, &request{records: []store.Record{rec}})
}
