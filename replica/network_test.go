package replica_test

import (
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

// writeFor writes a key every so often for some time, and returns the last
// position.
func (p *pair) writeFor(d, every time.Duration) (pos stream.Position) {
	p.m.t.Helper()
	for i, began := 0, time.Now(); time.Since(began) < d; i++ {
		pos = p.m.put(fmt.Sprint("w", i%100), fmt.Sprint(i))
		time.Sleep(every)
	}
	return pos
}

// C4 8, 9, 10: frames that are changed, doubled, overtaken or lost on their way
// do no harm: the copy holds every commit, in order and once.
func TestFramesThatGoWrong(t *testing.T) {
	isCommits := func(typ byte) bool { return typ == commits }
	for name, harm := range map[string]func(l *faultnet.Link){
		"doubled":   func(l *faultnet.Link) { l.DuplicateFrame(faultnet.In, isCommits) },
		"overtaken": func(l *faultnet.Link) { l.SwapFrames(faultnet.In, isCommits) },
		"lost":      func(l *faultnet.Link) { l.DropFrame(faultnet.In, isCommits) },
		"flipped":   func(l *faultnet.Link) { l.FlipByte(faultnet.In, 100) },
		"cut":       func(l *faultnet.Link) { l.CutAfter(faultnet.In, 77, faultnet.Close) },
		"no acks":   func(l *faultnet.Link) { l.DropFrame(faultnet.Out, nil) },
		"two acks":  func(l *faultnet.Link) { l.DuplicateFrame(faultnet.Out, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var e events
				p := newPair(t, 10, replica.MasterConfig{}, replica.FollowerConfig{Observer: e.observer()})
				for range 10 {
					harm(p.link)
					p.writeFor(100*time.Millisecond, 10*time.Millisecond)
				}
				p.link.Heal()
				p.f.waitFor(p.m.put("end", ""))
				checkSame(t, p.m, p.f)
				if reps := e.reports(); len(reps) != 1 || e.drifted() != 0 {
					t.Errorf("%d drifts, repairs %+v, want the first copy only: it resumes", e.drifted(), reps)
				}
			})
		})
	}
}

// C4 2, 3: a link that swallows everything, or one direction, is noticed by
// both sides; what was written meanwhile comes when it works again.
func TestBlackHoles(t *testing.T) {
	for name, dir := range map[string]faultnet.Dir{"both": faultnet.Both, "to the master": faultnet.Out, "to the follower": faultnet.In} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := newPair(t, 10, replica.MasterConfig{}, replica.FollowerConfig{})
				p.link.BlackHole(dir, true)
				p.writeFor(20*time.Second, 50*time.Millisecond)
				if s := p.f.Status(); s.State != replica.Connecting || s.Why == "" {
					t.Errorf("after 20 s: %s, want connecting and why", brief(s))
				}
				if fs := p.m.Status().Followers[0]; fs.Connected || fs.LagCommits < 300 {
					t.Errorf("after 20 s the master sees %+v, want it gone and behind", fs)
				}
				pos := p.writeFor(10*time.Second, 50*time.Millisecond)
				p.link.Heal()
				healed := time.Now()
				p.f.waitFor(pos)
				if took := time.Since(healed); took > 30*time.Second {
					t.Errorf("it took %v to find back", took)
				}
				checkSame(t, p.m, p.f)
				if r := p.f.Status().LastRepair; r.Start.After(healed) {
					t.Errorf("repair %+v, want none: it resumes", r)
				}
			})
		})
	}
}

// C4 4: a link that comes and goes leaves nothing behind but a longer pause.
func TestFlappingLink(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 10, replica.MasterConfig{}, replica.FollowerConfig{})
		for range 100 {
			p.link.Cut(faultnet.Reset)
			p.link.Refuse(true)
			p.writeFor(200*time.Millisecond, 100*time.Millisecond)
			p.link.Refuse(false)
			p.writeFor(200*time.Millisecond, 100*time.Millisecond)
		}
		if n := p.link.Conns(); n > 1 {
			t.Errorf("%d connections are open", n)
		}
		p.sync()
		checkSame(t, p.m, p.f)
	})
}

// C4 11: a peer that says that it sends no more is let go.
func TestHalfClose(t *testing.T) {
	for _, dir := range []faultnet.Dir{faultnet.In, faultnet.Out} {
		bubble(t, func(t *testing.T) {
			p := newPair(t, 10, replica.MasterConfig{}, replica.FollowerConfig{})
			p.link.HalfClose(dir)
			p.sync()
			checkSame(t, p.m, p.f)
		})
	}
}

// C4 5: over a long link a repair takes few round trips, and the stream keeps
// its pace.
func TestLongLink(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 20_000, replica.MasterConfig{}, replica.FollowerConfig{Repair: manual})
		var ops []stream.Op
		for i := range 100 {
			ops = append(ops, stream.Op{Key: keyOf(i * 199), Value: []byte("new")})
		}
		p.behind(ops, lose)
		p.link.SetDelay(faultnet.Both, 150*time.Millisecond, 100*time.Millisecond)
		rep := p.f.repair(replica.RepairOptions{})
		if rep.Outcome != replica.Repaired || rep.Changed != 100 || rep.RoundTrips > 5 || rep.Took > 5*time.Second {
			t.Errorf("%+v, want 100 changed in at most 5 round trips", rep)
		}
		began := time.Now()
		pos := p.writeFor(5*time.Second, time.Millisecond) // 5,000 commits
		p.f.waitFor(pos)
		if late := time.Since(began) - 5*time.Second; late > time.Second {
			t.Errorf("the last of 5000 commits arrived %v after it was written", late)
		}
		checkSame(t, p.m, p.f)
	})
}

