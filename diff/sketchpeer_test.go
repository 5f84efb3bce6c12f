package diff

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sdiff/sdiff/merkle"
)

// drifted returns n items and a set that differs from them in d, a third each
// missing, extra and changed, with sketches.
func drifted(seed uint64, n, d int) (left, right *merkle.Snapshot, a, b Config) {
	r := rand.New(rand.NewPCG(seed, 5))
	key := func(i int) []byte { return fmt.Appendf(nil, "k%06d", i) }
	l, o := &merkle.Tree{}, &merkle.Tree{}
	for i := range n {
		h := r.Uint64()
		l.Put(key(i), h)
		o.Put(key(i), h)
	}
	for i, at := range r.Perm(n)[:d] {
		switch i % 3 {
		case 0:
			o.Delete(key(at))
		case 1:
			o.Put(append(key(at), 'x'), r.Uint64())
		case 2:
			o.Put(key(at), r.Uint64())
		}
	}
	l.KeepSketch()
	o.KeepSketch()
	return l.Snapshot(), o.Snapshot(), Config{Sketch: l.Sketch()}, Config{Sketch: o.Sketch()}
}

// A talk is a genuine comparison: both sides, and what they say.
type dialogue struct {
	left, right *merkle.Snapshot
	a, b        Config
	msgs        []Message
	toB         []bool
}

// sketched returns a comparison by sketches of several groups in which more
// cells are asked for; its messages are short and there are more pieces to each
// turn than fit into the window.
func sketched() dialogue {
	for seed := uint64(0); ; seed++ {
		var x dialogue
		x.left, x.right, x.a, x.b = drifted(seed, 600, 60)
		x.a.FrameBytes, x.a.Window = 100, 2
		x.b.FrameBytes, x.b.Window = 100, 2
		x.msgs, x.toB = genuine(x.left, x.right, x.a, x.b)
		groups, more := 0, 0
		for _, m := range x.msgs {
			groups = max(groups, m.groups)
			if m.kind == kindMore {
				more++
			}
		}
		if groups > 1 && more > 0 && x.msgs[len(x.msgs)-1].kind == kindAgree {
			return x
		}
	}
}

// before returns the side that takes the n-th message of a kind, as it is before
// that, and the message.
func (x *dialogue) before(t *testing.T, kind uint8, n int) (*Session, Message) {
	t.Helper()
	for i, m := range x.msgs {
		if m.kind != kind {
			continue
		}
		if n--; n == 0 {
			return replay(*x, i, x.toB[i]), m
		}
	}
	t.Fatalf("there is no such message of kind %d", kind)
	return nil, Message{}
}

