package replica_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// pair starts a master with n keys and a follower that has them all.
func startPair(t *testing.T, h *hub, n int) (*master, *follower) {
	t.Helper()
	m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen()})
	f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: h.dial})
	f.waitFor(m.fill(n, "v"))
	return m, f
}

// refusal runs a master that is expected not to start and returns why.
func refusal(t *testing.T, st *store.Memory, cfg replica.MasterConfig) *replica.DamageError {
	t.Helper()
	m, err := replica.NewMaster(st, cfg)
	if err != nil {
		t.Fatal(err)
	}
	err = m.Run(context.Background())
	d, ok := errors.AsType[*replica.DamageError](err)
	if !ok {
		t.Fatalf("Run = %v, want a *DamageError", err)
	}
	return d
}

// S1: a master whose store has lost keys refuses to start, says how many and
// where, goes on only with the consent that fits, and its follower then parks
// and loses nothing until a person has decided.
func TestMasterThatLostKeysAsksForConsentAndItsFollowerParks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h hub
		m, f := startPair(t, &h, 10_000)
		m.stop()
		st := m.st.Reopen()
		for i := range 10 {
			st.Drop(keyOf(5000 + i))
		}
		st = st.Reopen()
		d := refusal(t, st, replica.MasterConfig{AcceptStore: true})
		if !d.Lost || !strings.Contains(d.Found, "9990 keys") || !strings.Contains(d.Where, "of 4096 stored range summaries no longer hold") || !strings.Contains(d.Where, "key005") {
			t.Errorf("the refusal is %v (lost: %v), want the counts and the ranges", d, d.Lost)
		}
		before := m.Status().Epoch
		m2 := startMaster(t, st.Reopen(), replica.MasterConfig{Listener: h.listen(), AcceptDataLoss: true})
		m2.put("after", "the loss")
		if m2.Status().Epoch == before {
			t.Error("the epoch is the old one after data loss was accepted")
		}
		within(t, time.Minute, "the follower parks", func() bool { return f.Status().State == replica.Parked })
		if got := len(contents(t, f.st)); got != 10_000 {
			t.Errorf("the parked follower holds %d keys, want all 10000", got)
		}
		rep := f.repair(replica.RepairOptions{AcceptRollback: true})
		if rep.Outcome != replica.Repaired || rep.Extra != 10 || rep.Missing != 1 {
			t.Errorf("repair = %+v, want ten extra keys and one missing", rep)
		}
		checkSame(t, m2, f)
	})
}

// S1: foreign and changed keys are another matter than missing ones.
func TestMasterWithForeignKeysAsksForTheOtherConsent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h hub
		m, _ := startPair(t, &h, 1000)
		m.stop()
		st := m.st.Reopen()
		st.Tamper([]byte("foreign"), []byte("key"))
		st.Tamper(keyOf(1), []byte("changed"))
		st = st.Reopen()
		if d := refusal(t, st, replica.MasterConfig{AcceptDataLoss: true}); d.Lost {
			t.Errorf("the refusal says that something is lost: %v", d)
		}
		m2 := startMaster(t, st.Reopen(), replica.MasterConfig{AcceptStore: true})
		if rep, err := m2.Verify(context.Background()); err != nil || !rep.OK || rep.Items != 1001 {
			t.Errorf("Verify = %+v, %v, want the store as it is", rep, err)
		}
	})
}

// A follower that is promoted keeps the dataset; its fellow finds back by
// comparing, not by copying everything, and the old master's offsets are not
// mistaken for the new one's.
func TestPromotedFollowerServesItsFellow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h hub
		m, f := startPair(t, &h, 20_000)
		g := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "g", Dial: h.dial})
		pos := m.put("last", "word")
		f.waitFor(pos)
		g.waitFor(pos)
		if _, err := replica.Promote(m.st, merkle.XXH64(), false); err == nil {
			t.Error("a master's store was promoted")
		}
		m.stop()
		f.stop()
		st := f.st.Reopen()
		at, err := replica.Promote(st, merkle.XXH64(), false)
		if err != nil || at.Offset != pos.Offset || at.Epoch == pos.Epoch || at.Fingerprint != pos.Fingerprint {
			t.Fatalf("Promote = %v, %v, want %v in a new epoch", at, err, pos)
		}
		m2 := startMaster(t, st.Reopen(), replica.MasterConfig{Listener: h.listen()})
		pos = m2.put("first", "word")
		within(t, time.Minute, "the fellow follows the new epoch", func() bool { return g.Status().Epoch == at.Epoch.String() })
		g.waitFor(pos)
		s := g.Status()
		if s.Dataset != m.Status().Dataset || s.Epoch != at.Epoch.String() {
			t.Errorf("the fellow follows %s/%s, want the dataset %s in the new epoch %v", s.Dataset, s.Epoch, m.Status().Dataset, at.Epoch)
		}
		if s.LastRepair != nil && s.LastRepair.Put > 20_001 {
			t.Errorf("the fellow copied everything again: %+v", s.LastRepair)
		}
		checkSame(t, m2, g)
	})
}

