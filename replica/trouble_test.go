package replica_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// C4 21: a panic in one session ends that session and nothing else.
func TestPanicInASession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &hub{}
		var panics atomic.Int32
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: -1, Observer: replica.Observer{
			Follower: func(id string, s replica.State, why string) {
				if id == "cursed" && s == replica.Streaming && panics.Add(1) < 3 {
					panic("boo")
				}
			},
		}})
		good := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "good", Dial: h.dial, Scrub: -1})
		good.waitFor(m.put("a", "1"))
		cursed := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "cursed", Dial: h.dial, Scrub: -1})
		cursed.waitFor(m.put("b", "2"))
		time.Sleep(time.Minute)
		if panics.Load() < 3 {
			t.Errorf("%d panics, want some", panics.Load())
		}
		pos := m.put("c", "3")
		good.waitFor(pos)
		cursed.waitFor(pos)
		checkSame(t, m, good)
		checkSame(t, m, cursed)
		if s := good.Status(); s.State != replica.Streaming {
			t.Errorf("the other follower: %s", brief(s))
		}
	})
}

// A torn store fails its iterations with ErrCorrupt at some key, and reads of
// that key, as a damaged table does.
type torn struct {
	store.Store
	at atomic.Pointer[string]
}

type tornView struct {
	store.View
	at *string
}

func (s *torn) View() (store.View, error) {
	v, err := s.Store.View()
	return &tornView{v, s.at.Load()}, err
}

var errTorn = fmt.Errorf("%w: a block", store.ErrCorrupt)

func (v *tornView) Get(key []byte) ([]byte, error) {
	if v.at != nil && string(key) == *v.at {
		return nil, errTorn
	}
	return v.View.Get(key)
}

func (v *tornView) Ascend(lo, hi []byte, fn func(key, value []byte) bool) error {
	hit := false
	err := v.View.Ascend(lo, hi, func(key, value []byte) bool {
		if hit = v.at != nil && string(key) >= *v.at; hit {
			return false
		}
		return fn(key, value)
	})
	if hit && err == nil {
		return errTorn
	}
	return err
}

// R8, P8: a damaged block in the master's store costs the keys in it and no
// others, whatever asks for them.
func TestR8DamagedBlockAtTheMaster(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &hub{}
		st := &torn{Store: store.NewMemory()}
		m := startOver(t, st, replica.MasterConfig{Listener: h.listen(), Scrub: -1})
		pos := m.fill(3000, "v")
		st.at.Store(new(string(keyOf(1234))))
		f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: h.dial, Scrub: -1, Repair: replica.RepairPolicy{Manual: true}})
		within(t, time.Minute, "connected", func() bool { return f.Status().State == replica.Initializing })
		rep := f.repair(replica.RepairOptions{})
		if rep.Outcome != replica.Different || rep.Unsendable != 1 || rep.Put != 2999 {
			t.Errorf("%+v, want all but one key", rep)
		}
		if s := f.Status(); s.Complete || s.State != replica.Initializing {
			t.Errorf("%s, want incomplete", brief(s))
		}
		st.at.Store(nil)
		if rep := f.repair(replica.RepairOptions{}); rep.Outcome != replica.Repaired || rep.Put != 1 {
			t.Errorf("mended: %+v, want the one key", rep)
		}
		f.waitFor(pos)
	})
}

// A master that cannot read at all loses the session that asked, and goes on.
func TestMasterThatCannotRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 100, replica.MasterConfig{}, replica.FollowerConfig{Repair: manual})
		p.behind([]stream.Op{{Key: keyOf(1), Value: []byte("new")}}, lose)
		p.m.st.FailReads(errors.New("input/output error"))
		if rep := p.f.repair(replica.RepairOptions{}); rep.Outcome != replica.Unknown || rep.Reason == "" {
			t.Errorf("%+v, want could not tell, and why", rep)
		}
		p.m.put("a", "1") // writes need no reads
		p.m.st.FailReads(nil)
		within(t, time.Minute, "connected", func() bool { return p.f.Status().State != replica.Connecting })
		p.f.repair(replica.RepairOptions{})
		p.sync()
		checkSame(t, p.m, p.f)
	})
}

