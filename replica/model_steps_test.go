package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

type merkleSummary = merkle.Summary

// step does one thing, and then lets some time pass.
func (w *world) step() {
	steps := []func(){
		w.writeSome, w.writeSome, w.writeSome, w.writeMany, w.update, w.deleteMany,
		w.network, w.network, w.network,
		w.stopOrStart, w.stopOrStart, w.garble, w.garble, w.drift, w.drift, w.repair, w.repair,
		w.loseMuch, w.loseDeletes, w.garbleDuringRepair, w.restartMaster, w.crashMaster, w.crashMaster, w.masterFault, w.copyFault,
	}
	steps[w.src.pick("step", len(steps))]()
	pauses := []time.Duration{0, time.Millisecond, 50 * time.Millisecond, time.Second, 3 * time.Second, 15 * time.Second}
	time.Sleep(pauses[w.src.pick("pause", len(pauses))])
}

func (w *world) writeSome() { w.write(w.ops(1 + w.src.pick("ops", 5))) }

func (w *world) writeMany() {
	for range 10 {
		w.write(w.ops(20))
	}
}

// deleteMany deletes most keys, so that a follower that loses it meets the
// guard.
func (w *world) deleteMany() {
	var ops []stream.Op
	for i := range 150 {
		if w.src.pick("keep", 5) > 0 {
			ops = append(ops, stream.Op{Key: fmt.Appendf(nil, "k%03d", i), Delete: true})
		}
	}
	w.write(append(ops, stream.Op{Key: []byte("k000"), Value: w.value("v")}))
}

// loseMuch makes a follower lose a commit that takes several chunks to repair,
// and asks for the repair.
func (w *world) loseMuch() {
	c := w.copy()
	c.g.set(func([]stream.Op) []stream.Op { c.rec.garble(); return nil })
	var ops []stream.Op
	for i := range 1500 {
		ops = append(ops, stream.Op{Key: fmt.Appendf(nil, "m%04d", i), Value: w.value("m")})
	}
	w.write(ops)
	time.Sleep(time.Duration(w.src.pick("lost", 300)) * time.Millisecond)
	c.g.set(nil)
	w.ask(c, replica.RepairOptions{}, 300_000)
}

// loseDeletes makes a follower lose a commit that deletes nearly everything, so
// that its repair meets the guard.
func (w *world) loseDeletes() {
	c := w.copy()
	time.Sleep(5 * time.Second) // for most of them to be in sync
	c.g.set(func([]stream.Op) []stream.Op { c.rec.garble(); return nil })
	w.mu.Lock()
	var ops []stream.Op
	for key := range w.want {
		if !strings.HasPrefix(key, "bg") {
			ops = append(ops, stream.Op{Key: []byte(key), Delete: true})
		}
	}
	w.mu.Unlock()
	slices.SortFunc(ops, func(a, b stream.Op) int { return bytes.Compare(a.Key, b.Key) })
	w.write(append(ops, stream.Op{Key: []byte("k000"), Value: w.value("v")}))
	time.Sleep(300 * time.Millisecond)
	c.g.set(nil)
	w.ask(c, replica.RepairOptions{}, 0)
}

// garbleDuringRepair makes a follower lose what is written while it is being
// repaired.
func (w *world) garbleDuringRepair() {
	c := w.copy()
	c.link.SetDelay(faultnet.Both, 20*time.Millisecond, 0)
	w.ask(c, replica.RepairOptions{}, 0)
	c.g.set(func([]stream.Op) []stream.Op { c.rec.garble(); return nil })
	for range 10 {
		w.writeSome()
		time.Sleep(20 * time.Millisecond)
	}
	c.g.set(nil)
}

func (w *world) copy() *modelCopy { return w.copies[w.src.pick("follower", len(w.copies))] }

