package diff

import (
	"bytes"
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sdiff/sdiff/merkle"
)

// TestSketchLiarEnds lets a session that keeps a sketch talk with a peer that
// keeps to the form but makes everything up: its summary, counters and probe,
// the cells, what it asks for and what it lacks, and then, on either side, the
// ranges. Whatever it says, the session ends, keeps no more of it than its own
// sketch and tree allow, and finds only what it holds, once.
func TestSketchLiarEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 300).Draw(t, "items")
		tree := numbered(n).Tree()
		if rapid.Bool().Draw(t, "spread") {
			for i := range tree.Summary().Count {
				key, hash, _ := tree.At(i)
				tree.Put(key, hash*0x9e3779b97f4a7c15)
			}
		}
		tree.KeepSketch()
		s := New(tree.Snapshot(), Config{
			FrameBytes: rapid.SampledFrom([]int{1, 100, 0}).Draw(t, "frame"),
			Window:     rapid.IntRange(1, 3).Draw(t, "window"),
			Items:      rapid.IntRange(1, 8).Draw(t, "items at once"),
			Sketch:     tree.Sketch(),
		})
		l := &sketchLiar{liar: liar{t: t, asked: []question{{kind: entrySummary, hi: []byte("l"), must: true}}}, s: s, sketch: tree.Sketch()}
		var inbox []Message
		toLiar := rapid.Bool().Draw(t, "begin")
		if toLiar {
			var err error
			if inbox, err = s.Start(); err != nil {
				t.Fatal(err)
			}
		} else {
			inbox = []Message{l.open()}
		}
		for ; len(inbox) > 0; toLiar = !toLiar {
			var out []Message
			for _, m := range inbox {
				if toLiar {
					out = append(out, l.take(m)...)
					continue
				}
				// What the peer sends is what the session would get from a wire.
				m, err := Parse(m.Append(nil))
				if err != nil {
					t.Fatal(err)
				}
				got, err := s.Step(m)
				if err != nil {
					t.Fatalf("%v, after %v", err, m)
				}
				if len(got) > s.cfg.Window {
					t.Fatalf("%d messages at once, the window is %d", len(got), s.cfg.Window)
				}
				checkSketching(t, s)
				out = append(out, got...)
			}
			inbox = out
		}
		if s.phase != phaseDone || s.Left() != 0 {
			t.Fatalf("phase %d, left %d, want it done", s.phase, s.Left())
		}
		most := 2*(maxCellRounds+1) + 2*bits.Len(uint(max(n, 1)-1)) + 4
		if got := s.stats.Levels; got > most {
			t.Errorf("%d levels for %d items, want at most %d", got, n, most)
		}
		if s.stats.Method == "" || s.sk.mine != nil && s.stats.Method != MethodNone {
			t.Errorf("method %q, and the sketch is still here: %v", s.stats.Method, s.sk.mine != nil)
		}
		checkFindings(t, s, tree.Snapshot())
	})
}

// A sketchLiar answers what a session says of sketches in form.
type sketchLiar struct {
	liar
	s      *Session // only for its items
	sketch *merkle.Sketch

	all        merkle.Summary
	have, more int
	mask       uint64
	groups, hi int
	made       ranges
}

func (l *sketchLiar) int(low, high int, what string) int {
	return rapid.IntRange(low, max(low, high)).Draw(l.t, what)
}

// open makes up an opening.
func (l *sketchLiar) open() Message {
	l.level = 1
	o := &opening{cells: rapid.SampledFrom([]int{1, 5, 64, 100, maxCells}).Draw(l.t, "cells")}
	o.all = merkle.Summary{Count: rapid.Uint64().Draw(l.t, "count"), Sum: rapid.Uint64().Draw(l.t, "sum")}
	if rapid.Bool().Draw(l.t, "plausible") {
		o.all.Count = uint64(l.int(0, 400, "items held"))
		o.counters = l.sketch.Counters()
	}
	for range l.int(0, 60, "counters") {
		o.counters[l.int(0, len(o.counters)-1, "counter")] = uint8(l.int(0, 255, "value"))
	}
	if rapid.Bool().Draw(l.t, "probe") {
		o.probe = newProbe(numbered(l.int(probeItems, 2*probeItems, "items of the probe")))
	}
	return Message{kind: kindOpen, level: 1, open: o}
}

