package replica_test

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// The defects of the Erlang original that this one descends from, by name.

// Its client counted as connected before the server had registered it; what
// was written in between was lost until the next repair. Here no follower
// needs a second repair, however it comes while writes go on.
func TestErlangDefectWritesLostBetweenConnectAndRegistration(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &hub{}
		link := faultnet.New(1)
		t.Cleanup(func() { link.Close() })
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), TailBytes: 2000, Scrub: -1})
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					case <-time.After(time.Duration(w+1) * time.Millisecond):
						m.put(fmt.Sprint("key", w, i%50), fmt.Sprint(i))
					}
				}
			})
		}
		link.SetDelay(faultnet.Both, time.Millisecond, time.Millisecond)
		for i := range 20 {
			var e events
			st := store.NewMemory()
			cfg := replica.FollowerConfig{ID: "f", Dial: link.Dialer(h.dial), Observer: e.observer(), Scrub: -1}
			f := startFollower(t, st, cfg)
			f.waitFor(m.put("mark", fmt.Sprint(i)))
			for range 2 {
				link.Cut(faultnet.Reset)
				f.waitFor(m.put("mark", fmt.Sprint(i)))
			}
			// And again over what it has.
			f.stop()
			f = startFollower(t, st, cfg)
			f.waitFor(m.put("mark", fmt.Sprint(i)))
			if reps := e.reports(); len(reps) != 1 || reps[0].Outcome != replica.Repaired {
				t.Fatalf("follower %d: repairs %+v, want the first copy and no other", i, reps)
			}
			f.stop()
			if i == 19 {
				close(stop)
				wg.Wait()
				f = startFollower(t, st, cfg)
				f.waitFor(m.put("mark", "end"))
				checkSame(t, m, f)
			}
		}
	})
}

// Its reader dropped half a frame when it waited for the rest too long. Here a
// frame may come in as many pieces as it likes, with any pause between two.
func TestErlangDefectFrameSplitByAPause(t *testing.T) {
	withFollower(t, replica.FollowerConfig{}, func(t *testing.T, m *puppetMaster, f *follower) {
		p := m.start(f)
		body := m.commit("key", strings.Repeat("v", 1000))
		whole := frameOf(commits, body)
		for _, n := range []int{1, 3, 6, 500, len(whole) - 1} {
			io.WriteString(p.nc, whole[:n])
			time.Sleep(5 * time.Second)
			io.WriteString(p.nc, whole[n:])
			p.wantAck("the commit has come", m.pos.Offset)
			whole = frameOf(commits, m.commit("key", strings.Repeat("w", 1000)))
		}
		if s := f.Status(); s.State != replica.Streaming {
			t.Errorf("%s, want streaming", brief(s))
		}
	})
	// And all frames in both directions, cut to single bytes.
	bubble(t, func(t *testing.T) {
		h, link := &hub{}, faultnet.New(1)
		t.Cleanup(func() { link.Close() })
		link.SplitMax(faultnet.Both, 1)
		link.SetDelay(faultnet.Both, 100*time.Millisecond, 50*time.Millisecond)
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: -1})
		m.fill(100, "v")
		f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: link.Dialer(h.dial), Scrub: -1})
		f.waitFor(m.put("a", "1"))
		f.waitFor(m.put("b", "2"))
		checkSame(t, m, f)
	})
}

// frameOf returns a whole frame, as it is on the wire.
func frameOf(typ byte, body []byte) string {
	b := header(typ, uint32(len(body))) + string(body)
	return b + checksum(b)
}

// Its messages counted keys in 16 bits: a side with more than 65,535 keys that
// the other lacked could never be repaired.
func TestErlangDefectMoreThan65535KeysOnOneSide(t *testing.T) {
	const n = 70_000
	t.Run("master", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			h := &hub{}
			m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: -1})
			pos := m.fill(n, "v")
			f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: h.dial, Scrub: -1})
			f.waitFor(pos)
			if r := f.Status().LastRepair; r.Missing != n || r.Outcome != replica.Repaired {
				t.Errorf("%+v, want %d missing", r, n)
			}
			checkSame(t, m, f)
		})
	})
	t.Run("follower", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			h := &hub{}
			m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: -1})
			m.put("one", "is left")
			st := store.NewMemory()
			for i := range n {
				st.Tamper(keyOf(i), []byte("v"))
			}
			f := startFollower(t, st, replica.FollowerConfig{ID: "f", Dial: h.dial, Adopt: true, Scrub: -1, Repair: replica.RepairPolicy{Manual: true}})
			within(t, time.Minute, "connected", func() bool { return f.Status().State == replica.Initializing })
			rep := f.repair(replica.RepairOptions{AllowMassDelete: true})
			if rep.Extra != n || rep.Deleted != n || rep.Missing != 1 || rep.Outcome != replica.Repaired {
				t.Errorf("%+v, want %d extra", rep, n)
			}
			checkSame(t, m, f)
		})
	})
}