// network changes the weather on one link.
func (w *world) network() {
	l := w.copy().link
	switch w.src.pick("weather", 9) {
	case 0:
		l.Cut(faultnet.Reset)
	case 1:
		l.Cut(faultnet.Close)
	case 2:
		l.CutAfter(faultnet.In, w.src.pick("bytes", 20_000), faultnet.Reset)
	case 3:
		l.CutAfter(faultnet.Out, w.src.pick("bytes", 500), faultnet.Reset)
	case 4:
		l.BlackHole([]faultnet.Dir{faultnet.In, faultnet.Out, faultnet.Both}[w.src.pick("direction", 3)], true)
	case 5:
		l.Stall(faultnet.In, true)
	case 6:
		l.SetRate(faultnet.Both, 2000+w.src.pick("rate", 50_000))
		l.SetDelay(faultnet.Both, time.Duration(w.src.pick("delay", 300))*time.Millisecond, 20*time.Millisecond)
	case 7:
		l.FlipByte(faultnet.In, w.src.pick("bytes", 2000))
	default:
		l.Heal()
	}
}

// stopOrStart stops a follower, cleanly or as a crash does, or starts it again.
func (w *world) stopOrStart() {
	c := w.copy()
	if c.f == nil {
		c.rec.reopen(c.reopened(), 0)
		c.start()
		return
	}
	if w.src.pick("crash", 2) == 0 {
		c.crash(w.src.pick("lost", 10))
		return
	}
	c.halt()
}

func (c *modelCopy) reopened() *store.Memory {
	c.st = c.st.Reopen()
	return c.st
}

// ready waits until the follower, if it runs, has opened its store.
func (c *modelCopy) ready() {
	if c.f == nil {
		return
	}
	select {
	case <-c.f.Ready():
	case <-c.f.donec:
		c.w.t.Fatalf("%s ended: %v", c.cfg.ID, c.f.err)
	}
}

func (c *modelCopy) halt() {
	c.f.stop()
	c.asks.Wait()
	c.f = nil
}

// crash closes the store under the follower. Without sync the newest
// transactions may be lost.
func (c *modelCopy) crash(n int) {
	lost := c.st.Crash(atMost(c.w.t, n, c.st))
	c.halt()
	if lost > 0 {
		c.w.counts.add("follower lost transactions")
	}
	c.rec.reopen(c.reopened(), lost)
}

// garble makes one follower lose or change commits, for a while.
func (w *world) garble() {
	c := w.copy()
	kind := w.src.pick("garble", 4)
	c.g.set(func(ops []stream.Op) []stream.Op {
		c.rec.garble()
		switch kind {
		case 0:
			return nil
		case 1:
			return ops[:len(ops)/2]
		case 2:
			var out []stream.Op
			for _, op := range ops {
				out = append(out, stream.Op{Key: op.Key, Value: w.value("garbled")})
			}
			return out
		}
		return append(ops[:len(ops):len(ops)], stream.Op{Key: append([]byte("stray"), ops[0].Key...), Value: w.value("stray")})
	})
	if w.src.pick("write", 3) > 0 {
		w.writeSome()
	} else {
		w.deleteMany()
	}
	time.Sleep(time.Duration(w.src.pick("garbled", 500)) * time.Millisecond)
	c.g.set(nil)
}

// drift changes a follower's store behind its back: mostly while it is stopped.
func (w *world) drift() {
	c := w.copy()
	c.ready()
	running := c.f != nil && w.src.pick("running", 3) == 0
	if c.f != nil && !running {
		c.halt()
	}
	if c.f == nil && atMost(w.t, 1, c.st) == 0 {
		return // it was stopped before it began
	}
	if c.f == nil && w.src.pick("lose", 4) == 0 {
		lost := c.st.Rollback(atMost(w.t, 1+w.src.pick("lost", 10), c.st))
		c.rec.reopen(c.reopened(), lost)
		w.counts.add("found at open")
		return
	}
	for range 1 + w.src.pick("items", 60) {
		key := fmt.Sprintf("k%03d", w.src.pick("key", 200))
		if w.src.pick("drop", 2) == 0 {
			c.st.Drop([]byte(key))
			c.rec.inject(key, version{})
			continue
		}
		value := w.value("drift")
		c.st.Tamper([]byte(key), value)
		c.rec.inject(key, version{value: string(value), there: true})
	}
	if !running {
		w.counts.add("found at open")
	}
}

