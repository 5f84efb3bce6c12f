package replica_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
	"github.com/sdiff/sdiff/stream"
)

// A spy is a store that tells of every transaction before it is written.
type spy struct {
	store.Store
	mu      sync.Mutex
	txns    int
	onWrite func(*store.Txn) error // if it returns an error nothing is written
}

func (s *spy) Write(tx *store.Txn) error {
	s.mu.Lock()
	s.txns++
	f := s.onWrite
	s.mu.Unlock()
	if f != nil {
		if err := f(tx); err != nil {
			return err
		}
	}
	return s.Store.Write(tx)
}

func (s *spy) writes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.txns
}

// startOver starts a master over any store.
func startOver(t tester, st store.Store, cfg replica.MasterConfig) *master {
	t.Helper()
	m, err := replica.NewMaster(st, cfg)
	if err != nil {
		t.Fatalf("NewMaster: %v", err)
	}
	return &master{Master: m, running: start(t, m.Run), t: t}
}

// holdWriter keeps the writer busy until release is called: what is written
// meanwhile waits and becomes one group.
func holdWriter(m *master) (release func()) {
	held, let := make(chan struct{}), make(chan struct{})
	go m.Update(context.Background(), func(*replica.Tx) error {
		close(held)
		<-let
		return nil
	})
	<-held
	return sync.OnceFunc(func() { close(let) })
}

// A result of a write.
type written struct {
	pos stream.Position
	err error
}

func putAsync(m *master, ctx context.Context, key, value string) <-chan written {
	c := make(chan written, 1)
	go func() {
		pos, err := m.Put(ctx, []byte(key), []byte(value))
		c <- written{pos, err}
	}()
	return c
}

// L3: a group is one transaction, and everyone in it gets an offset of its own.
func TestL3GroupCommitAnswersEveryone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := &spy{Store: store.NewMemory()}
		m := startOver(t, st, replica.MasterConfig{Scrub: -1})
		m.put("first", "")
		release := holdWriter(m)
		before := st.writes()
		var results []<-chan written
		for i := range 200 {
			results = append(results, putAsync(m, t.Context(), fmt.Sprint("key", i), "v"))
		}
		synctest.Wait()
		release()
		var offsets []uint64
		for _, c := range results {
			r := <-c
			if r.err != nil {
				t.Fatal(r.err)
			}
			offsets = append(offsets, r.pos.Offset)
		}
		slices.Sort(offsets)
		for i, o := range offsets {
			if o != uint64(i+2) {
				t.Fatalf("offsets %d, want 2 to 201 without a gap", offsets)
			}
		}
		if n := st.writes() - before; n != 1 {
			t.Errorf("%d transactions for 200 writes that waited together, want 1", n)
		}
	})
}

// L6: a group that the store refuses never was: not in the tree, not in the
// log, and everyone in it is told.
func TestL6RefusedGroupIsUndone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := store.NewMemory()
		m := startMaster(t, st, replica.MasterConfig{Scrub: -1})
		m.put("kept", "old")
		m.put("gone", "old")
		before := m.Status()
		release := holdWriter(m)
		ours := errors.New("own error")
		var results []<-chan written
		for _, key := range []string{"kept", "new", "kept"} {
			results = append(results, putAsync(m, t.Context(), key, "x"))
			synctest.Wait()
		}
		results = append(results, async(func() (stream.Position, error) { return m.Delete(t.Context(), []byte("gone")) }))
		failed := async(func() (stream.Position, error) {
			return m.Update(t.Context(), func(*replica.Tx) error { return ours })
		})
		synctest.Wait()
		st.FailNext(store.ErrNoSpace)
		release()
		for i, c := range results {
			if r := <-c; !errors.Is(r.err, store.ErrNoSpace) || !r.pos.IsZero() {
				t.Errorf("write %d: position %v, %v, want ErrNoSpace and none", i, r.pos, r.err)
			}
		}
		if r := <-failed; r.err != ours {
			t.Errorf("an Update that failed by itself: %v, want its own error", r.err)
		}
		s := m.Status()
		if s.Fingerprint != before.Fingerprint || s.Offset != before.Offset || s.Keys != 2 {
			t.Errorf("after the refusal: %s at %d, want %s at %d", s.Fingerprint, s.Offset, before.Fingerprint, before.Offset)
		}
		if s.State != replica.ReadOnly || !strings.Contains(s.Why, "full") {
			t.Errorf("state %q (%s), want read only and why", s.State, s.Why)
		}
		if pos := m.put("after", "y"); pos.Offset != before.Offset+1 {
			t.Errorf("the next write has offset %d, want %d", pos.Offset, before.Offset+1)
		}
		if s := m.Status(); s.State != replica.Serving {
			t.Errorf("state %q once the store takes writes again, want serving", s.State)
		}
		want := fingerprint(map[string]string{"kept": "old", "gone": "old", "after": "y"})
		if got := m.Status().Fingerprint; got != want.String() {
			t.Errorf("fingerprint %s, want %s", got, want)
		}
	})
}

