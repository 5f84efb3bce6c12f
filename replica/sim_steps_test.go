package replica_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// A simAction is what a step does. Its weight says how often it is chosen, of
// those that a seed chooses from.
type simAction struct {
	name   string
	weight int
	do     func(w *simWorld, s simStep)
}

// simActions are the steps that a plan is made of. The first is simIdle.
var simActions = []simAction{
	{"idle", 1, (*simWorld).doIdle},
	{"burst", 3, (*simWorld).doBurst},
	{"delete many", 1, (*simWorld).doDeleteMany},
	{"cut", 4, (*simWorld).doCut},
	{"slow network", 3, (*simWorld).doSlow},
	{"dead network", 3, (*simWorld).doDead},
	{"garble bytes", 2, (*simWorld).doBytes},
	{"garble frames", 2, (*simWorld).doFrames},
	{"clear", 3, (*simWorld).doClear},
	{"stop or start", 3, (*simWorld).doStop},
	{"crash", 3, (*simWorld).doCrash},
	{"damage a copy", 3, (*simWorld).doDamage},
	{"damage a running copy", 2, (*simWorld).doTamper},
	{"lose commits", 3, (*simWorld).doGarble},
	{"lose deletes", 1, (*simWorld).doLoseDeletes},
	{"repair", 3, (*simWorld).doRepair},
	{"disk", 4, (*simWorld).doDisk},
	{"restart the master", 2, (*simWorld).doRestart},
	{"crash the master", 3, (*simWorld).doCrashMaster},
	{"damage the master", 2, (*simWorld).doDamageMaster},
	{"damage the running master", 1, (*simWorld).doTamperMaster},
	{"backup in the master's place", 1, (*simWorld).doBackup},
	{"promote", 2, (*simWorld).doPromote},
	{"restore", 1, (*simWorld).doRestore},
	{"another master", 1, (*simWorld).doImpostor},
}

// simIdle is the action that every plan ends with.
const simIdle = 0

func (w *simWorld) do(s simStep) {
	a := simActions[s.action]
	w.say("%s %d %v", a.name, s.node%len(w.nodes), s.x)
	w.c.add("step: " + a.name)
	a.do(w, s)
	time.Sleep(s.pause)
	w.revive()
}

// copy returns the node that a step is about, which is not the master.
func (w *simWorld) copy(s simStep) *simNode {
	all := w.others()
	return all[s.node%len(all)]
}

// any returns any node.
func (w *simWorld) any(s simStep) *simNode { return w.nodes[s.node%len(w.nodes)] }

// doIdle lets simulated minutes or hours pass in which next to nothing is
// written.
func (w *simWorld) doIdle(s simStep) {
	d := time.Minute + time.Duration(s.x[0]%180)*time.Second
	switch s.x[1] % 20 {
	case 0:
		d *= 12
	case 1, 2, 3:
		d *= 3
	}
	w.idle.Store(true)
	defer w.idle.Store(false)
	for range 4 {
		time.Sleep(d / 4)
		w.revive()
	}
}

// doBurst writes so much that followers fall off the tail and off the log.
func (w *simWorld) doBurst(s simStep) {
	for i := range 5 + s.x[0]%20 {
		var ops []stream.Op
		for j := range 10 {
			key := fmt.Appendf(nil, "k%03d", (s.x[1]+i*17+j*31)%180)
			ops = append(ops, stream.Op{Key: key, Value: w.driverValue(s.x[2] % 600)})
		}
		w.drive(ops)
	}
}

// doDeleteMany deletes most of what there is.
func (w *simWorld) doDeleteMany(s simStep) {
	w.drive(w.mostDeleted(s))
}

func (w *simWorld) mostDeleted(s simStep) []stream.Op {
	var ops []stream.Op
	for i := range 180 {
		if (i*7+s.x[0])%9 > 0 {
			ops = append(ops, stream.Op{Key: fmt.Appendf(nil, "k%03d", i), Delete: true})
		}
	}
	return append(ops, stream.Op{Key: []byte("k000"), Value: w.driverValue(10)})
}

var (
	simDirs    = []faultnet.Dir{faultnet.In, faultnet.Out, faultnet.Both}
	simEndings = []faultnet.Ending{faultnet.Reset, faultnet.Close}
)

