package replica_test

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
)

// simAccounts and simShare: so many accounts hold so much each, on average.
const (
	simAccounts = 6
	simShare    = 1000
	simGroup    = 5
)

func simAccount(i int) string   { return fmt.Sprintf("acct/%d", i) }
func simGroupKey(i int) string  { return fmt.Sprintf("acct/group%d", i) }
func stamp(value string) string { s, _, _ := strings.Cut(value, "|"); return s }
func balance(value string) int  { n, _ := strconv.Atoi(stamp(value)); return n }

func brokenAccounts(all map[string]string) string {
	sum, n := 0, 0
	for i := range simAccounts {
		if v, ok := all[simAccount(i)]; ok {
			n++
			sum += balance(v)
		}
	}
	if n == 0 || n == simAccounts && sum == simAccounts*simShare {
		return ""
	}
	return fmt.Sprintf("%d of %d accounts, which hold %d", n, simAccounts, sum)
}

func brokenGroup(all map[string]string) string {
	n, first := 0, ""
	for i := range simGroup {
		v, ok := all[simGroupKey(i)]
		if !ok {
			continue
		}
		if n++; n == 1 {
			first = stamp(v)
		} else if stamp(v) != first {
			return fmt.Sprintf("of the group, one key carries %s, another %s", first, stamp(v))
		}
	}
	if n == 0 || n == simGroup {
		return ""
	}
	return fmt.Sprintf("%d of %d keys of the group", n, simGroup)
}

// fingerprinted: every commit carries the fingerprint of the dataset after it,
// and every transaction the summary of what the store holds then.
func fingerprinted(p *simPast) simCheck {
	hidden := map[int]bool{} // something was changed behind its back
	return func(e *simEvent) {
		c := p.node(e.node)
		switch {
		case e.kind == simTamper:
			hidden[e.node] = true
		case e.kind == simReload && !e.durable:
			hidden[e.node] = c.sum != e.txn.summary()
		case e.kind == simStored:
			t := e.txn
			over := overlay{c: c, now: map[string]version{}, sum: c.sum}
			for _, commit := range t.commits {
				over.apply(commit.ops)
				if over.sum != commit.sum && !hidden[e.node] {
					p.fail("n%d: commit %d carries %v, the dataset is %v", e.node, commit.offset, commit.sum, over.sum)
				}
			}
			if len(t.commits) == 0 {
				over.apply(t.ops)
			}
			if over.sum == t.sum {
				hidden[e.node] = false
			} else if !hidden[e.node] {
				p.fail("n%d: at %d the summary says %v, the store holds %v", e.node, t.pos.Offset, t.sum, over.sum)
			}
		}
	}
}

func (t *simTxn) summary() merkle.Summary {
	if t == nil {
		return merkle.Summary{}
	}
	return t.sum
}

// An overlay is a copy with some ops over it.
type overlay struct {
	c   *simCopy
	now map[string]version
	sum merkle.Summary
}

func (o *overlay) get(key string) version {
	if v, ok := o.now[key]; ok {
		return v
	}
	value, there := o.c.items[key]
	return version{value: value, there: there}
}

func (o *overlay) apply(ops []simOp) {
	for _, op := range ops {
		if v := o.get(op.key); v.there {
			o.sum = o.sum.Sub(simSum(op.key, v.value))
		}
		if !op.del {
			o.sum = o.sum.Add(simSum(op.key, op.value))
		}
		o.now[op.key] = version{value: op.value, there: !op.del}
	}
}

// bookmarkable: no position that is reported runs ahead of the data: not a
// node's own, not what a master says was acknowledged, not that of a watcher;
// and who says "in sync" was.
func bookmarkable(p *simPast) simCheck {
	return func(e *simEvent) {
		c := p.node(e.node)
		switch e.kind {
		case simStatus:
			if e.call > 0 { // what its master says
				if e.pos.Offset > c.peak {
					p.fail("n%d has acknowledged %d, its master says, but never stood beyond %d", e.node, e.pos.Offset, c.peak)
				}
				return
			}
			if e.epoch != c.pos.Epoch.String() {
				return // read while it changed
			}
			if e.pos.Offset > c.pos.Offset {
				p.fail("n%d says that it stands at %d, its store stands at %d", e.node, e.pos.Offset, c.pos.Offset)
			}
			if e.same && e.whole && c.role == store.Follower && !c.saidSame(e) {
				p.fail("n%d said that it was complete and in sync at %d, which it was not", e.node, e.pos.Offset)
			}
		case simWaited:
			for _, s := range c.window(e.from) {
				if s.pos.Offset >= e.pos.Offset {
					return
				}
			}
			p.fail("n%d: WaitFor(%d) came back, but the store stands at %d", e.node, e.pos.Offset, c.pos.Offset)
		case simWatch:
			if e.pos.Offset > c.peak {
				p.fail("n%d: a watcher was told of %d, the store never stood beyond %d", e.node, e.pos.Offset, c.peak)
			}
		}
	}
}