// posOf is short for what a write returns.
type posOf = stream.Position

func async(f func() (posOf, error)) <-chan written {
	c := make(chan written, 1)
	go func() {
		pos, err := f()
		c <- written{pos, err}
	}()
	return c
}

// L6: when nobody knows whether a write is there, the master says so and ends;
// nobody is told of the write before a restart has decided.
func TestL6PoisonedStoreEndsTheMaster(t *testing.T) {
	for _, there := range []bool{false, true} {
		t.Run(fmt.Sprintf("written=%v", there), func(t *testing.T) { bubble(t, func(t *testing.T) { poison(t, there) }) })
	}
}

func poison(t *testing.T, there bool) {
	st, h := store.NewMemory(), &hub{}
	m := startMaster(t, st, replica.MasterConfig{Listener: h.listen(), Scrub: -1})
	f := startFollower(t, store.NewMemory(), replica.FollowerConfig{ID: "f", Dial: h.dial, Scrub: -1})
	before := m.put("a", "1")
	f.waitFor(before)
	watched := make(chan error, 1)
	go func() {
		for c, err := range m.Watch(t.Context(), before.Offset+1) {
			if err == nil {
				err = fmt.Errorf("change of %q at %d", c.Key, c.Position.Offset)
			}
			watched <- err
			return
		}
	}()
	cause := errors.New("input/output error")
	if there {
		st.FailAfter(cause)
	} else {
		st.FailNext(cause)
	}
	release := holdWriter(m)
	first := putAsync(m, t.Context(), "b", "2")
	synctest.Wait()
	release()
	if r := <-first; !errors.Is(r.err, replica.ErrOutcomeUnknown) || !errors.Is(r.err, cause) {
		t.Errorf("the write: %v, want ErrOutcomeUnknown and the cause", r.err)
	}
	if err := m.wait(); !errors.Is(err, cause) {
		t.Errorf("Run returned %v, want the cause", err)
	}
	if err := <-watched; !errors.Is(err, replica.ErrClosed) {
		t.Errorf("Watch yielded %v, want nothing but ErrClosed", err)
	}
	synctest.Wait()
	if s := f.Status(); s.Offset != before.Offset || s.Head != before.Offset {
		t.Errorf("the follower was told of offset %d, head %d, want %d", s.Offset, s.Head, before.Offset)
	}
	if s := m.Status(); s.State != replica.Failed || s.Offset != before.Offset {
		t.Errorf("state %q at offset %d, want failed at %d", s.State, s.Offset, before.Offset)
	}
	for name, err := range map[string]error{
		"Put":    second(m.Put(t.Context(), []byte("c"), nil)),
		"Update": second(m.Update(t.Context(), func(*replica.Tx) error { return nil })),
		"Get":    second(m.Get(t.Context(), []byte("a"))),
		"Verify": second(m.Verify(t.Context())),
		"Forget": m.Forget(t.Context(), "f"),
	} {
		if !errors.Is(err, replica.ErrClosed) {
			t.Errorf("%s after the end: %v, want ErrClosed", name, err)
		}
	}
	// A restart decides.
	m = startMaster(t, st.Reopen(), replica.MasterConfig{Listener: h.listen(), Scrub: -1})
	pos := m.put("d", "4")
	want := before.Offset + 1
	if there {
		want++
	}
	if pos.Offset != want || pos.Epoch != before.Epoch {
		t.Errorf("after the restart: epoch %v, offset %d, want the same epoch and %d", pos.Epoch, pos.Offset, want)
	}
	f.waitFor(pos)
	checkSame(t, m, f)
}

func second[T any](_ T, err error) error { return err }

// What waits in the queue when the master ends is refused with a typed error.
func TestWritesThatWaitAtTheEndAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := store.NewMemoryWith(store.MemoryConfig{Limits: store.Limits{CommitOps: 1}})
		m := startMaster(t, st, replica.MasterConfig{Scrub: -1})
		release := holdWriter(m)
		first := putAsync(m, t.Context(), "a", "1")
		synctest.Wait()
		second := putAsync(m, t.Context(), "b", "2") // does not fit the first one's group
		synctest.Wait()
		third := putAsync(m, t.Context(), "c", "2")
		synctest.Wait()
		st.FailNext(errors.New("input/output error"))
		release()
		if r := <-first; !errors.Is(r.err, replica.ErrOutcomeUnknown) {
			t.Errorf("the write that failed: %v, want ErrOutcomeUnknown", r.err)
		}
		for _, c := range []<-chan written{second, third} {
			if r := <-c; !errors.Is(r.err, replica.ErrClosed) || errors.Is(r.err, replica.ErrOutcomeUnknown) {
				t.Errorf("a write that had not begun: %v, want ErrClosed", r.err)
			}
		}
	})
}

