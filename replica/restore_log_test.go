package replica_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
)

// together makes one group of so many puts.
func together(t *testing.T, m *master, n int, value string) {
	t.Helper()
	release := holdWriter(m)
	var results []<-chan written
	for i := range n {
		results = append(results, putAsync(m, t.Context(), fmt.Sprint("key", i), value))
	}
	synctest.Wait()
	release()
	for _, c := range results {
		if r := <-c; r.err != nil {
			t.Fatal(r.err)
		}
	}
}

// What damage leaves of a log beyond the position of a restored master is not
// mixed with the commits to come: a follower that resumed by the log was sent
// commits of the life before.
func TestRestoreForgetsTheLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h hub
		m, f := startPair(t, &h, 4)
		f.stop()
		v, err := m.st.View()
		if err != nil {
			t.Fatal(err)
		}
		was, _ := v.Meta()
		v.Close()
		m.put("lost", "first life")
		together(t, m, 5, "first life")
		m.stop()
		// The meta is that of an earlier transaction, data and log are not.
		m.st.SetMeta(func(m *store.Meta) { *m = was })
		st, fs := m.st.Reopen(), f.st.Reopen()
		if rep, err := replica.Restore(context.Background(), st, fs, merkle.XXH64(), false); err != nil || rep.Extra != 6 {
			t.Fatalf("Restore = %+v, %v", rep, err)
		}
		m = startMaster(t, st.Reopen(), replica.MasterConfig{Listener: h.listen(), TailBytes: 1, Scrub: -1})
		<-m.Ready()
		together(t, m, 2, "second life")
		m.put("last", "second life")
		f = startFollower(t, fs.Reopen(), replica.FollowerConfig{ID: "f", Dial: h.dial, Scrub: -1})
		saw := make(chan string)
		go func() {
			for c := range f.Watch(t.Context(), 0) {
				if string(c.Value) == "first life" {
					saw <- fmt.Sprintf("commit %d put %s of the life before", c.Position.Offset, c.Key)
					return
				}
			}
			saw <- ""
		}()
		time.Sleep(time.Minute)
		if s := f.Status(); s.State != replica.Streaming || s.LastRepair != nil {
			t.Errorf("the follower: %s, want it to resume", brief(s))
		}
		checkSame(t, m, f)
		f.stop()
		if told := <-saw; told != "" {
			t.Error(told)
		}
	})
}
