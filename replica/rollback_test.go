package replica_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
	"github.com/sdiff/sdiff/stream"
)

// A rollback is a master that forgot, and the follower that did not.
type rollback struct {
	t *testing.T
	h hub
	m *master
	f *follower
}

func newRollback(t *testing.T, cfg store.MemoryConfig, commits int) *rollback {
	r := &rollback{t: t}
	r.m = startMaster(t, store.NewMemoryWith(cfg), replica.MasterConfig{Listener: r.h.listen(), Scrub: -1})
	r.f = startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: r.h.dial, Scrub: -1})
	r.f.waitFor(r.write(1, commits))
	return r
}

// write makes the commits from first to last: a key of its own and one that
// all share.
func (r *rollback) write(first, last int) (pos stream.Position) {
	r.t.Helper()
	for i := first; i <= last; i++ {
		pos = r.m.put(fmt.Sprintf("key%04d", i), fmt.Sprint("first life ", i))
	}
	return pos
}

// comeBack starts the master over another store.
func (r *rollback) comeBack(st *store.Memory) {
	r.t.Helper()
	r.m.stop()
	r.m = startMaster(r.t, st, replica.MasterConfig{Listener: r.h.listen(), Scrub: -1})
	<-r.m.Ready()
}

// wantParked demands that the follower parks for a reason, keeps everything for
// a long time, and serves reads.
func (r *rollback) wantParked(words ...string) {
	r.t.Helper()
	want, pos := contents(r.t, r.f.st), r.f.Status().Offset
	within(r.t, time.Minute, "the follower parks", func() bool { return r.f.Status().State == replica.Parked })
	since := r.f.Status().Since
	time.Sleep(time.Hour)
	s := r.f.Status()
	if s.State != replica.Parked || s.Offset != pos || s.Since != since {
		r.t.Errorf("after an hour: %s, since %v; want parked at %d since %v", brief(s), s.Since, pos, since)
	}
	for _, w := range words {
		if !strings.Contains(s.Why, w) {
			r.t.Errorf("the reason is %q, want it to say %q", s.Why, w)
		}
	}
	if got := contents(r.t, r.f.st); !maps.Equal(got, want) {
		r.t.Errorf("it holds %d keys, want the %d as they were", len(got), len(want))
	}
	for _, key := range []string{"key0001", "key0200"} {
		if v, err := r.f.Get(context.Background(), []byte(key)); err != nil || string(v) != want[key] {
			r.t.Errorf("Get(%s) = %q, %v while parked", key, v, err)
		}
	}
	if _, err := r.f.Repair(context.Background(), replica.RepairOptions{AllowMassDelete: true}); !errors.Is(err, replica.ErrNotConnected) {
		r.t.Errorf("a repair without consent: %v, want ErrNotConnected", err)
	}
	if f := r.m.Status().Followers; len(f) != 1 || f[0].State != replica.Parked || f[0].Why == "" {
		r.t.Errorf("at the master: %+v, want it parked", f)
	}
}

// differences returns what is to become of a follower's keys, as sdiff diff
// prints it, computed from the items.
func differences(master, follower map[string]string) (all []string) {
	for k, v := range master {
		if old, ok := follower[k]; !ok {
			all = append(all, "-"+k)
		} else if old != v {
			all = append(all, "*"+k)
		}
	}
	for k := range follower {
		if _, ok := master[k]; !ok {
			all = append(all, "+"+k)
		}
	}
	slices.Sort(all)
	return all
}

func listed(d replica.Difference) string { return string(rune(d.Kind)) + string(d.Key) }