// A write whose context ends before the writer has taken it has no effect; one
// that was taken is waited for.
func TestCancelledWrites(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := make(chan struct{}, 1)
		entered := make(chan struct{}, 1)
		st := &spy{Store: store.NewMemory()}
		m := startOver(t, st, replica.MasterConfig{Scrub: -1})
		m.put("a", "1")

		dead, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := m.Put(dead, []byte("dead"), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("Put with an ended context: %v", err)
		}
		release := holdWriter(m)
		cause := errors.New("changed my mind")
		waiting, cancelWaiting := context.WithCancelCause(t.Context())
		r := putAsync(m, waiting, "waiting", "x")
		synctest.Wait()
		cancelWaiting(cause)
		if got := <-r; got.err != cause {
			t.Errorf("Put cancelled before the writer took it: %v, want the cause", got.err)
		}
		release()
		pos := m.put("b", "2")
		if pos.Offset != 2 {
			t.Errorf("offset %d after cancelled writes, want 2", pos.Offset)
		}

		st.mu.Lock()
		st.onWrite = func(*store.Txn) error { entered <- struct{}{}; <-gate; return nil }
		st.mu.Unlock()
		late, cancelLate := context.WithCancel(t.Context())
		r = putAsync(m, late, "late", "x")
		<-entered
		cancelLate()
		synctest.Wait()
		select {
		case got := <-r:
			t.Errorf("Put returned %+v while its transaction was being written", got)
		default:
		}
		gate <- struct{}{}
		if got := <-r; got.err != nil || got.pos.Offset != 3 {
			t.Errorf("Put cancelled after the writer took it: %+v, want offset 3", got)
		}
		st.mu.Lock()
		st.onWrite = nil
		st.mu.Unlock()
	})
}

// Limits and key rules are typed errors before anything is written, and never
// contain what was given.
func TestLimitsAreTypedErrorsWithoutTheValue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := &spy{Store: store.NewMemoryWith(store.MemoryConfig{Limits: store.Limits{Key: 20, Value: 100, CommitOps: 10, CommitBytes: 500}})}
		m := startOver(t, st, replica.MasterConfig{Scrub: -1})
		m.put("a", "1")
		before := st.writes()
		const secret = "s3cr3t"
		long := func(n int) string { return secret + strings.Repeat("x", n-len(secret)) }
		ops := func(n, size int) (o []stream.Op) {
			for i := range n {
				o = append(o, stream.Op{Key: fmt.Appendf(nil, "%s%d", secret, i), Value: []byte(long(size))})
			}
			return o
		}
		for _, tt := range []struct {
			name string
			ops  []stream.Op
			what string // of the LimitError; empty for ErrKey
		}{
			{"empty key", []stream.Op{{Value: []byte(secret)}}, ""},
			{"reserved key", []stream.Op{{Key: []byte("!sdiff!" + secret)}}, ""},
			{"Badger's key", []stream.Op{{Key: []byte("!badger!" + secret)}}, ""},
			{"long key", []stream.Op{{Key: []byte(long(21))}}, "key"},
			{"large value", []stream.Op{{Key: []byte(secret), Value: []byte(long(101))}}, "value"},
			{"many ops", ops(11, 6), "commit ops"},
			{"many bytes", ops(8, 60), "commit bytes"},
			{"second of two", []stream.Op{{Key: []byte("fine")}, {Key: []byte(long(21)), Delete: true}}, "key"},
		} {
			_, werr := m.Write(t.Context(), tt.ops)
			_, uerr := m.Update(t.Context(), func(tx *replica.Tx) error {
				for _, op := range tt.ops {
					var err error
					if op.Delete {
						err = tx.Delete(op.Key)
					} else {
						err = tx.Put(op.Key, op.Value)
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
			for call, err := range map[string]error{"Write": werr, "Update": uerr} {
				limit, isLimit := errors.AsType[*replica.LimitError](err)
				switch {
				case tt.what == "" && !errors.Is(err, replica.ErrKey):
					t.Errorf("%s: %s: %v, want ErrKey", tt.name, call, err)
				case tt.what != "" && (!isLimit || limit.What != tt.what):
					t.Errorf("%s: %s: %v, want a LimitError of %s", tt.name, call, err, tt.what)
				case strings.Contains(err.Error(), secret):
					t.Errorf("%s: %s: the error contains what was given: %v", tt.name, call, err)
				}
			}
		}
		if _, err := m.Write(t.Context(), nil); err == nil {
			t.Error("a commit without ops was taken")
		}
		if n := st.writes() - before; n != 0 {
			t.Errorf("%d transactions were written for refused commits", n)
		}
		if pos := m.put(strings.Repeat("k", 20), strings.Repeat("v", 100)); pos.Offset != 2 {
			t.Errorf("the largest item: offset %d, want 2", pos.Offset)
		}
	})
}
