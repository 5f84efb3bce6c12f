package replica_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/transport"
)

// S2: what changes in a follower's store behind its back, while it runs, is
// found by the scrub and mended by the repair that follows.
func TestScrubHealsAFollowerDamagedWhileItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := transport.NewPipeListener()
		m, err := replica.NewMaster(store.NewMemory(), replica.MasterConfig{Listener: l})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 2)
		go func() { done <- m.Run(ctx) }()
		for i := range 10_000 {
			if _, err := m.Put(ctx, fmt.Appendf(nil, "key%05d", i), []byte("right")); err != nil {
				t.Fatal(err)
			}
		}
		fs := store.NewMemory()
		// A chunk's findings are repaired at once, so there may be several.
		var repaired replica.Report
		observer := replica.Observer{Repair: func(r replica.Report) {
			repaired.Missing += r.Missing
			repaired.Extra += r.Extra
			repaired.Changed += r.Changed
		}}
		f, err := replica.NewFollower(fs, replica.FollowerConfig{ID: "f", Dial: l.Dial, Observer: observer})
		if err != nil {
			t.Fatal(err)
		}
		go func() { done <- f.Run(ctx) }()
		pos, _ := m.Put(ctx, []byte("x"), []byte("y"))
		if err := f.WaitFor(ctx, pos); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		repaired = replica.Report{}
		fs.Tamper([]byte("key00007"), []byte("wrong"))
		fs.Tamper([]byte("stranger"), []byte("was here"))
		fs.Drop([]byte("key09999"))

		time.Sleep(5 * time.Minute) // of fake time: some passes
		if v, err := f.Get(ctx, []byte("key00007")); string(v) != "right" || err != nil {
			t.Errorf("Get(key00007) = %q, %v after the scrub, want the master's value", v, err)
		}
		if v, err := f.Get(ctx, []byte("stranger")); err == nil {
			t.Errorf("Get(stranger) = %q after the scrub, want it gone", v)
		}
		if _, err := f.Get(ctx, []byte("key09999")); err != nil {
			t.Errorf("Get(key09999) = %v after the scrub, want it back", err)
		}
		st := f.Status()
		if st.Scrub.Found != 3 || st.Scrub.Passes == 0 || st.InSync == nil || !*st.InSync {
			t.Errorf("status after the scrub: %+v, in sync %v; want 3 found, in sync", st.Scrub, *st.InSync)
		}
		synctest.Wait()
		if repaired.Missing != 1 || repaired.Extra != 1 || repaired.Changed != 1 {
			t.Errorf("repaired %+v, want one missing, one extra, one changed", repaired)
		}
		cancel()
		<-done
		<-done
	})
}

// S2, R8: what changes in a master's store behind its back is found, named and
// never sent.
func TestVerifyNamesWhatIsDamagedOnAMaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		st := store.NewMemory()
		m, err := replica.NewMaster(st, replica.MasterConfig{Scrub: -1})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		for i := range 10_000 {
			if _, err := m.Put(ctx, fmt.Appendf(nil, "key%05d", i), []byte("right")); err != nil {
				t.Fatal(err)
			}
		}
		if rep, err := m.Verify(ctx); err != nil || !rep.OK || rep.Items != 10_000 {
			t.Fatalf("Verify = %+v, %v, want 10000 items that are right", rep, err)
		}
		st.Tamper([]byte("key04096"), []byte("wrong"))
		st.Drop([]byte("key00000"))
		st.Tamper([]byte("zzz"), []byte("extra"))
		rep, err := m.Verify(ctx)
		if err != nil || rep.OK || rep.Bad != 3 {
			t.Fatalf("Verify = %+v, %v, want 3 bad keys", rep, err)
		}
		for i, want := range []string{"key00000 missing", "key04096 changed", "zzz extra"} {
			if got := fmt.Sprintf("%s %s", rep.Keys[i].Key, rep.Keys[i].What); got != want {
				t.Errorf("bad key %d is %q, want %q", i, got, want)
			}
		}
		cancel()
		<-done
	})
}
