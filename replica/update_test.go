package replica_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
)

// Update is serialisable: increments from many goroutines, mixed with plain
// writes, lose none.
func TestUpdateCounts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const writers, times = 64, 25
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Scrub: -1})
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range times {
					if _, err := m.Update(t.Context(), increment("count")); err != nil {
						t.Error(err)
					}
					m.put(fmt.Sprint("other", w, i%3), fmt.Sprint(i))
				}
			})
		}
		wg.Wait()
		got, err := m.Get(t.Context(), []byte("count"))
		if err != nil || binary.BigEndian.Uint64(got) != writers*times {
			t.Errorf("the counter is %x, %v, want %d", got, err, writers*times)
		}
		if s := m.Status(); s.Fingerprint != fingerprint(contents(t, m.st)).String() {
			t.Errorf("fingerprint %s, from the items %v", s.Fingerprint, fingerprint(contents(t, m.st)))
		}
	})
}

// increment adds one to a counter of eight bytes.
func increment(key string) func(*replica.Tx) error {
	return func(tx *replica.Tx) error {
		var n uint64
		switch v, err := tx.Get([]byte(key)); {
		case err == nil:
			n = binary.BigEndian.Uint64(v)
		case !errors.Is(err, replica.ErrNotFound):
			return err
		}
		return tx.Put([]byte(key), binary.BigEndian.AppendUint64(nil, n+1))
	}
}

// list returns what a Tx sees of a range, as "key=value" words.
func list(tx *replica.Tx, lo, hi string) string {
	var out []string
	var end []byte
	if hi != "" {
		end = []byte(hi)
	}
	err := tx.Ascend([]byte(lo), end, func(key, value []byte) bool {
		out = append(out, fmt.Sprintf("%s=%s", key, value))
		return true
	})
	if err != nil {
		return err.Error()
	}
	return strings.Join(out, " ")
}

// An Update reads what was committed, what its group wrote before it and what
// it wrote itself, the newest first.
func TestUpdateReadsTheGroupsWritesAndItsOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Scrub: -1})
		for _, k := range []string{"a", "b", "c", "d", "e"} {
			m.put(k, "0")
		}
		release := holdWriter(m)
		wait := []<-chan written{putAsync(m, t.Context(), "b", "1")}
		synctest.Wait()
		wait = append(wait, async(func() (posOf, error) { return m.Delete(t.Context(), []byte("c")) }))
		synctest.Wait()
		wait = append(wait, putAsync(m, t.Context(), "bb", "1"))
		synctest.Wait()
		var saw []string
		wait = append(wait, async(func() (posOf, error) {
			return m.Update(t.Context(), func(tx *replica.Tx) error {
				saw = append(saw, list(tx, "", ""))
				tx.Delete([]byte("bb"))
				tx.Put([]byte("c"), []byte("2"))
				tx.Put([]byte("d"), []byte("2"))
				tx.Put([]byte("f"), nil)
				saw = append(saw, list(tx, "", ""), list(tx, "b", "d"), list(tx, "bb", "bbb"), list(tx, "f", ""))
				for _, k := range []string{"a", "b", "bb", "c", "x"} {
					v, err := tx.Get([]byte(k))
					saw = append(saw, fmt.Sprintf("%s: %s %v", k, v, err))
				}
				n := 0
				err := tx.Ascend(nil, nil, func(_, _ []byte) bool { n++; return n < 3 })
				saw = append(saw, fmt.Sprint("stopped after ", n, " ", err))
				return nil
			})
		}))
		synctest.Wait()
		wait = append(wait, async(func() (posOf, error) {
			return m.Update(t.Context(), func(tx *replica.Tx) error {
				saw = append(saw, list(tx, "", ""))
				return nil
			})
		}))
		synctest.Wait()
		release()
		var offsets []uint64
		for _, c := range wait {
			r := <-c
			if r.err != nil {
				t.Fatal(r.err)
			}
			offsets = append(offsets, r.pos.Offset)
		}
		want := []string{
			"a=0 b=1 bb=1 d=0 e=0",
			"a=0 b=1 c=2 d=2 e=0 f=",
			"b=1 c=2",
			"",
			"f=",
			"a: 0 <nil>", "b: 1 <nil>", "bb:  not found", "c: 2 <nil>", "x:  not found",
			"stopped after 3 <nil>",
			"a=0 b=1 c=2 d=2 e=0 f=",
		}
		if !slices.Equal(saw, want) {
			t.Errorf("the updates saw\n%s\nwant\n%s", strings.Join(saw, "\n"), strings.Join(want, "\n"))
		}
		// One that wrote nothing is no commit; its position is what it saw.
		if want := []uint64{6, 7, 8, 9, 9}; !slices.Equal(offsets, want) {
			t.Errorf("offsets %d, want %d", offsets, want)
		}
	})
}

