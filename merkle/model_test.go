package merkle

import (
	"bytes"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// keys draws keys that share much: short ones over few letters, long ones with
// common beginnings of very different lengths, and some of any bytes.
func keys() *rapid.Generator[[]byte] {
	return rapid.Custom(func(t *rapid.T) []byte {
		tail := func(n int) []byte {
			return rapid.SliceOfN(rapid.SampledFrom([]byte{0, 'a', 'b', 0xff}), 1, n).Draw(t, "tail")
		}
		long := strings.Repeat("x", 9000)
		switch rapid.IntRange(0, 11).Draw(t, "kind") {
		case 0, 1, 2, 3:
			return tail(6)
		case 4, 5, 6:
			return append([]byte("usr/share/doc/"), tail(12)...)
		case 7:
			return append([]byte(long), tail(3)...)
		case 8:
			return append([]byte(long[:rapid.IntRange(1, 9000).Draw(t, "cut")]), tail(2)...)
		case 9:
			return append(tail(2), long...)
		default:
			return rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "any")
		}
	})
}

// A model is a tree and the map it must equal, and snapshots with theirs.
type model struct {
	tree  *Tree
	items map[string]uint64
	snaps []modelSnap
}

type modelSnap struct {
	snap  *Snapshot
	items map[string]uint64
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{tree: new(Tree), items: map[string]uint64{}}
		t.Repeat(rapid.StateMachineActions(m))
	})
}

// draw returns a key, one that is there every other time.
func (m *model) draw(t *rapid.T) []byte {
	if n := m.tree.Summary().Count; n > 0 && rapid.Bool().Draw(t, "present") {
		key, _, _ := m.tree.At(rapid.Uint64Range(0, n-1).Draw(t, "i"))
		return key
	}
	return keys().Draw(t, "key")
}

func (m *model) put(t *rapid.T, key []byte, hash uint64) {
	want, wantHad := m.items[string(key)]
	if old, had := m.tree.Put(key, hash); old != want || had != wantHad {
		t.Fatalf("Put(%.40q) = %d, %v, want %d, %v", key, old, had, want, wantHad)
	}
	m.items[string(key)] = hash
}

func (m *model) Put(t *rapid.T) { m.put(t, m.draw(t), rapid.Uint64().Draw(t, "hash")) }

// PutMany puts keys that lie close together, enough to split nodes.
func (m *model) PutMany(t *rapid.T) {
	base := m.draw(t)
	if len(base) > 100 {
		base = base[:100]
	}
	width := rapid.IntRange(0, 200).Draw(t, "width")
	step := rapid.SampledFrom([]int{1, 7, 255}).Draw(t, "step")
	for i := range rapid.IntRange(1, 400).Draw(t, "n") {
		key := append(bytes.Clone(base), byte(i*step>>8), byte(i*step))
		m.put(t, append(key, make([]byte, width)...), uint64(i+1)<<40)
	}
}

func (m *model) Delete(t *rapid.T) {
	key := m.draw(t)
	want, wantHad := m.items[string(key)]
	if old, had := m.tree.Delete(key); old != want || had != wantHad {
		t.Fatalf("Delete(%.40q) = %d, %v, want %d, %v", key, old, had, want, wantHad)
	}
	delete(m.items, string(key))
}

// DeleteRange removes all items of a range, or all but every third.
func (m *model) DeleteRange(t *rapid.T) {
	lo, hi := m.draw(t), m.draw(t)
	keep := rapid.Bool().Draw(t, "keep")
	for i, p := range items(m.tree, lo, hi) {
		if keep && i%3 == 0 {
			continue
		}
		if old, had := m.tree.Delete([]byte(p.key)); old != p.hash || !had {
			t.Fatalf("Delete(%.40q) = %d, %v, want %d, true", p.key, old, had, p.hash)
		}
		delete(m.items, p.key)
	}
}

func (m *model) Snapshot(t *rapid.T) {
	if len(m.snaps) == 4 {
		m.snaps = m.snaps[1:]
	}
	m.snaps = append(m.snaps, modelSnap{m.tree.Snapshot(), maps.Clone(m.items)})
}

