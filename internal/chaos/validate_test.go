//go:build chaos

package chaos

import (
	"fmt"
	"strings"
)

// A problem is a promise that a history breaks.
type problem struct {
	kind string // name of the promise
	text string
}

func (m *histModel) report(kind, format string, args ...any) {
	m.problems = append(m.problems, problem{kind, fmt.Sprintf(format, args...)})
}

// validators hold a history against the promises, one each. A validator reports
// to the model.
var validators = []struct {
	name  string
	check func(h *hist, m *histModel, n *histCounts)
}{
	{"bookmarkable", checkBookmarkable},
	{"ordered", checkOrdered},
	{"unique", checkUnique},
	{"atomic", checkAtomic},
	{"reliable", checkReliable},
	{"resumable", checkResumable},
	{"no key back", checkKeys},
	{"repair", checkRepairs},
	{"durable", checkDurable},
	{"honest", checkHonest},
	{"parks", checkParked},
	{"convergent", checkConvergent},
}

// A histCounts counts what was looked at: a validator that had nothing to look
// at has shown nothing.
type histCounts struct {
	acked, unknown, failed   int
	changes, sessions, gaps  int
	samples, items, prefixes int
	prints                   int
	puts, deletes            int // by repairs
	holes                    int // lines of which a commit is not known
}

// validate runs all validators over a history.
func validate(h *hist, n *histCounts) []problem {
	m := h.model()
	for _, l := range m.lines {
		if !l.full {
			n.holes++
		}
	}
	for _, v := range validators {
		v.check(h, m, n)
	}
	return m.problems
}

// name returns how problems speak of a node's watch.
func (w *histWatch) name() string {
	if w.master {
		return fmt.Sprintf("watch of master %d", w.node)
	}
	return fmt.Sprintf("watch of follower %d", w.node)
}

// checkBookmarkable: every change has a position, and the ops of a commit come
// together, up to the one that is marked as the last.
func checkBookmarkable(h *hist, m *histModel, n *histCounts) {
	for _, w := range h.watches {
		n.sessions++
		var open *histEvent // a commit that has not ended
		for i := range w.events {
			e := &w.events[i]
			n.changes++
			if e.epoch == "" || e.offset == 0 && !e.gap && !e.repair {
				m.report("bookmarkable", "%s: a change of %q has no position", w.name(), e.op.key)
			}
			if open != nil && (e.gap || e.repair || e.epoch != open.epoch || e.offset != open.offset) {
				m.report("bookmarkable", "%s: commit %d has no last op, then came %d", w.name(), open.offset, e.offset)
			}
			open = nil
			if !e.gap && !e.repair && !e.last {
				open = e
			}
		}
	}
}

// checkOrdered: offsets ascend in a watch, and no process's offset goes down
// within an epoch; nor does a master's when it is started again.
func checkOrdered(h *hist, m *histModel, n *histCounts) {
	for _, w := range h.watches {
		var prev uint64
		for _, e := range w.events {
			if e.offset < prev && !e.gap {
				m.report("ordered", "%s: commit %d came after %d", w.name(), e.offset, prev)
			}
			prev = e.offset
		}
	}
	type place struct {
		process int
		epoch   string
	}
	highest := map[place]uint64{}
	see := func(s *histSample, st histStatus) {
		p := place{st.process, st.epoch}
		if s.master {
			p.process = -1
		}
		if st.offset < highest[p] {
			m.report("ordered", "node %d said offset %d of epoch %.6s after %d", s.node, st.offset, st.epoch, highest[p])
		}
		highest[p] = max(highest[p], st.offset)
	}
	looked := map[int]int64{}
	for _, s := range h.samples {
		if looked[s.node] == s.start {
			continue // of a burst, between the same two looks
		}
		looked[s.node] = s.start
		see(s, s.before)
		see(s, s.after)
	}
}

