package replica_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
)

// A tight store has room for small transactions and, while set, none for data,
// as a database below its reserve of free space.
type tight struct {
	*store.Memory
	full    atomic.Bool
	refused atomic.Int64 // writes of data
	small   atomic.Int64 // other writes, taken while it was full
	asked   atomic.Int64 // for room, while it was full
}

func (s *tight) Room() error {
	if s.full.Load() {
		// As how many bytes are free it says something else each time.
		return fmt.Errorf("%w: asked %d times", store.ErrNoSpace, s.asked.Add(1))
	}
	return nil
}

func (s *tight) Write(tx *store.Txn) error {
	if s.full.Load() {
		if len(tx.Ops) > 0 || tx.Log != nil {
			s.refused.Add(1)
			return store.ErrNoSpace
		}
		s.small.Add(1)
	}
	return s.Memory.Write(tx)
}

// A master below the reserve of free space stays read only, whatever of its own
// it still may write: records of followers, the age of its log, and the probe
// whether there is room again made it say that it serves.
func TestL7SmallWritesDoNotEndReadOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &hub{}
		var e events
		st := &tight{Memory: store.NewMemory()}
		m, err := replica.NewMaster(st, replica.MasterConfig{Listener: h.listen(), Scrub: -1, Observer: e.observer()})
		if err != nil {
			t.Fatal(err)
		}
		start(t, m.Run)
		if _, err := m.Put(t.Context(), []byte("a"), nil); err != nil {
			t.Fatal(err)
		}
		st.full.Store(true)
		if _, err := m.Put(t.Context(), []byte("b"), nil); !errors.Is(err, store.ErrNoSpace) {
			t.Fatalf("Put = %v", err)
		}
		since := m.Status().Since
		f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: h.dial, Scrub: -1})
		within(t, time.Minute, "a follower comes", func() bool { return f.Status().State == replica.Streaming })
		f.stop()
		time.Sleep(time.Hour)
		if s := m.Status(); s.State != replica.ReadOnly || !s.Since.Equal(since) {
			t.Errorf("%s since %v, want read only since %v", brief(s), s.Since, since)
		}
		if told := e.announced(); len(told) != 2 {
			t.Errorf("it announced %q, want serving and once read only", told)
		}
		if st.small.Load() == 0 || st.asked.Load() < 2 {
			t.Errorf("%d small writes meanwhile, asked for room %d times: this test tells nothing", st.small.Load(), st.asked.Load())
		}
		st.full.Store(false)
		within(t, 3*time.Second, "it serves again", func() bool { return m.Status().State == replica.Serving })
	})
}

// A master that starts below the reserve said that it serves until somebody had
// written to it.
func TestL7ReadOnlyFromTheStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var e events
		st := &tight{Memory: store.NewMemory()}
		st.full.Store(true)
		m, err := replica.NewMaster(st, replica.MasterConfig{Scrub: -1, Observer: e.observer()})
		if err != nil {
			t.Fatal(err)
		}
		start(t, m.Run)
		<-m.Ready()
		within(t, time.Second, "read only", func() bool { return m.Status().State == replica.ReadOnly })
		st.full.Store(false)
		within(t, 3*time.Second, "serving", func() bool { return m.Status().State == replica.Serving })
		if told := e.announced(); len(told) != 2 {
			t.Errorf("it announced %q, want read only and then serving", told)
		}
	})
}

// A follower below the reserve does not ask its master again and again for what
// it cannot take, and says all the time that it is read only.
func TestL7FollowerWithoutRoomDoesNotConnect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &hub{}
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: -1})
		st := &tight{Memory: store.NewMemory()}
		f, err := replica.NewFollower(st, replica.FollowerConfig{ID: "f", Dial: h.dial, Scrub: -1})
		if err != nil {
			t.Fatal(err)
		}
		start(t, f.Run)
		if err := f.WaitFor(t.Context(), m.put("a", "1")); err != nil {
			t.Fatal(err)
		}
		st.full.Store(true)
		pos := m.put("b", "2")
		within(t, time.Minute, "read only", func() bool { return f.Status().State == replica.ReadOnly })
		since := f.Status().Since
		time.Sleep(time.Hour)
		if s := f.Status(); s.State != replica.ReadOnly || !s.Since.Equal(since) || !strings.Contains(s.Why, "full") {
			t.Errorf("%s since %v, want read only since %v", brief(s), s.Since, since)
		}
		if n := st.refused.Load(); n != 1 {
			t.Errorf("the master sent what has no room %d times, want once", n)
		}
		st.full.Store(false)
		within(t, 3*time.Second, "streaming", func() bool { return f.Status().State == replica.Streaming })
		if err := f.WaitFor(t.Context(), pos); err != nil {
			t.Fatal(err)
		}
	})
}
