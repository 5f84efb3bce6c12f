package replica_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// A forger makes up histories by hand: n0 is the master, n1 follows.
type forger struct {
	events []simEvent
	held   [2]map[string]string
	pos    [2]stream.Position
	ops    [][]simOp // of the commits
	sums   []merkle.Summary
	calls  int
}

func newForger() *forger {
	f := &forger{held: [2]map[string]string{{}, {}}}
	f.pos[0] = stream.Position{Epoch: stream.Epoch{1}}
	f.add(simEvent{kind: simRun, node: 0, why: "master"})
	f.store(0, nil, true)
	f.add(simEvent{kind: simRun, node: 1, why: "follower"})
	f.pos[1] = f.pos[0]
	f.store(1, nil, false)
	f.store(1, nil, true)
	return f
}

func (f *forger) add(e simEvent) *simEvent {
	e.at = time.Duration(len(f.events)) * time.Millisecond
	f.events = append(f.events, e)
	return &f.events[len(f.events)-1]
}

func (f *forger) has(node int, ops []simOp) {
	for _, op := range ops {
		delete(f.held[node], op.key)
		if !op.del {
			f.held[node][op.key] = op.value
		}
	}
}

// store has a node's store take a transaction.
func (f *forger) store(node int, ops []simOp, complete bool) *simTxn {
	f.has(node, ops)
	t := &simTxn{role: store.Follower, ops: ops, pos: f.pos[node], sum: fingerprint(f.held[node]), complete: complete}
	if node == 0 {
		t.role = store.Master
	}
	f.add(simEvent{kind: simStored, node: node, txn: t})
	return t
}

// write has a client write, and the master commit and acknowledge it.
func (f *forger) write(ops ...simOp) (call int) {
	f.calls++
	f.add(simEvent{kind: simCall, call: f.calls, ops: ops})
	f.commit(ops)
	f.add(simEvent{kind: simReturn, call: f.calls, pos: f.pos[0]})
	return f.calls
}

func (f *forger) commit(ops []simOp) *simTxn {
	f.has(0, ops)
	f.ops, f.sums = append(f.ops, ops), append(f.sums, fingerprint(f.held[0]))
	f.pos[0].Offset++
	f.pos[0].Fingerprint = f.sums[len(f.sums)-1]
	t := f.store(0, ops, true)
	t.commits = []simCommit{{f.pos[0].Offset, t.sum, ops}}
	return t
}

// follow has the follower apply the next commit, and a watcher told of it.
func (f *forger) follow() *simTxn {
	n := f.pos[1].Offset
	f.pos[1].Offset, f.pos[1].Fingerprint = n+1, f.sums[n]
	t := f.store(1, f.ops[n], true)
	f.watch(n + 1)
	return t
}

func (f *forger) watch(offset uint64) {
	pos := stream.Position{Epoch: f.pos[0].Epoch, Offset: offset, Fingerprint: f.sums[offset-1]}
	for i, op := range f.ops[offset-1] {
		f.add(simEvent{kind: simWatch, node: 1, who: 7, pos: pos, ops: []simOp{op}, last: i == len(f.ops[offset-1])-1})
	}
}

func (f *forger) read(keys map[string]string) *simEvent {
	return f.add(simEvent{kind: simRead, node: 1, from: len(f.events), lo: "a", hi: "b", items: keys})
}

func (f *forger) readKey(key string, items map[string]string) {
	e := f.read(items)
	e.lo, e.hi = key, ""
}

func (f *forger) status() *simEvent {
	return f.add(simEvent{
		kind: simStatus, node: 1, from: len(f.events), pos: stream.Position{Offset: f.pos[1].Offset},
		epoch: f.pos[1].Epoch.String(), same: true, whole: true,
	})
}

// settle ends the history well.
func (f *forger) settle() {
	for f.pos[1].Offset < f.pos[0].Offset {
		f.follow()
	}
	f.add(simEvent{kind: simHeal, call: 1})
	f.add(simEvent{kind: simInSync, node: 1})
	for i := range f.held {
		f.add(simEvent{kind: simFinal, node: i, items: maps.Clone(f.held[i])})
	}
}

func put1(key, value string) simOp { return simOp{key: key, value: value} }

// group1 is a commit of the keys that are always written together.
func group1(stamp string) (ops []simOp) {
	for i := range simGroup {
		ops = append(ops, put1(simGroupKey(i), stamp+"|"+string(rune('a'+i))))
	}
	return ops
}