// A function that fails or panics writes nothing and hurts nobody else.
func TestUpdateThatFailsOrPanics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := startMaster(t, store.NewMemory(), replica.MasterConfig{Scrub: -1})
		m.put("a", "1")
		own := errors.New("own")
		var kept *replica.Tx
		fail := func(tx *replica.Tx) error {
			kept = tx
			tx.Put([]byte("a"), []byte("2"))
			return own
		}
		if pos, err := m.Update(t.Context(), fail); err != own || !pos.IsZero() {
			t.Errorf("Update = %v, %v, want its own error", pos, err)
		}
		pos, err := m.Update(t.Context(), func(tx *replica.Tx) error {
			tx.Put([]byte("a"), []byte("3"))
			panic("boom")
		})
		if err == nil || !strings.Contains(err.Error(), "boom") || !pos.IsZero() {
			t.Errorf("Update that panics = %v, %v, want an error with the panic", pos, err)
		}
		if v, err := kept.Get([]byte("a")); err == nil {
			t.Errorf("a Tx kept beyond its call reads %q", v)
		}
		if err := kept.Put([]byte("a"), nil); err == nil {
			t.Error("a Tx kept beyond its call takes writes")
		}
		if err := kept.Ascend(nil, nil, func(_, _ []byte) bool { return true }); err == nil {
			t.Error("a Tx kept beyond its call iterates")
		}
		if v, _ := m.Get(t.Context(), []byte("a")); string(v) != "1" {
			t.Errorf("a = %q, want 1", v)
		}
		if pos := m.put("b", ""); pos.Offset != 2 {
			t.Errorf("the next commit has offset %d, want 2", pos.Offset)
		}
	})
}

// An Update that does not fit its group any more is run again for the next;
// only its last call counts.
func TestUpdateThatDoesNotFitIsRunAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := store.NewMemoryWith(store.MemoryConfig{Limits: store.Limits{CommitOps: 4}})
		m := startMaster(t, st, replica.MasterConfig{Scrub: -1})
		release := holdWriter(m)
		first := async(func() (posOf, error) { return m.Update(t.Context(), increment("n")) })
		synctest.Wait()
		put := putAsync(m, t.Context(), "n2", "x")
		synctest.Wait()
		calls := 0
		large := async(func() (posOf, error) {
			return m.Update(t.Context(), func(tx *replica.Tx) error {
				calls++
				for i := range 3 {
					if err := tx.Put(fmt.Append(nil, "k", i), fmt.Append(nil, calls)); err != nil {
						return err
					}
				}
				return increment("n")(tx)
			})
		})
		synctest.Wait()
		// Its caller leaves: the writer has begun, so it has to wait.
		ctx, cancel := context.WithCancel(t.Context())
		last := async(func() (posOf, error) { return m.Update(ctx, increment("n")) })
		synctest.Wait()
		release()
		synctest.Wait()
		cancel()
		for i, c := range []<-chan written{first, put, large, last} {
			if r := <-c; r.err != nil || r.pos.Offset != uint64(i+1) {
				t.Errorf("write %d: %d, %v, want offset %d", i, r.pos.Offset, r.err, i+1)
			}
		}
		if calls != 2 {
			t.Errorf("the large Update was called %d times, want 2", calls)
		}
		got := contents(t, st)
		if got["k0"] != "2" || binary.BigEndian.Uint64([]byte(got["n"])) != 3 {
			t.Errorf("contents %q, want k0 from the second call and a count of 3", got)
		}
	})
}
