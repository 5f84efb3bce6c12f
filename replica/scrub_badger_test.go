package replica_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/replica/store/badgerstore"
)

// behindTheBack deletes, changes and adds a key in a database, as another
// program does that knows nothing of replicas.
func behindTheBack(t *testing.T, db *badger.DB) {
	t.Helper()
	err := db.Update(func(txn *badger.Txn) error {
		return errors.Join(txn.Delete(keyOf(17)), txn.Set(keyOf(4_000), []byte("changed")), txn.Set([]byte("key000017a"), []byte("added")))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// S1, S2: keys that were deleted, changed and added directly in a follower's
// Badger database, while it was stopped and through the same handle while it
// runs, are found and healed, and no other key is touched.
func TestS2FollowersBadgerChangedBehindItsBack(t *testing.T) {
	h := &hub{}
	m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: -1})
	pos := m.fill(5000, "v")
	dir := t.TempDir()
	reports := make(chan replica.Report, 100)
	damage := make(chan int, 100)
	// follow runs a follower over the database until stop is called.
	follow := func() (f *replica.Follower, db *badger.DB, stop func()) {
		db, err := badger.Open(badger.DefaultOptions(dir).WithLogger(nil).WithSyncWrites(true).WithNumVersionsToKeep(1))
		if err != nil {
			t.Fatal(err)
		}
		st, err := badgerstore.New(db, "", badgerstore.Options{Reserve: -1})
		if err != nil {
			t.Fatal(err)
		}
		f, err = replica.NewFollower(st, replica.FollowerConfig{ID: "f", Dial: h.dial, Scrub: 1, Observer: replica.Observer{
			Repair: func(r replica.Report) { reports <- r },
			Damage: func(keys []replica.BadKey) { damage <- len(keys) },
		}})
		if err != nil {
			t.Fatal(err)
		}
		run := start(t, f.Run)
		return f, db, func() {
			run.stop()
			st.Close()
			db.Close()
		}
	}
	healed := func(f *replica.Follower, sentence string) {
		t.Helper()
		var missing, extra, changed, put, deleted uint64
		for missing+extra+changed < 3 {
			r := <-reports
			missing, extra, changed, put, deleted = missing+r.Missing, extra+r.Extra, changed+r.Changed, put+r.Put, deleted+r.Deleted
		}
		if missing != 1 || extra != 1 || changed != 1 || put != 2 || deleted != 1 {
			t.Errorf("%s: %d missing, %d extra, %d changed, %d put, %d deleted; want one of each, two put, one deleted", sentence, missing, extra, changed, put, deleted)
		}
		rep, err := f.Verify(t.Context())
		if s := f.Status(); err != nil || !rep.OK || rep.Store != m.Status().Fingerprint || s.Scrub.Bad != 0 {
			t.Errorf("%s: %+v, %v, %+v; want the master's %s", sentence, rep, err, s.Scrub, m.Status().Fingerprint)
		}
		if v, err := f.Get(t.Context(), keyOf(17)); string(v) != "v" || err != nil {
			t.Errorf("%s: Get = %q, %v", sentence, v, err)
		}
	}
	f, db, stop := follow()
	if err := f.WaitFor(t.Context(), pos); err != nil {
		t.Fatal(err)
	}
	<-reports // the first copy

	// While it runs, through the same handle.
	behindTheBack(t, db)
	if rep, err := f.Verify(t.Context()); err != nil || rep.OK && f.Status().Scrub.Found == 0 {
		t.Errorf("Verify = %+v, %v, want what was changed, unless the scrub was first", rep, err)
	}
	healed(f, "while it runs")
	for n := 0; n < 3; {
		n += <-damage
	}
	if got := f.Status().Scrub.Found; got != 3 {
		t.Errorf("%d keys were found, want 3", got)
	}
	stop()

	// While it is stopped.
	db, err := badger.Open(badger.DefaultOptions(dir).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	behindTheBack(t, db)
	db.Close()
	f, _, stop = follow()
	healed(f, "while it was stopped")
	stop()
}

// R8, S2: a key that is damaged at the master is named in its status, left out
// of what repairs send, counted in the report, and survives at the follower;
// the stream, which has its own bytes, goes on.
func TestR8UnsendableKeysAreNamedAndTheCopySurvives(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 300, replica.MasterConfig{}, replica.FollowerConfig{Repair: replica.RepairPolicy{Manual: true}})
		p.m.st.Tamper(keyOf(7), []byte("damaged"))
		p.m.st.Drop(keyOf(8))
		if rep, err := p.m.Verify(t.Context()); err != nil || rep.Bad != 2 {
			t.Fatalf("Verify = %+v, %v", rep, err)
		}
		s := p.m.Status().Scrub
		if s.Bad != 2 || s.Found != 2 || len(s.Keys) != 2 {
			t.Errorf("%+v, want two bad keys named", s)
		}
		// A follower that has nothing gets all but these two; one that has them
		// keeps them.
		g := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "g", Dial: p.dial, Scrub: -1})
		within(t, time.Minute, "it was repaired", func() bool { return g.Status().LastRepair != nil })
		if r := g.Status().LastRepair; r.Outcome != replica.Different || r.Unsendable != 2 || r.Put != 299 || !strings.Contains(r.Reason, "damaged at the master") {
			t.Errorf("%+v, want all but two", r)
		}
		if rep := p.f.repair(replica.RepairOptions{}); rep.Outcome != replica.Same {
			t.Errorf("%+v: the follower's are what was written", rep)
		}
		if v, err := p.f.Get(t.Context(), keyOf(7)); string(v) != "v" || err != nil {
			t.Errorf("the follower's Get = %q, %v", v, err)
		}
		p.sync() // the stream goes on
		p.m.put(string(keyOf(7)), "again")
		p.m.put(string(keyOf(8)), "again")
		if s := p.m.Status().Scrub; s.Bad != 0 {
			t.Errorf("%+v, want none bad once they are written again", s)
		}
		if rep := g.repair(replica.RepairOptions{}); rep.Outcome != replica.Same && rep.Outcome != replica.Repaired {
			t.Errorf("%+v", rep)
		}
		checkSame(t, p.m, g)
	})
}
