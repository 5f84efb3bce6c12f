package replica_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// hurt does the three things that can happen to a key behind a replica's back,
// and returns the keys with what is wrong with them.
func hurt(st *store.Memory) map[string]string {
	st.Drop(keyOf(1500))
	st.Tamper(keyOf(7), []byte("wrong"))
	st.Tamper([]byte("key000007a"), []byte("stranger"))
	return map[string]string{string(keyOf(1500)): "missing", string(keyOf(7)): "changed", "key000007a": "extra"}
}

// wantDamage demands a *DamagedKeyError that names the key.
func wantDamage(t *testing.T, sentence string, err error, key, what string) {
	t.Helper()
	d, ok := errors.AsType[*replica.DamagedKeyError](err)
	if !ok || string(d.Key) != key || d.What != what || errors.Is(err, replica.ErrNotFound) || !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("%s: %v, want %s %s", sentence, err, key, what)
	} else if strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "wrong") {
		t.Errorf("%s: the text %q holds data", sentence, err)
	}
}

// S3: what a master's store has lost, changed or gained behind its back is
// never taken for absence nor for a value, whoever reads; writing heals it.
func TestS3MasterNeverServesAHole(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Scrub: -1})
		m.fill(2500, "v")
		bad := hurt(m.st)
		ascend := func(lo, hi []byte) (n int, err error) {
			for _, e := range m.Ascend(t.Context(), lo, hi) {
				if err = e; e == nil {
					n++
				}
			}
			return n, err
		}
		for key, what := range bad {
			_, err := m.Get(t.Context(), []byte(key))
			wantDamage(t, "Get", err, key, what)
			_, err = ascend([]byte(key), nil)
			wantDamage(t, "Ascend from the key on", err, key, what)
			_, err = m.Update(t.Context(), func(tx *replica.Tx) error {
				if err := tx.Put([]byte("key000007b"), nil); err != nil { // beside what is damaged
					return err
				}
				_, err := tx.Get([]byte(key))
				wantDamage(t, "Tx.Get", err, key, what)
				return tx.Ascend([]byte(key), nil, func(_, _ []byte) bool { return true })
			})
			wantDamage(t, "Tx.Ascend", err, key, what)
		}
		if n, err := ascend(keyOf(8), keyOf(1500)); n != 1492 || err != nil {
			t.Errorf("Ascend between the damages: %d items, %v, want 1492", n, err)
		}
		if n, err := ascend(keyOf(8), nil); n != 1000 || err == nil {
			t.Errorf("Ascend up to the damage: %d items, %v, want the page before it", n, err)
		}
		if s := m.Status(); s.Scrub.Bad != 3 || len(s.Scrub.Keys) != 3 {
			t.Errorf("status: %+v, want three bad keys with names", s.Scrub)
		}
		// What the group of an Update has written is what it reads.
		if _, err := m.Update(t.Context(), func(tx *replica.Tx) error {
			for key, what := range bad {
				if what == "extra" {
					tx.Delete([]byte(key))
				} else {
					tx.Put([]byte(key), []byte("new"))
				}
			}
			n := 0
			err := tx.Ascend(nil, nil, func(_, _ []byte) bool { n++; return true })
			if n != 2500 || err != nil {
				t.Errorf("Tx.Ascend over what it has written itself: %d items, %v", n, err)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if n, err := ascend(nil, nil); n != 2500 || err != nil {
			t.Errorf("Ascend of what was written again: %d items, %v, want 2500", n, err)
		}
		if s := m.Status(); s.Scrub.Bad != 0 {
			t.Errorf("status: %+v, want no bad key once all are written again", s.Scrub)
		}
	})
}

