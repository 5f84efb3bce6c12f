//go:build chaos

package chaos

import (
	"slices"
	"testing"
)

// A past is a history made by hand: a master, node 0, and a follower, node 1,
// which show what they should. The tests bend it.
type past struct {
	*hist
	head  uint64
	print map[uint64]string
	state map[uint64]map[string]int64
}

const (
	pastEpoch = "e1"
	pastKey   = "k/a"
)

// newPast returns a history of a base at 10 and commits 11 to 16: pastKey is
// put, put, deleted and put again, and a group is put twice.
func newPast() *past {
	base := histBase{epoch: pastEpoch, offset: 10, state: map[string]int64{"k/base": valID(1, 0, 0)}}
	p := &past{hist: newHist(base), head: 10, state: map[uint64]map[string]int64{10: base.state}}
	group := func(write int64) (ops []histOp) {
		for i := range groupKeys {
			ops = append(ops, histOp{"k/g1/member/" + string(rune('a'+i)), valID(write, i, 0)})
		}
		return ops
	}
	p.commit(2, histOp{pastKey, valID(2, 0, 0)})
	p.commit(3, group(3)...)
	p.commit(4, histOp{pastKey, valID(4, 0, 0)})
	p.commit(5, histOp{pastKey, valAbsent})
	p.commit(6, group(6)...)
	p.commit(7, histOp{pastKey, valID(7, 0, 0)})
	l := p.model().lines[pastEpoch]
	p.print = map[uint64]string{}
	for n := uint64(10); n <= p.head; n++ {
		p.print[n] = l.prints[n-10].String()
	}
	for _, w := range p.writes {
		w.print = p.print[w.offset]
	}
	p.addWatch(p.watch(0, true, 11))
	p.addWatch(p.watch(1, false, 0))
	for _, n := range []uint64{11, 13, 14, 16} {
		p.addSample(p.sample(0, true, n))
		p.addSample(p.sample(1, false, n))
	}
	for node := range 2 {
		p.final = append(p.final, histFinal{node, p.status(node, p.head), p.state[p.head]})
	}
	return p
}

func (p *past) commit(write int64, ops ...histOp) {
	start := p.next()
	state := map[string]int64{}
	for k, v := range p.state[p.head] {
		state[k] = v
	}
	for _, op := range ops {
		if state[op.key] = op.val; op.val == valAbsent {
			delete(state, op.key)
		}
	}
	p.head++
	p.state[p.head] = state
	p.addWrite(&histWrite{id: write, ops: ops, outcome: writeAcked, epoch: pastEpoch, offset: p.head, start: start, end: p.next()})
}

func (p *past) status(node int, n uint64) histStatus {
	return histStatus{process: node, epoch: pastEpoch, offset: n, own: p.print[n], master: p.print[n], complete: true, inSync: true}
}

func (p *past) sample(node int, master bool, n uint64) *histSample {
	// What was shown at n was asked for right after the commit.
	s := &histSample{node: node, master: master, prefix: "k/", whole: true, start: p.writes[n-11].end, before: p.status(node, n), after: p.status(node, n)}
	for k, v := range p.state[n] {
		s.items = append(s.items, histOp{k, v})
	}
	slices.SortFunc(s.items, func(a, b histOp) int { return int(a.key[len(a.key)-1]) - int(b.key[len(b.key)-1]) })
	return s
}

func (p *past) watch(node int, master bool, from uint64) *histWatch {
	w := &histWatch{node: node, master: master, from: from}
	for _, c := range p.writes {
		for i, op := range c.ops {
			w.events = append(w.events, histEvent{epoch: pastEpoch, offset: c.offset, op: op, last: i == len(c.ops)-1})
		}
	}
	return w
}

// show replaces what a sample shows of a key; valAbsent is nothing.
func (s *histSample) show(key string, val int64) {
	s.items = slices.DeleteFunc(s.items, func(op histOp) bool { return op.key == key })
	if val != valAbsent {
		s.items = append(s.items, histOp{key, val})
	}
}