func (w *simWorld) doCut(s simStep) {
	l, how := w.copy(s).link, simEndings[s.x[1]%2]
	switch s.x[0] % 4 {
	case 0:
		l.Cut(how)
	case 1:
		l.CutAfter(faultnet.In, s.x[2]%20_000, how)
	case 2:
		l.CutAfter(faultnet.Out, s.x[2]%800, how)
	case 3:
		l.HalfClose(simDirs[s.x[2]%3])
	}
}

func (w *simWorld) doSlow(s simStep) {
	l, dir := w.copy(s).link, simDirs[s.x[1]%3]
	switch s.x[0] % 4 {
	case 0:
		l.SetDelay(dir, time.Duration(s.x[2]%400)*time.Millisecond, 30*time.Millisecond)
	case 1:
		l.SetRate(dir, 500+s.x[2]%30_000)
	case 2:
		l.SplitMax(dir, 1+s.x[2]%300)
	case 3:
		l.MergeFor(dir, time.Duration(1+s.x[2]%200)*time.Millisecond)
	}
}

func (w *simWorld) doDead(s simStep) {
	l, dir := w.copy(s).link, simDirs[s.x[1]%3]
	switch s.x[0] % 4 {
	case 0, 1:
		l.BlackHole(dir, true)
	case 2:
		l.Stall(dir, true)
	case 3:
		l.Refuse(true)
		l.Cut(faultnet.Reset)
	}
}

func (w *simWorld) doBytes(s simStep) {
	l, dir := w.copy(s).link, simDirs[s.x[1]%3]
	if s.x[0]%3 == 0 {
		l.FlipProbability(dir, 1/float64(500+s.x[2]%50_000))
		return
	}
	l.FlipByte(dir, s.x[2]%3000)
}

// doFrames does to whole frames what no network does, and a bug might.
func (w *simWorld) doFrames(s simStep) {
	n, dir := w.copy(s), simDirs[s.x[1]%3]
	match := func(typ byte) bool { return typ != head && typ != ack }
	if s.x[2]%3 == 0 {
		match = nil
	}
	n.hurt = true
	switch s.x[0] % 3 {
	case 0:
		n.link.DuplicateFrame(dir, match)
	case 1:
		n.link.SwapFrames(dir, match)
	case 2:
		n.link.DropFrame(dir, match)
	}
}

func (w *simWorld) doClear(s simStep) {
	n := w.copy(s)
	n.link.Heal()
	n.rec.set(func(r *simStore) { r.full, r.slow = false, 0 })
}

func (w *simWorld) doStop(s simStep) {
	n := w.copy(s)
	if _, f := n.replicas(); f != nil {
		n.halt()
		return
	}
	n.start()
}

func (w *simWorld) doCrash(s simStep) {
	n := w.copy(s)
	if _, f := n.replicas(); f != nil {
		n.crash(s.x[0] % 12)
		if s.x[1]%4 > 0 {
			n.start()
		}
	}
}

// doDamage changes a stopped follower's store, or takes it back to what it was.
func (w *simWorld) doDamage(s simStep) {
	n := w.copy(s)
	n.halt()
	w.spoil(n, s)
	if s.x[3]%4 > 0 {
		n.start()
	}
}

// spoil damages the store of a stopped node.
func (w *simWorld) spoil(n *simNode, s simStep) {
	st := n.rec.memory()
	most := atMost(w.t, 1+s.x[1]%12, st)
	if s.x[0]%3 == 0 && most > 0 {
		lost := st.Rollback(most)
		w.c.count("transactions lost to damage", lost)
		n.rec.reload(w.t, st.Reopen(), false, fmt.Sprintf("lost %d transactions", lost))
		return
	}
	n.rec.reload(w.t, st.Reopen(), true, "a restart")
	if most == 0 {
		return // it was stopped before it began: what is put in would be foreign
	}
	w.spoilItems(n, s)
}

