package replica_test

import (
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
