package replica_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// manual leaves it to the test when repairs begin.
var manual = replica.RepairPolicy{NoDrift: true}

// differ gives the follower two keys of which the master has one, with another
// value, and the master one of its own: the stream lost and garbled something.
func (m *puppetMaster) differ(p *testPeer) {
	m.commit("a", "1")
	pos := m.pos
	p.sendRaw(commits, m.encode(pos, stream.Op{Key: []byte("a"), Value: []byte("garbled")}, stream.Op{Key: []byte("x"), Value: []byte("extra")}))
	m.commit("b", "2")
	p.sendRaw(commits, m.encode(m.pos, stream.Op{Key: []byte("x"), Value: []byte("extra")}))
	p.wantAck("applied", 2)
}

// begin starts a repair and answers with a comparison at the head. It returns
// the comparison's number and the master's side of it.
func (m *puppetMaster) begin(p *testPeer) (uint64, *diff.Session) {
	m.t.Helper()
	ask := p.want("it asks for a comparison", syncAsk)
	id := ask.num(m.t, 0)
	p.send(syncStart, id, m.pos, false)
	return id, diff.New(m.tree.Snapshot(), diff.Config{})
}

// compare answers comparison messages until nothing is left to say.
func (m *puppetMaster) compare(p *testPeer, id uint64, s *diff.Session) {
	m.t.Helper()
	for !s.Done() {
		c := p.want("a message of the comparison", compare)
		msg, err := diff.Parse(c.fields[1].([]byte))
		if err != nil {
			m.t.Fatal(err)
		}
		out, err := s.Step(msg)
		if err != nil {
			m.t.Fatal(err)
		}
		s.Findings()
		for _, o := range out {
			p.send(compare, id, o.Append(nil))
		}
	}
}

// asked runs Repair and returns where its result will come.
func asked(f *follower, ctx context.Context, opts replica.RepairOptions) <-chan repaired {
	c := make(chan repaired, 1)
	go func() {
		rep, err := f.Repair(ctx, opts)
		c <- repaired{rep, err}
	}()
	return c
}

type repaired struct {
	rep replica.Report
	err error
}

// A repair as a master may conduct it: chunks and commits in turn.
func TestRepairOfAFollower(t *testing.T) {
	withFollower(t, replica.FollowerConfig{Repair: manual}, func(t *testing.T, m *puppetMaster, f *follower) {
		p := m.start(f)
		m.differ(p)
		res := asked(f, t.Context(), replica.RepairOptions{})
		id, s := m.begin(p)
		m.compare(p, id, s)
		p.send(items, id, 1, 2, []any{[]byte("a"), []byte("1")})
		p.want("each chunk is acknowledged", chunkAck)
		p.sendRaw(commits, m.commit("x", "born again")) // what only it held, the stream now writes
		p.send(items, id, 2, 3, []any{[]byte("b"), []byte("2")})
		p.want("each chunk is acknowledged", chunkAck)
		p.send(syncDone, id, m.pos, 0, 0, "")
		if r := p.want("it says how that ended", syncResult); r.fields[1] != "repaired" {
			t.Errorf("%v, want repaired", r)
		}
		r := <-res
		if r.err != nil || r.rep.Outcome != replica.Repaired || r.rep.Missing != 1 || r.rep.Changed != 1 || r.rep.Extra != 0 || r.rep.Put != 2 {
			t.Errorf("%+v, %v, want one missing, one changed, no extra: the stream wrote it meanwhile", r.rep, r.err)
		}
		if got := contents(t, f.st); fmt.Sprint(got) != "map[a:1 b:2 x:born again]" {
			t.Errorf("it holds %q", got)
		}
	})
}

// R4: a key that differs and that the master wrote meanwhile is not deleted,
// even if the follower's own bug loses that very write.
func TestR4WhatTheMasterHoldsIsNotDeleted(t *testing.T) {
	var g garbler
	withFollower(t, replica.FollowerConfig{Repair: manual, Fault: g.fault}, func(t *testing.T, m *puppetMaster, f *follower) {
		p := m.start(f)
		m.differ(p)
		res := asked(f, t.Context(), replica.RepairOptions{})
		id, s := m.begin(p)
		m.compare(p, id, s)
		g.set(lose)
		p.sendRaw(commits, m.commit("a", "newer")) // so the master sends no a, and the follower loses it
		p.sendRaw(commits, m.commit("x", "born"))
		p.wantAck("the stream goes on", 4)
		g.set(nil)
		p.send(items, id, 1, 4, []any{[]byte("b"), []byte("2")})
		p.want("the chunk is acknowledged", chunkAck)
		p.send(syncDone, id, m.pos, 0, 0, "")
		if r := p.want("still different", syncResult); r.fields[1] != "different" {
			t.Errorf("%v, want different", r)
		}
		if got := contents(t, f.st); fmt.Sprint(got) != "map[a:garbled b:2 x:extra]" {
			t.Errorf("it holds %q, want a and x as they were: the master holds both", got)
		}
		// The next round settles it.
		id, s = m.begin(p)
		m.compare(p, id, s)
		p.send(items, id, 1, 4, []any{[]byte("a"), []byte("newer"), []byte("x"), []byte("born")})
		p.want("the chunk is acknowledged", chunkAck)
		p.send(syncDone, id, m.pos, 0, 0, "")
		p.want("repaired", syncResult)
		if r := <-res; r.rep.Outcome != replica.Repaired || r.rep.Rounds != 2 || r.rep.Deleted != 0 {
			t.Errorf("%+v, %v, want repaired in two rounds, nothing deleted", r.rep, r.err)
		}
	})
}

