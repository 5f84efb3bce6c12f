package replica_test

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// simValidators are the promises that every recorded run is held against.
var simValidators = []simValidator{
	{"durable", durable},
	{"unique", unique},
	{"ordered", ordered},
	{"reliable", reliable},
	{"atomic", atomicity},
	{"fingerprinted", fingerprinted},
	{"bookmarkable", bookmarkable},
	{"resumable", resumable},
	{"truthful", truthful},
	{"no key goes back", noKeyGoesBack},
	{"as of its position", asOfPosition},
	{"no false delete", noFalseDelete},
	{"no rollback without consent", noRollback},
	{"convergent", convergent},
}

// forks reports whether a master's transaction begins another branch than the
// copy's, and where.
func (c *simCopy) forks(t *simTxn) (at uint64, forks bool) {
	at = t.pos.Offset - uint64(len(t.commits))
	return at, c.branch != nil && (c.branch.epoch != t.pos.Epoch || c.branch.end() != at)
}

// durable: what was acknowledged is in the store by then, whole; it survives a
// crash of a store that syncs; and a master leaves no commit behind unless a
// person said so or the store never promised it (L1, L3).
func durable(p *simPast) simCheck {
	forked := map[int]int{}
	calls := map[int][]simOp{}
	return func(e *simEvent) {
		c := p.node(e.node)
		switch e.kind {
		case simCall:
			calls[e.call] = e.ops
		case simReturn:
			if e.out != simAcked || e.pos.IsZero() {
				return
			}
			ops := e.ops
			if ops == nil {
				ops = calls[e.call]
			}
			b := p.find(c.branch, e.pos)
			if b == nil {
				p.fail("call %d was acknowledged at %d, where no store has it", e.call, e.pos.Offset)
			} else if got := b.commit(e.pos.Offset); got == nil || !slices.Equal(got.ops, ops) {
				p.fail("call %d was acknowledged at %d, but that is not its commit", e.call, e.pos.Offset)
			}
		case simReload:
			if !e.durable || len(c.changes) == 0 {
				return
			}
			if !maps.Equal(e.items, c.items) || e.txn != nil && e.txn.pos != c.pos || e.txn == nil && !c.pos.IsZero() {
				p.fail("n%d: after %s the store is not what it was: %d items, it held %d", e.node, e.why, len(e.items), len(c.items))
			}
		case simStored:
			if e.txn.role != store.Master {
				return
			}
			at, forks := c.forks(e.txn)
			if !forks {
				return
			}
			excused := c.lossy > forked[e.node]
			if c.branch.end() > at && !excused {
				p.fail("n%d: goes on from %d, although there were commits up to %d, and nobody agreed", e.node, at, c.branch.end())
			}
			if c.branch.epoch == e.txn.pos.Epoch && !excused {
				p.fail("n%d: L3: in one epoch the commit after %d is %d", e.node, c.branch.end(), at+1)
			}
			if sum, ok := c.branch.sumAt(at); ok && sum != c.sum && !excused {
				p.fail("n%d: begins an epoch at %d with other data than it had there", e.node, at)
			}
			if e.txn.complete { // else a restore is under way, which has been agreed to
				forked[e.node] = p.i
			}
		}
	}
}

// unique: a call has its effect once, or, if it was refused, not at all; and a
// watcher is told of nothing twice.
func unique(p *simPast) simCheck {
	byValue := map[string]int{}
	refused := map[int]bool{}
	done := map[int]uint64{}
	type seen struct {
		pos  stream.Position
		done bool
	}
	watchers := map[int]*seen{}
	return func(e *simEvent) {
		switch e.kind {
		case simCall:
			for _, op := range e.ops {
				if op.value != "" {
					byValue[op.value] = e.call
				}
			}
		case simReturn:
			if refused[e.call] = e.out == simRefused; refused[e.call] && done[e.call] > 0 {
				p.fail("call %d was refused, and is commit %d", e.call, done[e.call])
			}
		case simStored:
			for _, commit := range e.txn.commits {
				call, ok := 0, false
				for _, op := range commit.ops {
					if call, ok = byValue[op.value]; ok {
						break
					}
				}
				switch {
				case !ok:
				case refused[call]:
					p.fail("call %d was refused, and is commit %d", call, commit.offset)
				case done[call] > 0:
					p.fail("call %d is commit %d and commit %d", call, done[call], commit.offset)
				default:
					done[call] = commit.offset
				}
			}
		case simWatch:
			w := watchers[e.who]
			if w == nil {
				w = &seen{}
				watchers[e.who] = w
			}
			if !e.repair && !e.gap && w.done && e.pos == w.pos {
				p.fail("watcher %d was told of commit %d twice", e.who, e.pos.Offset)
			}
			if !e.repair {
				w.pos, w.done = e.pos, e.last
			}
		}
	}
}

