//go:build chaos

package chaos

import (
	"slices"
	"strings"
)

// checkHonest: a status that says "complete and in sync" has the fingerprint of
// exactly the commits it says it has, the master's fingerprint it knows is the
// master's in any case, and what is shown in between is one state of the
// master, not older than the status before.
func checkHonest(h *hist, m *histModel, n *histCounts) {
	for _, s := range h.samples {
		for _, st := range []histStatus{s.before, s.after} {
			l := m.lines[st.epoch]
			if st.epoch != "" && l == nil && !h.base.older[st.epoch] {
				m.report("honest", "node %d is in epoch %.6s, which nobody began", s.node, st.epoch)
			}
			if l == nil || st.offset < l.base || st.offset > l.end() {
				continue
			}
			n.prints++
			want := l.prints[st.offset-l.base].String()
			if st.master != want {
				m.report("honest", "node %d at %d says the master had %s there, it had %s", s.node, st.offset, st.master, want)
			}
			if st.complete && st.inSync && st.own != want {
				m.report("honest", "node %d says it is in sync at %d with %s, the master had %s", s.node, st.offset, st.own, want)
			}
		}
		l := m.lines[s.before.epoch]
		if s.whole && s.settled() && l != nil && l.full && s.before.offset >= l.base {
			n.prefixes++
			m.checkState(l, s)
		}
	}
}

// checkState looks for the commit after which the master held exactly what a
// sample shows.
func (m *histModel) checkState(l *histLine, s *histSample) {
	lo, hi := s.before.offset, l.end()
	var loKey, hiKey string
	there := map[string]bool{}
	for _, it := range s.items {
		there[it.key] = true
		from, to, ok := l.span(it.key, it.val, lo)
		if !ok {
			m.report("honest", "node %d at %d..%d showed %q of write %d, which was not so at %d or later", s.node, s.before.offset, s.after.offset, it.key, valWrite(it.val), lo)
			return
		}
		if from > lo {
			lo, loKey = from, it.key
		}
		if to-1 < hi {
			hi, hiKey = to-1, it.key
		}
	}
	if lo > hi {
		m.report("atomic", "node %d at %d..%d showed %q as of %d or later with %q as of %d or earlier", s.node, s.before.offset, s.after.offset, loKey, lo, hiKey, hi)
		return
	}
	var why string
	for at := lo; at <= hi; at++ {
		if why = l.missing(s.prefix, there, at); why == "" {
			return
		}
	}
	m.report("reliable", "node %d at %d..%d showed no %q, which was there from %d to %d", s.node, s.before.offset, s.after.offset, why, lo, hi)
}

// missing returns a key with the prefix that was there after commit n and is
// not among those shown.
func (l *histLine) missing(prefix string, there map[string]bool, n uint64) string {
	for k := range l.keys {
		if !there[k] && strings.HasPrefix(k, prefix) && l.at(k, n) != valAbsent {
			return k
		}
	}
	return ""
}

// checkParked: a copy that was complete, and that held what a new master does
// not, gives it up only when a person says so (P1), or when damage has put it in
// doubt.
func checkParked(h *hist, m *histModel, n *histCounts) {
	last := map[int]*histSample{}
	for _, s := range h.samples {
		l, before := m.lines[s.before.epoch], last[s.node]
		if l == nil {
			continue
		}
		last[s.node] = s
		if before == nil || before.after.epoch == s.before.epoch || !before.after.complete {
			continue
		}
		asked := slices.ContainsFunc(h.resets, func(r histReset) bool { return r.node == s.node && r.seq > before.start && r.seq < s.start })
		if kept, ok := l.keeps(m, before.after.epoch); ok && kept < before.after.offset && !asked {
			m.report("parks", "node %d stood at %d of epoch %.6s, of which %.6s keeps %d, and followed it without a word", s.node, before.after.offset, before.after.epoch, s.before.epoch, kept)
		}
	}
}

// keeps returns up to which offset a line has the commits of an epoch that it
// goes on from.
func (l *histLine) keeps(m *histModel, epoch string) (offset uint64, ok bool) {
	offset = ^uint64(0)
	for e := l.epoch; e.parent != "" && m.lines[e.parent] != nil; e = m.lines[e.parent].epoch {
		if offset = min(offset, e.start); e.parent == epoch {
			return offset, true
		}
	}
	return 0, false
}

