package replica_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// watchMaster watches the master through all its restarts, as a client would
// that remembers its bookmark, and holds every change against the ledger: in
// order, once, without a gap, commits whole, resumable.
func (w *world) watchMaster(ctx context.Context) {
	var at stream.Position // the bookmark: all of this commit was seen
	for ctx.Err() == nil {
		w.mu.Lock()
		m := w.m
		w.mu.Unlock()
		from := at.Offset + 1
		if m.Status().Epoch != at.Epoch.String() {
			from = 0 // another history, or the first look
		}
		err := w.watchOne(ctx, m, from, &at)
		switch {
		case errors.Is(err, replica.ErrTrimmed):
			w.counts.add("watch: trimmed")
			at = stream.Position{}
		case err != nil && ctx.Err() == nil && !errors.Is(err, replica.ErrClosed) && !errors.Is(err, store.ErrClosed):
			w.t.Errorf("watch: from %d: %v", from, err)
			return
		}
		pause(ctx, 100*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (w *world) watchOne(ctx context.Context, m *master, from uint64, at *stream.Position) error {
	next, op := from, 0
	for c, err := range m.Watch(ctx, from) {
		if err != nil {
			return err
		}
		if next == 0 {
			next = c.Position.Offset
		}
		w.ledger.mu.Lock()
		h := w.ledger.epochs[c.Position.Epoch]
		var want *stream.Op
		last := false
		if h != nil && next <= uint64(len(h.commits)) {
			ops := h.commits[next-1].ops
			want, last = &ops[op], op == len(ops)-1
		}
		w.ledger.mu.Unlock()
		if want == nil || c.Position.Offset != next || string(c.Key) != string(want.Key) || string(c.Value) != string(want.Value) || c.Delete != want.Delete || c.Last != last {
			w.t.Errorf("watch: got %s, want op %d of commit %d", text(c), op, next)
			return nil
		}
		w.counts.add("watch: change of the master")
		if op++; last {
			*at = c.Position
			next, op = next+1, 0
		}
		if op == 0 && next%100 == 0 {
			pause(ctx, 30*time.Second) // a slow reader falls off the tail, or the log
		}
	}
	return nil
}

// A mirror is what a watcher of a follower makes of the changes it sees: the
// copy, in the end.
type mirror struct {
	mu     sync.Mutex
	items  map[string]string
	loaded bool
}

// follow mirrors a follower until it ends. At the first change, and at each
// gap, it reads the copy anew, as the word gap says.
func (c *modelCopy) follow(f *follower, m *mirror) {
	for change, err := range f.Watch(context.Background(), 0) {
		if err != nil {
			if !errors.Is(err, replica.ErrClosed) {
				c.w.t.Errorf("%s: watch: %v", c.cfg.ID, err)
			}
			return
		}
		if change.Gap {
			c.w.counts.add("watch: gap")
		}
		m.mu.Lock()
		switch {
		case change.Gap || !m.loaded:
			m.items, m.loaded = map[string]string{}, true
			for item, err := range f.Ascend(context.Background(), nil, nil) {
				if err != nil {
					m.loaded = false // the store is gone; so is the follower
					break
				}
				m.items[string(item.Key)] = string(item.Value)
			}
		case change.Delete:
			delete(m.items, string(change.Key))
		default:
			m.items[string(change.Key)] = string(change.Value)
		}
		m.mu.Unlock()
	}
}

// checkMirror holds the mirror against the copy, when all is quiet.
func (c *modelCopy) checkMirror() {
	c.mirror.mu.Lock()
	defer c.mirror.mu.Unlock()
	if !c.mirror.loaded {
		return
	}
	c.w.counts.add("watch: mirror of a copy")
	if want := contents(c.w.t, c.st); !maps.Equal(c.mirror.items, want) {
		differ := 0
		for k, v := range want {
			if got, ok := c.mirror.items[k]; got != v || !ok {
				differ++
			}
		}
		c.w.t.Errorf("%s: a watcher has %d items, the copy %d, of which %d differ", c.cfg.ID, len(c.mirror.items), len(want), differ)
	}
}
