package replica_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// S1: what changed in a follower's store while it was stopped is found at
// open; the base is not complete until a repair has been verified.
func TestS1FollowerFindsAtOpenWhatChangedWhileItWasStopped(t *testing.T) {
	for name, damage := range map[string]func(*store.Memory){
		"changed":   func(st *store.Memory) { st.Tamper(keyOf(3), []byte("drift")) },
		"lost":      func(st *store.Memory) { st.Drop(keyOf(3)) },
		"added":     func(st *store.Memory) { st.Tamper([]byte("stranger"), nil) },
		"all three": func(st *store.Memory) { st.Tamper(keyOf(3), nil); st.Drop(keyOf(4)); st.Tamper([]byte("s"), nil) },
		"older":     func(st *store.Memory) { st.Rollback(3) },
		"meta": func(st *store.Memory) {
			st.SetMeta(func(m *store.Meta) { m.Summary.Sum++; m.Position.Fingerprint = m.Summary })
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := newPair(t, 500, replica.MasterConfig{}, replica.FollowerConfig{})
				for range 5 {
					p.sync()
				}
				p.f.stop()
				damage(p.f.st)
				p.cfg.Repair.NoConnect = true
				p.f = startFollower(t, p.f.st.Reopen(), p.cfg)
				time.Sleep(time.Second)
				pos := p.m.put("live", "on")
				time.Sleep(time.Second)
				s := p.f.Status()
				if s.State != replica.Initializing || s.Complete || s.Offset != pos.Offset {
					t.Errorf("%s, want initializing at head", brief(s))
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := p.f.WaitFor(ctx, pos); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("P2: WaitFor returned %v while the base was incomplete", err)
				}
				rep := p.f.repair(replica.RepairOptions{})
				if want := name != "meta" && name != "older"; rep.Outcome != replica.Repaired && want || rep.Missing+rep.Extra+rep.Changed > 6 {
					t.Errorf("%+v, want repaired, with few differences", rep)
				}
				if s := p.f.Status(); !s.Complete || s.State != replica.Streaming {
					t.Errorf("%s, want complete and streaming", brief(s))
				}
				p.f.waitFor(pos)
				checkSame(t, p.m, p.f)
			})
		})
	}
}

// A store is opened as what it is, or not at all; nothing is written to it.
func TestStoresThatAreSomethingElse(t *testing.T) {
	sha, err := merkle.SHA256(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	bubble(t, func(t *testing.T) {
		p := newPair(t, 10, replica.MasterConfig{}, replica.FollowerConfig{})
		p.f.stop()
		p.m.stop()
		full := store.NewMemory()
		full.Tamper([]byte("foreign"), []byte("key"))
		for name, tt := range map[string]struct {
			st   *store.Memory
			run  func(st *store.Memory) *running
			want func(error) bool
		}{
			"a follower's as a master's": {p.f.st, func(st *store.Memory) *running {
				return startMaster(t, st, replica.MasterConfig{}).running
			}, identity("role", "follower", "master")},
			"a master's as a follower's": {p.m.st, func(st *store.Memory) *running {
				return startFollower(t, st, replica.FollowerConfig{ID: "f", Dial: p.dial}).running
			}, identity("role", "master", "follower")},
			"another hash at a master": {p.m.st, func(st *store.Memory) *running {
				return startMaster(t, st, replica.MasterConfig{Hash: sha}).running
			}, identity("item hash", "xxh64", sha.ID())},
			"another hash at a follower": {p.f.st, func(st *store.Memory) *running {
				return startFollower(t, st, replica.FollowerConfig{ID: "f", Dial: p.dial, Hash: sha}).running
			}, identity("item hash", "xxh64", sha.ID())},
			"foreign keys at a master": {full, func(st *store.Memory) *running {
				return startMaster(t, st, replica.MasterConfig{}).running
			}, func(err error) bool { return errors.Is(err, replica.ErrNotEmpty) }},
			"foreign keys at a follower": {full, func(st *store.Memory) *running {
				return startFollower(t, st, replica.FollowerConfig{ID: "f", Dial: p.dial}).running
			}, func(err error) bool { return errors.Is(err, replica.ErrNotEmpty) }},
		} {
			if err := tt.run(tt.st).wait(); !tt.want(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		v, _ := full.View()
		defer v.Close()
		if _, err := v.Meta(); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a refused store has meta now: %v", err)
		}
		// Adopted, the keys are the dataset.
		h := &hub{}
		m := startMaster(t, full, replica.MasterConfig{Listener: h.listen(), Adopt: true})
		f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: h.dial})
		f.waitFor(m.put("a", "1"))
		if got := contents(t, f.st); fmt.Sprint(got) != "map[a:1 foreign:key]" {
			t.Errorf("the follower holds %q", got)
		}
	})
}

func identity(what, have, want string) func(error) bool {
	return func(err error) bool {
		e, ok := errors.AsType[*replica.IdentityError](err)
		return ok && *e == replica.IdentityError{What: what, Have: have, Want: want}
	}
}