// incomplete makes a sample one during a repair.
func (s *histSample) incomplete() {
	s.before.complete, s.after.complete, s.before.inSync, s.after.inSync = false, false, false, false
}

func TestValidatorsPassWhatIsRight(t *testing.T) {
	for name, bend := range map[string]func(p *past){
		"as it was": func(*past) {},
		"a value that came early, during a repair": func(p *past) {
			p.samples[3].incomplete()
			p.samples[3].show("k/g1/member/b", valID(6, 1, 0))
			p.samples[5].show("k/g1/member/b", valID(6, 1, 0))
			p.samples[5].incomplete()
		},
		"keys that are gone with a wiped directory": func(p *past) {
			p.samples[5].incomplete()
			p.samples[5].show("k/base", valAbsent)
			p.resets = append(p.resets, histReset{node: 1, seq: p.samples[5].start - 1, all: true})
		},
		"a damaged key until it is mended": func(p *past) {
			for _, i := range []int{3, 5} {
				p.samples[i].incomplete()
				p.samples[i].show("k/base", -77)
			}
			p.resets = append(p.resets, histReset{node: 1, seq: p.samples[3].start - 1, damaged: map[string]int64{"k/base": -77}})
		},
		"a commit that was given up with an old master": func(p *past) {
			p.lose(15, true)
		},
		"the same with a person's word": func(p *past) {
			p.lose(15, true)
			p.addReset(histReset{node: 1, all: true})
			p.obey()
		},
		"a gap in a follower's watch": func(p *past) {
			w := p.watches[1]
			w.events = slices.Delete(w.events, 1, 1+groupKeys)
			w.events = slices.Insert(w.events, 1, histEvent{epoch: pastEpoch, offset: 12, gap: true})
		},
	} {
		p := newPast()
		bend(p)
		if bad := validate(p.hist, &histCounts{}); len(bad) > 0 {
			t.Errorf("%s: %v", name, bad)
		}
	}
}

// lose begins a new epoch after commit n, in which everything ends.
func (p *past) lose(n uint64, lossy bool) {
	p.addEpoch(histEpoch{id: "e2", parent: pastEpoch, start: n, lossy: lossy})
	for i := range p.final {
		st := p.status(i, n)
		st.epoch = "e2"
		p.final[i] = histFinal{i, st, p.state[n]}
	}
}

// obey shows the follower in the new epoch, as its new master has it.
func (p *past) obey() {
	s := p.sample(1, false, 15)
	s.start = p.next()
	s.before.epoch, s.after.epoch = "e2", "e2"
	p.addSample(s)
}