// spoilItems changes and drops items behind a node's back. Those of a master
// leave alone what is always written together, since what a client makes of a
// damaged value is its own.
func (w *simWorld) spoilItems(n *simNode, s simStep) {
	for i := range 1 + s.x[2]%40 {
		key := fmt.Sprintf("k%03d", (s.x[1]+i*13)%200)
		if n != w.lead && i%5 == 0 {
			key = simAccount(i % simAccounts)
		}
		op := simOp{key: key, del: (s.x[3]+i)%2 == 0}
		if !op.del {
			op.value = fmt.Sprintf("%s%d.%d", simForeign, w.serial.Add(1), i)
		}
		n.rec.tamper(op)
		w.c.add("items damaged")
	}
}

// doTamper changes the store of a running follower behind its back.
func (w *simWorld) doTamper(s simStep) {
	n := w.copy(s)
	if _, f := n.replicas(); f == nil {
		return
	} else if f.Status().Dataset == "" {
		return
	}
	n.tampered = true
	w.spoilItems(n, s)
}

// doGarble makes a follower lose or change commits for a while, as a bug would.
func (w *simWorld) doGarble(s simStep) {
	n := w.copy(s)
	n.garble(s.x[0] % 4)
	w.doBurst(simStep{x: [4]int{s.x[1] % 5, s.x[2], s.x[3]}})
	time.Sleep(time.Duration(s.x[3]%400) * time.Millisecond)
	n.g.set(nil)
}

func (n *simNode) garble(kind int) {
	mark := func() { n.rec.set(func(r *simStore) { r.garbled = true }) }
	foreign := func() []byte { return fmt.Appendf(nil, "%sg%d", simForeign, n.w.serial.Add(1)) }
	n.g.set(func(ops []stream.Op) []stream.Op {
		mark()
		switch kind {
		case 0:
			return nil
		case 1:
			return ops[:len(ops)/2]
		case 2:
			var out []stream.Op
			for _, op := range ops {
				out = append(out, stream.Op{Key: op.Key, Value: foreign()})
			}
			return out
		}
		return append(ops[:len(ops):len(ops)], stream.Op{Key: append([]byte("stray"), ops[0].Key...), Value: foreign()})
	})
}

// doLoseDeletes makes a follower miss the deletion of nearly everything: its
// repair meets the guard.
func (w *simWorld) doLoseDeletes(s simStep) {
	n := w.copy(s)
	n.garble(0)
	w.doDeleteMany(s)
	time.Sleep(300 * time.Millisecond)
	n.g.set(nil)
	n.ask(replica.RepairOptions{})
}

func (w *simWorld) doRepair(s simStep) {
	n := w.copy(s)
	switch s.x[0] % 4 {
	case 0:
		n.ask(replica.RepairOptions{DryRun: true, Each: func(replica.Difference) {}})
	case 1:
		n.ask(replica.RepairOptions{AllowMassDelete: true})
	case 2:
		n.ask(replica.RepairOptions{})
	case 3:
		n.verify()
	}
	if s.x[1]%3 == 0 {
		n.link.CutAfter(faultnet.In, s.x[2]%20_000, faultnet.Reset)
	}
}

// ask asks a follower for a repair and does not wait for it.
func (n *simNode) ask(opts replica.RepairOptions) {
	_, f := n.replicas()
	if f == nil {
		return
	}
	if opts.AcceptRollback {
		n.w.r.add(simEvent{kind: simConsent, node: n.n, why: "accepts the master's history"})
	}
	n.mu.Lock()
	n.asking = true
	n.mu.Unlock()
	n.asks.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := f.Repair(ctx, opts)
		switch {
		case err == nil, errors.Is(err, replica.ErrNotConnected), errors.Is(err, replica.ErrRepairing), errors.Is(err, replica.ErrClosed), errors.Is(err, context.DeadlineExceeded):
		default:
			n.w.t.Errorf("Repair: %v", err)
		}
		n.mu.Lock()
		n.asking = false
		n.mu.Unlock()
	})
}

// verify re-reads a node's store.
func (n *simNode) verify() {
	_, f := n.replicas()
	if f == nil {
		return
	}
	n.asks.Go(func() {
		rep, err := f.Verify(context.Background())
		switch {
		case err == nil && !rep.OK:
			n.w.c.add("found by verify")
		case err == nil, errors.Is(err, replica.ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, store.ErrClosed):
		default:
			n.w.t.Errorf("Verify: %v", err)
		}
	})
}

