//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/replica"
)

// The keys of TestChaos. What begins with smallPrefix fits one page of a list,
// so that a list of it is one state; the ballast makes comparisons and repairs
// worth the name.
const (
	smallPrefix = "k/"
	singles     = 500
	groups      = 25
	ballast     = 1200
	giants      = 6
)

func singleKey(r *rand.Rand) string { return fmt.Sprintf("k/s%03d", r.IntN(singles)) }

// hot draws a group, half of the time the same: who looks at it often enough
// sees it half written, if that can be.
func hot(r *rand.Rand) int {
	if r.IntN(2) == 0 {
		return 0
	}
	return r.IntN(groups)
}

func groupKey(group, member int) string { return fmt.Sprintf("k/g%02d/member/%d", group, member) }

// ballastKey returns a key and the class of its values.
func ballastKey(r *rand.Rand) (string, int) {
	if r.IntN(150) == 0 {
		return fmt.Sprintf("b/giant%d", r.IntN(giants)), 5 + r.IntN(3)
	}
	return fmt.Sprintf("b/%05d", r.IntN(ballast)), 3 + r.IntN(2)
}

// A traffic is what goes on in a round beside the faults: clients that write,
// and readers that look at every replica.
type traffic struct {
	c    *cluster
	h    *hist
	stop context.CancelFunc // ends the readers
	quit context.CancelFunc // ends the writers
	wg   sync.WaitGroup
	pens sync.WaitGroup
}

const writers = 4