// S1, P8: a master whose store lost something does not start, and nobody is
// told to delete anything.
func TestS1DamagedMasterDoesNotStart(t *testing.T) {
	for name, damage := range map[string]func(*store.Memory){
		"changed": func(st *store.Memory) { st.Tamper(keyOf(3), []byte("drift")) },
		"lost":    func(st *store.Memory) { st.Drop(keyOf(3)) },
		"added":   func(st *store.Memory) { st.Tamper([]byte("stranger"), nil) },
		"older":   func(st *store.Memory) { st.Rollback(3) },
		"empty":   func(st *store.Memory) { st.Rollback(1000) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				st := store.NewMemoryWith(store.MemoryConfig{Keep: 1000})
				m := startMaster(t, st, replica.MasterConfig{})
				m.fill(100, "v")
				m.put("a", "1")
				m.put("b", "2")
				m.stop()
				damage(st)
				m = startMaster(t, st.Reopen(), replica.MasterConfig{})
				if err := m.wait(); !errors.Is(err, replica.ErrDamaged) {
					t.Errorf("Run returned %v, want ErrDamaged", err)
				}
				if _, err := m.Put(t.Context(), []byte("c"), nil); !errors.Is(err, replica.ErrClosed) || !errors.Is(err, replica.ErrDamaged) {
					t.Errorf("Put: %v, want ErrClosed and why", err)
				}
			})
		})
	}
}

// loseDownTo takes a store without sync back to an offset, as a power cut may,
// or even to the clean stop there.
func loseDownTo(t *testing.T, st *store.Memory, offset uint64, cleanStop bool) *store.Memory {
	t.Helper()
	for {
		v, err := st.Reopen().View()
		if err != nil {
			t.Fatal(err)
		}
		m, err := v.Meta()
		v.Close()
		if err != nil {
			t.Fatal(err)
		}
		if m.Position.Offset <= offset && (m.Clean || !cleanStop) {
			return st.Reopen()
		}
		st.Crash(1)
	}
}

// L3, P1: with sync=never a crash may lose what followers have, be it even all
// since the last clean stop and the word that there was anything. No offset is
// given out twice within an epoch: followers within the new history go on,
// those ahead of it park, and only a person's word makes them give up what
// they have.
func TestEpochsAfterACrashWithoutSync(t *testing.T) {
	for name, cleanStop := range map[string]bool{"part of a run": false, "all of a run": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) { crashWithoutSync(t, cleanStop) })
		})
	}
}

// follows reports whether a follower streams from a master as it is now, not as
// it was before it was started again.
func follows(f *follower, m *master) bool {
	s := f.Status()
	return s.State == replica.Streaming && s.Epoch == m.Status().Epoch
}

func crashWithoutSync(t *testing.T, cleanStop bool) {
	h := &hub{}
	st := store.NewMemoryWith(store.MemoryConfig{NoSync: true})
	m := startMaster(t, st, replica.MasterConfig{Listener: h.listen(), Scrub: -1})
	restart := func(st *store.Memory) {
		m = startMaster(t, st, replica.MasterConfig{Listener: h.listen(), Scrub: -1})
		<-m.Ready()
	}
	ahead := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "ahead", Dial: h.dial, Scrub: -1})
	behind := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "behind", Dial: h.dial, Scrub: -1})
	first := m.put("a", "1")
	behind.waitFor(first)
	ahead.waitFor(first)
	behind.stop()
	if cleanStop {
		m.stop()
		restart(st.Reopen())
		within(t, time.Minute, "connected", func() bool { return follows(ahead, m) })
	}
	m.put("b", "2")
	last := m.put("c", "3")
	ahead.waitFor(last)
	m.st.Crash(0)
	m.stop()
	restart(loseDownTo(t, m.st, first.Offset, cleanStop))
	s := m.Status()
	if s.Offset != first.Offset || s.Epoch == first.Epoch.String() || s.Epoch == last.Epoch.String() {
		t.Fatalf("after the crash: %s of epoch %s, want offset %d in a new epoch", brief(s), s.Epoch, first.Offset)
	}
	behind = startFollower(t, behind.st, replica.FollowerConfig{ID: "behind", Dial: h.dial, Scrub: -1})
	within(t, time.Minute, "connected", func() bool { return follows(behind, m) })
	pos := m.put("d", "4")
	behind.waitFor(first) // the predecessor's position
	behind.waitFor(pos)
	checkSame(t, m, behind)
	if err := behind.WaitFor(t.Context(), last); !errors.Is(err, replica.ErrUnknownEpoch) {
		t.Errorf("WaitFor of a commit that was lost: %v, want ErrUnknownEpoch", err)
	}
	within(t, time.Minute, "the follower that is ahead parks", func() bool { return ahead.Status().State == replica.Parked })
	time.Sleep(time.Hour)
	if s := ahead.Status(); s.State != replica.Parked || s.Why == "" {
		t.Errorf("%s, want parked and why", brief(s))
	}
	if got := contents(t, ahead.st); fmt.Sprint(got) != "map[a:1 b:2 c:3]" {
		t.Errorf("a parked follower holds %q", got)
	}
	if _, err := ahead.Repair(t.Context(), replica.RepairOptions{}); !errors.Is(err, replica.ErrNotConnected) {
		t.Errorf("Repair without consent: %v, want ErrNotConnected", err)
	}
	if rep := ahead.repair(replica.RepairOptions{AcceptRollback: true}); rep.Outcome != replica.Repaired {
		t.Errorf("with consent: %+v, want repaired", rep)
	}
	ahead.waitFor(m.put("e", "5"))
	checkSame(t, m, ahead)
}