func TestValidatorsCatchWhatIsWrong(t *testing.T) {
	group := slices.IndexFunc(newPast().watches[0].events, func(e histEvent) bool { return e.offset == 12 })
	for name, c := range map[string]struct {
		kind string
		bend func(p *past)
	}{
		"a commit without a last op":  {"bookmarkable", func(p *past) { p.watches[0].events[group+groupKeys-1].last = false }},
		"a change without a position": {"bookmarkable", func(p *past) { p.watches[1].events[0].epoch = "" }},
		"a watch that goes back": {"ordered", func(p *past) {
			w := p.watches[1]
			w.events = append(w.events, w.events[0])
		}},
		"an offset that goes down": {"ordered", func(p *past) { p.samples[5].before.offset = 12 }},
		"a commit twice in a watch": {"unique", func(p *past) {
			w := p.watches[1]
			w.events = slices.Insert(w.events, 1, w.events[0])
		}},
		"a write that took effect twice": {"unique", func(p *past) {
			w := *p.writes[0]
			w.offset = 17
			p.writes = append(p.writes, &w)
		}},
		"half a commit in a watch": {"atomic", func(p *past) {
			w := p.watches[1]
			w.events = slices.Delete(w.events, group, group+2)
		}},
		"half a group in a state": {"atomic", func(p *past) { p.samples[7].show("k/g1/member/c", valID(3, 2, 0)) }},
		"a group without a key":   {"atomic", func(p *past) { p.samples[6].show("k/g1/member/c", valAbsent) }},
		"a commit left out of a watch": {"reliable", func(p *past) {
			w := p.watches[0]
			w.events = slices.Delete(w.events, group, group+groupKeys)
		}},
		"a key left out of a state": {"reliable", func(p *past) { p.samples[7].show("k/base", valAbsent) }},
		"a watch that began later":  {"resumable", func(p *past) { p.watches[0].events = p.watches[0].events[1:] }},
		"a bookmark ahead of the master": {"resumable", func(p *past) {
			p.addWatch(&histWatch{master: true, from: 17, err: "offset_ahead"})
		}},
		"a key that goes back": {"no key back", func(p *past) {
			p.samples[7].incomplete()
			p.samples[7].show(pastKey, valID(4, 0, 0))
		}},
		"a key that nobody wrote": {"no key back", func(p *past) {
			p.samples[7].incomplete()
			p.samples[7].show(pastKey, valCorrupt)
		}},
		"a mended key that is damaged again": {"no key back", func(p *past) {
			p.resets = append(p.resets, histReset{node: 1, damaged: map[string]int64{"k/base": -77}})
			p.samples[7].incomplete()
			p.samples[7].show("k/base", -77)
		}},
		"a repair that put the past": {"no key back", func(p *past) {
			w := p.watches[1]
			w.events = append(w.events, histEvent{epoch: pastEpoch, offset: 16, op: histOp{pastKey, valID(4, 0, 0)}, repair: true})
		}},
		"a repair that deleted what is there": {"false delete", func(p *past) {
			w := p.watches[1]
			w.events = append(w.events, histEvent{epoch: pastEpoch, offset: 16, op: histOp{"k/base", valAbsent}, repair: true})
		}},
		"a key that vanishes during a repair": {"false delete", func(p *past) {
			p.samples[7].incomplete()
			p.samples[7].show("k/base", valAbsent)
		}},
		"a lost commit": {"durable", func(p *past) { p.lose(15, false) }},
		"a master older than its word": {"durable", func(p *past) {
			p.samples[6].before, p.samples[6].after = p.status(0, 14), p.status(0, 14)
		}},
		"an acknowledged value that is not there": {"durable", func(p *past) {
			for i := range p.final {
				p.final[i].state = p.state[15]
			}
		}},
		"a fingerprint that is another dataset's": {"durable", func(p *past) { p.writes[2].print = p.print[10] }},
		"in sync, with another fingerprint":       {"honest", func(p *past) { p.samples[3].before.own = p.print[11] }},
		"a word about the master that is wrong":   {"honest", func(p *past) { p.samples[3].after.master = p.print[11] }},
		"an epoch from nowhere":                   {"honest", func(p *past) { p.samples[3].after.epoch = "e9" }},
		"a copy that gives up what its new master does not have": {"parks", func(p *past) {
			p.lose(15, true)
			p.obey()
		}},
		"a state older than its status": {"honest", func(p *past) {
			p.samples[5].before, p.samples[5].after = p.status(1, 16), p.status(1, 16)
		}},
		"replicas that differ": {"convergent", func(p *past) { p.final[1].state = p.state[13] }},
		"a replica that did not arrive": {"convergent", func(p *past) {
			p.final[1].status = p.status(1, 15)
		}},
		"a refused write that is there": {"convergent", func(p *past) {
			state := map[string]int64{"k/refused": valID(9, 0, 0)}
			for k, v := range p.state[p.head] {
				state[k] = v
			}
			p.addWrite(&histWrite{id: 9, ops: []histOp{{"k/refused", valID(9, 0, 0)}}, outcome: writeFailed})
			p.final[0].state, p.final[1].state = state, state
		}},
	} {
		p := newPast()
		c.bend(p)
		bad := validate(p.hist, &histCounts{})
		if !slices.ContainsFunc(bad, func(b problem) bool { return b.kind == c.kind }) {
			t.Errorf("%s: want a problem with %q, got %v", name, c.kind, bad)
		}
	}
}