// What is remembered of followers is bounded, in memory and in the store.
func TestFollowersKnownAreBounded(t *testing.T) {
	if raced {
		t.Skip("ten thousand handshakes take too long")
	}
	withMaster(t, replica.MasterConfig{}, func(t *testing.T, m *master, h *hub) {
		const most, more = 10_000, 300
		g := newGreeting()
		g.pos, g.complete = stream.Position{Epoch: stream.NewEpoch(), Offset: 1}, true // parks: nothing is stored
		for i := range most - 100 {
			g.id = fmt.Sprint("parked", i)
			greet(t, h, g).want("it parks", refused)
		}
		g = newGreeting()
		for i := range more {
			g.id = fmt.Sprint("gone", i)
			p := greet(t, h, g)
			p.want("welcome", welcome)
			p.nc.Close()
			synctest.Wait()
			time.Sleep(time.Millisecond)
		}
		if n := len(m.Status().Followers); n > most {
			t.Errorf("%d followers are known, want at most %d", n, most)
		}
		m.stop()
		v, err := m.st.View()
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		stored := 0
		v.Records("follower/", func(string, []byte) bool { stored++; return true })
		if stored > most {
			t.Errorf("%d followers are stored, want at most %d", stored, most)
		}
	})
}

// Strangers who come and go had the writer store, and sync, twice for each.
func TestEveryHelloTookTwoTransactions(t *testing.T) {
	withMaster(t, replica.MasterConfig{}, func(t *testing.T, m *master, h *hub) {
		before := seqOf(t, m.st)
		begin := time.Now()
		g := newGreeting()
		const came = 200
		for i := range came {
			g.id = fmt.Sprint("gone", i)
			p := greet(t, h, g)
			p.want("welcome", welcome)
			p.nc.Close()
			synctest.Wait()
			time.Sleep(50 * time.Millisecond)
		}
		took := time.Since(begin)
		if n, most := seqOf(t, m.st)-before, 10+uint64(took/time.Second); n > most {
			t.Errorf("%d followers that came and went in %v took %d transactions, want at most %d", came, took, n, most)
		}
		m.stop()
		v, err := m.st.View()
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		stored := 0
		v.Records("follower/", func(string, []byte) bool { stored++; return true })
		if stored != came {
			t.Errorf("%d followers are stored, want %d", stored, came)
		}
	})
}

// seqOf returns how many transactions a store has taken.
func seqOf(t *testing.T, st store.Store) uint64 {
	v, err := st.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	meta, err := v.Meta()
	if err != nil {
		t.Fatal(err)
	}
	return meta.Seq
}

// C4 44: connections that say nothing do not keep out those that do.
func TestManySilentConnections(t *testing.T) {
	withMaster(t, replica.MasterConfig{}, func(t *testing.T, m *master, h *hub) {
		for range 1500 {
			dialAs(t, h)
		}
		time.Sleep(6 * time.Second)
		g := newGreeting()
		greet(t, h, g).want("a follower is welcome", welcome)
		m.put("still", "works")
	})
}

// C4 44: many followers at once, more than there are places for repairs.
func TestManyFollowersAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 200
		h := &hub{}
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: -1})
		m.fill(500, "v")
		var all []*follower
		for i := range n {
			all = append(all, startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: fmt.Sprint("f", i), Dial: h.dial, Scrub: -1}))
		}
		pos := m.put("a", "1")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := m.WaitAcked(ctx, pos, n); err != nil {
			t.Fatalf("WaitAcked: %v", err)
		}
		// The master restarts: all come back, and none is repaired again.
		m.stop()
		m = startMaster(t, m.st.Reopen(), replica.MasterConfig{Listener: h.listen(), Scrub: -1})
		pos = m.put("b", "2")
		for _, f := range all {
			f.waitFor(pos)
			if r := f.Status().LastRepair; r.Rounds != 1 || r.Missing != 500 && r.Missing != 501 {
				t.Fatalf("%+v, want the first copy only", r)
			}
		}
		checkSame(t, m, all[n-1])
	})
}

// A record of a follower that cannot be read kept the master from starting, and
// no consent helped: the follower comes back by itself and is remembered anew.
func TestFollowerRecordThatCannotBeRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &hub{}
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: -1})
		for _, id := range []string{"a", "b", "c"} {
			f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: id, Dial: h.dial, Scrub: -1})
			f.waitFor(m.put("key", id))
			f.stop()
		}
		m.stop()
		st := m.st.Reopen()
		v, err := st.View()
		if err != nil {
			t.Fatal(err)
		}
		meta, err := v.Meta()
		v.Close()
		if err == nil {
			err = st.Write(&store.Txn{Meta: meta, Records: []store.Record{{Name: "follower/b", Value: []byte("garbage")}}})
		}
		if err != nil {
			t.Fatal(err)
		}
		m = startMaster(t, st.Reopen(), replica.MasterConfig{Listener: h.listen(), Scrub: -1})
		m.put("key", "still")
		var ids []string
		for _, f := range m.Status().Followers {
			ids = append(ids, f.ID)
		}
		if !slices.Equal(ids, []string{"a", "c"}) {
			t.Errorf("it knows %q, want a and c", ids)
		}
	})
}
