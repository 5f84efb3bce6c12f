package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// startClients starts the writers, a reader of each node, and one who watches
// whoever is the master.
func (w *simWorld) startClients() {
	for i := range 2 {
		w.clients.Go(func() { w.writeOn(i) })
	}
	for _, n := range w.nodes {
		w.clients.Go(func() { w.readOn(n) })
	}
	w.clients.Go(w.watchMasters)
}

// rest waits for about d, or much longer when nobody is in a hurry, and reports
// whether the run goes on.
func (w *simWorld) rest(d time.Duration, rng *rand.Rand) bool {
	if w.idle.Load() {
		d = 30 * time.Second
	}
	d = d/2 + time.Duration(rng.Int64N(int64(d)))
	select {
	case <-time.After(d):
		return true
	case <-w.stopc:
		return false
	}
}

func filled(prefix string, n int) []byte {
	return append([]byte(prefix+"|"), bytes.Repeat([]byte{'.'}, n)...)
}

// A simWrite is a call of a client.
type simWrite struct {
	who, call int
	ops       []stream.Op // nil for an Update
	patience  time.Duration
	fn        func(*replica.Tx) ([]stream.Op, error)
}

// do makes the call and records it.
func (w *simWorld) call(m *master, node int, c simWrite) (stream.Position, error) {
	w.writing.Add(1)
	defer w.writing.Add(-1)
	ctx, cancel := context.WithTimeout(context.Background(), c.patience)
	defer cancel()
	c.call = w.r.newCall()
	w.r.add(simEvent{kind: simCall, node: node, who: c.who, call: c.call, ops: simOps(c.ops)})
	e := simEvent{kind: simReturn, node: node, who: c.who, call: c.call}
	var err error
	if c.fn == nil {
		e.pos, err = m.Write(ctx, c.ops)
	} else {
		var wrote []stream.Op
		e.pos, err = m.Update(ctx, func(tx *replica.Tx) (err error) {
			wrote, err = c.fn(tx)
			return err
		})
		if e.ops = simOps(wrote); len(wrote) == 0 {
			e.pos = stream.Position{}
		}
	}
	e.out = w.outcome(err)
	w.r.add(e)
	return e.pos, err
}

// outcome says what an error says of a write: only one whose outcome is unknown
// may have had an effect.
func (w *simWorld) outcome(err error) simOutcome {
	switch {
	case err == nil:
		w.c.add("write acknowledged")
		return simAcked
	case errors.Is(err, replica.ErrClosed), errors.Is(err, store.ErrNoSpace), errors.Is(err, errSimRead):
		w.c.add("write refused")
		return simRefused
	case errors.Is(err, context.DeadlineExceeded):
		w.c.add("write timed out")
		return simRefused
	case errors.Is(err, replica.ErrOutcomeUnknown):
		w.c.add("write of unknown outcome")
		return simUnknown
	}
	w.t.Errorf("write: %v", err)
	return simUnknown
}

// drive writes on the driver's own behalf, and reports whether that was
// acknowledged.
func (w *simWorld) drive(ops []stream.Op) bool {
	err := replica.ErrClosed
	if m, node := w.master(); m != nil {
		_, err = w.call(m, node, simWrite{who: 99, ops: ops, patience: 20 * time.Second})
	}
	w.revive()
	return err == nil
}

func (w *simWorld) driverValue(n int) []byte { return filled(fmt.Sprint("d", w.serial.Add(1)), n) }

// firstWrite fills the dataset.
func (w *simWorld) firstWrite() {
	var ops []stream.Op
	for i := range 130 {
		ops = append(ops, stream.Op{Key: fmt.Appendf(nil, "k%03d", i), Value: w.driverValue(i)})
	}
	for i := range simAccounts {
		ops = append(ops, stream.Op{Key: []byte(simAccount(i)), Value: filled(fmt.Sprint(simShare), i)})
	}
	w.drive(ops)
}