// A keyWalk follows what a node shows of each key through a round.
type keyWalk struct {
	m     *histModel
	n     *histCounts
	node  int
	line  *histLine
	low   map[string]uint64 // each key's item stands for this offset or a later one
	wild  bool              // until it is in loose, a key may be absent or of another history
	loose map[string]bool
	// damaged keys may be as damage left them until they are seen otherwise.
	damaged map[string]int64
}

// checkKeys: the values that a replica shows of a key are, in order, among those
// the master held (R3); and it shows a key no more only if the master deleted it
// (R4). Damage and a person's decision are taken into account, repairs and
// incomplete bases make no difference.
func checkKeys(h *hist, m *histModel, n *histCounts) {
	byNode := map[int][]*histSample{}
	for _, s := range h.samples {
		byNode[s.node] = append(byNode[s.node], s)
	}
	for node, samples := range byNode {
		slices.SortStableFunc(samples, func(a, b *histSample) int { return int(a.start - b.start) })
		w := &keyWalk{m: m, n: n, node: node, low: map[string]uint64{}, damaged: map[string]int64{}, loose: map[string]bool{}}
		resets := slices.DeleteFunc(slices.Clone(h.resets), func(r histReset) bool { return r.node != node })
		for _, s := range samples {
			for len(resets) > 0 && resets[0].seq < s.start {
				w.reset(resets[0])
				resets = resets[1:]
			}
			w.sample(s)
		}
	}
}

func (w *keyWalk) reset(r histReset) {
	if r.all {
		w.wild = true
		clear(w.loose)
		clear(w.low)
		clear(w.damaged)
	}
	for k, v := range r.damaged {
		w.damaged[k] = v
	}
}

// sample takes the next look at the node.
func (w *keyWalk) sample(s *histSample) {
	w.n.samples++
	if s.before.epoch != s.after.epoch || s.before.process != s.after.process {
		return // it belongs to neither
	}
	l := w.m.lines[s.before.epoch]
	if l == nil {
		return // of no master yet
	}
	if w.line != nil && l != w.line && !l.parents[w.line.epoch.id] {
		w.reset(histReset{all: true}) // a person gave up what the old epoch had
	}
	w.line = l
	there := map[string]bool{}
	for _, it := range s.items {
		there[it.key] = true
		w.key(s, it.key, it.val)
	}
	if s.whole || s.pages {
		for k := range l.keys {
			if !there[k] && strings.HasPrefix(k, s.prefix) {
				w.key(s, k, valAbsent)
			}
		}
	}
}

// key takes what was shown of one key.
func (w *keyWalk) key(s *histSample, key string, val int64) {
	w.n.items++
	l := w.line
	if d, ok := w.damaged[key]; ok {
		if d == val {
			return
		}
		delete(w.damaged, key)
	}
	if w.wild && !w.loose[key] {
		from, _, ok := l.span(key, val, 0)
		if ok && val != valAbsent {
			w.loose[key] = true
			w.low[key] = from
		} else if val != valAbsent && !w.m.written(key, val) {
			w.m.report("no key back", "node %d showed %q of write %d, which nobody wrote", w.node, key, valWrite(val))
		}
		return
	}
	from, _, ok := l.span(key, val, w.low[key])
	if ok {
		w.low[key] = max(w.low[key], from)
		return
	}
	_, _, ever := l.span(key, val, 0)
	switch {
	case !l.full && (val == valAbsent || !ever):
		// A commit is not known that may have made this so.
	case val == valAbsent:
		w.m.report("false delete", "node %d at %d..%d showed no %q, which it had as of %d and the master did not delete since", w.node, s.before.offset, s.after.offset, key, w.low[key])
	case ever:
		w.m.report("no key back", "node %d at %d..%d showed %q of write %d after it had it as of %d", w.node, s.before.offset, s.after.offset, key, valWrite(val), w.low[key])
	default:
		w.m.report("no key back", "node %d at %d..%d showed %q of write %d, which the master never held", w.node, s.before.offset, s.after.offset, key, valWrite(val))
	}
}

// written reports whether anybody, client or damage, may have put a value.
func (m *histModel) written(key string, val int64) bool {
	if val < 0 {
		return val != valCorrupt
	}
	w := m.values[valWrite(val)]
	if w == nil {
		// Of an earlier round: the base, or a value that damage took from it.
		return true
	}
	return w.outcome != writeFailed && slices.Contains(w.ops, histOp{key, val})
}
