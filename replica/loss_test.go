package replica_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
)

// P1: a follower that was away while its master lost keys, so that the log of
// the master that goes on does not reach back to it, lost them without a word.
func TestFollowerThatWasAwayParksBeforeAcceptedLoss(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h hub
		m, f := startPair(t, &h, 1000)
		gcfg := replica.FollowerConfig{ID: "g", Dial: h.dial}
		g := startFollower(t, store.NewMemory(), gcfg)
		g.waitFor(m.put("last", "word"))
		g.stop()
		f.waitFor(m.put("after", "g left"))
		f.stop()
		m.stop()
		st := m.st.Reopen()
		for i := range 10 {
			st.Drop(keyOf(500 + i))
		}
		m = startMaster(t, st.Reopen(), replica.MasterConfig{Listener: h.listen(), AcceptDataLoss: true})
		m.put("after", "the loss")
		g = startFollower(t, g.st.Reopen(), gcfg)
		parks := func() {
			t.Helper()
			within(t, time.Minute, "the follower parks", func() bool { return g.Status().State == replica.Parked })
			if got := len(contents(t, g.st)); got != 1001 {
				t.Fatalf("the follower that was away holds %d keys, want all 1001", got)
			}
		}
		parks()

		// The master knows it still when it was started again.
		m.stop()
		m = startMaster(t, m.st.Reopen(), replica.MasterConfig{Listener: h.listen()})
		m.put("and", "again")
		g.stop()
		g = startFollower(t, g.st.Reopen(), gcfg)
		parks()

		// One that a person told to go on is of the new epoch, and parks no more.
		if rep := g.repair(replica.RepairOptions{AcceptRollback: true}); rep.Outcome != replica.Repaired || rep.Extra != 10 {
			t.Errorf("repair = %+v, want ten extra keys", rep)
		}
		g.stop()
		pos := m.put("while", "g is away")
		g = startFollower(t, g.st.Reopen(), gcfg)
		g.waitFor(pos)
		checkSame(t, m, g)
		g.stop()
		m.stop()

		// A restore from a copy of before makes the loss good.
		if _, err := replica.Restore(t.Context(), m.st.Reopen(), f.st.Reopen(), merkle.XXH64(), true); err != nil {
			t.Fatal(err)
		}
		m = startMaster(t, m.st.Reopen(), replica.MasterConfig{Listener: h.listen()})
		f = startFollower(t, f.st.Reopen(), replica.FollowerConfig{ID: "f", Dial: h.dial})
		within(t, time.Minute, "the follower comes back", func() bool { return f.Status().State == replica.Streaming })
		f.waitFor(m.put("made", "good"))
		checkSame(t, m, f)
		if got := len(contents(t, f.st)); got != 1003 {
			t.Errorf("after the restore there are %d keys, want 1003", got)
		}
	})
}

// A damaged record of an accepted loss kept a master from starting in its
// directory for good, and a restore there as well.
func TestLossRecordThatCannotBeRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h hub
		m, f := startPair(t, &h, 1000)
		gcfg := replica.FollowerConfig{ID: "g", Dial: h.dial}
		g := startFollower(t, store.NewMemory(), gcfg)
		g.waitFor(m.put("last", "word"))
		g.stop()
		f.waitFor(m.put("after", "g left"))
		f.stop()
		m.stop()
		damage := func() {
			t.Helper()
			m.st = m.st.Reopen()
			v, err := m.st.View()
			if err != nil {
				t.Fatal(err)
			}
			meta, err := v.Meta()
			v.Close()
			if err == nil {
				err = m.st.Write(&store.Txn{Meta: meta, Records: []store.Record{{Name: "loss", Value: []byte("garbage")}}})
			}
			if err != nil {
				t.Fatal(err)
			}
			m.st = m.st.Reopen()
			refused := startMaster(t, m.st, replica.MasterConfig{}).wait()
			if d, ok := errors.AsType[*replica.DamageError](refused); !ok || !d.Lost || !strings.Contains(d.Found, "accepted loss") {
				t.Fatalf("Run = %v, want a *DamageError that tells of the record", refused)
			}
			m.st = m.st.Reopen()
		}
		follow := func(st *store.Memory, cfg replica.FollowerConfig, want replica.State) *follower {
			t.Helper()
			f := startFollower(t, st.Reopen(), cfg)
			within(t, time.Minute, "the follower is "+string(want), func() bool { return f.Status().State == want })
			return f
		}

		// A person accepts it. Who is of the time before parks.
		damage()
		m = startMaster(t, m.st, replica.MasterConfig{Listener: h.listen(), AcceptDataLoss: true})
		m.put("after", "the loss")
		follow(g.st, gcfg, replica.Parked).stop()
		fcfg := replica.FollowerConfig{ID: "f", Dial: h.dial}
		f = follow(f.st, fcfg, replica.Streaming)
		f.waitFor(m.put("in", "the new epoch"))
		f.stop()
		m.stop()

		// A restore is a way out, too, and who is of the time before its
		// copy still parks.
		damage()
		if _, err := replica.Restore(t.Context(), m.st, f.st.Reopen(), merkle.XXH64(), false); err != nil {
			t.Fatal(err)
		}
		m = startMaster(t, m.st.Reopen(), replica.MasterConfig{Listener: h.listen()})
		m.put("after", "the restore")
		follow(g.st, gcfg, replica.Parked).stop()
		f = follow(f.st, fcfg, replica.Streaming)
		f.waitFor(m.put("good", "again"))
		checkSame(t, m, f)
	})
}

// A database of a master under the HEAD of another is told, also if it has
// counted further.
func TestHeadOfAnotherDatabase(t *testing.T) {
	bubble(t, func(t *testing.T) {
		other := store.NewMemory()
		o := startMaster(t, other, replica.MasterConfig{})
		o.put("a", "b")
		o.stop()
		head := other.Reopen().Info().Head
		st := store.NewMemory()
		m := startMaster(t, st, replica.MasterConfig{})
		for range 20 {
			m.put("k", "v")
		}
		m.stop()
		m2, err := replica.NewMaster(headed{st.Reopen(), head}, replica.MasterConfig{})
		if err != nil {
			t.Fatal(err)
		}
		err = m2.Run(t.Context())
		if d, ok := errors.AsType[*replica.DamageError](err); !ok || d.Lost || !strings.Contains(d.Found, "another database") {
			t.Errorf("Run = %v, want a *DamageError", err)
		}
	})
}

// A headed store says of itself what another one did.
type headed struct {
	*store.Memory
	head *store.Head
}

func (h headed) Info() store.Info {
	i := h.Memory.Info()
	i.Head = h.head
	return i
}
