package replica_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// A pair is a master and a follower that holds the same, with repairs only
// when asked for, and a fault to make them differ.
type pair struct {
	*hub
	m    *master
	f    *follower
	link *faultnet.Link
	g    *garbler
	cfg  replica.FollowerConfig
}

func newPair(t *testing.T, n int, mcfg replica.MasterConfig, fcfg replica.FollowerConfig) *pair {
	t.Helper()
	p := &pair{hub: &hub{}, link: faultnet.New(1), g: &garbler{}}
	t.Cleanup(func() { p.link.Close() })
	mcfg.Listener, mcfg.Scrub = p.listen(), -1
	p.m = startMaster(t, store.NewMemory(), mcfg)
	<-p.m.Ready()
	fcfg.ID, fcfg.Dial, fcfg.Fault, fcfg.Scrub = "f", p.link.Dialer(p.dial), p.g.fault, -1
	p.cfg = fcfg
	p.f = startFollower(t, store.NewMemoryWith(store.MemoryConfig{Keep: 20}), fcfg)
	if n > 0 {
		p.m.fill(n, "v")
	}
	if fcfg.Repair.Manual || fcfg.Repair.NoConnect {
		within(t, time.Minute, "connected", func() bool { return p.f.Status().State == replica.Initializing })
		p.f.repair(replica.RepairOptions{})
	}
	p.sync()
	return p
}

// sync waits until the follower has seen all that was written.
func (p *pair) sync() {
	p.m.t.Helper()
	p.f.waitFor(p.m.put("mark", time.Now().String()))
}

// behind writes what the follower's fault changes: the copy differs then.
func (p *pair) behind(ops []stream.Op, garble func([]stream.Op) []stream.Op) {
	p.m.t.Helper()
	p.g.set(garble)
	pos, err := p.m.Write(context.Background(), ops)
	if err != nil {
		p.m.t.Fatalf("Write: %v", err)
	}
	p.f.waitFor(pos)
	p.g.set(nil)
}

// extra makes the follower hold n keys that the master does not.
func (p *pair) extra(n int, size int) {
	p.m.t.Helper()
	var ops []stream.Op
	for i := range n {
		ops = append(ops, stream.Op{Key: fmt.Appendf(nil, "extra%06d%s", i, strings.Repeat("x", size))})
		if len(ops) == 1000 || i == n-1 || len(ops)*size > 1<<20 {
			p.behind([]stream.Op{{Key: []byte("mark"), Delete: true}}, func([]stream.Op) []stream.Op { return ops })
			ops = nil
		}
	}
}

// R9: the table of the mass-delete guard.
func TestR9MassDeleteGuard(t *testing.T) {
	for _, tt := range []struct {
		held, extra int // keys at the verified state, keys to delete
		empty       bool
		allow       bool
		stops       bool
	}{
		{held: 10, extra: 9},   // few keys: only an empty master counts
		{held: 99, extra: 99},  // the same
		{held: 100, extra: 50}, // half is not more than half
		{held: 100, extra: 51, stops: true},
		{held: 101, extra: 50},
		{held: 101, extra: 51, stops: true},
		{held: 100, extra: 51, allow: true},
		{held: 10, extra: 1, empty: true, stops: true},
		{held: 10, extra: 1, empty: true, allow: true},
		{held: 0, extra: 3, empty: true, stops: true},
		{held: 1000, extra: 1, empty: true, stops: true},
	} {
		t.Run(fmt.Sprintf("%d of %d, empty %v, allow %v", tt.extra, tt.held, tt.empty, tt.allow), func(t *testing.T) {
			bubble(t, func(t *testing.T) { guard(t, tt.held, tt.extra, tt.empty, tt.allow, tt.stops) })
		})
	}
}

func guard(t *testing.T, held, extra int, empty, allow, stops bool) {
	p := newPair(t, 0, replica.MasterConfig{}, replica.FollowerConfig{Repair: manual})
	p.f.waitFor(p.m.del("mark"))
	if held > 0 {
		p.f.waitFor(p.m.fill(held, "v"))
	}
	if rep := p.f.repair(replica.RepairOptions{}); rep.Outcome != replica.Same {
		t.Fatalf("%+v, want a verified state", rep)
	}
	// The follower loses the deletes of these keys, or holds strangers.
	var ops, own []stream.Op
	if empty {
		for i := range held {
			ops = append(ops, stream.Op{Key: keyOf(i), Delete: true})
			if i >= extra {
				own = append(own, ops[i])
			}
		}
		for i := held; i < extra; i++ {
			own = append(own, stream.Op{Key: keyOf(i)})
		}
		if held == 0 {
			ops = append(ops, stream.Op{Key: []byte("nothing"), Delete: true})
		}
	} else {
		for i := range extra {
			ops = append(ops, stream.Op{Key: keyOf(i), Delete: true})
		}
		ops = append(ops, stream.Op{Key: []byte("left"), Value: []byte("over")})
	}
	p.behind(ops, func([]stream.Op) []stream.Op { return own })
	missing := uint64(1) // left
	if empty {
		missing = 0
	}
	rep := p.f.repair(replica.RepairOptions{AllowMassDelete: allow})
	if !stops {
		if rep.Outcome != replica.Repaired || rep.Deleted != uint64(extra) || rep.NeedsConsent != "" {
			t.Errorf("%+v, want %d deleted", rep, extra)
		}
		checkSame(t, p.m, p.f)
		return
	}
	if rep.Outcome != replica.Different || rep.Deleted != 0 || rep.Extra != uint64(extra) || rep.NeedsConsent != "--allow-mass-delete" || rep.Reason == "" {
		t.Errorf("%+v, want it to stop and ask, with nothing deleted", rep)
	}
	if rep.Put != missing {
		t.Errorf("%d were put, want %d: only deletes need consent", rep.Put, missing)
	}
	if s := p.f.Status(); s.State != replica.Drifted || s.Why != rep.Reason {
		t.Errorf("%s, want drifted and why", brief(s))
	}
	// It is asked again each time, and a person's word settles it.
	if rep := p.f.repair(replica.RepairOptions{}); rep.Outcome != replica.Different {
		t.Errorf("again: %+v, want it to stop again", rep)
	}
	if rep := p.f.repair(replica.RepairOptions{AllowMassDelete: true}); rep.Outcome != replica.Repaired || rep.Deleted != uint64(extra) {
		t.Errorf("with consent: %+v, want %d deleted", rep, extra)
	}
	checkSame(t, p.m, p.f)
}