// TestSketchPeerBreaksTheProtocol lets a peer say what it must not of sketches,
// in the midst of a genuine comparison, and checks that the session is dead then.
func TestSketchPeerBreaksTheProtocol(t *testing.T) {
	x := sketched()
	whole := func(m *Message) {
		*m = levelOf(m.level, func(w *entryWriter) { w.list(0, 0) })
	}
	for _, c := range []struct {
		name   string
		kind   uint8 // of the message that is changed
		nth    int
		change func(m *Message)
		want   string
	}{
		{"an opening at level 3", kindOpen, 1, func(m *Message) { m.level = 3 }, "when the comparison had begun"},
		{"an opening instead of cells", kindCells, 1, func(m *Message) { m.kind, m.open = kindOpen, &opening{} }, "when the comparison had begun"},
		{"cells to begin with", kindOpen, 1, func(m *Message) { m.kind = kindCells }, "cells that were not asked for"},
		{"cells of another level", kindCells, 1, func(m *Message) { m.level++ }, "cells that were not asked for"},
		{"cells instead of hashes", kindWant, 1, func(m *Message) { m.kind = kindCells }, "cells that were not asked for"},
		{"cells instead of agreement", kindAgree, 1, func(m *Message) { m.kind = kindCells }, "cells that were not asked for"},
		{"cells that are not kept here", kindCells, 1, func(m *Message) { m.hi = x.a.Sketch.Cells() + 1 }, "more cells than there are"},
		{"cells made of too many", kindCells, 1, func(m *Message) { m.hi, m.ranges = makeMost+1, allRanges }, "a sketch that cannot be made"},
		{"cells made in the midst of a turn", kindCells, 2, func(m *Message) { m.ranges = allRanges }, "a sketch that cannot be made"},
		{"the second cell first", kindCells, 1, func(m *Message) { m.lo++ }, "cells out of order"},
		{"the second group first", kindCells, 1, func(m *Message) { m.group++ }, "cells out of order"},
		{"other groups", kindCells, 2, func(m *Message) { m.groups *= 2 }, "cells out of order"},
		{"more cells than announced", kindCells, 2, func(m *Message) { m.hi++ }, "cells out of order"},
		{"another summary", kindCells, 2, func(m *Message) { m.all.Sum++ }, "cells out of order"},
		{"an end too early", kindCells, 1, func(m *Message) { m.more = false }, "another number of cells"},
		{"ranges after some cells", kindCells, 2, whole, "a level out of turn"},
		{"agreement after some cells", kindCells, 2, func(m *Message) { m.kind = kindAgree }, "agreement to nothing"},
		{"hashes instead of cells", kindCells, 1, func(m *Message) { m.kind = kindWant }, "hashes out of turn"},
		{"a request instead of cells", kindCells, 1, func(m *Message) { m.kind = kindMore }, "a request for cells out of turn"},
		{"a request after some hashes", kindWant, 2, func(m *Message) { m.kind, m.hi, m.mask = kindMore, 60, 1 }, "a request for cells out of turn"},
		{"ranges after some hashes", kindWant, 2, whole, "a level out of turn"},
		{"cells of a group that has none", kindMore, 1, func(m *Message) { m.mask = 1 << 63 }, "were not sent before"},
		{"cells that came already", kindMore, 1, func(m *Message) { m.hi = 1 }, "were sent already"},
		{"hashes at another level", kindWant, 1, func(m *Message) { m.level++ }, "hashes out of turn"},
		{"hashes beyond the last one", kindWant, 2, func(m *Message) {
			m.data, m.n = appendRice(nil, m.k, true, 0, []uint64{1<<m.width - 1}, 1)
		}, "hashes beyond the last one"},
		{"hashes of another width", kindWant, 2, func(m *Message) { m.width++ }, "hashes of another width"},
		{"too many hashes", kindWant, 1, func(m *Message) {
			m.n, m.width, m.k = 5000, 64, 50
			hashes := make([]uint64, m.n)
			for i := range hashes {
				hashes[i] = uint64(i)
			}
			m.data, _ = appendRice(nil, m.k, true, 0, hashes, 1<<20)
		}, "more hashes than cells"},
		{"agreement to cells", kindWant, 1, func(m *Message) { m.kind = kindAgree }, "agreement to nothing"},
		{"agreement to begin with", kindOpen, 1, func(m *Message) { m.kind = kindAgree }, "agreement to nothing"},
		{"agreement instead of more cells", kindCells, 1 + x.firstCells(), func(m *Message) { m.kind = kindAgree }, "agreement to nothing"},
	} {
		s, m := x.before(t, c.kind, c.nth)
		c.change(&m)
		out, err := s.Step(m)
		broken, ok := errors.AsType[*PeerError](err)
		if !ok || !strings.Contains(broken.Reason, c.want) {
			t.Errorf("%s: error %v, want a *PeerError about %q", c.name, err, c.want)
		}
		if out != nil || s.Done() || s.phase != phaseDead {
			t.Errorf("%s: the session goes on", c.name)
		}
	}
}

// firstCells returns how many messages with cells are in the first turn that
// has any.
func (x *dialogue) firstCells() (n int) {
	for _, m := range x.msgs {
		if m.kind == kindMore {
			return n
		}
		if m.kind == kindCells {
			n++
		}
	}
	return n
}