// ordered: a follower's store takes the master's commits, as they are, one after
// the other; so do watchers. Only a copy that is not complete goes back, with a
// master that has lost something.
func ordered(p *simPast) simCheck {
	watched := map[int]stream.Position{}
	excused := map[int]int{}
	return func(e *simEvent) {
		c := p.node(e.node)
		switch e.kind {
		case simWatch:
			if was := watched[e.who]; was.Epoch == e.pos.Epoch && e.pos.Offset < was.Offset && !e.gap {
				p.fail("watcher %d was told of %d after %d", e.who, e.pos.Offset, was.Offset)
			}
			watched[e.who] = e.pos
		case simStored:
			t := e.txn
			if t.role != store.Follower || t.pos.IsZero() {
				return
			}
			b := p.followed(c, t)
			if b == nil {
				p.fail("n%d: stands at %d with fingerprint %v, where no master ever was", e.node, t.pos.Offset, t.pos.Fingerprint)
				return
			}
			back := b == c.branch && t.pos.Epoch == c.pos.Epoch && t.pos.Offset < c.pos.Offset
			if back && !c.complete && p.lost > excused[e.node] {
				excused[e.node] = p.lost // it has nothing that it could give up
			} else if back {
				p.fail("n%d: went from %d back to %d within an epoch", e.node, c.pos.Offset, t.pos.Offset)
			}
			if len(t.ops) == 0 || t.pos == c.pos || t.garbled {
				return
			}
			if want := b.ops(c.pos.Offset, t.pos.Offset); !slices.Equal(want, t.ops) {
				p.fail("n%d: from %d to %d it applied %d ops, which are not the %d of the commits", e.node, c.pos.Offset, t.pos.Offset, len(t.ops), len(want))
			}
		}
	}
}

// reliable: a and c means b. A follower passes over a commit only if it says
// that its base is incomplete, and calls it complete only when the fingerprints
// are equal (P2, R6); a watcher misses something only after it was told.
func reliable(p *simPast) simCheck {
	type seen struct {
		pos  stream.Position
		last bool
	}
	watched := map[int]*seen{}
	return func(e *simEvent) {
		c := p.node(e.node)
		switch e.kind {
		case simWatch:
			w := watched[e.who]
			switch {
			case w == nil || e.gap || w.pos.Epoch != e.pos.Epoch:
			case e.repair:
				return
			case e.pos.Offset == w.pos.Offset || e.pos.Offset == w.pos.Offset+1 && w.last:
			default:
				for o := w.pos.Offset; o < e.pos.Offset; o++ {
					if !c.garbled(o) && o > w.pos.Offset {
						p.fail("watcher %d of n%d was told of %d after %d, and of no gap", e.who, e.node, e.pos.Offset, w.pos.Offset)
						break
					}
				}
			}
			watched[e.who] = &seen{e.pos, e.last || e.gap}
			if e.repair {
				watched[e.who] = nil // begun in the middle
			}
		case simStored:
			t := e.txn
			if t.role != store.Follower {
				return
			}
			if t.pos.Offset != c.pos.Offset && len(t.ops) == 0 && !t.garbled && t.complete {
				p.fail("n%d: went from %d to %d without the commits between, and says it is complete", e.node, c.pos.Offset, t.pos.Offset)
			}
			if t.complete && !c.complete && t.sum != t.pos.Fingerprint {
				p.fail("n%d: became complete at %d with fingerprint %v, the master's is %v", e.node, t.pos.Offset, t.sum, t.pos.Fingerprint)
			}
		}
	}
}

