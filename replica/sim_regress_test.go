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

// A follower whose disk was full when it was to jump told its watchers of the
// gap, with the position after it, all the same.
func TestWatchIsToldOfAJumpOnceItIsStored(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, link := &hub{}, faultnet.New(1)
		defer link.Close()
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: -1})
		m.put("a", "1")
		f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: link.Dialer(h.dial), Repair: replica.RepairPolicy{Manual: true}, Scrub: -1})
		within(t, time.Minute, "the follower stands at head, with an incomplete base", func() bool { return f.Status().Offset == 1 })
		var got []string
		go func() { got, _ = take(f.Watch(t.Context(), 0), 2) }()
		synctest.Wait()
		at := f.Status().Offset
		link.Stall(faultnet.In, true)
		m.put("b", "2")
		f.st.FailNext(store.ErrNoSpace)
		link.Cut(faultnet.Reset)
		link.Heal()
		within(t, time.Minute, "the follower was refused by its disk", func() bool {
			return strings.Contains(f.Status().Why, "refuses writes")
		})
		if now := f.Status().Offset; now != at || len(got) > 0 {
			t.Errorf("at %d, before %d, the watcher was told %q, want no jump and no word of one", now, at, got)
		}
		within(t, time.Minute, "the follower stands at head again", func() bool { return f.Status().Offset == 2 })
		m.put("c", "3")
		synctest.Wait()
		if s := strings.Join(got, " "); s != "gap@2 3:c=3|" {
			t.Errorf("the watch saw %q", s)
		}
	})
}

// A follower that had parked, then met nobody for a while, and then a master
// whose log no longer told, was connecting for ever: no person's word was asked
// for, and none was taken.
func TestP1ParkedFollowerCanBeAskedAfterItsMasterWasAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		mcfg := replica.MasterConfig{LogBytes: 1000}
		p := newPair(t, 10, mcfg, replica.FollowerConfig{})
		old := backup(t, p.m.st)
		p.m.put("precious", "written after the backup")
		p.sync()
		p.m.stop()
		mcfg.Listener = p.listen()
		p.m = startMaster(t, old, mcfg)
		within(t, time.Minute, "parked", func() bool { return p.f.Status().State == replica.Parked })
		p.link.Refuse(true)
		within(t, time.Minute, "connecting in vain", func() bool { return p.f.Status().State == replica.Connecting })
		for i := range 100 {
			p.m.put(fmt.Sprint("new", i), "value")
		}
		within(t, time.Minute, "trimmed", func() bool { return p.m.Status().Log.Start > p.f.Status().Offset+1 })
		p.link.Heal()
		time.Sleep(time.Minute)
		if s := p.f.Status(); s.State != replica.Parked || !strings.Contains(s.Why, "behind the follower") {
			t.Errorf("%s, want parked and the reason that the master gave", brief(s))
		}
		if rep := p.f.repair(replica.RepairOptions{AcceptRollback: true}); rep.Outcome != replica.Repaired {
			t.Errorf("%+v, want it repaired once a person has decided", rep)
		}
		checkSame(t, p.m, p.f)
	})
}

// A simulated disk that was told of two faults recorded transactions that it had
// not taken, or took some that it did not record.
func TestSimulationDiskRecordsWhatItTook(t *testing.T) {
	for _, c := range []struct {
		what  string
		spoil func(*simStore)
		fail  []bool // of the writes that follow, one after the other
		took  int    // of those
	}{
		{"full, then a sync fails", func(s *simStore) { s.refuse, s.after = store.ErrNoSpace, errIO }, []bool{true, true}, 1},
		{"a write fails, then a sync", func(s *simStore) { s.before, s.after = errIO, errIO }, []bool{true}, 0},
		{"a sync fails", func(s *simStore) { s.after = errIO }, []bool{true}, 1},
	} {
		s := &simStore{r: &simRecorder{began: time.Now()}, c: &simCounts{}, st: store.NewMemory()}
		c.spoil(s)
		o := s.open()
		for i, want := range c.fail {
			tx := store.Txn{Ops: []stream.Op{{Key: []byte("k"), Value: []byte{byte(i)}}}}
			if err := o.Write(&tx); (err != nil) != want {
				t.Errorf("%s: write %d: %v", c.what, i, err)
			}
		}
		if n, held := s.r.len(), len(contents(t, s.st.Reopen())); n != c.took || held != c.took {
			t.Errorf("%s: %d transactions are recorded, the store holds %d items, want %d of both", c.what, n, held, c.took)
		}
	}
}