// saidSame reports whether the copy was the master's at the offset that a
// status names: lately, for a status may be one transaction old.
func (c *simCopy) saidSame(e *simEvent) bool {
	states := c.changes[max(0, len(c.changes)-len(c.window(e.from))-1):]
	for _, s := range states {
		if s.pos.Offset == e.pos.Offset && s.same {
			return true
		}
	}
	return false
}

// resumable: a watch that goes on from a bookmark misses nothing, and says that
// the log is trimmed only if it is; a follower that is complete gets what it
// missed from the log, and begins anew only if the log does not reach back or a
// person said so.
func resumable(p *simPast) simCheck {
	from, began := map[int]uint64{}, map[int]int{}
	return func(e *simEvent) {
		c := p.node(e.node)
		switch e.kind {
		case simWatchOn:
			from[e.who], began[e.who] = e.offset, p.i
		case simWatch:
			if want := from[e.who]; want > 0 && e.pos.Offset != want {
				p.fail("watcher %d asked for %d, and was told of %d first", e.who, want, e.pos.Offset)
			}
			delete(from, e.who)
		case simWatchOff:
			if c.started < began[e.who] && c.branch != nil && e.offset > c.branch.logAt {
				p.fail("watcher %d was told that %d is trimmed (%s), but the log begins after %d", e.who, e.offset, e.why, c.branch.logAt)
			}
		case simStored:
			t := e.txn
			if t.role != store.Follower || !c.complete || t.complete || t.pos == c.pos {
				return
			}
			b := p.followed(c, t)
			if b == nil || b.logAt > c.pos.Offset || c.consent > c.moved || c.consent > c.started {
				return
			}
			p.fail("n%d: stood at %d, which the log after %d holds, and did not resume", e.node, c.pos.Offset, b.logAt)
		}
	}
}

// noRollback: a follower with a complete base goes over to another history only
// if that goes on from where it stands, if the log does not reach back, or if a
// person said so (P1).
func noRollback(p *simPast) simCheck {
	return func(e *simEvent) {
		if e.kind != simStored || e.txn.role != store.Follower {
			return
		}
		c, t := p.node(e.node), e.txn
		if !c.complete || c.branch == nil || t.pos.IsZero() {
			return
		}
		b := p.followed(c, t)
		switch {
		case b == nil || b == c.branch || b.descends(c.branch, c.pos.Offset):
		case c.consent > c.moved || c.consent > c.started:
		case b.logAt > c.pos.Offset:
		default:
			p.fail("P1: n%d: stood at %d and went over to another history at %d, and nobody agreed", e.node, c.pos.Offset, t.pos.Offset)
		}
	}
}

// asOfPosition: a piece of a repair is the master's state of the position at
// which the follower stands (R2).
func asOfPosition(p *simPast) simCheck {
	return func(e *simEvent) {
		if e.kind != simStored || e.txn.role != store.Follower || e.txn.garbled {
			return
		}
		c, t := p.node(e.node), e.txn
		b := p.followed(c, t)
		if b == nil || t.pos != c.pos {
			return
		}
		for _, op := range t.ops {
			if v := b.at(op.key, t.pos.Offset); !op.del && (!v.there || v.value != op.value) {
				p.fail("R2: n%d: at %d a repair put %q = %.20q, the master had %.20q (%v)", e.node, t.pos.Offset, op.key, op.value, v.value, v.there)
			}
		}
	}
}