// begin starts the clients and readers of a round. Seeds make what they do.
func (c *cluster) begin(h *hist, nextWrite func() int64) *traffic {
	t := &traffic{c: c, h: h}
	var reading, writing context.Context
	reading, t.stop = context.WithCancel(context.Background())
	writing, t.quit = context.WithCancel(context.Background())
	for range writers {
		r := rand.New(rand.NewPCG(c.rng.Uint64(), 1))
		t.pens.Go(func() {
			for writing.Err() == nil {
				t.write(writing, r, nextWrite())
				pause(writing, time.Duration(1+r.IntN(30))*time.Millisecond)
			}
		})
	}
	for _, n := range c.nodes {
		r := rand.New(rand.NewPCG(c.rng.Uint64(), 2))
		t.wg.Go(func() {
			for reading.Err() == nil {
				t.look(reading, n, r)
				pause(reading, time.Duration(20+r.IntN(160))*time.Millisecond)
			}
		})
		t.wg.Go(func() {
			for reading.Err() == nil {
				t.watch(reading, n)
				pause(reading, 10*time.Millisecond)
			}
		})
	}
	return t
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// ops draws the ops of one write.
func drawOps(r *rand.Rand, id int64) (ops []histOp) {
	put := func(key string, class int) { ops = append(ops, histOp{key, valID(id, len(ops), class)}) }
	switch n := r.IntN(100); {
	case n < 40:
		put(singleKey(r), r.IntN(3))
	case n < 55:
		ops = append(ops, histOp{singleKey(r), valAbsent})
	case n < 80: // a group, whole; now and then it goes
		g, del := hot(r), r.IntN(6) == 0
		for i := range groupKeys {
			if del {
				ops = append(ops, histOp{groupKey(g, i), valAbsent})
			} else {
				put(groupKey(g, i), r.IntN(2))
			}
		}
	case n < 95: // some keys that lie far apart
		for range 2 + r.IntN(20) {
			key, class := ballastKey(r)
			if r.IntN(8) == 0 {
				ops = append(ops, histOp{key, valAbsent})
			} else {
				put(key, class)
			}
			put(singleKey(r), 0)
		}
	default:
		put(ballastKey(r))
	}
	return ops
}

// toControl returns ops as the control socket takes them.
func toControl(ops []histOp) []control.Op {
	out := make([]control.Op, len(ops))
	for i, op := range ops {
		out[i] = control.Op{Key: []byte(op.key), Delete: op.val == valAbsent}
		if op.val != valAbsent {
			out[i].Value = valBytes(op.val)
		}
	}
	return out
}

// write makes one write, if there is a master, and records how it ended.
func (t *traffic) write(ctx context.Context, r *rand.Rand, id int64) {
	t.c.writes.RLock()
	defer t.c.writes.RUnlock()
	for _, n := range t.c.nodes {
		if p := n.running.Load(); p != nil && p.master {
			t.writeTo(ctx, p, id, drawOps(r, id))
			return
		}
	}
}

func (t *traffic) writeTo(_ context.Context, p *running, id int64, ops []histOp) {
	// A write that is under way when the round's writing ends is waited for.
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	w := &histWrite{id: id, ops: ops, start: t.h.next()}
	pos, err := p.Write(ctx, toControl(ops))
	w.end = t.h.next()
	switch {
	case err == nil:
		w.outcome, w.epoch, w.offset, w.print = writeAcked, pos.Epoch, pos.Offset, pos.Fingerprint
	case refused(err):
		w.outcome = writeFailed
	}
	t.h.addWrite(w)
}

// refused reports whether an error says that a write was not made, and will not
// be.
func refused(err error) bool {
	e, ok := errors.AsType[*control.Error](err)
	if !ok {
		return false
	}
	switch e.Code {
	case control.Unreachable, control.Usage, control.BadKey, control.TooLarge, control.WrongRole, control.Busy, control.ReadOnly:
		return true
	}
	return false
}

// is reports whether the process that answers in a node's directory is this
// one: a client only knows the directory.
func (r *running) is(ctx context.Context) bool {
	info, err := r.Info(ctx)
	return err == nil && info.PID == r.ready.PID
}

// look takes one sample of a node: a list of the small keys, of all keys, or
// some single ones.
func (t *traffic) look(ctx context.Context, n *node, r *rand.Rand) {
	p := n.running.Load()
	if p == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	s := &histSample{node: n.i, master: p.master, start: t.h.next()}
	if !p.is(ctx) || !p.status(ctx, &s.before) {
		return
	}
	ok := true
	switch n := r.IntN(100); {
	case n < 15:
		t.burst(ctx, p, s, r)
		return
	case n < 70:
		s.prefix, s.whole = smallPrefix, true
		s.items, ok = t.list(ctx, p, smallPrefix)
	case n < 75:
		s.pages = true
		s.items, ok = t.list(ctx, p, "")
	default:
		for range 8 {
			key := singleKey(r)
			if r.IntN(2) == 0 {
				key, _ = ballastKey(r)
			}
			ok = ok && t.get(ctx, p, s, key)
		}
	}
	if ok && p.status(ctx, &s.after) && p.is(ctx) {
		t.h.addSample(s)
	}
}

// burst looks at single groups in quick succession, to see one half written.
func (t *traffic) burst(ctx context.Context, p *running, first *histSample, r *rand.Rand) {
	var seen []*histSample
	for range 40 {
		s := *first
		s.prefix, s.whole = fmt.Sprintf("k/g%02d/", hot(r)), true
		items, ok := t.list(ctx, p, s.prefix)
		if !ok {
			return
		}
		s.items = items
		seen = append(seen, &s)
	}
	var after histStatus
	if !p.status(ctx, &after) || !p.is(ctx) {
		return
	}
	for _, s := range seen {
		s.after = after
		t.h.addSample(s)
	}
}

func (r *running) status(ctx context.Context, st *histStatus) bool {
	s, err := r.Status(ctx)
	if err != nil {
		return false
	}
	*st = toHistStatus(r.serial, s)
	return true
}

func toHistStatus(process int, s replica.Status) histStatus {
	st := histStatus{process: process, epoch: s.Epoch, offset: s.Offset, own: s.Fingerprint, master: s.Master, complete: s.Complete, inSync: s.InSync != nil && *s.InSync}
	if s.LastRepair != nil {
		st.repair = s.LastRepair.Start.String()
	}
	return st
}

// list lists what begins with a prefix. ok is false if it broke off.
func (t *traffic) list(ctx context.Context, p *running, prefix string) (items []histOp, ok bool) {
	for it, err := range p.List(ctx, control.List{Prefix: []byte(prefix), Values: true}) {
		if err != nil {
			return nil, false
		}
		items = append(items, histOp{t.h.key(it.Key), valParse(it.Value)})
	}
	return items, true
}

// get adds one key to a sample.
func (t *traffic) get(ctx context.Context, p *running, s *histSample, key string) bool {
	v, err := p.Get(ctx, []byte(key))
	if e, ok := errors.AsType[*control.Error](err); ok && e.Code == control.NotFound {
		s.items = append(s.items, histOp{t.h.key([]byte(key)), valAbsent})
		return true
	}
	if err == nil {
		s.items = append(s.items, histOp{t.h.key([]byte(key)), valParse(v)})
	}
	return err == nil
}

// watch records one watch of a node, to its end.
func (t *traffic) watch(ctx context.Context, n *node) {
	p := n.running.Load()
	if p == nil || !p.is(ctx) {
		return
	}
	w := &histWatch{node: n.i, master: p.master}
	if w.master {
		w.from = t.c.mark.next()
	}
	for ch, err := range p.Watch(ctx, control.Watch{From: w.from}) {
		if err != nil {
			if e, ok := errors.AsType[*control.Error](err); ok {
				w.err = string(e.Code)
			}
			break
		}
		if len(w.events) == 0 && !p.is(ctx) {
			return // it is the next process already
		}
		e := histEvent{epoch: ch.Epoch, offset: ch.Offset, last: ch.Last, repair: ch.Repair, gap: ch.Gap}
		if !e.gap {
			e.op.key = t.h.key(ch.Key)
			if !ch.Delete {
				e.op.val = valParse(ch.Value)
			}
		}
		if w.events = append(w.events, e); w.master && e.last {
			t.c.mark.set(p.serial, e.offset+1)
		}
	}
	if w.err == string(control.Trimmed) {
		t.trimmed(ctx, p)
	}
	if !strings.HasPrefix(w.err, "un") || len(w.events) > 0 {
		t.h.addWatch(w)
	}
}

// trimmed goes on where the log begins: what was missed is known to be missed.
func (t *traffic) trimmed(ctx context.Context, p *running) {
	if st, err := p.Status(ctx); err == nil && st.Log != nil {
		t.c.mark.set(p.serial, st.Log.Start)
	}
}
