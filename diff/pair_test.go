package diff_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/merkle"
)

// A side is one end of a comparison driven by hand, with everything it has
// found so far.
type side struct {
	*diff.Session
	tree  *merkle.Snapshot
	inbox [][]byte // encoded messages on their way to this side, in order
	found map[string]uint64
	// whole are the findings of ranges; their items are in found, too.
	whole   []diff.Finding
	keys    []string // of the items that were found one by one, as they came
	longest int      // bytes of the longest message sent to this side
	most    int      // messages that were sent to this side at once
}

func newSide(tree *merkle.Snapshot, cfg diff.Config) *side {
	return &side{Session: diff.New(tree, cfg), tree: tree, found: map[string]uint64{}}
}

// collect takes all findings there are.
func (s *side) collect() error {
	for found := s.Findings(); len(found) > 0; found = s.Findings() {
		for _, f := range found {
			if err := s.add(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// add notes a finding, which must be about an item of this side not found yet.
func (s *side) add(f diff.Finding) error {
	if f.Key != nil {
		if _, twice := s.found[string(f.Key)]; twice {
			return fmt.Errorf("item %q found twice", f.Key)
		}
		if hash, ok := s.tree.Get(f.Key); !ok || hash != f.Hash {
			return fmt.Errorf("found item %q with hash %x, which is not here", f.Key, f.Hash)
		}
		s.found[string(f.Key)] = f.Hash
		s.keys = append(s.keys, string(f.Key))
		return nil
	}
	s.whole = append(s.whole, f)
	if s.tree.Range(f.Lo, f.Hi).Count == 0 {
		return fmt.Errorf("found range %q to %q, which is empty here", f.Lo, f.Hi)
	}
	var err error
	s.tree.Ascend(f.Lo, f.Hi, func(key []byte, hash uint64) bool {
		if _, twice := s.found[string(key)]; twice {
			err = fmt.Errorf("item %q found twice", key)
		}
		s.found[string(key)] = hash
		return err == nil
	})
	return err
}

// ascending reports whether the items that were found one by one came in key order.
func (s *side) ascending() bool { return slices.IsSorted(s.keys) }

// step gives the next message of the inbox to the session and appends what it
// answers to the peer's inbox.
func (s *side) step(peer *side) error {
	m, err := diff.Parse(s.inbox[0])
	if err != nil {
		return err
	}
	if again := m.Append(nil); !bytes.Equal(again, s.inbox[0]) {
		return fmt.Errorf("message %x encodes as %x", s.inbox[0], again)
	}
	s.inbox = s.inbox[1:]
	out, err := s.Step(m)
	if err != nil {
		return err
	}
	peer.receive(out)
	return s.collect()
}

func (s *side) receive(out []diff.Message) {
	s.most = max(s.most, len(out))
	for _, m := range out {
		b := m.Append(nil)
		s.inbox = append(s.inbox, b)
		s.longest = max(s.longest, len(b))
	}
}

// run lets a start and delivers messages until none is left; pick chooses whose
// inbox is served if both hold something: true for a's.
func run(a, b *side, pick func() bool) error {
	out, err := a.Start()
	if err != nil {
		return err
	}
	b.receive(out)
	return deliver(a, b, pick)
}

// deliver delivers messages until none is left.
func deliver(a, b *side, pick func() bool) (err error) {
	for len(a.inbox)+len(b.inbox) > 0 {
		if len(b.inbox) == 0 || len(a.inbox) > 0 && pick() {
			err = a.step(b)
		} else {
			err = b.step(a)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// items is a set of items as a plain map: the model.
type items map[string]uint64

// minus returns what is in a but not, with that hash, in b: what the side that
// holds a is to find.
func (a items) minus(b items) items {
	out := items{}
	for k, h := range a {
		if other, ok := b[k]; !ok || other != h {
			out[k] = h
		}
	}
	return out
}

func (a items) snapshot() *merkle.Snapshot {
	var t merkle.Tree
	for k, h := range a {
		t.Put([]byte(k), h)
	}
	return t.Snapshot()
}

// tester is what testing.TB and rapid.T have in common.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
}

// check compares what both sides found with the truth.
func check(t tester, a, b *side, inA, inB items) {
	t.Helper()
	for _, c := range []struct {
		name       string
		side, peer *side
		want       items
	}{{"initiator", a, b, inA.minus(inB)}, {"responder", b, a, inB.minus(inA)}} {
		for _, f := range c.side.whole {
			if n := c.peer.tree.Range(f.Lo, f.Hi).Count; n > 0 {
				t.Errorf("%s: found all of %q to %q, where the peer holds %d items", c.name, f.Lo, f.Hi, n)
			}
		}
		if !c.side.Done() {
			t.Errorf("%s: not done", c.name)
		}
		if left := c.side.Left(); left != 0 {
			t.Errorf("%s: Left() = %d, want 0", c.name, left)
		}
		if !maps.Equal(c.side.found, c.want) {
			t.Errorf("%s: found %d items, want %d:\n got %x\nwant %x", c.name, len(c.side.found), len(c.want), brief(c.side.found), brief(c.want))
		}
	}
}

// brief keeps a failure's output readable.
func brief(m items) items {
	if len(m) <= 20 {
		return m
	}
	return nil
}