// wantConsent looks first, which changes nothing, and then gives consent; both
// tell exactly what is overwritten.
func (r *rollback) wantConsent() {
	r.t.Helper()
	before, pos := contents(r.t, r.f.st), r.f.Status().Offset
	want := differences(contents(r.t, r.m.st), before)
	var saw []string
	rep := r.f.repair(replica.RepairOptions{DryRun: true, AcceptRollback: true, Each: func(d replica.Difference) { saw = append(saw, listed(d)) }})
	slices.Sort(saw)
	if rep.Outcome != replica.Different || !slices.Equal(saw, want) {
		r.t.Errorf("the dry run: %+v, %d keys, want these %d", rep, len(saw), len(want))
	}
	if got := contents(r.t, r.f.st); !maps.Equal(got, before) || r.f.Status().Offset != pos {
		r.t.Errorf("the dry run changed the copy: %s", brief(r.f.Status()))
	}
	within(r.t, time.Minute, "parked again", func() bool { return r.f.Status().State == replica.Parked })
	rep = r.f.repair(replica.RepairOptions{AcceptRollback: true, AllowMassDelete: true})
	var told []string
	for _, d := range rep.Keys {
		told = append(told, listed(d))
	}
	slices.Sort(told)
	count := func(kind string) (n uint64) {
		for _, d := range want {
			if strings.HasPrefix(d, kind) {
				n++
			}
		}
		return n
	}
	if rep.Outcome != replica.Repaired || !slices.Equal(told, want) || rep.MoreKeys {
		r.t.Errorf("%+v names %d keys, want the %d that were overwritten", rep.Outcome, len(told), len(want))
	}
	if rep.Deleted != count("+") || rep.Missing != count("-") || rep.Changed != count("*") || rep.Put != rep.Missing+rep.Changed {
		r.t.Errorf("%d deleted, %d added, %d changed, want %d, %d, %d", rep.Deleted, rep.Missing, rep.Changed, count("+"), count("-"), count("*"))
	}
	r.f.waitFor(r.m.put("after", "consent"))
	checkSame(r.t, r.m, r.f)
	if s := r.f.Status(); s.Epoch != r.m.Status().Epoch {
		r.t.Errorf("%s, want it to follow the master's epoch", brief(s))
	}
}

// C4 26, 27, P1: the master's machine lost power and with it the newest commits,
// which its follower has.
func TestP1FollowerAheadOfAMasterThatLostItsTail(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRollback(t, store.MemoryConfig{NoSync: true, Keep: 500}, 510)
		st := r.m.st
		if lost := st.Crash(211); lost != 211 {
			t.Fatalf("%d transactions were lost", lost)
		}
		r.comeBack(st.Reopen())
		r.m.put("second", "life")
		r.wantParked("behind the follower", "510")
		r.wantConsent()
	})
}

// C4 36, P1: the master was restored from an old backup and has not been written
// since: its history is a part of the follower's.
func TestP1MasterRestoredFromAnOldBackup(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRollback(t, store.MemoryConfig{}, 298)
		old := backup(t, r.m.st)
		r.f.waitFor(r.write(299, 510))
		r.comeBack(old)
		r.wantParked("behind the follower", "298", "510")
		r.wantConsent()
	})
}

// C4 27, P1: a rollback that agrees with itself and has been written over
// already, offset by offset: only the fingerprints tell, wherever the follower
// stood.
func TestP1RollbackWrittenOver(t *testing.T) {
	for _, stood := range []int{510, 400, 299} {
		t.Run(fmt.Sprint("at ", stood), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRollback(t, store.MemoryConfig{}, 298)
				old := backup(t, r.m.st)
				r.f.waitFor(r.write(299, stood))
				r.f.stop()
				r.write(stood+1, 510)
				r.comeBack(old)
				for i := 299; i <= 510; i++ { // the same offsets once more
					r.m.put(fmt.Sprintf("key%04d", i/2), fmt.Sprint("second life ", i))
				}
				if got := r.m.Status().Offset; got != 510 {
					t.Fatalf("the master stands at %d", got)
				}
				r.f = startFollower(t, r.f.st.Reopen(), replica.FollowerConfig{ID: "f", Dial: r.h.dial, Scrub: -1})
				<-r.f.Ready()
				r.wantParked(fmt.Sprint("at offset ", stood), "different histories")
				r.wantConsent()
			})
		})
	}
}