// Restore goes on with a tree made from a snapshot.
func (m *model) Restore(t *rapid.T) {
	if len(m.snaps) == 0 {
		t.Skip("no snapshot")
	}
	s := rapid.SampledFrom(m.snaps).Draw(t, "snap")
	m.tree, m.items = s.snap.Tree(), maps.Clone(s.items)
}

// Rebuild goes on with a tree built from the items: another shape.
func (m *model) Rebuild(t *rapid.T) {
	rebuilt := newReference(m.items).tree()
	if got, want := rebuilt.Summary(), m.tree.Summary(); got != want {
		t.Fatalf("built tree has summary %v, want %v (T3)", got, want)
	}
	m.tree = rebuilt
}

// Clip goes on with the tree of a clipped snapshot, whose nodes are shared with
// those kept by the model, or looks at it only.
func (m *model) Clip(t *rapid.T) {
	lo, hi := m.draw(t), m.draw(t)
	switch rapid.IntRange(0, 5).Draw(t, "open") {
	case 0:
		lo = nil
	case 1:
		hi = nil
	case 2:
		lo, hi = nil, nil
	}
	before := m.tree.Snapshot()
	clipped := before.Clip(lo, hi)
	want := newReference(m.items).slice(lo, hi)
	if hi != nil && bytes.Compare(lo, hi) >= 0 {
		want = nil
	}
	tree := clipped.Tree()
	if err := tree.check(); err != nil {
		t.Fatalf("Clip(%.40q, %.40q): %v", lo, hi, err)
	}
	if !want.same(clipped) {
		t.Fatalf("Clip(%.40q, %.40q) = %v, want %v", lo, hi, clipped.Summary(), want.sum())
	}
	if rapid.IntRange(0, 2).Draw(t, "go on") > 0 {
		return
	}
	m.snaps = append(m.snaps[min(1, len(m.snaps)):], modelSnap{before, maps.Clone(m.items)})
	m.tree = tree
	clear(m.items)
	for _, it := range want {
		m.items[it.key] = it.hash
	}
}

func (m *model) Read(t *rapid.T) {
	lo, hi := m.draw(t), m.draw(t)
	ref := newReference(m.items)
	if got, want := m.tree.Range(lo, hi), ref.slice(lo, hi).sum(); got != want {
		t.Fatalf("Range(%.40q, %.40q) = %v, want %v", lo, hi, got, want)
	}
	p := lo[:rapid.IntRange(0, min(len(lo), 3)).Draw(t, "prefix")]
	if got, want := m.tree.Prefix(p), ref.prefix(p).sum(); got != want {
		t.Fatalf("Prefix(%.40q) = %v, want %v", p, got, want)
	}
	if got, want := m.tree.Rank(lo), ref.slice(nil, lo).sum().Count; got != want {
		t.Fatalf("Rank(%.40q) = %d, want %d", lo, got, want)
	}
	want, wantOK := m.items[string(lo)]
	if got, ok := m.tree.Get(lo); got != want || ok != wantOK {
		t.Fatalf("Get(%.40q) = %d, %v, want %d, %v", lo, got, ok, want, wantOK)
	}
	for i := range ref {
		key, hash, ok := m.tree.At(uint64(i))
		if !ok || string(key) != ref[i].key || hash != ref[i].hash {
			t.Fatalf("At(%d) = %.40q, %d, %v, want %.40q, %d", i, key, hash, ok, ref[i].key, ref[i].hash)
		}
	}
	if _, _, ok := m.tree.At(uint64(len(ref))); ok {
		t.Fatalf("At(%d) of %d items", len(ref), len(ref))
	}
}

// Check is the invariant: it runs after each action.
func (m *model) Check(t *rapid.T) {
	if err := m.tree.check(); err != nil {
		t.Fatal(err)
	}
	if !newReference(m.items).same(m.tree) {
		t.Fatalf("tree %v differs from the model of %d items", m.tree.Summary(), len(m.items))
	}
	for i, s := range m.snaps {
		if !newReference(s.items).same(s.snap) {
			t.Fatalf("snapshot %d of %d has changed (T4)", i, len(m.snaps))
		}
	}
}
