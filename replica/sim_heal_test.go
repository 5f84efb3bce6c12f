package replica_test

import (
	"context"
	"fmt"
	"time"

	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/stream"
)

// run does what the plan says: phases of faults, each followed by one without,
// in which everything has to be well again.
func (w *simWorld) run() {
	for i, phase := range w.plan.phases {
		w.say("phase %d", i)
		for _, s := range phase {
			if w.t.Failed() {
				return
			}
			w.do(s)
		}
		if w.t.Failed() || !w.heal() {
			return
		}
	}
}

// heal ends all faults and waits until every node is in sync: by itself, except
// where a person's word is needed, or the policy leaves repairs to a person.
func (w *simWorld) heal() bool {
	w.quiet.Store(true)
	defer w.quiet.Store(false)
	for w.writing.Load() > 0 {
		time.Sleep(100 * time.Millisecond)
		w.unbreak()
		w.revive()
	}
	w.unbreak()
	w.revive()
	w.mendMaster()
	for _, n := range w.others() {
		if _, f := n.replicas(); f == nil {
			n.start()
		}
		if n.hurt {
			n.link.Cut(faultnet.Reset)
			n.hurt = false
		}
	}
	// A master whose disk has just failed takes seconds to end.
	for range 100 {
		if w.drive([]stream.Op{{Key: []byte("k000"), Value: w.driverValue(20)}}) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.say("the faults have stopped")
	w.r.add(simEvent{kind: simHeal, call: len(w.others())})
	for _, n := range w.others() {
		if n.tampered {
			// Else a scrub in the background finds it, some time.
			n.verify()
			n.tampered = false
		}
	}
	return w.converge()
}

// unbreak ends the faults of networks, disks and apply.
func (w *simWorld) unbreak() {
	for _, n := range w.nodes {
		n.link.Heal()
		n.g.set(nil)
		n.rec.set(func(r *simStore) { r.full, r.slow, r.refuse, r.before, r.after = false, 0, nil, nil, nil })
	}
}

// mendMaster starts a master whose store was changed behind its back again, for
// a person to decide.
func (w *simWorld) mendMaster() {
	if !w.lead.tampered {
		return
	}
	w.lead.tampered = false
	m, _ := w.lead.replicas()
	rep, err := m.Verify(context.Background())
	if err != nil {
		w.t.Errorf("Verify of the master: %v", err)
		return
	}
	if rep.OK {
		return
	}
	w.c.add("master's damage found by verify")
	w.lead.halt()
	w.startLead(w.plan.phases[0][0].x[3])
}

// converge waits until all followers are in sync, and compares what they hold.
func (w *simWorld) converge() bool {
	began := time.Now()
	m, lead := w.master()
	head := m.Status().Offset
	left := map[*simNode]bool{}
	for _, n := range w.others() {
		left[n] = true
	}
	for ; len(left) > 0; time.Sleep(250 * time.Millisecond) {
		w.revive() // so does a follower
		for _, n := range w.others() {
			if !left[n] {
				continue
			}
			if n.inSync(m, head) {
				delete(left, n)
				w.r.add(simEvent{kind: simInSync, node: n.n})
				continue
			}
			n.attend()
			if time.Since(began) > simPatience {
				w.r.add(simEvent{kind: simStuck, node: n.n, why: n.account(m)})
				delete(left, n)
				head = 0
			}
		}
	}
	if head == 0 {
		return false
	}
	w.say("all in sync after %v", time.Since(began))
	w.c.count("simulated ms until in sync", int(time.Since(began).Milliseconds()))
	w.c.add("convergences")
	w.r.add(simEvent{kind: simFinal, node: lead, items: contents(w.t, w.nodes[lead].rec.memory())})
	for _, n := range w.others() {
		w.r.add(simEvent{kind: simFinal, node: n.n, items: contents(w.t, n.rec.memory())})
	}
	return true
}

// inSync reports whether a follower says that it is in sync, and its master
// says so too.
func (n *simNode) inSync(m *master, head uint64) bool {
	_, f := n.replicas()
	s := f.Status()
	if !s.Complete || s.InSync == nil || !*s.InSync || s.Offset != head || s.LagCommits != 0 || s.State != replica.Streaming {
		return false
	}
	for _, fs := range m.Status().Followers {
		if fs.ID == n.id {
			return fs.Connected && fs.InSync != nil && *fs.InSync && fs.Acked == head && fs.Complete
		}
	}
	return false
}

// attend is what a person does who looks at a follower's status: nothing, unless
// the status says that it is up to a person.
func (n *simNode) attend() {
	_, f := n.replicas()
	s := f.Status()
	n.mu.Lock()
	asking, needs := n.asking, n.needs
	n.mu.Unlock()
	manual := n.plan.policy.Manual || n.plan.policy.NoDrift || n.plan.policy.NoConnect
	switch {
	case asking:
	case s.State == replica.Parked:
		n.w.c.add("rollback accepted")
		n.ask(replica.RepairOptions{AcceptRollback: true, AllowMassDelete: true})
	case s.State != replica.Drifted && s.State != replica.Initializing:
	case needs != "":
		n.w.c.add("mass delete allowed")
		n.ask(replica.RepairOptions{AllowMassDelete: true})
	case manual:
		n.ask(replica.RepairOptions{AllowMassDelete: true})
	}
}

// account is what both sides say of a follower that is not in sync.
func (n *simNode) account(m *master) string {
	_, f := n.replicas()
	text := brief(f.Status())
	for _, fs := range m.Status().Followers {
		if fs.ID == n.id {
			text += fmt.Sprintf("; its master says: %+v", fs)
		}
	}
	return text
}