// With sync=always a stop, clean or not, keeps the epoch.
func TestEpochsWithSync(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{})
		first := m.put("a", "1")
		m.stop()
		m = startMaster(t, m.st.Reopen(), replica.MasterConfig{})
		second := m.put("a", "2")
		m.st.Crash(10)
		m.stop()
		m = startMaster(t, m.st.Reopen(), replica.MasterConfig{})
		third := m.put("a", "3")
		if first.Epoch != second.Epoch || second.Epoch != third.Epoch || third.Offset != 3 {
			t.Errorf("positions %v, %v, %v, want one epoch", first, second, third)
		}
	})
}

// P1: a swapped master parks its followers; when the right one is back they go
// on by themselves.
func TestP1SwappedMasterParksItsFollowers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, 100, replica.MasterConfig{}, replica.FollowerConfig{})
		right := p.m
		right.stop()
		other := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: p.listen(), Scrub: -1})
		within(t, time.Minute, "parked", func() bool { return p.f.Status().State == replica.Parked })
		if s := p.f.Status(); !strings.Contains(s.Why, other.Status().Dataset) || s.Keys != 101 {
			t.Errorf("%s, want parked with all keys", brief(s))
		}
		// No consent makes it follow another dataset.
		rep, err := p.f.Repair(t.Context(), replica.RepairOptions{AcceptRollback: true, AllowMassDelete: true})
		if !errors.Is(err, replica.ErrNotConnected) || rep.Outcome != replica.Unknown {
			t.Errorf("%+v, %v, want ErrNotConnected", rep, err)
		}
		other.stop()
		p.m = startMaster(t, right.st, replica.MasterConfig{Listener: p.listen(), Scrub: -1})
		p.sync()
		checkSame(t, p.m, p.f)
	})
}

// Run says why it ended.
func TestRunSaysWhyItEnded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &hub{}
		l := h.listen()
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Listener: l})
		m.put("a", "1")
		l.Close() // somebody else did
		if err := m.wait(); err == nil || !strings.Contains(err.Error(), "accept followers") {
			t.Errorf("Run returned %v, want that the listener is gone", err)
		}
		if s := m.Status(); s.State != replica.Failed {
			t.Errorf("%s, want failed", brief(s))
		}
		if err := m.Run(t.Context()); err == nil {
			t.Error("a master ran twice")
		}

		st := store.NewMemory()
		m = startMaster(t, st, replica.MasterConfig{})
		m.put("a", "1")
		cause := errors.New("input/output error")
		st.FailNext(cause)
		if err := m.stop(); !errors.Is(err, cause) {
			t.Errorf("a stop that could not be written: %v, want the cause", err)
		}

		st = store.NewMemory()
		st.FailReads(cause)
		if err := startMaster(t, st, replica.MasterConfig{}).wait(); !errors.Is(err, cause) {
			t.Errorf("a store that cannot be read: %v, want the cause", err)
		}
		if err := startFollower(t, st, replica.FollowerConfig{ID: "f", Dial: h.dial}).wait(); !errors.Is(err, cause) {
			t.Errorf("a store that cannot be read: %v, want the cause", err)
		}
	})
}

// A follower whose store fails ends, says so, and finds its place again.
func TestPoisonedFollower(t *testing.T) {
	for _, there := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			p := newPair(t, 100, replica.MasterConfig{}, replica.FollowerConfig{})
			cause := errors.New("input/output error")
			if there {
				p.f.st.FailAfter(cause)
			} else {
				p.f.st.FailNext(cause)
			}
			pos, err := p.m.Write(t.Context(), []stream.Op{{Key: []byte("a"), Value: []byte("1")}, {Key: keyOf(0), Delete: true}})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.f.wait(); !errors.Is(err, replica.ErrOutcomeUnknown) || !errors.Is(err, cause) {
				t.Errorf("Run returned %v, want ErrOutcomeUnknown and the cause", err)
			}
			if s := p.f.Status(); s.State != replica.Failed {
				t.Errorf("%s, want failed", brief(s))
			}
			if err := p.f.WaitFor(t.Context(), pos); !errors.Is(err, replica.ErrClosed) {
				t.Errorf("WaitFor: %v, want ErrClosed", err)
			}
			p.f = startFollower(t, p.f.st.Reopen(), p.cfg)
			p.f.waitFor(pos)
			if r := p.f.Status().LastRepair; r != nil {
				t.Errorf("repair %+v after a restart, want none: the position is in the store", r)
			}
			checkSame(t, p.m, p.f)
		})
	}
}
