package replica_test

import (
	"fmt"
	"slices"
	"sort"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// A simBranch is one line of commits that a master has written: an epoch, or,
// if a backup was put in a master's place, what it went on with. It begins at
// an offset of its parent, with what the master held then.
type simBranch struct {
	n       int // in the order in which they began
	epoch   stream.Epoch
	parent  *simBranch
	base    uint64
	start   merkle.Summary
	commits []simCommit          // from base+1 on
	keys    map[string][]version // what each key was from which offset on
	logAt   uint64               // where the master's log begins
	past    map[string][]version // of the parents, as far as it was asked for
}

func (b *simBranch) end() uint64 { return b.base + uint64(len(b.commits)) }

// on returns the branch, b or one of its parents, that an offset lies on.
func (b *simBranch) on(offset uint64) *simBranch {
	for b.parent != nil && offset < b.base {
		b = b.parent
	}
	return b
}

func (b *simBranch) commit(offset uint64) *simCommit {
	b = b.onCommit(offset)
	if i := int(offset - b.base - 1); offset > b.base && i < len(b.commits) {
		return &b.commits[i]
	}
	return nil
}

// onCommit is on for a commit: the one at the base is the parent's.
func (b *simBranch) onCommit(offset uint64) *simBranch {
	for b.parent != nil && offset <= b.base {
		b = b.parent
	}
	return b
}

// sumAt returns the fingerprint of the dataset at an offset.
func (b *simBranch) sumAt(offset uint64) (merkle.Summary, bool) {
	b = b.on(offset)
	if offset == b.base {
		return b.start, true
	}
	if c := b.commit(offset); c != nil {
		return c.sum, true
	}
	return merkle.Summary{}, false
}

// at returns what a key was at an offset.
func (b *simBranch) at(key string, offset uint64) version {
	versions := b.on(offset).keys[key]
	if i := sort.Search(len(versions), func(i int) bool { return versions[i].offset > offset }); i > 0 {
		return versions[i-1]
	}
	return version{}
}

// next finds what a key is now among what it was on the way to the end of b,
// from an offset on, and returns since which offset it was that: the first one,
// so that nothing later is held against what may have been seen long ago.
func (b *simBranch) next(key string, from uint64, now version) (uint64, bool) {
	if from == 0 && !now.there {
		return 0, true // before the first
	}
	for _, versions := range [][]version{b.before(key), b.keys[key]} {
		i := sort.Search(len(versions), func(i int) bool { return versions[i].offset >= from })
		for _, v := range versions[i:] {
			if v.there == now.there && v.value == now.value {
				return v.offset, true
			}
		}
	}
	return 0, false
}

// before returns what a key was on the parents of b.
func (b *simBranch) before(key string) []version {
	if b.parent == nil {
		return nil
	}
	if old, ok := b.past[key]; ok {
		return old
	}
	var old []version
	for _, versions := range [][]version{b.parent.before(key), b.parent.keys[key]} {
		for _, v := range versions {
			if v.offset <= b.base {
				old = append(old, v)
			}
		}
	}
	if b.past == nil {
		b.past = map[string][]version{}
	}
	b.past[key] = old
	return old
}

// descends reports whether b is other or goes on from it at or after offset.
func (b *simBranch) descends(other *simBranch, offset uint64) bool {
	for ; b != nil; b = b.parent {
		if b == other {
			return true
		}
		if offset > b.base {
			return false
		}
	}
	return false
}

// A simShown is what a key of a node was from an event on.
type simShown struct {
	from  int
	value string
	there bool
}

// A simCopy is a node's store, as its transactions and what happened to it
// behind its back have made it.
type simCopy struct {
	role     store.Role
	items    map[string]string
	sum      merkle.Summary
	said     merkle.Summary // the summary that its newest transaction carried
	pos      stream.Position
	complete bool
	branch   *simBranch
	wild     map[string]bool       // keys that were changed behind its back, or garbled
	log      map[string][]simShown // by key
	changes  []simState            // after the events at which anything changed
	peak     uint64                // the highest offset it ever stood at
	bad      []simSpan             // commits that were garbled
	reloaded int                   // the last event at which the store was not what it was
	moved    int                   // the last event at which it came to another branch
	jumped   int                   // the same, if that does not go on from where it was
	consent  int                   // the last event at which a person agreed to a loss; -1 is never
	lossy    int                   // the last event at which a loss was to be expected
	logFrom  uint64                // after what offset there is a log, where that was lost with other things
	started  int                   // the last event at which it began to run
}

// A simState is where a copy stood after an event.
type simState struct {
	i     int
	pos   stream.Position
	whole bool // only then more than R3 and R4 is promised
	same  bool // it said that it was what its position says
}

// A simSpan is a range of commits, both included.
type simSpan struct{ first, last uint64 }

// garbled reports whether the test changed a commit before it was applied.
func (c *simCopy) garbled(offset uint64) bool {
	for _, s := range c.bad {
		if s.first <= offset && offset <= s.last {
			return true
		}
	}
	return false
}

// changed notes that the copy is another after event i.
func (c *simCopy) changed(i int) {
	c.changes = append(c.changes, simState{i, c.pos, c.whole(), c.complete && c.said == c.pos.Fingerprint})
	c.peak = max(c.peak, c.pos.Offset)
}

// inherited reports whether what a copy has under a key may be of a history that
// it has left.
func (c *simCopy) inherited(key string) bool {
	log := c.log[key]
	return !c.whole() && len(log) > 0 && log[len(log)-1].from <= max(c.jumped, c.reloaded)
}

// whole reports whether the copy is what its position says: only then more
// than R3 and R4 is promised.
func (c *simCopy) whole() bool {
	return c.complete && len(c.wild) == 0 && c.said == c.pos.Fingerprint
}

// at returns what a key was after event i.
func (c *simCopy) at(key string, i int) version {
	log := c.log[key]
	if j := sort.Search(len(log), func(j int) bool { return log[j].from > i }); j > 0 {
		return version{value: log[j-1].value, there: log[j-1].there}
	}
	return version{}
}

func simSum(key, value string) merkle.Summary {
	return merkle.Summary{Count: 1, Sum: merkle.XXH64().Hash([]byte(key), []byte(value))}
}

func (c *simCopy) set(i int, key string, v version) {
	old, ok := c.items[key]
	if ok == v.there && old == v.value {
		return
	}
	if ok {
		c.sum = c.sum.Sub(simSum(key, old))
		delete(c.items, key)
	}
	if v.there {
		c.items[key] = v.value
		c.sum = c.sum.Add(simSum(key, v.value))
	}
	c.log[key] = append(c.log[key], simShown{i, v.value, v.there})
}

// A simPast is a recorded run, replayed event by event: validators see each
// event before it has its effect here.
type simPast struct {
	events   []simEvent
	i        int // the event under way
	nodes    map[int]*simCopy
	branches []*simBranch
	found    []simViolation
	checking string // the validator under way
	lost     int    // the last event at which a master had lost something
}

// A simViolation is what a validator found.
type simViolation struct {
	validator string
	event     int
	what      string
}

func (v simViolation) String() string { return v.validator + ": " + v.what }

// maxViolations bounds what is reported of one run.
const maxViolations = 20

func (p *simPast) fail(format string, args ...any) {
	if len(p.found) < maxViolations {
		p.found = append(p.found, simViolation{p.checking, p.i, fmt.Sprintf(format, args...)})
	}
}

// A simCheck sees one event.
type simCheck func(e *simEvent)

// A simValidator is a promise. Begin returns what sees every event.
type simValidator struct {
	name  string
	begin func(p *simPast) simCheck
}

// simReplay replays a run and has the validators look at it.
func simReplay(events []simEvent, validators []simValidator) *simPast {
	p := &simPast{events: events, nodes: map[int]*simCopy{}}
	var checks []simCheck
	for _, v := range validators {
		p.checking = v.name
		checks = append(checks, v.begin(p))
	}
	for p.i = range events {
		e := &events[p.i]
		for j, check := range checks {
			p.checking = validators[j].name
			check(e)
		}
		p.checking = "replay"
		p.apply(e)
	}
	return p
}

func (p *simPast) node(n int) *simCopy {
	c := p.nodes[n]
	if c == nil {
		c = &simCopy{items: map[string]string{}, wild: map[string]bool{}, log: map[string][]simShown{}, consent: -1, lossy: -1}
		p.nodes[n] = c
	}
	return c
}

func (p *simPast) apply(e *simEvent) {
	c := p.node(e.node)
	switch e.kind {
	case simStored:
		p.stored(c, e.txn)
	case simTamper:
		op := e.ops[0]
		c.set(p.i, op.key, version{value: op.value, there: !op.del})
		c.wild[op.key] = true
		c.changed(p.i)
	case simReload:
		p.reload(c, e)
	case simConsent:
		c.consent, c.lossy = p.i, p.i
	case simRun:
		c.started = p.i
	}
}

// reload makes a copy hold what its store was found to hold.
func (p *simPast) reload(c *simCopy, e *simEvent) {
	for key := range c.items {
		if _, ok := e.items[key]; !ok {
			c.set(p.i, key, version{})
		}
	}
	for key, value := range e.items {
		c.set(p.i, key, version{value: value, there: true})
	}
	defer c.changed(p.i)
	if e.durable {
		return
	}
	c.reloaded, c.lossy, c.logFrom = p.i, p.i, e.offset
	if c.role == store.Master {
		p.lost = p.i
	}
	clear(c.wild)
	c.pos, c.complete, c.said = stream.Position{}, false, merkle.Summary{}
	if e.txn != nil {
		c.pos, c.complete, c.said, c.role = e.txn.pos, e.txn.complete, e.txn.sum, e.txn.role
		c.branch = p.find(c.branch, c.pos)
	} else {
		c.branch = nil
	}
}

// stored applies a transaction.
func (p *simPast) stored(c *simCopy, t *simTxn) {
	if t.role == store.Master {
		p.grow(c, t)
	} else {
		b := p.followed(c, t)
		if c.jumps(b, t.pos) {
			c.jumped = p.i
		}
		if b != c.branch {
			c.branch, c.moved = b, p.i
		}
	}
	for _, op := range t.ops {
		c.set(p.i, op.key, version{value: op.value, there: !op.del})
		if t.garbled {
			c.wild[op.key] = true
		}
	}
	if t.garbled {
		c.wild[""] = true // something is missing, whatever it is
		c.bad = append(c.bad, simSpan{c.pos.Offset + 1, t.pos.Offset})
	}
	c.role, c.pos, c.complete, c.said = t.role, t.pos, t.complete, t.sum
	if c.sum == c.pos.Fingerprint {
		clear(c.wild)
	}
	c.changed(p.i)
	if t.role == store.Master && c.branch != nil {
		c.branch.logAt = max(t.logStart.Offset, c.logFrom)
	}
}

// jumps reports whether a copy that comes to stand on a branch does not go on
// from where it was.
func (c *simCopy) jumps(b *simBranch, pos stream.Position) bool {
	if b == nil || c.branch == nil {
		return b != c.branch
	}
	return !b.descends(c.branch, c.pos.Offset) || b == c.branch && pos.Offset < c.pos.Offset
}

// grow adds what a master's transaction has written to its branch, or begins
// the branch.
func (p *simPast) grow(c *simCopy, t *simTxn) {
	at := t.pos.Offset - uint64(len(t.commits))
	b := c.branch
	if b == nil || b.epoch != t.pos.Epoch || b.end() != at {
		b = p.fork(c, t, at)
		c.branch, c.moved = b, p.i
	}
	for _, commit := range t.commits {
		b.commits = append(b.commits, commit)
		for _, op := range commit.ops {
			b.keys[op.key] = append(b.keys[op.key], version{commit.offset, op.value, !op.del})
		}
	}
}

// fork begins a branch at an offset, with what the copy holds.
func (p *simPast) fork(c *simCopy, t *simTxn, at uint64) *simBranch {
	b := &simBranch{n: len(p.branches), epoch: t.pos.Epoch, base: at, start: c.sum, keys: map[string][]version{}, logAt: t.logStart.Offset}
	if c.branch != nil {
		if c.branch.epoch == t.pos.Epoch {
			b.parent = p.find(c.branch, c.pos)
		} else {
			b.parent = p.find(c.branch, t.before)
		}
	}
	if len(t.commits) == 0 {
		b.start = t.pos.Fingerprint
	}
	if b.parent != nil {
		for key := range b.parent.keys {
			b.keys[key] = []version{{at, "", false}}
		}
	}
	for key, value := range c.items {
		b.keys[key] = []version{{at, value, true}}
	}
	for _, op := range t.ops {
		if len(t.commits) == 0 {
			delete(b.keys, op.key)
			if !op.del {
				b.keys[op.key] = []version{{at, op.value, true}}
			}
		}
	}
	p.branches = append(p.branches, b)
	return b
}

// find returns the branch that a position lies on: the one given if it does,
// else the newest.
func (p *simPast) find(first *simBranch, pos stream.Position) *simBranch {
	if pos.IsZero() {
		return nil
	}
	if first != nil && first.holds(pos) {
		return first
	}
	for _, b := range slices.Backward(p.branches) {
		if b.holds(pos) {
			return b
		}
	}
	return nil
}

// followed returns the branch that a follower's transaction comes to stand on.
// Two branches can have had the same fingerprints for a while: an old backup was
// in the master's place, and commits that change nothing were written over each
// other. Then it is the one whose commits the transaction applies.
func (p *simPast) followed(c *simCopy, t *simTxn) *simBranch {
	b := p.find(c.branch, t.pos)
	if b == nil || t.garbled || t.role != store.Follower || t.pos.Offset <= c.pos.Offset || b.applied(c.pos, t) {
		return b
	}
	for _, other := range slices.Backward(p.branches) {
		if other.holds(t.pos) && other.holds(c.pos) && other.applied(c.pos, t) {
			return other
		}
	}
	return b
}

// applied reports whether a transaction applies the commits of the branch, from a
// position on.
func (b *simBranch) applied(from stream.Position, t *simTxn) bool {
	return slices.Equal(b.ops(from.Offset, t.pos.Offset), t.ops)
}

// ops returns the ops of the commits after an offset, up to another.
func (b *simBranch) ops(after, upTo uint64) (all []simOp) {
	for o := after + 1; o <= upTo; o++ {
		if commit := b.commit(o); commit != nil {
			all = append(all, commit.ops...)
		}
	}
	return all
}

// holds reports whether a position lies on the branch.
func (b *simBranch) holds(pos stream.Position) bool {
	sum, ok := b.sumAt(pos.Offset)
	return b.epoch == pos.Epoch && ok && sum == pos.Fingerprint
}

// window returns the states of a node's store that a read may have shown which
// began at from and is told of now: the one at its beginning, and all since.
func (c *simCopy) window(from int) []simState {
	i := sort.Search(len(c.changes), func(i int) bool { return c.changes[i].i >= from })
	return c.changes[max(i-1, 0):]
}