// P1: a follower whose address leads to the master of another dataset while it
// runs parks, and goes on when it leads back. One that is started so ends and
// says why. Neither changes a key, and no consent makes it follow.
func TestP1FollowerOfAnotherDataset(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRollback(t, store.MemoryConfig{}, 300)
		right, want := r.m.st, contents(t, r.f.st)
		r.comeBack(store.NewMemory())
		r.write(1, 600)
		r.m.stop()
		r.comeBack(r.m.st.Reopen())
		within(t, time.Minute, "it parks", func() bool { return r.f.Status().State == replica.Parked })
		time.Sleep(time.Hour)
		if s := r.f.Status(); s.State != replica.Parked || !strings.Contains(s.Why, "dataset") {
			t.Errorf("%s, want parked because of the dataset", brief(s))
		}
		for _, opts := range []replica.RepairOptions{{DryRun: true}, {AcceptRollback: true, AllowMassDelete: true}} {
			if rep, err := r.f.Repair(t.Context(), opts); err == nil || rep.Outcome != replica.Unknown {
				t.Errorf("Repair(%+v) = %v, %v, want could not tell", opts, rep.Outcome, err)
			}
		}
		if v, err := r.f.Get(t.Context(), []byte("key0007")); string(v) != "first life 7" || err != nil {
			t.Errorf("Get = %q, %v while parked", v, err)
		}
		r.f.stop()
		f := startFollower(t, r.f.st.Reopen(), r.cfg())
		if e, ok := errors.AsType[*replica.PeerError](f.wait()); !ok || e.Code != replica.CodeDataset {
			t.Errorf("Run = %v, want it to end because of the dataset", f.err)
		}
		if got := contents(t, f.st); !maps.Equal(got, want) {
			t.Errorf("it holds %d keys, want the %d as they were", len(got), len(want))
		}
		r.comeBack(right.Reopen())
		r.f = startFollower(t, f.st.Reopen(), r.cfg())
		r.f.waitFor(r.m.put("back", "again"))
		checkSame(t, r.m, r.f)
		if rep := r.f.Status().LastRepair; rep != nil {
			t.Errorf("it was repaired: %+v, want it to resume", rep)
		}
	})
}

func (r *rollback) cfg() replica.FollowerConfig {
	return replica.FollowerConfig{ID: "f", Dial: r.h.dial, Scrub: -1}
}

// A repair over an accepted rollback names a thousand keys, counts them all,
// and a commit that arrives while a person looks changes nothing here.
func TestLookBeforeConsentIsBoundedAndChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRollback(t, store.MemoryConfig{}, 10)
		old := backup(t, r.m.st)
		r.f.waitFor(r.m.fill(3000, "v"))
		r.comeBack(old)
		r.m.put("key0001", "second life")
		within(t, time.Minute, "it parks", func() bool { return r.f.Status().State == replica.Parked })
		before := contents(t, r.f.st)
		seen := 0
		rep := r.f.repair(replica.RepairOptions{DryRun: true, Each: func(replica.Difference) {
			if seen++; seen%500 == 1 {
				r.m.put(fmt.Sprint("while looking ", seen), "v")
			}
		}})
		if rep.Outcome != replica.Different || rep.Extra != 3000 || seen != 3001 || rep.Keys != nil {
			t.Errorf("%+v, %d seen, want 3000 extra and one changed", rep, seen)
		}
		if got := contents(t, r.f.st); !maps.Equal(got, before) {
			t.Errorf("it holds %d keys, want the %d as they were", len(got), len(before))
		}
		within(t, time.Minute, "it parks again", func() bool { return r.f.Status().State == replica.Parked })
		if rep := r.f.repair(replica.RepairOptions{AcceptRollback: true, AllowMassDelete: true}); len(rep.Keys) != 1000 || !rep.MoreKeys || rep.Deleted != 3000 {
			t.Errorf("%d keys named, more %v, %d deleted; want 1000, more, 3000", len(rep.Keys), rep.MoreKeys, rep.Deleted)
		}
		checkSame(t, r.m, r.f)
	})
}

// A syncing store says that it syncs, and does not.
type syncing struct{ store.Store }

func (s syncing) Info() store.Info {
	info := s.Store.Info()
	info.Sync = true
	return info
}