// C4 6, R1: over 64 kbit/s a repair lets commits and heartbeats through, ends,
// and memory does not grow.
func TestThinLink(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 10, replica.MasterConfig{}, replica.FollowerConfig{Repair: manual})
		var ops []stream.Op
		for i := range 2000 {
			ops = append(ops, stream.Op{Key: keyOf(i), Value: []byte(strings.Repeat("v", 400))})
		}
		p.behind(ops, lose)
		p.link.SetRate(faultnet.Both, 8000) // 0.8 MB take 110 s
		res := asked(p.f, t.Context(), replica.RepairOptions{})
		var worst time.Duration
		for done := false; !done; {
			select {
			case r := <-res:
				if r.err != nil || r.rep.Outcome != replica.Repaired || r.rep.Rounds != 1 || r.rep.Took < 100*time.Second {
					t.Errorf("%+v, %v, want repaired in one round", r.rep, r.err)
				}
				done = true
			default:
				began := time.Now()
				p.f.waitFor(p.m.put("live", began.String()))
				worst = max(worst, time.Since(began))
				time.Sleep(time.Second)
			}
		}
		if worst > 8*time.Second {
			t.Errorf("a commit took %v to arrive during the repair", worst)
		}
		if s := p.m.Status().Followers[0]; !s.Connected {
			t.Errorf("%+v, want one session from beginning to end", s)
		}
		p.sync()
		checkSame(t, p.m, p.f)
	})
}

// C4 43: the largest items and commits there are get through, by the stream
// and by a repair, in memory or from the log.
func TestLargestItemsAndCommits(t *testing.T) {
	for _, tail := range []int{1, 64 << 20} {
		bubble(t, func(t *testing.T) {
			lim := store.NewMemory().Limits()
			p := newPair(t, 10, replica.MasterConfig{TailBytes: tail}, replica.FollowerConfig{Repair: replica.RepairPolicy{Manual: true}})
			large := []stream.Op{{Key: []byte(strings.Repeat("k", lim.Key)), Value: make([]byte, lim.Value)}}
			var many []stream.Op
			for i := range lim.CommitOps {
				many = append(many, stream.Op{Key: keyOf(i)})
			}
			full := []stream.Op{{Key: []byte("a"), Value: make([]byte, lim.Value)}, {Key: []byte("b"), Value: make([]byte, lim.Value)}}
			rest := lim.CommitBytes - stream.Size(full) - 1 - 16
			full = append(full, stream.Op{Key: []byte("c"), Value: make([]byte, min(rest, lim.Value))})
			for i, ops := range [][]stream.Op{large, many, full} {
				if i%2 == 0 {
					p.behind(ops, lose)
				} else {
					p.behind(ops, nil)
				}
			}
			p.link.Cut(faultnet.Reset)
			p.behind(many, nil)
			rep := p.f.repair(replica.RepairOptions{})
			if rep.Outcome != replica.Repaired || rep.Missing != 4 {
				t.Errorf("%+v, want 4 missing", rep)
			}
			synctest.Wait()
			checkSame(t, p.m, p.f)
		})
	}
}

// C4 50, R5: a repair may be cut off at any byte, in either direction, and be
// started again: nothing is lost, nothing is wrong.
func TestR5RepairCutOffAnywhere(t *testing.T) {
	for _, dir := range []faultnet.Dir{faultnet.In, faultnet.Out} {
		bubble(t, func(t *testing.T) {
			p := newPair(t, 300, replica.MasterConfig{}, replica.FollowerConfig{Repair: replica.RepairPolicy{Manual: true}})
			cut := 0
			for after := 0; after < 2500; after += 23 {
				p.sync()
				ops := []stream.Op{{Key: keyOf(after % 300), Value: fmt.Append(nil, after)}, {Key: keyOf((after + 7) % 300), Delete: true}}
				p.behind(ops, func(ops []stream.Op) []stream.Op {
					return []stream.Op{{Key: fmt.Append(nil, "stray", after), Value: []byte("stray")}, {Key: keyOf((after + 20) % 300), Delete: true}}
				})
				p.link.CutAfter(dir, after, faultnet.Reset)
				if rep, _ := p.f.Repair(t.Context(), replica.RepairOptions{}); rep.Outcome == replica.Unknown {
					cut++
				}
				p.link.Heal()
				within(t, time.Minute, fmt.Sprintf("cut after %d bytes, and then repaired", after), func() bool {
					rep, err := p.f.Repair(t.Context(), replica.RepairOptions{})
					return err == nil && (rep.Outcome == replica.Same || rep.Outcome == replica.Repaired)
				})
			}
			p.sync()
			checkSame(t, p.m, p.f)
			if cut < 10 {
				t.Errorf("%d repairs were cut off, too few to test anything", cut)
			}
		})
	}
}