// noFalseDelete: a key is deleted only if a client deleted it; by a repair, only
// if the master does not hold it, whatever has happened to the master's store
// (R4).
func noFalseDelete(p *simPast) simCheck {
	asked := map[string]bool{}
	return func(e *simEvent) {
		if e.kind == simCall || e.kind == simReturn {
			for _, op := range e.ops {
				if op.del {
					asked[op.key] = true
				}
			}
		}
		if e.kind != simStored || e.txn.garbled {
			return
		}
		c, t := p.node(e.node), e.txn
		b := p.followed(c, t)
		for _, op := range t.ops {
			if !op.del {
				continue
			}
			switch v := (version{}); {
			case t.role == store.Master && len(t.commits) > 0, t.role == store.Follower && t.pos != c.pos:
				if !asked[op.key] {
					p.fail("n%d: commit %d deletes %q, which nobody asked for", e.node, t.pos.Offset, op.key)
				}
			case t.role == store.Master:
				if c.consent < c.started {
					p.fail("n%d: the master lost %q without a commit", e.node, op.key)
				}
			case b != nil:
				if v = b.at(op.key, t.pos.Offset); v.there {
					p.fail("R4: n%d: at %d a repair deleted %q, which the master holds", e.node, t.pos.Offset, op.key)
				}
			}
		}
	}
}

// noKeyGoesBack: the values that a follower holds for a key, and those that its
// readers see, are in order among those that the master held (R3).
func noKeyGoesBack(p *simPast) simCheck {
	type trace struct {
		branch *simBranch
		seen   map[string]uint64 // by key: the offset of what it was last
		jumped int               // of the copy, then
	}
	// What each node holds, and what each reader of it has seen.
	held, shown := map[[2]int]*trace{}, map[[2]int]*trace{}
	// follow returns the trace of a node, which begins anew when the node comes
	// to a history that does not go on from where it was.
	follow := func(m map[[2]int]*trace, node [2]int, b *simBranch, jumped int) *trace {
		t := m[node]
		if t == nil || t.jumped != jumped {
			t = &trace{seen: map[string]uint64{}, jumped: jumped}
			m[node] = t
		}
		t.branch = b
		return t
	}
	check := func(t *trace, node int, key string, now version, what string) {
		v, ok := t.branch.next(key, t.seen[key], now)
		if !ok && !strings.HasPrefix(now.value, simForeign) {
			p.fail("R3: n%d: %q went back in time %s, to %.20q (%v)", node, key, what, now.value, now.there)
		}
		t.seen[key] = max(v, t.seen[key])
	}
	return func(e *simEvent) {
		c := p.node(e.node)
		switch e.kind {
		case simReload:
			if !e.durable {
				for _, m := range []map[[2]int]*trace{held, shown} {
					maps.DeleteFunc(m, func(of [2]int, _ *trace) bool { return of[0] == e.node })
				}
			}
		case simStored:
			t := e.txn
			b := p.followed(c, t)
			if t.role != store.Follower || b == nil {
				return
			}
			jumped := c.jumped
			if c.jumps(b, t.pos) {
				jumped = p.i
			}
			tr := follow(held, [2]int{e.node}, b, jumped)
			if t.garbled {
				return
			}
			over := overlay{c: c, now: map[string]version{}}
			over.apply(t.ops)
			for key, now := range over.now {
				if was := (version{value: c.items[key], there: c.at(key, p.i).there}); now != was {
					check(tr, e.node, key, now, "in the store")
				}
			}
		case simRead:
			if c.branch == nil || since(c.reloaded, e.from) || since(c.moved, e.from) || c.role != store.Follower {
				return
			}
			tr := follow(shown, [2]int{e.node, e.who}, c.branch, c.jumped)
			for _, key := range readKeys(c, e) {
				value, there := e.items[key]
				if !c.wild[key] && !c.wild[""] && !c.inherited(key) {
					check(tr, e.node, key, version{value: value, there: there}, "before a reader's eyes")
				}
			}
		}
	}
}

// since reports whether something at event i is of from or later.
func since(i, from int) bool { return i > 0 && i >= from }

// readKeys returns the keys that a read says something of.
func readKeys(c *simCopy, e *simEvent) (all []string) {
	if e.hi == "" {
		return []string{e.lo}
	}
	for key := range c.log {
		if key >= e.lo && key < e.hi {
			all = append(all, key)
		}
	}
	return all
}