var errIO = errors.New("input/output error")

// masterFault makes the master's next transaction fail: refused, or with an
// outcome that nobody knows.
func (w *world) masterFault() {
	f := &w.mrec.fault
	switch w.src.pick("fault", 4) {
	case 0:
		f.set(errIO, nil)
	case 1:
		f.set(nil, errIO)
	default:
		f.set(store.ErrNoSpace, nil)
	}
	w.writeSome()
	// The background writer, or what is told of followers, may have met it.
	w.mrec.fault.take()
	w.revive()
}

// revive starts the master again if it has ended by itself.
func (w *world) revive() {
	time.Sleep(time.Millisecond)
	select {
	case <-w.m.donec:
		w.mst = w.mst.Reopen()
		w.startMaster()
	default:
	}
}

// copyFault does the same to a follower.
func (w *world) copyFault() {
	c := w.copy()
	if c.f == nil {
		return
	}
	c.ready()
	kind := w.src.pick("fault", 4)
	switch kind {
	case 0:
		c.rec.fault.set(errIO, nil)
	case 1:
		c.rec.fault.set(nil, errIO)
	default:
		c.rec.fault.set(store.ErrNoSpace, nil)
	}
	w.writeSome()
	time.Sleep(time.Duration(w.src.pick("pause", 1000)) * time.Millisecond)
	switch before, after := c.rec.fault.take(); {
	case before != nil || after != nil:
		// Nothing was written: there is no connection.
	case kind > 1:
		w.counts.add("copy refused a write")
	default:
		w.counts.add("copy was poisoned")
		if err := c.f.wait(); !errors.Is(err, replica.ErrOutcomeUnknown) {
			w.t.Errorf("%s: a poisoned follower ended with %v", c.cfg.ID, err)
		}
		c.halt()
	}
}

// repair asks a follower for a repair and does not wait for it; the link may
// be cut in the middle of it.
func (w *world) repair() {
	opts := replica.RepairOptions{DryRun: w.src.pick("dry", 4) == 0, AllowMassDelete: w.src.pick("allow", 3) == 0}
	if opts.DryRun {
		opts.Each = func(replica.Difference) {}
	}
	w.ask(w.copy(), opts, 20_000)
}

// ask asks for a repair and, half of the times, has it cut off within so many
// bytes.
func (w *world) ask(c *modelCopy, opts replica.RepairOptions, bytes int) {
	f := c.f
	if f == nil {
		return
	}
	if bytes > 0 && w.src.pick("cut", 2) == 0 {
		c.link.CutAfter(faultnet.In, w.src.pick("bytes", bytes), faultnet.Reset)
	}
	c.asks.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := f.Repair(ctx, opts)
		switch {
		case err == nil, errors.Is(err, replica.ErrNotConnected), errors.Is(err, replica.ErrRepairing), errors.Is(err, replica.ErrClosed), errors.Is(err, context.DeadlineExceeded):
		default:
			w.t.Errorf("Repair: %v", err)
		}
	})
}

// atMost returns n, or fewer so that the first transaction of a store is never
// lost: what would be found then is no dataset at all.
func atMost(t tester, n int, st *store.Memory) int {
	v, err := st.Reopen().View()
	if err != nil {
		t.Fatalf("View: %v", err)
	}
	defer v.Close()
	m, err := v.Meta()
	if err != nil {
		return 0
	}
	return min(n, int(m.Seq)-1)
}

// restartMaster stops the master cleanly and starts the next one over the same
// store.
func (w *world) restartMaster() {
	w.m.stop()
	time.Sleep(time.Duration(1+w.src.pick("down", 5000)) * time.Millisecond)
	w.mst = w.mst.Reopen()
	w.startMaster()
}