// writeOn writes as one client does.
func (w *simWorld) writeOn(who int) {
	rng := rand.New(rand.NewPCG(w.plan.seed, uint64(1000+who)))
	for i := 0; w.rest(w.plan.gap, rng); i++ {
		m, node := w.master()
		if m == nil || w.quiet.Load() {
			continue
		}
		c := simWrite{who: who, patience: 5 * time.Second}
		if rng.IntN(30) == 0 {
			c.patience = time.Microsecond
		}
		stamp := fmt.Sprintf("w%d.%d", who, i)
		key := fmt.Appendf(nil, "k%03d", rng.IntN(180))
		switch rng.IntN(10) {
		case 0, 1:
			c.ops = []stream.Op{{Key: key, Delete: true}}
		case 2:
			for j := range 2 + rng.IntN(5) {
				op := stream.Op{Key: fmt.Appendf(nil, "k%03d", rng.IntN(180)), Value: filled(fmt.Sprint(stamp, ".", j), rng.IntN(100))}
				c.ops = append(c.ops, op)
			}
		case 3:
			for j := range simGroup {
				c.ops = append(c.ops, stream.Op{Key: []byte(simGroupKey(j)), Value: filled(stamp, j)})
			}
		case 4, 5:
			c.fn = transfer(rng.IntN(simAccounts), rng.IntN(simAccounts), rng.IntN(50), stamp)
		default:
			c.ops = []stream.Op{{Key: key, Value: filled(stamp, rng.IntN(200))}}
		}
		pos, err := w.call(m, node, c)
		if err == nil && !pos.IsZero() && c.fn == nil && rng.IntN(5) == 0 {
			w.readOwn(1+who, rng, pos, string(c.ops[0].Key))
		}
	}
}

// errSimRead says that an Update could not read what it needs.
var errSimRead = errors.New("nothing to transfer")

// transfer moves an amount between two accounts.
func transfer(from, to, amount int, stamp string) func(*replica.Tx) ([]stream.Op, error) {
	return func(tx *replica.Tx) (wrote []stream.Op, err error) {
		if from == to {
			return nil, nil
		}
		for i, account := range []int{from, to} {
			key := []byte(simAccount(account))
			value, err := tx.Get(key)
			if err != nil {
				return nil, errors.Join(errSimRead, err)
			}
			n := balance(string(value)) - amount
			if i == 1 {
				n += 2 * amount
			}
			op := stream.Op{Key: key, Value: fmt.Appendf(nil, "%d|%s", n, stamp)}
			if err := tx.Put(op.Key, op.Value); err != nil {
				return nil, err
			}
			wrote = append(wrote, op)
		}
		return wrote, nil
	}
}

// readOwn waits until some follower has a write, and reads it there.
func (w *simWorld) readOwn(who int, rng *rand.Rand, pos stream.Position, key string) {
	n := w.nodes[rng.IntN(len(w.nodes))]
	_, f := n.replicas()
	if f == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	from := w.r.len()
	if f.WaitFor(ctx, pos) != nil {
		return
	}
	w.r.add(simEvent{kind: simWaited, node: n.n, pos: pos, from: from})
	w.c.add("WaitFor came back")
	w.get(n, who, f.Get, key)
}

// readOn reads from a node, whatever runs there.
func (w *simWorld) readOn(n *simNode) {
	rng := rand.New(rand.NewPCG(w.plan.seed, uint64(2000+n.n)))
	for w.rest(400*time.Millisecond, rng) {
		m, f := n.replicas()
		switch {
		case m != nil:
			w.look(n, rng, m.Get, m.scan)
			w.lookAtFollowers(m)
		case f != nil:
			w.lookAtStatus(n, f)
			w.look(n, rng, f.Get, f.scan)
		}
	}
}

type (
	getter   = func(context.Context, []byte) ([]byte, error)
	ascender = func(context.Context, []byte, []byte) iter.Seq2[replica.Item, error]
)

func (m *master) scan(lo, hi string) (map[string]string, error) { return scan(m.Ascend, lo, hi) }

func (f *follower) scan(lo, hi string) (map[string]string, error) { return scan(f.Ascend, lo, hi) }

// scan reads a range that fits one page.
func scan(ascend ascender, lo, hi string) (map[string]string, error) {
	all := map[string]string{}
	for item, err := range ascend(context.Background(), []byte(lo), []byte(hi)) {
		if err != nil {
			return nil, err
		}
		all[string(item.Key)] = string(item.Value)
	}
	return all, nil
}

// look reads what is always written together, and some key.
func (w *simWorld) look(n *simNode, rng *rand.Rand, get getter, scan func(lo, hi string) (map[string]string, error)) {
	lo, hi := "acct/", "acct0"
	from := w.r.len()
	if all, err := scan(lo, hi); err == nil {
		w.r.add(simEvent{kind: simRead, node: n.n, from: from, lo: lo, hi: hi, items: all})
	}
	w.get(n, 0, get, fmt.Sprintf("k%03d", rng.IntN(40)))
}