// S3: a follower that meets damage in its own store says so and repairs itself;
// while its master is away it goes on saying so, although its tree tells what
// the store holds by then.
func TestS3FollowerNeverServesAHoleAndHeals(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 2500, replica.MasterConfig{}, replica.FollowerConfig{})
		p.sync()
		p.m.stop() // its master is away
		within(t, time.Minute, "no session", func() bool { return p.f.Status().State == replica.Connecting })
		bad := hurt(p.f.st)
		for range 3 {
			for key, what := range bad {
				_, err := p.f.Get(t.Context(), []byte(key))
				wantDamage(t, "Get", err, key, what)
				for _, err := range p.f.Ascend(t.Context(), []byte(key), append([]byte(key), 0)) {
					wantDamage(t, "Ascend", err, key, what)
				}
			}
		}
		if s := p.f.Status(); *s.InSync || s.Scrub.Bad != 3 {
			t.Errorf("%s, %+v, want a copy that knows it differs in three keys", brief(s), s.Scrub)
		}
		p.m = startMaster(t, p.m.st.Reopen(), replica.MasterConfig{Listener: p.listen(), Scrub: -1})
		p.sync()
		within(t, time.Minute, "it is repaired", func() bool { return *p.f.Status().InSync })
		checkSame(t, p.m, p.f)
		if s := p.f.Status(); s.Scrub.Bad != 0 || s.LastRepair.Missing != 1 || s.LastRepair.Changed != 1 || s.LastRepair.Extra != 1 {
			t.Errorf("%s, %+v, want the three repaired and no other", brief(s), s.Scrub)
		}
		for key, what := range bad {
			v, err := p.f.Get(t.Context(), []byte(key))
			if extra := what == "extra"; extra != errors.Is(err, replica.ErrNotFound) || !extra && string(v) != "v" {
				t.Errorf("Get after the repair: %q, %v", v, err)
			}
		}
	})
}

// An absent key is absent, also while its deletion is on its way to the store
// and after the store has refused it.
func TestS3RefusedDeleteLeavesTheKey(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Scrub: -1})
		m.fill(10, "v")
		m.st.FailNext(store.ErrNoSpace)
		if _, err := m.Delete(t.Context(), keyOf(3)); !errors.Is(err, store.ErrNoSpace) {
			t.Fatalf("Delete = %v, want it refused", err)
		}
		if v, err := m.Get(t.Context(), keyOf(3)); string(v) != "v" || err != nil {
			t.Errorf("Get = %q, %v", v, err)
		}
		m.st.Drop(keyOf(3))
		_, err := m.Get(t.Context(), keyOf(3))
		wantDamage(t, "Get", err, string(keyOf(3)), "missing")
	})
}

// S3: readers that race with writers of the same keys never take a commit in
// between for damage, on either role, and never see a key that was never there.
func TestS3ReadersBesideWritersSeeNoDamage(t *testing.T) {
	var h hub
	m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: h.listen(), Scrub: 0.5})
	f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: h.dial, Scrub: 0.5})
	f.waitFor(m.fill(50, "v"))
	const writes = 2000
	var reads, pages atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var readers, writers sync.WaitGroup
	for i := range 2 {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for n := range writes {
				ops := []stream.Op{{Key: keyOf(r.IntN(50)), Delete: r.IntN(2) == 0}, {Key: keyOf(r.IntN(50)), Value: fmt.Append(nil, n)}}
				if _, err := m.Write(ctx, ops); err != nil {
					t.Errorf("Write: %v", err)
				}
				if _, err := m.Update(ctx, func(tx *replica.Tx) error {
					_, err := tx.Get(keyOf(r.IntN(50)))
					if errors.Is(err, replica.ErrNotFound) {
						err = nil
					}
					return errors.Join(err, tx.Ascend(nil, nil, func(_, _ []byte) bool { return true }))
				}); err != nil {
					t.Errorf("Update: %v", err)
				}
			}
		})
	}
	for i := range 2 {
		readers.Go(func() {
			r := rand.New(rand.NewPCG(2, uint64(i)))
			for ctx.Err() == nil {
				for _, get := range []func(context.Context, []byte) ([]byte, error){m.Get, f.Get} {
					if _, err := get(t.Context(), keyOf(r.IntN(50))); err != nil && !errors.Is(err, replica.ErrNotFound) {
						t.Errorf("Get: %v", err)
					}
					reads.Add(1)
				}
				for _, ascend := range []func(context.Context, []byte, []byte) iter.Seq2[replica.Item, error]{m.Ascend, f.Ascend} {
					for _, err := range ascend(t.Context(), nil, nil) {
						if err != nil {
							t.Errorf("Ascend: %v", err)
						}
					}
					pages.Add(1)
				}
			}
		})
	}
	writers.Wait()
	cancel()
	readers.Wait()
	f.waitFor(m.put("last", "one"))
	if reads.Load() < 100 || pages.Load() < 100 {
		t.Errorf("%d reads and %d pages beside %d writes, want more to tell anything", reads.Load(), pages.Load(), writes)
	}
	for _, s := range []replica.Status{m.Status(), f.Status()} {
		if s.Scrub.Found != 0 || s.Scrub.Bad != 0 {
			t.Errorf("%s: %+v, want nothing found", s.Role, s.Scrub)
		}
	}
	checkSame(t, m, f)
}