// In a comparison a master must keep to the order of things; otherwise the
// session ends, the repair could not tell, and nothing is damaged.
func TestSyncFramesOutOfOrder(t *testing.T) {
	item := []any{[]byte("k"), []byte("v")}
	for name, tt := range map[string]struct {
		dry bool
		say func(m *puppetMaster, p *testPeer, id uint64)
	}{
		"a start elsewhere": {say: func(m *puppetMaster, p *testPeer, id uint64) {
			m.pos.Offset++
			p.send(syncStart, id, m.pos, false)
			m.pos.Offset--
		}},
		"two starts": {say: func(m *puppetMaster, p *testPeer, id uint64) {
			p.send(syncStart, id, m.pos, false)
			p.send(syncStart, id, m.pos, false)
		}},
		"a message before the start": {say: func(m *puppetMaster, p *testPeer, id uint64) { p.send(compare, id, []byte{0x92, 2, 1}) }},
		"a chunk before the start":   {say: func(m *puppetMaster, p *testPeer, id uint64) { p.send(items, id, 1, 2, item) }},
		"keys before the start":      {say: func(m *puppetMaster, p *testPeer, id uint64) { p.send(keys, id, 1, 2, item) }},
		"done before the start":      {say: func(m *puppetMaster, p *testPeer, id uint64) { p.send(syncDone, id, m.pos, 0, 0, "") }},
		"done before it is": {say: func(m *puppetMaster, p *testPeer, id uint64) {
			p.send(syncStart, id, m.pos, false)
			p.send(syncDone, id, m.pos, 0, 0, "")
		}},
		"a chunk of another offset": {say: func(m *puppetMaster, p *testPeer, id uint64) {
			p.send(syncStart, id, m.pos, false)
			p.send(items, id, 1, 1, item)
		}},
		"a chunk of a later offset": {say: func(m *puppetMaster, p *testPeer, id uint64) {
			p.send(syncStart, id, m.pos, false)
			p.send(items, id, 1, 3, item)
		}},
		"half an item": {say: func(m *puppetMaster, p *testPeer, id uint64) {
			p.send(syncStart, id, m.pos, false)
			p.send(items, id, 1, 2, []any{[]byte("k")})
		}},
		"keys in a repair": {say: func(m *puppetMaster, p *testPeer, id uint64) {
			p.send(syncStart, id, m.pos, false)
			p.send(keys, id, 1, 2, []any{[]byte("k")})
		}},
		"items in a dry run": {dry: true, say: func(m *puppetMaster, p *testPeer, id uint64) {
			p.send(syncStart, id, m.pos, false)
			p.send(items, id, 1, 2, item)
		}},
		"no comparison message": {say: func(m *puppetMaster, p *testPeer, id uint64) {
			p.send(syncStart, id, m.pos, false)
			p.send(compare, id, []byte("nonsense"))
		}},
		"a message out of turn": {say: func(m *puppetMaster, p *testPeer, id uint64) {
			p.send(syncStart, id, m.pos, false)
			p.send(compare, id, []byte{0x92, 2, 1}) // an ack of what needs none
		}},
		"an answer to no opening": {say: func(m *puppetMaster, p *testPeer, id uint64) { p.send(syncStart, id, m.pos, true) }},
		"garbage":                 {say: func(m *puppetMaster, p *testPeer, id uint64) { p.sendRaw(syncStart, []byte{0xc1}) }},
	} {
		t.Run(name, func(t *testing.T) {
			withFollower(t, replica.FollowerConfig{Repair: manual}, func(t *testing.T, m *puppetMaster, f *follower) {
				p := m.start(f)
				m.differ(p)
				before := contents(t, f.st)
				res := asked(f, t.Context(), replica.RepairOptions{DryRun: tt.dry})
				id := p.want("it asks", syncAsk).num(t, 0)
				p.ignore = append(p.ignore, compare)
				tt.say(m, p, id)
				p.wantEnd(name, bye, replica.CodeProtocol)
				if r := <-res; r.err != nil || r.rep.Outcome != replica.Unknown || r.rep.Reason == "" {
					t.Errorf("%+v, %v, want could not tell, and why", r.rep, r.err)
				}
				if got := contents(t, f.st); fmt.Sprint(got) != fmt.Sprint(before) {
					t.Errorf("it holds %q, want %q", got, before)
				}
				p, h := m.accept()
				if h.position(t, 6) != m.pos || h.num(t, 7, 0) != 2 {
					t.Errorf("it comes back as %v, want offset 2 with 2 keys", h)
				}
				p.nc.Close()
			})
		})
	}
}