func (w *simWorld) get(n *simNode, who int, get getter, key string) {
	from := w.r.len()
	value, err := get(context.Background(), []byte(key))
	e := simEvent{kind: simRead, node: n.n, who: who, from: from, lo: key, items: map[string]string{}}
	switch {
	case err == nil:
		e.items[key] = string(value)
	case !errors.Is(err, replica.ErrNotFound):
		return
	}
	w.c.add("reads")
	w.r.add(e)
}

// lookAtStatus records what a follower says of itself.
func (w *simWorld) lookAtStatus(n *simNode, f *follower) {
	from := w.r.len()
	s := f.Status()
	e := simEvent{kind: simStatus, node: n.n, from: from, whole: s.Complete, same: s.InSync != nil && *s.InSync, why: string(s.State)}
	if s.Epoch == "" {
		return
	}
	e.pos.Offset = s.Offset
	e.epoch = s.Epoch
	w.r.add(e)
}

// lookAtFollowers records what a master says of those who are connected.
func (w *simWorld) lookAtFollowers(m *master) {
	for _, s := range m.Status().Followers {
		var n int
		if _, err := fmt.Sscanf(strings.TrimPrefix(s.ID, "n"), "%d", &n); err == nil && s.Connected {
			w.r.add(simEvent{kind: simStatus, node: n, call: 1, pos: stream.Position{Offset: s.Acked}})
		}
	}
}

// watchCopy watches a follower until it ends.
func (w *simWorld) watchCopy(n *simNode, f *follower) {
	who := int(w.serial.Add(1))
	w.r.add(simEvent{kind: simWatchOn, node: n.n, who: who})
	for c, err := range f.Watch(context.Background(), 0) {
		if err != nil {
			if !errors.Is(err, replica.ErrClosed) {
				w.t.Errorf("%s: watch: %v", n.id, err)
			}
			return
		}
		w.told(n.n, who, c)
	}
}

func (w *simWorld) told(node, who int, c replica.Change) {
	e := simEvent{kind: simWatch, node: node, who: who, pos: c.Position, last: c.Last, repair: c.Repair, gap: c.Gap}
	if c.Gap {
		w.c.add("watch: gap")
	} else {
		w.c.add("watch: change")
		e.ops = []simOp{{string(c.Key), string(c.Value), c.Delete}}
	}
	w.r.add(e)
}

// watchMasters watches whoever is the master, as a client does that remembers
// its bookmark, and is slow at times.
func (w *simWorld) watchMasters() {
	rng := rand.New(rand.NewPCG(w.plan.seed, 3000))
	var at stream.Position
	for w.rest(300*time.Millisecond, rng) {
		m, node := w.master()
		if m == nil {
			continue
		}
		from := at.Offset + 1
		if m.Status().Epoch != at.Epoch.String() {
			from = 0
		} else {
			w.c.add("watch: resumed")
		}
		who := int(w.serial.Add(1))
		w.r.add(simEvent{kind: simWatchOn, node: node, who: who, offset: from})
		err := w.watchMaster(m, node, who, from, rng, &at)
		switch {
		case errors.Is(err, replica.ErrTrimmed):
			w.c.add("watch: trimmed")
			w.r.add(simEvent{kind: simWatchOff, node: node, who: who, offset: at.Offset + 1, why: err.Error()})
			at = stream.Position{}
		case errors.Is(err, replica.ErrAhead):
			at = stream.Position{} // an old backup is in the master's place
		case err == nil, errors.Is(err, replica.ErrClosed), errors.Is(err, store.ErrClosed), errors.Is(err, errStop):
		default:
			w.t.Errorf("watch: from %d: %v", from, err)
		}
	}
}

var errStop = errors.New("the run is over")

func (w *simWorld) watchMaster(m *master, node, who int, from uint64, rng *rand.Rand, at *stream.Position) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	w.clients.Go(func() {
		select {
		case <-w.stopc:
			cancel(errStop)
		case <-ctx.Done():
		}
	})
	for c, err := range m.Watch(ctx, from) {
		if err != nil {
			return err
		}
		w.told(node, who, c)
		if c.Last {
			*at = c.Position
			switch rng.IntN(300) {
			case 0:
				w.c.add("watch: slow")
				if !w.rest(20*time.Second, rng) {
					return errStop
				}
			case 1:
				return nil // and comes back with its bookmark
			}
		}
	}
	return nil
}