// take takes a message of the session.
func (l *sketchLiar) take(m Message) []Message {
	switch m.kind {
	case kindLevel, kindAck:
		return l.liar.take(m)
	case kindAgree:
		return nil
	}
	l.level = m.level
	if m.more {
		if m.kind == kindCells {
			l.groups, l.hi = m.groups, m.hi
		}
		return []Message{{kind: kindAck, level: m.level}}
	}
	if l.int(0, 5, "ranges") == 0 {
		return l.answer()
	}
	switch m.kind {
	case kindOpen:
		if l.int(0, 9, "agree") == 0 {
			l.level++
			return []Message{{kind: kindAgree, level: l.level}}
		}
		l.all = merkle.Summary{Count: rapid.Uint64().Draw(l.t, "count"), Sum: rapid.Uint64().Draw(l.t, "sum")}
		l.groups = 1 << l.int(0, 6, "groups")
		l.mask = allOf(l.groups)
		l.hi = l.int(1, l.sketch.Cells(), "cells")
		if l.int(0, 3, "made") == 0 && !tooDear(l.groups*l.hi/4, l.s.all.Count) { // else it would be refused
			l.made = allRanges
		}
		return l.cells()
	case kindMore:
		most := min(m.hi, l.hi+100)
		if l.made == 0 && l.int(0, 1, "make") == 0 || l.hi >= l.sketch.Cells() {
			l.made = allRanges
		}
		if l.made == 0 {
			most = min(most, l.sketch.Cells())
		}
		l.have, l.hi, l.mask = l.hi, l.int(l.hi+1, most, "cells"), m.mask
		return l.cells()
	case kindCells:
		l.groups, l.hi = m.groups, m.hi
		if l.mask == 0 {
			l.mask = allOf(m.groups)
		}
		if l.more < maxCellRounds-1 && rapid.Bool().Draw(l.t, "more cells") {
			l.more++
			l.level++
			l.mask = l.mask&rapid.Uint64().Draw(l.t, "of groups") | 1<<m.group
			return []Message{{kind: kindMore, level: l.level, hi: l.hi + l.int(1, 70, "more"), mask: l.mask}}
		}
		return l.want()
	}
	l.level++ // the session lacks something
	return []Message{{kind: kindAgree, level: l.level}}
}

// cells makes up the cells of a turn: at random, of a small set, or of the
// session's own with a small set forged into them.
func (l *sketchLiar) cells() (out []Message) {
	l.level++
	forged := &merkle.Tree{}
	for range l.int(0, 20, "forged") {
		h := rapid.Uint64().Draw(l.t, "hash")
		if n := l.s.all.Count; n > 0 && rapid.Bool().Draw(l.t, "held") {
			_, h, _ = l.s.tree.At(h % n)
		}
		forged.Put([]byte{byte(h), byte(h >> 8), byte(h >> 16)}, h)
		if l.have == 0 && rapid.Bool().Draw(l.t, "explain") {
			l.all = l.all.Add(merkle.Summary{Count: 1, Sum: h})
		}
	}
	forged.KeepSketch()
	how := l.int(0, 3, "how")
	for mask := l.mask; mask != 0; mask &= mask - 1 {
		group := bits.TrailingZeros64(mask)
		hi := min(l.hi, forged.Sketch().Cells())
		cells := forged.Sketch().AppendCells(nil, l.groups, group, min(l.have, hi), hi)
		own := l.sketch.AppendCells(nil, l.groups, group, min(l.have, hi), hi)
		var data []byte
		for i := range l.hi - l.have {
			var c merkle.Cell
			if i < len(cells) && how > 0 {
				c = cells[i]
			}
			if i < len(cells) && how > 1 {
				c = c.Xor(own[i])
			}
			if how == 0 {
				c = merkle.Cell{Sum: uint64(i+group) * 0x9e3779b97f4a7c15, Check: uint32(l.level)}
			}
			data = c.Append(data)
		}
		out = append(out, Message{
			kind: kindCells, level: l.level, more: mask&(mask-1) != 0, all: l.all,
			ranges: l.made, groups: l.groups, group: group, lo: l.have, hi: l.hi, data: data,
		})
	}
	return out
}

