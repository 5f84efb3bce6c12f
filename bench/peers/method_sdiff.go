package main

import (
	"fmt"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/merkle"
)

// A trees is what a master and a follower of sdiff keep of their items anyway.
type trees struct {
	master, follower *merkle.Tree
	applied          *difference
}

func newTrees(data *dataset) (*trees, error) {
	var b merkle.Builder
	for _, it := range data.items {
		if err := b.Add([]byte(it.key), it.hash); err != nil {
			return nil, err
		}
	}
	t := &trees{master: b.Tree(), applied: new(difference)}
	t.follower = t.master.Snapshot().Tree()
	t.master.KeepSketch()
	t.follower.KeepSketch()
	return t, nil
}

// arrange makes the follower's tree differ by d and by nothing else.
func (t *trees) arrange(d *difference) {
	if d == t.applied {
		return
	}
	old := t.applied
	deleteAll(t.follower, old.extra)
	putAll(t.follower, old.missing)
	putAll(t.follower, old.changed)
	deleteAll(t.follower, d.missing)
	putAll(t.follower, d.extra)
	putAll(t.follower, d.other)
	t.applied = d
}

func putAll(t *merkle.Tree, items []item) {
	for _, it := range items {
		t.Put([]byte(it.key), it.hash)
	}
}

func deleteAll(t *merkle.Tree, items []item) {
	for _, it := range items {
		t.Delete([]byte(it.key))
	}
}

// A sdiffMethod is the comparison of package diff.
type sdiffMethod struct {
	*trees
	sketches bool
	// What the sides found in the last comparison.
	onMaster, onFollower []diff.Finding
	snapshots            [2]*merkle.Snapshot
	how                  diff.Method
	why                  string
}

func (m *sdiffMethod) name() string {
	if m.sketches {
		return "sdiff"
	}
	return "sdiff, ranges only"
}

// compare takes snapshots of both trees and compares these. The follower
// begins, as in package replica.
func (m *sdiffMethod) compare() (c cost, err error) {
	master, snapshot := m.session(m.master)
	m.snapshots[0] = snapshot
	follower, snapshot := m.session(m.follower)
	m.snapshots[1] = snapshot
	m.onMaster, m.onFollower = nil, nil

	msgs, err := follower.Start()
	if err != nil {
		return c, err
	}
	toMaster := c.encode(msgs)
	for len(toMaster) > 0 {
		toFollower, err := m.take(&c, master, toMaster, &m.onMaster)
		if err != nil {
			return c, err
		}
		if toMaster, err = m.take(&c, follower, toFollower, &m.onFollower); err != nil {
			return c, err
		}
	}
	if !master.Done() || !follower.Done() || master.Left()+follower.Left() > 0 {
		return c, fmt.Errorf("the comparison did not end, or left %d ranges out", master.Left()+follower.Left())
	}
	stats := follower.Stats()
	c.trips = stats.RoundTrips
	m.how, m.why = stats.Method, stats.Why
	if m.why == diff.WhyPeer {
		m.why = master.Stats().Why
	}
	return c, nil
}

// remark says so if the planner chose ranges although there are sketches.
func (m *sdiffMethod) remark() string {
	if m.sketches && m.how == diff.MethodRanges {
		return "sdiff compared ranges: " + m.why
	}
	return ""
}

// session begins one side of a comparison.
func (m *sdiffMethod) session(t *merkle.Tree) (*diff.Session, *merkle.Snapshot) {
	var cfg diff.Config
	if m.sketches {
		cfg.Sketch = t.Sketch()
	}
	snapshot := t.Snapshot()
	return diff.New(snapshot, cfg), snapshot
}

// encode encodes messages as they are sent, and counts them.
func (c *cost) encode(msgs []diff.Message) [][]byte {
	out := make([][]byte, 0, len(msgs))
	for _, msg := range msgs {
		b := msg.Append(nil)
		c.count(len(b))
		out = append(out, b)
	}
	return out
}

// take gives a side what has arrived and returns what it answers.
func (m *sdiffMethod) take(c *cost, s *diff.Session, in [][]byte, found *[]diff.Finding) (out [][]byte, err error) {
	for _, b := range in {
		msg, err := diff.Parse(b)
		if err != nil {
			return nil, err
		}
		answer, err := s.Step(msg)
		if err != nil {
			return nil, err
		}
		out = append(out, c.encode(answer)...)
		for f := s.Findings(); len(f) > 0; f = s.Findings() {
			*found = append(*found, f...)
		}
	}
	return out, nil
}

// check holds the findings of both sides against what differs.
func (m *sdiffMethod) check(d *difference) error {
	if err := checkFindings(m.snapshots[0], m.onMaster, d.onMaster()); err != nil {
		return fmt.Errorf("the master: %w", err)
	}
	if err := checkFindings(m.snapshots[1], m.onFollower, d.onFollower()); err != nil {
		return fmt.Errorf("the follower: %w", err)
	}
	return nil
}

// checkFindings holds one side's findings against the items that only it has.
func checkFindings(tree *merkle.Snapshot, found []diff.Finding, want []item) error {
	missed := make(map[string]uint64, len(want))
	for _, it := range want {
		missed[it.key] = it.hash
	}
	var wrong int
	one := func(key []byte, hash uint64) bool {
		if h, ok := missed[string(key)]; !ok || h != hash {
			wrong++
		}
		delete(missed, string(key))
		return true
	}
	for _, f := range found {
		if f.Key != nil {
			one(f.Key, f.Hash)
		} else {
			tree.Ascend(f.Lo, f.Hi, one)
		}
	}
	if wrong > 0 || len(missed) > 0 {
		return fmt.Errorf("of %d items %d were not found, and %d others were", len(want), len(missed), wrong)
	}
	return nil
}
