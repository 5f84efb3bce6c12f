package replica_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// A dry run lists exactly what differs and changes nothing.
func TestDryRunListsWhatDiffers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 3000, replica.MasterConfig{}, replica.FollowerConfig{Repair: manual})
		var want []string
		var ops, garbled []stream.Op
		for i := range 1500 {
			op := stream.Op{Key: keyOf(i * 2), Value: []byte("new")}
			switch i % 3 {
			case 0: // changed: the write is lost
				want = append(want, fmt.Sprintf("* %s", op.Key))
			case 1: // missing: the write becomes a delete
				garbled = append(garbled, stream.Op{Key: op.Key, Delete: true})
				want = append(want, fmt.Sprintf("- %s", op.Key))
			case 2: // extra: a stray one beside it
				garbled = append(garbled, op, stream.Op{Key: append(keyOf(i*2), 'x')})
				want = append(want, fmt.Sprintf("+ %sx", op.Key))
			}
			ops = append(ops, op)
		}
		p.behind(ops, func([]stream.Op) []stream.Op { return garbled })
		before := contents(t, p.f.st)
		dryRun := func(each func()) (replica.Report, []string) {
			var got []string
			rep := p.f.repair(replica.RepairOptions{DryRun: true, Each: func(d replica.Difference) {
				got = append(got, fmt.Sprintf("%c %s", d.Kind, d.Key))
				each()
			}})
			slices.Sort(got)
			return rep, got
		}
		slices.Sort(want)
		rep, got := dryRun(func() {})
		if !slices.Equal(got, want) {
			t.Errorf("%d differences %.5q…, want %d, %.5q…", len(got), got, len(want), want)
		}
		if rep.Outcome != replica.Different || rep.Missing != 500 || rep.Extra != 500 || rep.Changed != 500 || rep.Put+rep.Deleted != 0 || !rep.DryRun {
			t.Errorf("%+v, want 500 of each, and nothing done", rep)
		}
		// A slow consumer, with writes going on, sees the same.
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Second):
					p.m.put(fmt.Sprint("live", i%10), fmt.Sprint(i))
				}
			}
		}()
		rep, got = dryRun(func() { time.Sleep(20 * time.Millisecond) })
		close(stop)
		<-stopped
		if !slices.Equal(got, want) || rep.Outcome != replica.Different {
			t.Errorf("slowly: %d differences, %+v, want %d", len(got), rep, len(want))
		}
		now := contents(t, p.f.st)
		for k, v := range before {
			if now[k] != v {
				t.Errorf("a dry run changed %q from %q to %q", k, v, now[k])
			}
		}
		if s := p.f.Status(); s.LastRepair.DryRun || s.State != replica.Drifted {
			t.Errorf("%s, want drifted still, the last repair no dry run", brief(s))
		}
		if rep := p.f.repair(replica.RepairOptions{}); rep.Outcome != replica.Repaired || rep.Missing != 500 || rep.Extra != 500 || rep.Changed != 500 || rep.Put != 1000 || rep.Deleted != 500 {
			t.Errorf("the repair: %+v, want what the dry run said", rep)
		}
		p.sync()
		checkSame(t, p.m, p.f)
	})
}

// A dry run that is interrupted lets the master and the follower go on.
func TestDryRunInterrupted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 0, replica.MasterConfig{MaxRepairs: 1}, replica.FollowerConfig{Repair: manual})
		p.behind([]stream.Op{{Key: []byte("mark"), Value: []byte("x")}}, lose)
		var ops []stream.Op
		for i := range 40_000 {
			ops = append(ops, stream.Op{Key: fmt.Appendf(nil, "%s%d", keyOf(i), i), Value: []byte("v")})
		}
		p.behind(ops, lose)
		for _, after := range []int{1, 100, 5000, 39_000} {
			ctx, cancel := context.WithCancel(t.Context())
			n := 0
			rep, err := p.f.Repair(ctx, replica.RepairOptions{DryRun: true, Each: func(replica.Difference) {
				if n++; n == after {
					cancel()
				}
			}})
			if !errors.Is(err, context.Canceled) || rep.Outcome != replica.Unknown || n != after {
				t.Errorf("cancelled after %d of %d: %+v, %v", after, n, rep, err)
			}
			cancel()
		}
		if rep := p.f.repair(replica.RepairOptions{}); rep.Outcome != replica.Repaired || rep.Missing != 40_000 {
			t.Errorf("%+v, want repaired", rep)
		}
		p.sync()
		checkSame(t, p.m, p.f)
	})
}

// A dry run that finds whole ranges lists all their keys.
func TestDryRunOfAnEmptyFollower(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &hub{}
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: -1})
		m.fill(50_000, "v")
		f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: h.dial, Scrub: -1, Repair: replica.RepairPolicy{Manual: true}})
		within(t, time.Minute, "connected", func() bool { return f.Status().State == replica.Initializing })
		seen := map[string]bool{}
		rep := f.repair(replica.RepairOptions{DryRun: true, Each: func(d replica.Difference) {
			if d.Kind != replica.Missing || seen[string(d.Key)] {
				t.Fatalf("%c %s, seen before: %v", d.Kind, d.Key, seen[string(d.Key)])
			}
			seen[string(d.Key)] = true
		}})
		if rep.Outcome != replica.Different || rep.Missing != 50_000 || len(seen) != 50_000 {
			t.Errorf("%+v, listed %d, want 50000 missing", rep, len(seen))
		}
		if s := f.Status(); s.Keys != 0 || s.Complete {
			t.Errorf("%s, want it as it was", brief(s))
		}
		// A follower's own ranges, too.
		own := store.NewMemory()
		for i := range 5000 {
			own.Tamper(fmt.Append(nil, "zz", i), nil)
		}
		g := startFollower(t, own, replica.FollowerConfig{ID: "g", Dial: h.dial, Scrub: -1, Adopt: true, Repair: replica.RepairPolicy{Manual: true}})
		within(t, time.Minute, "connected", func() bool { return g.Status().State == replica.Initializing })
		extra := 0
		rep = g.repair(replica.RepairOptions{DryRun: true, Each: func(d replica.Difference) {
			if d.Kind == replica.Extra {
				extra++
			}
		}})
		if rep.Extra != 5000 || extra != 5000 || rep.Missing != 50_000 {
			t.Errorf("%+v, listed %d extra, want 5000", rep, extra)
		}
	})
}

// A caller that takes nothing off a dry run does not hold a place for ever.
func TestDryRunThatNobodyTakes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 0, replica.MasterConfig{MaxRepairs: 1}, replica.FollowerConfig{Repair: manual})
		var ops []stream.Op
		for i := range 40_000 {
			ops = append(ops, stream.Op{Key: keyOf(i)})
		}
		p.behind(ops, lose)
		first := true
		rep := p.f.repair(replica.RepairOptions{DryRun: true, Each: func(replica.Difference) {
			if first {
				first = false
				time.Sleep(time.Hour)
			}
		}})
		if rep.Outcome != replica.Unknown || !strings.Contains(rep.Reason, "nobody took") {
			t.Errorf("%+v, want could not tell, and why", rep)
		}
		if rep := p.f.repair(replica.RepairOptions{}); rep.Outcome != replica.Repaired {
			t.Errorf("the next: %+v, want repaired", rep)
		}
	})
}
