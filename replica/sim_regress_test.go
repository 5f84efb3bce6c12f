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
