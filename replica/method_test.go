package replica_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/diff"
	"github.com/sdiff/sdiff/internal/faultnet"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/stream"
)

// TestReportSaysWhyTheFollowerLeftTheSketch garbles the cells that a follower
// gets until it compares ranges: the reason is then its own, and not that of the
// master, which knows only that the follower chose so.
func TestReportSaysWhyTheFollowerLeftTheSketch(t *testing.T) {
	withFollower(t, replica.FollowerConfig{Repair: manual}, func(t *testing.T, m *puppetMaster, f *follower) {
		p := m.start(f)
		for i := range 40 {
			p.sendRaw(commits, m.commit(fmt.Sprint("k", i), "v"))
		}
		m.commit("a", "1")
		p.sendRaw(commits, m.encode(m.pos, stream.Op{Key: []byte("a"), Value: []byte("garbled")}))
		p.wantAck("applied", m.pos.Offset)
		res := asked(f, t.Context(), replica.RepairOptions{})
		id, _ := m.begin(p)
		m.tree.KeepSketch()
		s := diff.New(m.tree.Snapshot(), diff.Config{Sketch: m.tree.Sketch()})
		garbled := 0
		for !s.Done() {
			c := p.want("a message of the comparison", compare)
			msg, err := diff.Parse(c.fields[1].([]byte))
			if err != nil {
				t.Fatal(err)
			}
			out, err := s.Step(msg)
			if err != nil {
				t.Fatal(err)
			}
			s.Findings()
			for _, o := range out {
				b := o.Append(nil)
				if strings.Contains(o.String(), "cells from") {
					b[len(b)-1]++ // the check of the last cell
					garbled++
				}
				p.send(compare, id, b)
			}
		}
		p.send(items, id, 1, m.pos.Offset, []any{[]byte("a"), []byte("1")})
		p.want("the chunk is acknowledged", chunkAck)
		p.send(syncDone, id, m.pos, 0, 0, s.Stats().Why)
		p.want("it says how that ended", syncResult)
		r := <-res
		if garbled == 0 || r.err != nil || r.rep.Outcome != replica.Repaired || r.rep.Method != diff.MethodRanges {
			t.Fatalf("%d messages garbled: %+v, %v, want it repaired by ranges", garbled, r.rep, r.err)
		}
		if s.Stats().Why != diff.WhyPeer || r.rep.MethodWhy != "the sketch did not tell what differs" {
			t.Errorf("by %q because %q; the master says %q", r.rep.Method, r.rep.MethodWhy, s.Stats().Why)
		}
	})
}

// TestAskOpensTheComparison checks that a follower's request is the opening of
// the comparison, so that one round trip tells what differs; and that one that
// says nothing any more of what differs, as many commits lie between, is left
// unanswered: what differs is found all the same.
func TestAskOpensTheComparison(t *testing.T) {
	for name, tt := range map[string]struct {
		missed, each int // commits after the ask, and ops of each
		trips        int
	}{"at once": {0, 0, 1}, "soon": {200, 1, 1}, "late": {300, 1, 2}, "much": {3, 100, 2}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, 1000, replica.MasterConfig{}, replica.FollowerConfig{Repair: manual})
				p.behind([]stream.Op{{Key: []byte("damaged"), Value: []byte("1")}}, func(ops []stream.Op) []stream.Op { return nil })
				p.link.SetDelay(faultnet.Out, time.Second, 0)
				res := asked(p.f, t.Context(), replica.RepairOptions{})
				synctest.Wait()
				for i := range tt.missed {
					ops := make([]stream.Op, tt.each)
					for j := range ops {
						ops[j] = stream.Op{Key: fmt.Appendf(nil, "new%d.%d", i, j), Value: []byte("v")}
					}
					if _, err := p.m.Write(t.Context(), ops); err != nil {
						t.Fatal(err)
					}
				}
				r := <-res
				if r.err != nil || r.rep.Outcome != replica.Repaired || r.rep.Missing != 1 || r.rep.Rounds != 1 || r.rep.Method != diff.MethodSketch {
					t.Fatalf("%+v, %v, want one key repaired by a sketch", r.rep, r.err)
				}
				if r.rep.RoundTrips != tt.trips {
					t.Errorf("%d round trips, want %d", r.rep.RoundTrips, tt.trips)
				}
			})
		})
	}
}

