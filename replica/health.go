package replica

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sdiff/sdiff/replica/store"
)

// A pulse is what a writer shows of its health. It is safe for concurrent use.
type pulse struct {
	mu       sync.Mutex
	busy     time.Time // since when the write under way is; zero if none is
	readOnly string    // why the store refused the last write; empty if it took it
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
// news. An item that is too large for it is none.
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
	p.mu.Lock()
	defer p.mu.Unlock()
	news = p.readOnly != why
	p.readOnly = why
	return news
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

// probeEvery is how often a store that refuses writes is asked whether it takes
// them again, so that a master to which nobody writes does not seem read only
// for ever.
const probeEvery = 10 * time.Second

// watchHealth looks after the master's state until ctx ends.
func (m *Master) watchHealth(ctx context.Context) error {
	tick := time.NewTicker(m.cfg.Heartbeat)
	defer tick.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	probed := time.Now()
	for {
		select {
		case now := <-tick.C:
			m.express()
			if _, why := m.w.pulse.get(); why != "" && now.Sub(probed) >= probeEvery {
				probed = now
				wg.Go(func() {
					rec := store.Record{Name: rangesRecord}
					v, err := m.w.view(ctx)
					if err != nil {
						return
					}
					v.store.Close()
					rec.Value = appendRanges(v.tree, v.pos.Offset)
					// Whether it was taken the writer notes.
					_, _ = m.w.do(ctx, &request{records: []store.Record{rec}})
				})
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