// checkUnique: no watch shows a commit twice, and no write is two commits.
func checkUnique(h *hist, m *histModel, n *histCounts) {
	for _, w := range h.watches {
		seen := map[uint64]string{}
		w.commits(func(e histEvent, _ []histOp) {
			if seen[e.offset] == e.epoch {
				m.report("unique", "%s: commit %d twice", w.name(), e.offset)
			}
			seen[e.offset] = e.epoch
		})
	}
	for _, l := range m.lines {
		at := map[int64]uint64{}
		for i, ops := range l.commits {
			offset := l.base + uint64(i) + 1
			for _, op := range ops {
				if op.val <= 0 {
					continue
				}
				if first, ok := at[op.val]; ok && first != offset {
					m.report("unique", "write %d is commit %d and commit %d of epoch %.6s", valWrite(op.val), first, offset, l.epoch.id)
				}
				at[op.val] = offset
			}
		}
	}
}

// groupOf returns the group that a key belongs to: its keys are only ever
// written together.
func groupOf(key string) (string, bool) {
	group, _, ok := strings.Cut(key, "/member/")
	return group, ok
}

// settled reports whether nothing but whole commits can have changed a replica
// between the two looks at its status.
func (s *histSample) settled() bool {
	b, a := s.before, s.after
	return b.process == a.process && b.epoch == a.epoch && b.epoch != "" &&
		b.complete && a.complete && b.inSync && a.inSync && b.repair == a.repair
}

// checkAtomic: the keys of a group are all of one write, or all absent, in every
// settled state; and watches and acknowledgements agree on what a commit is
// (model).
func checkAtomic(h *hist, m *histModel, n *histCounts) {
	for _, s := range h.samples {
		if !s.whole || !s.settled() {
			continue
		}
		type group struct {
			write int64
			keys  int
		}
		groups := map[string]*group{}
		for _, it := range s.items {
			name, ok := groupOf(it.key)
			if !ok {
				continue
			}
			g := groups[name]
			if g == nil {
				g = &group{write: valWrite(it.val)}
				groups[name] = g
			}
			if g.keys++; g.write != valWrite(it.val) {
				m.report("atomic", "node %d showed %s of writes %d and %d at once", s.node, name, g.write, valWrite(it.val))
			}
		}
		for name, g := range groups {
			if g.keys != groupKeys {
				m.report("atomic", "node %d showed %d of %d keys of %s", s.node, g.keys, groupKeys, name)
			}
		}
	}
}

// checkReliable: in a watch commit n+1 follows n, or a gap is said.
func checkReliable(h *hist, m *histModel, n *histCounts) {
	for _, w := range h.watches {
		var prev uint64
		for _, e := range w.events {
			switch {
			case e.gap:
				n.gaps++
				prev = 0
				if w.master {
					m.report("reliable", "%s: a gap, which only followers have", w.name())
				}
			case e.repair:
			default:
				if prev != 0 && e.offset > prev+1 {
					m.report("reliable", "%s: commit %d came after %d, and no gap was told", w.name(), e.offset, prev)
				}
				prev = e.offset
			}
		}
	}
}

// checkResumable: a watch from an offset begins with it, or is told that it
// cannot.
func checkResumable(h *hist, m *histModel, n *histCounts) {
	for _, w := range h.watches {
		switch {
		case w.from == 0:
		case len(w.events) > 0 && w.events[0].offset != w.from:
			m.report("resumable", "%s from %d began with %d", w.name(), w.from, w.events[0].offset)
		case w.err == "offset_ahead":
			m.report("resumable", "%s from %d: the master says that this lies in the future", w.name(), w.from)
		}
	}
}

// checkRepairs: what a repair puts is the master's state as of its position
// (R2), and what it deletes the master does not hold there (R4).
func checkRepairs(h *hist, m *histModel, n *histCounts) {
	for _, w := range h.watches {
		for _, e := range w.events {
			l := m.lines[e.epoch]
			if e.gap || !e.repair || l == nil || e.offset > l.end() || e.offset < l.base {
				continue
			}
			want := l.at(e.op.key, e.offset)
			switch {
			case e.op.val == valAbsent && want != valAbsent:
				m.report("false delete", "%s: a repair at %d deleted %q, which the master held (write %d)", w.name(), e.offset, e.op.key, valWrite(want))
			case e.op.val != want:
				m.report("no key back", "%s: a repair at %d put %q of write %d, the master had %d", w.name(), e.offset, e.op.key, valWrite(e.op.val), valWrite(want))
			}
			if e.op.val == valAbsent {
				n.deletes++
			} else {
				n.puts++
			}
		}
	}
}