// TestTooManyRequestsForCells asks for one cell more, again and again.
func TestTooManyRequestsForCells(t *testing.T) {
	x := sketched()
	x.b.FrameBytes, x.b.Window = 0, 100
	x.msgs, x.toB = genuine(x.left, x.right, x.a, x.b)
	s, m := x.before(t, kindMore, 1)
	for i := range maxCellRounds {
		m.hi, m.mask = s.sk.hi+1, 1
		out, err := s.Step(m)
		if i == maxCellRounds-1 {
			if err == nil || !strings.Contains(err.Error(), "too many requests for cells") {
				t.Errorf("request %d: error %v, want one about too many of them", i+1, err)
			}
			return
		}
		if err != nil || len(out) != 1 || out[0].kind != kindCells || len(out[0].data) != merkle.CellSize {
			t.Fatalf("request %d: %v, %v, want one cell", i+1, out, err)
		}
		m.level += 2
	}
}

// TestSketchParseRefuses checks what is refused of a message by itself.
func TestSketchParseRefuses(t *testing.T) {
	left, _, a, _ := drifted(1, 1000, 0)
	probe := newProbe(left)
	if len(probe) == 0 || len(probe) > maxProbe {
		t.Fatalf("a probe of %d bytes", len(probe))
	}
	long := append([]byte{0, 33}, make([]byte, 33)...)
	open := func(cells int, probe []byte) Message {
		return Message{kind: kindOpen, level: 1, open: &opening{cells: cells, probe: probe, counters: a.Sketch.Counters()}}
	}
	cells := func(groups, group, lo, hi, n int) Message {
		return Message{kind: kindCells, level: 2, groups: groups, group: group, lo: lo, hi: hi, data: make([]byte, n)}
	}
	const size = merkle.CellSize
	for _, c := range []struct {
		name string
		m    Message
		want string // empty: it is in order
	}{
		{"opening", open(64, probe), ""},
		{"opening without a probe", open(64, nil), ""},
		{"no cells", open(0, probe), "a sketch without cells"},
		{"65,537 cells", open(1<<16+1, probe), "cells: out of range"},
		{"probe cut off", open(64, probe[:len(probe)-1]), "cut off"},
		{"probe of a bound cut off", open(64, probe[:1]), "cut off"},
		{"probe too long", open(64, append(probe[:len(probe):len(probe)], 0)), "a probe is too long"},
		{"probe far too long", open(64, make([]byte, maxProbe+1)), "out of range"},
		{"long bound in a probe", open(64, append(long, probe...)), "the length of a bound is out of range"},
		{"empty bound in a probe", open(64, append([]byte{0, 0}, probe...)), "the length of a bound is out of range"},
		{"bounds of a probe that fall", open(64, append([]byte{0, 1, 'z'}, probe...)), "do not ascend"},
		{"cells", cells(4, 3, 2, 3, size), ""},
		{"no groups", cells(0, 0, 0, 1, size), "a group that does not exist"},
		{"three groups", cells(3, 0, 0, 1, size), "a group that does not exist"},
		{"65 groups", cells(65, 0, 0, 1, size), "out of range"},
		{"group 2 of 2", cells(2, 2, 0, 1, size), "a group that does not exist"},
		{"no cell", cells(1, 0, 0, 1, 0), "a number of cells out of range"},
		{"half a cell", cells(1, 0, 0, 2, size+6), "a number of cells out of range"},
		{"a cell beyond the last", cells(1, 0, 1, 1, size), "a number of cells out of range"},
		{"a request", Message{kind: kindMore, level: 3, hi: 1, mask: 1 << 63}, ""},
		{"a request for no cells", Message{kind: kindMore, level: 3, mask: 1}, "a request for no cells"},
		{"a request of no groups", Message{kind: kindMore, level: 3, hi: 1}, "a request for no cells"},
		{"no hashes", Message{kind: kindWant, level: 3, width: 64, k: 40}, ""},
		{"no hashes but more to come", Message{kind: kindWant, level: 3, width: 64, k: 40, more: true}, "an empty message"},
		{"hashes of nothing", Message{kind: kindWant, level: 3, width: 64, k: 40, n: 1}, "hashes that are none"},
		{"nothing as hashes", Message{kind: kindWant, level: 3, width: 64, k: 40, data: []byte{0}}, "hashes that are none"},
		{"short hashes", Message{kind: kindWant, level: 3, width: 64, k: leastRice - 1}, "hashes that are none"},
		{"long hashes", Message{kind: kindWant, level: 3, width: 64, k: 64}, "lower bits: out of range"},
		{"a hash", Message{kind: kindWant, level: 3, width: 64, k: 63, n: 1, data: make([]byte, 8)}, ""},
		{"a hash with bits behind it", Message{kind: kindWant, level: 3, width: 64, k: 62, n: 1, data: []byte{0, 0, 0, 0, 0, 0, 0, 1}}, "hashes that are none"},
		{"hashes of 39 bits", Message{kind: kindWant, level: 3, width: leastWidth - 1, k: 30}, "hashes that are none"},
		{"hashes of 65 bits", Message{kind: kindWant, level: 3, width: 65, k: 30}, "bits of a hash: out of range"},
		{"hashes shorter than their lower bits", Message{kind: kindWant, level: 3, width: 40, k: 40}, "hashes that are none"},
		{"a hash of 40 bits", Message{kind: kindWant, level: 3, width: 40, k: 39, n: 1, data: make([]byte, 5)}, ""},
		{"a hash beyond 40 bits", Message{kind: kindWant, level: 3, width: 40, k: 38, n: 1, data: []byte{0xf0, 0, 0, 0, 0, 0}}, "hashes that are none"},
		{"hashes beyond 64 bits", Message{kind: kindWant, level: 3, width: 64, k: 63, n: 1, data: []byte{0xff, 0, 0, 0, 0, 0, 0, 0, 0}}, "hashes that are none"},
		{"more hashes than fit", Message{kind: kindWant, level: 3, width: 64, k: 40, n: 2, data: make([]byte, 6)}, "hashes that are none"},
		{"agreement", Message{kind: kindAgree, level: 2}, ""},
	} {
		b := c.m.Append(nil)
		m, err := Parse(b)
		if c.want == "" {
			if err != nil || m.size() != len(b) || c.m.size() != len(b) {
				t.Errorf("%s: error %v, sizes %d and %d, want %d", c.name, err, c.m.size(), m.size(), len(b))
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one about %q", c.name, err, c.want)
		}
		if m.kind != 0 {
			t.Errorf("%s: a message came with the error", c.name)
		}
	}
}

// TestOneSideKeepsFewerCells compares until one side has asked for more cells
// than the other keeps, which cannot know that: they are made then, on both sides.
func TestOneSideKeepsFewerCells(t *testing.T) {
	const n = 17_000
	made := 0
	for seed := uint64(0); seed < 40 && made < 2; seed++ {
		r := rand.New(rand.NewPCG(seed, 6))
		var b merkle.Builder
		left := &merkle.Tree{}
		left.KeepSketch() // and let it grow, by eights
		for i := range n {
			key, h := fmt.Appendf(nil, "k%06d", i), r.Uint64()
			left.Put(key, h)
			if err := b.Add(key, h); err != nil {
				t.Fatal(err)
			}
		}
		right := b.Tree()
		d := 1700 + 100*int(seed%6)
		for _, i := range r.Perm(n)[:d] {
			right.Put(fmt.Appendf(nil, "k%06d", i), r.Uint64())
		}
		right.KeepSketch()
		kept := right.Sketch().Cells()
		if left.Sketch().Cells() <= kept {
			t.Fatalf("%d and %d cells, want more on the left", left.Sketch().Cells(), kept)
		}
		x := dialogue{left: left.Snapshot(), right: right.Snapshot(), a: Config{Sketch: left.Sketch()}, b: Config{Sketch: right.Sketch()}}
		x.msgs, x.toB = genuine(x.left, x.right, x.a, x.b)
		beyond, from := false, 0
		for _, m := range x.msgs {
			beyond = beyond || m.kind == kindMore && m.hi > kept
			if m.kind == kindCells && m.ranges != 0 {
				from = m.lo
			}
		}
		if !beyond {
			continue
		}
		s := replay(x, len(x.msgs), true)
		if s.stats.Method != MethodSketch || from == 0 || !strings.HasSuffix(s.stats.Why, tooFew) {
			t.Errorf("seed %d: compared by %q because %q; cells from %d on were made", seed, s.stats.Method, s.stats.Why, from)
		}
		made++
		checkFound(t, "made", s, x.right, x.left)
		checkFound(t, "made", replay(x, len(x.msgs), false), x.left, x.right)
	}
	if made == 0 {
		t.Error("no more cells than are kept were asked for")
	}
}