// A second request while a repair ran crashed its server. Here it waits.
func TestErlangDefectSecondRepairRequestWhileOneRuns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, link := &hub{}, faultnet.New(1)
		t.Cleanup(func() { link.Close() })
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: -1})
		m.fill(2000, "v")
		f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: link.Dialer(h.dial), Scrub: -1})
		f.waitFor(m.put("a", ""))
		link.SetDelay(faultnet.Both, 100*time.Millisecond, 0)
		var results []<-chan repaired
		for i := range 17 {
			results = append(results, asked(f, t.Context(), replica.RepairOptions{DryRun: i%3 == 1}))
			synctest.Wait()
		}
		if _, err := f.Repair(t.Context(), replica.RepairOptions{}); !errors.Is(err, replica.ErrRepairing) {
			t.Errorf("one too many: %v, want ErrRepairing", err)
		}
		for i, c := range results {
			if r := <-c; r.err != nil || r.rep.Outcome != replica.Same {
				t.Errorf("repair %d: %+v, %v, want same", i, r.rep, r.err)
			}
		}
		// The master knows one comparison of a follower at a time, too.
		p := join(t, h, "puppet")
		for i := range 50 {
			p.send(syncAsk, i, i%2 == 0, []byte{})
		}
		got := p.compareAs(50, false, contents(t, m.st), nil)
		if got.done.num(t, 0) != 50 {
			t.Errorf("%v, want the end of the last", got.done)
		}
	})
}

// A connection that went during a repair left its client "already diffing" for
// ever.
func TestErlangDefectDroppedConnectionLeavesAlreadyDiffing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, link := &hub{}, faultnet.New(1)
		t.Cleanup(func() { link.Close() })
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), MaxRepairs: 1, Scrub: -1})
		pos := m.fill(5000, "v")
		f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: link.Dialer(h.dial), Scrub: -1})
		f.waitFor(pos)
		link.SetDelay(faultnet.Both, 10*time.Millisecond, 0)
		cut := 0
		for after := 0; after < 150; after += 3 {
			res := asked(f, t.Context(), replica.RepairOptions{DryRun: after%2 == 0})
			second := asked(f, t.Context(), replica.RepairOptions{})
			link.CutAfter(faultnet.In, after, faultnet.Reset)
			for _, c := range []<-chan repaired{res, second} {
				switch r := <-c; {
				case r.rep.Outcome == replica.Same:
				case r.rep.Outcome == replica.Unknown && r.rep.Reason != "":
					cut++
				default:
					t.Errorf("cut after %d bytes: %+v, %v, want same, or could not tell and why", after, r.rep, r.err)
				}
			}
			link.CutAfter(faultnet.In, 1<<30, faultnet.Reset)
			within(t, time.Minute, "connected again", func() bool { return f.Status().State == replica.Streaming })
			if rep := f.repair(replica.RepairOptions{}); rep.Outcome != replica.Same {
				t.Errorf("the next repair: %+v, want same", rep)
			}
		}
		if cut < 20 {
			t.Errorf("%d repairs were cut off, too few to test anything", cut)
		}
	})
}

// A slow client made its server's queue grow without bound. Here nothing grows
// but the log, which is bounded.
func TestErlangDefectUnboundedQueueBehindASlowFollower(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &hub{}
		const bound = 1 << 20
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{
			Listener: h.listen(), TailBytes: bound, LogBytes: bound, LogAge: -1, Scrub: -1,
		})
		p := join(t, h, "slow") // takes nothing
		value := strings.Repeat("v", 10_000)
		var before runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		const total = 64 << 20
		for i := range total / len(value) {
			m.put(fmt.Sprint("key", i%10), value)
			if i%100 == 0 {
				p.send(ack, 0, stream.Position{}.Fingerprint, false, "slow") // but lives
			}
			time.Sleep(10 * time.Millisecond)
		}
		var after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&after)
		// The queue, the tail, the log, which may be over for some seconds,
		// and as much again for what is not ours.
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
			t.Errorf("the heap grew by %d MiB behind a follower that is %d MiB behind", grown>>20, total>>20)
		}
		fs := m.Status().Followers
		if len(fs) != 1 || fs[0].LagCommits < 6000 {
			t.Errorf("followers %+v, want one that is far behind", fs)
		}
	})
}

// A client that crashed lost its tree and its position. Here a restart goes on
// where the store stands, and copies nothing again.
func TestErlangDefectClientCrashLosesTreeAndPosition(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &hub{}
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: -1})
		pos := m.fill(20_000, "v")
		var e events
		cfg := replica.FollowerConfig{ID: "f", Dial: h.dial, Observer: e.observer(), Scrub: -1}
		f := startFollower(t, store.NewMemory(), cfg)
		f.waitFor(pos)
		crashed := f.st.Reopen() // as kill -9 does: the follower finds its store closed
		m.put("while", "it was away")
		m.put("key000007", "changed")
		m.del("key000008")
		f.stop()
		pos = m.put("x", "1")
		f = startFollower(t, crashed, cfg)
		f.waitFor(pos)
		if reps := e.reports(); len(reps) != 1 {
			t.Errorf("repairs %+v, want the first copy only", reps)
		}
		if s := m.Status().Followers[0]; s.BytesOut > 2000 {
			t.Errorf("%d bytes were sent after the crash, want four commits' worth", s.BytesOut)
		}
		checkSame(t, m, f)
	})
}