// want makes up what the peer lacks: up to a few items that are here, or not.
func (l *sketchLiar) want() []Message {
	l.level++
	var hashes []uint64
	for range min(l.hi, l.int(0, 30, "wanted")) {
		if n := l.s.all.Count; n > 0 && l.int(0, 20, "held") > 0 {
			_, h, _ := l.s.tree.At(rapid.Uint64Range(0, n-1).Draw(l.t, "item"))
			hashes = append(hashes, h)
		} else {
			hashes = append(hashes, rapid.Uint64().Draw(l.t, "hash"))
		}
	}
	slices.Sort(hashes)
	hashes = slices.Compact(hashes)
	width := rapid.SampledFrom([]int{leastWidth, 64, widthFor(hashes, l.s.all.Count)}).Draw(l.t, "width")
	for i := range hashes {
		hashes[i] >>= 64 - width
	}
	hashes = slices.Compact(hashes)
	m := Message{kind: kindWant, level: l.level, width: width, k: riceBits(hashes, width)}
	m.data, m.n = appendRice(nil, m.k, true, 0, hashes, 1<<20)
	return []Message{m}
}

// TestForgedCells changes the cells of a genuine comparison on their way, in
// ways that decode and in ways that do not, and the summary so that it explains
// what they tell, or not. Both sides find in the end what differs, nothing else.
func TestForgedCells(t *testing.T) {
	foreign := &merkle.Tree{}
	for i := range 10 {
		foreign.Put([]byte{byte(i)}, uint64(i+1)*0xbb67ae8584caa73b)
	}
	foreignSketch := merkle.MakeSketch(makeMost, foreign.Snapshot())
	extra := foreign.Summary()
	for _, c := range []struct {
		name string
		lie  func(m *Message, c merkle.Cell, i int) merkle.Cell
		why  [2]string // of the initiator, of the responder
	}{
		{"noise", func(_ *Message, c merkle.Cell, i int) merkle.Cell {
			return merkle.Cell{Sum: uint64(i)<<40 + 12345, Check: uint32(i * 77)}
		}, [2]string{"the sketch did not tell what differs", "the peer chose so"}},
		{"one hash in one cell only", func(_ *Message, c merkle.Cell, i int) merkle.Cell {
			if i == 0 {
				return c.Xor(foreignSketch.AppendCells(nil, 1, 0, 0, 1)[0])
			}
			return c
		}, [2]string{"the sketch did not tell what differs", "the peer chose so"}},
		{"more items than there are", func(m *Message, c merkle.Cell, i int) merkle.Cell {
			return c.Xor(foreignSketch.AppendCells(nil, m.groups, m.group, i, i+1)[0])
		}, [2]string{"what the sketch told does not explain the difference", "the peer chose so"}},
		{"more items than there are, which the summary explains", func(m *Message, c merkle.Cell, i int) merkle.Cell {
			if i == m.lo {
				m.all = m.all.Add(extra)
			}
			return c.Xor(foreignSketch.AppendCells(nil, m.groups, m.group, i, i+1)[0])
		}, [2]string{"the peer chose so", "the peer lacks what is not here"}},
		{"another summary", func(m *Message, c merkle.Cell, i int) merkle.Cell {
			if i == m.lo {
				m.all.Sum++
			}
			return c
		}, [2]string{"what the sketch told does not explain the difference", "the peer chose so"}},
	} {
		left, right, cfgA, cfgB := drifted(3, 500, 12)
		a, b := New(left, cfgA), New(right, cfgB)
		inbox, err := a.Start()
		for to, from := b, a; err == nil && len(inbox) > 0; to, from = from, to {
			var out []Message
			for _, m := range inbox {
				if m.kind == kindCells {
					var data []byte
					for i := range len(m.data) / merkle.CellSize {
						data = c.lie(&m, merkle.ParseCell(m.data[i*merkle.CellSize:]), m.lo+i).Append(data)
					}
					m.data = data
				}
				var got []Message
				if got, err = to.Step(m); err != nil {
					t.Fatalf("%s: %v", c.name, err)
				}
				out = append(out, got...)
			}
			inbox = out
		}
		for i, s := range []*Session{a, b} {
			if s.stats.Method != MethodRanges || c.why[i] != "" && s.stats.Why != c.why[i] {
				t.Errorf("%s: side %d: done by %q because %q, want ranges because %q", c.name, i, s.stats.Method, s.stats.Why, c.why[i])
			}
			if s.stats.RoundTrips != 0 || s.Stats().RoundTrips != (s.stats.Levels+1)/2 {
				t.Errorf("%s: side %d: %d round trips in %d levels", c.name, i, s.Stats().RoundTrips, s.stats.Levels)
			}
		}
		checkFound(t, c.name, a, left, right)
		checkFound(t, c.name, b, right, left)
	}
}