// P1 with real databases: the master's directory is put back from a copy and
// written over; the follower parks, and consent costs what differs.
func TestP1RollbackOfARealDatabase(t *testing.T) {
	mdir, old, fdir := t.TempDir(), t.TempDir(), t.TempDir()
	open := func(dir string) *badgerstore.Store {
		st, err := badgerstore.Open(dir, badgerstore.Options{NoSync: true, Memory: badgerstore.MinMemory, Reserve: -1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		return st
	}
	h := &hub{}
	parked := make(chan struct{}, 1)
	mst, fst := open(mdir), open(fdir)
	serve := func(st store.Store) *master {
		// Without sync every start begins an epoch; this one is to be the same.
		return startOver(t, syncing{st}, replica.MasterConfig{Listener: h.listen(), Scrub: -1})
	}
	m := serve(mst)
	m.fill(20_000, "v")
	m.stop()
	mst.Close()
	if err := os.CopyFS(old, os.DirFS(mdir)); err != nil {
		t.Fatal(err)
	}
	mst = open(mdir)
	m = serve(mst)
	f, err := replica.NewFollower(fst, replica.FollowerConfig{ID: "f", Dial: h.dial, Scrub: -1})
	if err != nil {
		t.Fatal(err)
	}
	frun := start(t, f.Run)
	if err := f.WaitFor(t.Context(), m.fill(200, "first life")); err != nil {
		t.Fatal(err)
	}
	frun.stop()
	m.stop()
	mst = open(old)
	m = serve(mst)
	m.fill(100, "second life")
	f, err = replica.NewFollower(fst, replica.FollowerConfig{ID: "f", Dial: h.dial, Scrub: -1, Observer: replica.Observer{
		State: func(s replica.State, _ string) {
			if s == replica.Parked {
				select {
				case parked <- struct{}{}:
				default:
				}
			}
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	start(t, f.Run)
	<-parked
	if v, err := f.Get(t.Context(), keyOf(150)); string(v) != "first life" || err != nil {
		t.Errorf("Get = %q, %v while parked", v, err)
	}
	n := 0
	if rep, err := f.Repair(t.Context(), replica.RepairOptions{DryRun: true, Each: func(replica.Difference) { n++ }}); err != nil || rep.Changed != 200 || n != 200 {
		t.Errorf("the dry run: %+v, %d keys, %v, want 200 changed", rep, n, err)
	}
	rep, err := f.Repair(t.Context(), replica.RepairOptions{AcceptRollback: true})
	if err != nil || rep.Outcome != replica.Repaired || rep.Put != 200 || rep.Deleted != 0 || len(rep.Keys) != 200 || rep.BytesIn > 100_000 {
		t.Errorf("%+v, %v, want 200 changed for a few bytes", rep, err)
	}
	if got, want := f.Status().Fingerprint, m.Status().Fingerprint; got != want {
		t.Errorf("fingerprint %s, the master's is %s", got, want)
	}
}

// Promotion: followers that were a few commits apart re-attach to the one that
// was promoted at a cost that goes with the difference.
func TestPromotionCostsWhatDiffers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 50_000
		h := &hub{}
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: -1})
		m.fill(n, "v")
		var e events
		follow := func(id string, st *store.Memory) *follower {
			return startFollower(t, st, replica.FollowerConfig{ID: id, Dial: h.dial, Scrub: -1, Observer: e.observer()})
		}
		old, ahead, heir := follow("old", store.NewMemory()), follow("ahead", store.NewMemory()), follow("heir", store.NewMemory())
		all := []*follower{old, ahead, heir}
		pos := m.put("a", "1")
		for _, f := range all {
			f.waitFor(pos)
		}
		old.stop()
		pos = m.fill(100, "newer") // which old has not
		heir.waitFor(pos)
		heir.stop()
		pos = m.fill(10, "newest") // which only ahead has
		ahead.waitFor(pos)
		m.stop()
		if _, err := replica.Promote(heir.st.Reopen(), merkle.XXH64(), false); err != nil {
			t.Fatal(err)
		}
		m = startMaster(t, heir.st.Reopen(), replica.MasterConfig{Listener: h.listen(), Scrub: -1})
		m.put("b", "2")
		old = follow("old", old.st.Reopen())
		pos = m.put("c", "3")
		within(t, time.Minute, "it follows the new epoch", func() bool { return old.Status().Epoch == pos.Epoch.String() })
		old.waitFor(pos)
		checkSame(t, m, old)
		// It has no log of what came before the promotion: a repair it is.
		r := old.Status().LastRepair
		if r == nil || r.Outcome != replica.Repaired || r.Put > 103 || r.Deleted != 0 || r.BytesIn+r.BytesOut > 60_000 {
			t.Errorf("%+v, want about a hundred keys and a few bytes", r)
		}
		// Who is ahead of the heir keeps what it has until a person decides.
		within(t, time.Minute, "it parks", func() bool { return ahead.Status().State == replica.Parked })
		if v, err := ahead.Get(t.Context(), keyOf(3)); string(v) != "newest" || err != nil {
			t.Errorf("Get = %q, %v while parked", v, err)
		}
		rep := ahead.repair(replica.RepairOptions{AcceptRollback: true})
		if rep.Outcome != replica.Repaired || rep.Changed != 10 || rep.Put > 12 || rep.Deleted != 0 || rep.BytesIn+rep.BytesOut > 60_000 {
			t.Errorf("%+v, want the ten keys and those written since", rep)
		}
		checkSame(t, m, ahead)
		// And the old master's store, made a follower's by starting anew, is not
		// taken for one.
		stale := follow("stale", m.st)
		if err := stale.wait(); err == nil {
			t.Error("a master's store was followed with")
		}
	})
}
