package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// backup returns a store that holds what another one does, as a copy of all of
// its files would.
func backup(t *testing.T, from *store.Memory) *store.Memory {
	t.Helper()
	v, err := from.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	meta, err := v.Meta()
	if err != nil {
		t.Fatal(err)
	}
	to := store.NewMemory()
	write := func(tx store.Txn) bool {
		tx.Meta = meta
		if err := to.Write(&tx); err != nil {
			t.Fatal(err)
		}
		return true
	}
	v.Log(0, func(rec stream.Record) bool { return write(store.Txn{Log: &rec}) })
	v.Ascend(nil, nil, func(key, value []byte) bool {
		return write(store.Txn{Ops: []stream.Op{{Key: bytes.Clone(key), Value: bytes.Clone(value)}}})
	})
	return to
}

// P1: a follower that parked before a master that was set back stays parked,
// also when that master has gone on and its log no longer tells.
func TestP1ParkedFollowerStaysParkedWhenTheLogIsTrimmed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		mcfg := replica.MasterConfig{LogBytes: 1000}
		p := newPair(t, 10, mcfg, replica.FollowerConfig{})
		old := backup(t, p.m.st)
		for i := range 10 {
			p.m.put(fmt.Sprint("precious", i), "written after the backup")
		}
		p.sync()
		parkedAt := p.f.Status().Offset
		p.m.stop()
		mcfg.Listener = p.listen()
		p.m = startMaster(t, old, mcfg)
		within(t, time.Minute, "parked", func() bool { return p.f.Status().State == replica.Parked })
		for i := range 100 {
			p.m.put(fmt.Sprint("new", i), "value")
		}
		within(t, time.Minute, "trimmed", func() bool { return p.m.Status().Log.Start > parkedAt+1 })
		time.Sleep(time.Minute)
		if s := p.f.Status(); s.State != replica.Parked || s.Keys != 21 {
			t.Errorf("%s, want parked with all 21 keys", brief(s))
		}
		if rep := p.f.repair(replica.RepairOptions{AcceptRollback: true}); rep.Outcome != replica.Repaired {
			t.Errorf("%+v, want it repaired once a person has decided", rep)
		}
		checkSame(t, p.m, p.f)
		// That is the end of it: no word is needed to connect again.
		p.link.Cut(0)
		p.sync()
	})
}

// A store of one's own may take more than a commit or a frame can carry.
func TestStoreWithoutLimits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const many = 1 << 30
		st := store.NewMemoryWith(store.MemoryConfig{Limits: store.Limits{Key: many, Value: many, CommitBytes: many, CommitOps: many}})
		m := startMaster(t, st, replica.MasterConfig{})
		large := make([]stream.Op, stream.MaxOps+1)
		for i := range large {
			large[i].Key = keyOf(i)
		}
		for name, ops := range map[string][]stream.Op{
			"commit ops":   large,
			"commit bytes": {{Key: []byte("a"), Value: make([]byte, 1<<20)}, {Key: []byte("b"), Value: make([]byte, 1<<20)}, {Key: []byte("c"), Value: make([]byte, 1<<20)}, {Key: []byte("d"), Value: make([]byte, 1<<20)}},
			"value":        {{Key: []byte("a"), Value: make([]byte, 2<<20)}},
			"key":          {{Key: make([]byte, 100_000)}},
		} {
			_, err := m.Write(t.Context(), ops)
			if e, ok := errors.AsType[*replica.LimitError](err); !ok || e.What != name {
				t.Errorf("%s: %v, want a *LimitError", name, err)
			}
		}
		m.put("a", "1")
	})
}

// What could never reach a follower is not adopted.
func TestAdoptRefusesWhatCannotBeReplicated(t *testing.T) {
	for _, tt := range []struct {
		name       string
		key, value []byte
		follower   bool // refused there, too
	}{
		{"empty key", []byte{}, []byte("v"), true},
		{"reserved key", []byte("!sdiff!x"), []byte("v"), true},
		{"long key", make([]byte, 65_001), []byte("v"), true},
		{"large value", []byte("k"), make([]byte, 1<<20), false},
	} {
		bubble(t, func(t *testing.T) {
			h := &hub{}
			full := func() *store.Memory {
				st := store.NewMemory()
				st.Tamper([]byte("fine"), []byte("v"))
				st.Tamper(tt.key, tt.value)
				return st
			}
			refused := func(err error) bool {
				_, limit := errors.AsType[*replica.LimitError](err)
				return limit || errors.Is(err, replica.ErrKey)
			}
			if err := startMaster(t, full(), replica.MasterConfig{Adopt: true}).wait(); !refused(err) {
				t.Errorf("%s: a master ends with %v", tt.name, err)
			}
			m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen()})
			pos := m.put("a", "1")
			f := startFollower(t, full(), replica.FollowerConfig{ID: "f", Dial: h.dial, Adopt: true})
			if !tt.follower {
				f.waitFor(pos)
				checkSame(t, m, f)
			} else if err := f.wait(); !refused(err) {
				t.Errorf("%s: a follower ends with %v", tt.name, err)
			}
		})
	}
}