// checkDurable: what was acknowledged is in every later epoch, unless a person
// gave it up; a master never stands before it; and what was refused is nowhere.
func checkDurable(h *hist, m *histModel, n *histCounts) {
	for _, w := range h.writes {
		switch w.outcome {
		case writeUnknown:
			n.unknown++
			continue
		case writeFailed:
			n.failed++
			continue
		}
		n.acked++
		l := m.lines[w.epoch]
		if l == nil {
			m.report("durable", "write %d was acknowledged in epoch %.6s, of which nothing is known", w.id, w.epoch)
			continue
		}
		for _, e := range h.epochs {
			if e.parent == w.epoch && !e.lossy && e.start < w.offset && e.seq > w.end {
				m.report("durable", "epoch %.6s began at %d, but %d was acknowledged before it", e.id, e.start, w.offset)
			}
		}
		if w.offset <= l.end() && w.print != "" {
			n.prints++
			if got := l.prints[w.offset-l.base].String(); got != w.print {
				m.report("durable", "write %d was acknowledged at %d with fingerprint %s, which should be %s", w.id, w.offset, w.print, got)
			}
		}
	}
	m.checkHeads(h)
}

// checkHeads: a master's status is never older than what was acknowledged
// before it was asked.
func (m *histModel) checkHeads(h *hist) {
	for _, s := range h.samples {
		l := m.lines[s.before.epoch]
		if !s.master || l == nil {
			continue
		}
		for _, w := range h.writes {
			if w.outcome != writeAcked || w.end >= s.start || w.offset <= s.before.offset {
				continue
			}
			lossless, ok := l.parents[w.epoch]
			if w.epoch == s.before.epoch || ok && lossless {
				m.report("durable", "master %d stood at %d after %d was acknowledged", s.node, s.before.offset, w.offset)
			}
		}
	}
}

// checkConvergent: in the end all replicas hold the same, and that is what the
// history says.
func checkConvergent(h *hist, m *histModel, n *histCounts) {
	for _, f := range h.final {
		if o := h.final[0].status; f.status.epoch != o.epoch || f.status.offset != o.offset || f.status.own != o.own || !f.status.inSync || !f.status.complete {
			m.report("convergent", "node %d ended at %.6s:%d %s, node %d at %.6s:%d %s", f.node, f.status.epoch, f.status.offset, f.status.own, h.final[0].node, o.epoch, o.offset, o.own)
		}
		for k, v := range h.final[0].state {
			if f.state[k] != v {
				m.report("convergent", "node %d ended with %q of write %d, node %d with %d", f.node, k, valWrite(f.state[k]), h.final[0].node, valWrite(v))
			}
		}
		if len(f.state) != len(h.final[0].state) {
			m.report("convergent", "node %d ended with %d keys, node %d with %d", f.node, len(f.state), h.final[0].node, len(h.final[0].state))
		}
		m.checkFinal(f)
	}
}

// checkFinal holds a node's last state against the model.
func (m *histModel) checkFinal(f histFinal) {
	l := m.lines[f.status.epoch]
	switch {
	case l == nil:
		m.report("convergent", "node %d ended in epoch %.6s, of which nothing is known", f.node, f.status.epoch)
		return
	case !l.full:
		return // the replicas have been held against each other
	case f.status.offset != l.end():
		m.report("convergent", "node %d ended at %d, the last known commit is %d", f.node, f.status.offset, l.end())
		return
	}
	for k := range l.keys {
		if want := l.at(k, l.end()); f.state[k] != want {
			m.report("durable", "node %d ended with %q of write %d, it should be %d", f.node, k, valWrite(f.state[k]), valWrite(want))
		}
	}
	for k, v := range f.state {
		if _, ok := l.keys[k]; !ok {
			m.report("convergent", "node %d ended with %q of write %d, which was never committed", f.node, k, valWrite(v))
		}
	}
}
