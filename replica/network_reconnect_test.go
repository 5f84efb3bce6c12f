package replica_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
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

// C4 4: a link that comes and goes every 200 ms leaves no goroutine and no
// connection behind, and the pauses grow: a connect alone proves nothing.
func TestFlappingLinkLeavesNothingBehind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 10, replica.MasterConfig{}, replica.FollowerConfig{})
		flap := func(times int) {
			for range times {
				p.link.Cut(faultnet.Reset)
				p.link.Refuse(true)
				time.Sleep(200 * time.Millisecond)
				p.link.Refuse(false)
				time.Sleep(200 * time.Millisecond)
			}
			p.sync()
			synctest.Wait()
		}
		flap(5)
		before, cuts, refused := runtime.NumGoroutine(), p.link.Count(faultnet.Cut), p.link.Count(faultnet.Refuse)
		flap(100)
		if after := runtime.NumGoroutine(); after > before {
			t.Errorf("%d goroutines after it, %d before", after, before)
		}
		if n := p.link.Conns(); n != 1 {
			t.Errorf("%d connections are open, want 1", n)
		}
		if cuts, refused = p.link.Count(faultnet.Cut)-cuts, p.link.Count(faultnet.Refuse)-refused; cuts < 2 || cuts+refused > 40 {
			t.Errorf("%d sessions and %d refusals within 40 s, want some and ever longer pauses", cuts, refused)
		}
		checkSame(t, p.m, p.f)
	})
}

// C4 11: what was sent before a half-close is applied, then the connection is
// closed, and connecting anew does not become a spin.
func TestHalfCloseIsDrainedThenClosed(t *testing.T) {
	for _, dir := range []faultnet.Dir{faultnet.In, faultnet.Out} {
		bubble(t, func(t *testing.T) {
			most := 0
			p := newPair(t, 10, replica.MasterConfig{}, replica.FollowerConfig{})
			w := watch(t, p.f)
			pos := p.m.put("last", "words")
			synctest.Wait()
			p.link.HalfClose(dir)
			synctest.Wait()
			if s := p.f.Status(); s.Offset != pos.Offset {
				t.Errorf("%s, want everything that was sent before", brief(s))
			}
			for range 1000 {
				most = max(most, p.link.Conns())
				time.Sleep(10 * time.Millisecond)
			}
			p.sync()
			w.once(t)
			if most > 2 {
				t.Errorf("%d connections at once", most)
			}
			fired(t, p.link, faultnet.HalfClose)
			checkSame(t, p.m, p.f)
		})
	}
}

// C4 12: eight followers are clogged one by one while the master is written
// to, and let go in another order. No write waits for any of them, none loses
// its place, and all are equal soon after.
func TestSwizzleClog(t *testing.T) {
	for seed := range uint64(10) {
		bubble(t, func(t *testing.T) { swizzle(t, seed) })
	}
}

func swizzle(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 2))
	h := &hub{}
	m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: -1, TailBytes: 50_000})
	var links []*faultnet.Link
	var copies []*follower
	for i := range 8 {
		l := faultnet.New(seed)
		t.Cleanup(func() { l.Close() })
		links = append(links, l)
		copies = append(copies, startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: fmt.Sprint("f", i), Dial: l.Dialer(h.dial), Scrub: -1}))
	}
	n, slowest := 0, time.Duration(0)
	writeFor := func(d time.Duration) (pos stream.Position) {
		for began := time.Now(); time.Since(began) < d; time.Sleep(20 * time.Millisecond) {
			at := time.Now()
			pos = m.put(fmt.Sprint("key", rng.IntN(500)), fmt.Sprint(n))
			slowest = max(slowest, time.Since(at))
			n++
		}
		return pos
	}
	pos := writeFor(time.Second)
	for _, f := range copies {
		f.waitFor(pos)
	}
	for _, i := range rng.Perm(8) {
		if rng.IntN(2) == 0 {
			links[i].Stall(faultnet.Both, true)
		} else {
			links[i].BlackHole(faultnet.Both, true)
		}
		writeFor(time.Duration(rng.IntN(3000)) * time.Millisecond)
	}
	for _, i := range rng.Perm(8) {
		links[i].Heal()
		pos = writeFor(time.Duration(1+rng.IntN(3000)) * time.Millisecond)
	}
	healed := time.Now()
	for i, f := range copies {
		f.waitFor(pos)
		checkSame(t, m, f)
		if links[i].Count(faultnet.Stall)+links[i].Count(faultnet.BlackHole) == 0 {
			t.Errorf("seed %d: follower %d was not clogged", seed, i)
		}
	}
	if took := time.Since(healed); took > 30*time.Second {
		t.Errorf("seed %d: equal %v after the last was let go", seed, took)
	}
	if slowest > 0 {
		t.Errorf("seed %d: a write took %v: it waited for a follower", seed, slowest)
	}
}