// R9: keys without sdiff's meta are not a follower's to delete, whatever else
// lies beside the database.
func TestR9FollowerWithoutMetaAsksToAdopt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 10, replica.MasterConfig{}, replica.FollowerConfig{})
		p.f.stop()
		// Another database was put where the follower's was; HEAD is still there.
		p.f.st.Rollback(1000)
		st := p.f.st.Reopen()
		if v, _ := st.View(); v != nil {
			if _, err := v.Meta(); !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("there is meta left: %v", err)
			}
		}
		st.Tamper([]byte("mine"), []byte("v"))
		if err := startFollower(t, st.Reopen(), p.cfg).wait(); !errors.Is(err, replica.ErrNotEmpty) {
			t.Fatalf("Run = %v, want ErrNotEmpty", err)
		}
		p.cfg.Adopt = true
		p.f = startFollower(t, st.Reopen(), p.cfg)
		p.sync()
		checkSame(t, p.m, p.f)
	})
}

// A store that was accepted as it is has no log: what damage left of it is not
// mixed with what comes.
func TestAcceptedStoreForgetsItsLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &hub{}
		st := store.NewMemory()
		m := startMaster(t, st, replica.MasterConfig{})
		var was store.Meta
		for i := range 10 {
			m.put(fmt.Sprint("old", i), "value")
			if i == 3 {
				v, _ := st.View()
				was, _ = v.Meta()
				v.Close()
			}
		}
		m.stop()
		// The meta is that of an earlier transaction, data and log are not.
		st.SetMeta(func(m *store.Meta) { *m = was })
		st = st.Reopen()
		m = startMaster(t, st, replica.MasterConfig{Listener: h.listen(), AcceptDataLoss: true, AcceptStore: true, TailBytes: 1})
		f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: h.dial})
		f.waitFor(m.put("new", "0"))
		if first, last, _ := logOf(t, st); first != 5 || last != 5 {
			t.Errorf("the log holds %d to %d, want 5 alone", first, last)
		}
		checkSame(t, m, f)
	})
}

// A function that ends the writer's goroutine, as testing.T.Fatal does, ends
// the master; nobody waits for ever.
func TestUpdateThatEndsItsGoroutine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{})
		_, err := m.Update(t.Context(), func(*replica.Tx) error {
			runtime.Goexit()
			return nil
		})
		if !errors.Is(err, replica.ErrClosed) {
			t.Errorf("Update = %v, want ErrClosed", err)
		}
		if err := m.wait(); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v, want the cause", err)
		}
	})
}

// L6: a watcher that reads the log is not told of a commit whose outcome is
// unknown, though the store shows it.
func TestL6WatcherIsNotToldOfAWriteThatFailed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := store.NewMemory()
		m := startMaster(t, st, replica.MasterConfig{TailBytes: 1})
		value := string(make([]byte, 400_000)) // three make a batch of the log
		for i := range 5 {
			m.put(fmt.Sprint("key", i), value)
		}
		var got []uint64
		for c, err := range m.Watch(t.Context(), 1) {
			if err != nil {
				break
			}
			if got = append(got, c.Position.Offset); len(got) == 1 {
				st.FailAfter(errors.New("the disk is gone"))
				if _, err := m.Put(t.Context(), []byte("failed"), nil); !errors.Is(err, replica.ErrOutcomeUnknown) {
					t.Errorf("Put = %v", err)
				}
				synctest.Wait()
			}
		}
		if fmt.Sprint(got) != "[1 2 3 4 5]" {
			t.Errorf("the watcher saw %v, want the five that were acknowledged", got)
		}
	})
}

// S3: what a damaged log has lost is neither trimmed nor skipped for a watcher.
func TestS3WatchOfALogWithAHole(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := store.NewMemory()
		m := startMaster(t, st, replica.MasterConfig{TailBytes: 1})
		for i := range 5 {
			m.put(fmt.Sprint("key", i), "v")
		}
		if _, err := st.Trim(4); err != nil { // behind the master's back
			t.Fatal(err)
		}
		n := 0
		for _, err := range m.Watch(t.Context(), 2) {
			if n++; !errors.Is(err, store.ErrCorrupt) || errors.Is(err, replica.ErrTrimmed) {
				t.Errorf("Watch = %v, want ErrCorrupt", err)
			}
		}
		if n != 1 {
			t.Errorf("Watch yielded %d times, want the error alone", n)
		}
	})
}