// doDisk makes a node's disk full, slow or broken.
func (w *simWorld) doDisk(s simStep) {
	n := w.any(s)
	n.rec.set(func(r *simStore) {
		switch s.x[0] % 5 {
		case 0:
			r.before = errIO
		case 1:
			r.after = errIO
		case 2:
			r.refuse = store.ErrNoSpace
		case 3:
			r.full = true
		case 4:
			r.slow = time.Duration(1+s.x[1]%1500) * time.Millisecond
		}
	})
	time.Sleep(time.Duration(s.x[2]%8000) * time.Millisecond)
	n.rec.set(func(r *simStore) { r.full, r.slow = false, 0 })
}

func (w *simWorld) doRestart(s simStep) {
	w.lead.halt()
	time.Sleep(time.Duration(1+s.x[0]%5000) * time.Millisecond)
	w.startLead(s.x[1])
}

func (w *simWorld) doCrashMaster(s simStep) {
	if s.x[2]%2 == 0 {
		w.doBurst(s)
	}
	w.lead.crash(s.x[0] % 20)
	time.Sleep(time.Duration(1+s.x[3]%5000) * time.Millisecond)
	w.startLead(s.x[1])
}

// doDamageMaster damages the stopped master's store.
func (w *simWorld) doDamageMaster(s simStep) {
	w.lead.halt()
	w.spoil(w.lead, s)
	time.Sleep(time.Second)
	w.startLead(s.x[3])
}

// doTamperMaster changes the running master's store behind its back, and has
// it looked through.
func (w *simWorld) doTamperMaster(s simStep) {
	w.lead.tampered = true
	w.spoilItems(w.lead, simStep{x: [4]int{0, s.x[1], s.x[2] % 10, s.x[3]}})
	for _, n := range w.others() {
		if s.x[0]%2 == 0 {
			n.ask(replica.RepairOptions{})
		}
	}
}

// doBackup puts an old backup in the master's place, with all that could tell.
func (w *simWorld) doBackup(s simStep) {
	w.lead.halt()
	st := w.lead.rec.memory()
	lost := st.Restore(atMost(w.t, 1+s.x[0]%20, st))
	w.say("the master is what it was %d transactions ago", lost)
	w.c.add("backup in the master's place")
	w.lead.rec.reload(w.t, st.Reopen(), false, "an old backup")
	w.startLead(s.x[1])
	if s.x[2]%2 == 0 {
		w.doBurst(s) // over the offsets that were given out before
	}
}

func (w *simWorld) doPromote(s simStep) {
	if s.x[0]%2 == 0 {
		w.lead.halt()
	} else {
		w.lead.crash(s.x[1] % 10)
	}
	w.promote(w.copy(s))
	w.startLead(s.x[2])
}

func (w *simWorld) doRestore(s simStep) {
	w.lead.halt()
	if s.x[0]%2 == 0 {
		w.spoil(w.lead, s)
	}
	w.restoreFrom(w.copy(s))
	w.startLead(s.x[1])
}

// doImpostor has an empty master of another dataset take the master's place
// for a while, unless there is a follower that could not know better.
func (w *simWorld) doImpostor(s simStep) {
	for _, n := range w.others() {
		if _, f := n.replicas(); f != nil && f.Status().Dataset == "" {
			return
		}
	}
	w.lead.halt()
	cfg := w.plan.master
	cfg.Listener = w.listen()
	m := startOver(w.t, store.NewMemory(), cfg)
	time.Sleep(time.Duration(s.x[0]%20) * time.Second)
	for _, n := range w.others() {
		if _, f := n.replicas(); f != nil && f.Status().State == replica.Parked && strings.Contains(f.Status().Why, "dataset") {
			w.c.add("parked before another master")
		}
	}
	m.stop()
	w.startLead(s.x[1])
	// Whoever was refused before it was ever served has ended, and says so.
	for _, n := range w.others() {
		err, ended := n.ended()
		if peer, ok := errors.AsType[*replica.PeerError](err); ended && ok && peer.Code == replica.CodeDataset {
			w.c.add("ended before another master")
			n.halt()
			n.start()
		}
	}
}