// R9: deletes are counted over all attempts since the last verified state,
// restarts included.
func TestR9DeletesAreCountedOverAttempts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 1000, replica.MasterConfig{}, replica.FollowerConfig{Repair: manual})
		// Every commit that leaves the fingerprints equal is a verified state;
		// from here on no repair can be, nor any commit.
		p.m.st.Tamper([]byte("key000000"), []byte("damaged"))
		p.behind([]stream.Op{{Key: keyOf(1), Value: []byte("new")}}, func([]stream.Op) []stream.Op {
			return []stream.Op{{Key: keyOf(0), Value: []byte("drifted")}}
		})
		deleted := 0
		for i := range 5 {
			var ops []stream.Op
			for k := range 150 {
				ops = append(ops, stream.Op{Key: keyOf(100 + i*150 + k), Delete: true})
			}
			p.behind(ops, lose)
			rep := p.f.repair(replica.RepairOptions{})
			deleted += int(rep.Deleted)
			if want := i >= 3; rep.Outcome != replica.Different || (rep.NeedsConsent != "") != want {
				t.Errorf("attempt %d: %+v, want it to stop: %v", i, rep, want)
			}
			if i == 1 { // a restart forgets nothing
				p.f.stop()
				p.f = startFollower(t, p.f.st, p.cfg)
				within(t, time.Second, "the repair on connect has ended", func() bool { return p.f.Status().LastRepair != nil })
			}
		}
		if deleted != 450 {
			t.Errorf("%d were deleted, want 450 of 1001: the next 150 would be more than half", deleted)
		}
	})
}

// R4, P8: deletes of long keys go in transactions that the store takes.
func TestManyLongKeysAreDeleted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 10, replica.MasterConfig{}, replica.FollowerConfig{Repair: manual})
		p.extra(2500, 4000) // 10 MB of keys
		rep := p.f.repair(replica.RepairOptions{})
		if rep.Outcome != replica.Repaired || rep.Deleted != 2501 { // and the mark
			t.Errorf("%+v, want 2501 deleted", rep)
		}
		p.sync()
		checkSame(t, p.m, p.f)
	})
	// And in a store that takes little at once.
	bubble(t, func(t *testing.T) {
		h := &hub{}
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: -1})
		m.fill(10, "v")
		st := store.NewMemoryWith(store.MemoryConfig{Limits: store.Limits{CommitOps: 100, CommitBytes: 5000}})
		for i := range 3000 {
			st.Tamper(fmt.Append(nil, "extra", i), nil)
		}
		f := startFollower(t, st, replica.FollowerConfig{ID: "f", Dial: h.dial, Adopt: true, Scrub: -1, Repair: replica.RepairPolicy{Manual: true}})
		within(t, time.Minute, "connected", func() bool { return f.Status().State == replica.Initializing })
		if rep := f.repair(replica.RepairOptions{AllowMassDelete: true}); rep.Outcome != replica.Repaired || rep.Deleted != 3000 {
			t.Errorf("%+v, want 3000 deleted", rep)
		}
		checkSame(t, m, f)
	})
}

// R8, P8: what is damaged at the master is neither replicated nor deleted at
// the follower, and the report says so.
func TestR8DamageAtTheMasterStaysThere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 200, replica.MasterConfig{}, replica.FollowerConfig{Repair: manual})
		p.m.st.Tamper(keyOf(7), []byte("damaged"))
		p.m.st.Drop(keyOf(8))
		p.m.st.Drop(keyOf(9))
		// The follower differs in these and one that is well.
		p.behind([]stream.Op{{Key: []byte("mark"), Value: []byte("x")}}, func([]stream.Op) []stream.Op {
			return []stream.Op{
				{Key: keyOf(7), Value: []byte("own")}, {Key: keyOf(8), Value: []byte("own")}, {Key: keyOf(9), Delete: true},
				{Key: keyOf(10), Value: []byte("own")},
			}
		})
		rep := p.f.repair(replica.RepairOptions{})
		if rep.Outcome != replica.Different || rep.Unsendable != 3 || rep.Put != 2 || rep.Deleted != 0 || !strings.Contains(rep.Reason, "damaged at the master") {
			t.Errorf("%+v, want three unsendable, two put", rep)
		}
		got := contents(t, p.f.st)
		if got[string(keyOf(7))] != "own" || got[string(keyOf(8))] != "own" || got[string(keyOf(10))] != "v" || len(got) != 200 {
			t.Errorf("it holds %d keys, 7 = %q, 8 = %q, 10 = %q", len(got), got[string(keyOf(7))], got[string(keyOf(8))], got[string(keyOf(10))])
		}
		// Whatever is written again is sound again.
		p.m.put(string(keyOf(7)), "new")
		p.m.put(string(keyOf(8)), "new")
		p.m.put(string(keyOf(9)), "new")
		p.sync()
		synctest.Wait()
		checkSame(t, p.m, p.f)
	})
}