// begun is a history that has begun well.
func begun() *forger {
	f := newForger()
	f.write(put1("a1", "v1"))
	f.write(group1("s1")...)
	f.write(put1("a1", "v2"), put1("a2", "v3"))
	for range 3 {
		f.follow()
	}
	f.read(map[string]string{"a1": "v2", "a2": "v3"}).hi = "acct"
	f.status()
	return f
}

// simLies are histories that break a promise, by the validator that has to
// find it.
var simLies = []struct {
	validator, what string
	tell            func(f *forger)
}{
	{"durable", "acknowledged before it was stored", func(f *forger) {
		f.add(simEvent{kind: simCall, call: 50, ops: []simOp{put1("a9", "x")}})
		f.add(simEvent{kind: simReturn, call: 50, pos: stream.Position{Epoch: f.pos[0].Epoch, Offset: 4, Fingerprint: merkle.Summary{Count: 9, Sum: 9}}})
	}},
	{"durable", "acknowledged as another's commit", func(f *forger) {
		f.write(put1("a9", "x"))
		f.add(simEvent{kind: simCall, call: 50, ops: []simOp{put1("a9", "y")}})
		f.add(simEvent{kind: simReturn, call: 50, pos: f.pos[0]})
	}},
	{"durable", "a synced store lost something in a crash", func(f *forger) {
		items := maps.Clone(f.held[0])
		delete(items, "a1")
		f.add(simEvent{kind: simReload, node: 0, items: items, durable: true, txn: &simTxn{role: store.Master, pos: f.pos[0]}})
	}},
	{"durable", "a master goes on from an earlier offset in the same epoch", func(f *forger) {
		f.pos[0].Offset--
		f.ops, f.sums = f.ops[:2], f.sums[:2]
		f.commit([]simOp{put1("a5", "z")})
	}},
	{"durable", "a master begins an epoch before its end, and nobody agreed", func(f *forger) {
		before := stream.Position{Epoch: f.pos[0].Epoch, Offset: 2, Fingerprint: f.sums[1]}
		f.pos[0] = stream.Position{Epoch: stream.Epoch{2}, Offset: 2, Fingerprint: f.sums[1]}
		f.store(0, nil, true).before = before
	}},
	{"unique", "a refused write was committed", func(f *forger) {
		call := f.write(put1("a9", "x"))
		f.events[len(f.events)-1] = simEvent{kind: simReturn, call: call, out: simRefused}
	}},
	{"unique", "a write was committed twice", func(f *forger) {
		f.write(put1("a9", "x"))
		f.commit([]simOp{put1("a9", "x")})
	}},
	{"unique", "a watcher was told twice", func(f *forger) { f.watch(3) }},
	{"ordered", "a follower passes over an op", func(f *forger) {
		f.write(put1("a7", "x"), put1("a8", "y"))
		f.pos[1] = f.pos[0]
		f.store(1, f.ops[3][:1], true)
	}},
	{"ordered", "a follower applies a commit twice", func(f *forger) {
		f.write(put1("a7", "x"))
		f.pos[1] = f.pos[0]
		f.store(1, append(slices.Clone(f.ops[2]), f.ops[3]...), true)
	}},
	{"ordered", "a follower's position goes back", func(f *forger) {
		f.pos[1].Offset, f.pos[1].Fingerprint = 2, f.sums[1]
		f.store(1, nil, false)
	}},
	{"ordered", "a follower stands where no master was", func(f *forger) {
		f.pos[1].Offset, f.pos[1].Fingerprint = 3, merkle.Summary{Count: 1, Sum: 1}
		f.store(1, nil, false)
	}},
	{"ordered", "a watcher is told of the past", func(f *forger) { f.watch(2) }},
	{"reliable", "a follower jumps and says it is complete", func(f *forger) {
		f.write(put1("a7", "x"))
		f.pos[1] = f.pos[0]
		f.store(1, nil, true)
	}},
	{"reliable", "a follower calls itself complete and is not", func(f *forger) {
		f.write(put1("a7", "x"))
		f.pos[1] = f.pos[0]
		f.store(1, nil, false)
		f.store(1, nil, true)
	}},
	{"reliable", "a watcher misses a commit", func(f *forger) {
		f.write(put1("a7", "x"))
		f.write(put1("a8", "x"))
		f.watch(5)
	}},
	{"atomic", "a read shows half of a commit", func(f *forger) {
		f.write(group1("s2")...)
		f.follow()
		items := map[string]string{}
		for i, op := range f.ops[3] {
			items[op.key] = op.value
			if i > 1 {
				items[op.key] = f.ops[1][i].value
			}
		}
		e := f.read(items)
		e.lo, e.hi = "acct/", "acct0"
	}},
	{"atomic", "a watcher is told of half of a commit", func(f *forger) {
		f.write(put1("a7", "x"), put1("a8", "y"))
		f.add(simEvent{kind: simWatch, node: 1, who: 7, pos: f.pos[0], ops: f.ops[3][:1], last: true})
	}},
	{"fingerprinted", "a commit carries a wrong fingerprint", func(f *forger) {
		f.calls++
		f.add(simEvent{kind: simCall, call: f.calls, ops: []simOp{put1("a7", "x")}})
		f.commit([]simOp{put1("a7", "x")}).commits[0].sum.Sum++
	}},
	{"fingerprinted", "a follower's summary is not of what it holds", func(f *forger) {
		f.write(put1("a7", "x"))
		f.follow().sum.Sum++
	}},
	{"bookmarkable", "a status runs ahead of the data", func(f *forger) { f.status().pos.Offset++ }},
	{"bookmarkable", "a status says in sync too early", func(f *forger) {
		f.write(put1("a7", "x"))
		t := f.follow()
		t.sum.Sum++
		f.status()
	}},
	{"bookmarkable", "WaitFor comes back too early", func(f *forger) {
		f.add(simEvent{kind: simWaited, node: 1, from: len(f.events), pos: stream.Position{Offset: 4}})
	}},
	{"bookmarkable", "a master says acknowledged too early", func(f *forger) {
		f.add(simEvent{kind: simStatus, node: 1, call: 1, pos: stream.Position{Offset: 4}})
	}},
	{"bookmarkable", "a watcher is told before the store has it", func(f *forger) {
		f.write(put1("a7", "x"))
		f.watch(4)
	}},
	{"resumable", "a watch goes on behind its bookmark", func(f *forger) {
		f.add(simEvent{kind: simWatchOn, node: 1, who: 7, offset: 2})
		f.watch(3)
	}},
	{"resumable", "a watcher is told that the log is trimmed, which it is not", func(f *forger) {
		f.add(simEvent{kind: simWatchOn, node: 0, who: 8, offset: 2})
		f.add(simEvent{kind: simWatchOff, node: 0, who: 8, offset: 2, why: "trimmed"})
	}},
	{"resumable", "a follower begins anew although the log reaches back", func(f *forger) {
		f.write(put1("a7", "x"))
		f.pos[1] = f.pos[0]
		f.store(1, nil, false)
	}},
	{"truthful", "a read shows what was never there", func(f *forger) {
		f.read(map[string]string{"a1": "v2", "a2": "v9"}).hi = "acct"
	}},
	{"truthful", "a read shows what was there before it began", func(f *forger) {
		f.read(map[string]string{"a1": "v1"}).hi = "acct"
	}},
	{"truthful", "a read shows less than was there", func(f *forger) {
		f.read(map[string]string{"a1": "v2"}).hi = "acct"
	}},
	{"no key goes back", "a repair puts an old value", func(f *forger) { f.store(1, []simOp{put1("a1", "v1")}, true) }},
	{"no key goes back", "a reader sees an old value after a new one", func(f *forger) {
		f.read(map[string]string{"a1": "v1", "a2": "v3"}).hi = "acct"
	}},
	{"no key goes back", "a repair takes away what was never deleted", func(f *forger) {
		f.store(1, []simOp{{key: "a2", del: true}}, true)
	}},
	{"as of its position", "a repair puts a value of the future", func(f *forger) {
		f.write(put1("a1", "v8"))
		f.store(1, []simOp{put1("a1", "v8")}, true)
	}},
	{"no false delete", "a repair deletes what the master holds", func(f *forger) {
		f.store(1, []simOp{{key: "a2", del: true}}, true)
	}},
	{"no false delete", "a master deletes what nobody asked for", func(f *forger) {
		f.commit([]simOp{{key: "a2", del: true}})
	}},
	{"no rollback without consent", "a follower goes over to a master that lost something", func(f *forger) {
		// An old backup is in the master's place, and is written over.
		f.has(0, []simOp{put1("a1", "v1"), {key: "a2", del: true}})
		f.pos[0].Offset, f.pos[0].Fingerprint = 2, f.sums[1]
		f.ops, f.sums = f.ops[:2], f.sums[:2]
		f.add(simEvent{kind: simReload, node: 0, items: maps.Clone(f.held[0]), txn: &simTxn{role: store.Master, pos: f.pos[0], sum: f.sums[1], complete: true}})
		f.commit([]simOp{put1("a1", "w1")})
		f.pos[1] = f.pos[0]
		f.store(1, nil, false)
	}},
	{"convergent", "a follower never says that it is in sync", func(f *forger) {
		f.add(simEvent{kind: simHeal, call: 1})
		f.add(simEvent{kind: simFinal, node: 0, items: maps.Clone(f.held[0])})
	}},
	{"convergent", "a follower is in sync too late", func(f *forger) {
		f.add(simEvent{kind: simHeal, call: 1})
		f.add(simEvent{kind: simInSync, node: 1}).at += simPatience + time.Second
	}},
	{"convergent", "a follower is stuck", func(f *forger) { f.add(simEvent{kind: simStuck, node: 1}) }},
	{"convergent", "nodes end different", func(f *forger) {
		f.add(simEvent{kind: simHeal, call: 0})
		f.add(simEvent{kind: simFinal, node: 0, items: maps.Clone(f.held[0])})
		f.held[1]["a1"] = "v7"
		f.add(simEvent{kind: simFinal, node: 1, items: maps.Clone(f.held[1])})
	}},
}