// Frames of a comparison that is over change nothing.
func TestStaleChunksArePassedOver(t *testing.T) {
	withFollower(t, replica.FollowerConfig{Repair: manual}, func(t *testing.T, m *puppetMaster, f *follower) {
		p := m.start(f)
		m.differ(p)
		before := fmt.Sprint(contents(t, f.st))
		say := func(id uint64) {
			p.send(syncStart, id, m.pos, false)
			p.send(compare, id, []byte("nonsense"))
			p.send(items, id, 1, 9, []any{[]byte("k"), []byte("v")})
			p.send(keys, id, 1, 9, []any{[]byte("k")})
			p.send(syncQueued, id, 4)
			p.send(syncDone, id, m.pos, 0, 0, "")
		}
		say(1)
		res := asked(f, t.Context(), replica.RepairOptions{})
		id := p.want("it asks", syncAsk).num(t, 0)
		say(id - 1)
		say(id + 1)
		p.wantIdle("it is not impressed", time.Second)
		if got := fmt.Sprint(contents(t, f.st)); got != before {
			t.Errorf("it holds %s, want %s", got, before)
		}
		p.nc.Close()
		if r := <-res; r.rep.Outcome != replica.Unknown {
			t.Errorf("%+v, %v, want could not tell", r.rep, r.err)
		}
		p, _ = m.accept()
		p.nc.Close()
	})
}

// What the follower's store does not take ends the session, and leaves tree
// and store as they were.
func TestChunksThatTheStoreRefuses(t *testing.T) {
	withFollower(t, replica.FollowerConfig{Repair: manual}, func(t *testing.T, m *puppetMaster, f *follower) {
		p := m.start(f)
		m.differ(p)
		for _, bad := range []string{"", "!sdiff!meta"} {
			res := asked(f, t.Context(), replica.RepairOptions{})
			id, _ := m.begin(p)
			p.ignore = append(p.ignore, compare)
			p.send(items, id, 1, 2, []any{[]byte("a"), []byte("1"), []byte(bad), []byte("v")})
			p.want("the session ends", bye)
			p.nc.Close()
			if r := <-res; r.rep.Outcome != replica.Unknown {
				t.Errorf("%+v, %v, want could not tell", r.rep, r.err)
			}
			var h message
			p, h = m.accept()
			if got := fingerprint(contents(t, f.st)); h.num(t, 7, 1) != got.Sum || got.Count != 2 {
				t.Errorf("it comes back as %v, but holds %v", h, got)
			}
			m.welcomeAt(p, m.pos)
			p.wantAck("it is back", 2)
		}
		f.st.FailNext(store.ErrNoSpace)
		res := asked(f, t.Context(), replica.RepairOptions{})
		id, _ := m.begin(p)
		p.ignore = append(p.ignore, compare)
		p.send(items, id, 1, 2, []any{[]byte("a"), []byte("1")})
		p.want("the session ends", bye)
		if r := <-res; r.rep.Outcome != replica.Unknown || r.rep.After != r.rep.Before {
			t.Errorf("%+v, %v, want could not tell, and nothing changed", r.rep, r.err)
		}
		p.nc.Close()
		p, _ = m.accept()
		m.welcomeAt(p, m.pos)
		p.sendRaw(commits, m.commit("c", "3"))
		p.wantAck("it is as good as ever", 3)
	})
}

// A repair goes on without the caller; a dry run does not.
func TestRepairWithoutItsCaller(t *testing.T) {
	withFollower(t, replica.FollowerConfig{Repair: manual}, func(t *testing.T, m *puppetMaster, f *follower) {
		p := m.start(f)
		m.differ(p)
		ctx, cancel := context.WithCancel(t.Context())
		res := asked(f, ctx, replica.RepairOptions{DryRun: true})
		p.want("a dry run begins", syncAsk)
		cancel()
		if r := <-res; !errors.Is(r.err, context.Canceled) || r.rep.Outcome != replica.Unknown {
			t.Errorf("%+v, %v, want cancelled", r.rep, r.err)
		}
		if r := p.want("the master is told", syncResult); r.fields[1] != "could not tell" {
			t.Errorf("%v, want could not tell", r)
		}
		ctx, cancel = context.WithCancel(t.Context())
		res = asked(f, ctx, replica.RepairOptions{})
		id, s := m.begin(p)
		waiting := asked(f, t.Context(), replica.RepairOptions{DryRun: true})
		synctest.Wait()
		cancel()
		if r := <-res; !errors.Is(r.err, context.Canceled) {
			t.Errorf("%+v, %v, want cancelled", r.rep, r.err)
		}
		m.compare(p, id, s)
		p.send(items, id, 1, 2, []any{[]byte("a"), []byte("1"), []byte("b"), []byte("2")})
		p.want("the repair goes on", chunkAck)
		p.send(syncDone, id, m.pos, 0, 0, "")
		p.want("it ends", syncResult)
		m.sync(p) // the one that waited
		if r := <-waiting; r.err != nil || r.rep.Outcome != replica.Same {
			t.Errorf("the one that waited: %+v, %v, want same", r.rep, r.err)
		}
	})
}