// crashMaster closes the store under the master. Without sync the newest
// transactions may be lost, which followers may have.
func (w *world) crashMaster() {
	if w.src.pick("write", 2) == 0 {
		w.writeMany()
		time.Sleep(time.Second)
	}
	if lost := w.mst.Crash(atMost(w.t, w.src.pick("lost", 20), w.mst)); lost > 0 {
		w.counts.add("master lost transactions")
	}
	before := w.m.Status().Epoch
	w.m.stop()
	time.Sleep(time.Duration(1+w.src.pick("down", 5000)) * time.Millisecond)
	w.mst = w.mst.Reopen()
	w.startMaster()
	if w.m.Status().Epoch != before {
		w.counts.add("new epoch")
	}
}

// heal ends all faults and waits until every follower holds what the master
// does. Followers that need a person's word get it, and are counted.
func (w *world) heal() {
	for _, c := range w.copies {
		c.link.Heal()
		c.link.Cut(faultnet.Reset) // what a black hole has swallowed from stays silent
		c.g.set(nil)
		if c.f == nil {
			c.rec.reopen(c.reopened(), 0)
			c.start()
		}
	}
	w.writeSome()
	for _, c := range w.copies {
		c.heal()
		c.asks.Wait()
	}
	w.writeSome() // quiet, and then one more
	pos := stream.Position{Offset: w.m.Status().Offset}
	for _, c := range w.copies {
		within(w.t, time.Minute, c.cfg.ID+" follows in sync", func() bool { return c.inSync(pos.Offset) })
	}
}

func (c *modelCopy) inSync(offset uint64) bool {
	s := c.f.Status()
	return s.Complete && s.InSync != nil && *s.InSync && s.Offset == offset && s.State == replica.Streaming
}

// heal brings one follower back.
func (c *modelCopy) heal() {
	w, t := c.w, c.w.t
	offset := w.m.Status().Offset
	deadline := time.Now().Add(5 * time.Minute)
	for verified := false; ; time.Sleep(time.Second) {
		s := c.f.Status()
		if c.inSync(offset) {
			if verified {
				return
			}
			// What was changed behind the back of a running follower shows now.
			if rep, err := c.f.Verify(context.Background()); err != nil {
				t.Errorf("Verify: %v", err)
			} else if !rep.OK {
				w.counts.add("found by verify")
			}
			verified = true
			continue
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not find back: %s", c.cfg.ID, brief(s))
		}
		switch {
		case s.State == replica.Parked:
			if rep, err := c.f.Repair(context.Background(), replica.RepairOptions{AcceptRollback: true, AllowMassDelete: true}); err == nil && rep.Outcome == replica.Repaired {
				w.counts.add("rollback accepted")
			}
		case s.State == replica.Drifted, s.State == replica.Initializing:
			rep, err := c.f.Repair(context.Background(), replica.RepairOptions{AllowMassDelete: true})
			if err == nil && rep.Outcome == replica.Different {
				t.Errorf("%s: a repair with every consent and no fault ended with %+v", c.cfg.ID, rep)
			}
		}
	}
}

// check compares everything with everything: the map, the ledger, the master
// and the followers.
func (w *world) check() {
	want := w.want
	for what, got := range map[string]map[string]string{"ledger": w.ledger.contents(), "master": contents(w.t, w.mst)} {
		if len(got) != len(want) {
			w.t.Errorf("the %s holds %d keys, want %d", what, len(got), len(want))
		}
		for k, v := range want {
			if got[k] != v {
				w.t.Errorf("the %s holds %q = %.20q, want %.20q", what, k, got[k], v)
			}
		}
	}
	synctest.Wait()
	for _, c := range w.copies {
		c.checkMirror()
		checkSame(w.t, w.m, &follower{Follower: c.f.Follower, st: c.st, t: w.t})
	}
}