// atomicity: a commit is seen whole or not at all: the keys that are always
// written together agree, in every read of a copy that is complete and not
// being repaired; and watchers are told of all the ops of a commit.
func atomicity(p *simPast) simCheck {
	watched := map[int][]simOp{}
	return func(e *simEvent) {
		c := p.node(e.node)
		switch e.kind {
		case simWatchOn:
			watched[e.who] = nil
		case simWatch:
			if e.gap || e.repair {
				watched[e.who] = nil
				return
			}
			got := append(watched[e.who], e.ops...)
			watched[e.who] = got
			if !e.last {
				return
			}
			watched[e.who] = nil
			b := p.find(c.branch, e.pos)
			if b == nil {
				p.fail("watcher %d was told of commit %d, which no master made", e.who, e.pos.Offset)
				return
			}
			if commit := b.commit(e.pos.Offset); (commit == nil || !slices.Equal(commit.ops, got)) && !c.garbled(e.pos.Offset) {
				p.fail("watcher %d of n%d was told of %d ops of commit %d, which are not those it has", e.who, e.node, len(got), e.pos.Offset)
			}
		case simRead:
			if e.hi == "" {
				return
			}
			for _, s := range c.window(e.from) {
				if !s.whole {
					return
				}
			}
			if why := simBroken(e.items); why != "" {
				p.fail("n%d: a read shows half a commit: %s", e.node, why)
			}
		}
	}
}

// truthful: what a read shows is what the store held at one moment of it.
func truthful(p *simPast) simCheck {
	return func(e *simEvent) {
		if e.kind != simRead {
			return
		}
		c := p.node(e.node)
		for _, s := range c.window(e.from) {
			if c.showed(e, s.i) {
				return
			}
		}
		v := c.at(e.lo, p.i)
		p.fail("n%d: a read of %q shows %d items, %.20q, which it did not hold at any moment meanwhile; now it holds %.20q (%v)", e.node, e.lo, len(e.items), e.items[e.lo], v.value, v.there)
	}
}

// showed reports whether a read shows what the copy held after event i.
func (c *simCopy) showed(e *simEvent, i int) bool {
	for key := range c.log {
		if key != e.lo && (e.hi == "" || key < e.lo || key >= e.hi) {
			continue
		}
		v := c.at(key, i)
		if value, ok := e.items[key]; ok != v.there || value != v.value {
			return false
		}
	}
	for key := range e.items {
		if !c.at(key, i).there {
			return false
		}
	}
	return true
}

// convergent: when faults and writes have stopped, every node is in sync, and
// says so, within simPatience; and all hold the same.
func convergent(p *simPast) simCheck {
	var healed time.Duration
	waiting := 0
	var final map[string]string
	return func(e *simEvent) {
		switch e.kind {
		case simHeal:
			if waiting > 0 {
				p.fail("%d nodes never said that they were in sync", waiting)
			}
			healed, waiting, final = e.at, e.call, nil
		case simInSync:
			waiting--
			if d := e.at - healed; d > simPatience {
				p.fail("n%d was in sync only %v after the faults had stopped", e.node, d)
			}
		case simStuck:
			waiting = 0
			p.fail("n%d is not in sync %v after the faults have stopped: %s", e.node, e.at-healed, e.why)
		case simFinal:
			if waiting > 0 {
				p.fail("%d nodes never said that they were in sync", waiting)
				waiting = 0
			}
			if c := p.node(e.node); !maps.Equal(c.items, e.items) {
				p.fail("n%d holds %d items, its transactions add up to %d others", e.node, len(e.items), len(c.items))
			}
			if final == nil {
				final = e.items
			}
			if !maps.Equal(final, e.items) {
				p.fail("n%d holds %d items, another node %d others", e.node, len(e.items), len(final))
			}
		}
	}
}

// simBroken says how items that are always written together disagree, empty if
// they do not: transfers between accounts keep their sum, and the keys of the
// group always carry the same stamp.
func simBroken(all map[string]string) string {
	return strings.TrimSpace(brokenAccounts(all) + " " + brokenGroup(all))
}