// C4 14: a name that cannot be looked up, and then leads elsewhere, is looked
// up anew by each attempt.
func TestNameThatFailsAndMoves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		// What the name stands for: nil is that it cannot be looked up.
		var mu sync.Mutex
		var at *hub
		resolve := func(h *hub) {
			mu.Lock()
			defer mu.Unlock()
			at = h
		}
		st := store.NewMemory()
		old, moved := &hub{}, &hub{}
		m := startMaster(t, st, replica.MasterConfig{Listener: old.listen(), Scrub: -1})
		m.fill(10, "v")
		f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Scrub: -1, Dial: func(ctx context.Context) (net.Conn, error) {
			mu.Lock()
			h := at
			mu.Unlock()
			if h == nil {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "master.example", IsNotFound: true}}
			}
			return h.dial(ctx)
		}})
		time.Sleep(time.Minute)
		if s := f.Status(); s.State != replica.Connecting || !strings.Contains(s.Why, "lookup master.example: no such host") {
			t.Errorf("%s, want connecting and the name", brief(s))
		}
		resolve(old)
		f.waitFor(m.put("a", "1"))
		m.stop()
		resolve(nil)
		time.Sleep(time.Minute)
		m = startMaster(t, st, replica.MasterConfig{Listener: moved.listen(), Scrub: -1})
		pos := m.put("b", "2")
		resolve(moved)
		began := time.Now()
		f.waitFor(pos)
		if took := time.Since(began); took > 11*time.Second {
			t.Errorf("it took %v to find the new address, want a pause at most", took)
		}
		checkSame(t, m, f)
	})
}

// C4 4: the pause between two attempts begins anew only after a session in
// which the master was heard for longer than the limit of silence: not after a
// connect, not after a welcome, and not after a welcome and silence.
func TestBackOffIsResetByASessionThatServed(t *testing.T) {
	// serve is one session: how it begins, and how long the master speaks.
	serve := func(m *puppetMaster, welcomes bool, talk time.Duration) {
		p, _ := m.accept()
		if welcomes {
			m.welcome(p, false)
		}
		for end := time.Now().Add(talk); time.Now().Before(end); time.Sleep(time.Second) {
			p.send(head, m.pos)
		}
		if welcomes && talk == 0 {
			p.wantEnd("it gives up", bye, replica.CodeSilent)
		}
		p.nc.Close()
	}
	for _, tt := range []struct {
		name     string
		welcomes bool
		talk     time.Duration
		resets   bool
	}{
		{"accepted and dropped", false, 0, false},
		{"welcomed and silent", true, 0, false},
		{"welcomed and dropped soon", true, 3 * time.Second, false},
		{"served", true, 15 * time.Second, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			withFollower(t, replica.FollowerConfig{Repair: replica.RepairPolicy{Manual: true}}, func(t *testing.T, m *puppetMaster, f *follower) {
				var pause time.Duration
				for range 15 {
					began := time.Now()
					nc, err := m.l.Accept()
					if err != nil {
						t.Fatal(err)
					}
					pause = time.Since(began)
					nc.Close()
				}
				if pause < 4*time.Second {
					t.Fatalf("%v after fifteen attempts, want a long pause", pause)
				}
				serve(m, tt.welcomes, tt.talk)
				began := time.Now()
				p, _ := m.accept()
				pause = time.Since(began)
				p.nc.Close()
				if tt.resets != (pause < time.Second) {
					t.Errorf("the next attempt came after %v, begun anew: want %v", pause, tt.resets)
				}
			})
		})
	}
}