// P2: a copy that was never verified is no master.
func TestPromoteRefusesAnIncompleteCopy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h hub
		startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen()}).fill(10, "v")
		f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: h.dial, Repair: replica.RepairPolicy{Manual: true}})
		within(t, time.Minute, "a session", func() bool { return f.Status().State == replica.Initializing })
		f.stop()
		if _, err := replica.Promote(f.st.Reopen(), merkle.XXH64(), false); !errors.Is(err, replica.ErrIncomplete) {
			t.Errorf("Promote = %v, want ErrIncomplete", err)
		}
	})
}

// A master that lost its end is given it back from a follower's store, and the
// follower goes on without a repair.
func TestRestoreFromAFollower(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h hub
		m, f := startPair(t, &h, 5000)
		m.stop()
		f.stop()
		want := contents(t, f.st.Reopen())
		st := m.st.Reopen()
		for i := range 2000 {
			st.Drop(keyOf(i))
		}
		st.Tamper(keyOf(3000), []byte("wrong"))
		st.Tamper([]byte("foreign"), []byte("key"))
		st = st.Reopen()
		fs := f.st.Reopen()
		rep, err := replica.Restore(context.Background(), st, fs, merkle.XXH64(), false)
		if err != nil || rep.Missing != 2000 || rep.Changed != 1 || rep.Extra != 1 {
			t.Fatalf("Restore = %+v, %v", rep, err)
		}
		m2 := startMaster(t, st.Reopen(), replica.MasterConfig{Listener: h.listen()})
		f2 := startFollower(t, fs.Reopen(), replica.FollowerConfig{ID: "f", Dial: h.dial})
		pos := m2.put("and", "on")
		within(t, time.Minute, "the follower follows the new epoch", func() bool { return f2.Status().Epoch == pos.Epoch.String() })
		f2.waitFor(pos)
		if s := f2.Status(); s.LastRepair != nil {
			t.Errorf("the follower had to be repaired: %+v", s.LastRepair)
		}
		checkSame(t, m2, f2)
		if got := contents(t, m2.st); len(got) != len(want)+1 {
			t.Errorf("the master holds %d keys, want %d", len(got), len(want)+1)
		}
	})
}

// A copy that may lack anything does not become the truth by itself: a master
// would lose what it lacks.
func TestRestoreRefusesAnIncompleteCopy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h hub
		m, f := startPair(t, &h, 100)
		g := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "g", Dial: h.dial, Repair: replica.RepairPolicy{Manual: true}})
		within(t, time.Minute, "a session", func() bool { return g.Status().State == replica.Initializing })
		g.stop()
		f.stop()
		old := f.st.Reopen()
		m.put("newer", "v")
		m.stop()
		st := m.st.Reopen()
		want := contents(t, st)
		try := func(what string, from store.Store) {
			t.Helper()
			if _, err := replica.Restore(context.Background(), st, from, merkle.XXH64(), false); !errors.Is(err, replica.ErrIncomplete) {
				t.Errorf("Restore from %s = %v, want ErrIncomplete", what, err)
			}
			if got := contents(t, st); !maps.Equal(got, want) {
				t.Errorf("Restore from %s left %d keys, want %d", what, len(got), len(want))
			}
		}
		try("a copy that was never verified", g.st.Reopen())
		try("an older copy", old)
		old.Tamper(keyOf(1), []byte("wrong"))
		old = old.Reopen()
		try("a damaged copy", old)
		rep, err := replica.Restore(context.Background(), st, old, merkle.XXH64(), true)
		if err != nil || rep.Extra != 1 || rep.Changed != 1 {
			t.Errorf("Restore anyway = %+v, %v", rep, err)
		}
	})
}

// A copy that knows that it differs from its master was taken for the truth by
// promote and restore without a word.
func TestPromoteAndRestoreRefuseACopyThatHasDrifted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h hub
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen()})
		drop := false
		f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: h.dial, Repair: replica.RepairPolicy{NoDrift: true},
			Fault: func(ops []stream.Op) []stream.Op {
				if drop {
					return nil
				}
				return ops
			}})
		f.waitFor(m.fill(100, "v"))
		drop = true
		f.waitFor(m.put("lost", "on the way"))
		m.stop()
		f.stop()
		if _, err := replica.Promote(f.st.Reopen(), merkle.XXH64(), false); !errors.Is(err, replica.ErrIncomplete) {
			t.Errorf("Promote = %v, want ErrIncomplete", err)
		}
		if _, err := replica.Restore(context.Background(), m.st.Reopen(), f.st.Reopen(), merkle.XXH64(), false); !errors.Is(err, replica.ErrIncomplete) {
			t.Errorf("Restore = %v, want ErrIncomplete", err)
		}
		if _, err := replica.Promote(f.st.Reopen(), merkle.XXH64(), true); err != nil {
			t.Errorf("Promote anyway = %v", err)
		}
	})
}