// TestRepairOfAReopenedFollower repairs a follower that was opened again and so
// keeps fewer cells than its master, which has grown: where neither has enough,
// both make more.
func TestRepairOfAReopenedFollower(t *testing.T) {
	made := 0
	for _, d := range []int{1600, 1800, 1900, 2200} {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, 20_000, replica.MasterConfig{}, replica.FollowerConfig{Repair: manual})
			p.f.stop()
			st := p.f.st.Reopen()
			for i := range d {
				st.Tamper(keyOf(i*9), []byte("tampered"))
			}
			cfg := p.cfg
			cfg.Fault, cfg.Repair = nil, replica.RepairPolicy{}
			f := startFollower(t, st, cfg)
			within(t, time.Minute, "repaired", func() bool { s := f.Status(); return s.LastRepair != nil })
			if rep := f.Status().LastRepair; rep.Outcome != replica.Repaired || rep.Changed != uint64(d) || rep.Method != diff.MethodSketch {
				t.Errorf("%d values changed: %+v, want them repaired by a sketch", d, rep)
			} else if strings.Contains(rep.MethodWhy, "more than the cells that are kept tell") {
				made++
			}
			checkSame(t, p.m, f)
		})
	}
	if made == 0 {
		t.Error("the cells that are kept were enough")
	}
}

// TestOpeningThatIsOutOfDate has a master take a follower's opening for that of
// equal items, which it was when it was sent: what has happened to the copy since
// is found in the next round.
func TestOpeningThatIsOutOfDate(t *testing.T) {
	for name, dry := range map[string]bool{"repair": false, "dry run": true} {
		t.Run(name, func(t *testing.T) { openingOutOfDate(t, dry) })
	}
}

func openingOutOfDate(t *testing.T, dry bool) {
	withFollower(t, replica.FollowerConfig{Repair: manual}, func(t *testing.T, m *puppetMaster, f *follower) {
		p := m.start(f)
		for i := range 40 {
			p.sendRaw(commits, m.commit(fmt.Sprint("k", i), "v"))
		}
		p.wantAck("applied", m.pos.Offset)
		res := asked(f, t.Context(), replica.RepairOptions{DryRun: dry})
		ask := p.want("it asks for a comparison", syncAsk)
		opening, err := diff.Parse(ask.fields[2].([]byte))
		if _, ok := opening.Opens(); err != nil || !ok {
			t.Fatalf("no opening: %v", err)
		}
		m.tree.KeepSketch()
		s := diff.New(m.tree.Snapshot(), diff.Config{Sketch: m.tree.Sketch()})
		out, err := s.Step(opening)
		if err != nil || !s.Done() || len(out) != 1 {
			t.Fatalf("%d messages, %v: the two were not equal", len(out), err)
		}
		m.commit("a", "1")
		p.sendRaw(commits, m.encode(m.pos, stream.Op{Key: []byte("a"), Value: []byte("garbled")}))
		id := ask.num(t, 0)
		p.send(syncStart, id, m.pos, true)
		p.send(compare, id, out[0].Append(nil))
		p.send(syncDone, id, m.pos, 0, 0, "equal")
		if dry { // it is not said to be the same, nor to differ in nothing
			if r := <-res; r.rep.Outcome != replica.Unknown || r.rep.Reason == "" {
				t.Errorf("%+v, %v, want it to be unknown", r.rep, r.err)
			}
			return
		}
		if r := p.want("it says how that ended", syncResult); r.fields[1] != "different" {
			t.Fatalf("%v, want different", r)
		}
		id, s = m.begin(p)
		m.compare(p, id, s)
		p.send(items, id, 1, m.pos.Offset, []any{[]byte("a"), []byte("1")})
		p.want("the chunk is acknowledged", chunkAck)
		p.send(syncDone, id, m.pos, 0, 0, "")
		if r := p.want("it says how that ended", syncResult); r.fields[1] != "repaired" {
			t.Fatalf("%v, want repaired", r)
		}
		if r := <-res; r.err != nil || r.rep.Outcome != replica.Repaired || r.rep.Rounds != 2 {
			t.Errorf("%+v, %v, want repaired in two rounds", r.rep, r.err)
		}
	})
}