// TestSimulationValidators tells the validators histories that break promises,
// and demands that each is found by the one whose business it is; and that none
// has anything against the history without the lie.
func TestSimulationValidators(t *testing.T) {
	caught := map[string]int{}
	for _, lie := range simLies {
		t.Run(lie.validator+"/"+lie.what, func(t *testing.T) {
			good := begun()
			good.settle()
			if p := simReplay(good.events, simValidators); len(p.found) > 0 {
				t.Fatalf("a good history is found fault with: %v", p.found)
			}
			f := begun()
			began := len(f.events)
			lie.tell(f)
			p := simReplay(f.events, simValidators)
			if !slices.ContainsFunc(p.found, func(v simViolation) bool { return v.validator == lie.validator && v.event >= began }) {
				t.Errorf("it was not found; found was: %v", p.found)
			}
			caught[lie.validator]++
		})
	}
	for _, v := range simValidators {
		if caught[v.name] == 0 {
			t.Errorf("no lie tests the validator %q", v.name)
		}
	}
}

// backup puts in n0's place what it was at an offset, with all that could tell.
func (f *forger) backup(offset uint64) {
	held := map[string]string{}
	f.ops, f.sums = f.ops[:offset], f.sums[:offset]
	for _, ops := range f.ops {
		for _, op := range ops {
			delete(held, op.key)
			if !op.del {
				held[op.key] = op.value
			}
		}
	}
	f.held[0] = held
	f.pos[0].Offset, f.pos[0].Fingerprint = offset, f.sums[offset-1]
	f.add(simEvent{kind: simReload, node: 0, items: maps.Clone(held), txn: &simTxn{role: store.Master, pos: f.pos[0], sum: f.pos[0].Fingerprint, complete: true}})
}

