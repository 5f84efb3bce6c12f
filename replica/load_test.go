package replica_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// R1 to R6, C4 47, 48, 49: a repair of thousands of keys while others are
// written, deleted and born again, most of them such as differ: it ends, in few
// rounds, no key goes back in time, and the stream keeps its pace.
func TestRepairUnderLoad(t *testing.T) {
	for name, tt := range map[string]struct {
		ops  int // of each commit, of which there are a thousand a second
		rate int // of the link to the follower, bytes per second
	}{"a thousand a second over a slow link": {1, 200_000}, "over fifty thousand a second": {65, 100_000_000}} {
		t.Run(name, func(t *testing.T) { repairUnderLoad(t, tt.ops, tt.rate) })
	}
}

func repairUnderLoad(t *testing.T, size, rate int) {
	bubble(t, func(t *testing.T) {
		h, link, l, g := &hub{}, faultnet.New(1), newLedger(), &garbler{}
		t.Cleanup(func() { link.Close() })
		mst := store.NewMemory()
		m := startOver(t, &masterStore{Store: mst, l: l, c: &counts{}}, replica.MasterConfig{Listener: h.listen(), Scrub: -1})
		m.st = mst
		fst := store.NewMemory()
		rec := newCopyStore(t, fst, "f", l, &counts{})
		m.fill(10_000, "v")
		f, err := replica.NewFollower(rec, replica.FollowerConfig{ID: "f", Dial: link.Dialer(h.dial), Fault: g.fault, Repair: manual, Scrub: -1})
		if err != nil {
			t.Fatal(err)
		}
		fo := &follower{Follower: f, running: start(t, f.Run), t: t, st: fst}
		fo.waitFor(m.put("a", ""))
		// Half of the keys are changed, a quarter deleted, and the follower
		// knows nothing of it.
		g.set(func([]stream.Op) []stream.Op { rec.garble(); return nil })
		for i := range 7500 {
			if i < 5000 {
				m.put(string(keyOf(i)), fmt.Sprint("changed", i))
			} else {
				m.del(string(keyOf(i)))
			}
		}
		fo.waitFor(m.put("b", ""))
		g.set(nil)

		link.SetDelay(faultnet.Both, 20*time.Millisecond, 5*time.Millisecond)
		link.SetRate(faultnet.In, rate)
		res := asked(fo, context.Background(), replica.RepairOptions{AllowMassDelete: true})
		rng := rand.New(rand.NewPCG(1, 1))
		var worst time.Duration
		written, began := 0, time.Now()
		for i, done := 0, false; !done; i++ {
			select {
			case r := <-res:
				if r.err != nil || r.rep.Outcome != replica.Repaired || r.rep.Rounds > 3 || r.rep.Took > time.Minute {
					t.Errorf("%+v, %v, want repaired in few rounds", r.rep, r.err)
				}
				done = true
			default:
			}
			ops := make([]stream.Op, size)
			for j := range ops {
				ops[j] = stream.Op{Key: keyOf(rng.IntN(8000)), Delete: rng.IntN(3) == 0}
				if !ops[j].Delete {
					ops[j].Value = fmt.Appendf(nil, "live%d", i)
				}
			}
			if _, err := m.Write(t.Context(), ops); err != nil {
				t.Fatal(err)
			}
			written += size
			time.Sleep(time.Millisecond)
			if i%500 == 0 {
				began := time.Now()
				fo.waitFor(m.put("c", fmt.Sprint(i)))
				worst = max(worst, time.Since(began))
			}
		}
		t.Logf("%d ops in %v", written, time.Since(began))
		if worst > time.Second {
			t.Errorf("a commit took %v to arrive during the repair", worst)
		}
		fo.waitFor(m.put("d", ""))
		checkSame(t, m, fo)
	})
}

// S2: what was changed behind the back of a running follower is named by
// Verify, and mended by the repair that follows.
func TestVerifyOnAFollower(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 1000, replica.MasterConfig{}, replica.FollowerConfig{})
		if rep, err := p.f.Verify(t.Context()); err != nil || !rep.OK || rep.Items != 1001 || rep.Store != rep.Tree {
			t.Errorf("%+v, %v, want 1001 items that are right", rep, err)
		}
		p.f.st.Tamper(keyOf(1), []byte("wrong"))
		p.f.st.Drop(keyOf(2))
		p.f.st.Tamper([]byte("zzz"), nil)
		rep, err := p.f.Verify(t.Context())
		if err != nil || rep.OK || rep.Bad != 3 || len(rep.Keys) != 3 || rep.Store == rep.Tree {
			t.Errorf("%+v, %v, want 3 bad keys", rep, err)
		}
		for i, want := range []string{"key000001 changed", "key000002 missing", "zzz extra"} {
			if got := fmt.Sprintf("%s %s", rep.Keys[i].Key, rep.Keys[i].What); got != want {
				t.Errorf("bad key %d is %q, want %q", i, got, want)
			}
		}
		within(t, 10*time.Second, "repaired", func() bool {
			s := p.f.Status()
			return s.State == replica.Streaming && *s.InSync && s.LastRepair.Outcome == replica.Repaired && s.LastRepair.Put > 0
		})
		checkSame(t, p.m, p.f)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if rep, err := p.f.Verify(ctx); err == nil {
			t.Errorf("with an ended context: %+v", rep)
		}
	})
}