// TestOpeningOfEqualItemsIsNotAnswered checks that a master which a follower asked
// when both held the same leaves the opening of that unanswered: at the offset
// of the comparison the copy either is the same, and the follower sees that, or
// has been damaged since.
func TestOpeningOfEqualItemsIsNotAnswered(t *testing.T) {
	for name, tt := range map[string]struct{ damaged, written bool }{
		"still the same": {}, "damaged since": {damaged: true}, "in sync under load": {written: true},
		"damaged under load": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, 1000, replica.MasterConfig{}, replica.FollowerConfig{Repair: manual})
				was := p.m.Status().Keys
				if !tt.damaged {
					p.link.DropFrame(faultnet.In, func(typ byte) bool { return typ == compare })
				}
				p.link.SetDelay(faultnet.Out, time.Second, 0)
				res := asked(p.f, t.Context(), replica.RepairOptions{DryRun: true})
				synctest.Wait()
				if tt.written {
					p.m.put("new", "v")
				}
				if tt.damaged {
					// The master is as it was, the copy has lost a key.
					p.behind([]stream.Op{{Key: []byte("key000000"), Delete: true}}, nil)
					p.behind([]stream.Op{{Key: []byte("key000000"), Value: []byte("v")}}, func([]stream.Op) []stream.Op { return nil })
				}
				r := <-res
				if got := p.m.Status().Keys; got != was && !tt.written {
					t.Fatalf("the master has %d keys, had %d", got, was)
				}
				want, missing, trips := replica.Same, uint64(0), 1
				if tt.damaged {
					want, missing, trips = replica.Different, 1, 3 // by ranges
				}
				if r.err != nil || r.rep.Outcome != want || r.rep.Missing != missing || r.rep.RoundTrips != trips || r.rep.CompareBytes == 0 {
					t.Errorf("%+v, %v, want %s, %d missing, %d round trips", r.rep, r.err, want, missing, trips)
				}
				if n := p.link.Count(faultnet.Drop); n > 0 {
					t.Errorf("%d messages of a comparison were sent to a copy that is the same", n)
				}
			})
		})
	}
}

// TestSketchesArePaced checks that a follower which asks again and again does not
// have the master's writes copy its sketch each time, and not at all as long as it
// is equal.
func TestSketchesArePaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 1000, replica.MasterConfig{}, replica.FollowerConfig{Repair: manual})
		time.Sleep(time.Second)
		for range 10 {
			if rep := p.f.repair(replica.RepairOptions{DryRun: true}); rep.Outcome != replica.Same {
				t.Fatalf("%+v, want it to be the same", rep)
			}
		}
		p.behind([]stream.Op{{Key: []byte("damaged"), Value: []byte("1")}}, func([]stream.Op) []stream.Op { return nil })
		methods := func(n int) map[diff.Method]int {
			got := map[diff.Method]int{}
			for range n {
				rep := p.f.repair(replica.RepairOptions{DryRun: true})
				if rep.Outcome != replica.Different || rep.Missing != 1 {
					t.Fatalf("%+v, want one key missing", rep)
				}
				got[rep.Method]++
			}
			return got
		}
		if got := methods(10); got[diff.MethodSketch] != 4 || got[diff.MethodRanges] != 6 {
			t.Errorf("ten comparisons at once: %v, want four by sketches", got)
		}
		time.Sleep(time.Second)
		if got := methods(1); got[diff.MethodSketch] != 1 {
			t.Errorf("a second later: %v, want a sketch", got)
		}
	})
}