// TestLastRequestForCellsDoublesThem checks how many cells are asked for when
// one is never told by those that came: two hashes that had their few cells in
// common ended in ranges for want of a few hundred cells of one group.
func TestLastRequestForCellsDoublesThem(t *testing.T) {
	left, right, cfgA, cfgB := drifted(3, 40_000, 50)
	a, b := New(left, cfgA), New(right, cfgB)
	inbox, err := a.Start()
	var his []int
	for to, from := b, a; err == nil && len(inbox) > 0; to, from = from, to {
		var out []Message
		for _, m := range inbox {
			switch {
			case m.kind == kindCells:
				his = append(his, m.hi)
				if m.lo == 0 { // as of two hashes that are in this cell only
					m.data = bytes.Clone(m.data)
					m.data[7] ^= 1
				}
			case m.kind == kindMore && m.hi <= his[len(his)-1]:
				t.Errorf("cells up to %d are asked for after %v", m.hi, his)
			}
			var got []Message
			if got, err = to.Step(m); err != nil {
				t.Fatal(err)
			}
			out = append(out, got...)
		}
		inbox = out
	}
	if len(his) != maxCellRounds || his[3] < min(2*his[2], cfgA.Sketch.Cells()) || his[3] == his[2] {
		t.Errorf("cells came up to %v, want them doubled in the end", his)
	}
	checkFound(t, "doubled", a, left, right)
	checkFound(t, "doubled", b, right, left)
}

// checkFound checks that a session has found what its tree has and the other one
// has not, in key order.
func checkFound(t *testing.T, name string, s *Session, tree, other *merkle.Snapshot) {
	t.Helper()
	got := map[string]uint64{}
	var last []byte
	for found := s.Findings(); len(found) > 0; found = s.Findings() {
		for _, f := range found {
			if bytes.Compare(last, f.Key) >= 0 && last != nil && s.stats.Method == MethodSketch {
				t.Errorf("%s: found %q after %q", name, f.Key, last)
			}
			last, got[string(f.Key)] = f.Key, f.Hash
		}
	}
	want := 0
	tree.Ascend(nil, nil, func(key []byte, hash uint64) bool {
		if h, ok := other.Get(key); !ok || h != hash {
			if want++; got[string(key)] != hash {
				t.Errorf("%s: %q is not found", name, key)
			}
		}
		return true
	})
	if len(got) != want || !s.Done() {
		t.Errorf("%s: found %d items, want %d", name, len(got), want)
	}
}