// simOddities are histories that keep every promise and look as if they did not.
var simOddities = []struct {
	what string
	tell func(f *forger)
}{
	{"commits that change nothing are written over each other", func(f *forger) {
		f.commit([]simOp{{key: "a8", del: true}})
		f.backup(3)
		f.commit([]simOp{{key: "a9", del: true}})
		f.follow()
	}},
	{"an empty copy lacks what the master deletes later, and a backup has it again", func(f *forger) {
		f.write(put1("a7", "was there"))
		f.held[1], f.pos[1] = map[string]string{}, stream.Position{}
		f.add(simEvent{kind: simReload, node: 1, items: map[string]string{}})
		f.pos[1] = f.pos[0]
		f.store(1, nil, false)
		f.add(simEvent{kind: simWatch, node: 1, who: 7, pos: f.pos[1], gap: true})
		f.commit([]simOp{{key: "a7", del: true}})
		f.readKey("a7", map[string]string{})
		f.backup(4)
		f.commit([]simOp{put1("a9", "x")})
		var ops []simOp
		for _, key := range slices.Sorted(maps.Keys(f.held[0])) {
			if key != "a9" {
				ops = append(ops, put1(key, f.held[0][key]))
			}
		}
		f.store(1, ops, false)
		f.store(1, nil, true)
		f.follow()
		f.readKey("a7", map[string]string{"a7": "was there"})
	}},
}

// TestSimulationValidatorsAreFair tells the validators histories that only look
// as if they broke a promise.
func TestSimulationValidatorsAreFair(t *testing.T) {
	for _, odd := range simOddities {
		t.Run(odd.what, func(t *testing.T) {
			f := begun()
			// What is deleted was asked for.
			f.add(simEvent{kind: simCall, call: 90, ops: []simOp{{key: "a7", del: true}, {key: "a8", del: true}, {key: "a9", del: true}}})
			odd.tell(f)
			f.settle()
			for _, v := range simReplay(f.events, simValidators).found {
				t.Error(v)
			}
		})
	}
}
